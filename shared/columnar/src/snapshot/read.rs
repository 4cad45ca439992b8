//! A partition's Parquet file, read: whole, or row by row in its order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{Array, BinaryArray, Int64Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use penstock_model::unload::Column;
use xxhash_rust::xxh3::xxh3_128;

use super::columns::KeyColumn;
use super::parquet_file::{BATCH_ROWS, COLUMNS_KEY, FILE_VERSION, VERSION_KEY};
use super::{SnapshotRow, SnapshotRows};
use crate::format::{FormatError, damaged};
use crate::key_order;

/// One partition's file.
#[derive(Clone)]
pub(crate) struct PartitionFile {
    /// The object's key, for errors.
    pub(super) key: String,
    pub(super) body: Bytes,
    pub(super) partition: u32,
    pub(super) partitions: u32,
}

/// Shows no content: keys are row values.
impl std::fmt::Debug for PartitionFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartitionFile({})", self.key)
    }
}

/// Goes through a partition's file, whose rows are in order.
pub(crate) struct FileCursor<'a> {
    file: &'a PartitionFile,
    batches: Batches,
    rows: BatchRows,
    at: usize,
    /// The row before: none may come after it that does not.
    last: Option<(u64, Vec<u8>)>,
}

impl<'a> FileCursor<'a> {
    pub(super) fn open(file: &'a PartitionFile) -> Result<Self, FormatError> {
        let batches = Batches::open(&file.key, file.body.clone())?;
        let mut cursor = Self { file, batches, rows: BatchRows::default(), at: 0, last: None };
        cursor.fill()?;
        Ok(cursor)
    }

    pub(crate) fn head(&self) -> Option<(u64, SnapshotRow<'_>)> {
        self.rows.get(self.at)
    }

    pub(crate) fn advance(&mut self) -> Result<(), FormatError> {
        self.at += 1;
        if self.at < self.rows.len() { Ok(()) } else { self.fill() }
    }

    fn fill(&mut self) -> Result<(), FormatError> {
        let PartitionFile { key, partition, partitions, .. } = self.file;
        if let Some((prefix, row)) = self.rows.len().checked_sub(1).and_then(|last| self.rows.get(last)) {
            self.last = Some((prefix, row.key.to_vec()));
        }
        self.at = 0;
        self.batches.read(key, &mut self.rows)?;
        let mut last = self.last.as_ref().map(|(prefix, key)| (*prefix, key.as_slice()));
        for number in 0..self.rows.len() {
            let Some((prefix, row)) = self.rows.get(number) else { break };
            if key_order::partition_of_prefix(prefix, *partitions) != *partition {
                return Err(damaged(key, 0, "a key is not of this partition"));
            }
            if last.is_some_and(|last| last.0 >= prefix && last >= (prefix, row.key)) {
                return Err(damaged(key, 0, "its rows are not in the order of keys"));
            }
            last = Some((prefix, row.key));
        }
        Ok(())
    }
}

/// Appends a file's rows whose key hash is wanted.
pub(super) fn read_into(
    all: &mut SnapshotRows,
    key: &str,
    body: Bytes,
    is_wanted: impl Fn(u64) -> bool,
) -> Result<(), FormatError> {
    // Each row has a hash of 8 bytes that is stored as it is.
    let most = body.len() / 8;
    let mut batches = Batches::open(key, body)?;
    all.rows.reserve(batches.rows.min(most));
    let mut rows = BatchRows::default();
    loop {
        batches.read(key, &mut rows)?;
        if rows.len() == 0 {
            break;
        }
        for (prefix, row) in (0..rows.len()).filter_map(|number| rows.get(number)) {
            if is_wanted(prefix) {
                all.push(prefix, row).map_err(|_| damaged(key, 0, "its keys are too large together"))?;
            }
        }
    }
    all.rows.shrink_to_fit();
    Ok(())
}

/// A file's batches. Parquet's decoder panics on some damage.
struct Batches {
    kinds: Vec<Column>,
    reader: ParquetRecordBatchReader,
    /// As many as the footer says.
    rows: usize,
}

impl Batches {
    fn open(key: &str, body: Bytes) -> Result<Self, FormatError> {
        decoded(key, || {
            let refused = |source| FormatError::Parquet { key: key.to_owned(), source };
            let builder = ParquetRecordBatchReaderBuilder::try_new(body).map_err(refused)?;
            let kinds = key_columns(key, builder.metadata().file_metadata().key_value_metadata())?;
            let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
            // The key's columns and two of ours; a file of version 1 has more.
            let columns = ProjectionMask::roots(builder.parquet_schema(), 0..kinds.len() + 2);
            let builder = builder.with_projection(columns).with_batch_size(BATCH_ROWS);
            let reader = builder.build().map_err(refused)?;
            Ok(Self { kinds, reader, rows })
        })
    }

    /// The next batch's rows in the place of those before; none at the end.
    fn read(&mut self, key: &str, rows: &mut BatchRows) -> Result<(), FormatError> {
        rows.clear();
        decoded(key, || {
            while rows.len() == 0 {
                let Some(batch) = self.reader.next() else { break };
                let batch = batch.map_err(|error| FormatError::Parquet {
                    key: key.to_owned(),
                    source: ParquetError::from(error),
                })?;
                rows.take(&batch, &self.kinds)
                    .ok_or_else(|| damaged(key, 0, "its columns are not a snapshot's"))?;
            }
            Ok(())
        })
    }
}

fn decoded<T>(key: &str, decode: impl FnOnce() -> Result<T, FormatError>) -> Result<T, FormatError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(damaged(key, 0, "the Parquet decoder gave up on it")))
}

/// A batch's rows, with keys in canonical bytes.
#[derive(Default)]
struct BatchRows {
    keys: Vec<u8>,
    rows: Vec<BatchRow>,
}

struct BatchRow {
    prefix: u64,
    row_hash: u64,
    key_end: usize,
}

impl BatchRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.rows.clear();
    }

    fn get(&self, number: usize) -> Option<(u64, SnapshotRow<'_>)> {
        let row = self.rows.get(number)?;
        let before = number.checked_sub(1).and_then(|before| self.rows.get(before));
        let start = before.map_or(0, |before| before.key_end);
        let key = self.keys.get(start..row.key_end).unwrap_or_default();
        Some((row.prefix, SnapshotRow { key, row_hash: row.row_hash }))
    }

    /// `None` if the batch has not the columns of a snapshot.
    fn take(&mut self, batch: &RecordBatch, kinds: &[Column]) -> Option<()> {
        let (keys, ours) = batch.columns().split_at_checked(kinds.len())?;
        let keys: Vec<_> = keys
            .iter()
            .zip(kinds)
            .map(|(array, column)| KeyColumn::of(array, &column.kind))
            .collect::<Option<_>>()?;
        let [key_bytes, row_hash] = ours else { return None };
        let key_bytes: &BinaryArray = key_bytes.as_any().downcast_ref()?;
        let row_hash: &Int64Array = row_hash.as_any().downcast_ref()?;
        for (n, row_hash) in row_hash.values().iter().enumerate() {
            let start = self.keys.len();
            if key_bytes.is_valid(n) {
                self.keys.extend_from_slice(key_bytes.value(n));
            } else {
                keys.iter().for_each(|column| column.push(n, &mut self.keys));
            }
            let hash = xxh3_128(self.keys.get(start..).unwrap_or_default());
            self.rows.push(BatchRow {
                prefix: key_order::prefix(hash),
                row_hash: row_hash.cast_unsigned(),
                key_end: self.keys.len(),
            });
        }
        Some(())
    }
}

fn key_columns(key: &str, metadata: Option<&Vec<KeyValue>>) -> Result<Vec<Column>, FormatError> {
    let find = |name: &str| {
        let found = metadata.into_iter().flatten().find(|entry| entry.key == name);
        found.and_then(|entry| entry.value.as_deref())
    };
    let found = find(VERSION_KEY).and_then(|version| version.parse().ok());
    let found = found.ok_or_else(|| damaged(key, 0, "it is not a snapshot partition"))?;
    if !(1..=FILE_VERSION).contains(&found) {
        return Err(FormatError::Version { key: key.to_owned(), found, known: FILE_VERSION });
    }
    find(COLUMNS_KEY)
        .and_then(|columns| serde_json::from_str(columns).ok())
        .ok_or_else(|| damaged(key, 0, "it does not name its key columns"))
}
