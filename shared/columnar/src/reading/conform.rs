//! Brings an array as one file has it to the logical type that its column has over all files.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, RecordBatch, StringViewArray, StructArray,
};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Field, FieldRef, Fields, Float16Type, Float32Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use penstock_model::mapping_change::CompareZone;
use penstock_model::unload::ColumnType;

use crate::canonical::uuid_text;
use crate::unload::{NaiveTimestamps, UnloadError};

/// Why an array can't be brought to its column's type. Names no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfRange;

/// A batch whose timestamps without zone, taken to be of today's zone, are those of another: as the columns of `then` name
/// them and the snapshot's row hashes took them.
///
/// # Errors
/// [`UnloadError::SchemaMismatch`] if Arrow refuses a column so.
pub(crate) fn rezoned(
    batch: &RecordBatch,
    then: &CompareZone,
    today: NaiveTimestamps,
) -> Result<RecordBatch, UnloadError> {
    let zone = NaiveTimestamps::from(then.naive_offset_s);
    // A sum that wraps is of a moment that no day has: it equals nothing on either.
    let shift_s = i64::from(today.offset_s()) - i64::from(zone.offset_s());
    let name = zone.zone_s().map(|_| Arc::from("UTC"));
    let leaf = |array: &ArrayRef, kind: &ColumnType| match (kind, array.data_type()) {
        (ColumnType::Naive, DataType::Timestamp(unit, _)) => Ok(moved(array, *unit, shift_s, name.clone())),
        _ => Ok(Arc::clone(array)),
    };
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let lower = field.name().to_lowercase();
        let column = then.columns.iter().find(|column| column.name.to_lowercase() == lower);
        let array = match column {
            Some(column) => each_leaf(array, &column.kind, &leaf).map_err(|_| {
                UnloadError::mismatch(format!("column {} can't be taken to be of another zone", field.name()))
            })?,
            None => Arc::clone(array),
        };
        columns.push((field.name(), array, true));
    }
    RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|_| UnloadError::mismatch("the columns to compare are not of one length"))
}

/// The array with: timestamps that are instants now marked as UTC (shifted by `offset_s`, seconds east of UTC), UUIDs as text where
/// other files have text, and half floats widened.
pub(super) fn conform(array: &ArrayRef, kind: &ColumnType, offset_s: i32) -> Result<ArrayRef, OutOfRange> {
    each_leaf(array, kind, &|array, kind| match (kind, array.data_type()) {
        (ColumnType::Instant, DataType::Timestamp(unit, None)) => to_utc(array, *unit, offset_s),
        (ColumnType::Text, DataType::FixedSizeBinary(16)) => Ok(uuids(array)),
        (ColumnType::Float, DataType::Float16) => {
            let wide = array.as_primitive::<Float16Type>().unary::<_, Float32Type>(f32::from);
            Ok(Arc::new(wide))
        }
        _ => Ok(Arc::clone(array)),
    })
}

/// What becomes of an array that holds no others, by its column's type.
type Leaf<'a> = &'a dyn Fn(&ArrayRef, &ColumnType) -> Result<ArrayRef, OutOfRange>;

/// The array with every one that it is made of as `leaf` gives it.
fn each_leaf(array: &ArrayRef, kind: &ColumnType, leaf: Leaf<'_>) -> Result<ArrayRef, OutOfRange> {
    match (kind, array.data_type()) {
        (ColumnType::List(element), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = each_leaf(list.values(), element, leaf)?;
            if Arc::ptr_eq(&values, list.values()) {
                return Ok(Arc::clone(array));
            }
            let field = retyped(field, values.data_type());
            rebuilt(ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned()))
        }
        (ColumnType::Map(value), DataType::Map(field, sorted)) => {
            let map = array.as_map();
            let entries = map.entries();
            let values = each_leaf(map.values(), value, leaf)?;
            if Arc::ptr_eq(&values, map.values()) {
                return Ok(Arc::clone(array));
            }
            let entries = restructured(entries, vec![Arc::clone(map.keys()), values])?;
            let field = retyped(field, entries.data_type());
            rebuilt(MapArray::try_new(field, map.offsets().clone(), entries, map.nulls().cloned(), *sorted))
        }
        (ColumnType::Struct(kinds), DataType::Struct(_)) => {
            let whole = array.as_struct();
            let mut columns = Vec::with_capacity(whole.num_columns());
            let mut same = true;
            for (field, column) in whole.fields().iter().zip(whole.columns()) {
                let lower = field.name().to_lowercase();
                let kind = kinds.iter().find(|(name, _)| name.to_lowercase() == lower).map(|(_, kind)| kind);
                let conformed =
                    kind.map_or_else(|| Ok(Arc::clone(column)), |kind| each_leaf(column, kind, leaf))?;
                same &= Arc::ptr_eq(&conformed, column);
                columns.push(conformed);
            }
            if same { Ok(Arc::clone(array)) } else { Ok(Arc::new(restructured(whole, columns)?)) }
        }
        _ => leaf(array, kind),
    }
}

fn rebuilt<A: Array + 'static>(array: Result<A, arrow::error::ArrowError>) -> Result<ArrayRef, OutOfRange> {
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|_| OutOfRange)
}

fn retyped(field: &FieldRef, data_type: &DataType) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(data_type.clone()))
}

fn restructured(array: &StructArray, columns: Vec<ArrayRef>) -> Result<StructArray, OutOfRange> {
    let fields: Fields = array
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| retyped(field, column.data_type()))
        .collect();
    StructArray::try_new(fields, columns, array.nulls().cloned()).map_err(|_| OutOfRange)
}

fn to_utc(array: &ArrayRef, unit: TimeUnit, offset_s: i32) -> Result<ArrayRef, OutOfRange> {
    match unit {
        TimeUnit::Second => shifted::<TimestampSecondType>(array, offset_s, 1),
        TimeUnit::Millisecond => shifted::<TimestampMillisecondType>(array, offset_s, 1_000),
        TimeUnit::Microsecond => shifted::<TimestampMicrosecondType>(array, offset_s, 1_000_000),
        TimeUnit::Nanosecond => shifted::<TimestampNanosecondType>(array, offset_s, 1_000_000_000),
    }
}

fn shifted<T: ArrowTimestampType>(
    array: &ArrayRef,
    offset_s: i32,
    per_second: i64,
) -> Result<ArrayRef, OutOfRange> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let shift = i64::from(offset_s) * per_second;
    let shifted = if shift == 0 {
        array.clone()
    } else {
        array.try_unary(|value| value.checked_sub(shift).ok_or(OutOfRange))?
    };
    Ok(Arc::new(shifted.with_timezone("UTC")))
}

/// Timestamps moved by some seconds, with this zone or none.
fn moved(array: &ArrayRef, unit: TimeUnit, shift_s: i64, zone: Option<Arc<str>>) -> ArrayRef {
    match unit {
        TimeUnit::Second => wrapped::<TimestampSecondType>(array, shift_s, zone),
        TimeUnit::Millisecond => wrapped::<TimestampMillisecondType>(array, shift_s * 1_000, zone),
        TimeUnit::Microsecond => wrapped::<TimestampMicrosecondType>(array, shift_s * 1_000_000, zone),
        TimeUnit::Nanosecond => wrapped::<TimestampNanosecondType>(array, shift_s * 1_000_000_000, zone),
    }
}

fn wrapped<T: ArrowTimestampType>(array: &ArrayRef, shift: i64, zone: Option<Arc<str>>) -> ArrayRef {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let moved = array.unary::<_, T>(|value| value.wrapping_add(shift));
    Arc::new(moved.with_data_type(DataType::Timestamp(T::UNIT, zone)))
}

fn uuids(array: &ArrayRef) -> ArrayRef {
    let texts = array.as_fixed_size_binary().iter().map(|uuid| {
        let text = uuid_text(uuid?.try_into().ok()?);
        Some(String::from_utf8_lossy(&text).into_owned())
    });
    Arc::new(texts.collect::<StringViewArray>())
}
