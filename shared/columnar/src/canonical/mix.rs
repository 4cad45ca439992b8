//! The hash of one canonical value, and how values are combined.
//!
//! Words are mixed by folded multiplication (as wyhash and XXH3 do), strings by XXH3.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND_FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// What kind of value is hashed: equal bytes of different kinds differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag(u64);

impl Tag {
    pub(super) const BOOL: Self = Self(0x243f_6a88_85a3_08d3);
    pub(super) const INT: Self = Self(0x1319_8a2e_0370_7344);
    pub(super) const DECIMAL: Self = Self(0xa409_3822_299f_31d0);
    pub(super) const FLOAT: Self = Self(0x082e_fa98_ec4e_6c89);
    pub(super) const TEXT: Self = Self(0x4528_21e6_38d0_1377);
    pub(super) const BINARY: Self = Self(0xbe54_66cf_34e9_0c6c);
    pub(super) const DATE: Self = Self(0xc0ac_29b7_c97c_50dd);
    pub(super) const TIME: Self = Self(0x3f84_d5b5_b547_0917);
    pub(super) const INSTANT: Self = Self(0x9216_d5d9_8979_fb1b);
    pub(super) const NAIVE: Self = Self(0xd131_0ba6_98df_b5ac);
    pub(super) const LIST: Self = Self(0x2ffd_72db_d01a_dfb7);
    pub(super) const STRUCT: Self = Self(0xb8e1_afed_6a26_7e96);
    pub(super) const MAP: Self = Self(0xba7c_9045_f12c_7f99);

    /// A tag for decimals of one scale.
    pub(super) fn with_scale(scale: u8) -> Self {
        Self(Self::DECIMAL.0.wrapping_add(u64::from(scale).wrapping_mul(SECOND_FACTOR)))
    }
}

/// The hash of null.
pub(super) const NULL: u64 = 0x801f_2e28_58ef_c166;

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [low, high] = halves(product);
    low ^ high
}

fn halves(value: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    [value as u64, (value >> 64) as u64]
}

/// The hash of a value of one word.
pub(super) fn word(tag: Tag, value: u64) -> u64 {
    folded(value ^ tag.0, FACTOR)
}

/// The hash of a signed value of one word.
pub(super) fn signed(tag: Tag, value: i64) -> u64 {
    word(tag, value.cast_unsigned())
}

/// The hash of a signed value of two words: that of one word if it fits.
pub(super) fn wide(tag: Tag, value: i128) -> u64 {
    match i64::try_from(value) {
        Ok(value) => signed(tag, value),
        Err(_) => {
            let [low, high] = halves(value.cast_unsigned());
            chained(word(tag, low), high)
        }
    }
}

/// The hash of bytes.
pub(super) fn bytes(tag: Tag, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, tag.0)
}

/// A hash that goes on with another: the order matters.
pub(super) fn chained(hash: u64, next: u64) -> u64 {
    folded(hash.rotate_left(29).wrapping_add(SECOND_FACTOR) ^ next, FACTOR)
}

/// The seed of a column or of a struct's field.
pub(super) fn name_seed(name: &str) -> u64 {
    xxh3_64(name.to_lowercase().as_bytes())
}

/// A value's hash under a seed, fit to be added to others.
pub(super) fn seeded(hash: u64, seed: u64) -> u64 {
    folded(hash ^ seed, SECOND_FACTOR)
}
