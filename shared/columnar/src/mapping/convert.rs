//! The types a field can be sent as.

use std::borrow::Cow;

use super::cells::Cell;
use super::json::compact;
use super::value::{push_json, push_plain};

/// A field's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A decimal with so many digits in all, and so many behind the point.
    Decimal(usize, usize),
    /// Boolean.
    Boolean,
    /// A date.
    Date,
    /// A timestamp.
    Timestamp,
    /// JSON, sent nested.
    Json,
}

/// Why a value can't be sent as its field's type. Holds nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A short code.
    pub(super) code: &'static str,
    /// What is wrong, to follow the words "column x".
    pub(super) what: &'static str,
}

const NOT_INTEGER: Refusal = Refusal { code: "not_an_integer", what: "is not an integer" };
const NOT_NUMBER: Refusal = Refusal { code: "not_a_number", what: "is not a number" };
const NOT_BOOLEAN: Refusal = Refusal { code: "not_a_boolean", what: "is neither true nor false" };
const NOT_DATE: Refusal = Refusal { code: "not_a_date", what: "is not a date" };
const NOT_TIMESTAMP: Refusal = Refusal { code: "not_a_timestamp", what: "is not a timestamp" };
const NOT_JSON: Refusal = Refusal { code: "not_json", what: "is not JSON, or is nested too deep" };
const DIGITS_LOST: Refusal = Refusal {
    code: "decimal_digits_lost",
    what: "has more digits behind the point than the field's type keeps",
};
const TOO_LARGE: Refusal = Refusal {
    code: "decimal_too_large",
    what: "has more digits before the point than the field's type holds",
};

impl Target {
    /// The type of this name.
    ///
    /// # Errors
    /// Words that name the types there are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let word: String = text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
        let decimal = |inner: &str| {
            let (precision, scale) = inner.split_once(',')?;
            let (precision, scale) = (precision.parse().ok()?, scale.parse().ok()?);
            ((1..=76).contains(&precision) && scale <= precision).then_some(Self::Decimal(precision, scale))
        };
        match word.as_str() {
            "text" => Some(Self::Text),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            "date" => Some(Self::Date),
            "timestamp" => Some(Self::Timestamp),
            "json" => Some(Self::Json),
            other => other.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')).and_then(decimal),
        }
        .ok_or_else(|| {
            format!(
                "there is no type {text:?}: it is one of text, integer, number, decimal(p,s), boolean, date, timestamp, json"
            )
        })
    }

    /// The type of this name, of a value that identifies a record.
    ///
    /// # Errors
    /// Words that name the types there are.
    pub(super) fn parse_scalar(text: &str) -> Result<Self, String> {
        match Self::parse(text)? {
            Self::Json => Err("JSON can't identify a record: give another type, or none".to_owned()),
            scalar @ (Self::Text
            | Self::Integer
            | Self::Number
            | Self::Decimal(..)
            | Self::Boolean
            | Self::Date
            | Self::Timestamp) => Ok(scalar),
        }
    }

    /// The value as this type. A null stays a null.
    ///
    /// # Errors
    /// [`Refusal`] if the value is of another kind, or would lose digits.
    pub(super) fn convert<'a>(self, cell: Cell<'a>) -> Result<Cell<'a>, Refusal> {
        if matches!(cell, Cell::Null) {
            return Ok(cell);
        }
        match self {
            Self::Text => {
                Ok(if let Cell::Text(_) = cell { cell } else { Cell::Text(Cow::Owned(plain(&cell))) })
            }
            Self::Integer => digits(&cell).and_then(Digits::whole).map(Cell::Number).ok_or(NOT_INTEGER),
            Self::Number => number(&cell).ok_or(NOT_NUMBER),
            Self::Decimal(precision, scale) => digits(&cell).ok_or(NOT_NUMBER)?.decimal(precision, scale),
            Self::Boolean => boolean(&cell).map(Cell::Bool).ok_or(NOT_BOOLEAN),
            Self::Date => date(&cell).map(Cell::Date).ok_or(NOT_DATE),
            Self::Timestamp => timestamp(cell).ok_or(NOT_TIMESTAMP),
            Self::Json => {
                if let Cell::Text(text) = &cell {
                    return compact(text).map(Cell::Json).ok_or(NOT_JSON);
                }
                let mut text = String::new();
                push_json(&mut text, &cell);
                Ok(Cell::Json(text))
            }
        }
    }
}

fn plain(cell: &Cell<'_>) -> String {
    let mut text = String::new();
    push_plain(&mut text, cell);
    text
}

/// A number's decimal digits, without needless zeros.
pub(super) struct Digits {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Digits {
    /// Reads `-12.50`, also `+12` and `.5`; no exponent.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if !all_digits || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        Some(Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction })
    }

    /// As text, such as `-0.5`.
    pub(super) fn text(&self, least_fraction: usize) -> String {
        let mut text = String::with_capacity(self.whole.len() + self.fraction.len() + 3);
        if self.negative {
            text.push('-');
        }
        text.push_str(if self.whole.is_empty() { "0" } else { &self.whole });
        let zeros = least_fraction.saturating_sub(self.fraction.len());
        if zeros > 0 || !self.fraction.is_empty() {
            text.push('.');
            text.push_str(&self.fraction);
            text.extend(std::iter::repeat_n('0', zeros));
        }
        text
    }

    fn whole(self) -> Option<String> {
        self.fraction.is_empty().then(|| self.text(0))
    }

    fn decimal<'a>(self, precision: usize, scale: usize) -> Result<Cell<'a>, Refusal> {
        if self.fraction.len() > scale {
            Err(DIGITS_LOST)
        } else if self.whole.len() > precision - scale {
            Err(TOO_LARGE)
        } else if scale == 0 {
            Ok(Cell::Number(self.text(0)))
        } else {
            Ok(Cell::Text(Cow::Owned(self.text(scale))))
        }
    }
}

/// The digits of anything that is a number, or text that spells one.
fn digits(cell: &Cell<'_>) -> Option<Digits> {
    match cell {
        Cell::Int(_) | Cell::Decimal(..) | Cell::Number(_) => Digits::parse(&plain(cell)),
        // Display shows the shortest digits without an exponent.
        Cell::Float(value) => Digits::parse(&without_noise(*value).to_string()),
        Cell::Float32(value) => Digits::parse(&value.to_string()),
        Cell::Text(text) => Digits::parse(text),
        Cell::Null
        | Cell::Bool(_)
        | Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Date(_)
        | Cell::Time(..)
        | Cell::Instant(..)
        | Cell::Naive(..)
        | Cell::Json(_)
        | Cell::List(..)
        | Cell::Struct(..)
        | Cell::Map(..) => None,
    }
}

/// The number of 15 digits that calculating in floating point has missed by a hair: 13.75 for 12.5 × 1.1, which comes
/// to 13.750000000000002. Any other number as it is.
fn without_noise(value: f64) -> f64 {
    let rounded = format!("{value:.14e}").parse().unwrap_or(value);
    if (value - rounded).abs() <= 4.0 * f64::EPSILON * value.abs() { rounded } else { value }
}

fn number<'a>(cell: &Cell<'a>) -> Option<Cell<'a>> {
    match cell {
        Cell::Float(value) => value.is_finite().then_some(Cell::Float(*value)),
        Cell::Float32(value) => value.is_finite().then_some(Cell::Float32(*value)),
        Cell::Decimal(..) => Some(Cell::Number(plain(cell))),
        Cell::Text(text) => {
            Digits::parse(text).map(|digits| digits.text(0)).or_else(|| exponential(text)).map(Cell::Number)
        }
        Cell::Int(_)
        | Cell::Number(_)
        | Cell::Null
        | Cell::Bool(_)
        | Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Date(_)
        | Cell::Time(..)
        | Cell::Instant(..)
        | Cell::Naive(..)
        | Cell::Json(_)
        | Cell::List(..)
        | Cell::Struct(..)
        | Cell::Map(..) => digits(cell).map(|digits| Cell::Number(digits.text(0))),
    }
}

/// A number with an exponent, if it is spelt as in JSON and a float can hold it.
fn exponential(text: &str) -> Option<String> {
    let text = text.trim();
    serde_json::from_str::<f64>(text).ok().filter(|value| value.is_finite()).map(|_| text.to_owned())
}

fn boolean(cell: &Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Bool(value) => Some(*value),
        Cell::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        Cell::Int(_) | Cell::Decimal(..) | Cell::Number(_) => match digits(cell)?.text(0).as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        },
        Cell::Null
        | Cell::Float32(_)
        | Cell::Float(_)
        | Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Date(_)
        | Cell::Time(..)
        | Cell::Instant(..)
        | Cell::Naive(..)
        | Cell::Json(_)
        | Cell::List(..)
        | Cell::Struct(..)
        | Cell::Map(..) => None,
    }
}

fn date(cell: &Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Date(days) => Some(*days),
        Cell::Instant(seconds, _) | Cell::Naive(seconds, _) => Some(seconds.div_euclid(86_400)),
        Cell::Text(text) => {
            let date: jiff::civil::Date = text.trim().parse().ok()?;
            let days = date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).ok()?.get_days();
            Some(days.into())
        }
        Cell::Null
        | Cell::Bool(_)
        | Cell::Int(_)
        | Cell::Decimal(..)
        | Cell::Float32(_)
        | Cell::Float(_)
        | Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Time(..)
        | Cell::Number(_)
        | Cell::Json(_)
        | Cell::List(..)
        | Cell::Struct(..)
        | Cell::Map(..) => None,
    }
}

fn timestamp(cell: Cell<'_>) -> Option<Cell<'_>> {
    match cell {
        Cell::Instant(..) | Cell::Naive(..) => Some(cell),
        Cell::Date(days) => Some(Cell::Naive(days.checked_mul(86_400)?, 0)),
        Cell::Text(text) => {
            let text = text.trim();
            if let Ok(instant) = text.parse::<jiff::Timestamp>() {
                let (seconds, nanos) = floor(instant);
                return Some(Cell::Instant(seconds, nanos));
            }
            let moment: jiff::civil::DateTime = text.parse().ok()?;
            let instant = jiff::tz::Offset::UTC.to_timestamp(moment).ok()?;
            let (seconds, nanos) = floor(instant);
            Some(Cell::Naive(seconds, nanos))
        }
        Cell::Null
        | Cell::Bool(_)
        | Cell::Int(_)
        | Cell::Decimal(..)
        | Cell::Float32(_)
        | Cell::Float(_)
        | Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Time(..)
        | Cell::Number(_)
        | Cell::Json(_)
        | Cell::List(..)
        | Cell::Struct(..)
        | Cell::Map(..) => None,
    }
}

/// Seconds rounded down, and the nanoseconds above them.
fn floor(instant: jiff::Timestamp) -> (i64, u32) {
    let nanos = instant.as_nanosecond();
    let second = 1_000_000_000;
    (
        i64::try_from(nanos.div_euclid(second)).unwrap_or_default(),
        u32::try_from(nanos.rem_euclid(second)).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::i256;
    use penstock_model::connector::ValueStyle;

    use super::super::value::push_value;
    use super::*;

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(text))
    }

    fn decimal(unscaled: i128, scale: i8) -> Cell<'static> {
        Cell::Decimal(i256::from_i128(unscaled), scale, 0)
    }

    fn sent(target: &str, cell: Cell<'_>, style: ValueStyle) -> String {
        match Target::parse(target).unwrap().convert(cell) {
            Ok(cell) => {
                let mut out = String::new();
                push_value(&mut out, &cell, style);
                out
            }
            Err(refusal) => refusal.code.to_owned(),
        }
    }

    #[test]
    fn values_by_type_and_style() {
        let big = 9_007_199_254_740_993_i128;
        let cases = [
            ("text", Cell::Int(big), "\"9007199254740993\"", "\"9007199254740993\""),
            ("text", Cell::Bool(true), "\"true\"", "\"true\""),
            ("text", Cell::Date(11_016), "\"2000-02-29\"", "\"2000-02-29\""),
            ("text", text("a\"b"), r#""a\"b""#, r#""a\"b""#),
            ("text", Cell::Json("[1,\"x\"]".into()), r#""[1,\"x\"]""#, r#""[1,\"x\"]""#),
            ("integer", Cell::Int(big), "9007199254740993", "\"9007199254740993\""),
            ("integer", text(" 0012 "), "12", "\"12\""),
            ("integer", text("-0"), "0", "\"0\""),
            ("integer", decimal(1200, 2), "12", "\"12\""),
            ("integer", decimal(1201, 2), "not_an_integer", "not_an_integer"),
            ("integer", Cell::Float(1e20), "100000000000000000000", "\"100000000000000000000\""),
            ("integer", Cell::Float(1.5), "not_an_integer", "not_an_integer"),
            ("integer", Cell::Float(f64::NAN), "not_an_integer", "not_an_integer"),
            ("integer", Cell::Bool(true), "not_an_integer", "not_an_integer"),
            ("integer", text(""), "not_an_integer", "not_an_integer"),
            ("integer", text("1,000"), "not_an_integer", "not_an_integer"),
            ("number", decimal(-287_789_189, 2), "-2877891.89", "\"-2877891.89\""),
            ("number", text("1e3"), "1e3", "\"1e3\""),
            ("number", text("1e999"), "not_a_number", "not_a_number"),
            ("number", text("NaN"), "not_a_number", "not_a_number"),
            ("number", text("+.50"), "0.5", "\"0.5\""),
            ("number", Cell::Float(f64::INFINITY), "not_a_number", "not_a_number"),
            ("number", Cell::Float32(0.1), "0.1", "\"0.1\""),
            ("decimal(18,2)", Cell::Int(7), "\"7.00\"", "\"7.00\""),
            ("decimal(18, 2)", text("7.500"), "\"7.50\"", "\"7.50\""),
            ("decimal(18,2)", text("7.505"), "decimal_digits_lost", "decimal_digits_lost"),
            ("decimal(18,2)", Cell::Float(0.1 + 0.2), "\"0.30\"", "\"0.30\""),
            ("decimal(18,2)", Cell::Float(0.125), "decimal_digits_lost", "decimal_digits_lost"),
            (
                "decimal(18,2)",
                Cell::Float(123_456_789_012_345.67),
                "\"123456789012345.67\"",
                "\"123456789012345.67\"",
            ),
            ("decimal(18,2)", Cell::Float(14.87), "\"14.87\"", "\"14.87\""),
            ("decimal(4,2)", text("100"), "decimal_too_large", "decimal_too_large"),
            ("decimal(4,0)", text("100"), "100", "\"100\""),
            ("decimal(2,2)", text("-0.05"), "\"-0.05\"", "\"-0.05\""),
            ("decimal(18,2)", text("x"), "not_a_number", "not_a_number"),
            ("boolean", Cell::Bool(false), "false", "\"false\""),
            ("boolean", text("Yes"), "true", "\"true\""),
            ("boolean", Cell::Int(0), "false", "\"false\""),
            ("boolean", Cell::Int(2), "not_a_boolean", "not_a_boolean"),
            ("date", text("2026-02-29"), "not_a_date", "not_a_date"),
            ("date", text("1969-12-31"), "\"1969-12-31\"", "\"1969-12-31\""),
            ("date", Cell::Instant(-1, 0), "\"1969-12-31\"", "\"1969-12-31\""),
            ("date", Cell::Int(1), "not_a_date", "not_a_date"),
            (
                "timestamp",
                text("2026-04-15T09:04:31+02:00"),
                "\"2026-04-15T07:04:31.000000Z\"",
                "\"2026-04-15T07:04:31.000000Z\"",
            ),
            (
                "timestamp",
                text("2026-04-15 09:04:31"),
                "\"2026-04-15T09:04:31.000000\"",
                "\"2026-04-15T09:04:31.000000\"",
            ),
            (
                "timestamp",
                text("1969-12-31T23:59:59.5Z"),
                "\"1969-12-31T23:59:59.500000Z\"",
                "\"1969-12-31T23:59:59.500000Z\"",
            ),
            ("timestamp", Cell::Date(0), "\"1970-01-01T00:00:00.000000\"", "\"1970-01-01T00:00:00.000000\""),
            ("timestamp", text("soon"), "not_a_timestamp", "not_a_timestamp"),
            ("json", text("{ \"a\": [1] }"), "{\"a\":[1]}", r#""{\"a\":[1]}""#),
            ("json", text("{a}"), "not_json", "not_json"),
            ("json", Cell::Int(1), "1", "\"1\""),
            ("json", Cell::Null, "null", "\"\""),
        ];
        for (target, cell, json, as_text) in cases {
            let shown = format!("{target} {cell:?}");
            assert_eq!(sent(target, cell.clone(), ValueStyle::Json), json, "{shown}");
            assert_eq!(sent(target, cell, ValueStyle::Text), as_text, "{shown}");
        }
    }

    #[test]
    fn types_that_do_not_exist() {
        for wrong in
            ["string", "decimal", "decimal(2,3)", "decimal(0,0)", "decimal(77,2)", "decimal(a,b)", ""]
        {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
