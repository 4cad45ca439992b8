//! Rate limits over a sliding window and over a day.

use std::{collections::VecDeque, time::Duration};

use penstock_model::definition::Limits;
use tokio::time::Instant;

/// The length of a day of a daily quota.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// At most so many requests in any stretch of time of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests are let through; 0 means that there is no limit.
    pub requests: u32,
    /// The length of the window.
    pub within: Duration,
}

impl RateLimit {
    /// `requests` per `within`.
    pub const fn new(requests: u32, within: Duration) -> Self {
        Self { requests, within }
    }

    /// No limit.
    pub const UNLIMITED: Self = Self::new(0, Duration::from_secs(1));
}

/// What an account allows, as a definition says it: its rate limits, and its requests a day.
pub fn account_limits(limits: &Limits) -> (Vec<RateLimit>, Option<u64>) {
    let windows = [
        (limits.requests_per_second, 1),
        (limits.requests_per_10_seconds, 10),
        (limits.requests_per_minute, 60),
    ];
    let rate = |(requests, seconds): (Option<u32>, u64)| {
        Some(RateLimit::new(requests?, Duration::from_secs(seconds)))
    };
    (windows.into_iter().filter_map(rate).collect(), limits.requests_per_day.map(u64::from))
}

/// Enforces a [`RateLimit`]. Refused requests do not count against it.
pub(crate) struct Window {
    limit: RateLimit,
    admitted: VecDeque<Instant>,
}

impl Window {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, admitted: VecDeque::new() }
    }

    /// How long a request at `now` has to wait; zero if it would be let through.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        if self.limit.requests == 0 {
            return Duration::ZERO;
        }
        self.forget(now);
        if self.remaining() > 0 {
            return Duration::ZERO;
        }
        let oldest = self.admitted.front().copied().unwrap_or(now);
        (oldest + self.limit.within).saturating_duration_since(now)
    }

    /// Counts a request at `now`.
    pub(crate) fn count(&mut self, now: Instant) {
        if self.limit.requests > 0 {
            self.admitted.push_back(now);
        }
    }

    /// How many requests would be let through at `now`.
    pub(crate) fn remaining_at(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.remaining()
    }

    fn remaining(&self) -> usize {
        usize::try_from(self.limit.requests).unwrap_or(usize::MAX).saturating_sub(self.admitted.len())
    }

    fn forget(&mut self, now: Instant) {
        while self.admitted.front().is_some_and(|at| now.saturating_duration_since(*at) >= self.limit.within)
        {
            self.admitted.pop_front();
        }
    }
}

/// Several limits that all hold at once.
pub(crate) struct Windows(pub(crate) Vec<Window>);

impl Windows {
    pub(crate) fn new(limits: Vec<RateLimit>) -> Self {
        Self(limits.into_iter().map(Window::new).collect())
    }

    /// The limits there are.
    pub(crate) fn limits(&self) -> impl Iterator<Item = RateLimit> {
        self.0.iter().map(|window| window.limit).filter(|limit| limit.requests > 0)
    }

    /// Counts a request at `now` in every window, or says how long until one would be let through by all; then it
    /// counts in none.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let wait = self.0.iter_mut().map(|window| window.wait(now)).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for window in &mut self.0 {
            window.count(now);
        }
        Ok(())
    }

    /// The window with the fewest requests left at `now`, and how many; nothing without limits.
    pub(crate) fn tightest(&mut self, now: Instant) -> Option<(RateLimit, usize, Duration)> {
        let left = self.0.iter_mut().filter(|window| window.limit.requests > 0);
        left.map(|window| (window.limit, window.remaining_at(now), window.wait(now)))
            .min_by_key(|(_, remaining, _)| *remaining)
    }
}

/// A number of requests a day; days are counted from the twin's start.
pub(crate) struct DailyQuota {
    limit: u64,
    day: u64,
    used: u64,
}

impl DailyQuota {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, day: 0, used: 0 }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes all that is left of the day's quota.
    pub(crate) fn use_up(&mut self, since_start: Duration) {
        self.used += self.remaining_at(since_start);
    }

    /// Takes one request from the day's quota, or says how long until the next day.
    pub(crate) fn admit(&mut self, since_start: Duration) -> Result<(), Duration> {
        if self.remaining_at(since_start) == 0 {
            let into_day = since_start.as_secs() % DAY.as_secs();
            return Err(DAY.saturating_sub(Duration::from_secs(into_day)));
        }
        self.used += 1;
        Ok(())
    }

    /// How much of the quota is left on the day of `since_start`.
    pub(crate) fn remaining_at(&mut self, since_start: Duration) -> u64 {
        let day = since_start.as_secs() / DAY.as_secs();
        if day != self.day {
            (self.day, self.used) = (day, 0);
        }
        self.limit.saturating_sub(self.used)
    }
}

/// The highest number of `times` (ascending) in any stretch of `length`: two times exactly `length` apart are not
/// in the same stretch.
pub fn most_within(times: &[Instant], length: Duration) -> usize {
    let mut open: VecDeque<Instant> = VecDeque::new();
    let mut most = 0;
    for time in times {
        open.push_back(*time);
        while open
            .front()
            .is_some_and(|first| time.saturating_duration_since(*first) >= length && first != time)
        {
            open.pop_front();
        }
        most = most.max(open.len());
    }
    most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_place_is_free_again_when_its_request_leaves_the_window() {
        let start = Instant::now();
        let mut window = Windows::new(vec![RateLimit::new(2, millis(100))]);
        assert_eq!(window.admit(start), Ok(()));
        assert_eq!(window.admit(start + millis(40)), Ok(()));
        assert_eq!(window.admit(start + millis(60)), Err(millis(40)));
        assert_eq!(window.admit(start + millis(99)), Err(millis(1)));
        assert_eq!(window.admit(start + millis(100)), Ok(()));
        assert_eq!(window.admit(start + millis(101)), Err(millis(39)));
        let (_, remaining, wait) = window.tightest(start + millis(140)).unwrap();
        assert_eq!((remaining, wait), (1, Duration::ZERO));
    }

    #[test]
    fn several_windows_hold_at_once_and_a_refused_request_counts_in_none() {
        let start = Instant::now();
        let mut windows = Windows::new(vec![
            RateLimit::new(1, millis(10)),
            RateLimit::new(2, millis(100)),
            RateLimit::UNLIMITED,
        ]);
        assert_eq!(windows.admit(start), Ok(()));
        assert_eq!(windows.admit(start + millis(5)), Err(millis(5)));
        assert_eq!(
            windows.admit(start + millis(10)),
            Ok(()),
            "the refused one took no place in the longer window"
        );
        assert_eq!(windows.admit(start + millis(20)), Err(millis(80)));
        let (limit, remaining, wait) = windows.tightest(start + millis(20)).unwrap();
        assert_eq!((limit.requests, remaining, wait), (2, 0, millis(80)));
        assert_eq!(windows.admit(start + millis(100)), Ok(()));
    }

    #[test]
    fn zero_means_no_limit() {
        let start = Instant::now();
        let mut window = Windows::new(vec![RateLimit::UNLIMITED]);
        assert!((0..1_000).all(|_| window.admit(start).is_ok()));
    }

    #[test]
    fn a_daily_quota_comes_back_the_next_day() {
        let mut quota = DailyQuota::new(2);
        assert_eq!(quota.admit(millis(0)), Ok(()));
        assert_eq!(quota.admit(millis(0)), Ok(()));
        assert_eq!(quota.admit(Duration::from_secs(3_600)), Err(Duration::from_secs(23 * 3_600)));
        assert_eq!(quota.admit(DAY), Ok(()));
        assert_eq!(quota.remaining_at(DAY), 1);
    }

    #[test]
    fn the_busiest_stretch() {
        let start = Instant::now();
        let check = |offsets: &[u64], length: u64, expected: usize| {
            let times: Vec<Instant> = offsets.iter().map(|ms| start + millis(*ms)).collect();
            assert_eq!(most_within(&times, millis(length)), expected, "{offsets:?} within {length}");
        };
        check(&[], 10, 0);
        check(&[5], 10, 1);
        check(&[0, 10, 20], 10, 1);
        check(&[0, 9, 10, 11, 30], 10, 3);
        check(&[0, 0, 0], 1, 3);
    }

    proptest! {
        /// However requests arrive, those let through never exceed the limit in any window, and a refused one would
        /// have been let through after the wait it was told.
        #[test]
        fn what_is_admitted_keeps_the_limit(gaps in prop::collection::vec(0u64..40, 1..200), limit in 1u32..8) {
            let rate = RateLimit::new(limit, millis(100));
            let (mut window, mut now, mut admitted) = (Windows::new(vec![rate]), Instant::now(), Vec::new());
            for gap in gaps {
                now += millis(gap);
                if let Err(wait) = window.admit(now) {
                    prop_assert!(wait > Duration::ZERO);
                    now += wait;
                    prop_assert_eq!(window.admit(now), Ok(()));
                }
                admitted.push(now);
            }
            prop_assert!(most_within(&admitted, rate.within) <= limit as usize);
        }
    }
}
