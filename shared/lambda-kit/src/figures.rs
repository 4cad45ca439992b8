//! What an invocation cost is left beside the run's objects.

use penstock_model::layout::RunKeys;
use penstock_model::port::{Clock as _, Condition, Objects};
use penstock_model::work::Invoked;
use serde_json::Value;

use crate::clock::SystemClock;
use crate::invocation::{Invocation, Meter};
use crate::invoke::subject;

/// Leaves the figures, if the payload is about a run. That they are missing harms nobody: it is not tried twice.
pub(crate) async fn leave(
    state: &dyn Objects,
    function: &str,
    meter: Meter,
    invocation: &Invocation,
    payload: &[u8],
) {
    let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
    let (Some(sync), Some(run)) = subject(&payload) else { return };
    // A name in a payload must not lead to another place.
    if [sync, run].iter().any(|name| name.is_empty() || name.contains('/')) {
        return;
    }
    let mut requests = state.requests().since(meter.requests);
    // This one.
    requests.writes += 1;
    let took = meter.began.until(SystemClock::new().now()).as_millis();
    let figures = Invoked {
        function: function.to_owned(),
        id: invocation.request_id.replace('.', "-"),
        memory_mb: meter.memory_mb,
        ms: u64::try_from(took).unwrap_or(u64::MAX),
        requests,
    };
    let key = RunKeys { sync, run }.work(&figures.name());
    if let Err(error) = state.put(&key, bytes::Bytes::new(), Condition::Always).await {
        tracing::warn!(%error, "an invocation's figures could not be left");
    }
}
