//! The way that the local engine invokes handlers.

#![expect(clippy::panic, reason = "a test ends where it fails")]

use std::pin::Pin;
use std::sync::Arc;

use penstock_lambda_kit::{Invocation, InvocationFailed, invoke_in_process};
use penstock_model::contract::{CONTRACT, ReadRequest, ReadResponse};
use penstock_model::{Failure, FailureName, Timestamp};
use serde_json::{Value, json};

async fn handle(request: ReadRequest, _: &Invocation, context: &u64) -> Result<ReadResponse, Failure> {
    tokio::task::yield_now().await;
    match request.split {
        0 => Ok(ReadResponse { contract: CONTRACT, rows: *context }),
        1 => Err(Failure::because(FailureName::GuardTripped, "too many", std::io::Error::other("12 > 10"))),
        _ => panic!("tim@acme.com"),
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Value, InvocationFailed>> + Send>>;

/// As an engine holds its functions: by name, without their types, on any thread.
fn function() -> Arc<dyn Fn(Value) -> Answer + Send + Sync> {
    let context = Arc::new(7);
    Arc::new(move |payload| {
        let context = Arc::clone(&context);
        Box::pin(async move {
            let invocation = Invocation::free("1", Timestamp(0));
            invoke_in_process(payload, &invocation, &*context, handle).await
        })
    })
}

fn payload(split: u32) -> Value {
    json!({ "contract": CONTRACT, "run": { "sync": "s", "run": "r", "fence": 1 }, "split": split })
}

#[tokio::test]
async fn answers_and_failures_are_those_of_lambda() {
    let function = function();
    let ok = tokio::spawn(function(payload(0))).await.unwrap().unwrap();
    assert_eq!(ok, json!({ "contract": CONTRACT, "rows": 7 }));

    let failed = tokio::spawn(function(payload(1))).await.unwrap().unwrap_err();
    assert_eq!(failed.name, "GuardTripped");
    let cause: Value = serde_json::from_str(&failed.cause).unwrap();
    assert_eq!(cause, json!({ "errorType": "GuardTripped", "errorMessage": "too many: 12 > 10" }));

    let failed = function(payload(2)).await.unwrap_err();
    assert_eq!(failed.name, "InvariantBroken");
    assert!(
        failed.cause.contains("tests/in_process.rs:") && !failed.cause.contains("tim"),
        "{}",
        failed.cause
    );

    for payload in [json!({}), json!({ "contract": CONTRACT + 1 }), json!("x")] {
        assert_eq!(function(payload).await.unwrap_err().name, "ContractMismatch");
    }
}

async fn wordy(size: usize, _: &Invocation, (): &()) -> Result<String, Failure> {
    Ok("x".repeat(size))
}

#[tokio::test]
async fn a_response_that_the_state_machine_could_not_carry_is_a_defect() {
    let invocation = Invocation::free("1", Timestamp(0));
    let answer = async |size: usize| invoke_in_process(json!(size), &invocation, &(), wordy).await;
    answer(200 * 1024 - 2).await.unwrap();
    assert_eq!(answer(200 * 1024 - 1).await.unwrap_err().name, "InvariantBroken");
}
