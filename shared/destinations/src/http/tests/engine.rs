//! The engine in virtual time, against twins in the same process.

use std::time::Duration;

use penstock_model::FailureName;
use penstock_model::operation::OperationKind;
use penstock_model::port::{Clock, Freshness};
use penstock_twins::{BatchTwin, Ended, HubSpotTwin, RateLimit, RowError, Twin};
use serde_json::{Value, json};

use super::{BATCH_API, Bench, MINUTE, connector, contacts, definition, hubspot, records, script};
use crate::destination::{Rest, Work};
use crate::testing::Memory;

fn fast_hubspot(
    twin: &HubSpotTwin,
    connection: &Value,
    width: u32,
) -> (Bench, std::sync::Arc<dyn crate::Destination>) {
    let bench = Bench::in_process(twin);
    let destination =
        bench.open(&definition(&hubspot(), "http://twin", "contacts", "email", connection), width);
    (bench, destination)
}

fn batch_api(twin: &BatchTwin, object: &str) -> (Bench, std::sync::Arc<dyn crate::Destination>) {
    let bench = Bench::in_process(twin);
    let destination =
        bench.open(&definition(&connector(BATCH_API), "http://twin", object, "id", &json!({})), 1);
    (bench, destination)
}

fn pause(rest: &Rest) -> Duration {
    match rest {
        Rest::Paused { resume_after, cursor: _ } => *resume_after,
        Rest::Nothing => panic!("{rest:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_the_account_are_kept() {
    let twin = HubSpotTwin::builder().build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"rows_per_request": 5}}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(2_000), MINUTE * 5).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally()["created"], 2_000);
    assert_eq!((memory.usage().requests, memory.usage().throttled), (400, 0));
    let busiest = twin.journal().most_requests_within(Duration::from_secs(10));
    assert!((150..=190).contains(&busiest), "{busiest}");
}

#[tokio::test(start_paused = true)]
async fn chunks_side_by_side_share_the_limits() {
    let twin = HubSpotTwin::builder().build();
    let connection = json!({"limits": {"rows_per_request": 5}});
    let operations = contacts(1_000);
    let mut deliveries = Vec::new();
    for _ in 0..4 {
        let (bench, destination) = fast_hubspot(&twin, &connection, 4);
        let operations = operations.clone();
        deliveries
            .push(tokio::spawn(async move { bench.deliver(&*destination, &operations, MINUTE * 5).await.0 }));
    }
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap().unwrap(), Rest::Nothing);
    }
    assert!(twin.journal().most_requests_within(Duration::from_secs(10)) <= 190);
    assert_eq!(twin.journal().requests_ended(Ended::Answered(429)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_nobody_told_of_is_found() {
    // No Retry-After, and a limit far below what the connection believes.
    let twin = HubSpotTwin::builder().rate_limit(RateLimit::new(10, Duration::from_secs(10))).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"rows_per_request": 10}}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(1_000), MINUTE * 10).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally()["created"], 1_000);
    assert!(memory.usage().throttled <= 30, "{:?}", memory.usage());
    assert!(twin.journal().writes_per_key("contacts").values().all(|writes| *writes == 1));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_in_both_forms() {
    for retry_after in [json!({"seconds": 7}), json!({"date_in_seconds": 7})] {
        let faults =
            json!([{"when": {"nth": 1}, "what": {"status": {"code": 429, "retry_after": retry_after}}}]);
        let twin = HubSpotTwin::builder().faults(script(faults)).build();
        let (bench, destination) = fast_hubspot(&twin, &json!({}), 1);
        let before = bench.clock.now();
        let (rest, memory) = bench.deliver(&*destination, &contacts(10), MINUTE).await;
        assert_eq!(rest.unwrap(), Rest::Nothing);
        let waited = before.until(bench.clock.now());
        assert!(waited >= Duration::from_secs(6) && waited < Duration::from_secs(9), "{waited:?}");
        assert_eq!((memory.usage().throttled, memory.usage().retried), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_fit_is_a_pause() {
    let faults =
        json!([{"when": {"from": 3}, "what": {"status": {"code": 429, "retry_after": {"seconds": 600}}}}]);
    let twin = HubSpotTwin::builder().faults(script(faults)).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"requests_in_flight": 1}}), 1);
    let operations = contacts(500);
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE).await;
    let resume_after = pause(&rest.unwrap());
    assert!(
        resume_after > Duration::from_secs(590) && resume_after <= Duration::from_secs(600),
        "{resume_after:?}"
    );
    assert_eq!(memory.tally()["created"], 200);
    assert_eq!(twin.journal().requests(), 3);

    // The next push goes on with what has no outcome yet.
    twin.set_faults(script(json!([])));
    tokio::time::advance(resume_after).await;
    let done = memory.outcomes();
    let left: Vec<_> = operations.into_iter().filter(|operation| !done.contains_key(&operation.n)).collect();
    let (rest, memory) = bench.deliver(&*destination, &left, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally()["created"], 300);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_near_the_end() {
    let twin = HubSpotTwin::builder().build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"requests_per_second": 1}}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(5_000), Duration::from_secs(13)).await;
    assert!(pause(&rest.unwrap()) < Duration::from_secs(2));
    // Ten seconds until the reserve begins, and the first request waits for its turn.
    assert!((8..=9).contains(&twin.journal().requests()), "{}", twin.journal().requests());
    assert_eq!(memory.outcomes().len() as u64, twin.journal().requests() * 100);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_no_longer_than_allowed() {
    let faults = json!([{"when": {"nth": 1}, "what": {"slow": {"ms": 600_000}}}]);
    let twin = HubSpotTwin::builder().faults(script(faults)).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"answer_timeout_s": 5}}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(10), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    // It had been carried out: the repeated upsert finds the records.
    assert_eq!(memory.tally()["updated"], 10);
    assert_eq!(memory.usage().retried, 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_errors_passes_and_an_outage_is_named() {
    let faults = json!([{"when": {"from": 2, "until": 5}, "what": {"status": {"code": 503}}}]);
    let twin = HubSpotTwin::builder().faults(script(faults)).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(1_000), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally()["created"], 1_000);

    let twin = HubSpotTwin::builder().faults(script(json!([{"what": {"status": {"code": 500}}}]))).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(1_000), MINUTE * 10).await;
    assert_eq!(rest.unwrap_err().name, FailureName::DestinationUnavailable);
    assert!(memory.outcomes().is_empty());
    assert!(twin.journal().requests() <= 60, "{}", twin.journal().requests());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_always_fails_does_not_stop_the_others() {
    let faults = json!([{"when": {"path_contains": "/archive"}, "what": {"status": {"code": 500}}}]);
    let twin = HubSpotTwin::builder().faults(script(faults)).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"requests_in_flight": 1}}), 1);
    let mut operations = contacts(3_000);
    for operation in &mut operations[..10] {
        operation.kind = OperationKind::Archive;
        operation.id = Some("1".into());
    }
    let (rest, memory) = bench.deliver(&*destination, &operations, MINUTE * 5).await;
    let failure = rest.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnavailable);
    assert_eq!(memory.tally().into_iter().collect::<Vec<_>>(), [("created".to_owned(), 2_990)], "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_fetched_once() {
    let twin = HubSpotTwin::builder().token("new").build();
    let (mut bench, _) = fast_hubspot(&twin, &json!({}), 1);
    bench.secrets = crate::testing::Kept::new("old", "new");
    let destination = bench.open(&definition(&hubspot(), "http://twin", "contacts", "email", &json!({})), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(2_000), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally()["created"], 2_000);
    assert_eq!(*bench.secrets.fetched.lock().unwrap(), [Freshness::Cached, Freshness::Fresh]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_refused_afresh_stops_the_run() {
    let twin = HubSpotTwin::builder().token("other").build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"requests_in_flight": 1}}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(2_000), MINUTE).await;
    let failure = rest.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnauthorized);
    assert!(!failure.full_message().contains("pat-twin"));
    assert!(memory.outcomes().is_empty());
    assert_eq!(twin.journal().requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_is_waited_for_outside() {
    let twin = HubSpotTwin::builder().daily_limit(5).build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"requests_in_flight": 2}}), 1);
    let (rest, memory) = bench.deliver(&*destination, &contacts(2_000), MINUTE).await;
    // HubSpot does not say for how long: it is asked again every half hour.
    let Ok(Rest::Paused { resume_after, .. }) = rest else { panic!("{rest:?}") };
    assert!(resume_after > Duration::from_secs(29 * 60), "{resume_after:?}");
    assert_eq!(memory.tally()["created"], 500);
    assert!(twin.journal().requests() <= 7);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_gone_for_longer_than_a_day_stops_the_run() {
    let gone = json!({"status": {"code": 402, "retry_after": {"seconds": 9 * 24 * 60 * 60}}});
    let twin = BatchTwin::builder().faults(script(json!([{"when": {"from": 3}, "what": gone}]))).build();
    let mut api = connector(BATCH_API);
    api.statuses.insert(402, penstock_model::connector::Meaning::Quota);
    let bench = Bench::in_process(&twin);
    let definition =
        definition(&api, "http://twin", "customers", "id", &json!({"limits": {"requests_in_flight": 1}}));
    let destination = bench.open(&definition, 1);
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Upsert, 1_000), MINUTE).await;
    assert_eq!(rest.unwrap_err().name, FailureName::DestinationQuotaExhausted);
    assert_eq!(memory.tally()["created"], 200);
}

#[tokio::test(start_paused = true)]
async fn another_run_takes_over_in_the_middle() {
    let twin = HubSpotTwin::builder().build();
    let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"requests_in_flight": 4}}), 1);
    let memory = Memory::fenced_after(6);
    let until = bench.clock.now().plus(MINUTE);
    let work = Work { operations: contacts(2_000), cursor: None, jobs: Vec::new(), until, witness: &memory };
    assert_eq!(destination.deliver(work).await.unwrap_err().name, FailureName::Superseded);
    // What was under way is still told.
    assert_eq!(twin.journal().requests(), 6);
    assert_eq!(memory.tally()["created"], 600);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_repeated_is_announced_and_sent_once() {
    let faults = json!([
        {"when": {"nth": 2}, "what": "answer_lost"},
        {"when": {"nth": 4}, "what": {"status": {"code": 503}}},
        {"when": {"nth": 5}, "what": {"status": {"code": 429, "retry_after": {"seconds": 1}}}},
        {"when": {"nth": 7}, "what": "wrong_json"},
    ]);
    let twin = BatchTwin::builder()
        .auth(penstock_twins::Auth::Bearer("pat-twin".into()))
        .faults(script(faults))
        .build();
    let (bench, destination) = batch_api(&twin, "events");
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Append, 500), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(
        memory.tally().into_iter().collect::<Vec<_>>(),
        [("created".to_owned(), 350), ("unknown".to_owned(), 150)]
    );
    let appended = twin.appended("events");
    assert_eq!(appended.len(), 450);
    assert!(appended.iter().all(|record| record["source"] == "penstock" && record["n"].is_u64()));
    let mut intents = memory.intents.lock().unwrap().clone();
    intents.sort_unstable();
    assert_eq!(intents, (0..500).collect::<Vec<_>>());
    assert!(memory.withdrawn.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_announcement_is_taken_back_if_nothing_came_of_it() {
    let faults =
        json!([{"when": {"from": 2}, "what": {"status": {"code": 429, "retry_after": {"seconds": 600}}}}]);
    let twin = BatchTwin::builder().faults(script(faults)).build();
    let (bench, destination) = batch_api(&twin, "events");
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Append, 100), MINUTE).await;
    assert!(pause(&rest.unwrap()) > Duration::from_secs(500));
    assert_eq!(memory.outcomes().len(), 50);
    let withdrawn = memory.withdrawn.lock().unwrap().clone();
    assert_eq!(withdrawn.len(), 50);
    assert!(withdrawn.iter().all(|n| !memory.outcomes().contains_key(n)));
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_makes_an_append_repeatable() {
    let faults = json!([
        {"when": {"every": 4}, "what": "answer_lost"},
        {"when": {"every": 7}, "what": "wrong_json"},
        {"when": {"every": 9}, "what": {"status": {"code": 502}}},
    ]);
    let twin = BatchTwin::builder().faults(script(faults)).build();
    let (bench, destination) = batch_api(&twin, "tickets");
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Append, 300), MINUTE * 5).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(memory.tally().into_iter().collect::<Vec<_>>(), [("created".to_owned(), 300)]);
    assert_eq!(twin.appended("tickets").len(), 300);
}

#[tokio::test(start_paused = true)]
async fn rows_that_may_work_later_are_sent_again_and_then_rejected() {
    let tries = std::sync::atomic::AtomicU32::new(0);
    let twin = BatchTwin::builder()
        .refuse_rows(move |_, record| {
            let key = record["id"].as_str().unwrap_or_default();
            let never = key == "r7";
            let not_yet = key == "r8" && tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3;
            (never || not_yet).then(|| RowError::new("try_later", "busy"))
        })
        .build();
    let (bench, destination) = batch_api(&twin, "customers");
    let (rest, memory) = bench.deliver(&*destination, &records(OperationKind::Upsert, 200), MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert_eq!(
        memory.tally().into_iter().collect::<Vec<_>>(),
        [("created".to_owned(), 199), ("rejected try_later".to_owned(), 1)]
    );
    // Two batches, and five more tries, of which three held both rows.
    assert_eq!(memory.usage().requests, 7);
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_every_row_is_accepted_once_it_can_be() {
    for seed in 0..30 {
        let fault = |chance: f64, what: Value| json!({"when": {"chance": chance, "seed": seed * 7 + 1}, "what": what});
        let faults = json!([
            fault(0.05, json!({"status": {"code": 429, "retry_after": {"seconds": 1}}})),
            fault(0.10, json!({"status": {"code": 503}})),
            fault(0.15, json!("reset")),
            fault(0.20, json!("answer_lost")),
            fault(0.25, json!("truncated")),
            fault(0.30, json!("wrong_json")),
            fault(0.33, json!("not_json")),
        ]);
        let twin = HubSpotTwin::builder().faults(script(faults)).build();
        let (bench, destination) = fast_hubspot(&twin, &json!({"limits": {"rows_per_request": 20}}), 1);
        let operations = contacts(600);
        let (mut left, mut accepted) = (operations.clone(), 0);
        // As the state machine would: until nothing is left.
        for _ in 0..20 {
            let (rest, memory) = bench.deliver(&*destination, &left, MINUTE).await;
            let outcomes = memory.outcomes();
            accepted += outcomes.values().filter(|outcome| outcome.is_final()).count();
            left.retain(|operation| {
                !outcomes.get(&operation.n).is_some_and(penstock_model::outcome::Outcome::is_final)
            });
            if matches!(rest, Ok(Rest::Nothing)) && left.is_empty() {
                break;
            }
        }
        assert_eq!((accepted, left.len()), (600, 0), "seed {seed}");
        assert_eq!(twin.count("contacts"), 600, "seed {seed}");
    }
}
