//! Lost answers, killed backends, refused credentials, locks and deadlines.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use penstock_model::FailureName;
use penstock_model::operation::OperationKind;
use penstock_model::port::{Clock, Freshness};
use serde_json::json;

use super::support::{Bench, address, operations, words};
use crate::destination::Rest;
use crate::testing::{Kept, Memory, Names};

const COLUMNS: &str = "id int PRIMARY KEY, score int";

fn port(address: &str) -> u16 {
    let config: tokio_postgres::Config = address.parse().unwrap();
    config.get_ports()[0]
}

/// Stands between client and server, and cuts a connection after it has passed on a message with `trigger` in it and
/// the server has had time to carry it out, before any answer to it. Gives its port and counts its cuts.
fn cutter(trigger: &'static str, cuts: u32) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let upstream = port(&address());
    let done = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&done);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) =
                (client.unwrap(), TcpStream::connect(("127.0.0.1", upstream)).unwrap());
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let held = Arc::new(std::sync::Mutex::new(false));
            let holding = Arc::clone(&held);
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(read @ 1..) = from_server.read(&mut buffer) {
                    if *holding.lock().unwrap() || to_client.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                drop(to_client.shutdown(Shutdown::Both));
            });
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    let seen =
                        buffer[..read].windows(trigger.len()).any(|window| window == trigger.as_bytes());
                    let cut = seen && count.load(Ordering::SeqCst) < cuts;
                    if cut {
                        count.fetch_add(1, Ordering::SeqCst);
                        *held.lock().unwrap() = true;
                    }
                    if server.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                    if cut {
                        std::thread::sleep(Duration::from_millis(300));
                        break;
                    }
                }
                drop(server.shutdown(Shutdown::Both));
                drop(client.shutdown(Shutdown::Both));
            });
        }
    });
    (own, done)
}

fn through(address: &str, port_of_cutter: u16) -> String {
    address.replace(&format!(":{}/", port(address)), &format!(":{port_of_cutter}/"))
}

#[tokio::test]
async fn a_lost_answer_to_an_upsert_is_asked_for_again() {
    let mut bench = Bench::new("lost upsert", COLUMNS).await;
    bench.connection = json!({"connector": "postgres", "limits": {"requests_in_flight": 1}});
    let (port, cuts) = cutter("COMMIT", 2);
    bench.address = through(&bench.address, port);
    let rows: Vec<_> = (0..50).map(|id| (json!({"id": id}), json!({"score": id}))).collect();
    let memory = bench.deliver(&["id"], &["score"], &operations(OperationKind::Upsert, &rows)).await.unwrap();
    assert_eq!(cuts.load(Ordering::SeqCst), 2);
    // Nobody can say any more which try created them.
    assert!(words(&memory).iter().all(|word| word == "accepted"));
    assert_eq!(memory.usage().requests, 3);
    assert_eq!(memory.usage().retried, 2);
    assert_eq!(bench.one("SELECT count(*), sum(score) FROM customers").await, "50|1225");
}

#[tokio::test]
async fn a_lost_answer_to_an_append_is_unknown_and_never_sent_again() {
    let mut bench = Bench::new("lost append", COLUMNS).await;
    let (port, cuts) = cutter("COMMIT", 1);
    bench.address = through(&bench.address, port);
    let rows: Vec<_> = (0..50).map(|id| (json!({}), json!({"id": id, "score": id}))).collect();
    let memory =
        bench.deliver(&[], &["id", "score"], &operations(OperationKind::Append, &rows)).await.unwrap();
    assert_eq!(cuts.load(Ordering::SeqCst), 1);
    assert!(words(&memory).iter().all(|word| word == "unknown"));
    assert_eq!(memory.intents.lock().unwrap().len(), 50);
    assert_eq!(bench.one("SELECT count(*) FROM customers").await, "50");
}

#[tokio::test]
async fn an_append_lost_before_its_commit_is_sent_again() {
    let mut bench = Bench::new("lost before", COLUMNS).await;
    let (port, cuts) = cutter("INSERT INTO", 1);
    bench.address = through(&bench.address, port);
    let rows: Vec<_> = (0..50).map(|id| (json!({}), json!({"id": id, "score": id}))).collect();
    let memory =
        bench.deliver(&[], &["id", "score"], &operations(OperationKind::Append, &rows)).await.unwrap();
    assert_eq!(cuts.load(Ordering::SeqCst), 1);
    assert!(words(&memory).iter().all(|word| word == "created"));
    assert_eq!(bench.one("SELECT count(*) FROM customers").await, "50");
}

#[tokio::test]
async fn killed_backends_lose_no_row() {
    let bench = Bench::new("killed", COLUMNS).await;
    // Slow enough to be met at work.
    bench
        .sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.0003); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let rows: Vec<_> = (0..3000).map(|id| (json!({"id": id}), json!({"score": id}))).collect();
    let ops = operations(OperationKind::Upsert, &rows);
    let killer = async {
        let mut killed = 0;
        while killed < 5 {
            tokio::time::sleep(Duration::from_millis(120)).await;
            let query = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE application_name = 'penstock' AND state = 'active' AND query LIKE '%{}%'",
                bench.schema
            );
            killed += bench.one(&query).await.parse::<u32>().unwrap();
        }
    };
    let (memory, ()) = futures::future::join(bench.deliver(&["id"], &["score"], &ops), killer).await;
    let memory = memory.unwrap();
    assert!(words(&memory).iter().all(|word| word == "created" || word == "accepted"));
    assert!(memory.usage().retried >= 5, "{:?}", memory.usage());
    assert_eq!(bench.one("SELECT count(*), sum(score) FROM customers").await, "3000|4498500");
}

#[tokio::test]
async fn deadlocked_transactions_are_tried_again() {
    let bench = Bench::new("deadlock", COLUMNS).await;
    // The first two statements are refused as if by another transaction.
    bench
        .sql(
            "CREATE SEQUENCE tries; CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF nextval('tries') < 3 THEN RAISE EXCEPTION 'busy' USING ERRCODE = '40P01'; END IF; \
             RETURN NULL; END $$; \
             CREATE TRIGGER busy BEFORE INSERT ON customers FOR EACH STATEMENT EXECUTE FUNCTION busy()",
        )
        .await;
    bench.sql(&format!("ALTER FUNCTION busy() SET search_path = \"{}\"", bench.schema)).await;
    let rows = [(json!({"id": 1}), json!({"score": 1}))];
    let memory = bench.deliver(&["id"], &["score"], &operations(OperationKind::Upsert, &rows)).await.unwrap();
    // Surely not applied before, so this try did create it.
    assert_eq!(words(&memory), ["created"]);
    assert_eq!(memory.usage().retried, 2);
}

#[tokio::test]
async fn nothing_is_applied_after_the_deadline() {
    let bench = Bench::new("deadline", COLUMNS).await;
    for kind in [OperationKind::Upsert, OperationKind::Append] {
        bench.sql("BEGIN; LOCK TABLE customers").await;
        let rows: Vec<_> = (0..10).map(|id| (json!({"id": id}), json!({"score": id}))).collect();
        let memory = Memory::default();
        let begin = bench.clock.now();
        let rest = bench
            .open(&["id"], &["score"])
            .deliver(bench.work(&operations(kind, &rows), Duration::from_secs(2), &memory))
            .await
            .unwrap();
        assert_eq!(rest, Rest::Paused { cursor: None, resume_after: Duration::ZERO });
        assert!(begin.until(bench.clock.now()) < Duration::from_millis(2100));
        assert!(memory.outcomes().is_empty());
        bench.sql("COMMIT").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(bench.one("SELECT count(*) FROM customers").await, "0");
    }
}

#[tokio::test]
async fn what_time_did_not_suffice_for_goes_on_in_the_next_push() {
    let mut bench = Bench::new("resume", COLUMNS).await;
    bench.connection = json!({"connector": "postgres", "limits": {"rows_per_request": 50}});
    bench
        .sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let rows: Vec<_> = (0..1000).map(|id| (json!({"id": id}), json!({"score": id}))).collect();
    let mut left = operations(OperationKind::Upsert, &rows);
    let mut pushes = 0;
    while !left.is_empty() {
        let memory = Memory::default();
        let work = bench.work(&left, Duration::from_millis(2500), &memory);
        let rest = bench.open(&["id"], &["score"]).deliver(work).await.unwrap();
        let outcomes = memory.outcomes();
        assert!(!outcomes.is_empty());
        left.retain(|operation| !outcomes.contains_key(&operation.n));
        assert_eq!(rest == Rest::Nothing, left.is_empty());
        pushes += 1;
    }
    assert!(pushes > 1);
    assert_eq!(bench.one("SELECT count(*) FROM customers").await, "1000");
}

#[tokio::test]
async fn too_little_time_starts_nothing() {
    let bench = Bench::new("no time", COLUMNS).await;
    let rows = [(json!({"id": 1}), json!({"score": 1}))];
    let memory = Memory::default();
    let rest = bench
        .open(&["id"], &["score"])
        .deliver(bench.work(&operations(OperationKind::Upsert, &rows), Duration::from_millis(900), &memory))
        .await
        .unwrap();
    assert_eq!(rest, Rest::Paused { cursor: None, resume_after: Duration::ZERO });
    assert_eq!(memory.usage().requests, 0);
}

#[tokio::test]
async fn a_refused_credential_is_fetched_afresh_once() {
    let mut bench = Bench::new("rotated", COLUMNS).await;
    bench.connection = json!({"connector": "postgres", "auth": {"password": {"secret": "db"}}});
    let right = json!({"username": "penstock", "password": "new", "host": "ignored"});
    let wrong = json!({"username": "nobody at all", "password": "hunter2"});
    let ops = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"score": 1}))]);

    let secrets = Kept::new(&wrong.to_string(), &right.to_string());
    bench.secrets = Arc::clone(&secrets) as _;
    assert_eq!(words(&bench.deliver(&["id"], &["score"], &ops).await.unwrap()), ["created"]);
    assert_eq!(*secrets.fetched.lock().unwrap(), [Freshness::Cached, Freshness::Fresh]);

    let secrets = Kept::new(&wrong.to_string(), &wrong.to_string());
    bench.secrets = Arc::clone(&secrets) as _;
    let failure = bench.deliver(&["id"], &["score"], &ops).await.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnauthorized);
    assert!(!failure.full_message().contains("hunter2") && !format!("{failure:?}").contains("hunter2"));
    assert_eq!(secrets.fetched.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_the_account_has_a_name() {
    let mut bench = Bench::new("account", COLUMNS).await;
    let ops = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"score": 1}))]);
    let role = format!("reader_{}", std::process::id());
    bench
        .sql(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA \"{}\" TO {role}; \
             GRANT SELECT ON customers TO {role}",
            bench.schema
        ))
        .await;
    let good = bench.address.clone();
    let cases = [
        (good.replace("/penstock?", "/nowhere?"), FailureName::SyncInvalid),
        (good.replace("penstock@", &format!("{role}@")), FailureName::DestinationUnauthorized),
    ];
    for (address, name) in cases {
        assert_ne!(address, good);
        bench.address = address;
        let failure = bench.deliver(&["id"], &["score"], &ops).await.unwrap_err();
        assert_eq!(failure.name, name, "{}", failure.full_message());
    }
    bench.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_row_that_a_policy_refuses_is_rejected_alone() {
    let mut bench = Bench::new("policy", COLUMNS).await;
    let role = format!("writer_{}", std::process::id());
    bench
        .sql(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA \"{}\" TO {role}; \
             GRANT SELECT, INSERT, UPDATE ON customers TO {role}; ALTER TABLE customers ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY low ON customers USING (true) WITH CHECK (score < 5)",
            bench.schema
        ))
        .await;
    bench.address = bench.address.replace("penstock@", &format!("{role}@"));
    let rows: Vec<_> = [1, 9, 2].iter().map(|id| (json!({"id": id}), json!({"score": id}))).collect();
    let memory = bench.deliver(&["id"], &["score"], &operations(OperationKind::Upsert, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["created", "42501", "created"]);
    bench.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let mut bench = Bench::new("absent", COLUMNS).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    bench.address = through(&bench.address, closed);
    let ops = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"score": 1}))]);
    let failure = bench.deliver(&["id"], &["score"], &ops).await.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnavailable, "{}", failure.full_message());
}

#[tokio::test]
async fn a_silent_server_is_unavailable_when_time_is_up() {
    let mut bench = Bench::new("silent", COLUMNS).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.address = through(&bench.address, listener.local_addr().unwrap().port());
    let ops = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"score": 1}))]);
    let memory = Memory::default();
    let failure = bench
        .open(&["id"], &["score"])
        .deliver(bench.work(&ops, Duration::from_secs(2), &memory))
        .await
        .unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnavailable, "{}", failure.full_message());
}

#[tokio::test]
async fn tls_trusts_whom_the_connection_names() {
    let mut bench = Bench::new("tls", COLUMNS).await;
    let ops = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"score": 1}))]);
    bench.address =
        bench.address.replace("sslmode=disable", "sslmode=require").replace("@127.0.0.1:", "@localhost:");

    let failure = bench.deliver(&["id"], &["score"], &ops).await.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnavailable);
    assert!(failure.full_message().contains("certificate"), "{}", failure.full_message());

    let certificate = bench.one("SELECT pg_read_file('root.crt')").await;
    bench.connection = json!({"connector": "postgres", "settings": {"root_certificates": certificate}});
    assert_eq!(words(&bench.deliver(&["id"], &["score"], &ops).await.unwrap()), ["created"]);

    bench.connection = json!({"connector": "postgres", "settings": {"root_certificates": "none"}});
    let problems = super::super::check(&bench.definition(&["id"], &["score"]));
    assert_eq!(problems[0].pointer, "/settings/root_certificates");
}

#[tokio::test]
async fn a_database_inside_is_not_connected_to_where_only_public_ones_may_be() {
    let mut bench = Bench::new("inside", COLUMNS).await;
    // The host is written as an address, then as a name that leads to one inside.
    let named = format!("postgres://ann@db.example.com:{}/d?sslmode=disable", port(&bench.address));
    for address in [bench.address.clone(), named] {
        bench.address = address;
        bench.public_only = Some(Names::answering(&[&["127.0.0.1", "169.254.169.254"]]));
        let operations = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"score": 2}))]);
        let failure = bench.deliver(&["id"], &["score"], &operations).await.unwrap_err();
        assert_eq!(failure.name, FailureName::SyncInvalid);
        assert!(failure.full_message().contains("allow_private: true"), "{}", failure.full_message());
    }
}
