//! An event starts every sync that it concerns, once, or says why it starts none.

#![expect(clippy::unwrap_used, reason = "a test that can't go on must fail")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_lambda_kit::Invocation;
use penstock_lambda_kit::metrics::Metrics;
use penstock_model::contract::StartRequest;
use penstock_model::port::{Boxed, Condition, Execution, Executions, ExecutionsUnavailable, Objects as _};
use penstock_model::{FailureName, Timestamp};
use penstock_route::{Context, RouteResponse, handle};
use penstock_store::MemoryObjects;
use serde_json::{Value, json};

/// Executions as Step Functions keeps them: a name starts once.
#[derive(Debug, Default)]
struct Started(Mutex<BTreeMap<String, StartRequest>>);

impl Executions for Started {
    fn describe<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn start<'a>(&'a self, name: &'a str, input: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        let request = serde_json::from_str(&input).unwrap();
        let is_new = self.0.lock().unwrap().insert(name.to_owned(), request).is_none();
        Box::pin(std::future::ready(Ok(is_new)))
    }
}

struct Stack {
    context: Context,
    started: Arc<Started>,
}

impl Stack {
    /// Unloads `customers` and `orders` and these syncs are published.
    async fn with(syncs: &[(&str, Value)]) -> Self {
        let state = MemoryObjects::new();
        let unloads = [
            ("customers", json!({ "redshift_statement": "unload-customers" })),
            ("orders", json!({ "athena_workgroup": "unloads" })),
        ];
        let put = async |key: String, value: Value| {
            state.put(&key, serde_json::to_vec(&value).unwrap().into(), Condition::Always).await.unwrap();
        };
        for (name, written_by) in unloads {
            let unload = json!({
                "location": format!("s3://acme-unloads/{name}/dt=*/"), "primary_key": ["id"], "written_by": written_by,
            });
            put(format!("definitions/unloads/{name}.json"), unload).await;
        }
        for (name, more) in syncs {
            let mut sync = json!({ "unload": "customers", "connection": "crm", "object": "x", "fields": {} });
            sync.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            put(format!("definitions/syncs/{name}.json"), sync).await;
        }
        let started = Arc::new(Started::default());
        let context = Context {
            state: Arc::new(state),
            executions: started.clone(),
            metrics: Metrics::nowhere(),
            overdue_after: Duration::from_secs(26 * 3_600),
        };
        Self { context, started }
    }

    async fn route(&self, event: Value) -> Result<RouteResponse, (FailureName, String)> {
        let invocation = Invocation::free("i", Timestamp(60_000));
        let answer = handle(event, &invocation, &self.context).await;
        answer.map_err(|failure| (failure.name, failure.full_message()))
    }

    /// The syncs that were started, in order of names.
    fn syncs(&self) -> Vec<String> {
        let started = self.started.0.lock().unwrap();
        let mut syncs: Vec<_> = started.values().map(|request| request.sync.clone()).collect();
        syncs.sort();
        syncs
    }
}

/// One of `events/`, with members of its detail replaced.
fn event(file: &str, detail: &[(&str, Value)]) -> Value {
    let path = format!("{}/../../events/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (name, value) in detail {
        event
            .pointer_mut("/detail")
            .unwrap()
            .as_object_mut()
            .unwrap()
            .insert((*name).to_owned(), value.clone());
    }
    event
}

fn on_unload() -> Value {
    json!({ "start": { "on_unload": true } })
}

#[tokio::test]
async fn every_sync_of_the_unload_is_started_once_by_whatever_tells_of_it() {
    let orders = json!({ "unload": "orders", "start": { "on_unload": true } });
    let syncs = [
        ("a", on_unload()),
        ("b", on_unload()),
        ("c", json!({ "start": { "schedule": "nightly" } })),
        ("o", orders),
    ];
    let cases = [
        ("trigger.unload-complete.json", vec!["a", "b"]),
        ("trigger.redshift-statement.json", vec!["a", "b"]),
        ("trigger.athena-query.json", vec!["o"]),
        ("trigger.schedule.json", vec!["c"]),
    ];
    for (file, expected) in cases {
        let stack = Stack::with(&syncs).await;
        let first = stack.route(event(file, &[])).await.unwrap();
        assert_eq!((first.started.len(), first.known.len()), (expected.len(), 0), "{file}");
        let second = stack.route(event(file, &[])).await.unwrap();
        assert_eq!((second.started.len(), second.known), (0, first.started), "{file}");
        assert_eq!(stack.syncs(), expected, "{file}");
    }
}

#[tokio::test]
async fn another_execution_of_the_same_statement_is_another_run() {
    let stack = Stack::with(&[("a", on_unload())]).await;
    for id in ["1", "2", "2"] {
        stack.route(event("trigger.redshift-statement.json", &[("statementId", json!(id))])).await.unwrap();
    }
    assert_eq!(stack.syncs(), ["a", "a"]);
}

#[tokio::test]
async fn a_statement_that_failed_is_told_to_whom_it_concerns_and_starts_nothing() {
    let stack = Stack::with(&[("a", on_unload()), ("b", on_unload())]).await;
    let failed = |state: &str| event("trigger.redshift-statement.json", &[("state", json!(state))]);
    for state in ["FAILED", "ABORTED"] {
        let (name, message) = stack.route(failed(state)).await.unwrap_err();
        assert_eq!(name, FailureName::UnloadMissing);
        for part in ["unload-customers", "dd2e1ec9", state, "sync a, b waits"] {
            assert!(message.contains(part), "{message}");
        }
    }
    let query = event("trigger.athena-query.json", &[("currentState", json!("CANCELLED"))]);
    let (name, message) = stack.route(query).await.unwrap_err();
    assert_eq!(name, FailureName::SyncInvalid, "no sync waits for it: {message}");
    assert!(stack.syncs().is_empty());
}

#[tokio::test]
async fn a_sync_follows_runs_that_succeeded_but_no_dry_ones() {
    let after = |name: &str| json!({ "start": { "after": name } });
    let stack = Stack::with(&[("b", after("accounts-to-crm")), ("c", after("b")), ("d", on_unload())]).await;
    let input = |options: Value| {
        json!(json!({ "sync": "accounts-to-crm", "environment": "dev", "options": options }).to_string())
    };
    let told = |more: &[(&str, Value)]| event("trigger.run-succeeded.json", more);
    let nothing = stack.route(told(&[("input", input(json!({ "dry_run": true })))])).await.unwrap();
    assert!(nothing.started.is_empty() && nothing.known.is_empty());
    let nothing = stack.route(told(&[("status", json!("FAILED"))])).await.unwrap();
    assert!(nothing.started.is_empty());
    for _ in 0..2 {
        stack.route(told(&[("input", input(json!({})))])).await.unwrap();
    }
    assert_eq!(stack.syncs(), ["b"]);
    let environments: Vec<_> =
        stack.started.0.lock().unwrap().values().map(|request| request.environment.clone()).collect();
    assert_eq!(environments, [Some("dev".to_owned())], "it goes where the run went that it follows");
}

#[tokio::test]
async fn a_query_on_its_way_starts_nothing_and_is_no_mistake() {
    let stack = Stack::with(&[]).await;
    for state in ["QUEUED", "RUNNING"] {
        let answer = stack.route(event("trigger.athena-query.json", &[("currentState", json!(state))])).await;
        assert!(answer.unwrap().started.is_empty());
    }
}

#[tokio::test]
async fn what_concerns_no_sync_or_can_t_be_read_is_refused_with_the_reason_and_without_its_content() {
    let stack = Stack::with(&[("a", json!({}))]).await;
    let cases = [
        (event("trigger.unload-complete.json", &[]), "concerns no published sync"),
        (event("trigger.redshift-statement.json", &[]), "concerns no published sync"),
        (
            json!({ "detail-type": "Birthday", "source": "acme", "detail": { "who": "ann@x.com" } }),
            "can't be read",
        ),
        (json!({ "who": "ann@x.com" }), "it is none of"),
        (json!({ "sync": 7, "who": "ann@x.com" }), "can't be read"),
        (json!({ "look_for": "ann@x.com", "due": "2026-01-01T00:00:00Z" }), "can't be read"),
        (json!({ "look_for": "overdue", "due": "ann@x.com" }), "its `due` is no time"),
        (event("trigger.run-succeeded.json", &[("input", Value::Null)]), "lacks its input"),
        (event("trigger.run-succeeded.json", &[("input", json!("ann@x.com"))]), "can't be read"),
    ];
    for (event, reason) in cases {
        let (name, message) = stack.route(event).await.unwrap_err();
        assert_eq!(name, FailureName::SyncInvalid);
        assert!(message.contains(reason) && !message.contains("ann@x.com"), "{message}");
    }
}

#[tokio::test]
async fn what_a_run_unloads_for_itself_starts_nothing_and_is_no_mistake() {
    let stack = Stack::with(&[("a", json!({ "unload": "made" }))]).await;
    let made = json!({
        "location": "s3://acme-unloads/made", "primary_key": ["id"],
        "query": { "redshift": { "sql": "select 1", "database": "d", "workgroup": "w" } },
    });
    let body = serde_json::to_vec(&made).unwrap().into();
    stack.context.state.put("definitions/unloads/made.json", body, Condition::Always).await.unwrap();
    let created = |key: &str| {
        event("trigger.unload-complete.json", &[("object", json!({ "key": key, "etag": "e", "size": 1 }))])
    };
    assert!(stack.route(created("made/run=r1/attempt=1/manifest")).await.unwrap().started.is_empty());
    assert!(stack.route(created("made-up/run=r1/manifest")).await.is_err());
}

#[tokio::test]
async fn a_sync_is_overdue_by_its_last_success_or_by_when_it_was_published() {
    let overdue_after = |hours: u32| json!({ "overdue_after_hours": hours });
    let syncs = [
        // Those that start by themselves have the stack's 26 hours, those that don't have for ever, unless they say otherwise.
        ("by-hand", json!({})),
        ("by-schedule", json!({ "start": { "schedule": "nightly" } })),
        ("by-unload", on_unload()),
        ("hourly", overdue_after(2)),
        ("weekly", json!({ "start": { "on_unload": true }, "overdue_after_hours": 170 })),
        ("never-ran", json!({ "start": { "after": "hourly" } })),
    ];
    let stack = Stack::with(&syncs).await;
    // A store without a clock counts its writes: all was published within a second.
    for sync in ["by-hand", "by-schedule", "by-unload", "hourly", "weekly"] {
        let at = if sync == "by-unload" { 20 * 3_600_000 } else { 0 };
        let success = json!({ "version": 1, "run": "r", "at": at });
        let (key, body) = (format!("state/{sync}/succeeded.json"), success.to_string().into());
        stack.context.state.put(&key, body, Condition::Always).await.unwrap();
    }
    let cases: [(i64, &[&str]); 6] = [
        (2, &[]),
        (3, &["hourly"]),
        (26, &["hourly"]),
        (27, &["by-schedule", "hourly", "never-ran"]),
        (47, &["by-schedule", "by-unload", "hourly", "never-ran"]),
        (171, &["by-schedule", "by-unload", "hourly", "never-ran", "weekly"]),
    ];
    for (hours, expected) in cases {
        let due = Timestamp(hours * 3_600_000).rfc3339();
        let answer = stack.route(json!({ "look_for": "overdue", "due": due })).await.unwrap();
        assert_eq!(answer.overdue, expected, "{hours}");
        assert!(answer.started.is_empty());
    }
}
