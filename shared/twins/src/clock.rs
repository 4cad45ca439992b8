//! A twin's time: tokio's clock for durations, and a wall clock that goes along with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Where a twin's time began, on both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    wall: Timestamp,
}

/// One point in a twin's time.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) since_start: Duration,
    pub(crate) wall: Timestamp,
}

impl Clock {
    /// Starts now, with the wall clock at `wall`.
    pub(crate) fn starting_at(wall: Timestamp) -> Self {
        Self { started: Instant::now(), wall }
    }

    pub(crate) fn now(&self) -> Moment {
        let instant = Instant::now();
        let since_start = instant.saturating_duration_since(self.started);
        Moment { instant, since_start, wall: later(self.wall, since_start) }
    }
}

impl Moment {
    /// The wall clock as HubSpot writes it: RFC 3339 with milliseconds.
    pub(crate) fn rfc3339(&self) -> String {
        format!("{:.3}", self.wall)
    }

    /// The wall clock `ahead` from here as an HTTP date (RFC 9110 section 5.6.7).
    pub(crate) fn http_date(&self, ahead: Duration) -> String {
        later(self.wall, ahead).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

fn later(wall: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| wall.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_follows_tokios_clock() {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        tokio::time::advance(Duration::from_millis(90_250)).await;
        let now = clock.now();
        assert_eq!(now.since_start, Duration::from_millis(90_250));
        assert_eq!(now.rfc3339(), "2026-01-01T00:01:30.250Z");
        assert_eq!(now.http_date(Duration::from_secs(30)), "Thu, 01 Jan 2026 00:02:00 GMT");
    }
}
