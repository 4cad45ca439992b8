//! What an invocation cost is left beside the run's objects.

use penstock_model::Timestamp;
use penstock_model::layout::RunKeys;
use penstock_model::port::{Clock as _, Condition, Objects};
use penstock_model::work::{Invoked, Requests};
use serde_json::Value;

use crate::clock::SystemClock;
use crate::invocation::Invocation;
use crate::invoke::subject;

/// An invocation's beginning.
pub(crate) struct Began {
    clock: SystemClock,
    at: Timestamp,
    requests: Requests,
}

impl Began {
    pub(crate) fn now(state: &dyn Objects) -> Self {
        let clock = SystemClock::new();
        Self { clock, at: clock.now(), requests: state.requests() }
    }

    /// Leaves the figures, if the payload is about a run. That they are missing harms nobody: it is not tried twice.
    pub(crate) async fn leave_figures(
        self,
        state: &dyn Objects,
        function: &str,
        memory_mb: u64,
        invocation: &Invocation,
        payload: &[u8],
    ) {
        let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
        let (Some(sync), Some(run)) = subject(&payload) else { return };
        // A name in a payload must not lead to another place.
        if [sync, run].iter().any(|name| name.is_empty() || name.contains('/')) {
            return;
        }
        let mut requests = state.requests().since(self.requests);
        // This one.
        requests.writes += 1;
        let took = self.at.until(self.clock.now()).as_millis();
        let figures = Invoked {
            function: function.to_owned(),
            id: invocation.request_id.replace('.', "-"),
            memory_mb,
            ms: u64::try_from(took).unwrap_or(u64::MAX),
            requests,
        };
        let key = RunKeys { sync, run }.work(&figures.name());
        if let Err(error) = state.put(&key, bytes::Bytes::new(), Condition::Always).await {
            tracing::warn!(%error, "an invocation's figures could not be left");
        }
    }
}
