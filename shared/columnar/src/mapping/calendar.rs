//! Dates and times as ISO 8601 text.
//!
//! Years beyond 0000 to 9999 get a sign and six digits, the expanded form of ISO 8601: what a warehouse can hold is
//! shown, and a destination that can't take it refuses the row.

use super::json::push_padded;

const DAY_S: i64 = 86_400;

/// Appends `2000-02-29` for days since 1970-01-01.
pub(super) fn push_date(out: &mut String, days: i64) {
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era.saturating_mul(400) + i64::from(month <= 2);
    if (0..=9_999).contains(&year) {
        push_padded(out, year.unsigned_abs(), 4);
    } else {
        out.push(if year < 0 { '-' } else { '+' });
        push_padded(out, year.unsigned_abs(), 6);
    }
    out.push('-');
    push_padded(out, month.unsigned_abs(), 2);
    out.push('-');
    push_padded(out, day.unsigned_abs(), 2);
}

/// Appends `14:35:57.405270` for seconds of a day and nanoseconds of that second: six digits behind the point, nine
/// if there is anything below a microsecond.
pub(super) fn push_time(out: &mut String, seconds: u64, nanos: u32) {
    push_padded(out, seconds / 3_600, 2);
    out.push(':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(':');
    push_padded(out, seconds % 60, 2);
    out.push('.');
    if nanos.is_multiple_of(1_000) {
        push_padded(out, u64::from(nanos / 1_000), 6);
    } else {
        push_padded(out, u64::from(nanos), 9);
    }
}

/// Appends `2026-04-15T07:04:31.317898` for seconds since 1970 and nanoseconds of that second.
pub(super) fn push_moment(out: &mut String, seconds: i64, nanos: u32) {
    push_date(out, seconds.div_euclid(DAY_S));
    out.push('T');
    push_time(out, seconds.rem_euclid(DAY_S).unsigned_abs(), nanos);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(days: i64) -> String {
        let mut out = String::new();
        push_date(&mut out, days);
        out
    }

    fn moment(seconds: i64, nanos: u32) -> String {
        let mut out = String::new();
        push_moment(&mut out, seconds, nanos);
        out
    }

    #[test]
    fn days_at_the_edges() {
        let cases = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-000001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+010000-01-01"),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected);
        }
        date(i64::MAX);
        date(i64::MIN);
        moment(i64::MIN, 999_999_999);
        moment(i64::MAX, 999_999_999);
    }

    #[test]
    fn digits_behind_the_second() {
        assert_eq!(moment(0, 0), "1970-01-01T00:00:00.000000");
        assert_eq!(moment(-1, 999_999_000), "1969-12-31T23:59:59.999999");
        assert_eq!(moment(-1, 1), "1969-12-31T23:59:59.000000001");
    }

    proptest! {
        #[test]
        fn every_day_agrees_with_jiff(days in -719_528_i32..=2_932_896) {
            let epoch = jiff::civil::date(1970, 1, 1);
            let expected = epoch.checked_add(jiff::Span::new().days(days)).unwrap();
            prop_assert_eq!(date(days.into()), expected.to_string());
        }

        #[test]
        fn every_moment_agrees_with_jiff(seconds in -62_135_596_800_i64..=253_402_207_199, nanos in 0..1_000_000_000_u32) {
            let expected = jiff::Timestamp::new(seconds, 0).unwrap() + jiff::SignedDuration::from_nanos(nanos.into());
            let text = format!("{}Z", moment(seconds, nanos));
            prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap(), expected);
        }
    }
}
