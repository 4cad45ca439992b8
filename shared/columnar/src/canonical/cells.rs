//! The hash of each cell of an array, in order.

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BinaryViewArray, FixedSizeBinaryArray, PrimitiveArray,
    StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use penstock_model::unload::ColumnType;

use super::Unfit;
use super::mix::{self, NULL, Tag};
use super::number::{Number, strip};

/// Calls `add` with the hash of every cell, in order.
pub(super) fn each(array: &dyn Array, kind: &ColumnType, add: &mut impl FnMut(u64)) -> Result<(), Unfit> {
    let unfit = || Unfit::new(array, kind);
    match array.data_type() {
        DataType::Null => (0..array.len()).for_each(|_| add(NULL)),
        DataType::Boolean => {
            array.as_boolean().iter().for_each(|value| {
                add(value.map_or(NULL, |value| mix::word(Tag::BOOL, u64::from(value))));
            });
        }
        DataType::Int8 => primitive::<Int8Type>(array, add, |value| int(i64::from(value))),
        DataType::Int16 => primitive::<Int16Type>(array, add, |value| int(i64::from(value))),
        DataType::Int32 => primitive::<Int32Type>(array, add, |value| int(i64::from(value))),
        DataType::Int64 => primitive::<Int64Type>(array, add, int),
        DataType::UInt8 => primitive::<UInt8Type>(array, add, |value| int(i64::from(value))),
        DataType::UInt16 => primitive::<UInt16Type>(array, add, |value| int(i64::from(value))),
        DataType::UInt32 => primitive::<UInt32Type>(array, add, |value| int(i64::from(value))),
        DataType::UInt64 => {
            primitive::<UInt64Type>(array, add, |value| mix::wide(Tag::INT, i128::from(value)));
        }
        DataType::Float16 => primitive::<Float16Type>(array, add, |value| float(value.to_f64())),
        DataType::Float32 => primitive::<Float32Type>(array, add, |value| float(f64::from(value))),
        DataType::Float64 => primitive::<Float64Type>(array, add, float),
        DataType::Decimal32(_, scale) => {
            let scale = digits(*scale).ok_or_else(unfit)?;
            primitive::<Decimal32Type>(array, add, |value| decimal(i128::from(value), scale));
        }
        DataType::Decimal64(_, scale) => {
            let scale = digits(*scale).ok_or_else(unfit)?;
            primitive::<Decimal64Type>(array, add, |value| decimal(i128::from(value), scale));
        }
        DataType::Decimal128(_, scale) => {
            let scale = digits(*scale).ok_or_else(unfit)?;
            primitive::<Decimal128Type>(array, add, |value| decimal(value, scale));
        }
        DataType::Decimal256(_, scale) => {
            let scale = digits(*scale).ok_or_else(unfit)?;
            primitive::<Decimal256Type>(array, add, |value| Number::of_wide(value, scale).hash());
        }
        DataType::Date32 => {
            primitive::<Date32Type>(array, add, |value| mix::signed(Tag::DATE, i64::from(value)));
        }
        DataType::Time32(TimeUnit::Second) => {
            primitive::<Time32SecondType>(array, add, |value| {
                nanos(Tag::TIME, i64::from(value), 1_000_000_000)
            });
        }
        DataType::Time32(_) => {
            primitive::<Time32MillisecondType>(array, add, |value| {
                nanos(Tag::TIME, i64::from(value), 1_000_000)
            });
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            primitive::<Time64MicrosecondType>(array, add, |value| nanos(Tag::TIME, value, 1_000));
        }
        DataType::Time64(_) => {
            primitive::<Time64NanosecondType>(array, add, |value| nanos(Tag::TIME, value, 1));
        }
        DataType::Timestamp(unit, zone) => {
            let tag = if zone.is_some() { Tag::INSTANT } else { Tag::NAIVE };
            timestamps(array, *unit, tag, add);
        }
        DataType::Utf8 => array.as_string::<i32>().iter().for_each(|text| add(bytes(Tag::TEXT, text))),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().for_each(|text| add(bytes(Tag::TEXT, text))),
        DataType::Utf8View => text_views(array.as_string_view(), add),
        DataType::Binary => array.as_binary::<i32>().iter().for_each(|block| add(bytes(Tag::BINARY, block))),
        DataType::LargeBinary => {
            array.as_binary::<i64>().iter().for_each(|block| add(bytes(Tag::BINARY, block)));
        }
        DataType::BinaryView => binary_views(array.as_binary_view(), add),
        DataType::FixedSizeBinary(_) => fixed(array.as_fixed_size_binary(), kind, add).ok_or_else(unfit)?,
        DataType::List(_) => {
            let ColumnType::List(element) = kind else { return Err(unfit()) };
            let list = array.as_list::<i32>();
            let (hashes, offsets) = elements(list.values().as_ref(), list.value_offsets(), element)?;
            groups(list.nulls(), &offsets, &hashes, add, |hashes| {
                let start = mix::word(Tag::LIST, hashes.len() as u64);
                hashes.iter().fold(start, |hash, element| mix::chained(hash, *element))
            });
        }
        DataType::Struct(_) => structs(array, kind, add)?,
        DataType::Map(..) => {
            let ColumnType::Map(value_kind) = kind else { return Err(unfit()) };
            let map = array.as_map();
            let (keys, offsets) = elements(map.keys().as_ref(), map.value_offsets(), &ColumnType::Text)?;
            let (values, _) = elements(map.values().as_ref(), map.value_offsets(), value_kind)?;
            let pairs: Vec<u64> =
                keys.iter().zip(&values).map(|(key, value)| mix::chained(*key, *value)).collect();
            groups(map.nulls(), &offsets, &pairs, add, |pairs| {
                let start = mix::word(Tag::MAP, pairs.len() as u64);
                pairs.iter().fold(start, |hash, pair| hash.wrapping_add(mix::seeded(*pair, start)))
            });
        }
        DataType::Date64
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

fn collected(array: &dyn Array, kind: &ColumnType) -> Result<Vec<u64>, Unfit> {
    let mut hashes = Vec::with_capacity(array.len());
    each(array, kind, &mut |hash| hashes.push(hash))?;
    Ok(hashes)
}

fn primitive<T: ArrowPrimitiveType>(
    array: &dyn Array,
    add: &mut impl FnMut(u64),
    hash: impl Fn(T::Native) -> u64,
) {
    let array: &PrimitiveArray<T> = array.as_primitive();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => array.values().iter().for_each(|value| add(hash(*value))),
        Some(nulls) => {
            for (value, valid) in array.values().iter().zip(nulls) {
                add(if valid { hash(*value) } else { NULL });
            }
        }
    }
}

fn int(value: i64) -> u64 {
    mix::signed(Tag::INT, value)
}

fn decimal(value: i128, scale: u8) -> u64 {
    match i64::try_from(value) {
        Ok(value) => match strip(value, scale) {
            (value, 0) => int(value),
            (value, scale) => mix::signed(Tag::with_scale(scale), value),
        },
        Err(_) => Number::of(value, scale).hash(),
    }
}

/// Digits after the point; Parquet knows no negative scale.
fn digits(scale: i8) -> Option<u8> {
    u8::try_from(scale).ok()
}

fn float(value: f64) -> u64 {
    // Adding zero turns -0.0 into 0.0.
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    mix::word(Tag::FLOAT, value.to_bits())
}

fn nanos(tag: Tag, value: i64, factor: i64) -> u64 {
    match value.checked_mul(factor) {
        Some(nanos) => mix::signed(tag, nanos),
        None => mix::wide(tag, i128::from(value) * i128::from(factor)),
    }
}

fn timestamps(array: &dyn Array, unit: TimeUnit, tag: Tag, add: &mut impl FnMut(u64)) {
    match unit {
        TimeUnit::Second => {
            primitive::<TimestampSecondType>(array, add, |value| nanos(tag, value, 1_000_000_000));
        }
        TimeUnit::Millisecond => {
            primitive::<TimestampMillisecondType>(array, add, |value| nanos(tag, value, 1_000_000));
        }
        TimeUnit::Microsecond => {
            primitive::<TimestampMicrosecondType>(array, add, |value| nanos(tag, value, 1_000));
        }
        TimeUnit::Nanosecond => {
            primitive::<TimestampNanosecondType>(array, add, |value| nanos(tag, value, 1));
        }
    }
}

fn bytes(tag: Tag, value: Option<impl AsRef<[u8]>>) -> u64 {
    value.map_or(NULL, |value| mix::bytes(tag, value.as_ref()))
}

fn text_views(array: &StringViewArray, add: &mut impl FnMut(u64)) {
    array.iter().for_each(|text| add(bytes(Tag::TEXT, text)));
}

fn binary_views(array: &BinaryViewArray, add: &mut impl FnMut(u64)) {
    array.iter().for_each(|block| add(bytes(Tag::BINARY, block)));
}

fn fixed(array: &FixedSizeBinaryArray, kind: &ColumnType, add: &mut impl FnMut(u64)) -> Option<()> {
    if !matches!(kind, ColumnType::Uuid) {
        array.iter().for_each(|block| add(bytes(Tag::BINARY, block)));
        return Some(());
    }
    for block in array {
        match block {
            None => add(NULL),
            Some(block) => add(mix::bytes(Tag::TEXT, &uuid_text(block.try_into().ok()?))),
        }
    }
    Some(())
}

/// A UUID as 36 lower-case letters.
pub(crate) fn uuid_text(uuid: &[u8; 16]) -> [u8; 36] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    let nibbles = uuid.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (place, nibble) in places.zip(nibbles) {
        if let (Some(letter), Some(digit)) = (text.get_mut(place), DIGITS.get(usize::from(nibble))) {
            *letter = *digit;
        }
    }
    text
}

/// The hashes of the elements that `offsets` span, and the offsets counted from the first of them.
fn elements(values: &dyn Array, offsets: &[i32], kind: &ColumnType) -> Result<(Vec<u64>, Vec<usize>), Unfit> {
    let offsets: Vec<usize> = offsets.iter().map(|at| usize::try_from(*at).unwrap_or(0)).collect();
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let hashes = collected(values.slice(first, last - first).as_ref(), kind)?;
    Ok((hashes, offsets.into_iter().map(|at| at - first).collect()))
}

fn groups(
    nulls: Option<&NullBuffer>,
    offsets: &[usize],
    hashes: &[u64],
    add: &mut impl FnMut(u64),
    hash: impl Fn(&[u64]) -> u64,
) {
    for (row, window) in offsets.windows(2).enumerate() {
        let valid = nulls.is_none_or(|nulls| nulls.is_valid(row));
        let group = match window {
            [start, end] if valid => hashes.get(*start..*end),
            _ => None,
        };
        add(group.map_or(NULL, &hash));
    }
}

fn structs(array: &dyn Array, kind: &ColumnType, add: &mut impl FnMut(u64)) -> Result<(), Unfit> {
    let ColumnType::Struct(kinds) = kind else { return Err(Unfit::new(array, kind)) };
    let array = array.as_struct();
    let mut sums = vec![mix::word(Tag::STRUCT, 0); array.len()];
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let lower = field.name().to_lowercase();
        let (_, field_kind) = kinds
            .iter()
            .find(|(name, _)| name.to_lowercase() == lower)
            .ok_or_else(|| Unfit::new(array, kind))?;
        let seed = mix::name_seed(field.name());
        let hashes = collected(column.as_ref(), field_kind)?;
        for (sum, hash) in sums.iter_mut().zip(hashes) {
            *sum = sum.wrapping_add(mix::seeded(hash, seed));
        }
    }
    for (row, sum) in sums.iter().enumerate() {
        let valid = array.nulls().is_none_or(|nulls| nulls.is_valid(row));
        // Once more, so that a struct is not the sum of its fields.
        add(if valid { mix::chained(*sum, 0) } else { NULL });
    }
    Ok(())
}
