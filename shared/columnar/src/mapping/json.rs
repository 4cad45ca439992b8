//! JSON text, appended piece by piece: no value tree is built for a row.

use arrow::datatypes::i256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const HEX: &str = "0123456789abcdef";

/// How deep parsed JSON text may be nested: what reads it later stops at 128.
const DEEPEST: usize = 100;

/// Appends a JSON string.
pub(super) fn push_text(out: &mut String, text: &str) {
    out.push('"');
    // Nearly every text is clean, and without branches many bytes are looked at together.
    let is_clean = |clean: bool, byte: u8| clean & (byte >= 0x20) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, is_clean) {
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut clean = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "\\u00",
            _ => continue,
        };
        out.push_str(text.get(clean..index).unwrap_or_default());
        out.push_str(escape);
        if escape == "\\u00" {
            push_hex(out, byte);
        }
        clean = index + 1;
    }
    out.push_str(text.get(clean..).unwrap_or_default());
    out.push('"');
}

/// A key of an object with its colon, ready to be appended.
pub(super) fn key_of(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 3);
    push_text(&mut key, name);
    key.push(':');
    key
}

fn push_hex(out: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 0xf] {
        let digit = usize::from(digit);
        out.push_str(HEX.get(digit..=digit).unwrap_or_default());
    }
}

/// Appends a whole number, without quotes.
pub(super) fn push_int(out: &mut String, value: i128) {
    if value < 0 {
        out.push('-');
    }
    match u64::try_from(value.unsigned_abs()) {
        Ok(value) => push_padded(out, value, 1),
        Err(_) => out.push_str(&value.unsigned_abs().to_string()),
    }
}

/// Appends a number with leading zeros up to `width` digits (20 at most).
pub(super) fn push_padded(out: &mut String, mut value: u64, width: usize) {
    // The parts of dates and times.
    if let (2, Ok(value @ ..=99)) = (width, u8::try_from(value)) {
        out.push(char::from(b'0' + value / 10));
        out.push(char::from(b'0' + value % 10));
        return;
    }
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot += u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    let from = digits.len() - used.max(width.min(digits.len()));
    out.push_str(digits.get(from..).and_then(|tail| std::str::from_utf8(tail).ok()).unwrap_or_default());
}

/// Appends an unscaled decimal with `scale` digits behind the point, then `padding` zeros.
pub(super) fn push_unscaled(out: &mut String, unscaled: i256, scale: i8, padding: u8) {
    let Some(small) = unscaled.to_i128().and_then(|value| i64::try_from(value).ok()) else {
        return push_decimal(out, &unscaled.to_string(), scale, padding);
    };
    let (behind, magnitude) = (usize::from(scale.max(0).unsigned_abs()), small.unsigned_abs());
    let Some(unit) = u32::try_from(behind).ok().and_then(|behind| 10_u64.checked_pow(behind)) else {
        return push_decimal(out, &small.to_string(), scale, padding);
    };
    if scale < 0 {
        return push_decimal(out, &small.to_string(), scale, padding);
    }
    if small < 0 {
        out.push('-');
    }
    push_padded(out, magnitude / unit, 1);
    if behind > 0 || padding > 0 {
        out.push('.');
    }
    if behind > 0 {
        push_padded(out, magnitude % unit, behind);
    }
    push_zeros(out, usize::from(padding));
}

/// Appends the digits of an unscaled decimal with `scale` digits behind the point, then `padding` zeros.
pub(super) fn push_decimal(out: &mut String, unscaled: &str, scale: i8, padding: u8) {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    out.push_str(sign);
    let behind = usize::from(scale.max(0).unsigned_abs());
    let whole = digits.len().saturating_sub(behind);
    out.push_str(if whole == 0 { "0" } else { digits.get(..whole).unwrap_or_default() });
    if scale < 0 && digits != "0" {
        push_zeros(out, usize::from(scale.unsigned_abs()));
    }
    if behind > 0 || padding > 0 {
        out.push('.');
        push_zeros(out, behind.saturating_sub(digits.len()));
        out.push_str(digits.get(whole..).unwrap_or_default());
        push_zeros(out, usize::from(padding));
    }
}

fn push_zeros(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n('0', count));
}

/// Appends base64 with padding, without quotes.
pub(super) fn push_base64(out: &mut String, bytes: &[u8]) {
    STANDARD.encode_string(bytes, out);
}

/// Appends a UUID's text, without quotes.
pub(super) fn push_uuid(out: &mut String, bytes: [u8; 16]) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        push_hex(out, byte);
    }
}

/// JSON text without white space between its parts, so that it fits into a line. `None` if it is no JSON, holds a
/// number that no reader takes, or is nested too deep.
pub(super) fn compact(text: &str) -> Option<String> {
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    for character in text.chars() {
        if quoted {
            out.push(character);
            (quoted, escaped) = (escaped || character != '"', !escaped && character == '\\');
            continue;
        }
        match character {
            ' ' | '\t' | '\n' | '\r' => continue,
            '"' => quoted = true,
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
        out.push(character);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn written(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn decimals_keep_their_scale() {
        let cases = [
            ("0", 2, 0, "0.00"),
            ("5", 2, 0, "0.05"),
            ("-5", 2, 0, "-0.05"),
            ("-287789189", 2, 0, "-2877891.89"),
            ("12", 0, 0, "12"),
            ("12", 0, 2, "12.00"),
            ("12", 1, 1, "1.20"),
            ("12", -2, 0, "1200"),
            ("0", -2, 0, "0"),
            ("1", 10, 0, "0.0000000001"),
        ];
        for (unscaled, scale, padding, expected) in cases {
            assert_eq!(
                written(|out| push_decimal(out, unscaled, scale, padding)),
                expected,
                "{unscaled} {scale}"
            );
            let number = i256::from_string(unscaled).unwrap();
            assert_eq!(written(|out| push_unscaled(out, number, scale, padding)), expected);
        }
    }

    #[test]
    fn json_text_is_made_to_fit_a_line() {
        let cases = [
            ("{ \"a b\" : [ 1 ,\n 2 ] }", Some("{\"a b\":[1,2]}")),
            (r#"{"a":"\\"  , "b":"\" ,  "}"#, Some(r#"{"a":"\\","b":"\" ,  "}"#)),
            ("1e999", None),
            ("{", None),
            ("", None),
            (" 9007199254740993 ", Some("9007199254740993")),
        ];
        for (text, expected) in cases {
            assert_eq!(compact(text).as_deref(), expected, "{text}");
        }
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact(&deep(DEEPEST)).is_some());
        assert!(compact(&deep(DEEPEST + 1)).is_none());
    }

    proptest! {
        #[test]
        fn text_is_read_back(text in any::<String>()) {
            let json = written(|out| push_text(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn whole_numbers_are_exact(value in any::<i128>(), small in any::<i64>()) {
            prop_assert_eq!(written(|out| push_int(out, value)), value.to_string());
            prop_assert_eq!(written(|out| push_int(out, small.into())), small.to_string());
        }

        #[test]
        fn decimals_are_spelt_alike_however_large(
            unscaled in prop_oneof![any::<i128>(), any::<i64>().prop_map(i128::from), -1_000_i128..1_000],
            scale in -3_i8..38,
            padding in 0_u8..3,
        ) {
            let fast = written(|out| push_unscaled(out, i256::from_i128(unscaled), scale, padding));
            prop_assert_eq!(fast, written(|out| push_decimal(out, &unscaled.to_string(), scale, padding)));
        }

        #[test]
        fn padded_numbers_have_their_width(value in any::<u64>(), small in 0_u64..200, width in 1_usize..8) {
            for value in [value, small] {
                prop_assert_eq!(written(|out| push_padded(out, value, width)), format!("{value:0width$}"));
            }
        }

        #[test]
        fn compact_text_means_the_same(text in any::<String>(), number in any::<i64>()) {
            let value = serde_json::json!({ text.clone(): [number, text, null, { "x": true }] });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let compacted = compact(&pretty).unwrap();
            prop_assert_eq!(&compacted, &serde_json::to_string(&value).unwrap());
            prop_assert_eq!(serde_json::from_str::<Value>(&compacted).unwrap(), value);
        }
    }
}
