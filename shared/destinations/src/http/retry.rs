//! How long to wait: backoff with jitter, `Retry-After`, and the vendor's rate headers.

use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::connector::RateHeaders;
use penstock_model::port::Random;
use penstock_model::report::AccountUse;

use super::transport::HeaderMap;

/// How often a request is sent before the destination counts as unavailable, or a row as rejected.
pub(crate) const ATTEMPTS: u32 = 6;
/// The longest first wait; each further one is up to twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A wait that is longer than this is taken to be a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Exponential backoff with full jitter: anything from nothing to the bound of this attempt, which is counted from 1.
pub(crate) fn backoff(attempt: u32, random: &dyn Random) -> Duration {
    let bound = FIRST_BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_BACKOFF);
    let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.next() % bound.saturating_add(1))
}

/// A wait after a "too many" that doesn't say how long: at least half of the bound, so that a whole account calms down.
pub(super) fn calm_down(throttles: u32, random: &dyn Random) -> Duration {
    let whole = Duration::from_secs(1)
        .saturating_mul(1 << throttles.saturating_sub(1).min(6))
        .min(LONGEST_BACKOFF * 2);
    let half = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
    Duration::from_millis(half + random.next() % half.saturating_add(1))
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `Retry-After` (RFC 9110 section 10.2.3): whole seconds, or a date, which is counted from the answer's own `Date` so that
/// clocks need not agree.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = header(headers, "retry-after")?;
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    let then = http_date(text)?;
    let base = header(headers, "date").and_then(http_date).unwrap_or(now);
    Some(base.until(then).min(LONGEST_WAIT))
}

fn http_date(text: &str) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp(date.timestamp().as_millisecond()))
}

/// How long until the vendor's rate headers promise more requests; `None` if they don't say.
pub(super) fn until_reset(names: &RateHeaders, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let number =
        |name: &Option<String>| header(headers, name.as_deref()?)?.parse::<f64>().ok().filter(|n| *n >= 0.0);
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT));
    if let Some(after) = number(&names.reset_after_s) {
        return seconds(after);
    }
    if let Some(at) = number(&names.reset_at_s) {
        #[expect(clippy::cast_precision_loss, reason = "a wait may be off by a microsecond")]
        return seconds((at - now.0 as f64 / 1000.0).max(0.0));
    }
    // In a sliding window some requests become free every moment: a tenth of it is enough for a few.
    number(&names.window_ms).and_then(|window| seconds(window / 10_000.0))
}

/// Whether the vendor's rate headers say that nothing is left.
pub(super) fn nothing_left(names: &RateHeaders, headers: &HeaderMap) -> bool {
    is_nought(names.remaining.as_deref(), headers)
}

/// Whether they say that nothing is left of the day's requests.
pub(super) fn nothing_left_today(names: &RateHeaders, headers: &HeaderMap) -> bool {
    is_nought(names.daily_remaining.as_deref(), headers)
}

fn is_nought(name: Option<&str>, headers: &HeaderMap) -> bool {
    name.and_then(|name| header(headers, name)).is_some_and(|left| left.parse() == Ok(0_i64))
}

/// What an answer says of the account's use.
pub(crate) fn account_use(names: &RateHeaders, headers: &HeaderMap) -> Option<AccountUse> {
    AccountUse::read(header(headers, names.used.as_deref()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::transport::{HeaderName, HeaderValue};

    #[derive(Debug)]
    struct Fixed(u64);

    impl Random for Fixed {
        fn next(&self) -> u64 {
            self.0
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
            })
            .collect()
    }

    #[test]
    fn backoff_grows_to_its_bound() {
        for (attempt, longest_ms) in [(1, 500), (2, 1_000), (3, 2_000), (7, 30_000), (60, 30_000)] {
            assert_eq!(backoff(attempt, &Fixed(longest_ms)), Duration::from_millis(longest_ms));
            assert_eq!(backoff(attempt, &Fixed(longest_ms + 1)), Duration::ZERO);
        }
        assert_eq!(calm_down(1, &Fixed(0)), Duration::from_millis(500));
        assert_eq!(calm_down(40, &Fixed(30_000)), Duration::from_secs(60));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp(1_767_225_600_000); // 2026-01-01T00:00:00Z
        let seconds = |n| Some(Duration::from_secs(n));
        for (pairs, expected) in [
            (vec![("retry-after", "7")], seconds(7)),
            (vec![("retry-after", " 0 ")], seconds(0)),
            (vec![("retry-after", "Thu, 01 Jan 2026 00:02:00 GMT")], seconds(120)),
            (
                vec![
                    ("retry-after", "Thu, 01 Jan 2026 00:02:00 GMT"),
                    ("date", "Thu, 01 Jan 2026 00:01:30 GMT"),
                ],
                seconds(30),
            ),
            (vec![("retry-after", "Wed, 31 Dec 2025 00:00:00 GMT")], seconds(0)),
            (vec![("retry-after", "99999999999")], Some(LONGEST_WAIT)),
            (vec![("retry-after", "soon")], None),
            (vec![], None),
        ] {
            assert_eq!(retry_after(&headers(&pairs), now), expected, "{pairs:?}");
        }
    }

    #[test]
    fn rate_headers_tell_what_is_left() {
        let names = RateHeaders {
            remaining: Some("x-left".into()),
            reset_after_s: Some("x-after".into()),
            reset_at_s: Some("x-at".into()),
            window_ms: Some("x-window".into()),
            used: None,
            daily_remaining: Some("x-left-today".into()),
        };
        let now = Timestamp(1_000_000);
        for (pairs, left, reset) in [
            (vec![("x-left", "0"), ("x-after", "1.5")], true, Some(Duration::from_millis(1_500))),
            (vec![("x-left", "3"), ("x-at", "1007")], false, Some(Duration::from_secs(7))),
            (vec![("x-at", "900")], false, Some(Duration::ZERO)),
            (vec![("x-left", "many"), ("x-window", "10000")], false, Some(Duration::from_secs(1))),
            (vec![], false, None),
        ] {
            let headers = headers(&pairs);
            assert_eq!(nothing_left(&names, &headers), left, "{pairs:?}");
            assert_eq!(until_reset(&names, &headers, now), reset, "{pairs:?}");
        }
        for (pairs, used_up) in
            [(vec![("x-left-today", "0")], true), (vec![("x-left-today", "1")], false), (vec![], false)]
        {
            assert_eq!(nothing_left_today(&names, &headers(&pairs)), used_up, "{pairs:?}");
        }
    }
}
