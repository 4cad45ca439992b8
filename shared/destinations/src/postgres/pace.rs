//! Keeps statements apart, so that a connection's limits hold over all chunks of a run.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::definition::Limits;

/// The time between two statements of one push.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    next: Mutex<Timestamp>,
}

impl Pace {
    /// The slowest of the connection's limits, shared by `width` chunks.
    pub(super) fn new(limits: &Limits, width: NonZeroU32) -> Self {
        let windows = [
            (1, limits.requests_per_second),
            (10, limits.requests_per_10_seconds),
            (60, limits.requests_per_minute),
            (86_400, limits.requests_per_day),
        ];
        let gap = windows
            .into_iter()
            .filter_map(|(seconds, requests)| {
                Some(Duration::from_secs(seconds) * width.get() / requests?.max(1))
            })
            .max()
            .unwrap_or(Duration::ZERO);
        Self { gap, next: Mutex::new(Timestamp(i64::MIN)) }
    }

    /// Takes the next free moment and says how long it is until then; if that is more than `at_most`, takes none
    /// and says how long it would be.
    pub(super) fn take(&self, now: Timestamp, at_most: Duration) -> Result<Duration, Duration> {
        if self.gap.is_zero() {
            return Ok(Duration::ZERO);
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        let wait = now.until(turn);
        if wait > at_most {
            return Err(wait);
        }
        *next = turn.plus(self.gap);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_limit_counts_and_is_shared_by_the_width() {
        let limits =
            Limits { requests_per_second: Some(10), requests_per_10_seconds: Some(20), ..Limits::default() };
        let pace = Pace::new(&limits, NonZeroU32::new(4).unwrap());
        let ms = Duration::from_millis;
        assert_eq!(pace.take(Timestamp(1000), ms(9999)), Ok(ms(0)));
        assert_eq!(pace.take(Timestamp(1000), ms(9999)), Ok(ms(2000)));
        assert_eq!(pace.take(Timestamp(1500), ms(3499)), Err(ms(3500)));
        assert_eq!(pace.take(Timestamp(1500), ms(3500)), Ok(ms(3500)));
        assert_eq!(pace.take(Timestamp(60_000), ms(0)), Ok(ms(0)));
    }

    #[test]
    fn without_limits_nothing_waits() {
        let pace = Pace::new(&Limits::default(), NonZeroU32::MIN);
        for _ in 0..3 {
            assert_eq!(pace.take(Timestamp(0), Duration::ZERO), Ok(Duration::ZERO));
        }
    }
}
