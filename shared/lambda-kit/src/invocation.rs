use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::port::Clock;
use penstock_model::work::{Requests, Work};

/// One invocation of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The request's id, as it stands in the platform's logs.
    pub request_id: String,
    /// When the platform ends the invocation.
    pub deadline: Timestamp,
    /// What it is charged by; none on a laptop.
    pub meter: Option<Meter>,
}

/// How things stood when an invocation began that is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// The function's memory.
    pub memory_mb: u64,
    /// When it began.
    pub began: Timestamp,
    /// What the process had asked of the object store by then.
    pub requests: Requests,
}

impl Meter {
    /// What the invocation has used by now, if the process has asked so much of the object store.
    #[must_use]
    pub fn work(&self, now: Timestamp, requests: Requests) -> Work {
        let ms = u64::try_from(self.began.until(now).as_millis()).unwrap_or(u64::MAX);
        Work {
            invocations: 1,
            mb_ms: self.memory_mb.saturating_mul(ms),
            requests: requests.since(self.requests),
        }
    }
}

impl Invocation {
    /// An invocation that nobody is charged for.
    #[must_use]
    pub fn free(request_id: impl Into<String>, deadline: Timestamp) -> Self {
        Self { request_id: request_id.into(), deadline, meter: None }
    }

    /// The time that is left; zero once the deadline has passed.
    #[must_use]
    pub fn remaining(&self, clock: &dyn Clock) -> Duration {
        clock.now().until(self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_counts_from_where_it_began() {
        let requests = |reads, writes| Requests { reads, writes };
        let meter = Meter { memory_mb: 512, began: Timestamp(1_000), requests: requests(7, 2) };
        let expected = Work { invocations: 1, mb_ms: 512 * 250, requests: requests(3, 1) };
        assert_eq!(meter.work(Timestamp(1_250), requests(10, 3)), expected);
        // A clock that was set back charges for nothing.
        assert_eq!(meter.work(Timestamp(900), requests(7, 2)).mb_ms, 0);
    }
}
