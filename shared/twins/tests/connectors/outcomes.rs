//! Without faults: every operation of every file, with rows that exist, that are missing and that are bad.

use penstock_destinations::Rest;
use penstock_model::connector::{AuthKind, HttpConnector};
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use penstock_twins::{ConnectorTwin, RefusedRows, RowError, Twin};
use serde_json::{Value, json};

use crate::bench::{HOUR, START, chosen, connector, deliver, hubspot, in_threes, operation, page, word};

/// The connector file for the batch twin, signed in to by a token.
pub(crate) fn batch_api() -> HttpConnector {
    let file = connector(include_str!("../../../destinations/src/http/tests/batch-api.yaml"));
    HttpConnector { auth: vec![AuthKind::Bearer], ..file }
}

/// A connector, an object and its match field.
pub(crate) fn files() -> Vec<(HttpConnector, &'static str, &'static str)> {
    vec![
        (hubspot(), "contacts", "email"),
        (page(), "people", "email"),
        (batch_api(), "customers", "id"),
        (in_threes("braze"), "users", "external_id"),
        (in_threes("braze"), "events", "external_id"),
        (in_threes("mailchimp"), "a1b2c3", "email_address"),
        (in_threes("mixpanel"), "profiles", "$distinct_id"),
        (in_threes("mixpanel"), "events", "event"),
        (in_threes("iterable"), "users", "email"),
        (in_threes("iterable"), "users_by_id", "userId"),
        (in_threes("iterable"), "events", "id"),
        (in_threes("customerio"), "people", "id"),
        (in_threes("customerio"), "events", "id"),
        (in_threes("amplitude"), "users", "user_id"),
        (in_threes("amplitude"), "events", "insert_id"),
        (connector(include_str!("marketo.yaml")), "leads", "email"),
        (connector(include_str!("crm.yaml")), "people", "id"),
    ]
}

/// A twin that refuses records whose field `name` is `bad`.
pub(crate) fn twin(
    connector: &HttpConnector,
    object: &str,
    field: &str,
    refused_rows: RefusedRows,
) -> ConnectorTwin {
    let refuse = |_: &str, record: &Value| {
        let is_bad = record.to_string().contains("\"bad\"");
        is_bad.then(|| RowError::of_field("bad_name", "this name can't be", "name"))
    };
    let mut builder = ConnectorTwin::builder(connector.clone()).token("twin:twin");
    for (name, value) in chosen(connector).as_object().into_iter().flatten() {
        builder = builder.setting(name, value.as_str().unwrap_or_default());
    }
    builder
        .key("*", [field])
        .wall_clock(START)
        .object(object)
        .refused_rows(refused_rows)
        .refuse_rows(refuse)
        .build()
        .unwrap()
}

/// Seven operations of a kind: 0 and 1 are about other records than 2 to 6, and 5 is bad.
pub(crate) fn seven(kind: OperationKind, field: &str) -> Vec<Operation> {
    let name = |n: u32| if n == 5 { "bad".to_owned() } else { format!("Ann {n}") };
    (0..7).map(|n| operation(n, kind, field, &format!("k{n}@x.com"), &json!({"name": name(n)}))).collect()
}

/// Makes the records be there that an operation of this kind is to find, and tells the operations their ids.
pub(crate) fn prepare(twin: &ConnectorTwin, object: &str, kind: OperationKind, operations: &mut [Operation]) {
    let exists = |n: usize| match kind {
        OperationKind::Upsert | OperationKind::Create => n < 2,
        OperationKind::Append => false,
        OperationKind::Update | OperationKind::Clear | OperationKind::Delete | OperationKind::Archive => {
            n >= 2
        }
    };
    for (n, operation) in operations.iter_mut().enumerate() {
        operation.id = Some(if exists(n) {
            twin.seed(object, &format!("k{n}@x.com"), &json!({"old": "value"}))
        } else {
            format!("gone{n}")
        });
    }
}

/// What must come of operation `n`: a word, or one of two.
fn expected(kind: OperationKind, n: u32) -> &'static [&'static str] {
    match (kind, n) {
        (OperationKind::Create, 0 | 1) => &["exists"],
        // Some APIs can't say that there was nothing to update or to remove.
        (
            OperationKind::Update | OperationKind::Clear | OperationKind::Delete | OperationKind::Archive,
            0 | 1,
        ) => &["missing", "accepted"],
        (OperationKind::Delete | OperationKind::Archive, _) => &["accepted"],
        (_, 5) => &["rejected"],
        (_, _) => &["accepted"],
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_ends_with_its_true_outcome() {
    let modes =
        [RefusedRows::AsDeclared, RefusedRows::MultiStatus, RefusedRows::RefuseAndName, RefusedRows::Refuse];
    let mut checked = 0;
    for (connector, object, field) in files() {
        for kind in connector.operations(object).unwrap().keys().copied() {
            for mode in modes {
                let what = format!("{} {kind:?} {mode:?}", connector.name);
                let twin = twin(&connector, object, field, mode);
                let mut operations = seven(kind, field);
                prepare(&twin, object, kind, &mut operations);
                let delivered = deliver(&connector, &twin, object, field, operations, HOUR).await;
                assert!(matches!(delivered.rest, Ok(Rest::Nothing)), "{what}: {:?}", delivered.rest);
                assert_eq!(delivered.outcomes.len(), 7, "{what}");
                for (n, outcome) in &delivered.outcomes {
                    let word = word(outcome);
                    assert!(expected(kind, *n).contains(&word.as_str()), "{what}: {n} is {word}");
                    holds(&twin, object, kind, *n, outcome, &what);
                    if let Outcome::Accepted { created: Some(created), .. } = outcome
                        && let Some(record) = twin.record(object, &format!("k{n}@x.com"))
                    {
                        let is_new = record.value("old").is_none();
                        assert_eq!(*created, is_new, "{what}: row {n} was created or not");
                    }
                }
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 4 * 44, "every file and every operation");
}

/// Holds that the twin's records are what the outcome says.
pub(crate) fn holds(
    twin: &ConnectorTwin,
    object: &str,
    kind: OperationKind,
    n: u32,
    outcome: &Outcome,
    what: &str,
) {
    let key = format!("k{n}@x.com");
    let name = Some(json!(format!("Ann {n}")));
    match kind {
        OperationKind::Append => {
            let times = twin.appended(object).iter().filter(|record| record.value("name") == name).count();
            let is_accepted = matches!(outcome, Outcome::Accepted { .. });
            assert_eq!(times, usize::from(is_accepted), "{what}: row {n} was appended {times} times");
        }
        OperationKind::Delete | OperationKind::Archive => {
            assert_eq!(twin.record(object, &key), None, "{what}: row {n} is still there");
        }
        OperationKind::Upsert | OperationKind::Create | OperationKind::Update | OperationKind::Clear => {
            let is_written = twin.record(object, &key).is_some_and(|record| record.value("name") == name);
            // Of a record that is not there, some APIs say nothing.
            let may_be_silent = matches!(kind, OperationKind::Update | OperationKind::Clear) && n < 2;
            let is_accepted = matches!(outcome, Outcome::Accepted { .. });
            assert!(is_written == is_accepted || (may_be_silent && !is_written), "{what}: row {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn codes_ids_and_fields_arrive_where_the_file_has_a_place_for_them() {
    for (file, object, field, code, at_field) in [
        (hubspot(), "contacts", "email", "bad_name", Some("name")),
        (page(), "people", "email", "bad_name", Some("name")),
        (in_threes("iterable"), "users", "email", "invalid_email", None),
        (in_threes("mixpanel"), "profiles", "$distinct_id", "invalid", Some("name")),
        (in_threes("customerio"), "people", "id", "bad_name", Some("name")),
        (in_threes("mailchimp"), "a1b2c3", "email_address", "bad_name", Some("name")),
        (connector(include_str!("crm.yaml")), "people", "id", "bad_name", None),
    ] {
        let twin = twin(&file, object, field, RefusedRows::AsDeclared);
        let operations = seven(OperationKind::Upsert, field);
        let delivered = deliver(&file, &twin, object, field, operations, HOUR).await;
        let Outcome::Rejected { code: told, field: told_field, .. } = &delivered.outcomes[&5] else {
            panic!("{}: the bad row is not rejected", file.name)
        };
        assert_eq!((told.as_str(), told_field.as_deref()), (code, at_field), "{}", file.name);
        let Outcome::Accepted { id, .. } = &delivered.outcomes[&0] else { panic!("not accepted") };
        if let Some(id) = id {
            assert_eq!(twin.record(object, "k0@x.com").unwrap().id, *id, "{}", file.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_one_request_about_one_record_can_be_refused() {
    let file = page();
    let twin = ConnectorTwin::builder(file.clone()).token("twin:twin").refuse_duplicates().build().unwrap();
    let mut operations = seven(OperationKind::Upsert, "email");
    operations[3] = operation(3, OperationKind::Upsert, "email", "k4@x.com", &json!({"name": "Ann 4"}));
    let delivered = deliver(&file, &twin, "people", "email", operations, HOUR).await;
    let words: Vec<String> = delivered.outcomes.values().map(word).collect();
    let (yes, no) = ("accepted", "rejected");
    assert_eq!(words, [yes, yes, yes, no, no, yes, yes]);
    let Outcome::Rejected { code, .. } = &delivered.outcomes[&3] else { panic!("not rejected") };
    assert_eq!(code, "duplicate_in_request");
    assert_eq!(twin.count("people"), 5);
}

/// Every digit of a number that was sent is kept, and the twin is asked for values as JSON.
#[tokio::test(start_paused = true)]
async fn numbers_keep_their_digits() {
    let file = connector(include_str!("crm.yaml"));
    let twin = twin(&file, "members", "id", RefusedRows::AsDeclared);
    let mut operation = operation(0, OperationKind::Upsert, "id", "x", &json!({}));
    operation.fields = serde_json::from_str("{\"balance\": 12345678901234567890.1200}").unwrap();
    deliver(&file, &twin, "members", "id", vec![operation], HOUR).await;
    let record = twin.record("members", "x").unwrap();
    assert_eq!(record.fields["balance"], "12345678901234567890.1200");
    assert_eq!(record.fields["id"], "\"x\"");
    assert_eq!(twin.journal().counts("members").created, 1);
}
