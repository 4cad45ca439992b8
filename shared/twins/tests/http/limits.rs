//! Rate limits and daily quotas, over HTTP and with time turned by hand.

use std::time::Duration;

use penstock_twins::{
    BatchTwin, Ended, HubSpotTwin, RateLimit, Twin,
    http::{HeaderMap, HeaderValue, Method},
};
use serde_json::json;

use crate::client::post;

const READ: &str = "/crm/objects/2026-09/contacts/batch/read";

fn minute(requests: u32) -> RateLimit {
    RateLimit::new(requests, Duration::from_secs(60))
}

#[tokio::test]
async fn hubspot_counts_down_and_then_refuses() {
    let running = HubSpotTwin::builder().rate_limit(minute(3)).daily_limit(10).start().await.unwrap();
    let body = json!({"inputs": [{"id": "1"}]});
    let mut seen = Vec::new();
    for _ in 0..5 {
        let answer = post(running.addr(), READ, "pat-twin", &body).await.answered();
        let header = |name: &str| answer.header(name).unwrap().to_owned();
        assert_eq!(header("x-hubspot-ratelimit-max"), "3");
        assert_eq!(header("x-hubspot-ratelimit-interval-milliseconds"), "60000");
        assert_eq!(header("x-hubspot-ratelimit-daily"), "10");
        assert_eq!(answer.header("retry-after"), None, "HubSpot does not promise it");
        let left = (header("x-hubspot-ratelimit-remaining"), header("x-hubspot-ratelimit-daily-remaining"));
        seen.push((answer.status, left.0, left.1));
    }
    let seen: Vec<_> =
        seen.iter().map(|(status, window, day)| (*status, window.as_str(), day.as_str())).collect();
    assert_eq!(seen, [(207, "2", "9"), (207, "1", "8"), (207, "0", "7"), (429, "0", "7"), (429, "0", "7")]);
    let journal = running.twin.journal();
    assert_eq!((journal.requests(), journal.requests_ended(Ended::Answered(429))), (5, 2));
    assert_eq!(journal.most_requests_within(Duration::from_secs(60)), 5);
    assert_eq!(journal.requests_by_path()[&(READ.to_owned(), Ended::Answered(207))], 3);
}

#[tokio::test]
async fn without_limits_there_are_no_headers_of_limits() {
    let running = HubSpotTwin::builder().rate_limit(RateLimit::UNLIMITED).start().await.unwrap();
    let answer = post(running.addr(), READ, "pat-twin", &json!({"inputs": [{"id": "1"}]})).await.answered();
    assert_eq!(answer.status, 207);
    assert!(!answer.headers.keys().any(|name| name.starts_with("x-hubspot-ratelimit")));
}

#[tokio::test]
async fn a_refused_credential_costs_nothing() {
    let running = HubSpotTwin::builder().rate_limit(minute(1)).start().await.unwrap();
    let body = json!({"inputs": [{"id": "1"}]});
    for expected in [401, 401] {
        assert_eq!(post(running.addr(), READ, "stale", &body).await.answered().status, expected);
    }
    assert_eq!(post(running.addr(), READ, "pat-twin", &body).await.answered().status, 207);
}

#[tokio::test]
async fn the_batch_twin_says_when_to_come_back() {
    let running = BatchTwin::builder().rate_limit(minute(1)).start().await.unwrap();
    let body = json!({"id": 1});
    assert_eq!(post(running.addr(), "/people/upsert", "", &body).await.answered().status, 200);
    let refused = post(running.addr(), "/people/upsert", "", &body).await.answered();
    assert_eq!(refused.status, 429);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&seconds), "{seconds}");
    assert_eq!(running.twin.journal().applied().len(), 1);
}

/// The statuses of `count` appends `gap` apart, without sockets.
async fn paced(twin: &BatchTwin, count: usize, gap: Duration) -> Vec<u16> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let mut statuses = Vec::new();
    for _ in 0..count {
        let reply = twin.handle(&Method::POST, "/events/append", &headers, b"{}");
        statuses.push(reply.outcome.unwrap().status().as_u16());
        tokio::time::advance(gap).await;
    }
    statuses
}

#[tokio::test(start_paused = true)]
async fn the_window_slides_with_virtual_time() {
    let limit = RateLimit::new(2, Duration::from_secs(10));
    let twin = BatchTwin::builder().rate_limit(limit).build();
    // At 0, 3, 6, 9, 12, 15 seconds: the places taken at 0 and 3 are free again at 10 and 13.
    assert_eq!(paced(&twin, 6, Duration::from_secs(3)).await, [200, 200, 429, 429, 200, 200]);
    assert_eq!(twin.journal().most_requests_within(Duration::from_secs(10)), 4);
    let at: Vec<u64> = twin.journal().applied().iter().map(|applied| applied.at.as_secs()).collect();
    assert_eq!(at, [0, 3, 12, 15]);
    let evenly = BatchTwin::builder().rate_limit(limit).build();
    assert_eq!(paced(&evenly, 6, Duration::from_secs(5)).await, [200; 6]);
}

#[tokio::test(start_paused = true)]
async fn the_daily_quota_returns_the_next_day() {
    let twin = BatchTwin::builder().daily_limit(2).build();
    // At 0, 10, 20, 30 hours.
    assert_eq!(paced(&twin, 4, Duration::from_secs(36_000)).await, [200, 200, 429, 200]);
}

/// From the second request on the day is over, for any twin, until the next one begins.
#[tokio::test(start_paused = true)]
async fn a_script_can_use_up_the_day() {
    let rules = serde_json::json!([{"when": {"nth": 2}, "what": {"day_used_up": {"retry_after": true}}}]);
    let twin = BatchTwin::builder().faults(serde_json::from_value(rules).unwrap()).build();
    // At 0, 5, 10, 15, 20 and 25 hours.
    assert_eq!(paced(&twin, 6, Duration::from_secs(18_000)).await, [200, 429, 429, 429, 429, 200]);
}
