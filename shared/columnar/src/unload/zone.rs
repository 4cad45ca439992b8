use penstock_model::unload::{Column, ColumnType};

use super::UnloadError;

/// What becomes of timestamps that come without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NaiveTimestamps {
    /// They stay as they are.
    Kept,
    /// They are instants of a zone this many seconds east of UTC.
    At {
        /// Seconds to subtract to come to UTC.
        offset_s: i32,
    },
}

impl From<Option<i32>> for NaiveTimestamps {
    /// From seconds east of UTC, as plans and manifests say it.
    fn from(offset_s: Option<i32>) -> Self {
        offset_s.map_or(Self::Kept, |offset_s| Self::At { offset_s })
    }
}

impl NaiveTimestamps {
    /// Reads a definition's `naive_timestamps`: `UTC`, `Z` or an offset such as `+02:00`.
    ///
    /// # Errors
    /// [`UnloadError::Definition`] for anything else.
    pub fn parse(text: Option<&str>) -> Result<Self, UnloadError> {
        let Some(text) = text else { return Ok(Self::Kept) };
        if matches!(text, "UTC" | "utc" | "Z") {
            return Ok(Self::At { offset_s: 0 });
        }
        offset(text).map(|offset_s| Self::At { offset_s }).ok_or_else(|| UnloadError::Definition {
            message: format!("naive_timestamps is {text}, which is neither UTC nor an offset such as +02:00"),
        })
    }

    /// The type a column has once this is applied.
    pub(crate) fn apply(self, kind: ColumnType) -> ColumnType {
        match self {
            Self::Kept => kind,
            Self::At { .. } => kind.zoned(),
        }
    }

    /// Seconds east of UTC; none if timestamps stay without zone.
    #[must_use]
    pub const fn zone_s(self) -> Option<i32> {
        match self {
            Self::Kept => None,
            Self::At { offset_s } => Some(offset_s),
        }
    }

    /// Seconds east of UTC of a timestamp without zone that has become an instant.
    pub(crate) fn offset_s(self) -> i32 {
        self.zone_s().unwrap_or(0)
    }
}

/// The columns of an unload once timestamps without zone are taken to be of the definition's `naive_timestamps`:
/// they become instants.
///
/// # Errors
/// As [`NaiveTimestamps::parse`].
pub fn with_zone(columns: Vec<Column>, naive_timestamps: Option<&str>) -> Result<Vec<Column>, UnloadError> {
    let naive = NaiveTimestamps::parse(naive_timestamps)?;
    let zoned = columns.into_iter().map(|column| Column { kind: naive.apply(column.kind), ..column });
    Ok(zoned.collect())
}

fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    let number = |text: &str, limit: i32| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|value| digits && *value < limit)
    };
    Some(sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read() {
        let at = |offset_s| Some(NaiveTimestamps::At { offset_s });
        let cases = [
            (None, Some(NaiveTimestamps::Kept)),
            (Some("UTC"), at(0)),
            (Some("+02:00"), at(7200)),
            (Some("-03:30"), at(-12600)),
            (Some("+05"), at(18000)),
            (Some("Europe/Berlin"), None),
            (Some("+2"), None),
            (Some("+02:99"), None),
            (Some("+é"), None),
            (Some(""), None),
        ];
        for (text, expected) in cases {
            assert_eq!(NaiveTimestamps::parse(text).ok(), expected, "{text:?}");
        }
    }
}
