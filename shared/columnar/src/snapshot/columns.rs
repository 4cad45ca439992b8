//! Key columns between canonical bytes and Arrow arrays.

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Array, Date32Builder,
    Decimal128Array, Decimal128Builder, Float64Array, Float64Builder, Int64Array, Int64Builder, StringArray,
    StringBuilder, Time64NanosecondArray, Time64NanosecondBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder, TimestampNanosecondArray, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, TimeUnit};
use penstock_model::key::{KeyCell, KeyValue, cells, push_int, push_text, push_value};
use penstock_model::unload::{Column, ColumnType};

/// The largest whole number of DECIMAL(38, 0).
const DECIMAL_MAX: i128 = 10i128.pow(38) - 1;

/// The narrowest types of these columns that do what is asked of them.
pub(super) fn types(columns: &[Column], needs: &[Needs]) -> Vec<DataType> {
    columns.iter().zip(needs).map(|(column, need)| need.data_type(&column.kind)).collect()
}

/// Notes what a key asks of its columns' types.
pub(super) fn see(needs: &mut [Needs], key: &[u8]) {
    for (need, cell) in needs.iter_mut().zip(cells(key)) {
        need.see(cell.unwrap_or(KeyCell::Null));
    }
}

/// What the values of a column ask of its type.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    wide: bool,
    nanos: bool,
}

impl Needs {
    fn see(&mut self, cell: KeyCell<'_>) {
        match cell {
            KeyCell::Int(value) => self.wide |= i64::try_from(value).is_err(),
            KeyCell::Instant(nanos) | KeyCell::Naive(nanos) => self.nanos |= nanos % 1000 != 0,
            KeyCell::Null
            | KeyCell::Bool(_)
            | KeyCell::Decimal(_)
            | KeyCell::Text(_)
            | KeyCell::Bytes(_)
            | KeyCell::Date(_)
            | KeyCell::Time(_)
            | KeyCell::Float(_) => {}
        }
    }

    fn data_type(self, kind: &ColumnType) -> DataType {
        let unit = if self.nanos { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
        match kind {
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Int if self.wide => DataType::Decimal128(38, 0),
            ColumnType::Int => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(TimeUnit::Nanosecond),
            ColumnType::Instant => DataType::Timestamp(unit, Some("UTC".into())),
            ColumnType::Naive => DataType::Timestamp(unit, None),
            ColumnType::Decimal { .. }
            | ColumnType::Text
            | ColumnType::Uuid
            | ColumnType::List(_)
            | ColumnType::Struct(_)
            | ColumnType::Map(_)
            | ColumnType::Null => DataType::Utf8,
        }
    }
}

/// Fills one key column.
#[derive(Debug)]
pub(super) enum Filler {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Wide(Decimal128Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64NanosecondBuilder),
    Micros(TimestampMicrosecondBuilder),
    Nanos(TimestampNanosecondBuilder),
}

impl Filler {
    pub(super) fn new(data_type: &DataType, rows: usize) -> Self {
        let with_type = data_type.clone();
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "`Needs::data_type` gives no other, and text takes any"
        )]
        match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int64 => Self::Int(Int64Builder::with_capacity(rows)),
            DataType::Decimal128(..) => {
                Self::Wide(Decimal128Builder::with_capacity(rows).with_data_type(with_type))
            }
            DataType::Float64 => Self::Float(Float64Builder::with_capacity(rows)),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::with_capacity(rows)),
            DataType::Time64(_) => Self::Time(Time64NanosecondBuilder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Micros(TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(with_type))
            }
            DataType::Timestamp(_, _) => {
                Self::Nanos(TimestampNanosecondBuilder::with_capacity(rows).with_data_type(with_type))
            }
            _ => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
        }
    }

    /// Appends a value, or null where the column can't hold it. Gives whether it surely is what [`KeyColumn`] makes of it; it may be in
    /// other cases too.
    pub(super) fn append(&mut self, cell: KeyCell<'_>, kind: &ColumnType) -> bool {
        match (self, cell) {
            (Self::Int(array), KeyCell::Int(value)) => {
                let value = i64::try_from(value).ok();
                array.append_option(value);
                return value.is_some();
            }
            (Self::Text(array), KeyCell::Text(text)) => {
                array.append_value(text);
                return !matches!(kind, ColumnType::Decimal { .. });
            }
            (Self::Bool(array), KeyCell::Bool(value)) => array.append_value(value),
            (Self::Wide(array), KeyCell::Int(value)) => {
                array.append_option((-DECIMAL_MAX..=DECIMAL_MAX).contains(&value).then_some(value));
            }
            (Self::Float(array), KeyCell::Float(value)) => array.append_value(value),
            (Self::Text(array), KeyCell::Decimal(text)) => array.append_value(text),
            // A decimal column's value without a fraction.
            (Self::Text(array), KeyCell::Int(value)) => array.append_value(value.to_string()),
            (Self::Bytes(array), KeyCell::Bytes(block)) => array.append_value(block),
            (Self::Date(array), KeyCell::Date(days)) => array.append_value(days),
            (Self::Time(array), KeyCell::Time(nanos)) => array.append_value(nanos),
            (Self::Micros(array), KeyCell::Instant(nanos) | KeyCell::Naive(nanos)) => {
                array.append_option(i64::try_from(nanos / 1000).ok());
            }
            (Self::Nanos(array), KeyCell::Instant(nanos) | KeyCell::Naive(nanos)) => {
                array.append_option(i64::try_from(nanos).ok());
            }
            (Self::Bool(array), _) => array.append_null(),
            (Self::Int(array), _) => array.append_null(),
            (Self::Wide(array), _) => array.append_null(),
            (Self::Float(array), _) => array.append_null(),
            (Self::Text(array), _) => array.append_null(),
            (Self::Bytes(array), _) => array.append_null(),
            (Self::Date(array), _) => array.append_null(),
            (Self::Time(array), _) => array.append_null(),
            (Self::Micros(array), _) => array.append_null(),
            (Self::Nanos(array), _) => array.append_null(),
        }
        false
    }

    /// What was appended since the last time.
    pub(super) fn finish(&mut self) -> ArrayRef {
        use std::sync::Arc;
        match self {
            Self::Bool(array) => Arc::new(array.finish()),
            Self::Int(array) => Arc::new(array.finish()),
            Self::Wide(array) => Arc::new(array.finish()),
            Self::Float(array) => Arc::new(array.finish()),
            Self::Text(array) => Arc::new(array.finish()),
            Self::Bytes(array) => Arc::new(array.finish()),
            Self::Date(array) => Arc::new(array.finish()),
            Self::Time(array) => Arc::new(array.finish()),
            Self::Micros(array) => Arc::new(array.finish()),
            Self::Nanos(array) => Arc::new(array.finish()),
        }
    }
}

/// One key column of a batch, to be turned back into canonical bytes.
#[derive(Debug)]
pub(super) enum KeyColumn<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Wide(&'a Decimal128Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    Decimal(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64NanosecondArray),
    Micros(&'a TimestampMicrosecondArray),
    Nanos(&'a TimestampNanosecondArray),
}

impl<'a> KeyColumn<'a> {
    /// `None` if the array is of a type that no key column has.
    pub(super) fn of(array: &'a ArrayRef, kind: &ColumnType) -> Option<Self> {
        let any = array.as_any();
        #[expect(clippy::wildcard_enum_match_arm, reason = "no key column has another type")]
        Some(match array.data_type() {
            DataType::Boolean => Self::Bool(any.downcast_ref()?),
            DataType::Int64 => Self::Int(any.downcast_ref()?),
            DataType::Decimal128(_, 0) => Self::Wide(any.downcast_ref()?),
            DataType::Float64 => Self::Float(any.downcast_ref()?),
            DataType::Utf8 if matches!(kind, ColumnType::Decimal { .. }) => {
                Self::Decimal(any.downcast_ref()?)
            }
            DataType::Utf8 => Self::Text(any.downcast_ref()?),
            DataType::Binary => Self::Bytes(any.downcast_ref()?),
            DataType::Date32 => Self::Date(any.downcast_ref()?),
            DataType::Time64(TimeUnit::Nanosecond) => Self::Time(any.downcast_ref()?),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Micros(any.downcast_ref()?),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Self::Nanos(any.downcast_ref()?),
            _ => return None,
        })
    }

    /// Appends the row's value as canonical bytes; null where there is none, or no such row.
    pub(super) fn push(&self, row: usize, bytes: &mut Vec<u8>) {
        match self {
            Self::Int(array) => match cell(*array, row).map(|row| array.value(row)) {
                Some(value) => push_int(bytes, i128::from(value)),
                None => push_value(bytes, &KeyValue::Null),
            },
            Self::Text(array) => match cell(*array, row).map(|row| array.value(row)) {
                Some(text) => push_text(bytes, text),
                None => push_value(bytes, &KeyValue::Null),
            },
            Self::Bool(_)
            | Self::Wide(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::Bytes(_)
            | Self::Date(_)
            | Self::Time(_)
            | Self::Micros(_)
            | Self::Nanos(_) => push_value(bytes, &self.value(row).unwrap_or(KeyValue::Null)),
        }
    }

    fn value(&self, row: usize) -> Option<KeyValue> {
        Some(match self {
            Self::Bool(array) => KeyValue::Bool(array.value(cell(*array, row)?)),
            Self::Int(array) => KeyValue::Int(i128::from(array.value(cell(*array, row)?))),
            Self::Wide(array) => KeyValue::Int(array.value(cell(*array, row)?)),
            Self::Float(array) => KeyValue::Float(array.value(cell(*array, row)?)),
            Self::Text(array) => KeyValue::Text(array.value(cell(*array, row)?).to_owned()),
            Self::Decimal(array) => {
                let text = array.value(cell(*array, row)?);
                text.parse().map_or_else(|_| KeyValue::Decimal(text.to_owned()), KeyValue::Int)
            }
            Self::Bytes(array) => KeyValue::Bytes(array.value(cell(*array, row)?).to_vec()),
            Self::Date(array) => KeyValue::Date(array.value(cell(*array, row)?)),
            Self::Time(array) => KeyValue::Time(array.value(cell(*array, row)?)),
            Self::Micros(array) => {
                let micros = array.value(cell(*array, row)?);
                timestamp(array.data_type(), i128::from(micros) * 1000)
            }
            Self::Nanos(array) => {
                let nanos = array.value(cell(*array, row)?);
                timestamp(array.data_type(), i128::from(nanos))
            }
        })
    }
}

/// The row, if it exists and is not null.
fn cell(array: &dyn Array, row: usize) -> Option<usize> {
    (row < array.len() && array.is_valid(row)).then_some(row)
}

fn timestamp(data_type: &DataType, nanos: i128) -> KeyValue {
    if matches!(data_type, DataType::Timestamp(_, Some(_))) {
        KeyValue::Instant(nanos)
    } else {
        KeyValue::Naive(nanos)
    }
}
