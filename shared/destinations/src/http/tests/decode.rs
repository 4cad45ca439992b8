use penstock_model::Timestamp;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{connector, definition, hubspot};
use crate::http::compile::compile;
use crate::http::decode::{Decoded, Verdict, decode};
use crate::http::encode::CompiledOperation;
use crate::http::transport::{HeaderMap, HeaderValue};
use crate::testing::{operation, word};

fn rows(kind: OperationKind, count: u32) -> Vec<Operation> {
    let mut rows: Vec<Operation> = (0..count)
        .map(|n| operation(n + 10, kind, &json!({"email": format!("u{n}@x")}), &json!({})))
        .collect();
    for (row, n) in rows.iter_mut().zip(0..) {
        row.id = Some(format!("id{n}"));
    }
    rows
}

fn show(decoded: &Decoded) -> String {
    match decoded {
        Decoded::Rows(verdicts) => verdicts.iter().map(show_verdict).collect::<Vec<_>>().join(", "),
        Decoded::Halve
        | Decoded::Throttled { .. }
        | Decoded::Unavailable { .. }
        | Decoded::Unauthorized
        | Decoded::QuotaExhausted { .. }
        | Decoded::Refused => format!("{decoded:?}"),
    }
}

fn show_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Found(_) => "found".into(),
        Verdict::Done(outcome) => word(outcome),
        Verdict::Again(refusal) => format!("again {}", refusal.code),
        Verdict::Resend => "resend".into(),
        Verdict::Lost(_) => "lost".into(),
    }
}

fn decoded(compiled: &CompiledOperation, count: u32, status: u16, body: &[u8]) -> Decoded {
    let rows = rows(compiled.kind, count);
    let rows: Vec<&Operation> = rows.iter().collect();
    decode(compiled, &rows, status, &HeaderMap::new(), body, Timestamp(0))
}

fn check(compiled: &CompiledOperation, cases: &[(u32, u16, Value, &str)]) {
    for (count, status, body, expected) in cases {
        let decoded = decoded(compiled, *count, *status, body.to_string().as_bytes());
        assert_eq!(show(&decoded), *expected, "{status} {body}");
    }
}

fn hubspot_operation(kind: OperationKind) -> CompiledOperation {
    let definition = definition(&hubspot(), "https://api.hubapi.com", "contacts", "email", &json!({}));
    compile(&definition, &hubspot()).unwrap().operations.remove(&kind).unwrap()
}

fn of_file(file: &str) -> CompiledOperation {
    let connector = connector(file);
    let definition = definition(&connector, "https://crm.example", "users", "email", &json!({}));
    compile(&definition, &connector).unwrap().operations.remove(&OperationKind::Upsert).unwrap()
}

#[test]
fn hubspot_upserts() {
    let traced = |n: u32, new: bool| json!({"id": "1", "new": new, "objectWriteTraceId": format!("{n}"), "properties": {}});
    let echoed = |email: &str| json!({"id": "1", "new": true, "properties": {"email": email}});
    let error = |category: &str, context: Value| json!({"status": "error", "category": category, "message": "m", "context": context});
    let whole = |category: &str| json!({"status": "error", "category": category, "message": "m"});
    check(
        &hubspot_operation(OperationKind::Upsert),
        &[
            (2, 200, json!({"results": [traced(11, true), traced(10, false)]}), "updated, created"),
            (2, 200, json!({"results": [echoed("U1@X"), echoed("u0@x")]}), "created, created"),
            (
                3,
                207,
                json!({"results": [traced(11, true)], "errors": [
                error("VALIDATION_ERROR", json!({"objectWriteTraceId": ["10"]})), error("RATE_LIMITS", json!({"ids": ["u2@x"]}))]}),
                "rejected VALIDATION_ERROR, created, again RATE_LIMITS",
            ),
            (
                2,
                200,
                json!({"results": [traced(11, true)], "errors": [error("CONFLICT", json!({"objectWriteTraceId": "11"}))]}),
                "lost, rejected CONFLICT",
            ),
            (2, 200, json!({"results": [traced(99, true)]}), "lost, lost"),
            (2, 200, json!({"message": "done"}), "lost, lost"),
            (2, 200, json!(null), "lost, lost"),
            (2, 400, whole("VALIDATION_ERROR"), "Halve"),
            (1, 400, whole("VALIDATION_ERROR"), "rejected VALIDATION_ERROR"),
            (2, 409, whole("CONFLICT"), "Halve"),
            (1, 413, json!("too large"), "rejected http_413"),
            (2, 404, whole("NOT_FOUND"), "Refused"),
            (2, 401, whole("EXPIRED_AUTHENTICATION"), "Unauthorized"),
            (2, 403, whole("MISSING_SCOPES"), "Unauthorized"),
            (
                2,
                429,
                json!({"errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}),
                "Throttled { after: None }",
            ),
            (
                2,
                429,
                json!({"errorType": "RATE_LIMIT", "policyName": "DAILY"}),
                "QuotaExhausted { after: None }",
            ),
            (2, 477, json!({}), "Unavailable { after: None }"),
            (2, 502, json!("<html>"), "Unavailable { after: None }"),
            (2, 301, json!({}), "Refused"),
        ],
    );
}

#[test]
fn hubspot_modes() {
    let whole = |category: &str| json!({"status": "error", "category": category, "message": "m"});
    check(
        &hubspot_operation(OperationKind::Create),
        &[
            (1, 201, json!({"results": [{"id": "7", "objectWriteTraceId": "10"}]}), "created"),
            (1, 409, whole("CONFLICT"), "skipped Exists"),
            (
                2,
                207,
                json!({"results": [], "errors": [{"category": "CONFLICT", "context": {"objectWriteTraceId": ["10", "11"]}}]}),
                "skipped Exists, skipped Exists",
            ),
        ],
    );
    check(
        &hubspot_operation(OperationKind::Clear),
        &[
            (1, 404, whole("OBJECT_NOT_FOUND"), "skipped Missing"),
            (2, 404, whole("OBJECT_NOT_FOUND"), "Halve"),
            (
                2,
                207,
                json!({"results": [{"id": "1", "properties": {"email": "u1@x"}}], "errors": [{"category": "OBJECT_NOT_FOUND", "context": {"ids": ["u0@x"]}}]}),
                "skipped Missing, accepted",
            ),
        ],
    );
    let archive = hubspot_operation(OperationKind::Archive);
    assert_eq!(show(&decoded(&archive, 2, 204, b"")), "accepted, accepted");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
    let one = rows(OperationKind::Archive, 1);
    assert_eq!(show(&decode(&archive, &[&one[0]], 200, &headers, b"<html>", Timestamp(0))), "lost");
}

/// Forms of other APIs that a connector file has to be able to say.
#[test]
fn other_apis() {
    // Errors by index under 201, and a proof that the answer is one (Braze).
    let braze = of_file(
        "{name: Braze, objects: {'*': {upsert: {method: POST, path: /users/track, batch: {rows: 75},
          body: {attributes: {$each: {'...': $fields, external_id: $match.value}}},
          answer: {proof: {at: /message, is: [success]}, errors: [{at: /errors, by: [{index: /index}], code: /type, message: /type}]}}}}}",
    );
    check(
        &braze,
        &[
            (
                2,
                201,
                json!({"message": "success", "errors": [{"type": "bad", "input_array": "attributes", "index": 1}]}),
                "accepted, rejected bad",
            ),
            (2, 201, json!({"message": "success"}), "accepted, accepted"),
            (2, 201, json!({"message": "queued"}), "lost, lost"),
            (
                2,
                400,
                json!({"message": "no", "errors": [{"type": "bad", "index": 0}]}),
                "rejected bad, resend",
            ),
        ],
    );
    // Errors by an echoed key under 200 (Mailchimp).
    let mailchimp = of_file(
        "{name: Mailchimp, statuses: {403: throttled}, objects: {'*': {upsert: {method: POST, path: /lists/1, batch: {rows: 500},
          body: {members: {$each: $record}, update_existing: true},
          answer: {proof: {at: /error_count}, errors: [{at: /errors, by: [{match: /email_address}], code: /error_code, message: /error, field: /field}]}}}}}",
    );
    check(
        &mailchimp,
        &[
            (
                2,
                200,
                json!({"error_count": 1, "errors": [{"email_address": "u0@x", "error_code": "ERROR_GENERIC"}]}),
                "rejected ERROR_GENERIC, accepted",
            ),
            (2, 200, json!({"new_members": []}), "lost, lost"),
            (2, 403, json!("busy"), "Throttled { after: None }"),
        ],
    );
    // A 400 that names bad records, while the others are imported (Mixpanel).
    let mixpanel = of_file(
        "{name: Mixpanel, objects: {'*': {upsert: {method: POST, path: '/engage?strict=1', batch: {rows: 2000},
          body: {$each: {$distinct_id: $match.value, $set: $fields}},
          answer: {proof: {at: /status}, refused_rest: accepted, errors: [{at: /failed_records, by: [{index: /index}], fixed_code: invalid, message: /message, field: /field}]}}}}}",
    );
    check(
        &mixpanel,
        &[
            (2, 400, json!({"failed_records": [{"index": 0, "message": "m"}]}), "rejected invalid, accepted"),
            (2, 400, json!({"error": "not JSON"}), "Halve"),
            (2, 200, json!({"status": "OK"}), "accepted, accepted"),
        ],
    );
    // Lists of plain keys (Iterable).
    let iterable = of_file(
        "{name: Iterable, objects: {'*': {upsert: {method: POST, path: /api/users/bulkUpdate, batch: {rows: 1000},
          body: {users: {$each: {email: $match.value, dataFields: $fields}}},
          answer: {proof: {at: /successCount}, errors: [{at: /failedUpdates/invalidDataEmails, by: [{match: ''}], fixed_code: invalid_data}]}}}}}",
    );
    check(
        &iterable,
        &[(
            2,
            200,
            json!({"successCount": 1, "failedUpdates": {"invalidDataEmails": ["u1@x"]}}),
            "accepted, rejected invalid_data",
        )],
    );
    // One result per row in order, and codes for the whole request, all under 200 (Marketo).
    let marketo = of_file(
        "{name: Marketo, error: {code: /errors/0/code, message: /errors/0/message}, codes: {'601': unauthorized, '606': throttled, '607': quota, '1004': missing},
          objects: {'*': {upsert: {method: POST, path: /rest/v1/leads.json, batch: {rows: 300}, body: {input: {$each: $record}},
          answer: {proof: {at: /success}, results: {at: /result, by: [position], id: /id, accepted: {at: /status, is: [created, updated]},
            created: {at: /status, is: [created]}, code: /reasons/0/code, message: /reasons/0/message}}}}}}",
    );
    check(
        &marketo,
        &[
            (
                2,
                200,
                json!({"success": true, "result": [{"id": 50, "status": "created"}, {"status": "skipped", "reasons": [{"code": "1007"}]}]}),
                "created, rejected 1007",
            ),
            (2, 200, json!({"success": true, "result": [{"id": 50, "status": "created"}]}), "lost, lost"),
            (2, 200, json!({"success": false, "errors": [{"code": "606"}]}), "Throttled { after: None }"),
            (
                2,
                200,
                json!({"success": false, "errors": [{"code": "607"}]}),
                "QuotaExhausted { after: None }",
            ),
            (2, 200, json!({"success": false, "errors": [{"code": "609"}]}), "Halve"),
            (2, 200, json!({"success": false}), "lost, lost"),
        ],
    );
    // One row per request, by its own path.
    let single = of_file(
        "{name: CRM, objects: {'*': {upsert: {method: PUT, path: '/users/{match.value}', body: $record,
          answer: {results: {at: '', by: [position], id: /id}, created_statuses: [201]}}}}}",
    );
    check(
        &single,
        &[
            (1, 201, json!({"id": 7}), "created"),
            (1, 200, json!({"id": 7}), "accepted"),
            (1, 404, json!({}), "rejected http_404"),
            (1, 422, json!({}), "rejected http_422"),
        ],
    );
}

#[test]
fn a_code_with_a_star_stands_for_all_that_begin_so() {
    let file = |codes: Value| {
        of_file(
            &json!({
                "name": "words", "error": {"code": ["/code", "/why"]}, "codes": codes,
                "objects": {"users": {"upsert": {"method": "PUT", "path": "/{match.value}"}}},
            })
            .to_string(),
        )
    };
    let said = |why: &str| json!({"code": 9, "why": why});
    check(
        &file(json!({"Too many*": "throttled", "Too many fields": "rejected", "Too*": "unauthorized"})),
        &[
            (1, 400, said("Too many calls"), "Throttled { after: None }"),
            (1, 400, said("Too many"), "Throttled { after: None }"),
            (1, 400, said("Too many fields"), "rejected Too many fields"),
            (1, 400, said("Too late"), "Unauthorized"),
            (1, 400, said("To be sure"), "rejected 9"),
        ],
    );
}

fn answer_like() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..20).prop_map(Value::from),
        "(u[0-4]@x|1[0-4]|CONFLICT|RATE_LIMITS|DAILY|x)".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let name =
            "(results|errors|context|ids|objectWriteTraceId|properties|email|id|new|category|policyName)";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(name, inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn one_verdict_each(kind: OperationKind, count: u32, status: u16, body: &[u8]) -> Result<(), TestCaseError> {
    match decoded(&hubspot_operation(kind), count, status, body) {
        Decoded::Rows(verdicts) => prop_assert_eq!(verdicts.len(), usize::try_from(count).unwrap()),
        Decoded::Halve => prop_assert!(count > 1),
        Decoded::Throttled { .. }
        | Decoded::Unavailable { .. }
        | Decoded::Unauthorized
        | Decoded::QuotaExhausted { .. }
        | Decoded::Refused => {}
    }
    Ok(())
}

fn kinds() -> impl Strategy<Value = OperationKind> {
    prop_oneof![
        Just(OperationKind::Upsert),
        Just(OperationKind::Create),
        Just(OperationKind::Clear),
        Just(OperationKind::Archive)
    ]
}

proptest! {
    /// Any bytes under any status: one verdict per row, and no row accepted by bytes that are not an answer.
    #[test]
    fn any_bytes(kind in kinds(), count in 1_u32..5, status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..80)) {
        one_verdict_each(kind, count, status, &body)?;
        if kind != OperationKind::Archive
            && let Decoded::Rows(verdicts) = decoded(&hubspot_operation(kind), count, status, &body)
        {
            let accepted = |verdict: &Verdict| matches!(verdict, Verdict::Done(Outcome::Accepted { .. }));
            prop_assert!(!verdicts.iter().any(accepted));
        }
    }

    /// JSON with the right names in the wrong places.
    #[test]
    fn any_json(kind in kinds(), count in 1_u32..5, status in prop::sample::select(vec![200_u16, 207, 400, 404, 409, 429, 500]), body in answer_like()) {
        one_verdict_each(kind, count, status, body.to_string().as_bytes())?;
    }

    /// A body that is cut anywhere leaves every row unknown.
    #[test]
    fn a_cut_body_accepts_nothing(count in 1_u32..5, at in 0.0_f64..1.0) {
        let results: Vec<Value> = (0..count).map(|n| json!({"id": "1", "objectWriteTraceId": format!("{}", n + 10)})).collect();
        let body = json!({"status": "COMPLETE", "results": results}).to_string();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place within a short text")]
        let cut = (body.len() as f64 * at) as usize;
        let decoded = decoded(&hubspot_operation(OperationKind::Upsert), count, 200, &body.as_bytes()[..cut]);
        let Decoded::Rows(verdicts) = decoded else { return Err(TestCaseError::fail("not rows")) };
        let lost = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Lost(_)));
        prop_assert!(lost);
    }
}
