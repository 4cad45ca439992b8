//! What runs cost on AWS: by their own figures, and by arithmetic for loads that have not been run.

mod forecast;
mod prices;

pub use forecast::{Assumptions, forecast};
pub use prices::{Prices, prices};

use penstock_model::work::{Requests, WorkByFunction};
use serde::Serialize;

/// What is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Usage {
    /// Invocations of functions.
    pub invocations: u64,
    /// Memory times duration.
    pub gb_seconds: f64,
    /// Requests to S3.
    pub requests: Requests,
    /// Transitions of the state machine.
    pub transitions: u64,
}

/// Transitions that a run has whatever it does: its start, the choices, the Maps, and its end.
const OF_A_RUN: u64 = 10;

impl Usage {
    /// By the figures that a run's invocations left.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    pub fn of(work: &WorkByFunction) -> Self {
        let mut usage = Self { transitions: OF_A_RUN, ..Self::default() };
        for (function, work) in work {
            usage.invocations += work.invocations;
            usage.gb_seconds += work.mb_ms as f64 / 1_024_000.0;
            usage.requests.reads += work.requests.reads;
            usage.requests.writes += work.requests.writes;
            usage.transitions += work.invocations * transitions(function);
        }
        usage
    }

    /// In dollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    pub fn dollars(&self, prices: &Prices) -> f64 {
        self.gb_seconds * prices.lambda_gb_second_arm64
            + self.invocations as f64 * prices.lambda_request
            + self.requests.reads as f64 * prices.s3_read
            + self.requests.writes as f64 * prices.s3_write
            + self.transitions as f64 * prices.state_transition
    }
}

/// Transitions that come with one invocation of a function: the state itself, and what begins, follows or ends with it in
/// `infra/sync.asl.json`. A child execution's start counts as one.
fn transitions(function: &str) -> u64 {
    match function {
        // The child's start and its one state.
        "read" | "diff" => 2,
        // The child's start, and its end.
        "transform" => 3,
        // A choice and perhaps a wait follow.
        "push" | "unload" => 3,
        _ => 1,
    }
}

/// The usage in one line, for a person.
#[must_use]
pub fn line(usage: &Usage, prices: &Prices) -> String {
    format!(
        "{} at list prices of {} ({}, arm64): {:.1} GB-s in {} invocations, {} reads and {} writes of S3, {} transitions",
        money(usage.dollars(prices)),
        prices.date,
        prices.region,
        usage.gb_seconds,
        usage.invocations,
        usage.requests.reads,
        usage.requests.writes,
        usage.transitions
    )
}

/// Dollars with as many digits as say something.
#[must_use]
pub fn money(dollars: f64) -> String {
    if dollars >= 1.0 { format!("${dollars:.2}") } else { format!("${dollars:.4}") }
}

#[cfg(test)]
mod tests {
    use penstock_model::work::Work;

    use super::*;

    #[test]
    fn a_run_costs_what_its_figures_say() {
        let requests = Requests { reads: 1_000, writes: 100 };
        let work = |invocations, mb_ms| Work { invocations, mb_ms, requests };
        let work: WorkByFunction =
            [("read".to_owned(), work(10, 1_024_000_000)), ("push".to_owned(), work(100, 2_048_000_000))]
                .into();
        let usage = Usage::of(&work);
        assert_eq!((usage.invocations, usage.transitions), (110, 10 + 20 + 300));
        assert_eq!(usage.requests, Requests { reads: 2_000, writes: 200 });
        assert!((usage.gb_seconds - 3_000.0).abs() < 1e-9);
        let expected = 3_000.0 * 0.0000133334 + 110.0 * 2e-7 + 2_000.0 * 4e-7 + 200.0 * 5e-6 + 330.0 * 2.5e-5;
        assert!((usage.dollars(prices()) - expected).abs() < 1e-9);
        assert_eq!(money(0.05007), "$0.0501");
        assert_eq!(money(12.345), "$12.35");
    }
}
