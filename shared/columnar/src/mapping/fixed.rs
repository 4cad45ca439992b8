//! JSON that does not come from a row: constants, keys, and match values of removed rows.

use std::borrow::Cow;

use arrow::datatypes::i256;
use penstock_model::Key;
use penstock_model::connector::ValueStyle;
use penstock_model::key::{KeyDamaged, KeyValue};
use penstock_model::unload::{Column, ColumnType};
use serde_json::Value;

use super::Mapping;
use super::cells::Cell;
use super::json::{key_of, push_text};
use super::value::push_value;

/// A constant in the destination's style.
pub(super) fn constant(value: &Value, style: ValueStyle) -> String {
    let mut out = String::new();
    match (style, value) {
        (ValueStyle::Json, _) => push_canonical(&mut out, value),
        (ValueStyle::Text, Value::String(text)) => push_text(&mut out, text),
        (ValueStyle::Text, Value::Null) => out.push_str("\"\""),
        (ValueStyle::Text, Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let mut json = String::new();
            push_canonical(&mut json, value);
            push_text(&mut out, &json);
        }
    }
    out
}

/// Appends JSON with the keys of its objects sorted, so that it is the same in every build.
pub(super) fn push_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_canonical(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&key_of(name));
                push_canonical(out, member);
            }
            out.push('}');
        }
    }
}

/// The columns of a primary key, ready to show keys to people.
pub(crate) struct KeyColumns<'a>(Vec<(String, &'a ColumnType)>);

impl<'a> KeyColumns<'a> {
    /// The columns in their order in the key.
    pub(crate) fn of(columns: &'a [Column]) -> Self {
        Self(columns.iter().map(|column| (key_of(&column.name), &column.kind)).collect())
    }

    /// A key's columns and values as a JSON object.
    ///
    /// # Errors
    /// [`KeyDamaged`] if the key's bytes are no key.
    pub(crate) fn object(&self, key: &Key) -> Result<String, KeyDamaged> {
        let mut out = String::new();
        self.push(&mut out, key)?;
        Ok(out)
    }

    /// Appends what [`KeyColumns::object`] gives.
    ///
    /// # Errors
    /// [`KeyDamaged`] if the key's bytes are no key.
    pub(crate) fn push(&self, out: &mut String, key: &Key) -> Result<(), KeyDamaged> {
        let values = key.values()?;
        out.push('{');
        for (index, ((name, kind), value)) in self.0.iter().zip(&values).enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(name);
            push_value(out, &key_cell(value, kind), ValueStyle::Json);
        }
        out.push('}');
        Ok(())
    }
}

/// The match object from a key, spelt as from the row itself. `None` if a match column is no key column, or the
/// key has no value for it, or one that could never be sent.
///
/// # Errors
/// [`KeyDamaged`] if the key's bytes are no key.
pub(crate) fn match_from_key(
    mapping: &Mapping,
    key: &Key,
    columns: &[Column],
) -> Result<Option<String>, KeyDamaged> {
    let values = key.values()?;
    let mut out = String::from("{");
    for (index, field) in mapping.matched.iter().enumerate() {
        let wanted = mapping.columns.get(field.column);
        let found =
            columns.iter().zip(&values).find(|(column, _)| Some(&column.name.to_lowercase()) == wanted);
        let Some((column, value)) = found else {
            return Ok(None);
        };
        if index > 0 {
            out.push(',');
        }
        out.push_str(&field.key);
        // A value that is not of the match's type was never sent.
        let Ok(cell) = field.spelt(key_cell(value, &column.kind)) else {
            return Ok(None);
        };
        push_value(&mut out, &cell, mapping.style);
    }
    out.push('}');
    Ok((!mapping.matched.is_empty()).then_some(out))
}

/// A key's value as the column's cell: its canonical form has dropped trailing zeros and the like.
fn key_cell<'a>(value: &'a KeyValue, kind: &ColumnType) -> Cell<'a> {
    match value {
        KeyValue::Null => Cell::Null,
        KeyValue::Bool(value) => Cell::Bool(*value),
        KeyValue::Int(value) => match kind {
            ColumnType::Decimal { scale } => {
                Cell::Decimal(i256::from_i128(*value), 0, scale.max(&0).unsigned_abs())
            }
            ColumnType::Bool
            | ColumnType::Int
            | ColumnType::Float
            | ColumnType::Text
            | ColumnType::Binary
            | ColumnType::Uuid
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Instant
            | ColumnType::Naive
            | ColumnType::List(_)
            | ColumnType::Struct(_)
            | ColumnType::Map(_)
            | ColumnType::Null => Cell::Int(*value),
        },
        KeyValue::Decimal(text) => decimal_cell(text, kind),
        KeyValue::Text(text) => Cell::Text(Cow::Borrowed(text)),
        KeyValue::Bytes(bytes) => match (kind, <[u8; 16]>::try_from(bytes.as_slice())) {
            (ColumnType::Uuid, Ok(uuid)) => Cell::Uuid(uuid),
            (_, _) => Cell::Bytes(bytes),
        },
        KeyValue::Date(days) => Cell::Date((*days).into()),
        KeyValue::Time(nanos) => {
            let nanos = nanos.rem_euclid(86_400_000_000_000);
            Cell::Time(
                (nanos / 1_000_000_000).unsigned_abs(),
                u32::try_from(nanos % 1_000_000_000).unwrap_or_default(),
            )
        }
        KeyValue::Instant(nanos) => {
            let (seconds, nanos) = split(*nanos);
            Cell::Instant(seconds, nanos)
        }
        KeyValue::Naive(nanos) => {
            let (seconds, nanos) = split(*nanos);
            Cell::Naive(seconds, nanos)
        }
        KeyValue::Float(value) => Cell::Float(*value),
    }
}

/// `-1.05` with the column's zeros put back; a whole number beyond 128 bits stays a number.
fn decimal_cell<'a>(text: &'a str, kind: &ColumnType) -> Cell<'a> {
    let digits = super::convert::Digits::parse(text);
    match (digits, kind) {
        (Some(digits), ColumnType::Decimal { scale }) => {
            let text = digits.text(usize::from(scale.max(&0).unsigned_abs()));
            unscaled(&text).unwrap_or(Cell::Text(Cow::Owned(text)))
        }
        (Some(digits), _) if !text.contains('.') => Cell::Number(digits.text(0)),
        (_, _) => Cell::Text(Cow::Borrowed(text)),
    }
}

/// The decimal that a text of digits spells; `None` if it has too many of them.
fn unscaled(text: &str) -> Option<Cell<'static>> {
    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits = i256::from_string(&text.replace('.', ""))?;
    Some(Cell::Decimal(digits, i8::try_from(scale).ok()?, 0))
}

fn split(nanos: i128) -> (i64, u32) {
    let second = 1_000_000_000;
    (
        i64::try_from(nanos.div_euclid(second)).unwrap_or_default(),
        u32::try_from(nanos.rem_euclid(second)).unwrap_or_default(),
    )
}
