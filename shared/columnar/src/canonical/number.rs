//! Numbers without the accidents of precision, scale and storage.

use arrow::datatypes::i256;

use super::mix::{self, Tag};

/// A number in lowest terms: no trailing zero after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    unscaled: Unscaled,
    /// Digits after the point.
    scale: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unscaled {
    Narrow(i128),
    /// Only what 128 bits can't hold.
    Wide(i256),
}

impl Number {
    /// A decimal of up to 38 digits.
    pub(super) fn of(unscaled: i128, scale: u8) -> Self {
        // Most values fit a word, in which division is many times faster.
        match i64::try_from(unscaled) {
            Ok(narrow) => {
                let (narrow, scale) = strip(narrow, scale);
                Self { unscaled: Unscaled::Narrow(i128::from(narrow)), scale }
            }
            Err(_) => {
                let (mut value, mut scale) = (unscaled, scale);
                while scale > 0 && value % 10 == 0 {
                    value /= 10;
                    scale -= 1;
                }
                Self { unscaled: Unscaled::Narrow(value), scale }
            }
        }
    }

    /// A decimal of up to 76 digits.
    pub(super) fn of_wide(unscaled: i256, scale: u8) -> Self {
        if let Some(narrow) = unscaled.to_i128() {
            return Self::of(narrow, scale);
        }
        let ten = i256::from_i128(10);
        let (mut value, mut scale) = (unscaled, scale);
        while scale > 0 && value.checked_rem(ten) == Some(i256::ZERO) {
            let Some(quotient) = value.checked_div(ten) else { break };
            value = quotient;
            scale -= 1;
        }
        match value.to_i128() {
            Some(narrow) => Self { unscaled: Unscaled::Narrow(narrow), scale },
            None => Self { unscaled: Unscaled::Wide(value), scale },
        }
    }

    /// The hash: that of a whole number if there is no fraction.
    pub(super) fn hash(self) -> u64 {
        let tag = if self.scale == 0 { Tag::INT } else { Tag::with_scale(self.scale) };
        match self.unscaled {
            Unscaled::Narrow(value) => mix::wide(tag, value),
            Unscaled::Wide(value) => mix::chained(mix::word(tag, 0), mix::bytes(tag, &value.to_le_bytes())),
        }
    }

    /// The number if it is whole and fits 128 bits.
    pub(super) fn whole(self) -> Option<i128> {
        match (self.unscaled, self.scale) {
            (Unscaled::Narrow(value), 0) => Some(value),
            _ => None,
        }
    }

    /// The number as text, such as `-1.05`.
    pub(super) fn text(self) -> String {
        let digits = match self.unscaled {
            Unscaled::Narrow(value) => value.to_string(),
            Unscaled::Wide(value) => value.to_string(),
        };
        if self.scale == 0 {
            return digits;
        }
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
        let scale = usize::from(self.scale);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }
}

/// Drops trailing zeros after the point.
pub(super) fn strip(mut value: i64, mut scale: u8) -> (i64, u8) {
    while scale > 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    (value, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_brought_to_lowest_terms() {
        let cases: [(i128, u8, &str); 8] = [
            (0, 4, "0"),
            (500, 2, "5"),
            (-105, 2, "-1.05"),
            (10, 3, "0.01"),
            (-1, 10, "-0.0000000001"),
            (i128::MAX, 38, "1.70141183460469231731687303715884105727"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
            (10i128.pow(30), 20, "10000000000"),
        ];
        for (unscaled, scale, text) in cases {
            assert_eq!(Number::of(unscaled, scale).text(), text);
            assert_eq!(
                Number::of_wide(i256::from_i128(unscaled), scale),
                Number::of(unscaled, scale),
                "{text}"
            );
        }
        let wide = i256::from_i128(i128::MAX).wrapping_mul(i256::from_i128(1000));
        assert_eq!(Number::of_wide(wide, 3), Number::of(i128::MAX, 0));
        assert_eq!(Number::of_wide(wide, 2).text(), format!("{}0", i128::MAX));
        assert_ne!(Number::of_wide(wide, 2).hash(), Number::of_wide(wide, 1).hash());
    }
}
