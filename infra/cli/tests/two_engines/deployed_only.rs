//! What only the deployed bundle can show. The simulation has its own dying pushes.

use std::time::Duration;

use penstock_twins::Twin as _;
use serde_json::json;

use crate::deployed::Stack;
use crate::engine::{Engine as _, request, unload};
use crate::harness::customers;
use crate::scenarios::{members, members_sync, object_created};

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_whose_worker_is_killed_each_time_becomes_dead_letters() {
    let stack = Stack::new("poisoned").await;
    // Each request lasts long enough for its worker to be killed over it.
    let twin =
        members("token-1", json!([{ "when": { "from": 1 }, "what": { "slow": { "ms": 20_000 } } }])).await;
    stack.put_secret(stack.name(), "token-1").await;
    unload(&stack, "2026-01-01", &customers(0..40)).await;
    let sync = members_sync(&stack, &twin, "").await;
    let mut killed = 0;
    let ended = {
        let run = stack.run(request(&sync));
        tokio::pin!(run);
        let mut seen = 0;
        loop {
            tokio::select! {
                ended = &mut run => break ended,
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    let requests = twin.twin.journal().requests();
                    if requests > seen {
                        seen = requests;
                        killed += stack.kill_pushes();
                    }
                }
            }
        }
    };
    assert_eq!(ended.counts(), "read 40, added 40, rejected 40");
    assert_eq!(killed, 3, "{ended:?}");
    let rejections = &ended.report.unwrap().rejections;
    assert_eq!(rejections.iter().map(|rejection| rejection.rows).sum::<u64>(), 40, "{rejections:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_starts_nothing_ends_in_the_queue_with_the_reason() {
    let stack = Stack::new("lost").await;
    let key = format!("{}/nobody/_SUCCESS", stack.name());
    stack.tell_route(&object_created("s3://unloads", &key, "1")).await;
    let lost = stack.lost_event(&key).await;
    assert_eq!(lost["requestPayload"]["detail"]["object"]["key"], key, "{lost}");
    assert_eq!(lost["responsePayload"]["errorType"], "SyncInvalid", "{lost}");
}
