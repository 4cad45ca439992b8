//! What the batch twin accepts, how it says no, and what it keeps.

use penstock_twins::{Action, Auth, BatchTwin, Counts, RowError, RowErrors, RunningTwin, Twin};
use serde_json::{Value, json};

use crate::client::{Answer, exchange, post};

async fn send(running: &RunningTwin<BatchTwin>, path: &str, body: Value) -> Answer {
    post(running.addr(), path, "", &body).await.answered()
}

/// Each result as `id status` or `id code`.
fn results(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |result: &Value| {
        let what = result.get("error").map_or(&result["status"], |error| &error["code"]);
        format!("{} {}", text(&result["id"]), text(what))
    };
    body["results"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn each_action_in_the_order_sent() {
    let running = BatchTwin::builder().start().await.unwrap();
    let three = json!({"records": [{"id": 2, "a": 1, "b": 1}, {"id": "x", "a": 1}, {"id": 1, "a": 1}]});
    let answer = send(&running, "/things/upsert", three).await;
    assert_eq!(
        (answer.status, results(&answer)),
        (200, vec!["2 created".to_owned(), "x created".to_owned(), "1 created".to_owned(),])
    );
    for (path, body, expected) in [
        (
            "/things/upsert",
            json!({"records": [{"id": 1, "a": 1}, {"id": 2, "a": 9}]}),
            vec!["1 unchanged", "2 updated"],
        ),
        (
            "/things/create",
            json!({"records": [{"id": 1}, {"id": 5}, {"id": 5}]}),
            vec!["1 exists", "5 created", "5 exists"],
        ),
        (
            "/things/update",
            json!({"records": [{"id": 7, "a": 1}, {"id": "x", "a": null}]}),
            vec!["7 not_found", "x updated"],
        ),
        ("/things/delete", json!({"records": [{"id": 1}, {"id": 1}]}), vec!["1 deleted", "1 unchanged"]),
        (
            "/things/append",
            json!({"records": [{"v": 1}, {"id": 5}]}),
            vec!["appended-1 created", "5 created"],
        ),
        (
            "/things/upsert",
            json!({"records": [{"a": 1}, 5, {"id": ""}, {"id": 1.5}]}),
            vec!["- missing_key", "- not_an_object", "- missing_key", "- missing_key"],
        ),
        ("/things/upsert", json!({"id": 8, "records": "a field like any other"}), vec!["8 created"]),
    ] {
        assert_eq!(results(&send(&running, path, body).await), expected, "{path}");
    }
    let twin = &running.twin;
    assert_eq!(twin.record("things", "2"), Some(json!({"id": 2, "a": 9, "b": 1})), "fields not sent stay");
    assert_eq!(twin.record("things", "x"), Some(json!({"id": "x", "a": null})));
    assert_eq!(twin.record("things", "1"), None);
    assert_eq!(twin.appended("things"), [json!({"v": 1}), json!({"id": 5})]);
    assert_eq!(twin.records("things").len(), 4);
    assert_eq!(twin.objects(), ["things"]);

    let journal = twin.journal();
    let counts = Counts { created: 5, updated: 2, unchanged: 2, deleted: 1, appended: 2 };
    assert_eq!(journal.counts("things"), counts);
    assert_eq!(journal.counts("others"), Counts::default());
    let sequence: Vec<u64> = journal.applied().iter().map(|applied| applied.sequence).collect();
    assert_eq!(sequence, (1..=12).collect::<Vec<_>>());
    let first = &journal.applied()[0];
    assert_eq!((first.request, first.action, first.key.as_str()), (1, Action::Created, "2"));
    assert_eq!(journal.writes_per_key("things")["1"], 4);
}

#[tokio::test]
async fn every_digit_of_a_number_can_be_asked_for() {
    let running = BatchTwin::builder().start().await.unwrap();
    let body = r#"{"records": [{"id": 9007199254740993, "amount": 12345678901234567890.123456789}]}"#;
    let headers = [("content-type", "application/json")];
    let answer = exchange(running.addr(), "POST", "/t/upsert", &headers, body).await.answered();
    assert_eq!(results(&answer), ["9007199254740993 created"]);
    let sent = running.twin.sent("t", "9007199254740993").unwrap();
    assert_eq!(sent, r#"{"id": 9007199254740993, "amount": 12345678901234567890.123456789}"#);
}

#[tokio::test]
async fn row_errors_in_each_mode() {
    let refuse = |object: &str, record: &Value| {
        let bad = object == "people" && record["email"] == "bad";
        bad.then(|| RowError::of_field("invalid", "not an address", "email"))
    };
    let body = json!({"records": [{"id": 1, "email": "a@b.co"}, {"id": 2, "email": "bad"}]});
    for (mode, status, kept) in
        [(RowErrors::UnderOk, 200, 1), (RowErrors::UnderMultiStatus, 207, 1), (RowErrors::WholeBatch, 400, 0)]
    {
        let running = BatchTwin::builder().row_errors(mode).refuse_rows(refuse).start().await.unwrap();
        let answer = send(&running, "/people/upsert", body.clone()).await;
        assert_eq!(answer.status, status, "{mode:?}");
        assert_eq!(running.twin.count("people"), kept, "{mode:?}");
        if mode == RowErrors::WholeBatch {
            assert_eq!(answer.json()["error"]["code"], "batch_refused");
            assert!(answer.json().get("results").is_none(), "names no record");
        } else {
            let error = json!({"code": "invalid", "message": "not an address", "field": "email"});
            assert_eq!(answer.json()["results"][1], json!({"id": "2", "status": "error", "error": error}));
        }
        let good = send(&running, "/people/upsert", json!({"id": 3})).await;
        assert_eq!((good.status, results(&good)), (200, vec!["3 created".to_owned()]));
    }
}

#[tokio::test]
async fn credentials() {
    let basic = Auth::Basic { user: "ann".to_owned(), password: "p:w".to_owned() };
    let header = Auth::Header { name: "X-Api-Key".to_owned(), value: "k".to_owned() };
    let bearer = Auth::Bearer("t".to_owned());
    for (auth, name, good, bad) in [
        (Auth::None, "x-any", "", None),
        (bearer.clone(), "authorization", "Bearer t", Some("Bearer T")),
        (basic, "authorization", "Basic YW5uOnA6dw==", Some("Basic YW5uOnA=")),
        (header, "x-api-key", "k", Some("K")),
    ] {
        let running = BatchTwin::builder().auth(auth).start().await.unwrap();
        let call = async |value: &str| {
            let headers = [(name, value), ("content-type", "application/json")];
            exchange(running.addr(), "POST", "/t/upsert", &headers, r#"{"id": 1}"#).await.answered()
        };
        assert_eq!(call(good).await.status, 200, "{good}");
        if let Some(bad) = bad {
            assert_eq!(call(bad).await.status, 401, "{bad}");
            assert_eq!(call("").await.status, 401);
        }
    }
    let running = BatchTwin::builder().auth(bearer).start().await.unwrap();
    running.twin.replace_auth(Auth::Bearer("new".to_owned()));
    for (token, status) in [("t", 401), ("new", 200)] {
        assert_eq!(
            post(running.addr(), "/t/upsert", token, &json!({"id": 1})).await.answered().status,
            status
        );
    }
}

#[tokio::test]
async fn requests_that_are_refused_whole() {
    let running = BatchTwin::builder().max_records(2).max_bytes(60).start().await.unwrap();
    let json_type = [("content-type", "application/json")];
    let long = json!({"id": 1, "text": "x".repeat(60)}).to_string();
    for (method, path, headers, body, status) in [
        ("POST", "/t/upsert", &json_type[..], r#"{"records": [{"id":1},{"id":2},{"id":3}]}"#, 400),
        ("POST", "/t/upsert", &json_type[..], r#"{"records": []}"#, 400),
        ("POST", "/t/upsert", &json_type[..], r#"{"records": ["#, 400),
        ("POST", "/t/upsert", &json_type[..], "[]", 400),
        ("POST", "/t/upsert", &json_type[..], long.as_str(), 413),
        ("POST", "/t/upsert", &[][..], r#"{"id": 1}"#, 415),
        ("GET", "/t/upsert", &json_type[..], "", 405),
        ("POST", "/t/replace", &json_type[..], r#"{"id": 1}"#, 404),
        ("POST", "/upsert", &json_type[..], r#"{"id": 1}"#, 404),
        ("POST", "/t/upsert?dry=1", &json_type[..], r#"{"id": 1}"#, 200),
    ] {
        let answer = exchange(running.addr(), method, path, headers, body).await.answered();
        assert_eq!(answer.status, status, "{method} {path} {body}");
    }
    assert_eq!(running.twin.journal().applied().len(), 1);
}

#[tokio::test]
async fn keys_by_object_and_by_header() {
    let running = BatchTwin::builder().key("people", "email").start().await.unwrap();
    let answer = send(&running, "/people/upsert", json!({"email": "a@b.co", "id": 4})).await;
    assert_eq!(results(&answer), ["a@b.co created"]);
    let headers = [("content-type", "application/json"), ("key-field", "code")];
    let body = r#"{"email": "a@b.co", "code": "c-1"}"#;
    let answer = exchange(running.addr(), "POST", "/people/upsert", &headers, body).await.answered();
    assert_eq!(results(&answer), ["c-1 created"]);
    assert_eq!(running.twin.seed("people", json!({"email": "s@b.co"})), Some("s@b.co".to_owned()));
    assert_eq!(running.twin.seed("people", json!({"id": 1})), None);
    let answer = send(&running, "/people/create", json!({"email": "s@b.co"})).await;
    assert_eq!(results(&answer), ["s@b.co exists"]);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_answer_and_writes_once() {
    let running = BatchTwin::builder().start().await.unwrap();
    let call = async |key: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        exchange(running.addr(), "POST", "/events/append", &headers, body).await.answered()
    };
    let first = call("k1", r#"{"v": 1}"#).await;
    let again = call("k1", r#"{"v": 1}"#).await;
    assert_eq!((first.status, first.json()), (again.status, again.json()));
    assert_eq!(running.twin.appended("events").len(), 1);
    assert_eq!(call("k1", r#"{"v": 2}"#).await.status, 422);
    assert_eq!(call("k2", r#"{"v": 1}"#).await.status, 200);
    assert_eq!(running.twin.appended_as_sent("events"), [r#"{"v": 1}"#, r#"{"v": 1}"#]);
}
