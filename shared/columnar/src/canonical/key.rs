//! Primary keys in canonical form.

use arrow::array::{Array, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use penstock_model::key::{KeyValue, push_int, push_text, push_value};
use penstock_model::unload::{Column, ColumnType};

use super::cells::uuid_text;
use super::number::Number;
use super::{Unfit, array_of};
use crate::unload::UnloadError;

/// The keys of a batch's rows as canonical bytes, in one allocation.
#[derive(Default)]
pub struct Keys {
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
    /// Whether each key has a null.
    nulls: Vec<bool>,
}

/// Shows how many there are: keys are row values.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.ends.len())
    }
}

impl Keys {
    fn with_capacity(rows: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(rows * 12),
            ends: Vec::with_capacity(rows),
            nulls: Vec::with_capacity(rows),
        }
    }

    /// Each row's key, and whether a column of it is null.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let key = |(start, end): (&usize, &usize)| self.bytes.get(*start..*end).unwrap_or_default();
        starts.zip(&self.ends).map(key).zip(self.nulls.iter().copied())
    }

    fn value<T>(&mut self, value: T, push: impl Fn(&mut Vec<u8>, T)) {
        push(&mut self.bytes, value);
        self.ends.push(self.bytes.len());
        self.nulls.push(false);
    }

    fn null(&mut self) {
        push_value(&mut self.bytes, &KeyValue::Null);
        self.ends.push(self.bytes.len());
        self.nulls.push(true);
    }

    /// Keys of several columns, from those of each.
    fn joined(columns: &[Self], rows: usize) -> Self {
        let mut keys = Self::with_capacity(rows);
        keys.bytes.reserve(columns.iter().map(|column| column.bytes.len()).sum());
        let mut columns: Vec<_> = columns.iter().map(Self::iter).collect();
        for _ in 0..rows {
            let mut has_null = false;
            for (key, is_null) in columns.iter_mut().filter_map(Iterator::next) {
                keys.bytes.extend_from_slice(key);
                has_null |= is_null;
            }
            keys.ends.push(keys.bytes.len());
            keys.nulls.push(has_null);
        }
        keys
    }
}

/// The keys of a batch's rows, over `key_columns` in their order. A key with a null is still a key.
///
/// # Errors
/// [`UnloadError::SchemaMismatch`] if a column is not in the batch, or is a list, struct or map.
pub fn keys(batch: &RecordBatch, key_columns: &[Column]) -> Result<Keys, UnloadError> {
    let of_column = |column: &Column| {
        let mut keys = Keys::with_capacity(batch.num_rows());
        let array = array_of(batch, &column.name)?;
        push(array, &column.kind, &mut keys).map_err(|unfit| unfit.of(&column.name))?;
        Ok(keys)
    };
    match key_columns {
        [only] => of_column(only),
        _ => {
            let columns = key_columns.iter().map(of_column).collect::<Result<Vec<_>, UnloadError>>()?;
            Ok(Keys::joined(&columns, batch.num_rows()))
        }
    }
}

fn push(array: &dyn Array, kind: &ColumnType, rows: &mut Keys) -> Result<(), Unfit> {
    let unfit = || Unfit::new(array, kind);
    match array.data_type() {
        DataType::Null => (0..array.len()).for_each(|_| rows.null()),
        DataType::Boolean => values(rows, array.as_boolean().iter(), |row, value| {
            push_value(row, &KeyValue::Bool(value));
        }),
        DataType::Int8 => ints::<Int8Type>(array, rows),
        DataType::Int16 => ints::<Int16Type>(array, rows),
        DataType::Int32 => ints::<Int32Type>(array, rows),
        DataType::Int64 => ints::<Int64Type>(array, rows),
        DataType::UInt8 => ints::<UInt8Type>(array, rows),
        DataType::UInt16 => ints::<UInt16Type>(array, rows),
        DataType::UInt32 => ints::<UInt32Type>(array, rows),
        DataType::UInt64 => ints::<UInt64Type>(array, rows),
        DataType::Float16 => each::<Float16Type>(array, rows, |value| KeyValue::Float(value.to_f64())),
        DataType::Float32 => each::<Float32Type>(array, rows, |value| KeyValue::Float(f64::from(value))),
        DataType::Float64 => each::<Float64Type>(array, rows, KeyValue::Float),
        DataType::Decimal32(_, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| unfit())?;
            each::<Decimal32Type>(array, rows, |value| number(Number::of(i128::from(value), scale)));
        }
        DataType::Decimal64(_, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| unfit())?;
            each::<Decimal64Type>(array, rows, |value| number(Number::of(i128::from(value), scale)));
        }
        DataType::Decimal128(_, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| unfit())?;
            each::<Decimal128Type>(array, rows, |value| number(Number::of(value, scale)));
        }
        DataType::Decimal256(_, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| unfit())?;
            each::<Decimal256Type>(array, rows, |value| number(Number::of_wide(value, scale)));
        }
        DataType::Date32 => each::<Date32Type>(array, rows, KeyValue::Date),
        DataType::Time32(TimeUnit::Second) => {
            each::<Time32SecondType>(array, rows, |value| KeyValue::Time(i64::from(value) * 1_000_000_000));
        }
        DataType::Time32(_) => {
            each::<Time32MillisecondType>(array, rows, |value| KeyValue::Time(i64::from(value) * 1_000_000));
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            each::<Time64MicrosecondType>(array, rows, |value| KeyValue::Time(value.saturating_mul(1_000)));
        }
        DataType::Time64(_) => each::<Time64NanosecondType>(array, rows, KeyValue::Time),
        DataType::Timestamp(unit, zone) => {
            let of = if zone.is_some() { KeyValue::Instant } else { KeyValue::Naive };
            timestamps(array, *unit, rows, of);
        }
        DataType::Utf8 => values(rows, array.as_string::<i32>().iter(), push_text),
        DataType::LargeUtf8 => {
            values(rows, array.as_string::<i64>().iter(), push_text);
        }
        DataType::Utf8View => values(rows, array.as_string_view().iter(), push_text),
        DataType::Binary => values(rows, array.as_binary::<i32>().iter(), push_bytes),
        DataType::LargeBinary => values(rows, array.as_binary::<i64>().iter(), push_bytes),
        DataType::BinaryView => values(rows, array.as_binary_view().iter(), push_bytes),
        DataType::FixedSizeBinary(_) if matches!(kind, ColumnType::Uuid) => {
            values(rows, array.as_fixed_size_binary().iter(), push_uuid);
        }
        DataType::FixedSizeBinary(_) => values(rows, array.as_fixed_size_binary().iter(), push_bytes),
        DataType::List(_)
        | DataType::Struct(_)
        | DataType::Map(..)
        | DataType::Date64
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::ListView(_)
        | DataType::FixedSizeList(..)
        | DataType::LargeList(_)
        | DataType::LargeListView(_)
        | DataType::Union(..)
        | DataType::Dictionary(..)
        | DataType::RunEndEncoded(..) => return Err(unfit()),
    }
    Ok(())
}

fn values<T>(rows: &mut Keys, cells: impl Iterator<Item = Option<T>>, push: impl Fn(&mut Vec<u8>, T)) {
    for cell in cells {
        match cell {
            Some(value) => rows.value(value, &push),
            None => rows.null(),
        }
    }
}

fn ints<T: ArrowPrimitiveType>(array: &dyn Array, rows: &mut Keys)
where
    T::Native: Into<i128>,
{
    values(rows, array.as_primitive::<T>().iter(), |row, value| push_int(row, value.into()));
}

fn each<T: ArrowPrimitiveType>(array: &dyn Array, rows: &mut Keys, of: impl Fn(T::Native) -> KeyValue) {
    values(rows, array.as_primitive::<T>().iter(), |row, value| push_value(row, &of(value)));
}

fn number(number: Number) -> KeyValue {
    number.whole().map_or_else(|| KeyValue::Decimal(number.text()), KeyValue::Int)
}

fn timestamps(array: &dyn Array, unit: TimeUnit, rows: &mut Keys, of: impl Fn(i128) -> KeyValue) {
    let of = |value: i64, factor: i128| of(i128::from(value) * factor);
    match unit {
        TimeUnit::Second => each::<TimestampSecondType>(array, rows, |value| of(value, 1_000_000_000)),
        TimeUnit::Millisecond => each::<TimestampMillisecondType>(array, rows, |value| of(value, 1_000_000)),
        TimeUnit::Microsecond => each::<TimestampMicrosecondType>(array, rows, |value| of(value, 1_000)),
        TimeUnit::Nanosecond => each::<TimestampNanosecondType>(array, rows, |value| of(value, 1)),
    }
}

fn push_bytes(row: &mut Vec<u8>, block: &[u8]) {
    push_value(row, &KeyValue::Bytes(block.to_vec()));
}

fn push_uuid(row: &mut Vec<u8>, uuid: &[u8]) {
    match uuid.try_into().map(uuid_text) {
        Ok(text) => push_text(row, &String::from_utf8_lossy(&text)),
        Err(_) => push_bytes(row, uuid),
    }
}
