//! What does not fit the file is refused as a whole.

use penstock_model::connector::HttpConnector;
use penstock_twins::http::{HeaderMap, HeaderValue, Method};
use penstock_twins::{ConnectorTwin, RunningTwin, Twin};
use serde_json::{Value, json};

use crate::bench::{hubspot, page, shipped};
use crate::outcomes::batch_api;

struct Call<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'static str, &'static str)],
    body: String,
}

const BEARER: &[(&str, &str)] = &[("authorization", "Bearer twin"), ("content-type", "application/json")];

fn send(twin: &ConnectorTwin, call: &Call<'_>) -> (u16, Value) {
    let mut headers = HeaderMap::new();
    for (name, value) in call.headers {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    let answer = twin.handle(&call.method, call.path, &headers, call.body.as_bytes()).outcome.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
}

fn post<'a>(path: &'a str, body: &Value) -> Call<'a> {
    Call { method: Method::POST, path, headers: BEARER, body: body.to_string() }
}

#[test]
fn a_request_that_does_not_fit_changes_nothing() {
    let path = "/v2/people/batch";
    let person = |id: &str| json!({"external_id": id, "attributes": {"name": "Ann"}});
    let many: Vec<Value> = (0..101).map(|n| person(&format!("p{n}"))).collect();
    let large = json!({"people": [{"external_id": "p", "attributes": {"name": "x".repeat(1_000_000)}}]});
    let plain = Call {
        headers: &[("authorization", "Bearer twin")],
        ..post(path, &json!({"people": [person("p")]}))
    };
    let stranger = Call { headers: &[("content-type", "application/json")], ..post(path, &json!({})) };
    for (call, status, words) in [
        (post("/v3/people/batch", &json!({})), 404, "path"),
        (post("/v2/people/batch?x=1", &json!({})), 404, "path"),
        (Call { method: Method::PUT, ..post(path, &json!({})) }, 405, "method"),
        (Call { body: "{".to_owned(), ..post(path, &json!({})) }, 400, "JSON"),
        (post(path, &json!([])), 400, "object"),
        (post(path, &json!({"people": {}})), 400, "/people"),
        (post(path, &json!({"people": []})), 400, "1 to 100"),
        (post(path, &json!({"people": many})), 400, "1 to 100"),
        (post(path, &json!({"people": [person("p"), {"external_id": "q"}]})), 400, "/people/1"),
        (
            post(path, &json!({"people": [{"external_id": "q", "attributes": []}]})),
            400,
            "/people/0/attributes",
        ),
        (post(path, &json!({"people": [person("p")], "more": 1})), 400, "does not name"),
        (
            Call {
                body: r#"{"people": [{"external_id": "a", "external_id": "b", "attributes": {}}]}"#
                    .to_owned(),
                ..post(path, &json!({}))
            },
            400,
            "twice",
        ),
        (post(path, &large), 413, "bytes"),
        (plain, 415, "application/json"),
        (stranger, 401, "credential"),
    ] {
        let twin = ConnectorTwin::builder(page()).build().unwrap();
        let (given, body) = send(&twin, &call);
        assert_eq!(given, status, "{body}");
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message} should say {words}");
        assert_eq!((twin.count("people"), twin.journal().applied().len()), (0, 0));
    }
}

#[test]
fn an_empty_match_value_is_its_rows_error() {
    let twin = ConnectorTwin::builder(page()).build().unwrap();
    let rows = json!([{"external_id": "", "attributes": {}}, {"external_id": null, "attributes": {}}, {"external_id": 7, "attributes": {}}]);
    let (status, body) = send(&twin, &post("/v2/people/batch", &json!({"people": rows})));
    assert_eq!((status, body["errors"].as_array().unwrap().len()), (200, 2), "{body}");
    assert_eq!(
        body["errors"][1],
        json!({"index": 1, "code": "missing_key", "message": "the match field must be a text that is not empty, or a number"})
    );
    assert_eq!(twin.records("people")[0].key, "7");
}

#[test]
fn values_that_the_file_wants_as_texts_must_be_texts() {
    let twin = ConnectorTwin::builder(hubspot()).key("*", ["email"]).build().unwrap();
    let input = |value: Value| json!({"inputs": [{"idProperty": "email", "id": "a@x", "properties": {"n": value}, "objectWriteTraceId": "0"}]});
    let path = "/crm/objects/2026-09/contacts/batch/upsert";
    assert_eq!(send(&twin, &post(path, &input(json!(1)))).0, 400);
    assert_eq!(send(&twin, &post(path, &input(json!("1")))).0, 200);
    let other =
        json!({"inputs": [{"idProperty": "phone", "id": "1", "properties": {}, "objectWriteTraceId": "0"}]});
    assert_eq!(send(&twin, &post(path, &other)).0, 400, "the twin's key is email");
    assert_eq!(twin.records("contacts")[0].to_value(), json!({"email": "a@x", "n": "1"}));
}

#[test]
fn headers_and_idempotency_keys_are_asked_for() {
    let mut file = page();
    file.headers.insert("Api-Version".to_owned(), "8".to_owned());
    let twin = ConnectorTwin::builder(file).build().unwrap();
    let body = json!({"people": [{"external_id": "a", "attributes": {}}]});
    let (status, answer) = send(&twin, &post("/v2/people/batch", &body));
    assert_eq!(status, 400, "{answer}");
    let headers =
        &[("authorization", "Bearer twin"), ("content-type", "application/json"), ("api-version", "8")];
    assert_eq!(send(&twin, &Call { headers, ..post("/v2/people/batch", &body) }).0, 200);

    let file = batch_api();
    let twin = ConnectorTwin::builder(file).key("*", ["id"]).build().unwrap();
    let body = |id: u32| json!({"records": [{"id": id}]}).to_string();
    let keyed =
        &[("authorization", "Bearer twin"), ("content-type", "application/json"), ("idempotency-key", "k1")];
    let call = |headers: &'static [(&'static str, &'static str)], body: String| Call {
        method: Method::POST,
        path: "/tickets/append",
        headers,
        body,
    };
    assert_eq!(send(&twin, &call(BEARER, body(1))).0, 400);
    let first = send(&twin, &call(keyed, body(1)));
    assert_eq!(first.0, 200);
    assert_eq!(send(&twin, &call(keyed, body(1))), first, "the same answer, and not carried out again");
    assert_eq!(send(&twin, &call(keyed, body(2))).0, 422);
    assert_eq!(twin.appended("tickets").len(), 1);
}

#[test]
fn what_can_not_be_simulated_is_said_with_its_place() {
    let problems = |connector: HttpConnector| -> Vec<String> {
        let built = ConnectorTwin::builder(connector).build();
        built.err().unwrap_or_default().into_iter().map(|problem| problem.pointer).collect()
    };
    assert_eq!(problems(shipped("mailchimp")), ["/objects/*/upsert", "/objects/*/create"]);
    assert_eq!(problems(page()), Vec::<String>::new());
    let mut file = page();
    file.settings.get_mut("version").unwrap().default = None;
    assert_eq!(
        problems(file.clone()),
        ["/settings/version", "/objects/people/upsert", "/objects/people/delete"]
    );
    assert!(ConnectorTwin::builder(file).setting("version", "v9").build().is_ok());
}

#[test]
fn a_form_is_read_and_its_credential_asked_for() {
    let twin = ConnectorTwin::builder(shipped("amplitude")).token("key").build().unwrap();
    let call = |body: &str| Call {
        method: Method::POST,
        path: "/identify",
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        body: body.to_owned(),
    };
    let people = "%5B%7B%22user_id%22%3A%22a%26b%22%2C%22user_properties%22%3A%7B%22%24set%22%3A%7B%22n%22%3A1%7D%7D%7D%5D";
    for (body, status) in [
        (format!("api_key=key&identification={people}"), 200),
        (format!("api_key=other&identification={people}"), 401),
        (format!("identification={people}"), 400),
        (format!("api_key=key&identification={people}&more=1"), 400),
        ("api_key=key&identification=%5B%7B".to_owned(), 400),
        (r#"{"api_key": "key"}"#.to_owned(), 400),
    ] {
        assert_eq!(send(&twin, &call(&body)).0, status, "{body}");
    }
    assert_eq!(twin.records("users")[0].to_value(), json!({"user_id": "a&b", "n": 1}));
}

#[tokio::test]
async fn it_runs_as_a_server_too() {
    let twin = ConnectorTwin::builder(page()).build().unwrap();
    let running = RunningTwin::start(twin, 0).await.unwrap();
    assert!(running.address().starts_with("http://127.0.0.1:"));
    running.stop().await;
}
