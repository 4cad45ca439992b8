//! What only the deployed bundle can show.

use penstock_model::cost::Cost;
use penstock_model::layout::RunKeys;
use penstock_store::work;
use serde_json::json;

use crate::deployed::Stack;
use crate::engine::{Engine as _, put_own_secret, request, unload};
use crate::scenarios::{TOKEN, customers, members, members_sync, object_created};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_starts_nothing_ends_in_the_queue_with_the_reason() {
    let stack = Stack::new("lost").await;
    let key = format!("{}/nobody/_SUCCESS", stack.name());
    stack.tell_route(&object_created("s3://unloads", &key, "1")).await;
    let lost = stack.lost_event(&key).await;
    assert_eq!(lost["requestPayload"]["detail"]["object"]["key"], key, "{lost}");
    assert_eq!(lost["responsePayload"]["errorType"], "SyncInvalid", "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_s_report_says_what_it_has_cost_and_lacks_only_what_came_after_it() {
    let stack = Stack::new("cost").await;
    let twin = members(TOKEN, json!([])).await;
    put_own_secret(&stack, TOKEN).await;
    unload(&stack, "2026-01-01", &customers(0..10)).await;
    let sync = members_sync(&stack, &twin, "").await;
    let ended = stack.run(request(&sync)).await;
    assert_eq!(ended.counts(), "read 10, added 10, accepted 10");
    let told = ended.report.unwrap().cost.unwrap();
    assert!(told.dollars > 0.0 && told.usage.gb_seconds > 0.0, "{told:?}");
    // Plan, one split, one partition, gate, one chunk mapped, pushed and settled, finish.
    assert_eq!((told.usage.invocations, told.usage.transitions), (8, 20));

    let keys = RunKeys { sync: &sync, run: &ended.run };
    let left = work::total(stack.state().as_ref(), &keys).await.unwrap();
    let whole = Cost::of(&left, told.architecture).unwrap();
    assert_eq!((whole.usage.invocations, whole.usage.transitions), (8, 20));
    assert!(whole.usage.requests.writes > told.usage.requests.writes, "{whole:?}, {told:?}");
    assert!(whole.dollars > told.dollars, "{whole:?}, {told:?}");
}
