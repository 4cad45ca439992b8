//! The outside of a story: time that is turned, numbers that follow from the seed, executions, secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::definition::SecretRef;
use penstock_model::port::{
    Boxed, Clock, Execution, ExecutionStatus, Executions, ExecutionsUnavailable, Freshness, Random, Secret,
    SecretError, Secrets,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Tokio's time, which is paused, counted from the first of January 2026.
#[derive(Debug)]
pub(crate) struct TurnedClock(tokio::time::Instant);

impl TurnedClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for TurnedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000).plus(self.0.elapsed())
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Everything that is left to chance, from one seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number from `from` up to `to`, both included.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        self.0.lock().unwrap().random_range(from..=to)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn per_mille(&self, chance: u64) -> bool {
        chance > 0 && self.between(1, 1000) <= chance
    }

    pub(crate) fn one_of<T: Clone>(&self, choices: &[T]) -> T {
        let last = u64::try_from(choices.len() - 1).unwrap();
        choices[usize::try_from(self.between(0, last)).unwrap()].clone()
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.between(0, u64::try_from(at).unwrap())).unwrap();
            items.swap(at, other);
        }
    }
}

impl Random for Dice {
    fn next(&self) -> u64 {
        self.0.lock().unwrap().random()
    }
}

/// The executions of the state machine, as Step Functions would tell of them.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<BTreeMap<String, Execution>>);

impl Known {
    pub(crate) fn begin(&self, execution: &str, redriven_at: Option<Timestamp>) {
        let running = Execution { status: ExecutionStatus::Running, redriven_at };
        self.0.lock().unwrap().insert(execution.to_owned(), running);
    }

    pub(crate) fn end(&self, execution: &str) {
        if let Some(known) = self.0.lock().unwrap().get_mut(execution) {
            known.status = ExecutionStatus::Ended;
        }
    }
}

impl Executions for Known {
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            Ok(self.0.lock().unwrap().get(execution).copied())
        })
    }

    fn start<'a>(&'a self, _: &'a str, _: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        let refused = std::io::Error::other("a story starts its runs itself");
        Box::pin(std::future::ready(Err(ExecutionsUnavailable::Away {
            action: "started",
            source: Box::new(refused),
        })))
    }
}

/// One token for everything.
#[derive(Debug)]
pub(crate) struct OneToken;

impl Secrets for OneToken {
    fn fetch<'a>(&'a self, _: &'a SecretRef, _: Freshness) -> Boxed<'a, Result<Secret, SecretError>> {
        Box::pin(std::future::ready(Ok(Secret::new("token".to_owned()))))
    }
}
