//! What HubSpot is strict about, and how it answers.

use std::collections::BTreeSet;

use penstock_twins::{
    Action, Counts, HubSpotTwin, HubSpotTwinBuilder, InvalidRows, Kind, Property, ResultOrder, RunningTwin,
    Schema, Twin,
};
use serde_json::{Value, json};

use crate::client::{Answer, exchange, post};

fn builder() -> HubSpotTwinBuilder {
    HubSpotTwin::builder().property("contacts", "external_id", Property::new(Kind::Text).unique()).property(
        "companies",
        "company_ref",
        Property::new(Kind::Text).unique(),
    )
}

async fn start() -> RunningTwin<HubSpotTwin> {
    builder().start().await.unwrap()
}

async fn call(running: &RunningTwin<HubSpotTwin>, name: &str, inputs: Value) -> Answer {
    let path = format!("/crm/objects/2026-09/contacts/batch/{name}");
    post(running.addr(), &path, "pat-twin", &json!({"inputs": inputs})).await.answered()
}

fn row(key: &str, properties: Value) -> Value {
    json!({"idProperty": "external_id", "id": key, "properties": properties, "objectWriteTraceId": format!("t-{key}")})
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn upsert_creates_then_updates_and_an_empty_string_clears() {
    let running = start().await;
    let first =
        call(&running, "upsert", json!([row("c1", json!({"email": "Ann@Example.com", "city": "Ulm"}))]))
            .await;
    assert_eq!(first.status, 200);
    let body = first.json();
    assert_eq!(body["status"], "COMPLETE");
    assert!(body.get("errors").is_none() && body.get("numErrors").is_none());
    let result = &body["results"][0];
    assert_eq!((&result["new"], &result["archived"]), (&json!(true), &json!(false)));
    assert_eq!(result["objectWriteTraceId"], "t-c1");
    assert_eq!(result["properties"]["external_id"], "c1");
    assert_eq!(result["properties"]["email"], "ann@example.com");
    assert_eq!(result["properties"]["hs_object_id"], result["id"]);
    assert!(result["createdAt"].is_string() && result["updatedAt"].is_string());

    let second = call(&running, "upsert", json!([row("c1", json!({"city": "", "phone": "1"}))])).await.json();
    assert_eq!((&second["results"][0]["new"], &second["results"][0]["id"]), (&json!(false), &result["id"]));
    let record = running.twin.record("contacts", "external_id", "c1").unwrap();
    let properties: Vec<_> =
        record.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(properties, ["email=ann@example.com", "external_id=c1", "phone=1"]);
    call(&running, "upsert", json!([row("c1", json!({"phone": "1"}))])).await;

    let journal = running.twin.journal();
    let actions: Vec<Action> = journal.applied().iter().map(|applied| applied.action).collect();
    assert_eq!(actions, [Action::Created, Action::Updated, Action::Unchanged]);
    assert_eq!(journal.writes_per_key("contacts")["c1"], 3);
}

#[tokio::test]
async fn a_contacts_email_is_a_key_whatever_its_case() {
    let running = start().await;
    let by_email =
        |id: &str, name: &str| json!([{"idProperty": "email", "id": id, "properties": {"firstname": name}}]);
    call(&running, "upsert", by_email("Ann@example.com", "Ann")).await;
    let again = call(&running, "upsert", by_email("ann@EXAMPLE.com", "Anna")).await.json();
    assert_eq!(again["results"][0]["new"], false);
    assert_eq!(running.twin.count("contacts"), 1);
    assert_eq!(running.twin.records("contacts")[0].properties["firstname"], "Anna");
}

#[tokio::test]
async fn paths_of_both_kinds_and_of_every_object() {
    let running = builder()
        .object("2-123", Schema::bare().with("code", Property::new(Kind::Text).unique()))
        .start()
        .await
        .unwrap();
    let body = |key: &str| json!({"inputs": [{"idProperty": key, "id": "1", "properties": {}}]});
    for (path, key, status) in [
        ("/crm/v3/objects/contacts/batch/upsert", "external_id", 200),
        ("/crm/objects/2026-03/contacts/batch/upsert", "external_id", 200),
        ("/crm/objects/2026-09/0-1/batch/upsert", "external_id", 200),
        ("/crm/objects/2026-09/companies/batch/upsert", "company_ref", 200),
        ("/crm/v3/objects/2-123/batch/upsert", "code", 200),
        ("/crm/v3/objects/deals/batch/upsert", "code", 400),
        ("/crm/objects/2025-01/contacts/batch/upsert", "external_id", 404),
        ("/crm/v3/objects/contacts/batch/merge", "external_id", 404),
        ("/crm/v3/objects/contacts", "external_id", 404),
    ] {
        let answer = post(running.addr(), path, "pat-twin", &body(key)).await.answered();
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(
        (running.twin.count("contacts"), running.twin.count("companies"), running.twin.count("2-123")),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn the_envelope_must_be_right() {
    let running = start().await;
    let path = "/crm/v3/objects/contacts/batch/create";
    let (auth, json_type) = (("authorization", "Bearer pat-twin"), ("content-type", "application/json"));
    let body = r#"{"inputs": [{"properties": {}}]}"#;
    for (method, headers, body, status, category) in [
        ("POST", vec![json_type], body, 401, "INVALID_AUTHENTICATION"),
        ("POST", vec![("authorization", "Bearer old"), json_type], body, 401, "EXPIRED_AUTHENTICATION"),
        ("POST", vec![("authorization", "Basic pat-twin"), json_type], body, 401, "EXPIRED_AUTHENTICATION"),
        ("GET", vec![auth, json_type], "", 405, "METHOD_NOT_ALLOWED"),
        ("POST", vec![auth], body, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", vec![auth, json_type], "{", 400, "VALIDATION_ERROR"),
        ("POST", vec![auth, json_type], "{}", 400, "VALIDATION_ERROR"),
        ("POST", vec![auth, json_type], r#"{"inputs": []}"#, 400, "VALIDATION_ERROR"),
    ] {
        let answer = exchange(running.addr(), method, path, &headers, body).await.answered();
        assert_eq!(
            (answer.status, &answer.json()["category"]),
            (status, &json!(category)),
            "{method} {body}"
        );
        assert_eq!(answer.json()["status"], "error");
        assert!(answer.json()["correlationId"].is_string());
    }
    running.twin.replace_token("rotated");
    let body = json!({"inputs": [{"properties": {}}]});
    for (token, status) in [("pat-twin", 401), ("rotated", 201)] {
        assert_eq!(post(running.addr(), path, token, &body).await.answered().status, status);
    }
}

#[tokio::test]
async fn what_fails_a_whole_batch() {
    let running = start().await;
    let good = row("good", json!({}));
    let of = |count: usize| json!((0..count).map(|n| row(&n.to_string(), json!({}))).collect::<Vec<_>>());
    let traced =
        |key: &str, trace: &str| json!({"idProperty": "external_id", "id": key, "objectWriteTraceId": trace});
    for (inputs, reason) in [
        (of(101), "maximum number of inputs"),
        (json!([good, row("a", json!({"city": 5}))]), "expected a string"),
        (json!([good, row("a", json!({"city": null}))]), "expected a string"),
        (json!([good, row("a", json!({"is_customer": true}))]), "expected a string"),
        (json!([good, {"idProperty": "external_id", "id": 5}]), "expected a string"),
        (json!([good, row("a", json!({"shoe_size": "44"}))]), "\"name\":\"shoe_size\""),
        (json!([good, row("a", json!({"createdate": "0"}))]), "READ_ONLY_VALUE"),
        (json!([good, good]), "objectWriteTraceId values must be unique"),
        (json!([traced("a", "1"), traced("a", "2")]), "Duplicate IDs"),
        (json!([good, {"idProperty": "phone", "id": "1"}]), "\"phone\" is not a unique property"),
        (json!([good, {"idProperty": "hs_object_id", "id": "1"}]), "is not a unique property"),
        (json!([good, {"id": "1"}]), "inputs[1]: idProperty is required"),
        (json!([good, {"idProperty": "external_id"}]), "inputs[1]: id is required"),
        (json!([good, {"idProperty": "email", "id": "bob@"}]), "INVALID_EMAIL"),
    ] {
        let answer = call(&running, "upsert", inputs).await;
        assert_eq!(
            (answer.status, &answer.json()["category"]),
            (400, &json!("VALIDATION_ERROR")),
            "{reason}"
        );
        assert!(message(&answer).contains(reason), "{} should contain {reason}", message(&answer));
    }
    assert_eq!(running.twin.count("contacts"), 0, "nothing of any batch was written");
    assert_eq!(call(&running, "upsert", of(100)).await.status, 200);
    assert_eq!(running.twin.count("contacts"), 100);
}

#[tokio::test]
async fn an_invalid_row_with_a_trace_id_is_reported_alone() {
    let inputs = json!([row("a", json!({"email": "a@example.com"})), row("b", json!({"email": "bob@"}))]);
    let creates = json!([
        {"properties": {"email": "n@example.com"}, "objectWriteTraceId": "t-n"},
        {"properties": {"email": "bob@"}, "objectWriteTraceId": "t-b"},
    ]);
    let running = start().await;
    for (name, inputs, status) in [("upsert", &inputs, 200), ("create", &creates, 207)] {
        let answer = call(&running, name, inputs.clone()).await;
        assert_eq!(answer.status, status);
        let body = answer.json();
        assert_eq!((&body["numErrors"], body["results"].as_array().unwrap().len()), (&json!(1), 1), "{name}");
        assert_eq!(body["errors"][0]["category"], "VALIDATION_ERROR");
        assert_eq!(body["errors"][0]["context"], json!({"objectWriteTraceId": ["t-b"]}));
    }
    assert_eq!(running.twin.count("contacts"), 2);

    let strict = builder().invalid_rows(InvalidRows::FailTheBatch).start().await.unwrap();
    assert_eq!(call(&strict, "upsert", inputs).await.status, 400);
    assert_eq!(strict.twin.count("contacts"), 0);
}

#[tokio::test]
async fn unique_values_conflict() {
    let running = start().await;
    let id = running.twin.seed("contacts", [("email", "a@example.com"), ("external_id", "c1")]).unwrap();
    let create = |traced: bool| {
        let mut input = json!({"properties": {"email": "A@example.com"}});
        if traced {
            input["objectWriteTraceId"] = json!("t");
        }
        json!([input])
    };
    let whole = call(&running, "create", create(false)).await;
    assert_eq!((whole.status, &whole.json()["category"]), (409, &json!("CONFLICT")));
    assert!(message(&whole).contains(&format!("Existing ID: {id}")));
    let reported = call(&running, "create", create(true)).await;
    assert_eq!((reported.status, &reported.json()["errors"][0]["category"]), (207, &json!("CONFLICT")));
    let taken = call(&running, "upsert", json!([row("c2", json!({"email": "a@example.com"}))])).await.json();
    assert_eq!(taken["errors"][0]["category"], "CONFLICT");
    let twins = call(
        &running,
        "upsert",
        json!([row("c3", json!({"email": "x@example.com"})), row("c4", json!({"email": "x@example.com"})),]),
    )
    .await
    .json();
    assert_eq!(twins["errors"][0]["context"]["objectWriteTraceId"], json!(["t-c4"]));
    assert_eq!(running.twin.count("contacts"), 2);
    let same = call(&running, "upsert", json!([row("c1", json!({"email": "a@example.com"}))])).await.json();
    assert!(same.get("errors").is_none(), "its own value is no conflict");
}

#[tokio::test]
async fn update_by_id_and_by_a_unique_property() {
    let running = start().await;
    let id = running.twin.seed("contacts", [("external_id", "c1")]).unwrap();
    let answer = call(&running, "update", json!([{"id": id, "properties": {"city": "Ulm"}}])).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["results"][0].get("new").is_none());
    let answer = call(
        &running,
        "update",
        json!([row("c1", json!({"city": "Bonn"})), row("c9", json!({"city": "Bonn"}))]),
    )
    .await;
    assert_eq!((answer.status, &answer.json()["numErrors"]), (207, &json!(1)));
    let error = &answer.json()["errors"][0];
    assert_eq!(error["category"], "OBJECT_NOT_FOUND");
    assert_eq!(error["context"], json!({"ids": ["c9"], "objectWriteTraceId": ["t-c9"]}));
    assert_eq!(running.twin.record("contacts", "hs_object_id", &id).unwrap().properties["city"], "Bonn");
    assert_eq!(call(&running, "create", json!([{"id": "1", "properties": {}}])).await.status, 400);
}

#[tokio::test]
async fn archive_is_silent_about_what_is_not_there_and_frees_the_key() {
    let running = start().await;
    let id = running.twin.seed("contacts", [("external_id", "c1"), ("email", "a@example.com")]).unwrap();
    let answer = call(&running, "archive", json!([{"id": id}, {"id": "999"}])).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!((running.twin.count("contacts"), running.twin.archived("contacts").len()), (0, 1));
    let counts = Counts { deleted: 1, unchanged: 1, ..Counts::default() };
    assert_eq!(running.twin.journal().counts("contacts"), counts);
    assert_eq!(call(&running, "archive", json!([{"id": "1"}, {"id": "1"}])).await.status, 400);
    let again = call(&running, "upsert", json!([row("c1", json!({"email": "a@example.com"}))])).await.json();
    assert_eq!(again["results"][0]["new"], true);
    assert_ne!(again["results"][0]["id"], json!(id));
}

#[tokio::test]
async fn read_gives_what_was_asked_for() {
    let running = start().await;
    let id = running.twin.seed("contacts", [("external_id", "c1"), ("email", "a@example.com")]).unwrap();
    let read = async |body: Value| {
        post(running.addr(), "/crm/v3/objects/contacts/batch/read", "pat-twin", &body).await.answered()
    };
    let answer = read(
        json!({"idProperty": "external_id", "properties": ["city", "external_id"], "inputs": [{"id": "c1"}]}),
    )
    .await;
    assert_eq!(answer.status, 200);
    let result = &answer.json()["results"][0];
    assert_eq!((&result["id"], &result["properties"]["external_id"]), (&json!(id), &json!("c1")));
    assert_eq!(
        (result["properties"].get("city"), result["properties"].get("email")),
        (Some(&Value::Null), None)
    );
    let answer = read(json!({"inputs": [{"id": id}, {"id": "7"}, {"id": "8"}]})).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json()["results"][0]["properties"]["email"], "a@example.com");
    assert_eq!(answer.json()["errors"][0]["context"], json!({"ids": ["7", "8"]}));
    assert_eq!(read(json!({"idProperty": "phone", "inputs": [{"id": "1"}]})).await.status, 400);
}

#[tokio::test]
async fn results_come_in_another_order_than_inputs() {
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let inputs = json!(keys.iter().map(|key| row(key, json!({}))).collect::<Vec<_>>());
    let order = async |order: Option<ResultOrder>| {
        let builder = order.map_or_else(builder, |order| builder().result_order(order));
        let answer = call(&builder.start().await.unwrap(), "upsert", inputs.clone()).await.json();
        let key = |result: &Value| {
            let key = result["properties"]["external_id"].as_str().unwrap();
            assert_eq!(result["objectWriteTraceId"], json!(format!("t-{key}")));
            key.to_owned()
        };
        answer["results"].as_array().unwrap().iter().map(key).collect::<Vec<_>>()
    };
    let shuffled = order(None).await;
    assert_ne!(shuffled, keys);
    assert_eq!(shuffled.iter().collect::<BTreeSet<_>>(), keys.iter().collect());
    assert_eq!(order(Some(ResultOrder::Shuffled { seed: 0 })).await, shuffled);
    assert_ne!(order(Some(ResultOrder::Shuffled { seed: 1 })).await, shuffled);
    assert_eq!(order(Some(ResultOrder::AsSent)).await, keys);
}
