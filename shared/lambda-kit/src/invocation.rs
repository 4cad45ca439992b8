use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::port::Clock;

/// One invocation of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The request's id, as it stands in the platform's logs.
    pub request_id: String,
    /// When the platform ends the invocation.
    pub deadline: Timestamp,
}

impl Invocation {
    /// The time that is left; zero once the deadline has passed.
    #[must_use]
    pub fn remaining(&self, clock: &dyn Clock) -> Duration {
        clock.now().until(self.deadline)
    }
}
