//! The time of the machine, or of a runtime whose time is turned by a test.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Clock};

/// The machine's clock. In a tokio runtime with paused time it follows that runtime: sleeping takes no time, and the
/// clock shows as if it had.
///
/// The machine's wall clock is read each time and not once: between two invocations Lambda freezes the process, and a
/// time counted on from the first would fall behind the deadlines that the platform sets.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    began: Instant,
    runtime_began: tokio::time::Instant,
}

impl SystemClock {
    /// A clock of the runtime that it is made in, if any.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in elsewhere")]
    pub fn new() -> Self {
        Self { began: Instant::now(), runtime_began: tokio::time::Instant::now() }
    }

    /// How far the runtime's time has been turned, in microseconds; 0 where nobody turns it.
    fn turned(&self) -> i64 {
        let real = self.began.elapsed().as_micros();
        let shown = self.runtime_began.elapsed().as_micros();
        let micros = |micros: u128| i64::try_from(micros).unwrap_or(i64::MAX);
        micros(shown).saturating_sub(micros(real))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in elsewhere")]
    fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        Timestamp(wall.saturating_add(self.turned()) / 1_000)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn follows_a_runtime_whose_time_is_turned() {
        let clock = SystemClock::new();
        let before = clock.now();
        clock.sleep(HOUR).await;
        let slept = before.until(clock.now());
        assert!(slept >= HOUR && slept < HOUR + Duration::from_millis(5), "{slept:?}");
        // Real time that passes meanwhile does not show.
        std::thread::sleep(Duration::from_millis(50));
        let after = before.until(clock.now());
        assert!(after < HOUR + Duration::from_millis(5), "{after:?}");
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "compares the clock with the machine's")]
    async fn shows_the_machine_s_time() {
        let clock = SystemClock::new();
        clock.sleep(Duration::from_millis(20)).await;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let difference = clock.now().0 - i64::try_from(wall.as_millis()).unwrap();
        assert!(difference.abs() <= 5, "{difference} ms apart");
    }
}
