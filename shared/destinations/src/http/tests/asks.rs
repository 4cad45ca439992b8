//! Fields that need the destination: written only if they are empty, or referring to other records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_model::definition::ResolvedSync;
use penstock_model::json::Json;
use penstock_model::operation::{Asks, Operation, OperationKind};
use penstock_twins::{ConnectorTwin, HubSpotTwin, Kind, Property, Twin};
use serde_json::{Value, json};

use super::{Bench, MINUTE, connector, definition, hubspot, script};
use crate::destination::Rest;
use crate::testing::{Memory, operation, word};

/// A sync of contacts that fills in a phone number and refers to a company and an owner's deal.
fn contacts_sync() -> ResolvedSync {
    let mut definition = definition(&hubspot(), "http://twin", "contacts", "ref", &json!({}));
    definition.sync.fields = serde_json::from_value(json!({
        "firstname": "name",
        "phone": {"column": "phone", "write": "if_empty"},
        "city": {"column": "city", "write": "if_empty"},
        "companies": {"lookup": {"company_ref": "company"}},
        "deals": {"lookup": {"deal_ref": "deal"}, "on_missing": "skip"},
    }))
    .unwrap();
    definition
}

fn account() -> HubSpotTwin {
    let unique = || Property::new(Kind::Text).unique();
    let twin = HubSpotTwin::builder()
        .property("contacts", "ref", unique())
        .property("companies", "company_ref", unique())
        .property("deals", "deal_ref", unique())
        .build();
    twin.seed("companies", [("company_ref", "acme"), ("name", "Acme")]).unwrap();
    twin.seed("deals", [("deal_ref", "d1")]).unwrap();
    twin.seed("contacts", [("ref", "c0"), ("phone", "old")]).unwrap();
    twin.seed("contacts", [("ref", "c1"), ("city", "Bonn")]).unwrap();
    twin
}

fn object(value: &Value) -> Option<Json> {
    value.as_object().is_some_and(|members| !members.is_empty()).then(|| Json::of(value).unwrap())
}

fn row(n: u32, kind: OperationKind, if_empty: &Value, lookups: &Value) -> Operation {
    let asks = Asks { if_empty: object(if_empty), lookups: object(lookups) };
    let some = asks.if_empty.is_some() || asks.lookups.is_some();
    Operation {
        asks: some.then(|| Box::new(asks)),
        ..operation(n, kind, &json!({"ref": format!("c{n}")}), &json!({"firstname": format!("Ann {n}")}))
    }
}

/// Contacts that fill in phone and city; every third is of a company that is not there, every fourth has a deal.
fn rows(kind: OperationKind, count: u32) -> Vec<Operation> {
    (0..count)
        .map(|n| {
            let company = if n % 3 == 2 { "nobody" } else { "acme" };
            let mut lookups = json!({"companies": company});
            if n % 4 == 0 {
                lookups["deals"] = json!(if n % 8 == 0 { "d1" } else { "d2" });
            }
            row(n, kind, &json!({"phone": "new", "city": "Köln"}), &lookups)
        })
        .collect()
}

fn words(memory: &Memory) -> BTreeMap<u32, String> {
    memory.outcomes().iter().map(|(n, outcome)| (*n, word(outcome))).collect()
}

/// Holds that everything is as the rows of [`rows`] say.
fn holds(twin: &HubSpotTwin, count: u32, words: &BTreeMap<u32, String>, what: &str) {
    for n in 0..count {
        let record = twin.record("contacts", "ref", &format!("c{n}"));
        if n % 3 == 2 {
            assert_eq!(words[&n], "rejected lookup_missing", "{what}: row {n}");
            assert!(n < 2 || record.is_none(), "{what}: row {n} was written");
            continue;
        }
        assert!(
            ["created", "updated", "accepted"].contains(&words[&n].as_str()),
            "{what}: row {n} is {}",
            words[&n]
        );
        let record = record.unwrap();
        let held = |name: &str| record.properties.get(name).map(String::as_str);
        assert_eq!(held("phone"), Some(if n == 0 { "old" } else { "new" }), "{what}: row {n}");
        assert_eq!(held("city"), Some(if n == 1 { "Bonn" } else { "Köln" }), "{what}: row {n}");
        assert_eq!(held("firstname"), Some(format!("Ann {n}").as_str()), "{what}: row {n}");
        assert_eq!(twin.associated("contacts", &record.id, "companies").len(), 1, "{what}: row {n}");
        let deals = usize::from(n % 8 == 0);
        assert_eq!(twin.associated("contacts", &record.id, "deals").len(), deals, "{what}: row {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_are_filled_in_and_records_linked() {
    let twin = account();
    let bench = Bench::in_process(&twin);
    let destination = bench.open(&contacts_sync(), 1);
    let operations = rows(OperationKind::Upsert, 250);
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    holds(&twin, 250, &words(&memory), "no fault");
    let journal = twin.journal();
    let requests = |part: &str| -> u64 {
        let own = journal.requests_by_path().iter().filter(|((path, _), _)| path.contains(part));
        own.map(|(_, count)| count).sum()
    };
    assert_eq!(requests("companies/batch/read"), 1, "a key is asked for once");
    assert_eq!(requests("deals/batch/read"), 1);
    assert!(requests("contacts/batch/read") <= 3 && requests("contacts/batch/upsert") <= 3);
    assert!(requests("/companies/batch/associate") <= 3 && requests("/deals/batch/associate") <= 3);

    // Said again, nothing changes but what is always written.
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    holds(&twin, 250, &words(&memory), "again");
}

#[tokio::test(start_paused = true)]
async fn rows_that_ask_nothing_go_with_the_others() {
    let twin = account();
    let bench = Bench::in_process(&twin);
    let destination = bench.open(&contacts_sync(), 1);
    let mut operations = rows(OperationKind::Upsert, 5);
    operations.extend((5..20).map(|n| row(n, OperationKind::Upsert, &json!({}), &json!({}))));
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.outcomes().len(), 20);
    assert_eq!(twin.count("contacts"), 19);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_updated_and_what_says_nothing_is_not_sent() {
    let twin = account();
    let bench = Bench::in_process(&twin);
    let destination = bench.open(&contacts_sync(), 1);
    let bare = |n, if_empty: &Value, lookups: &Value| Operation {
        fields: Json::of(&json!({})).unwrap(),
        ..row(n, OperationKind::Update, if_empty, lookups)
    };
    let operations = [
        // Its phone is there already, and nothing else is to be said.
        bare(0, &json!({"phone": "new"}), &json!({})),
        // The same, but for the link.
        bare(1, &json!({"city": "Köln"}), &json!({"companies": "acme"})),
        bare(2, &json!({"phone": "new"}), &json!({})),
    ];
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(
        words(&memory).into_values().collect::<Vec<_>>(),
        ["skipped NothingToSay", "updated", "skipped Missing"]
    );
    let journal = twin.journal();
    assert!(journal.requests_by_path().keys().all(|(path, _)| !path.contains("batch/update")));
    let linked = twin.record("contacts", "ref", "c1").unwrap();
    assert_eq!(twin.associated("contacts", &linked.id, "companies").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_fault_of_any_step_loses_a_row_or_gives_it_two_outcomes() {
    let faults = [
        json!({"status": {"code": 429}}),
        json!({"status": {"code": 429, "retry_after": {"seconds": 2}}}),
        json!({"status": {"code": 500}}),
        json!({"status": {"code": 503, "retry_after": {"seconds": 1}}}),
        json!("unauthorized"),
        json!("reset"),
        json!("answer_lost"),
        json!("truncated"),
        json!("wrong_json"),
        json!("not_json"),
        json!({"slow": {"ms": 90_000}}),
    ];
    for part in [
        "companies/batch/read",
        "contacts/batch/read",
        "batch/upsert",
        "companies/batch/associate",
        "deals/batch/associate",
    ] {
        for fault in &faults {
            let what = format!("{part} {fault}");
            let twin = account();
            // A credential that is refused twice is refused for good.
            let until = if *fault == json!("unauthorized") { 1 } else { 2 };
            twin.set_faults(script(
                json!([{"when": {"path_contains": part, "until": until}, "what": fault}]),
            ));
            let bench = Bench::in_process(&twin);
            let destination = bench.open(&contacts_sync(), 1);
            let (rest, memory) =
                bench.deliver(&*destination, &rows(OperationKind::Upsert, 40), MINUTE * 20).await;
            assert_eq!(rest.unwrap(), Rest::Nothing, "{what}");
            assert_eq!(memory.outcomes().len(), 40, "{what}");
            holds(&twin, 40, &words(&memory), &what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_step_is_its_rows_matter() {
    for (part, word) in [
        ("contacts/batch/read", "rejected VALIDATION_ERROR"),
        ("companies/batch/associate", "rejected VALIDATION_ERROR"),
    ] {
        let twin = account();
        let fault = json!({"refuse_rows": {"every": 1000, "code": "X", "message": "no"}});
        twin.set_faults(script(json!([{"when": {"path_contains": part}, "what": fault}])));
        let bench = Bench::in_process(&twin);
        let destination = bench.open(&contacts_sync(), 1);
        let operations: Vec<_> = (10..20)
            .map(|n| row(n, OperationKind::Upsert, &json!({"phone": "new"}), &json!({"companies": "acme"})))
            .collect();
        let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
        assert_eq!(rest.unwrap(), Rest::Nothing);
        let refused = memory.tally().get(word).copied().unwrap_or_default();
        if part.contains("associate") {
            assert_eq!(refused, 1, "{part}: {:?}", memory.tally());
        }
        assert_eq!(memory.outcomes().len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_without_time_leaves_rows_to_the_next() {
    let twin = account();
    twin.set_faults(script(
        json!([{"when": {"path_contains": "associate", "until": 1}, "what": {"slow": {"ms": 30_000}}}]),
    ));
    let bench = Bench::in_process(&twin);
    let destination = bench.open(&contacts_sync(), 1);
    let operations = rows(OperationKind::Upsert, 30);
    let (rest, memory) = bench.deliver(&*destination, &operations, Duration::from_secs(20)).await;
    assert!(matches!(rest.unwrap(), Rest::Paused { .. }));
    let done = memory.outcomes();
    assert!(done.len() < 30);
    let left: Vec<_> = operations.into_iter().filter(|operation| !done.contains_key(&operation.n)).collect();
    let (rest, memory) = bench.deliver(&*destination, &left, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    let mut all = words(&memory);
    all.extend(done.iter().map(|(n, outcome)| (*n, word(outcome))));
    holds(&twin, 30, &all, "two pushes");
}

#[tokio::test(start_paused = true)]
async fn the_others_id_becomes_the_fields_value_where_nothing_links() {
    const FILE: &str = r#"
name: Desk
objects:
  "*":
    upsert: { method: PUT, path: "/{object}/{match.value}", body: $fields, answer: { results: { at: "", by: [position], id: /id } } }
reads:
  "*":
    method: GET
    path: "/{object}?by={match.field}&value={match.value}"
    answer: { results: { at: /found, by: [position], id: /id, fields: "" } }
"#;
    let file = connector(FILE);
    let twin = ConnectorTwin::builder(file.clone()).token("pat-twin").key("people", ["ref"]).build().unwrap();
    let acme = twin.seed("firms", "acme", &json!({"domain": "acme.com"}));
    twin.seed("people", "c3", &json!({"ref": "c3", "phone": "old"}));
    let mut definition = definition(&file, "http://twin", "people", "ref", &json!({}));
    definition.sync.fields = serde_json::from_value(json!({
        "phone": {"column": "phone", "write": "if_empty"},
        "firm": {"lookup": {"domain": "domain"}, "object": "firms", "on_missing": "null"},
    }))
    .unwrap();
    let bench = Bench::in_process(&twin);
    let destination: Arc<dyn crate::Destination> = bench.open(&definition, 1);
    let operations = [
        row(1, OperationKind::Upsert, &json!({}), &json!({"firm": "acme.com"})),
        row(2, OperationKind::Upsert, &json!({}), &json!({"firm": "nobody.com"})),
        row(3, OperationKind::Upsert, &json!({"phone": "new"}), &json!({"firm": null})),
        row(4, OperationKind::Upsert, &json!({"phone": "new"}), &json!({})),
    ];
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally().values().sum::<usize>(), 4);
    let held =
        |n: u32, field: &str| twin.record("people", &format!("c{n}")).and_then(|record| record.value(field));
    assert_eq!((held(1, "firm"), held(2, "firm")), (Some(json!(acme)), Some(json!(null))));
    assert_eq!((held(3, "firm"), held(3, "phone")), (Some(json!(null)), Some(json!("old"))));
    assert_eq!((held(4, "firm"), held(4, "phone")), (None, Some(json!("new"))));
}

#[test]
fn what_a_connector_can_not_do_is_said_by_name() {
    let problems = |object: &str, mode: &str, field: Value| -> Vec<String> {
        let mut definition = definition(&hubspot(), "http://twin", object, "ref", &json!({}));
        definition.sync.mode = serde_json::from_value(json!(mode)).unwrap();
        definition.sync.fields = serde_json::from_value(json!({"companies": field})).unwrap();
        crate::check(&definition)
            .into_iter()
            .map(|problem| format!("{}: {}", problem.pointer, problem.message))
            .collect()
    };
    let link = |more: Value| {
        let mut field = json!({"lookup": {"ref": "company"}});
        field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        field
    };
    assert_eq!(problems("contacts", "upsert", link(json!({}))), Vec::<String>::new());
    let all = [
        problems("contacts", "create_only", link(json!({}))),
        problems("contacts", "upsert", link(json!({"on_missing": "null"}))),
        problems("contacts", "upsert", link(json!({"on_null": "clear"}))),
    ];
    insta::assert_snapshot!(all.concat().join("\n"), @r#"
    /sync/fields/companies/lookup: HubSpot links records by a request of its own, which may be repeated with the record's: that needs mode upsert or update_only
    /sync/fields/companies/on_missing: HubSpot links records, and a link can't be emptied: on_missing is reject or skip
    /sync/fields/companies/on_null: HubSpot links records, and a link can't be emptied: leave on_null out
    "#);
    let mut blind = hubspot();
    blind.reads.clear();
    let mut definition = definition(&blind, "http://twin", "contacts", "ref", &json!({}));
    definition.sync.fields = serde_json::from_value(json!({
        "companies": {"lookup": {"ref": "company"}},
        "phone": {"column": "phone", "write": "if_empty"},
    }))
    .unwrap();
    let all: Vec<String> = crate::check(&definition)
        .into_iter()
        .map(|problem| format!("{}: {}", problem.pointer, problem.message))
        .collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    /sync/fields/phone/write: the connector HubSpot can't tell whether a field of contacts is empty: it has no read that tells of fields
    /sync/fields/companies/lookup: the connector HubSpot can't look companies up: it has no read for that object
    "#);
}
