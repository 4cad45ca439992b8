use std::fmt;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use penstock_model::port::{Clock as _, Objects};
use penstock_model::{Failure, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use crate::clock::SystemClock;
use crate::figures;
use crate::guard::{guard, silence_panics};
use crate::invocation::{Invocation, Meter};
use crate::invoke::invoke;
use crate::logging;

/// Runs a function on Lambda until the platform ends the process. Each invocation for a run leaves its figures in `state`.
///
/// The context is built at cold start. If that fails, it is built again with each invocation, and each answers with the
/// failure's name: a process that ends would only tell the state machine `Runtime.ExitError`.
///
/// # Errors
/// The platform's runtime API can't be reached.
pub async fn run<Request, Response, Context, Build, Handle>(
    function: &'static str,
    build: Build,
    handle: Handle,
    state: fn(&Context) -> &dyn Objects,
) -> Result<(), Error>
where
    Request: DeserializeOwned,
    Response: Serialize,
    Build: AsyncFn() -> Result<Context, Failure>,
    Handle: AsyncFn(Request, &Invocation, &Context) -> Result<Response, Failure>,
{
    logging::start();
    silence_panics();
    let context = OnceCell::new();
    if let Err(failure) = context.get_or_try_init(|| guard(build())).await {
        tracing::warn!(function, reason = failure.full_message(), "the context could not be built yet");
    }
    let (context, build, handle) = (&context, &build, &handle);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let mut invocation = Invocation::free(
            event.context.request_id,
            Timestamp(i64::try_from(event.context.deadline).unwrap_or(i64::MAX)),
        );
        let payload = event.payload.get().as_bytes();
        match context.get_or_try_init(|| guard(build())).await {
            Ok(context) => {
                let meter = Meter {
                    memory_mb: u64::try_from(event.context.env_config.memory).unwrap_or(0),
                    began: SystemClock::new().now(),
                    requests: state(context).requests(),
                };
                invocation.meter = Some(meter);
                let answer =
                    invoke(function, payload, &invocation, |request| handle(request, &invocation, context))
                        .await;
                figures::leave(state(context), function, meter, &invocation, payload).await;
                answer.map_err(Named)
            }
            Err(failure) => {
                tracing::error!(
                    function,
                    request_id = invocation.request_id,
                    failure = failure.name.as_str(),
                    reason = failure.full_message(),
                    "the invocation failed: there is no context"
                );
                Err(Named(failure))
            }
        }
    }))
    .await
}

/// A failure on its way to the platform: its name becomes `errorType`, its message with all causes `errorMessage`.
struct Named(Failure);

impl From<Named> for Diagnostic {
    fn from(Named(failure): Named) -> Self {
        Self { error_type: failure.name.to_string(), error_message: failure.full_message() }
    }
}

/// The runtime logs this form of every error.
impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.name)
    }
}
