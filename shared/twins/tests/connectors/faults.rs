//! With faults: nothing is lost, and nothing that may not be repeated is.

use std::time::Duration;

use penstock_destinations::Rest;
use penstock_model::FailureName;
use penstock_model::connector::{Answer, HttpConnector};
use penstock_model::operation::OperationKind;
use penstock_model::outcome::Outcome;
use penstock_model::settle::Repeat;
use penstock_twins::{ConnectorTwin, Ended, RateLimit, RefusedRows, Script, Twin};
use serde_json::{Value, json};

use crate::bench::{HOUR, deliver, hubspot, operation, page, word};
use crate::outcomes::{batch_api, files, holds, prepare, seven, twin};

fn script(rules: Value) -> Script {
    serde_json::from_value(rules).unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_fault_makes_an_outcome_untrue() {
    let faults = [
        json!({"status": {"code": 429}}),
        json!({"status": {"code": 429, "retry_after": {"seconds": 2}}}),
        json!({"status": {"code": 429, "retry_after": {"date_in_seconds": 2}}}),
        json!({"status": {"code": 500}}),
        json!({"status": {"code": 502}}),
        json!({"status": {"code": 503, "retry_after": {"seconds": 1}}}),
        json!("unauthorized"),
        json!("reset"),
        json!("answer_lost"),
        json!("truncated"),
        json!("wrong_json"),
        json!("not_json"),
        json!({"slow": {"ms": 90_000}}),
    ];
    for (connector, object, field) in files() {
        for (kind, operation) in connector.operations(object).unwrap() {
            for fault in &faults {
                let what = format!("{} {kind:?} {fault}", connector.name);
                let twin = twin(&connector, object, field, RefusedRows::AsDeclared);
                // A credential that is refused twice to the same rows is refused for good.
                let second = if *fault == json!("unauthorized") { 99 } else { 3 };
                twin.set_faults(script(
                    json!([{"when": {"nth": 1}, "what": fault}, {"when": {"nth": second}, "what": fault}]),
                ));
                let mut operations = seven(*kind, field);
                prepare(&twin, object, *kind, &mut operations);
                let delivered = deliver(&connector, &twin, object, field, operations, HOUR).await;
                assert!(matches!(delivered.rest, Ok(Rest::Nothing)), "{what}: {:?}", delivered.rest);
                assert_eq!(delivered.outcomes.len(), 7, "{what}");
                let keyed = operation.idempotency_key.is_some();
                for (n, outcome) in &delivered.outcomes {
                    if matches!(outcome, Outcome::Unknown { .. }) {
                        // Only what must not be repeated, or what is told in an answer that has no body to read.
                        assert!(
                            operation.repeat(*kind) == Repeat::Unsafe && !keyed,
                            "{what}: row {n} is unknown"
                        );
                    } else if *fault == json!("wrong_json") && says_all_by_status(&operation.answer) {
                        // What was refused under a 200 can't be known.
                    } else if applied_before(*kind, fault) {
                        // What was created by a request whose answer was lost exists at its repetition.
                        assert!(
                            ["accepted", "exists", "missing", "rejected"].contains(&word(outcome).as_str()),
                            "{what}"
                        );
                    } else {
                        holds(&twin, object, *kind, *n, outcome, &what);
                    }
                }
                for (key, writes) in twin.journal().writes_per_key(object) {
                    let may_repeat = operation.repeat(*kind) == Repeat::Safe && !keyed;
                    assert!(writes == 1 || may_repeat, "{what}: {key} was written {writes} times");
                }
                lost_none(&twin, object, *kind, &delivered.outcomes, &what);
            }
        }
    }
}

/// Whether any JSON under a 200 is an answer that accepts the row.
fn says_all_by_status(answer: &Answer) -> bool {
    let any_object = answer.results.as_ref().is_some_and(|results| results.at.0.is_empty());
    !answer.needs_body() || (any_object && answer.proof.is_none())
}

fn applied_before(kind: OperationKind, fault: &Value) -> bool {
    let repeated = ["answer_lost", "truncated", "wrong_json"].contains(&fault.as_str().unwrap_or_default());
    kind == OperationKind::Create && (repeated || fault.get("slow").is_some())
}

/// Holds that every good row is at the twin, or its outcome says that nobody knows.
fn lost_none(
    twin: &ConnectorTwin,
    object: &str,
    kind: OperationKind,
    outcomes: &std::collections::BTreeMap<u32, Outcome>,
    what: &str,
) {
    for n in [2_u32, 3, 4, 6] {
        let name = Some(json!(format!("Ann {n}")));
        let is_there = match kind {
            OperationKind::Append => twin.appended(object).iter().any(|record| record.value("name") == name),
            OperationKind::Delete | OperationKind::Archive => {
                twin.record(object, &format!("k{n}@x.com")).is_none()
            }
            OperationKind::Upsert | OperationKind::Create | OperationKind::Update | OperationKind::Clear => {
                twin.record(object, &format!("k{n}@x.com")).is_some_and(|record| record.value("name") == name)
            }
        };
        let is_unknown = matches!(outcomes[&n], Outcome::Unknown { .. });
        assert!(is_there || is_unknown, "{what}: row {n} is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_makes_an_append_certain() {
    let file = batch_api();
    let rules = json!([{"when": {"until": 2}, "what": "answer_lost"}]);
    let twin = ConnectorTwin::builder(file.clone())
        .token("twin:twin")
        .key("*", ["id"])
        .faults(script(rules))
        .build()
        .unwrap();
    let operations = seven(OperationKind::Append, "id");
    let delivered = deliver(&file, &twin, "tickets", "id", operations, HOUR).await;
    assert!(delivered.outcomes.values().all(|outcome| word(outcome) == "accepted"));
    assert_eq!(twin.appended("tickets").len(), 7, "none came twice");
    assert_eq!(twin.journal().requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn limits_hold_in_all_windows_at_once() {
    let file = page();
    let windows = vec![RateLimit::new(2, Duration::from_secs(1)), RateLimit::new(5, Duration::from_secs(10))];
    let twin = ConnectorTwin::builder(file.clone()).token("twin:twin").rate_limits(windows).build().unwrap();
    let operations = (0..1_200)
        .map(|n| {
            operation(n, OperationKind::Upsert, "email", &format!("k{n}@x.com"), &json!({"name": "Ann"}))
        })
        .collect();
    let delivered = deliver(&file, &twin, "people", "email", operations, HOUR).await;
    assert!(delivered.outcomes.values().all(|outcome| word(outcome) == "accepted"));
    assert_eq!(twin.count("people"), 1_200);
    let journal = twin.journal();
    let refused = journal.requests_ended(Ended::Answered(429));
    assert!(refused > 0, "the twin allows less than the file says");
    assert_eq!(journal.requests(), 12 + refused);
}

#[tokio::test(start_paused = true)]
async fn the_files_own_limits_are_the_twins() {
    let file = hubspot();
    let twin = ConnectorTwin::builder(file.clone()).token("twin:twin").key("*", ["email"]).build().unwrap();
    let operations = (0..400)
        .map(|n| operation(n, OperationKind::Archive, "email", "-", &json!({})))
        .map(|operation| penstock_model::operation::Operation {
            id: Some(format!("{}", operation.n)),
            ..operation
        })
        .collect();
    let delivered = deliver(&file, &twin, "contacts", "email", operations, HOUR).await;
    assert_eq!(delivered.outcomes.len(), 400);
    assert!(twin.journal().most_requests_within(Duration::from_secs(10)) <= 190);
    assert_eq!(delivered.usage.throttled, 0);
}

/// A used-up day ends a delivery by name where the file has a word for it; the next day all goes on.
#[tokio::test(start_paused = true)]
async fn a_used_up_day_is_over_the_next_day() {
    for says in [true, false] {
        let file = hubspot();
        let fault = json!([{"when": {"nth": 2}, "what": {"day_used_up": {"retry_after": says}}}]);
        let twin = twin(&file, "contacts", "email", RefusedRows::AsDeclared);
        twin.set_faults(script(fault));
        let many = |from: u32| -> Vec<_> {
            (from..300)
                .map(|n| {
                    operation(
                        n,
                        OperationKind::Upsert,
                        "email",
                        &format!("k{n}@x.com"),
                        &json!({"name": "Ann"}),
                    )
                })
                .collect()
        };
        let delivered = deliver(&file, &twin, "contacts", "email", many(0), HOUR).await;
        assert!(matches!(delivered.rest, Ok(Rest::Paused { .. })), "{:?}", delivered.rest);
        tokio::time::advance(Duration::from_secs(12 * 3_600)).await;
        let early = deliver(&file, &twin, "contacts", "email", many(0), HOUR).await;
        let waits = matches!(early.rest, Ok(Rest::Paused { .. }));
        assert!(waits && early.outcomes.is_empty(), "the day is not over");
        tokio::time::advance(Duration::from_secs(12 * 3_600)).await;
        let next = deliver(&file, &twin, "contacts", "email", many(0), HOUR).await;
        assert!(matches!(next.rest, Ok(Rest::Nothing)));
        assert_eq!(twin.count("contacts"), 300);
    }
}

/// Where the file has no word for it, the API throttles: with `Retry-After` the push pauses until then.
#[tokio::test(start_paused = true)]
async fn a_wait_beyond_any_deadline_is_a_pause() {
    for rule in [
        json!({"what": {"status": {"code": 429, "retry_after": {"seconds": 80_000}}}}),
        json!({"what": {"status": {"code": 429, "retry_after": {"date_in_seconds": 80_000}}}}),
        json!({"what": {"day_used_up": {"retry_after": true}}}),
    ] {
        let file = page();
        let twin = twin(&file, "people", "email", RefusedRows::AsDeclared);
        twin.set_faults(script(json!([rule])));
        let delivered =
            deliver(&file, &twin, "people", "email", seven(OperationKind::Upsert, "email"), HOUR).await;
        let Ok(Rest::Paused { resume_after, .. }) = delivered.rest else {
            panic!("{rule}: {:?}", delivered.rest)
        };
        assert!(resume_after >= Duration::from_secs(79_000), "{rule}: {resume_after:?}");
        assert_eq!(twin.count("people"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_lasts_as_long_as_the_script_says() {
    for (until, names) in [(1, None), (9, Some(FailureName::DestinationUnauthorized))] {
        let file = page();
        let rules = json!([{"when": {"until": until}, "what": "unauthorized"}]);
        let twin = twin(&file, "people", "email", RefusedRows::AsDeclared);
        twin.set_faults(script(rules));
        let operations = seven(OperationKind::Upsert, "email");
        let delivered = deliver(&file, &twin, "people", "email", operations, HOUR).await;
        assert_eq!(delivered.rest.err().map(|failure| failure.name), names);
    }
}

/// Row errors by script, in the shape of every file.
#[tokio::test(start_paused = true)]
async fn the_script_refuses_rows_in_every_shape() {
    let upserts = |(connector, object, _): &(HttpConnector, &str, &str)| {
        connector.operations(object).unwrap().contains_key(&OperationKind::Upsert)
    };
    for (connector, object, field) in files().into_iter().filter(upserts) {
        let rules = json!([{"what": {"refuse_rows": {"every": 2, "code": "scripted", "field": "name"}}}]);
        let twin = twin(&connector, object, field, RefusedRows::AsDeclared);
        twin.set_faults(script(rules));
        let mut operations = seven(OperationKind::Upsert, field);
        operations.truncate(5);
        let delivered = deliver(&connector, &twin, object, field, operations, HOUR).await;
        assert!(matches!(delivered.rest, Ok(Rest::Nothing)), "{}", connector.name);
        let rejected = delivered.outcomes.values().filter(|outcome| word(outcome) == "rejected").count();
        assert!(rejected > 0, "{}", connector.name);
        assert_eq!(twin.count(object), 5 - rejected, "{}", connector.name);
    }
}
