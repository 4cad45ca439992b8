//! What only the deployed bundle can show.

use crate::deployed::Stack;
use crate::engine::Engine as _;
use crate::scenarios::object_created;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_starts_nothing_ends_in_the_queue_with_the_reason() {
    let stack = Stack::new("lost").await;
    let key = format!("{}/nobody/_SUCCESS", stack.name());
    stack.tell_route(&object_created("s3://unloads", &key, "1")).await;
    let lost = stack.lost_event(&key).await;
    assert_eq!(lost["requestPayload"]["detail"]["object"]["key"], key, "{lost}");
    assert_eq!(lost["responsePayload"]["errorType"], "SyncInvalid", "{lost}");
}
