//! How a value is spelt in an operation.
//!
//! | type | JSON |
//! |---|---|
//! | whole numbers, decimals without fraction | number, exact |
//! | decimals | string with the column's scale, such as `"0.00"` |
//! | floating point | shortest number that reads back; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | date, time | `"2000-02-29"`, `"14:35:57.405270"` |
//! | instant, timestamp without zone | `"2026-04-15T07:04:31.317898Z"`, the same without `Z` |
//! | binary | base64 with padding |
//! | lists, structs, maps | array, object, object |
//!
//! In text style every value is a string: the same spelling, quoted; the items of a list with semicolons between them, nulls
//! left out, as HubSpot wants a property of which several options are chosen; lists of lists and objects as JSON text; null as `""`.

use std::fmt::Write as _;

use penstock_model::connector::ValueStyle;

use super::calendar::{push_date, push_moment, push_time};
use super::cells::{Cell, Cells};
use super::json::{push_base64, push_int, push_text, push_unscaled, push_uuid};

/// Appends a value as JSON in the destination's style.
pub(super) fn push_value(out: &mut String, cell: &Cell<'_>, style: ValueStyle) {
    match style {
        ValueStyle::Json => push_json(out, cell),
        ValueStyle::Text => match plain_class(cell) {
            PlainClass::List(items) => {
                let mut plain = String::new();
                for item in items.iter().filter(|item| !matches!(item, Cell::Null)) {
                    if !plain.is_empty() {
                        plain.push(';');
                    }
                    push_plain(&mut plain, item);
                }
                push_text(out, &plain);
            }
            PlainClass::Clean => quoted(out, |out| push_plain(out, cell)),
            PlainClass::Unescaped => {
                let mut plain = String::new();
                push_plain(&mut plain, cell);
                push_text(out, &plain);
            }
        },
    }
}

/// Whether a value's plain text can stand between quotes as it is.
enum PlainClass<'a> {
    Clean,
    Unescaped,
    /// A list of values that are no lists or objects themselves.
    List(Vec<Cell<'a>>),
}

fn plain_class<'a>(cell: &'a Cell<'a>) -> PlainClass<'a> {
    match cell {
        Cell::List(items, rows) => {
            let items: Vec<Cell<'a>> = rows.clone().map(|row| items.at(row)).collect();
            let nested = |item: &Cell<'_>| matches!(item, Cell::List(..) | Cell::Struct(..) | Cell::Map(..));
            if items.iter().any(nested) { PlainClass::Unescaped } else { PlainClass::List(items) }
        }
        Cell::Text(_) | Cell::Json(_) | Cell::Struct(..) | Cell::Map(..) => PlainClass::Unescaped,
        Cell::Null
        | Cell::Bool(_)
        | Cell::Int(_)
        | Cell::Decimal(..)
        | Cell::Float32(_)
        | Cell::Float(_)
        | Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Date(_)
        | Cell::Time(..)
        | Cell::Instant(..)
        | Cell::Naive(..)
        | Cell::Number(_) => PlainClass::Clean,
    }
}

fn quoted(out: &mut String, push: impl FnOnce(&mut String)) {
    out.push('"');
    push(out);
    out.push('"');
}

/// Appends a value as JSON of its own type.
pub(super) fn push_json(out: &mut String, cell: &Cell<'_>) {
    match cell {
        Cell::Null => out.push_str("null"),
        Cell::Text(text) => push_text(out, text),
        Cell::Float(value) if !value.is_finite() => quoted(out, |out| push_plain(out, cell)),
        Cell::Float32(value) if !value.is_finite() => quoted(out, |out| push_plain(out, cell)),
        Cell::Decimal(_, scale, padding) if *scale > 0 || *padding > 0 => {
            quoted(out, |out| push_plain(out, cell));
        }
        Cell::Bool(_)
        | Cell::Int(_)
        | Cell::Decimal(..)
        | Cell::Float32(_)
        | Cell::Float(_)
        | Cell::Number(_)
        | Cell::Json(_) => push_plain(out, cell),
        Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Date(_)
        | Cell::Time(..)
        | Cell::Instant(..)
        | Cell::Naive(..) => {
            quoted(out, |out| push_plain(out, cell));
        }
        Cell::List(items, rows) => {
            out.push('[');
            for (index, row) in rows.clone().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(out, &items.at(row));
            }
            out.push(']');
        }
        Cell::Struct(fields, row) => {
            out.push('{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&field.key);
                push_json(out, &field.cells.at(*row));
            }
            out.push('}');
        }
        Cell::Map(keys, values, rows) => {
            out.push('{');
            for (index, row) in rows.clone().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_text(out, &plain(keys, row));
                out.push(':');
                push_json(out, &values.at(row));
            }
            out.push('}');
        }
    }
}

fn plain(cells: &Cells, row: usize) -> String {
    let mut text = String::new();
    push_plain(&mut text, &cells.at(row));
    text
}

/// Appends a value as text without quotes: nothing for a null, JSON for lists and objects.
pub(super) fn push_plain(out: &mut String, cell: &Cell<'_>) {
    match cell {
        Cell::Null => {}
        Cell::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Cell::Int(value) => push_int(out, *value),
        Cell::Decimal(unscaled, scale, padding) => push_unscaled(out, *unscaled, *scale, *padding),
        Cell::Float32(value) => push_float(out, f64::from(*value), value),
        Cell::Float(value) => push_float(out, *value, value),
        Cell::Text(text) => out.push_str(text),
        Cell::Number(text) | Cell::Json(text) => out.push_str(text),
        Cell::Bytes(bytes) => push_base64(out, bytes),
        Cell::Uuid(bytes) => push_uuid(out, *bytes),
        Cell::Date(days) => push_date(out, *days),
        Cell::Time(seconds, nanos) => push_time(out, *seconds, *nanos),
        Cell::Instant(seconds, nanos) => {
            push_moment(out, *seconds, *nanos);
            out.push('Z');
        }
        Cell::Naive(seconds, nanos) => push_moment(out, *seconds, *nanos),
        Cell::List(..) | Cell::Struct(..) | Cell::Map(..) => push_json(out, cell),
    }
}

/// The Debug form of a finite number is the shortest that reads back, and valid JSON.
fn push_float(out: &mut String, value: f64, shortest: &impl std::fmt::Debug) {
    if value.is_finite() {
        let written = write!(out, "{shortest:?}");
        debug_assert!(written.is_ok(), "a String takes every write");
    } else if value.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
}
