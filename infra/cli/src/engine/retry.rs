//! Error names, retriers and catchers.

use std::time::Duration;

use penstock_model::port::Random;

use super::path::ResultPath;

/// Matches every error that is not terminal.
pub(super) const ALL: &str = "States.ALL";
/// Matches every error that is neither terminal nor a timeout.
pub(super) const TASK_FAILED: &str = "States.TaskFailed";
/// A task or an execution ran longer than its `TimeoutSeconds`.
pub(super) const TIMEOUT: &str = "States.Timeout";
/// A path leads nowhere, no choice matches, or a value is of the wrong type. Terminal.
pub(super) const RUNTIME: &str = "States.Runtime";
/// A payload is larger than 256 KiB. Terminal.
pub(super) const DATA_LIMIT_EXCEEDED: &str = "States.DataLimitExceeded";
/// A result's place is no object.
pub(super) const RESULT_PATH_MATCH_FAILURE: &str = "States.ResultPathMatchFailure";
/// More of a Map's children failed than are tolerated.
pub(super) const EXCEED_TOLERATED_FAILURE_THRESHOLD: &str = "States.ExceedToleratedFailureThreshold";
/// A Map's items could not be read.
pub(super) const ITEM_READER_FAILED: &str = "States.ItemReaderFailed";

/// The `States.` names that a retrier or catcher may hold.
pub(super) const MATCHABLE: &[&str] = &[
    ALL,
    TASK_FAILED,
    TIMEOUT,
    RESULT_PATH_MATCH_FAILURE,
    EXCEED_TOLERATED_FAILURE_THRESHOLD,
    ITEM_READER_FAILED,
];

/// The longest retry interval: `MaxDelaySeconds` must be below 366 days.
const LONGEST_DELAY: Duration = Duration::from_secs(31_622_400);

/// Whether an `ErrorEquals` list matches an error.
///
/// `States.Runtime` and `States.DataLimitExceeded` always end the execution, as AWS documents it
/// ("Handling errors in Step Functions workflows", error names).
fn matches(names: &[String], error: &str) -> bool {
    if matches!(error, RUNTIME | DATA_LIMIT_EXCEEDED) {
        return false;
    }
    names.iter().any(|name| name == error || name == ALL || (name == TASK_FAILED && error != TIMEOUT))
}

/// One entry of `Retry`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrier {
    /// The errors it is for.
    pub error_equals: Vec<String>,
    /// The first delay.
    pub interval: Duration,
    /// How often it retries; 0 is never.
    pub max_attempts: u32,
    /// What each delay is multiplied with for the next; at least 1.
    pub backoff_rate: f64,
    /// The longest delay.
    pub max_delay: Option<Duration>,
    /// How delays are spread.
    pub jitter: Jitter,
}

/// How a retrier's delays are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// The delay as computed.
    None,
    /// A uniformly random delay between zero and the computed one.
    Full,
}

impl Retrier {
    /// The delay before retry number `attempt`, which counts from 0.
    fn delay(&self, attempt: u32, random: &dyn Random) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let longest = self.max_delay.unwrap_or(LONGEST_DELAY);
        let delay =
            Duration::try_from_secs_f64(self.interval.as_secs_f64() * self.backoff_rate.powi(exponent))
                .unwrap_or(longest)
                .min(longest);
        match self.jitter {
            Jitter::None => delay,
            Jitter::Full => {
                // 64 random bits taken as a fraction of 2^64.
                let millis = ((delay.as_millis() + 1) * u128::from(random.next())) >> 64;
                Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
            }
        }
    }
}

/// How often each of a state's retriers has been used since the state was entered.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    retriers: Vec<(&'a Retrier, u32)>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(retriers: &'a [Retrier]) -> Self {
        Self { retriers: retriers.iter().map(|retrier| (retrier, 0)).collect() }
    }

    /// The delay before the next try; `None` if there is none.
    ///
    /// Only the first retrier that matches counts: once it is used up, later ones are not asked.
    pub(super) fn after(&mut self, error: &str, random: &dyn Random) -> Option<Duration> {
        let (retrier, used) =
            self.retriers.iter_mut().find(|(retrier, _)| matches(&retrier.error_equals, error))?;
        if *used >= retrier.max_attempts {
            return None;
        }
        let delay = retrier.delay(*used, random);
        *used += 1;
        Some(delay)
    }

    /// All retries so far, as in `$$.State.RetryCount`.
    pub(super) fn count(&self) -> u32 {
        self.retriers.iter().map(|(_, used)| used).sum()
    }
}

/// One entry of `Catch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catcher {
    /// The errors it is for.
    pub error_equals: Vec<String>,
    /// Where `{"Error", "Cause"}` goes in the state's input.
    pub result_path: ResultPath,
    /// The state that follows.
    pub next: String,
}

/// The first catcher for an error.
pub(super) fn catcher<'a>(catchers: &'a [Catcher], error: &str) -> Option<&'a Catcher> {
    catchers.iter().find(|catcher| matches(&catcher.error_equals, error))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Seeded;
    use super::*;

    fn retrier(names: &[&str]) -> Retrier {
        Retrier {
            error_equals: names.iter().map(|&name| name.to_owned()).collect(),
            interval: Duration::from_secs(1),
            max_attempts: 2,
            backoff_rate: 2.0,
            max_delay: None,
            jitter: Jitter::None,
        }
    }

    #[test]
    fn names_match_as_aws_says() {
        for (name, error, expected) in [
            ("A", "A", true),
            ("A", "B", false),
            ("A", "a", false),
            (ALL, "A", true),
            (ALL, TIMEOUT, true),
            (ALL, RUNTIME, false),
            (ALL, DATA_LIMIT_EXCEEDED, false),
            (TASK_FAILED, "A", true),
            (TASK_FAILED, TIMEOUT, false),
            (TASK_FAILED, RUNTIME, false),
        ] {
            assert_eq!(matches(&[name.to_owned()], error), expected, "{name} {error}");
        }
    }

    #[test]
    fn the_first_retrier_that_matches_counts_alone() {
        let retriers = [retrier(&["A", "B"]), retrier(&["C"]), retrier(&[ALL])];
        let mut attempts = Attempts::new(&retriers);
        let random = Seeded::new(1);
        let mut after = |error| attempts.after(error, &random).map(|delay| delay.as_secs());
        assert_eq!(after("A"), Some(1));
        assert_eq!(after("B"), Some(2));
        assert_eq!(after("C"), Some(1));
        assert_eq!(after("B"), None, "used up, although States.ALL follows");
        assert_eq!(after("D"), Some(1));
        assert_eq!(attempts.count(), 4);
    }

    #[test]
    fn delays_grow_up_to_the_longest() {
        let long = Retrier { max_attempts: 5000, max_delay: Some(Duration::from_secs(5)), ..retrier(&["A"]) };
        let delays: Vec<u64> = (0..5).map(|n| long.delay(n, &Seeded::new(1)).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        assert_eq!(long.delay(4999, &Seeded::new(1)).as_secs(), 5, "overflow is the longest delay");
    }

    #[test]
    fn full_jitter_spreads_over_the_whole_delay() {
        let jittered = Retrier { jitter: Jitter::Full, interval: Duration::from_secs(8), ..retrier(&["A"]) };
        let random = Seeded::new(7);
        let delays: Vec<u128> = (0..400).map(|_| jittered.delay(0, &random).as_millis()).collect();
        assert!(delays.iter().all(|&ms| ms <= 8000));
        for quarter in 0..4 {
            let within = delays.iter().filter(|&&ms| ms / 2000 == quarter).count();
            assert!((60..140).contains(&within), "{within} of 400 in quarter {quarter}");
        }
    }
}
