use penstock_model::definition::MatchColumn;
use penstock_model::operation::{Operation, OperationKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{connector, definition, hubspot};
use crate::http::compile::compile;
use crate::http::encode::{CompiledOperation, encode};
use crate::testing::{operation, word};

fn compiled(file: &str, kind: OperationKind) -> CompiledOperation {
    let connector = connector(file);
    let definition = definition(&connector, "https://crm.example/base/", "contacts", "email", &json!({}));
    compile(&definition, &connector).unwrap().operations.remove(&kind).unwrap()
}

fn hubspot_operation(kind: OperationKind) -> CompiledOperation {
    let definition = definition(&hubspot(), "https://api.hubapi.com", "contacts", "email", &json!({}));
    compile(&definition, &hubspot()).unwrap().operations.remove(&kind).unwrap()
}

/// Method, URL and body, as text.
fn shown(compiled: &CompiledOperation, rows: &[&Operation]) -> String {
    let request = encode(compiled, rows);
    format!("{} {}\n{}", request.method, request.url, std::str::from_utf8(&request.body).unwrap())
}

fn row(n: u32) -> Operation {
    operation(
        n,
        OperationKind::Upsert,
        &json!({"email": "a\"b@x"}),
        &json!({"firstname": "Ann", "phone": ""}),
    )
}

#[test]
fn hubspot_requests() {
    let mut archived = row(9);
    archived.id = Some("512".into());
    let upsert = shown(&hubspot_operation(OperationKind::Upsert), &[&row(3), &row(4)]);
    insta::assert_snapshot!(upsert, @r#"
    POST https://api.hubapi.com/crm/objects/2026-09/contacts/batch/upsert
    {"inputs":[{"id":"a\"b@x","idProperty":"email","objectWriteTraceId":"3","properties":{"firstname":"Ann","phone":""}},{"id":"a\"b@x","idProperty":"email","objectWriteTraceId":"4","properties":{"firstname":"Ann","phone":""}}]}
    "#);
    let create = shown(&hubspot_operation(OperationKind::Create), &[&row(3)]);
    insta::assert_snapshot!(create, @r#"
    POST https://api.hubapi.com/crm/objects/2026-09/contacts/batch/create
    {"inputs":[{"objectWriteTraceId":"3","properties":{"email":"a\"b@x","firstname":"Ann","phone":""}}]}
    "#);
    let archive = shown(&hubspot_operation(OperationKind::Archive), &[&archived]);
    insta::assert_snapshot!(archive, @r#"
    POST https://api.hubapi.com/crm/objects/2026-09/contacts/batch/archive
    {"inputs":[{"id":"512"}]}
    "#);
}

#[test]
fn paths_texts_and_members() {
    let file = r#"
name: CRM
settings: { region: { default: "e u" } }
headers: { X-Region: "{region}" }
objects:
  contacts:
    upsert:
      method: PUT
      path: /{region}/{object}/{match.value}?by={match.field}
      body: { "...": $fields, "a{{b}}": "{region} \"{object}\"", literal: $$id, fixed: [1, null, true], key: $key }
    delete: { method: DELETE, path: "/contacts/{id}" }
    append: { method: POST, path: /, batch: { rows: 9 }, body: { $each: { "...": $match } } }
"#;
    let upsert = compiled(file, OperationKind::Upsert);
    insta::assert_snapshot!(shown(&upsert, &[&row(0)]), @r#"
    PUT https://crm.example/base/e%20u/contacts/a%22b%40x?by=email
    {"a{{b}}":"e u \"contacts\"","fixed":[1,null,true],"key":{"email":"a\"b@x"},"literal":"$id","firstname":"Ann","phone":""}
    "#);
    assert_eq!(encode(&upsert, &[&row(0)]).headers["x-region"], "e u");
    let empty = operation(0, OperationKind::Upsert, &json!({"email": 7}), &json!({}));
    insta::assert_snapshot!(shown(&upsert, &[&empty]), @r#"
    PUT https://crm.example/base/e%20u/contacts/7?by=email
    {"a{{b}}":"e u \"contacts\"","fixed":[1,null,true],"key":{"email":7},"literal":"$id"}
    "#);
    let mut removed = row(0);
    removed.id = Some("7/ä".into());
    assert_eq!(
        shown(&compiled(file, OperationKind::Delete), &[&removed]),
        "DELETE https://crm.example/base/contacts/7%2F%C3%A4\n"
    );
    let append = compiled(file, OperationKind::Append);
    assert_eq!(
        shown(&append, &[&empty, &empty]),
        "POST https://crm.example/base/\n[{\"email\":7},{\"email\":7}]"
    );
}

#[test]
fn what_cannot_be_sent_is_rejected_unsent() {
    let archive = hubspot_operation(OperationKind::Archive);
    assert_eq!(archive.unsendable(&row(0)).as_ref().map(word).as_deref(), Some("rejected id_unknown"));
    let upsert = hubspot_operation(OperationKind::Upsert);
    assert!(upsert.unsendable(&row(0)).is_none());
    for empty in [json!({"email": null}), json!({"email": ""}), json!({})] {
        let row = operation(0, OperationKind::Upsert, &empty, &json!({}));
        assert_eq!(upsert.unsendable(&row).as_ref().map(word).as_deref(), Some("rejected match_empty"));
    }
    let large =
        operation(0, OperationKind::Upsert, &json!({"email": "a"}), &json!({"x": "y".repeat(3_000_000)}));
    assert_eq!(upsert.unsendable(&large).as_ref().map(word).as_deref(), Some("rejected too_large"));
}

#[test]
fn a_sync_that_does_not_fit_is_told_everything_at_once() {
    let connection = json!({"auth": {"basic": {"secret": "x"}}, "settings": {"colour": "red"}});
    let mut definition = definition(&hubspot(), "api.hubapi.com", "contacts", "email", &connection);
    definition.sync.matched.insert("other".into(), MatchColumn::Column("column".into()));
    let problems = compile(&definition, &hubspot()).unwrap_err();
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/connection/settings/colour", "/connection/auth", "/connection/address", "/sync/match"]
    );
}

proptest! {
    /// Whatever the rows hold, the body is JSON with one element per row that holds it, and no larger than foreseen.
    #[test]
    fn bodies_are_json_with_every_row(texts in prop::collection::vec(("\\PC{1,12}", "\\PC{0,12}"), 1..20)) {
        let compiled = hubspot_operation(OperationKind::Upsert);
        let rows: Vec<Operation> = texts.iter().zip(0..).map(|((key, text), n)| {
            operation(n, OperationKind::Upsert, &json!({"email": key}), &json!({"x": text}))
        }).collect();
        let rows: Vec<&Operation> = rows.iter().collect();
        let request = encode(&compiled, &rows);
        let foreseen: usize = rows.iter().map(|row| compiled.size_of(row)).sum();
        prop_assert!(request.body.len() <= foreseen + compiled.size_around());
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let inputs = body["inputs"].as_array().unwrap();
        prop_assert_eq!(inputs.len(), texts.len());
        for (input, (key, text)) in inputs.iter().zip(&texts) {
            prop_assert_eq!(&input["id"], &json!(key));
            prop_assert_eq!(&input["properties"]["x"], &json!(text));
        }
    }
}
