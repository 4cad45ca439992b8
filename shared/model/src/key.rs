//! Primary key values in canonical form.
//!
//! A key's bytes are the same whatever writer, physical type or precision its columns came in, so that
//! equal keys have equal bytes. Each column is a tag byte and its value:
//!
//! | tag | value | bytes |
//! |---|---|---|
//! | 0 | null | none |
//! | 1 | boolean | 1 |
//! | 2 | integer (also a decimal without fraction) | zigzag varint of an `i128` |
//! | 3 | decimal with a fraction, trailing zeros dropped | varint length, text |
//! | 4 | text | varint length, UTF-8 |
//! | 5 | binary | varint length, bytes |
//! | 6 | date | zigzag varint of days since 1970-01-01 |
//! | 7 | time of day | zigzag varint of nanoseconds |
//! | 8 | instant | zigzag varint of nanoseconds since 1970, UTC |
//! | 9 | timestamp without zone | as instant |
//! | 10 | float | 8, little-endian bits, one NaN, no negative zero |

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

/// One column's value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyValue {
    /// No value: the row can't be identified.
    Null,
    /// Boolean.
    Bool(bool),
    /// Any whole number up to 128 bits.
    Int(i128),
    /// A number with a fraction, without trailing zeros, such as `-1.05`; or a whole number beyond 128 bits.
    Decimal(String),
    /// Text.
    Text(String),
    /// Binary.
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Nanoseconds since midnight.
    Time(i64),
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    Instant(i128),
    /// Nanoseconds since 1970-01-01T00:00:00 on an unstated clock.
    Naive(i128),
    /// Floating point.
    Float(f64),
}

/// One column's value of a key, as it lies in the key's bytes. See [`KeyValue`] for what each variant holds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of KeyValue")]
pub enum KeyCell<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Decimal(&'a str),
    Text(&'a str),
    Bytes(&'a [u8]),
    Date(i32),
    Time(i64),
    Instant(i128),
    Naive(i128),
    Float(f64),
}

impl From<KeyCell<'_>> for KeyValue {
    fn from(cell: KeyCell<'_>) -> Self {
        match cell {
            KeyCell::Null => Self::Null,
            KeyCell::Bool(value) => Self::Bool(value),
            KeyCell::Int(value) => Self::Int(value),
            KeyCell::Decimal(text) => Self::Decimal(text.to_owned()),
            KeyCell::Text(text) => Self::Text(text.to_owned()),
            KeyCell::Bytes(block) => Self::Bytes(block.to_vec()),
            KeyCell::Date(days) => Self::Date(days),
            KeyCell::Time(nanos) => Self::Time(nanos),
            KeyCell::Instant(nanos) => Self::Instant(nanos),
            KeyCell::Naive(nanos) => Self::Naive(nanos),
            KeyCell::Float(value) => Self::Float(value),
        }
    }
}

/// The columns' values of a key's canonical bytes, without a copy. Ends after the first error.
pub fn cells(bytes: &[u8]) -> impl Iterator<Item = Result<KeyCell<'_>, KeyDamaged>> {
    let mut reader = Reader { bytes, offset: 0 };
    std::iter::from_fn(move || {
        if reader.offset >= bytes.len() {
            return None;
        }
        let cell = reader.cell();
        if cell.is_err() {
            reader.offset = bytes.len();
        }
        Some(cell)
    })
}

/// A row's primary key as canonical bytes. Debug shows its length only, since a key is a row value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Vec<u8>);

/// A key's bytes are not what [`Key`] describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a key are damaged at offset {offset}")]
pub struct KeyDamaged {
    /// Where reading stopped.
    pub offset: usize,
}

impl Key {
    /// A key from its columns' values, in the order of the unload's `primary_key`.
    #[must_use]
    pub fn of(values: &[KeyValue]) -> Self {
        let mut bytes = Vec::with_capacity(values.len() * 10);
        for value in values {
            push_value(&mut bytes, value);
        }
        Self(bytes)
    }

    /// Takes canonical bytes as they are; [`Key::values`] finds out whether they are sound.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The 128-bit key hash: XXH3 of the canonical bytes. Partitions and sort order follow it.
    #[must_use]
    pub fn hash(&self) -> u128 {
        xxh3_128(&self.0)
    }

    /// The columns' values.
    ///
    /// # Errors
    /// [`KeyDamaged`] if the bytes were not made by [`Key::of`].
    pub fn values(&self) -> Result<Vec<KeyValue>, KeyDamaged> {
        cells(&self.0).map(|cell| cell.map(KeyValue::from)).collect()
    }

    /// Whether any column is null (or the bytes are damaged), so that the row can't be identified.
    #[must_use]
    pub fn has_null(&self) -> bool {
        cells(&self.0).any(|cell| matches!(cell, Ok(KeyCell::Null) | Err(_)))
    }

    /// The key as base64, for JSON.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD_NO_PAD.encode(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("a key is not base64"))
    }
}

impl JsonSchema for Key {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Key".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u128) {
    // Nearly every number fits a word, which is shifted many times faster than two.
    while value > u128::from(u64::MAX) {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    let mut word = u64::try_from(value).unwrap_or(u64::MAX);
    while word >= 0x80 {
        bytes.push((word & 0x7f) as u8 | 0x80);
        word >>= 7;
    }
    bytes.push((word & 0x7f) as u8);
}

fn push_signed(bytes: &mut Vec<u8>, value: i128) {
    push_varint(bytes, ((value << 1) ^ (value >> 127)).cast_unsigned());
}

fn push_block(bytes: &mut Vec<u8>, block: &[u8]) {
    push_varint(bytes, block.len() as u128);
    bytes.extend_from_slice(block);
}

/// Appends one column's canonical bytes. Whoever builds keys from columns calls this per cell.
pub fn push_value(bytes: &mut Vec<u8>, value: &KeyValue) {
    match value {
        KeyValue::Null => bytes.push(0),
        KeyValue::Bool(value) => bytes.extend_from_slice(&[1, u8::from(*value)]),
        KeyValue::Int(value) => push_int(bytes, *value),
        KeyValue::Decimal(text) => push_tagged(bytes, 3, text.as_bytes()),
        KeyValue::Text(text) => push_text(bytes, text),
        KeyValue::Bytes(block) => push_tagged(bytes, 5, block),
        KeyValue::Date(days) => push_tagged_signed(bytes, 6, i128::from(*days)),
        KeyValue::Time(nanos) => push_tagged_signed(bytes, 7, i128::from(*nanos)),
        KeyValue::Instant(nanos) => push_tagged_signed(bytes, 8, *nanos),
        KeyValue::Naive(nanos) => push_tagged_signed(bytes, 9, *nanos),
        KeyValue::Float(value) => {
            bytes.push(10);
            let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
            bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

/// Appends an integer column's canonical bytes.
pub fn push_int(bytes: &mut Vec<u8>, value: i128) {
    push_tagged_signed(bytes, 2, value);
}

/// Appends a text column's canonical bytes.
pub fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_tagged(bytes, 4, text.as_bytes());
}

fn push_tagged(bytes: &mut Vec<u8>, tag: u8, block: &[u8]) {
    bytes.push(tag);
    push_block(bytes, block);
}

fn push_tagged_signed(bytes: &mut Vec<u8>, tag: u8, value: i128) {
    bytes.push(tag);
    push_signed(bytes, value);
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self) -> KeyDamaged {
        KeyDamaged { offset: self.offset }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], KeyDamaged> {
        let end = self.offset.checked_add(len).ok_or_else(|| self.damaged())?;
        let block = self.bytes.get(self.offset..end).ok_or_else(|| self.damaged())?;
        self.offset = end;
        Ok(block)
    }

    fn byte(&mut self) -> Result<u8, KeyDamaged> {
        let byte = self.bytes.get(self.offset).copied().ok_or_else(|| self.damaged())?;
        self.offset += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u128, KeyDamaged> {
        // Nearly every number is this short, and fits a word, which is shifted many times faster than two.
        let mut word = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            word |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(u128::from(word));
            }
        }
        let mut value = u128::from(word);
        for shift in (63..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    fn signed(&mut self) -> Result<i128, KeyDamaged> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    fn block(&mut self) -> Result<&'a [u8], KeyDamaged> {
        let len = usize::try_from(self.varint()?).map_err(|_| self.damaged())?;
        self.take(len)
    }

    fn text(&mut self) -> Result<&'a str, KeyDamaged> {
        std::str::from_utf8(self.block()?).map_err(|_| self.damaged())
    }

    fn cell(&mut self) -> Result<KeyCell<'a>, KeyDamaged> {
        let damaged = self.damaged();
        Ok(match self.byte()? {
            0 => KeyCell::Null,
            1 => KeyCell::Bool(self.byte()? != 0),
            2 => KeyCell::Int(self.signed()?),
            3 => KeyCell::Decimal(self.text()?),
            4 => KeyCell::Text(self.text()?),
            5 => KeyCell::Bytes(self.block()?),
            6 => KeyCell::Date(i32::try_from(self.signed()?).map_err(|_| damaged)?),
            7 => KeyCell::Time(i64::try_from(self.signed()?).map_err(|_| damaged)?),
            8 => KeyCell::Instant(self.signed()?),
            9 => KeyCell::Naive(self.signed()?),
            10 => {
                let bits = self.take(8)?.try_into().map_err(|_| damaged)?;
                KeyCell::Float(f64::from_bits(u64::from_le_bytes(bits)))
            }
            _ => return Err(damaged),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = KeyValue> {
        prop_oneof![
            Just(KeyValue::Null),
            any::<bool>().prop_map(KeyValue::Bool),
            any::<i128>().prop_map(KeyValue::Int),
            "-?[1-9][0-9]{0,30}\\.[0-9]{0,9}[1-9]".prop_map(KeyValue::Decimal),
            any::<String>().prop_map(KeyValue::Text),
            any::<Vec<u8>>().prop_map(KeyValue::Bytes),
            any::<i32>().prop_map(KeyValue::Date),
            any::<i64>().prop_map(KeyValue::Time),
            any::<i128>().prop_map(KeyValue::Instant),
            any::<i128>().prop_map(KeyValue::Naive),
            any::<f64>().prop_filter("NaN is equal to nothing", |v| !v.is_nan()).prop_map(KeyValue::Float),
        ]
    }

    proptest! {
        #[test]
        fn a_key_gives_back_its_values(values in prop::collection::vec(value(), 0..5)) {
            prop_assert_eq!(Key::of(&values).values(), Ok(values));
        }

        #[test]
        fn damaged_bytes_are_an_error_not_a_panic(bytes in any::<Vec<u8>>()) {
            // What can be read at all, reads the same once written again.
            if let Ok(values) = Key::from_bytes(bytes).values() {
                let again = Key::of(&values).values().unwrap();
                prop_assert_eq!(format!("{values:?}"), format!("{again:?}"));
            }
        }
    }

    #[test]
    fn zero_and_nan_have_one_form() {
        assert_eq!(Key::of(&[KeyValue::Float(-0.0)]), Key::of(&[KeyValue::Float(0.0)]));
        assert_eq!(Key::of(&[KeyValue::Float(-f64::NAN)]), Key::of(&[KeyValue::Float(f64::NAN)]));
    }
}
