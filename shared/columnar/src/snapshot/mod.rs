//! The committed snapshot's partitions: Parquet that DuckDB and Athena open.
//!
//! | column | type |
//! |---|---|
//! | the primary key's columns | by their logical type, see below |
//! | `key_bytes` | binary: the key's canonical bytes where the columns before can't say them, else null |
//! | `row_hash` | 64 bits as a signed integer |
//!
//! A whole-number key column is an INT64, or a DECIMAL(38, 0) if one value needs it; an instant or a timestamp
//! without zone has microseconds, or nanoseconds if one value needs them; a decimal with a fraction is text. What a
//! reader makes of a row's columns is compared with its key when they are written; where it differs (no column holds
//! 40 digits) `key_bytes` says the key.
//!
//! Rows are ordered by key hash. The hash is not stored: it follows from the key, and 16 random bytes a row would
//! more than double the state, which is 8 bytes a row and the key. Files of version 1 also have the row's place in the unload that it
//! came from (`split`, `row`), which nobody reads.

mod columns;
mod parquet_file;
mod read;

use penstock_model::Key;
use penstock_model::port::Objects;
use penstock_model::snapshot::SnapshotManifest;
use xxhash_rust::xxh3::xxh3_128;

use crate::format::{FormatError, narrow, read_whole};
use crate::key_order::{self, Ordered};

use read::{FileCursor, PartitionFile};

pub use parquet_file::{PartitionWriter, write_partition};

/// One key's row of the snapshot, the key as canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRow<'a> {
    /// The key's canonical bytes.
    pub key: &'a [u8],
    /// Hash of the mapped columns as the destination was last told.
    pub row_hash: u64,
}

/// Shows the hash only: a key is a row value.
impl std::fmt::Debug for SnapshotRow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotRow({:016x})", self.row_hash)
    }
}

/// A partition's rows, ordered by key. Keys lie in one allocation: a row takes 24 bytes and its key.
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

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// The first half of the key hash.
    prefix: u64,
    row_hash: u64,
    key_at: u32,
    key_len: u32,
}

impl Ordered for Row {
    fn prefix(&self) -> u64 {
        self.prefix
    }
}

/// The keys of a partition take more than 4 GiB: as many as no function has memory for.
#[derive(Debug, Clone, Copy)]
struct TooLarge;

impl SnapshotRows {
    /// Rows at hand, in any order.
    pub fn of<'a>(rows: impl IntoIterator<Item = SnapshotRow<'a>>) -> Self {
        let mut all = Self::default();
        for row in rows {
            // What is at hand takes no 4 GiB.
            if all.push(key_order::prefix(xxh3_128(row.key)), row).is_err() {
                break;
            }
        }
        all.sort(1);
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
        (0..self.len()).filter_map(|number| Some(self.get(number)?.1))
    }

    /// A row with the first half of its key hash, by its number in the order.
    fn get(&self, number: usize) -> Option<(u64, SnapshotRow<'_>)> {
        let row = self.rows.get(number)?;
        Some((row.prefix, SnapshotRow { key: key_of(&self.keys, row), row_hash: row.row_hash }))
    }

    fn push(&mut self, prefix: u64, row: SnapshotRow<'_>) -> Result<(), TooLarge> {
        self.rows.push(Row {
            prefix,
            row_hash: row.row_hash,
            key_at: u32::try_from(self.keys.len()).map_err(|_| TooLarge)?,
            key_len: u32::try_from(row.key.len()).map_err(|_| TooLarge)?,
        });
        self.keys.extend_from_slice(row.key);
        Ok(())
    }

    fn sort(&mut self, partitions: u32) {
        let Self { keys, rows } = self;
        let by_key = |a: &Row, b: &Row| key_of(keys, a).cmp(key_of(keys, b));
        let order = |a: &Row, b: &Row| a.prefix.cmp(&b.prefix).then_with(|| by_key(a, b));
        // What was written by `write_partition` is in order already.
        if !rows.is_sorted_by(|a, b| order(a, b).is_le()) {
            *rows = key_order::sorted(std::mem::take(rows), partitions, by_key);
        }
    }
}

fn key_of<'a>(keys: &'a [u8], row: &Row) -> &'a [u8] {
    keys.get(row.key_at as usize..row.key_at as usize + row.key_len as usize).unwrap_or_default()
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
        let is_wanted = |prefix| key_order::partition_of_prefix(prefix, partitions) == partition;
        read::read_into(&mut all, &file.key, body, is_wanted)?;
    }
    all.sort(partitions);
    Ok(all)
}

/// A key partition's rows, at hand or in their file.
#[derive(Debug)]
pub(crate) enum Partition {
    /// At hand.
    Rows(SnapshotRows),
    /// In the file of this very partition, which is in order.
    File(PartitionFile),
}

impl Default for Partition {
    fn default() -> Self {
        Self::Rows(SnapshotRows::default())
    }
}

impl Partition {
    /// Goes through the rows in the order of keys.
    ///
    /// # Errors
    /// [`FormatError`] if the file is damaged.
    pub(crate) fn cursor(&self) -> Result<PartitionCursor<'_>, FormatError> {
        Ok(match self {
            Self::Rows(rows) => PartitionCursor::Rows { rows, at: 0 },
            Self::File(file) => PartitionCursor::File(Box::new(FileCursor::open(file)?)),
        })
    }
}

/// Where somebody is in a partition.
pub(crate) enum PartitionCursor<'a> {
    Rows { rows: &'a SnapshotRows, at: usize },
    File(Box<FileCursor<'a>>),
}

impl PartitionCursor<'_> {
    /// The row at hand, with the first half of its key hash; none at the end.
    pub(crate) fn head(&self) -> Option<(u64, SnapshotRow<'_>)> {
        match self {
            Self::Rows { rows, at } => rows.get(*at),
            Self::File(file) => file.head(),
        }
    }

    /// Goes on to the next row.
    ///
    /// # Errors
    /// [`FormatError`] if the file is damaged, or not in order.
    pub(crate) fn advance(&mut self) -> Result<(), FormatError> {
        match self {
            Self::Rows { at, .. } => {
                *at += 1;
                Ok(())
            }
            Self::File(file) => file.advance(),
        }
    }
}

/// The rows of one key partition of today's `partitions`, as a diff goes through them.
///
/// # Errors
/// [`FormatError`] if an object is missing, damaged or of another version.
pub(crate) async fn open_partition(
    objects: &dyn Objects,
    manifest: &SnapshotManifest,
    partition: u32,
    partitions: u32,
) -> Result<Partition, FormatError> {
    match manifest.partitions.get(partition as usize) {
        Some(file) if manifest.partitions.len() == partitions as usize => {
            let body = read_whole(objects, &file.key).await?;
            Ok(Partition::File(PartitionFile { key: file.key.clone(), body, partition, partitions }))
        }
        Some(_) | None => {
            Ok(Partition::Rows(read_partition(objects, manifest, partition, partitions).await?))
        }
    }
}

/// Whether partition `a` of `of_a` has keys in common with partition `b` of `of_b`.
#[must_use]
pub fn overlaps(a: u32, of_a: u32, b: u32, of_b: u32) -> bool {
    let [a, of_a, b, of_b] = [a, of_a, b, of_b].map(u64::from);
    a * of_b < (b + 1) * of_a && b * of_a < (a + 1) * of_b
}

/// One row with a key of its own.
impl<'a> From<(&'a Key, u64)> for SnapshotRow<'a> {
    fn from((key, row_hash): (&'a Key, u64)) -> Self {
        Self { key: key.as_bytes(), row_hash }
    }
}

#[cfg(test)]
pub(crate) mod tests;
