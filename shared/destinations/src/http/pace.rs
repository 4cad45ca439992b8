//! When the next request may leave. Pure: the time is handed in.
//!
//! Each limit is kept by even spacing with a small burst (the generic cell rate algorithm), so that no stretch of its
//! length sees more than it allows, also if a push begins right after another. A limit per day can't be remembered
//! from push to push: it is spread evenly as well. On top, a learned spacing doubles when the destination says "too many"
//! and shrinks with every success.

use std::collections::VecDeque;
use std::time::Duration;

use penstock_model::Timestamp;

/// The part of a limit that may leave at once.
const BURST: f64 = 0.05;
/// The learned spacing after the first "too many" of a destination without limits, at least; µs.
const LEAST_LEARNED: f64 = 2_000.0;
const MOST_LEARNED: f64 = 60_000_000.0;
/// What a success leaves of the learned spacing.
const EASING: f64 = 0.98;
/// Requests over which the present pace is measured.
const MEASURED: usize = 16;

#[derive(Debug)]
pub(super) struct Pace {
    windows: Vec<Window>,
    learned: f64,
    learned_next: f64,
    lowered_at: Timestamp,
    held_until: Timestamp,
    throttles: u32,
    sent: VecDeque<f64>,
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
        let period = period.as_secs_f64() * 1_000_000.0;
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

    /// Takes a place for a request that leaves now, or says when the next one is free.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
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
    pub(super) fn throttled(&mut self, now: Timestamp, sent_at: Timestamp) -> u32 {
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
    pub(super) fn succeeded(&mut self, sent_at: Timestamp) {
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
    pub(super) fn hold_until(&mut self, moment: Timestamp) {
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
            prop_assert!(all >= (share * 3.0 * 0.9).floor(), "{all} of {share} in three periods");
        }
    }

    #[test]
    fn the_tightest_of_several_limits_counts() {
        let mut pace = Pace::new(&[(100, Duration::from_secs(1)), (60, Duration::from_secs(60))], 1);
        let sent = send_for(&mut pace, 0, 60_000);
        assert!((55..=60).contains(&sent.len()), "{}", sent.len());
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
