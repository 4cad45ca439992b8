//! What `read` and `diff` find: fingerprints and changes.

use crate::Key;

/// Where a row stands: the split that reads it and its number within the split.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The split's ordinal in the run plan.
    pub split: u32,
    /// The row's number within the split, from 0.
    pub row: u32,
}

/// One row of the unload, as `read` leaves it for `diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The row's primary key.
    pub key: Key,
    /// Hash of the mapped columns' canonical values.
    pub row_hash: u64,
    /// The same over the columns of the last committed snapshot, where those differ from today's.
    pub compare_hash: Option<u64>,
    /// Where the row stands.
    pub place: Place,
}

/// What a key's change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The destination was not told of this key.
    Added,
    /// The destination was told something else, or it is not certain what it was told.
    Changed,
    /// The key is no longer in the unload.
    Removed,
    /// Several rows have this key: each is rejected.
    DuplicateKey,
    /// A key column is null: the row is rejected.
    NullKey,
}

/// What is known of a key before the change is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Previous {
    /// The row hash that the destination accepted last, if that is certain.
    pub accepted: Option<u64>,
    /// Whether the destination may hold the record although nothing certain is known of it.
    pub maybe_present: bool,
}

/// One key that differs from the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened to the key.
    pub kind: ChangeKind,
    /// The key.
    pub key: Key,
    /// Where the row stands; for a removal `split` is [`REMOVED`] and `row` its number in the partition.
    pub place: Place,
    /// The row's hash; 0 for a removal.
    pub row_hash: u64,
    /// What the destination held before.
    pub previous: Previous,
}

/// The `split` of a removal's place: there is no row any more.
pub const REMOVED: u32 = u32::MAX;
