use penstock_model::decode::decode;
use penstock_model::failure::Handling;
use penstock_model::{Failure, FailureName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::contract::check_contract;
use crate::guard::guard;
use crate::invocation::Invocation;

/// Step Functions carries 256 KiB; a response is references and counts, and one that comes near this is a defect.
const LARGEST_RESPONSE: usize = 200 * 1024;

/// A failed invocation as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationFailed {
    /// The failure's name: what `ErrorEquals` is compared with.
    pub name: String,
    /// The same JSON text that Lambda gives the state machine: `errorType` and `errorMessage`.
    pub cause: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cause<'a> {
    error_message: String,
    error_type: &'a str,
}

/// Invokes a handler in this process, exactly as Lambda would: the payload travels as JSON, failures and panics come
/// back by name.
///
/// # Errors
/// [`InvocationFailed`] with the name of the failure.
pub async fn invoke_in_process<'a, Request, Response, Context, Answer>(
    payload: Value,
    invocation: &'a Invocation,
    context: &'a Context,
    handle: impl FnOnce(Request, &'a Invocation, &'a Context) -> Answer,
) -> Result<Value, InvocationFailed>
where
    Request: DeserializeOwned,
    Response: Serialize,
    Answer: Future<Output = Result<Response, Failure>>,
{
    let payload = payload.to_string();
    let answer =
        invoke("local", payload.as_bytes(), invocation, |request| handle(request, invocation, context)).await;
    let read = answer.and_then(|response| {
        serde_json::from_str(response.get())
            .map_err(|_| Failure::new(FailureName::InvariantBroken, "the response is no JSON value"))
    });
    read.map_err(|failure| {
        let cause = Cause { error_message: failure.full_message(), error_type: failure.name.as_str() };
        InvocationFailed {
            name: failure.name.to_string(),
            // Two strings always have a JSON form.
            cause: serde_json::to_string(&cause).unwrap_or_default(),
        }
    })
}

/// The path of every invocation: check, decode, run, encode, and tell of a failure once.
pub(crate) async fn invoke<Request, Response, Answer>(
    function: &str,
    payload: &[u8],
    invocation: &Invocation,
    handle: impl FnOnce(Request) -> Answer,
) -> Result<Box<RawValue>, Failure>
where
    Request: DeserializeOwned,
    Response: Serialize,
    Answer: Future<Output = Result<Response, Failure>>,
{
    let peeked: Value = serde_json::from_slice(payload).unwrap_or_default();
    let (sync, run) = subject(&peeked);
    let span = tracing::info_span!("invocation", function, sync, run, request_id = invocation.request_id);
    async {
        let answer = guard(async {
            check_contract(&peeked)?;
            let request = read(payload)?;
            write(&handle(request).await?)
        });
        answer.await.inspect_err(tell)
    }
    .instrument(span)
    .await
}

/// The sync and the run that a payload is about: `run` is a run's reference, or, before there is one, its id.
pub(crate) fn subject(payload: &Value) -> (Option<&str>, Option<&str>) {
    let at = |path| payload.pointer(path).and_then(Value::as_str);
    (
        at("/run/sync").or_else(|| at("/request/sync")).or_else(|| at("/sync")),
        at("/run/run").or_else(|| at("/run")),
    )
}

fn read<Request: DeserializeOwned>(payload: &[u8]) -> Result<Request, Failure> {
    decode(payload).map_err(|cause| {
        Failure::because(FailureName::ContractMismatch, "the payload is not what this function reads", cause)
    })
}

fn write(response: &impl Serialize) -> Result<Box<RawValue>, Failure> {
    // serde's words could quote the value.
    let text = serde_json::value::to_raw_value(response)
        .map_err(|_| Failure::new(FailureName::InvariantBroken, "the response has no JSON form"))?;
    if text.get().len() > LARGEST_RESPONSE {
        let size = text.get().len();
        let message =
            format!("the response has {size} bytes, and {LARGEST_RESPONSE} are the most it may have");
        return Err(Failure::new(FailureName::InvariantBroken, message));
    }
    Ok(text)
}

fn tell(failure: &Failure) {
    let (name, reason) = (failure.name.as_str(), failure.full_message());
    match failure.name.handling() {
        // The state machine tries again, waits, or a later run carries on: nobody has to act.
        Handling::Retry | Handling::WaitForOtherRun | Handling::Stop => {
            tracing::warn!(failure = name, reason, "the invocation failed for now");
        }
        Handling::DeadLetterChunk
        | Handling::Abort
        | Handling::AbortBeforeSending
        | Handling::FailAfterCommit => {
            tracing::error!(failure = name, reason, "the invocation failed");
        }
    }
}
