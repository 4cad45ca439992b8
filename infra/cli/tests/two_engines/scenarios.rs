//! What has to happen, whichever engine runs the bundle.

use std::time::Duration;

use penstock_model::connector::HttpConnector;
use penstock_twins::{Auth, ConnectorTwin, Ended as RequestEnded, RunningTwin, Script, Twin as _};
use serde_json::{Value, json};

use crate::engine::{Engine, publish_sync, put_own_secret, request, unload};
use crate::harness::{Customer, Table, sorted};

/// Of sixteen digits, so that no counter or time in a log looks like one.
pub(crate) const FIRST_ID: i64 = 4_815_162_300_000_000;
/// The token that the API takes at first, and the one that it takes later.
pub(crate) const TOKEN: &str = "sk-first-7f3a90c1e2b4";
const LATER_TOKEN: &str = "sk-later-5d81b6f7a093";

/// Customers by their numbers, each cell of which stands nowhere else.
pub(crate) fn customers(numbers: std::ops::Range<i64>) -> Vec<Customer> {
    crate::harness::customers(FIRST_ID + numbers.start..FIRST_ID + numbers.end)
}

/// S3's event of a new object.
pub(crate) fn object_created(root: &str, key: &str, etag: &str) -> Value {
    let bucket = root.trim_start_matches("s3://");
    json!({
        "version": "0", "id": "e", "detail-type": "Object Created", "source": "aws.s3", "account": "000000000000",
        "time": "2026-01-01T00:00:00Z", "region": "us-east-1", "resources": [],
        "detail": { "bucket": { "name": bucket }, "object": { "key": key, "etag": etag } }
    })
}

/// An API of our own: what a user would write for it.
const CONNECTOR: &str = r#"
name: Members
auth: [bearer]
objects:
  members:
    upsert:
      method: POST
      path: /members
      batch: { rows: 500, bytes: 1000000 }
      body: { members: { $each: { "...": $record } } }
      answer:
        results: { at: /members, by: [{ match: /id }], id: /key }
"#;

/// The API as a server, with these faults.
pub(crate) async fn members(token: &str, faults: Value) -> RunningTwin<ConnectorTwin> {
    let connector: HttpConnector = yaml(CONNECTOR);
    let script: Script = serde_json::from_value(faults).unwrap();
    let twin =
        ConnectorTwin::builder(connector).token(token).key("members", ["id"]).faults(script).build().unwrap();
    RunningTwin::start(twin, 0).await.unwrap()
}

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    let documents = penstock_cli::definitions::yaml::parse(text).unwrap();
    serde_json::from_value(documents[0].value.clone()).unwrap()
}

/// The definitions of a sync of customers to members. Gives the sync's name.
pub(crate) async fn members_sync(
    engine: &dyn Engine,
    twin: &RunningTwin<ConnectorTwin>,
    start: &str,
) -> String {
    let name = engine.name();
    members_syncs(engine, twin, &[(name, start)]).await;
    name.to_owned()
}

/// Several such syncs, by one unload and one connection: each with its name, and when it starts.
async fn members_syncs(engine: &dyn Engine, twin: &RunningTwin<ConnectorTwin>, syncs: &[(&str, &str)]) {
    let name = engine.name();
    let connection = format!(
        "connector: ./api.yaml\naddress: \"{}\"\nallow_private: true\nauth: {{ bearer: {{ secret: {name} }} }}\nlimits: {{ concurrency: 2, requests_in_flight: 1 }}\n",
        twin.address()
    );
    let mut files = vec![
        (format!("unloads/{name}.yaml"), unload_definition(engine)),
        ("connections/api.yaml".to_owned(), CONNECTOR.to_owned()),
        (format!("connections/{name}.yaml"), connection),
    ];
    for (sync, start) in syncs {
        let definition = format!(
            "unload: {name}\nconnection: {name}\nobject: members\nmatch: {{ id: id }}\n{start}\
             fields:\n  email: email\n  name: name\n  balance: balance\n"
        );
        files.push((format!("syncs/{sync}.yaml"), definition));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    publish_sync(engine, &files).await;
}

fn unload_definition(engine: &dyn Engine) -> String {
    let (root, prefix) = engine.unloads();
    format!("location: {root}/{prefix}dt=*/\nprimary_key: [id]\ncomplete: success_marker\n")
}

pub(crate) async fn fifty_thousand_rows_reach_an_http_api(engine: &dyn Engine) {
    let twin = members(TOKEN, json!([])).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..50_000)).await;
    let sync = members_sync(engine, &twin, "").await;
    let first = engine.run(request(&sync)).await;
    assert_eq!(first.counts(), "read 50000, added 50000, accepted 50000");
    assert_eq!(twin.twin.count("members"), 50_000);
    assert_eq!(twin.twin.journal().requests(), 100);
    assert_eq!(engine.run(request(&sync)).await.counts(), "");

    let mut next = customers(0..50_010);
    next[7] = next[7].clone().named("Renamed in the meantime");
    unload(engine, "2026-01-02", &next).await;
    let second = engine.run(request(&sync)).await;
    assert_eq!(second.counts(), "read 50010, added 10, changed 1, unchanged 49999, accepted 11");
    assert_eq!(twin.twin.count("members"), 50_010);
}

pub(crate) async fn fifty_thousand_rows_reach_a_table(engine: &dyn Engine) {
    let (name, table) = (engine.name(), Table::customers().await);
    let files = [
        (format!("unloads/{name}.yaml"), unload_definition(engine)),
        (format!("connections/{name}.yaml"), format!("{}allow_private: true\n", table.connection())),
        (
            format!("syncs/{name}.yaml"),
            format!(
                "unload: {name}\nconnection: {name}\nobject: {}\nmatch: {{ id: id }}\non_removed: {{ delete: any }}\n\
                 guards: {{ max_removed: 5% }}\nfields:\n  email: email\n  name: name\n  balance: balance\n",
                table.name
            ),
        ),
    ];
    let rows = customers(0..50_000);
    unload(engine, "2026-01-01", &rows).await;
    publish_sync(engine, &files.each_ref().map(|(name, text)| (name.as_str(), text.clone()))).await;
    let first = engine.run(request(name)).await;
    assert_eq!(first.counts(), "read 50000, added 50000, accepted 50000");
    assert!(table.rows().await == rows, "the table differs from the unload");

    let next: Vec<Customer> = customers(100..50_000).into_iter().chain(customers(60_000..60_001)).collect();
    unload(engine, "2026-01-02", &next).await;
    let second = engine.run(request(name)).await;
    assert_eq!(second.counts(), "read 49901, added 1, removed 100, unchanged 49900, accepted 101");
    assert!(table.rows().await == sorted(next), "the table differs from the second unload");
}

pub(crate) async fn a_throttled_run_waits_and_goes_on(engine: &dyn Engine) {
    // Longer than a push waits by itself: the state machine has to.
    let throttled = json!([
        { "when": { "nth": 2 }, "what": { "status": { "code": 429, "retry_after": { "seconds": 31 } } } }
    ]);
    let twin = members(TOKEN, throttled).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..2_000)).await;
    let sync = members_sync(engine, &twin, "").await;
    let began = engine.now();
    let ended = engine.run(request(&sync)).await;
    assert_eq!(ended.counts(), "read 2000, added 2000, accepted 2000");
    assert_eq!(ended.report.unwrap().api.throttled, 1);
    let waited = began.until(engine.now());
    assert!(waited >= Duration::from_secs(31), "it waited {waited:?} only");
    assert_eq!(twin.twin.count("members"), 2_000);
    assert_eq!(twin.twin.journal().requests_ended(RequestEnded::Answered(429)), 1);
}

pub(crate) async fn a_failed_run_is_carried_on_by_the_next(engine: &dyn Engine) {
    let twin = members(LATER_TOKEN, json!([])).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..1_000)).await;
    let sync = members_sync(engine, &twin, "").await;
    let failed = engine.run(request(&sync)).await;
    assert_eq!(failed.failure.as_deref(), Some("DestinationUnauthorized"), "{failed:?}");
    assert_eq!(twin.twin.count("members"), 0);

    put_own_secret(engine, LATER_TOKEN).await;
    // What the refused attempt has left open counts as changed.
    let ended = engine.run(request(&sync)).await;
    assert_eq!(ended.counts(), "read 1000, changed 1000, accepted 1000");
    assert_eq!(twin.twin.count("members"), 1_000);
    let folded = crate::engine::report(engine.state().as_ref(), &sync, &failed.run).await.unwrap();
    assert_eq!(folded.folded_into, Some(ended.run));
}

pub(crate) async fn a_secret_that_rotates_in_mid_run_is_fetched_anew(engine: &dyn Engine) {
    let twin = members(TOKEN, json!([{ "when": { "nth": 3 }, "what": { "slow": { "ms": 3000 } } }])).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..5_000)).await;
    let sync = members_sync(engine, &twin, "").await;
    let rotate = async {
        while twin.twin.journal().requests() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        put_own_secret(engine, LATER_TOKEN).await;
        twin.twin.replace_auth(Auth::Bearer(LATER_TOKEN.to_owned()));
    };
    let (ended, ()) = tokio::join!(engine.run(request(&sync)), rotate);
    assert_eq!(ended.counts(), "read 5000, added 5000, accepted 5000");
    assert_eq!(twin.twin.count("members"), 5_000);
    assert!(twin.twin.journal().requests_ended(RequestEnded::Answered(401)) >= 1);
}

pub(crate) async fn a_chunk_that_kills_its_workers_becomes_dead_letters(engine: &dyn Engine) {
    // Each request lasts long enough for its worker to be killed over it.
    let twin = members(TOKEN, json!([{ "what": { "slow": { "ms": 60_000 } } }])).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..40)).await;
    let sync = members_sync(engine, &twin, "").await;
    let (mut seen, mut killed) = (0, 0);
    let run = engine.run(request(&sync));
    tokio::pin!(run);
    let ended = loop {
        tokio::select! {
            ended = &mut run => break ended,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let requests = twin.twin.journal().requests();
                if requests > seen {
                    seen = requests;
                    killed += engine.kill_pushes(twin.addr().port());
                }
            }
        }
    };
    assert_eq!(killed, 3, "{ended:?}");
    assert_eq!(ended.counts(), "read 40, added 40, rejected 40");
    let rejections = ended.report.unwrap().rejections;
    assert_eq!(rejections.iter().map(|rejection| rejection.rows).sum::<u64>(), 40, "{rejections:?}");
}

pub(crate) async fn rows_refused_with_their_values_become_dead_letters(engine: &dyn Engine) {
    let (name, table) = (engine.name(), Table::customers().await);
    // PostgreSQL quotes a row that breaks a constraint, and a trigger may say anything.
    table
        .execute(
            "alter table $table add constraint modest check (balance < 4863313923000050.00);
             create function pick_$table() returns trigger language plpgsql as $$ begin
               if new.id % 7 = 0 then raise exception 'customer % has % and not %', new.id, new.name, new.email; end if;
               return new;
             end $$;
             create trigger pick before insert or update on $table for each row execute function pick_$table()",
        )
        .await;
    let files = [
        (format!("unloads/{name}.yaml"), unload_definition(engine)),
        (format!("connections/{name}.yaml"), format!("{}allow_private: true\n", table.connection())),
        (
            format!("syncs/{name}.yaml"),
            format!(
                "unload: {name}\nconnection: {name}\nobject: {}\nmatch: {{ id: id }}\nfields:\n  email: email\n  name: name\n  \
                 balance: {{ column: balance, type: \"decimal(18,2)\" }}\n",
                table.name
            ),
        ),
    ];
    let rows = customers(0..70);
    unload(engine, "2026-01-01", &rows).await;
    publish_sync(engine, &files.each_ref().map(|(name, text)| (name.as_str(), text.clone()))).await;
    let ended = engine.run(request(name)).await;
    let held = table.rows().await;
    let refused = rows.len() - held.len();
    assert_eq!(ended.counts(), format!("read 70, added 70, accepted {}, rejected {refused}", held.len()));
    assert!(refused > 20 && held.len() > 20, "{refused} were refused, {} held", held.len());
}

pub(crate) async fn a_manifest_that_is_told_of_twice_starts_its_syncs_once(engine: &dyn Engine) {
    let twin = members(TOKEN, json!([])).await;
    put_own_secret(engine, TOKEN).await;
    let sync = members_sync(engine, &twin, "start: { on_unload: true }\n").await;
    let marker = unload(engine, "2026-01-02", &customers(0..300)).await;
    engine.tell_of_object(&marker).await;
    let started = engine.started_by_events(&sync).await;
    assert_eq!(started.len(), 1, "{started:?}");
    assert_eq!(started[0].counts(), "read 300, added 300, accepted 300");
    assert_eq!(twin.twin.count("members"), 300);
}

pub(crate) async fn a_schedule_starts_the_syncs_that_name_it(engine: &dyn Engine) {
    let twin = members(TOKEN, json!([])).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..300)).await;
    let sync = members_sync(engine, &twin, "start: { schedule: hourly }\n").await;
    engine.schedule_is_due("hourly").await;
    let started = engine.started_by_events(&sync).await;
    assert_eq!(started[0].counts(), "read 300, added 300, accepted 300");
    assert_eq!(twin.twin.count("members"), 300);
}

/// Whether route names the sync, if it looks for overdue ones so many hours from now.
async fn is_overdue_in(engine: &dyn Engine, sync: &str, hours: u64) -> bool {
    let due = engine.now().plus(Duration::from_secs(hours * 3_600)).rfc3339();
    let answer = engine.route(json!({ "look_for": "overdue", "due": due })).await.unwrap();
    answer["overdue"].as_array().into_iter().flatten().any(|overdue| *overdue == sync)
}

pub(crate) async fn a_sync_without_a_run_that_succeeds_is_overdue(engine: &dyn Engine) {
    let twin = members(LATER_TOKEN, json!([])).await;
    put_own_secret(engine, TOKEN).await;
    let sync = members_sync(engine, &twin, "overdue_after_hours: 5\n").await;
    assert!(!is_overdue_in(engine, &sync, 4).await, "it was published just now");
    assert!(is_overdue_in(engine, &sync, 6).await, "it has never run");
    unload(engine, "2026-01-01", &customers(0..10)).await;
    assert_eq!(engine.run(request(&sync)).await.failure.as_deref(), Some("DestinationUnauthorized"));
    let noted = async || penstock_store::successes::last(engine.state().as_ref(), &sync).await.unwrap();
    assert_eq!(noted().await, None, "a run that fails is no success");

    put_own_secret(engine, LATER_TOKEN).await;
    let ended = engine.run(request(&sync)).await;
    let first = noted().await.unwrap();
    assert_eq!((first.run, Some(first.at)), (ended.run, ended.report.map(|report| report.ended_at)));
    assert!(!is_overdue_in(engine, &sync, 4).await);
    assert!(is_overdue_in(engine, &sync, 6).await);
    let nothing_new = engine.run(request(&sync)).await;
    assert_eq!(noted().await.unwrap().run, nothing_new.run, "a run that finds nothing new is one");
}

pub(crate) async fn a_sync_follows_the_runs_of_another_that_succeed(engine: &dyn Engine) {
    let twin = members(LATER_TOKEN, json!([])).await;
    put_own_secret(engine, TOKEN).await;
    unload(engine, "2026-01-01", &customers(0..10)).await;
    let sync = engine.name().to_owned();
    let (follower, after) = (format!("{sync}-after"), format!("start: {{ after: {sync} }}\n"));
    members_syncs(engine, &twin, &[(&sync, ""), (&follower, &after)]).await;

    let mut dry = request(&sync);
    dry.options.dry_run = true;
    assert_eq!(engine.run(dry).await.counts(), "read 10, added 10");
    assert_eq!(engine.run(request(&sync)).await.failure.as_deref(), Some("DestinationUnauthorized"));
    put_own_secret(engine, LATER_TOKEN).await;
    let followed = engine.run(request(&sync)).await;
    assert_eq!(followed.counts(), "read 10, changed 10, accepted 10");

    let started = engine.started_by_events(&follower).await;
    assert_eq!(started.len(), 1, "neither the dry nor the failed run is followed: {started:?}");
    assert_eq!(started[0].counts(), "read 10, added 10, accepted 10");
}

pub(crate) async fn an_event_that_concerns_no_sync_is_refused_by_name(engine: &dyn Engine) {
    let unknown = object_created("s3://unloads", "nobody/asked/_SUCCESS", "1");
    for event in
        [unknown, json!({ "detail-type": "Weather Changed", "source": "aws.weather" }), json!({ "hello": 1 })]
    {
        assert_eq!(engine.route(event).await.unwrap_err(), "SyncInvalid");
    }
}
