//! HubSpot beyond batches of upserts: records that keep their ids, labelled associations, custom objects, OAuth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_model::definition::ResolvedSync;
use penstock_model::json::Json;
use penstock_model::operation::{Asks, Operation, OperationKind};
use penstock_twins::{ConnectorTwin, HubSpotTwin, HubSpotTwinBuilder, Kind, Property, Twin};
use serde_json::{Value, json};

use super::{Bench, MINUTE, connector, definition, hubspot, script};
use crate::destination::Rest;
use crate::testing::{Kept, Memory, operation, word};

fn builder() -> HubSpotTwinBuilder {
    let unique = || Property::new(Kind::Text).unique();
    HubSpotTwin::builder()
        .property("contacts", "ref", unique())
        .property("companies", "company_ref", unique())
        .property("2-4567890", "plate", unique())
        .property("2-4567890", "colour", Property::new(Kind::Text))
        .property("p1234567_vehicles", "plate", unique())
        .property("p1234567_vehicles", "colour", Property::new(Kind::Text))
}

fn sync(object: &str, field: &str, fields: Value) -> ResolvedSync {
    let mut definition = definition(&hubspot(), "http://twin", object, field, &json!({}));
    definition.sync.fields = serde_json::from_value(fields).unwrap();
    definition
}

/// An upsert of a contact whose record is remembered by its id.
fn contact(n: u32, key: &str, id: Option<&str>, fields: &Value) -> Operation {
    let matched = json!({"ref": key});
    Operation { id: id.map(str::to_owned), ..operation(n, OperationKind::Upsert, &matched, fields) }
}

fn words(memory: &Memory) -> Vec<String> {
    memory.outcomes().values().map(word).collect()
}

/// The first names of all contacts by id.
fn names(twin: &HubSpotTwin) -> BTreeMap<String, (String, String)> {
    let of = |name: &str, record: &penstock_twins::HubSpotRecord| {
        record.properties.get(name).cloned().unwrap_or_default()
    };
    let records = twin.records("contacts");
    records.iter().map(|record| (record.id.clone(), (of("ref", record), of("firstname", record)))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_keeps_its_id_when_the_match_value_of_its_row_changes() {
    let twin = builder().build();
    let ids: Vec<String> = ["a", "b", "c", "d"]
        .map(|key| twin.seed("contacts", [("ref", key), ("firstname", "old")]).unwrap())
        .to_vec();
    let bench = Bench::in_process(&twin);
    let definition = sync("contacts", "ref", json!({"firstname": "name"}));
    let destination = bench.open(&definition, 1);
    let new = json!({"firstname": "new"});
    let operations = [
        contact(0, "a2", Some(&ids[0]), &new),
        contact(1, "b", None, &new),
        // Somebody else has it.
        contact(2, "d", Some(&ids[2]), &new),
        // Its record was removed by a person.
        contact(3, "e", Some("77"), &new),
        contact(4, "f", None, &new),
    ];
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(words(&memory), ["accepted", "updated", "rejected CONFLICT", "created", "created"]);
    let held = names(&twin);
    let of = |key: &str, name: &str| (key.to_owned(), name.to_owned());
    assert_eq!(held[&ids[0]], of("a2", "new"));
    assert_eq!(held[&ids[1]], of("b", "new"));
    assert_eq!((&held[&ids[2]], &held[&ids[3]]), (&of("c", "old"), &of("d", "old")));
    assert_eq!(held.len(), 6);
    let journal = twin.journal();
    let updates =
        journal.requests_by_path().keys().filter(|(path, _)| path.ends_with("batch/update")).count();
    assert_eq!(updates, 1, "only rows whose match value has changed are written to by id");
}

#[tokio::test(start_paused = true)]
async fn what_is_only_filled_in_is_asked_of_the_record_that_keeps_its_id() {
    let twin = builder().build();
    let filled = [("ref", "a"), ("phone", "1")];
    let ids = [twin.seed("contacts", filled).unwrap(), twin.seed("contacts", [("ref", "b")]).unwrap()];
    twin.seed("companies", [("company_ref", "acme"), ("name", "Acme")]).unwrap();
    let bench = Bench::in_process(&twin);
    let definition = sync(
        "contacts",
        "ref",
        json!({
            "firstname": "name", "phone": {"column": "phone", "write": "if_empty"},
            "companies": {"lookup": {"company_ref": "company"}},
        }),
    );
    let destination = bench.open(&definition, 1);
    let asks = || {
        let (if_empty, lookups) = (json!({"phone": "2"}), json!({"companies": "acme"}));
        let json = |value: &Value| Some(Json::of(value).unwrap());
        Some(Box::new(Asks { if_empty: json(&if_empty), lookups: json(&lookups) }))
    };
    let row = |n: u32, key: &str, id: &str| Operation {
        asks: asks(),
        ..contact(n, key, Some(id), &json!({"firstname": "new"}))
    };
    let operations = [row(0, "a2", &ids[0]), row(1, "b2", &ids[1]), row(2, "c2", "77")];
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(words(&memory), ["updated", "updated", "created"]);
    for (key, id, phone) in [("a2", Some(&ids[0]), "1"), ("b2", Some(&ids[1]), "2"), ("c2", None, "2")] {
        let record = twin.record("contacts", "ref", key).unwrap();
        assert!(id.is_none_or(|id| record.id == *id), "{key}");
        assert_eq!(
            (record.properties["phone"].as_str(), record.properties["firstname"].as_str()),
            (phone, "new")
        );
        assert_eq!(twin.associated("contacts", &record.id, "companies").len(), 1, "{key}");
    }
    assert_eq!(twin.count("contacts"), 3);
}

#[tokio::test(start_paused = true)]
async fn no_fault_makes_a_second_record_of_one_that_moves() {
    let faults = [
        json!({"status": {"code": 429}}),
        json!({"status": {"code": 500}}),
        json!({"status": {"code": 503, "retry_after": {"seconds": 1}}}),
        json!("unauthorized"),
        json!("reset"),
        json!("answer_lost"),
        json!("truncated"),
        json!("wrong_json"),
        json!("not_json"),
    ];
    for fault in &faults {
        let twin = builder().build();
        let ids: Vec<String> =
            (0..40).map(|n| twin.seed("contacts", [("ref", format!("c{n}").as_str())]).unwrap()).collect();
        let until = if *fault == json!("unauthorized") { 1 } else { 2 };
        let when = json!({"path_contains": "batch/update", "until": until});
        twin.set_faults(script(json!([{"when": when, "what": fault}])));
        let bench = Bench::in_process(&twin);
        let definition = sync("contacts", "ref", json!({"firstname": "name"}));
        let destination = bench.open(&definition, 1);
        let rows: Vec<Operation> = (0..40_u32)
            .zip(&ids)
            .map(|(n, id)| contact(n, &format!("d{n}"), Some(id), &json!({"firstname": format!("n{n}")})))
            .collect();
        let (rest, memory) = bench.deliver(&*destination, &rows, MINUTE * 20).await;
        assert_eq!(rest.unwrap(), Rest::Nothing, "{fault}");
        assert_eq!(memory.tally().get("accepted"), Some(&40), "{fault}: {:?}", memory.tally());
        let expected = |(n, id): (u32, &String)| (id.clone(), (format!("d{n}"), format!("n{n}")));
        let expected: BTreeMap<String, _> = (0..).zip(&ids).map(expected).collect();
        assert_eq!(names(&twin), expected, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_says_by_itself_how_a_record_moves() {
    const FILE: &str = r#"
name: Desk
objects:
  "*":
    upsert: { method: PUT, path: "/{object}/{match.value}", body: $fields, answer: { results: { at: "", by: [position], id: /id } } }
moves:
  "*": { method: PATCH, path: "/{object}/by-id/{id}", body: $record, answer: { results: { at: "", by: [position], id: /id } } }
"#;
    let file = connector(FILE);
    let twin = ConnectorTwin::builder(file.clone()).token("pat-twin").key("people", ["ref"]).build().unwrap();
    let id = twin.seed("people", "a", &json!({"ref": "a", "phone": "1"}));
    twin.seed("people", "b", &json!({"ref": "b"}));
    let definition = definition(&file, "http://twin", "people", "ref", &json!({}));
    let bench = Bench::in_process(&twin);
    let destination: Arc<dyn crate::Destination> = bench.open(&definition, 1);
    let operations = [
        contact(0, "a2", Some(&id), &json!({"name": "new"})),
        contact(1, "c", Some("77"), &json!({"name": "new"})),
    ];
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(words(&memory), ["accepted", "accepted"]);
    let keys: Vec<String> = twin.records("people").into_iter().map(|record| record.key).collect();
    assert_eq!(keys, ["a2", "b", "c"]);
    let moved = twin.record("people", "a2").unwrap();
    assert_eq!((moved.id, moved.fields["phone"].as_str()), (id, r#""1""#));
}

/// An API that creates by one call and updates by another, by its own id; and searches.
const HALVES: &str = r#"
name: Desk
objects:
  people:
    create: { method: POST, path: /people, body: $record, answer: { results: { at: "", by: [position], id: /id }, created_statuses: [200] } }
    update: { method: PUT, path: "/people/{id}", body: $fields, answer: { results: { at: "", by: [position], id: /id } } }
    delete: { method: DELETE, path: "/people/{id}" }
reads:
  people:
    method: POST
    path: /people/search
    body: { field: $match.field, value: $match.value }
    answer: { results: { at: /data, by: [{ match: "/{match.field}" }], id: /id, fields: "" } }
"#;

#[tokio::test(start_paused = true)]
async fn a_record_is_found_first_where_it_is_told_by_its_own_id_only() {
    let file = connector(HALVES);
    let seeded = || {
        let twin =
            ConnectorTwin::builder(file.clone()).token("pat-twin").key("people", ["ref"]).build().unwrap();
        for n in 0..3 {
            twin.seed("people", &format!("r{n}"), &json!({"ref": format!("r{n}"), "name": "old"}));
        }
        twin
    };
    let row = |n: u32, kind, fields: &Value| operation(n, kind, &json!({"ref": format!("r{n}")}), fields);
    let faults =
        [json!(null), json!("reset"), json!({"status": {"code": 429}}), json!({"status": {"code": 500}})];
    for (mode, kind, words_of) in [
        ("upsert", OperationKind::Upsert, ["accepted", "accepted", "accepted", "created", "created"]),
        (
            "update_only",
            OperationKind::Update,
            ["accepted", "accepted", "accepted", "skipped Missing", "skipped Missing"],
        ),
        (
            "upsert",
            OperationKind::Delete,
            ["accepted", "accepted", "accepted", "skipped Missing", "skipped Missing"],
        ),
    ] {
        for fault in &faults {
            let twin = seeded();
            if !fault.is_null() {
                let when = json!({"path_contains": "search", "nth": 2});
                twin.set_faults(script(json!([{"when": when, "what": fault}])));
            }
            let mut definition = definition(&file, "http://twin", "people", "ref", &json!({}));
            definition.sync.mode = serde_json::from_value(json!(mode)).unwrap();
            definition.sync.on_removed = serde_json::from_value(json!({"delete": "any"})).unwrap();
            let bench = Bench::in_process(&twin);
            let destination = bench.open(&definition, 1);
            let fields = if kind == OperationKind::Delete { json!({}) } else { json!({"name": "new"}) };
            let rows: Vec<Operation> = (0..5).map(|n| row(n, kind, &fields)).collect();
            for again in [false, true] {
                let (rest, memory) = bench.deliver(&*destination, &rows, MINUTE * 5).await;
                assert_eq!(rest.unwrap(), Rest::Nothing, "{mode} {kind:?} {fault}");
                if !again {
                    assert_eq!(words(&memory), words_of, "{mode} {kind:?} {fault}");
                }
            }
            let held = twin.records("people");
            let count = if kind == OperationKind::Delete {
                0
            } else if kind == OperationKind::Update {
                3
            } else {
                5
            };
            assert_eq!(held.len(), count, "{mode} {kind:?} {fault}");
            assert!(held.iter().all(|record| record.fields["name"] == r#""new""#), "{mode} {kind:?} {fault}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_was_there_before_is_archived_by_the_id_that_is_found() {
    let twin = builder().build();
    for n in 0..120 {
        twin.seed("contacts", [("ref", format!("c{n}").as_str())]).unwrap();
    }
    let mut definition = sync("contacts", "ref", json!({"firstname": "name"}));
    definition.sync.on_removed = serde_json::from_value(json!({"archive": "any"})).unwrap();
    let bench = Bench::in_process(&twin);
    let destination = bench.open(&definition, 1);
    let archive = |n: u32| operation(n, OperationKind::Archive, &json!({"ref": format!("c{n}")}), &json!({}));
    let rows: Vec<Operation> = (100..140).map(archive).collect();
    let (rest, memory) = bench.deliver(&*destination, &rows, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    let tally = memory.tally();
    assert_eq!((tally.get("accepted"), tally.get("skipped Missing")), (Some(&20), Some(&20)), "{tally:?}");
    assert_eq!((twin.count("contacts"), twin.archived("contacts").len()), (100, 20));
}

#[tokio::test(start_paused = true)]
async fn custom_objects_are_written_and_associated_by_labels() {
    for object in ["2-4567890", "p1234567_vehicles"] {
        let twin = builder().build();
        let ann = twin.seed("contacts", [("ref", "ann"), ("firstname", "Ann")]).unwrap();
        let bob = twin.seed("contacts", [("ref", "bob"), ("firstname", "Bob")]).unwrap();
        let bench = Bench::in_process(&twin);
        let label = json!({"associationCategory": "USER_DEFINED", "associationTypeId": 28});
        let definition = sync(
            object,
            "plate",
            json!({
                "colour": "colour",
                "owner": {"lookup": {"ref": "owner"}, "object": "contacts", "label": label},
                "contacts": {"lookup": {"ref": "driver"}, "on_missing": "skip"},
            }),
        );
        let destination = bench.open(&definition, 1);
        let rows: Vec<Operation> = (0..120)
            .map(|n| {
                let lookups = json!({"owner": "ann", "contacts": if n == 7 { "nobody" } else { "bob" }});
                let asks = Asks { if_empty: None, lookups: Some(Json::of(&lookups).unwrap()) };
                let matched = json!({"plate": format!("B-{n}")});
                Operation {
                    asks: Some(Box::new(asks)),
                    ..operation(n, OperationKind::Upsert, &matched, &json!({"colour": "red"}))
                }
            })
            .collect();
        let (rest, memory) = bench.deliver(&*destination, &rows, MINUTE).await;
        assert_eq!(rest.unwrap(), Rest::Nothing);
        assert_eq!(memory.tally().get("created"), Some(&120), "{object}: {:?}", memory.tally());
        let seventh = twin.record(object, "plate", "B-7").unwrap();
        assert_eq!(twin.associated(object, &seventh.id, "contacts"), std::slice::from_ref(&ann));
        let eighth = twin.record(object, "plate", "B-8").unwrap();
        assert_eq!(twin.associated(object, &eighth.id, "contacts"), [ann.clone(), bob.clone()]);
        let labelled = BTreeSet::from([("USER_DEFINED".to_owned(), 28)]);
        assert_eq!(twin.labels(object, &eighth.id, "contacts", &ann), labelled);
        assert_eq!(twin.labels(object, &eighth.id, "contacts", &bob), BTreeSet::new());
        let journal = twin.journal();
        let paths: BTreeSet<&str> =
            journal.requests_by_path().keys().map(|(path, _)| path.as_str()).collect();
        let mut expected = [
            format!("/crm/associations/2026-03/{object}/contacts/batch/associate/default"),
            format!("/crm/associations/2026-03/{object}/contacts/batch/create"),
            "/crm/objects/2026-09/contacts/batch/read".to_owned(),
            format!("/crm/objects/2026-09/{object}/batch/upsert"),
        ];
        expected.sort();
        assert_eq!(paths.into_iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_label_needs_an_api_that_knows_several_links() {
    let mut plain = hubspot();
    plain.labelled_links.clear();
    let mut definition = definition(&plain, "http://twin", "contacts", "ref", &json!({}));
    let field = json!({"lookup": {"company_ref": "company"}, "label": {"x": 1}});
    definition.sync.fields = serde_json::from_value(json!({"companies": field})).unwrap();
    let told: Vec<String> = crate::check(&definition)
        .into_iter()
        .map(|problem| format!("{}: {}", problem.pointer, problem.message))
        .collect();
    assert_eq!(
        told,
        ["/sync/fields/companies/label: the connector HubSpot links records in one way only: leave it out"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_access_token_is_renewed_before_it_expires_and_when_its_session_ends() {
    let twin = builder().build();
    let secret =
        json!({"client_id": "twin-app", "client_secret": "twin-secret", "refresh_token": "twin-refresh-0"});
    let secret = secret.to_string();
    let bench = Bench { secrets: Kept::new(&secret, &secret), ..Bench::in_process(&twin) };
    let auth = json!({"auth": {"refresh_token": {"secret": "hubspot"}}});
    let definition = definition(&hubspot(), "http://twin", "contacts", "ref", &auth);
    let destination = bench.open(&definition, 1);
    let rows = [contact(0, "a", None, &json!({"firstname": "Ann"}))];
    let requests = |part: &str| -> u64 {
        let journal = twin.journal();
        let own = journal.requests_by_path().iter().filter(|((path, _), _)| path.contains(part));
        own.map(|(_, count)| count).sum()
    };
    // Minutes to wait; tokens and writes by then.
    for (wait, tokens, writes) in [(0, 1, 1), (20, 1, 2), (11, 2, 3), (31, 3, 4)] {
        tokio::time::sleep(MINUTE * wait).await;
        let (rest, _) = bench.deliver(&*destination, &rows, MINUTE).await;
        assert_eq!(rest.unwrap(), Rest::Nothing);
        assert_eq!((requests("/oauth/2026-09/token"), requests("batch/upsert")), (tokens, writes));
    }
    twin.end_sessions();
    let (rest, _) = bench.deliver(&*destination, &rows, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(
        (requests("/oauth/2026-09/token"), requests("batch/upsert")),
        (4, 6),
        "refused, then sent again"
    );
}
