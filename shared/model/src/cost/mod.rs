//! What a run costs on AWS, by its own figures and a dated table of list prices.
//!
//! Counted are the functions' invocations, their memory and time, what they ask of S3, and the state machine's transitions. Not
//! counted: what the Maps themselves read and write in S3, logs, storage, data transfer, KMS and Secrets Manager.

mod prices;

pub use prices::{PRICES, Price, Prices, Seen};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::work::{Requests, Work, WorkByFunction};

/// The functions' processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Architecture {
    /// Graviton; the template's default.
    #[default]
    #[serde(rename = "arm64")]
    Arm64,
    /// Intel and AMD.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Architecture {
    /// What this program was built for: on Lambda, what it runs on.
    #[must_use]
    pub const fn of_this_build() -> Self {
        if cfg!(target_arch = "x86_64") { Self::X86_64 } else { Self::Arm64 }
    }

    /// The name as the template has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }
}

/// What is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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

impl Usage {
    /// By the figures that a run's invocations left.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    pub fn of(work: &WorkByFunction) -> Self {
        let mut total = Work::default();
        for work in work.values() {
            total += *work;
        }
        Self {
            invocations: total.invocations,
            gb_seconds: total.mb_ms as f64 / 1_024_000.0,
            requests: total.requests,
            transitions: transitions(work),
        }
    }

    /// In dollars, at these prices on these processors.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    pub fn dollars(&self, prices: &Prices, architecture: Architecture) -> f64 {
        self.gb_seconds * prices.gb_second(architecture).dollars
            + self.invocations as f64 * prices.invocation.dollars
            + self.requests.reads as f64 * prices.read.dollars
            + self.requests.writes as f64 * prices.write.dollars
            + self.transitions as f64 * prices.transition.dollars
    }
}

/// Transitions that come with these invocations, by the way that `infra/sync.asl.json` takes: each state that is entered is
/// one, each repetition of a state is one, and so is each execution that a Map starts ("Transitions in Distributed Map state" in
/// the Step Functions developer guide). Exact for a run that goes well; a redrive is one more, and a state that failed and was
/// repeated counts here with what follows it.
fn transitions(work: &WorkByFunction) -> u64 {
    let of = |function: &str| work.get(function).map_or(0, |work| work.invocations);
    let map = |function: &str| u64::from(of(function) > 0);
    let (gates, chunks, pushes) = (of("gate"), of("transform"), of("push"));
    // The state that ends the run.
    1
        // The choice that follows.
        + 2 * of("plan")
        // The choice and the wait that follow; but for the last, which no wait follows.
        + (3 * of("unload")).saturating_sub(map("unload"))
        // The Map, and for each child its start and its one state.
        + map("read") + 2 * of("read")
        + map("diff") + 2 * of("diff")
        // The choice; where something is delivered, the Map and the choice behind it.
        + 2 * gates + 2 * gates * map("transform")
        // The child's start, the state, the child's end.
        + 3 * chunks
        // The choice; and a wait before each push of a chunk but its first.
        + 2 * pushes + pushes.saturating_sub(chunks)
        + of("dead-letter")
        + of("finish")
}

/// What a run has cost, as its report says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// At list prices, in dollars of the United States.
    pub dollars: f64,
    /// What for.
    pub usage: Usage,
    /// The functions' processors.
    pub architecture: Architecture,
    /// The day of the prices.
    pub prices_of: String,
    /// The region of the prices, which need not be the run's.
    pub region: String,
}

impl Cost {
    /// By the figures that a run's invocations on these processors left; none if they left none, as on a laptop.
    #[must_use]
    pub fn of(work: &WorkByFunction, architecture: Architecture) -> Option<Self> {
        let usage = (!work.is_empty()).then(|| Usage::of(work))?;
        Some(Self {
            dollars: usage.dollars(&PRICES, architecture),
            usage,
            architecture,
            prices_of: PRICES.date.to_owned(),
            region: PRICES.region.to_owned(),
        })
    }

    /// It in one line, for a person.
    #[must_use]
    pub fn line(&self) -> String {
        let Usage { invocations, gb_seconds, requests, transitions } = &self.usage;
        format!(
            "{} at list prices of {} ({}, {}): {gb_seconds:.1} GB-s in {invocations} invocations, {} reads and {} writes of S3, \
             {transitions} transitions",
            money(self.dollars),
            self.prices_of,
            self.region,
            self.architecture.as_str(),
            requests.reads,
            requests.writes,
        )
    }
}

/// Dollars with as many digits as say something.
#[must_use]
pub fn money(dollars: f64) -> String {
    if dollars >= 1.0 { format!("${dollars:.2}") } else { format!("${dollars:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_its_figures_say() {
        let requests = Requests { reads: 1_000, writes: 100 };
        let work = |invocations, mb_ms| Work { invocations, mb_ms, requests };
        let done: WorkByFunction = [
            ("plan".to_owned(), work(1, 0)),
            ("read".to_owned(), work(10, 1_024_000_000)),
            ("push".to_owned(), work(100, 2_048_000_000)),
        ]
        .into();
        let cost = Cost::of(&done, Architecture::X86_64).unwrap();
        assert_eq!(cost.usage.invocations, 111);
        assert_eq!(cost.usage.requests, Requests { reads: 3_000, writes: 300 });
        assert!((cost.usage.gb_seconds - 3_000.0).abs() < 1e-9);
        assert_eq!(cost.usage.transitions, 1 + 2 + 21 + 300);
        let others = 111.0 * 2e-7 + 3_000.0 * 4e-7 + 300.0 * 5e-6 + 324.0 * 2.5e-5;
        assert!((cost.dollars - (3_000.0 * 0.0000166667 + others)).abs() < 1e-9);
        let on_arm64 = Cost::of(&done, Architecture::Arm64).unwrap();
        assert!((on_arm64.dollars - (3_000.0 * 0.0000133334 + others)).abs() < 1e-9);
        assert_eq!(
            cost.line(),
            "$0.0608 at list prices of 2026-11-27 (us-east-1, x86_64): 3000.0 GB-s in 111 invocations, 3000 reads and 300 \
             writes of S3, 324 transitions"
        );
        assert_eq!(Cost::of(&WorkByFunction::new(), Architecture::Arm64), None);
    }

    #[test]
    fn dollars_have_the_digits_that_say_something() {
        assert_eq!(money(0.05007), "$0.0501");
        assert_eq!(money(12.345), "$12.35");
    }
}
