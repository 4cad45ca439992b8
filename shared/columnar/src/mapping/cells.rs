//! An Arrow column's values, one at a time, whatever array they lie in.

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int64Array, StringViewArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date64Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, i256,
};
use penstock_model::unload::ColumnType;

use super::json;

/// One value. Never shown by Debug, since it is a row's.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(super) enum Cell<'a> {
    /// No value.
    Null,
    /// Boolean.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A decimal: unscaled, digits behind the point, zeros to add behind those.
    Decimal(i256, i8, u8),
    /// Single precision.
    Float32(f32),
    /// Double precision.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Binary.
    Bytes(&'a [u8]),
    /// A UUID.
    Uuid([u8; 16]),
    /// Days since 1970.
    Date(i64),
    /// Seconds and nanoseconds of a day.
    Time(u64, u32),
    /// Seconds since 1970 and nanoseconds of that second, in UTC.
    Instant(i64, u32),
    /// The same on an unstated clock.
    Naive(i64, u32),
    /// A number as JSON spells it.
    Number(String),
    /// Any JSON, without line breaks.
    Json(String),
    /// Values of a list.
    List(&'a Cells, Range<usize>),
    /// A struct's fields, and the row.
    Struct(&'a [StructField], usize),
    /// Keys, values, and which of them.
    Map(&'a Cells, &'a Cells, Range<usize>),
}

/// A field of a struct column.
pub(super) struct StructField {
    /// Its name.
    pub(super) name: String,
    /// Its name as a JSON key.
    pub(super) key: String,
    /// Its values.
    pub(super) cells: Cells,
}

/// A column of one batch, ready to be read row by row.
pub(super) struct Cells {
    len: usize,
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    Uint(UInt64Array),
    Decimal(Decimal128Array, i8, u8),
    WideDecimal(Decimal256Array, i8, u8),
    Float32(Float32Array),
    Float(Float64Array),
    Text(StringViewArray),
    Bytes(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
    Uuid(FixedSizeBinaryArray),
    Date(Date32Array),
    DateMillis(Int64Array),
    /// Counts of a unit, of which so many make a second.
    Time(Int64Array, i64),
    Instant(Int64Array, i64),
    Naive(Int64Array, i64),
    List(Offsets, Box<Cells>),
    Struct(Vec<StructField>),
    Map(OffsetBuffer<i32>, Box<Cells>, Box<Cells>),
    Sample(serde_json::Value),
}

enum Offsets {
    Short(OffsetBuffer<i32>),
    Long(OffsetBuffer<i64>),
    Fixed(usize),
}

impl Offsets {
    fn range(&self, row: usize) -> Range<usize> {
        match self {
            Self::Short(offsets) => short_range(offsets, row),
            Self::Long(offsets) => {
                let at = |index: usize| {
                    offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0)
                };
                at(row)..at(row + 1)
            }
            Self::Fixed(width) => row * width..(row + 1) * width,
        }
    }
}

fn short_range(offsets: &OffsetBuffer<i32>, row: usize) -> Range<usize> {
    let at = |index: usize| offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0);
    at(row)..at(row + 1)
}

/// What stands for a column whose logical type is not known: the array decides.
const UNKNOWN: ColumnType = ColumnType::Null;

impl Cells {
    /// Reads `array` as a column of this logical type. `None` if no such column can be sent (intervals, unions).
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "Arrow has many types that no unload of a warehouse holds"
    )]
    pub(super) fn new(array: &ArrayRef, kind: &ColumnType) -> Option<Self> {
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Values::Int(cast(array, &DataType::Int64).ok()?.as_primitive().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Values::Uint(cast(array, &DataType::UInt64).ok()?.as_primitive().clone())
            }
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale) => {
                let same = matches!(array.data_type(), DataType::Decimal128(..));
                let wide =
                    if same { array.clone() } else { cast(array, &DataType::Decimal128(38, *scale)).ok()? };
                Values::Decimal(wide.as_primitive().clone(), *scale, padding(kind, *scale))
            }
            DataType::Decimal256(_, scale) => {
                Values::WideDecimal(array.as_primitive().clone(), *scale, padding(kind, *scale))
            }
            DataType::Float16 | DataType::Float32 => {
                Values::Float32(cast(array, &DataType::Float32).ok()?.as_primitive().clone())
            }
            DataType::Float64 => Values::Float(array.as_primitive().clone()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Values::Text(cast(array, &DataType::Utf8View).ok()?.as_string_view().clone())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Values::Bytes(cast(array, &DataType::BinaryView).ok()?.as_binary_view().clone())
            }
            // Text, if other files hold the UUIDs as text.
            DataType::FixedSizeBinary(16) if matches!(kind, ColumnType::Uuid | ColumnType::Text) => {
                Values::Uuid(array.as_fixed_size_binary().clone())
            }
            DataType::FixedSizeBinary(_) => Values::Fixed(array.as_fixed_size_binary().clone()),
            DataType::Date32 => Values::Date(array.as_primitive().clone()),
            DataType::Date64 => Values::DateMillis(array.as_primitive::<Date64Type>().reinterpret_cast()),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                Values::Time(time_counts(array, *unit)?, per_second(*unit))
            }
            DataType::Timestamp(unit, zone) => {
                let counts = timestamp_counts(array, *unit);
                let naive = *kind == ColumnType::Naive || (*kind != ColumnType::Instant && zone.is_none());
                if naive {
                    Values::Naive(counts, per_second(*unit))
                } else {
                    Values::Instant(counts, per_second(*unit))
                }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(
                    Offsets::Short(list.offsets().clone()),
                    Self::boxed(list.values(), element(kind))?,
                )
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                Values::List(
                    Offsets::Long(list.offsets().clone()),
                    Self::boxed(list.values(), element(kind))?,
                )
            }
            DataType::FixedSizeList(_, width) => {
                let list = array.as_fixed_size_list();
                let width = usize::try_from(*width).ok()?;
                Values::List(Offsets::Fixed(width), Self::boxed(list.values(), element(kind))?)
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let cells = fields.iter().zip(columns).map(|(field, column)| {
                    let (name, kind) = member(kind, field.name());
                    Some(StructField {
                        name: name.to_owned(),
                        key: json::key_of(name),
                        cells: Self::new(column, kind)?,
                    })
                });
                Values::Struct(cells.collect::<Option<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let values = if let ColumnType::Map(values) = kind { values } else { &UNKNOWN };
                Values::Map(
                    map.offsets().clone(),
                    Self::boxed(map.keys(), &ColumnType::Text)?,
                    Self::boxed(map.values(), values)?,
                )
            }
            DataType::Dictionary(_, plain) => return Self::new(&cast(array, plain).ok()?, kind),
            _ => return None,
        };
        Some(Self { len: array.len(), nulls: array.nulls().cloned(), values })
    }

    fn boxed(array: &ArrayRef, kind: &ColumnType) -> Option<Box<Self>> {
        Self::new(array, kind).map(Box::new)
    }

    /// A column of one row that holds this JSON value: the sample row of a sync's test.
    pub(super) fn sample(value: serde_json::Value) -> Self {
        Self { len: 1, nulls: None, values: Values::Sample(value) }
    }

    /// The value of a row; null beyond the last one.
    pub(super) fn at(&self, row: usize) -> Cell<'_> {
        if row >= self.len || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Cell::Null;
        }
        match &self.values {
            Values::Null => Cell::Null,
            Values::Bool(array) => Cell::Bool(array.value(row)),
            Values::Int(array) => Cell::Int(array.value(row).into()),
            Values::Uint(array) => Cell::Int(array.value(row).into()),
            Values::Decimal(array, scale, padding) => {
                Cell::Decimal(i256::from_i128(array.value(row)), *scale, *padding)
            }
            Values::WideDecimal(array, scale, padding) => Cell::Decimal(array.value(row), *scale, *padding),
            Values::Float32(array) => Cell::Float32(array.value(row)),
            Values::Float(array) => Cell::Float(array.value(row)),
            Values::Text(array) => Cell::Text(Cow::Borrowed(array.value(row))),
            Values::Bytes(array) => Cell::Bytes(array.value(row)),
            Values::Fixed(array) => Cell::Bytes(array.value(row)),
            Values::Uuid(array) => array.value(row).try_into().map_or(Cell::Null, Cell::Uuid),
            Values::Date(array) => Cell::Date(array.value(row).into()),
            Values::DateMillis(array) => Cell::Date(array.value(row).div_euclid(86_400_000)),
            Values::Time(array, per_second) => {
                let (seconds, nanos) = split(array.value(row), *per_second);
                Cell::Time(seconds.rem_euclid(86_400).unsigned_abs(), nanos)
            }
            Values::Instant(array, per_second) => {
                let (seconds, nanos) = split(array.value(row), *per_second);
                Cell::Instant(seconds, nanos)
            }
            Values::Naive(array, per_second) => {
                let (seconds, nanos) = split(array.value(row), *per_second);
                Cell::Naive(seconds, nanos)
            }
            Values::List(offsets, cells) => Cell::List(cells, offsets.range(row)),
            Values::Struct(fields) => Cell::Struct(fields, row),
            Values::Map(offsets, keys, values) => Cell::Map(keys, values, short_range(offsets, row)),
            Values::Sample(value) => sample_cell(value),
        }
    }
}

fn sample_cell(value: &serde_json::Value) -> Cell<'_> {
    use serde_json::Value;
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(*value),
        Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => Cell::Int(whole),
            (None, Some(float)) => Cell::Float(float),
            (None, None) => Cell::Number(number.to_string()),
        },
        Value::String(text) => Cell::Text(Cow::Borrowed(text)),
        Value::Array(_) | Value::Object(_) => Cell::Json(value.to_string()),
    }
}

/// Whole seconds, and nanoseconds of the next.
fn split(count: i64, per_second: i64) -> (i64, u32) {
    let rest = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    (count.div_euclid(per_second), u32::try_from(rest).unwrap_or_default())
}

const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn time_counts(array: &ArrayRef, unit: TimeUnit) -> Option<Int64Array> {
    let short: ArrayRef = match unit {
        TimeUnit::Second => {
            std::sync::Arc::new(array.as_primitive_opt::<Time32SecondType>()?.reinterpret_cast::<Int32Type>())
        }
        TimeUnit::Millisecond => std::sync::Arc::new(
            array.as_primitive_opt::<Time32MillisecondType>()?.reinterpret_cast::<Int32Type>(),
        ),
        TimeUnit::Microsecond => {
            return Some(array.as_primitive_opt::<Time64MicrosecondType>()?.reinterpret_cast());
        }
        TimeUnit::Nanosecond => {
            return Some(array.as_primitive_opt::<Time64NanosecondType>()?.reinterpret_cast());
        }
    };
    Some(cast(&short, &DataType::Int64).ok()?.as_primitive::<Int64Type>().clone())
}

fn timestamp_counts(array: &ArrayRef, unit: TimeUnit) -> Int64Array {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().reinterpret_cast(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().reinterpret_cast(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().reinterpret_cast(),
    }
}

/// Zeros that bring a file's scale up to the column's.
fn padding(kind: &ColumnType, scale: i8) -> u8 {
    match kind {
        ColumnType::Decimal { scale: wanted } => wanted.saturating_sub(scale.max(0)).max(0).unsigned_abs(),
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
        | ColumnType::Null => 0,
    }
}

fn element(kind: &ColumnType) -> &ColumnType {
    if let ColumnType::List(element) = kind { element } else { &UNKNOWN }
}

/// A struct field's name and type: files may differ in upper and lower case.
fn member<'a>(kind: &'a ColumnType, name: &'a str) -> (&'a str, &'a ColumnType) {
    let ColumnType::Struct(fields) = kind else {
        return (name, &UNKNOWN);
    };
    let lower = name.to_lowercase();
    let found = fields.iter().find(|(field, _)| field.to_lowercase() == lower);
    found.map_or((name, &UNKNOWN), |(field, kind)| (field, kind))
}

#[cfg(test)]
impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cells({})", self.len)
    }
}

#[cfg(test)]
impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

#[cfg(test)]
impl std::fmt::Debug for StructField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
impl PartialEq for StructField {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
