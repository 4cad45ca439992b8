//! JSON text by what it says: white space, the order of members and the way a number is written count for nothing.
//!
//! Warehouses that keep semi-structured values (SUPER, VARIANT) may write one value in another order every day. Only
//! columns that the unload names as `json_columns` are read so: parsing costs many times what hashing text does.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use penstock_model::unload::ColumnType;
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Unfit;
use super::mix::{self, NULL, Tag};

/// Calls `add` with the hash of every cell of a text column, in order.
pub(super) fn each(array: &dyn Array, kind: &ColumnType, add: &mut impl FnMut(u64)) -> Result<(), Unfit> {
    let mut cell = |text: Option<&str>| add(text.map_or(NULL, hash));
    if *array.data_type() == DataType::Null {
        (0..array.len()).for_each(|_| cell(None));
    } else if let Some(texts) = array.as_string_view_opt() {
        texts.iter().for_each(cell);
    } else if let Some(texts) = array.as_string_opt::<i32>() {
        texts.iter().for_each(cell);
    } else if let Some(texts) = array.as_string_opt::<i64>() {
        texts.iter().for_each(cell);
    } else {
        return Err(Unfit::new(array, kind));
    }
    Ok(())
}

/// The hash of what a text says; that of the text itself if it is no JSON, or names a member twice.
fn hash(text: &str) -> u64 {
    let parsed = serde_json::from_str::<&RawValue>(text).ok().and_then(|raw| value(raw, 0));
    // Once more, so that the JSON text `null` is not a null.
    parsed.map_or_else(|| mix::bytes(Tag::TEXT, text.as_bytes()), |hash| mix::chained(hash, JSON))
}

const JSON: u64 = 0x4a53_4f4e;
/// Text that goes deeper is not looked into: as deep as serde_json itself goes.
const DEEPEST: usize = 128;

/// The hash of a value; none if a member of it is named twice, or if it goes too deep.
fn value(raw: &RawValue, depth: usize) -> Option<u64> {
    if depth > DEEPEST {
        return None;
    }
    let text = raw.get().trim();
    match text.as_bytes().first()? {
        b'{' => {
            let Members(mut members) = serde_json::from_str(text).ok()?;
            members.sort_by(|a, b| a.0.cmp(&b.0));
            if members.iter().zip(members.iter().skip(1)).any(|(a, b)| a.0 == b.0) {
                return None;
            }
            members.iter().try_fold(mix::word(Tag::STRUCT, members.len() as u64), |hash, (name, member)| {
                Some(mix::chained(
                    mix::chained(hash, mix::bytes(Tag::TEXT, name.as_bytes())),
                    value(member, depth + 1)?,
                ))
            })
        }
        b'[' => {
            let Elements(elements) = serde_json::from_str(text).ok()?;
            elements.into_iter().try_fold(mix::word(Tag::LIST, 0), |hash, element| {
                Some(mix::chained(hash, value(element, depth + 1)?))
            })
        }
        b'"' => {
            let text: String = serde_json::from_str(text).ok()?;
            Some(mix::bytes(Tag::TEXT, text.as_bytes()))
        }
        b't' => Some(mix::word(Tag::BOOL, 1)),
        b'f' => Some(mix::word(Tag::BOOL, 0)),
        b'n' => Some(NULL),
        _ => Some(number(text)),
    }
}

/// The hash of a number, whatever its digits are: `1`, `1.0` and `10e-1` are equal, and no digit is lost.
fn number(text: &str) -> u64 {
    let (sign, text) = text.strip_prefix('-').map_or((0, text), |rest| (1, rest));
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = whole.chars().chain(fraction.chars()).collect();
    let significant = all.trim_start_matches('0');
    let stripped = significant.trim_end_matches('0');
    if stripped.is_empty() {
        return mix::word(Tag::INT, 0);
    }
    let zeros = i64::try_from(significant.len() - stripped.len()).unwrap_or(i64::MAX);
    let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let moved = zeros.saturating_sub(places);
    // An exponent beyond 64 bits is kept as it is written: two ways to write it then differ, as different numbers do.
    let scale = match exponent.parse::<i64>().ok().and_then(|exponent| exponent.checked_add(moved)) {
        Some(exponent) => mix::signed(Tag::DECIMAL, exponent),
        None => mix::chained(mix::bytes(Tag::DECIMAL, exponent.as_bytes()), moved.cast_unsigned()),
    };
    mix::chained(mix::chained(scale, sign), mix::bytes(Tag::INT, stripped.as_bytes()))
}

/// An object's members as they stand there.
struct Members<'a>(Vec<(String, &'a RawValue)>);

/// An array's elements.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_it_says() {
        let groups: &[&[&str]] = &[
            &["{}", " { } "],
            &[r#"{"a":1,"b":[1,2]}"#, r#"{ "b" : [ 1.0, 2e0 ], "a" : 10e-1 }"#, r#"{"\u0061":1,"b":[1,2]}"#],
            &[r#"{"a":1,"b":[2,1]}"#],
            &[r#"{"a":{"b":1}}"#],
            &[r#"{"a":{},"b":1}"#],
            &["[]"],
            &["[[]]"],
            &["[null]"],
            &["null", " null"],
            &["0", "-0", "0.00", "0e7"],
            &["1", "1.0", "10e-1", "0.1e1"],
            &["-1"],
            &["10", "1e1"],
            &["12345678901234567890123", "12345678901234567890123.0"],
            &["12345678901234567890124"],
            &["1e99999999999999999999"],
            &["2e99999999999999999999"],
            &["true"],
            &["\"true\""],
            &["\"é\"", "\"\\u00e9\""],
            &["\"\""],
            // No JSON, or not clear what it says: as text.
            &[""],
            &["{"],
            &["{a: 1}"],
            &[r#"{"a":1,"a":1}"#],
            &[r#"{"a":1, "a":1}"#],
        ];
        let mut seen: Vec<(u64, &str)> = Vec::new();
        for group in groups {
            let expected = hash(group[0]);
            assert!(group.iter().all(|text| hash(text) == expected), "{group:?}");
            assert!(seen.iter().all(|(hash, _)| *hash != expected), "{group:?} is like one of {seen:?}");
            seen.push((expected, group[0]));
        }
        assert!(seen.iter().all(|(hash, _)| *hash != NULL));
    }

    #[test]
    fn deep_json_is_text_and_no_overflow_of_the_stack() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(hash(&deep), mix::bytes(Tag::TEXT, deep.as_bytes()));
    }
}
