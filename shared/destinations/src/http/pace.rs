//! When the next request may leave. Pure: the time is handed in.
//!
//! Each limit is kept by even spacing with a small burst (the generic cell rate algorithm), so that no stretch of its
//! length sees more than it allows. A push does not know when the one before it sent last, so that it begins as if
//! that had been this very moment, unless its cursor tells. Requests that leave at even distances arrive at uneven
//! ones: each limit is taken to be for a slightly longer time. On top, a learned spacing doubles when the destination
//! says "too many" and shrinks with every success.

use std::collections::VecDeque;
use std::time::Duration;

use penstock_model::Timestamp;
use serde::{Deserialize, Serialize};

/// The part of a limit that may leave at once.
const BURST: f64 = 0.05;
/// By how much one request may take longer on its way than a later one: a limit's time is taken to be this much longer,
/// or a tenth longer if that is less.
const MOST_JITTER: Duration = Duration::from_millis(250);
/// The learned spacing after the first "too many" of a destination without limits, at least; µs.
const LEAST_LEARNED: f64 = 2_000.0;
const MOST_LEARNED: f64 = 60_000_000.0;
/// What a success leaves of the learned spacing.
const EASING: f64 = 0.98;
/// Requests over which the present pace is measured.
const MEASURED: usize = 16;

#[derive(Debug)]
pub(crate) struct Pace {
    windows: Vec<Window>,
    learned: f64,
    learned_next: f64,
    lowered_at: Timestamp,
    held_until: Timestamp,
    throttles: u32,
    sent: VecDeque<f64>,
}

/// What one push leaves for the next.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptPace {
    /// Per limit: the moment from which its next request may leave, in milliseconds since 1970.
    next_ms: Vec<i64>,
    /// The learned spacing in microseconds.
    learned_us: f64,
    /// The moment from which the learned spacing lets a request leave, in milliseconds since 1970.
    learned_next_ms: i64,
}

/// One limit; times in µs since 1970.
#[derive(Debug)]
struct Window {
    spacing: f64,
    tolerance: f64,
    next: f64,
}

impl Window {
    fn new(count: u32, period: Duration, width: u32) -> Self {
        let share = f64::from(count.max(1)) / f64::from(width.max(1));
        // Whole requests, so that all shares together are no more than the limit; less than one per period is a longer period.
        let share = if share >= 1.0 { share.floor() } else { share };
        let period = (period + (period / 10).min(MOST_JITTER)).as_secs_f64() * 1_000_000.0;
        let burst = (share * BURST).floor();
        // Within one period: the burst, and as many as the spacing lets through.
        let spacing = period / (share - burst).max(f64::MIN_POSITIVE);
        Self { spacing, tolerance: spacing * burst, next: 0.0 }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds since 1970 are exact in an f64 for another two centuries"
)]
fn micros(at: Timestamp) -> f64 {
    at.0 as f64 * 1_000.0
}

#[expect(clippy::cast_possible_truncation, reason = "an f64 saturates as i64, and no time is that far away")]
fn timestamp(micros: f64) -> Timestamp {
    Timestamp((micros / 1_000.0).ceil() as i64)
}

impl Pace {
    /// A pace that keeps to these limits, of which this push takes one share of `width`.
    pub(super) fn new(windows: &[(u32, Duration)], width: u32) -> Self {
        Self {
            windows: windows.iter().map(|(count, period)| Window::new(*count, *period, width)).collect(),
            learned: 0.0,
            learned_next: 0.0,
            lowered_at: Timestamp(i64::MIN),
            held_until: Timestamp(i64::MIN),
            throttles: 0,
            sent: VecDeque::new(),
        }
    }

    /// A push begins, and knows of the one before it what `kept` says.
    pub(super) fn begin(&mut self, now: Timestamp, kept: &KeptPace) {
        let at = micros(now);
        for (number, window) in self.windows.iter_mut().enumerate() {
            let known = kept.next_ms.get(number).map(|ms| micros(Timestamp(*ms)));
            let next = known.unwrap_or(at + window.spacing + window.tolerance);
            window.next = window.next.max(next);
        }
        self.learned = self.learned.max(kept.learned_us).min(MOST_LEARNED);
        self.learned_next = self.learned_next.max(micros(Timestamp(kept.learned_next_ms)));
    }

    /// What the next push needs to know of the pace.
    pub(super) fn kept(&self) -> KeptPace {
        KeptPace {
            next_ms: self.windows.iter().map(|window| timestamp(window.next).0).collect(),
            learned_us: self.learned,
            learned_next_ms: timestamp(self.learned_next).0,
        }
    }

    /// Takes a place for a request that leaves now, or says when the next one is free.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let at = micros(now);
        let free = self
            .windows
            .iter()
            .map(|window| window.next - window.tolerance)
            .fold(self.learned_next, f64::max);
        let free = self.held_until.max(timestamp(free));
        if free > now {
            return Err(free);
        }
        for window in &mut self.windows {
            window.next = window.next.max(at) + window.spacing;
        }
        self.learned_next = self.learned_next.max(at) + self.learned;
        self.sent.push_back(at);
        if self.sent.len() > MEASURED {
            self.sent.pop_front();
        }
        Ok(())
    }

    /// The destination said "too many" to a request sent at `sent_at`: halves the pace, once for all requests that were
    /// under way together. Gives how often in a row.
    pub(crate) fn throttled(&mut self, now: Timestamp, sent_at: Timestamp) -> u32 {
        if sent_at >= self.lowered_at {
            self.throttles = self.throttles.saturating_add(1);
            self.lowered_at = now.max(Timestamp(sent_at.0.saturating_add(1)));
            let present = self.learned.max(self.fastest()).max(self.measured());
            self.learned = (present * 2.0).clamp(LEAST_LEARNED, MOST_LEARNED);
            self.learned_next = self.learned_next.max(micros(now) + self.learned);
        }
        self.throttles
    }

    /// The destination took a request that was sent at `sent_at`: raises the pace a little.
    pub(crate) fn succeeded(&mut self, sent_at: Timestamp) {
        if sent_at < self.lowered_at {
            return;
        }
        self.throttles = 0;
        self.learned *= EASING;
        if self.learned <= self.fastest().max(LEAST_LEARNED / 4.0) {
            self.learned = 0.0;
        }
    }

    /// Nothing leaves before this moment.
    pub(crate) fn hold_until(&mut self, moment: Timestamp) {
        self.held_until = self.held_until.max(moment);
    }

    /// The spacing that the limits ask for in the long run.
    fn fastest(&self) -> f64 {
        self.windows.iter().map(|window| window.spacing).fold(0.0, f64::max)
    }

    /// The spacing of the last requests.
    fn measured(&self) -> f64 {
        match (self.sent.front(), self.sent.back(), u32::try_from(self.sent.len())) {
            (Some(first), Some(last), Ok(count)) if count > 1 => (last - first) / f64::from(count - 1),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends as fast as the pace allows, for so long; gives the moments, in ms.
    fn send_for(pace: &mut Pace, from: i64, length_ms: i64) -> Vec<i64> {
        let (mut now, mut sent) = (Timestamp(from), Vec::new());
        while now.0 < from + length_ms {
            match pace.take(now) {
                Ok(()) => sent.push(now.0),
                Err(free) => {
                    assert!(free > now);
                    now = free;
                }
            }
        }
        sent
    }

    fn most_within(sent: &[i64], period_ms: i64) -> usize {
        (0..sent.len())
            .map(|n| sent[n..].iter().take_while(|at| **at < sent[n] + period_ms).count())
            .max()
            .unwrap_or(0)
    }

    proptest! {
        /// No stretch of a limit's length sees more than the share, and the share is used to nine tenths.
        #[test]
        fn limits_are_kept_and_used(count in 1_u32..500, seconds in 1_u64..20, width in 1_u32..20) {
            let mut pace = Pace::new(&[(count, Duration::from_secs(seconds))], width);
            let period = i64::try_from(seconds).unwrap() * 1_000;
            let sent = send_for(&mut pace, 1_700_000_000_000, period * 3);
            let share = f64::from(count) / f64::from(width);
            let share = if share >= 1.0 { share.floor() } else { share };
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let most = most_within(&sent, period) as f64;
            prop_assert!(most <= share.ceil(), "{most} of {share}");
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let all = sent.len() as f64;
            prop_assert!(all >= (share * 3.0 * 0.8).floor(), "{all} of {share} in three periods");
        }

        /// However short the pushes are that follow each other, and however late requests arrive.
        #[test]
        fn limits_are_kept_from_push_to_push(
            count in 1_u32..60,
            pushes in prop::collection::vec((1_i64..1_500, 0_i64..1_500), 1..40),
            late in prop::collection::vec(0_i64..100, 1..20),
        ) {
            let (mut now, mut arrived, mut kept) = (1_700_000_000_000, Vec::new(), KeptPace::default());
            for (length, gap) in pushes {
                let mut pace = Pace::new(&[(count, Duration::from_secs(1))], 1);
                pace.begin(Timestamp(now), &kept);
                arrived.extend(send_for(&mut pace, now, length));
                kept = pace.kept();
                now += length + gap;
            }
            for (at, late) in arrived.iter_mut().zip(late.iter().cycle()) {
                *at += late;
            }
            arrived.sort_unstable();
            let most = most_within(&arrived, 1_000);
            prop_assert!(most <= count as usize, "{most} of {count}");
        }
    }

    #[test]
    fn a_limit_of_few_requests_is_remembered_and_not_waited_for_again() {
        let new = || Pace::new(&[(1, Duration::from_secs(60))], 1);
        let mut first = new();
        first.begin(Timestamp(0), &KeptPace::default());
        assert_eq!(first.take(Timestamp(0)), Err(Timestamp(60_250)));
        let mut second = new();
        second.begin(Timestamp(60_250), &first.kept());
        assert_eq!(second.take(Timestamp(60_250)), Ok(()));
        let mut third = new();
        third.begin(Timestamp(60_300), &second.kept());
        assert_eq!(third.take(Timestamp(60_300)), Err(Timestamp(120_500)));
    }

    #[test]
    fn a_learned_pace_goes_on_where_it_was() {
        let mut first = Pace::new(&[], 1);
        for n in 0..16 {
            assert_eq!(first.take(Timestamp(n * 20_000)), Ok(()));
        }
        first.throttled(Timestamp(300_000), Timestamp(300_000));
        assert_eq!(first.take(Timestamp(300_001)), Err(Timestamp(340_000)));
        let mut second = Pace::new(&[], 1);
        second.begin(Timestamp(330_000), &first.kept());
        assert_eq!(second.take(Timestamp(330_000)), Err(Timestamp(340_000)));
        assert_eq!(second.take(Timestamp(340_000)), Ok(()));
        assert_eq!(second.take(Timestamp(340_001)), Err(Timestamp(380_000)));
    }

    #[test]
    fn the_tightest_of_several_limits_counts() {
        let mut pace = Pace::new(&[(100, Duration::from_secs(1)), (60, Duration::from_secs(60))], 1);
        let sent = send_for(&mut pace, 0, 60_000);
        assert!((54..=60).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn too_many_halves_the_pace_once_and_success_raises_it() {
        let mut pace = Pace::new(&[], 1);
        for n in 0..16 {
            assert_eq!(pace.take(Timestamp(n * 10)), Ok(()));
        }
        assert_eq!(pace.throttled(Timestamp(160), Timestamp(150)), 1);
        assert_eq!(pace.throttled(Timestamp(161), Timestamp(140)), 1);
        assert_eq!(pace.take(Timestamp(161)), Err(Timestamp(180)));
        let slow = send_for(&mut pace, 1_000, 1_000).len();
        assert_eq!(slow, 50);
        for _ in 0..40 {
            pace.succeeded(Timestamp(2_000));
        }
        let faster = send_for(&mut pace, 3_000, 1_000).len();
        assert!((90..=120).contains(&faster), "{faster}");
        for _ in 0..400 {
            pace.succeeded(Timestamp(2_000));
        }
        assert_eq!(pace.learned, 0.0);
    }

    #[test]
    fn nothing_leaves_while_held() {
        let mut pace = Pace::new(&[], 1);
        pace.hold_until(Timestamp(500));
        pace.hold_until(Timestamp(300));
        assert_eq!(pace.take(Timestamp(499)), Err(Timestamp(500)));
        assert_eq!(pace.take(Timestamp(500)), Ok(()));
    }
}
