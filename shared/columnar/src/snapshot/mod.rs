//! The committed snapshot's partitions: Parquet that DuckDB and Athena open.
//!
//! | column | type |
//! |---|---|
//! | the primary key's columns | by their logical type, see below |
//! | `key_bytes` | binary: the key's canonical bytes where the columns before can't say them, else null |
//! | `row_hash` | 64 bits as a signed integer |
//! | `split`, `row` | integers: the row's place in the unload that it came from |
//!
//! A whole-number key column is an INT64, or a DECIMAL(38, 0) if one value needs it; an instant or a timestamp
//! without zone has microseconds, or nanoseconds if one value needs them; a decimal with a fraction is text. What a
//! reader makes of a row's columns is compared with its key when they are written; where it differs (no column holds
//! 40 digits) `key_bytes` says the key.
//!
//! Rows are ordered by key hash. The hash is not stored: it follows from the key, and 16 random bytes a row would
//! more than double the state, which is about 11 bytes a row and the key.

mod columns;
mod parquet_file;

use penstock_model::Key;
use penstock_model::change::Place;
use penstock_model::port::Objects;
use penstock_model::run_plan::partition_of;
use penstock_model::snapshot::SnapshotManifest;
use xxhash_rust::xxh3::xxh3_128;

use crate::format::{FormatError, narrow, read_whole};

pub use parquet_file::write_partition;

/// One key's row of the snapshot, the key as canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRow<'a> {
    /// The key's canonical bytes.
    pub key: &'a [u8],
    /// Hash of the mapped columns as the destination was last told.
    pub row_hash: u64,
    /// Where the row stood in its unload.
    pub place: Place,
}

/// Shows the place only: a key is a row value.
impl std::fmt::Debug for SnapshotRow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotRow({:?})", self.place)
    }
}

/// A partition's rows, ordered by key. Keys lie in one allocation: a row takes 48 bytes and its key.
#[derive(Default)]
pub struct SnapshotRows {
    keys: Vec<u8>,
    rows: Vec<Row>,
}

impl std::fmt::Debug for SnapshotRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotRows({})", self.rows.len())
    }
}

#[derive(Debug, Clone, Copy)]
struct Row {
    hash: u128,
    key_at: usize,
    row_hash: u64,
    place: Place,
    key_len: u32,
}

impl SnapshotRows {
    /// Rows at hand, in any order.
    pub fn of<'a>(rows: impl IntoIterator<Item = SnapshotRow<'a>>) -> Self {
        let mut all = Self::default();
        for row in rows {
            all.push(xxh3_128(row.key), row);
        }
        all.sort();
        all
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, ordered by key hash.
    pub fn iter(&self) -> impl Iterator<Item = SnapshotRow<'_>> {
        self.hashed().map(|(_, row)| row)
    }

    /// The rows with their key hashes, ordered by them.
    pub(crate) fn hashed(&self) -> impl Iterator<Item = (u128, SnapshotRow<'_>)> {
        self.rows.iter().map(|row| {
            let key = key_of(&self.keys, row);
            (row.hash, SnapshotRow { key, row_hash: row.row_hash, place: row.place })
        })
    }

    fn push(&mut self, hash: u128, row: SnapshotRow<'_>) {
        self.rows.push(Row {
            hash,
            key_at: self.keys.len(),
            row_hash: row.row_hash,
            place: row.place,
            key_len: narrow(row.key.len()),
        });
        self.keys.extend_from_slice(row.key);
    }

    fn sort(&mut self) {
        let Self { keys, rows } = self;
        let order = |a: &Row, b: &Row| a.hash.cmp(&b.hash).then_with(|| key_of(keys, a).cmp(key_of(keys, b)));
        // What was written by `write_partition` is in order already.
        if !rows.is_sorted_by(|a, b| order(a, b).is_le()) {
            rows.sort_by(order);
        }
    }
}

fn key_of<'a>(keys: &'a [u8], row: &Row) -> &'a [u8] {
    keys.get(row.key_at..row.key_at + row.key_len as usize).unwrap_or_default()
}

/// The rows of one key partition of today's `partitions`, whatever number of partitions the snapshot was cut into.
///
/// # Errors
/// [`FormatError`] if an object is missing, damaged or of another version.
pub async fn read_partition(
    objects: &dyn Objects,
    manifest: &SnapshotManifest,
    partition: u32,
    partitions: u32,
) -> Result<SnapshotRows, FormatError> {
    let of_snapshot = narrow(manifest.partitions.len());
    let mut all = SnapshotRows::default();
    for (number, file) in (0u32..).zip(&manifest.partitions) {
        if !overlaps(number, of_snapshot, partition, partitions) {
            continue;
        }
        let body = read_whole(objects, &file.key).await?;
        let is_wanted = |hash| partition_of(hash, partitions) == partition;
        parquet_file::read_into(&mut all, &file.key, body, is_wanted)?;
    }
    all.sort();
    Ok(all)
}

/// Whether partition `a` of `of_a` has keys in common with partition `b` of `of_b`.
#[must_use]
pub fn overlaps(a: u32, of_a: u32, b: u32, of_b: u32) -> bool {
    let [a, of_a, b, of_b] = [a, of_a, b, of_b].map(u64::from);
    a * of_b < (b + 1) * of_a && b * of_a < (a + 1) * of_b
}

/// One row with a key of its own.
impl<'a> From<(&'a Key, u64, Place)> for SnapshotRow<'a> {
    fn from((key, row_hash, place): (&'a Key, u64, Place)) -> Self {
        Self { key: key.as_bytes(), row_hash, place }
    }
}

#[cfg(test)]
pub(crate) mod tests;
