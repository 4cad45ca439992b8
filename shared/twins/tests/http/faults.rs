//! Every fault as a client sees it, and whether the write behind it was applied.

use std::time::Duration;

use penstock_twins::{
    BatchTwin, Broken, Ended, HubSpotTwin, RunningTwin, Script, Twin,
    http::{HeaderMap, HeaderValue, Method},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::client::{Answer, Exchange, exchange, parse, post};

fn script(rules: Value) -> Script {
    serde_json::from_value(rules).unwrap()
}

/// A batch twin whose first request meets `fault`.
async fn twin_with(fault: &Value) -> RunningTwin<BatchTwin> {
    let faults = script(json!([{"when": {"nth": 1}, "what": fault}]));
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    BatchTwin::builder().faults(faults).wall_clock(start).start().await.unwrap()
}

async fn upsert(running: &RunningTwin<BatchTwin>) -> Exchange {
    post(running.addr(), "/people/upsert", "", &json!({"records": [{"id": 1, "name": "Ann"}]})).await
}

/// Sends one upsert into `fault` and a second one after it, which must succeed.
async fn check(fault: Value, applied: bool, seen: impl FnOnce(Exchange), ended: Ended) {
    let running = twin_with(&fault).await;
    seen(upsert(&running).await);
    assert_eq!(running.twin.count("people"), usize::from(applied), "applied despite {fault}");
    assert_eq!(running.twin.journal().requests_ended(ended), 1, "{fault}");
    let second = upsert(&running).await.answered();
    let status = if applied { "unchanged" } else { "created" };
    assert_eq!(second.json()["results"][0]["status"], status, "after {fault}");
    let writes = running.twin.journal().writes_per_key("people")["1"];
    assert_eq!(writes, 1 + u64::from(applied), "a repeated write is seen twice: {fault}");
}

fn answered(expect: impl FnOnce(Answer)) -> impl FnOnce(Exchange) {
    |exchange| expect(exchange.answered())
}

#[tokio::test]
async fn a_status_with_each_form_of_retry_after() {
    for (retry_after, header) in [
        (json!(null), None),
        (json!({"seconds": 7}), Some("7")),
        (json!({"date_in_seconds": 3_600}), Some("Thu, 01 Jan 2026 01:00:0")),
    ] {
        let fault = json!({"status": {"code": 429, "retry_after": retry_after}});
        let seen = |answer: Answer| {
            assert_eq!(answer.status, 429);
            let given = answer.header("retry-after");
            assert_eq!(given.is_some(), header.is_some());
            assert!(given.unwrap_or_default().starts_with(header.unwrap_or_default()), "{given:?}");
            assert_eq!(answer.json()["error"]["code"], "rate_limited");
        };
        check(fault, false, answered(seen), Ended::Answered(429)).await;
    }
}

#[tokio::test]
async fn server_errors_come_before_the_write() {
    for code in [500, 502, 503] {
        let fault = json!({"status": {"code": code}});
        let seen = move |answer: Answer| assert_eq!(answer.status, code);
        check(fault, false, answered(seen), Ended::Answered(code)).await;
    }
}

#[tokio::test]
async fn a_refused_credential_and_a_used_up_quota() {
    let seen = |answer: Answer| assert_eq!(answer.json()["error"]["code"], "unauthorized");
    check(json!("unauthorized"), false, answered(seen), Ended::Answered(401)).await;
    let seen = |answer: Answer| assert_eq!(answer.json()["error"]["code"], "daily_quota");
    check(json!("quota_gone"), false, answered(seen), Ended::Answered(429)).await;
}

#[tokio::test]
async fn a_reset_comes_before_the_write() {
    let seen = |exchange| assert!(matches!(exchange, Exchange::Reset));
    check(json!("reset"), false, seen, Ended::Reset).await;
}

#[tokio::test]
async fn a_lost_answer_leaves_the_write() {
    let seen = |exchange| assert!(matches!(exchange, Exchange::Closed));
    check(json!("answer_lost"), true, seen, Ended::AnswerLost).await;
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_it_holds() {
    let seen = |answer: Answer| {
        assert_eq!(answer.status, 200);
        assert!(!answer.is_whole());
        let promised: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(answer.body.len(), promised / 2);
        assert!(answer.body.starts_with(br#"{"results""#));
    };
    check(json!("truncated"), true, answered(seen), Ended::Truncated).await;
}

#[tokio::test]
async fn an_answer_that_says_nothing() {
    let seen = |answer: Answer| {
        assert_eq!(answer.status, 200);
        assert!(answer.json().get("results").is_none());
    };
    check(json!("wrong_json"), true, answered(seen), Ended::Answered(200)).await;
}

#[tokio::test]
async fn an_answer_that_is_no_json() {
    let running = twin_with(&json!("not_json")).await;
    let answer = upsert(&running).await.answered();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html")));
    assert_eq!(running.twin.count("people"), 0);
}

#[tokio::test]
async fn a_slow_answer_is_applied_before_it_is_held_back() {
    let running = twin_with(&json!({"slow": {"ms": 400}})).await;
    let started = tokio::time::Instant::now();
    let (answer, applied_at) = tokio::join!(upsert(&running), async {
        while running.twin.count("people") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    });
    assert_eq!(answer.answered().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert!(applied_at < Duration::from_millis(400), "{applied_at:?}");
}

#[tokio::test]
async fn hubspots_faults_speak_hubspots_language() {
    let faults = script(json!([
        {"when": {"nth": 1}, "what": {"status": {"code": 429}}},
        {"when": {"nth": 2}, "what": "quota_gone"},
        {"when": {"nth": 3}, "what": "unauthorized"},
        {"when": {"nth": 4}, "what": {"status": {"code": 500}}},
        {"when": {"nth": 5}, "what": {"status": {"code": 502}}},
        {"when": {"nth": 6}, "what": "truncated"},
    ]));
    let running = HubSpotTwin::builder().faults(faults).start().await.unwrap();
    let body = json!({"inputs": [{"properties": {"email": "a@example.com"}}]});
    let mut seen = Vec::new();
    for _ in 0..6 {
        let path = "/crm/v3/objects/contacts/batch/create";
        seen.push(post(running.addr(), path, "pat-twin", &body).await.answered());
    }
    let statuses: Vec<u16> = seen.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [429, 429, 401, 500, 502, 201]);
    assert_eq!(seen[0].json()["errorType"], "RATE_LIMIT");
    assert_eq!(seen[0].json()["policyName"], "TEN_SECONDLY_ROLLING");
    assert_eq!(seen[1].json()["policyName"], "DAILY");
    assert_eq!(seen[2].json()["category"], "EXPIRED_AUTHENTICATION");
    assert_eq!(seen[3].json()["status"], "error");
    assert_eq!(seen[4].header("content-type"), Some("text/html"));
    assert!(!seen[5].is_whole());
    assert!(seen.iter().all(|answer| answer.header("x-hubspot-ratelimit-max") == Some("190")));
    assert_eq!(running.twin.count("contacts"), 1);
}

#[tokio::test]
async fn an_archive_answer_has_no_body_to_cut_and_is_lost() {
    let faults = script(json!([{"what": "truncated"}]));
    let running = HubSpotTwin::builder().faults(faults).start().await.unwrap();
    let id = running.twin.seed("contacts", [("email", "a@example.com")]).unwrap();
    let body = json!({"inputs": [{"id": id}]});
    let path = "/crm/v3/objects/contacts/batch/archive";
    assert!(matches!(post(running.addr(), path, "pat-twin", &body).await, Exchange::Closed));
    assert_eq!(running.twin.count("contacts"), 0);
}

#[tokio::test]
async fn rows_are_refused_by_script_in_each_apis_own_form() {
    let rule = || {
        script(
            json!([{"what": {"refuse_rows": {"every": 2, "code": "bad", "message": "no", "field": "name"}}}]),
        )
    };
    let batch = BatchTwin::builder().faults(rule()).start().await.unwrap();
    let body = json!({"records": [{"id": 1}, {"id": 2}, {"id": 3}]});
    let answer = post(batch.addr(), "/people/upsert", "", &body).await.answered().json();
    let statuses: Vec<_> = answer["results"].as_array().unwrap().iter().map(|row| &row["status"]).collect();
    assert_eq!(statuses, ["error", "created", "error"]);
    assert_eq!(answer["results"][0]["error"], json!({"code": "bad", "message": "no", "field": "name"}));

    let hubspot = HubSpotTwin::builder().faults(rule()).start().await.unwrap();
    let input = |email: &str| json!({"objectWriteTraceId": email, "properties": {"email": email}});
    let body = json!({"inputs": [input("a@x.co"), input("b@x.co")]});
    let answer =
        post(hubspot.addr(), "/crm/v3/objects/contacts/batch/create", "pat-twin", &body).await.answered();
    assert_eq!((answer.status, hubspot.twin.count("contacts")), (207, 1));
    assert_eq!(answer.json()["errors"][0]["category"], "VALIDATION_ERROR");
    assert_eq!(answer.json()["errors"][0]["context"]["objectWriteTraceId"], json!(["a@x.co"]));
}

#[tokio::test]
async fn a_script_can_be_replaced_while_the_twin_runs() {
    let running = BatchTwin::builder().start().await.unwrap();
    assert_eq!(upsert(&running).await.answered().status, 200);
    running.twin.set_faults(script(json!([{"what": {"status": {"code": 503}}}])));
    assert_eq!(upsert(&running).await.answered().status, 503);
    running.twin.set_faults(Script::default());
    assert_eq!(upsert(&running).await.answered().status, 200);
}

#[test]
fn without_a_transport_the_caller_is_told_what_broke() {
    let faults = script(json!([
        {"when": {"nth": 1}, "what": "reset"},
        {"when": {"nth": 2}, "what": "answer_lost"},
        {"when": {"nth": 3}, "what": "truncated"},
        {"when": {"nth": 4}, "what": {"slow": {"ms": 9}}},
    ]));
    let twin = BatchTwin::builder().faults(faults).build();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let call = || twin.handle(&Method::POST, "/people/append", &headers, br#"{"secret": "x"}"#);
    assert!(matches!(call().outcome, Err(Broken::Reset)));
    assert!(matches!(call().outcome, Err(Broken::AnswerLost)));
    let error = call().outcome.unwrap_err();
    assert_eq!(format!("{error:?}"), "Broken(the connection was closed in the middle of the answer)");
    assert!(matches!(error, Broken::Truncated { partial, full_length }
        if partial.body().len() == full_length / 2));
    let slow = call();
    assert_eq!((slow.after, slow.outcome.unwrap().status().as_u16()), (Duration::from_millis(9), 200));
    assert_eq!(twin.appended("people").len(), 3, "only the reset one is missing");
}

#[tokio::test]
async fn mounted_without_its_own_listener_a_lost_answer_is_a_body_that_fails() {
    let faults = script(json!([{"when": {"nth": 1}, "what": "answer_lost"}]));
    let twin = BatchTwin::builder().faults(faults).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, twin.router()).into_future());
    let headers = [("content-type", "application/json")];
    let exchange = exchange(addr, "POST", "/people/upsert", &headers, r#"{"id": 1}"#).await;
    if let Exchange::Answered(answer) = exchange {
        assert!(!answer.body.ends_with(b"0\r\n\r\n"), "the chunked body must not have come to its end");
    }
    assert_eq!(twin.count("people"), 1);
    server.abort();
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let running = BatchTwin::builder().start().await.unwrap();
    let mut stream = TcpStream::connect(running.addr()).await.unwrap();
    for number in 1..=3 {
        let body = json!({"id": number}).to_string();
        let length = body.len();
        let request = format!(
            "POST /people/create HTTP/1.1\r\nhost: twin\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"]}") {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
        assert_eq!(parse(&bytes).json()["results"][0]["status"], "created");
    }
    assert_eq!(running.twin.count("people"), 3);
}

#[tokio::test]
async fn a_stopped_or_dropped_twin_does_not_listen() {
    let running = BatchTwin::builder().start().await.unwrap();
    let (addr, twin) = (running.addr(), running.twin.clone());
    assert_eq!(running.address(), format!("http://{addr}"));
    assert_eq!(upsert(&running).await.answered().status, 200);
    running.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(twin.count("people"), 1, "what it holds stays");

    let running = BatchTwin::builder().start().await.unwrap();
    let addr = running.addr();
    drop(running);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(addr).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "still listening");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
