//! Over real sockets, where connections really break.

use std::sync::Arc;

use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use penstock_model::port::{Boxed, Clock};
use penstock_twins::{
    Auth, BatchTwin, HubSpotTwin, InvalidRows, Kind, Property, RowError, RowErrors, RunningTwin, Twin,
};
use serde_json::{Value, json};

use super::{BATCH_API, Bench, MINUTE, connector, contacts, definition, hubspot, records, script};
use crate::conformance::{Account, conforms};
use crate::destination::{Destination, Rest};
use crate::testing::operation;

struct HubSpotAccount {
    bench: Bench,
    running: RunningTwin<HubSpotTwin>,
}

impl Account for HubSpotAccount {
    fn destination(&self) -> Arc<dyn Destination> {
        let connection = json!({"limits": {"requests_per_10_seconds": 10_000}});
        self.bench
            .open(&definition(&hubspot(), &self.running.address(), "contacts", "customer_id", &connection), 1)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.bench.clock.clone()
    }

    fn operation(&self, n: u32, kind: OperationKind, key: u32, text: &str) -> Operation {
        operation(n, kind, &json!({"customer_id": format!("c{key}")}), &json!({"firstname": text}))
    }

    fn bad(&self, n: u32, key: u32) -> Operation {
        operation(
            n,
            OperationKind::Upsert,
            &json!({"customer_id": format!("c{key}")}),
            &json!({"email": "no address"}),
        )
    }

    fn stored(&self, key: u32) -> Boxed<'_, Option<String>> {
        let record = self.running.twin.record("contacts", "customer_id", &format!("c{key}"));
        Box::pin(std::future::ready(record.and_then(|record| record.properties.get("firstname").cloned())))
    }
}

#[tokio::test]
async fn hubspot_conforms() {
    for invalid_rows in [InvalidRows::Reported, InvalidRows::FailTheBatch] {
        let running = HubSpotTwin::builder()
            .property("contacts", "customer_id", Property::new(Kind::Text).unique())
            .rate_limit(penstock_twins::RateLimit::UNLIMITED)
            .invalid_rows(invalid_rows)
            .start()
            .await
            .unwrap();
        conforms(&HubSpotAccount { bench: Bench::over_sockets(), running }).await;
    }
}

struct BatchAccount {
    bench: Bench,
    running: RunningTwin<BatchTwin>,
}

impl Account for BatchAccount {
    fn destination(&self) -> Arc<dyn Destination> {
        self.bench.open(
            &definition(&connector(BATCH_API), &self.running.address(), "customers", "id", &json!({})),
            1,
        )
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.bench.clock.clone()
    }

    fn operation(&self, n: u32, kind: OperationKind, key: u32, text: &str) -> Operation {
        operation(n, kind, &json!({"id": key}), &json!({"text": text}))
    }

    fn bad(&self, n: u32, key: u32) -> Operation {
        self.operation(n, OperationKind::Upsert, key, "bad")
    }

    fn stored(&self, key: u32) -> Boxed<'_, Option<String>> {
        let record = self.running.twin.record("customers", &key.to_string());
        let text = record.and_then(|record| record["text"].as_str().map(str::to_owned));
        Box::pin(std::future::ready(text))
    }
}

#[tokio::test]
async fn a_described_api_conforms() {
    for row_errors in [RowErrors::UnderOk, RowErrors::UnderMultiStatus] {
        let running = BatchTwin::builder()
            .row_errors(row_errors)
            .auth(Auth::Bearer("pat-twin".into()))
            .refuse_rows(|_, record| {
                (record["text"] == "bad").then(|| RowError::of_field("bad", "no", "text"))
            })
            .start()
            .await
            .unwrap();
        conforms(&BatchAccount { bench: Bench::over_sockets(), running }).await;
    }
}

/// Every fault that a twin can play, one in every three requests, over real connections.
#[tokio::test]
async fn no_fault_loses_a_row() {
    let faults: [(&str, Value); 9] = [
        ("429", json!({"status": {"code": 429, "retry_after": {"seconds": 0}}})),
        ("500", json!({"status": {"code": 500}})),
        ("503", json!({"status": {"code": 503, "retry_after": {"seconds": 0}}})),
        ("slow", json!({"slow": {"ms": 30}})),
        ("reset", json!("reset")),
        ("answer_lost", json!("answer_lost")),
        ("truncated", json!("truncated")),
        ("wrong_json", json!("wrong_json")),
        ("not_json", json!("not_json")),
    ];
    for (name, what) in faults {
        let running = HubSpotTwin::builder()
            .rate_limit(penstock_twins::RateLimit::UNLIMITED)
            .faults(script(json!([{"when": {"every": 3}, "what": what}])))
            .start()
            .await
            .unwrap();
        let bench = Bench::over_sockets();
        let connection = json!({"limits": {"rows_per_request": 10, "requests_per_10_seconds": 100_000}});
        let destination =
            bench.open(&definition(&hubspot(), &running.address(), "contacts", "email", &connection), 1);
        let (rest, memory) = bench.deliver(&*destination, &contacts(200), MINUTE).await;
        assert_eq!(rest.unwrap(), Rest::Nothing, "{name}");
        let tally = memory.tally();
        let accepted: usize = ["created", "updated"].iter().filter_map(|word| tally.get(*word)).sum();
        assert_eq!(accepted, 200, "{name}: {tally:?}");
        assert_eq!(running.twin.count("contacts"), 200, "{name}");
        let once = running.twin.journal().writes_per_key("contacts");
        let applied_unseen = ["answer_lost", "truncated", "wrong_json"].contains(&name);
        assert_eq!(once.values().all(|writes| *writes == 1), !applied_unseen, "{name}");
    }
}

#[tokio::test]
async fn a_batch_refused_whole_is_halved_until_the_bad_rows_stand_alone() {
    let running = BatchTwin::builder()
        .row_errors(RowErrors::WholeBatch)
        .refuse_rows(|_, record| {
            let n = record["n"].as_u64().unwrap_or_default();
            [7, 8, 150].contains(&n).then(|| RowError::new("bad", "no"))
        })
        .start()
        .await
        .unwrap();
    let bench = Bench::over_sockets();
    let connector = connector(BATCH_API);
    let destination =
        bench.open(&definition(&connector, &running.address(), "customers", "id", &json!({})), 1);
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Upsert, 300), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    let rejected: Vec<u32> = memory
        .outcomes()
        .into_iter()
        .filter(|(_, it)| crate::testing::word(it) != "created")
        .map(|(n, _)| n)
        .collect();
    assert_eq!(rejected, [7, 8, 150]);
    assert_eq!(running.twin.count("customers"), 297);
    assert!(memory.usage().requests < 60, "{:?}", memory.usage());
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unavailable_and_an_append_stays_unsent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let bench = Bench::over_sockets();
    let destination = bench.open(&definition(&connector(BATCH_API), &address, "events", "id", &json!({})), 1);
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Append, 10), MINUTE).await;
    let failure = rest.unwrap_err();
    assert_eq!(failure.name, penstock_model::FailureName::DestinationUnavailable);
    assert!(memory.outcomes().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let app =
        axum::Router::new().fallback(|| async { axum::response::Redirect::permanent("http://127.0.0.1:1/") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let bench = Bench::over_sockets();
    let destination = bench.open(&definition(&hubspot(), &address, "contacts", "email", &json!({})), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(3), MINUTE).await;
    assert_eq!(rest.unwrap_err().name, penstock_model::FailureName::DestinationRefused);
    assert!(memory.outcomes().is_empty());
    server.abort();
}

#[tokio::test]
async fn hubspot_archives_by_remembered_id() {
    let running = HubSpotTwin::builder().start().await.unwrap();
    let bench = Bench::over_sockets();
    let destination =
        bench.open(&definition(&hubspot(), &running.address(), "contacts", "email", &json!({})), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(3), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    let mut removals = contacts(3);
    for removal in &mut removals {
        removal.kind = OperationKind::Archive;
        let outcome = &memory.outcomes()[&removal.n];
        let Outcome::Accepted { id, .. } = outcome else { panic!("{outcome:?}") };
        removal.id = id.clone();
    }
    removals[2].id = None;
    let (rest, memory) = bench.deliver(&*destination, &removals, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(
        memory.tally().into_iter().collect::<Vec<_>>(),
        [("accepted".to_owned(), 2), ("rejected id_unknown".to_owned(), 1)]
    );
    assert_eq!((running.twin.count("contacts"), running.twin.archived("contacts").len()), (1, 2));
}
