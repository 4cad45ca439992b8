//! One partition's Parquet file, written and read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use penstock_model::change::Place;
use penstock_model::snapshot::SNAPSHOT_VERSION;
use penstock_model::unload::Column;
use xxhash_rust::xxh3::xxh3_128;

use super::columns::{KeyColumn, arrays, types};
use super::{SnapshotRow, SnapshotRows};
use crate::format::{FormatError, damaged};

const VERSION_KEY: &str = "penstock.version";
const COLUMNS_KEY: &str = "penstock.key_columns";
const KEY_BYTES: &str = "key_bytes";
const ROW_HASH: &str = "row_hash";
const SPLIT: &str = "split";
const ROW: &str = "row";
/// Rows written and read at a time.
const BATCH_ROWS: usize = 8192;
/// As DuckDB cuts its own: it reads row groups in parallel, and few are held in memory while they are written.
const ROW_GROUP_ROWS: usize = 122_880;
/// What the error of a file that has no key yet calls it.
const UNWRITTEN: &str = "(a snapshot partition)";

/// The Parquet file of one partition. `rows` must be ordered by key hash; `key_columns` are the run plan's. Given the
/// rows themselves, and not a reference, it frees them.
///
/// # Errors
/// [`FormatError::Parquet`] if Parquet refuses them, which no input is known to bring about.
pub fn write_partition<'a>(
    rows: impl AsRef<[SnapshotRow<'a>]>,
    key_columns: &[Column],
) -> Result<Bytes, FormatError> {
    write(rows.as_ref(), key_columns)
        .map_err(|source| FormatError::Parquet { key: UNWRITTEN.to_owned(), source })
}

fn write(rows: &[SnapshotRow<'_>], key_columns: &[Column]) -> Result<Bytes, ParquetError> {
    // The narrowest types nearly always do: to look at every key before would cost more than to begin again.
    let narrowest = types(&[], key_columns);
    match write_as(rows, key_columns, &narrowest, Misfits::Refused)? {
        Some(body) => Ok(body),
        None => {
            let types = types(rows, key_columns);
            Ok(write_as(rows, key_columns, &types, Misfits::AsKeyBytes)?.unwrap_or_default())
        }
    }
}

/// What becomes of a key that the columns can't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfits {
    /// There is to be none: wider types may say it.
    Refused,
    /// Its bytes are stored.
    AsKeyBytes,
}

/// `None` if there is a misfit that is refused.
fn write_as(
    rows: &[SnapshotRow<'_>],
    key_columns: &[Column],
    types: &[DataType],
    misfits: Misfits,
) -> Result<Option<Bytes>, ParquetError> {
    let names = names(key_columns);
    let schema = Arc::new(schema(&names, types));
    let properties = properties(key_columns, &names, types)?;
    let mut body = Vec::with_capacity(rows.len() * 16);
    let mut writer = ArrowWriter::try_new(&mut body, schema.clone(), Some(properties))?;
    for rows in rows.chunks(BATCH_ROWS) {
        let mut columns = arrays(rows, types);
        let key_bytes = what_the_columns_cannot_say(rows, &columns, key_columns);
        if misfits == Misfits::Refused && key_bytes.null_count() < rows.len() {
            return Ok(None);
        }
        columns.push(Arc::new(key_bytes));
        columns.push(numbers(rows, |row| row.row_hash.cast_signed()));
        columns.push(numbers(rows, |row| i64::from(row.place.split)));
        columns.push(numbers(rows, |row| i64::from(row.place.row)));
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    writer.close()?;
    Ok(Some(Bytes::from(body)))
}

fn numbers(rows: &[SnapshotRow<'_>], number: impl Fn(&SnapshotRow<'_>) -> i64) -> ArrayRef {
    Arc::new(rows.iter().map(number).collect::<Int64Array>())
}

/// The key columns' names in the file: their own, unless one of ours has it.
fn names(key_columns: &[Column]) -> Vec<String> {
    let ours = [KEY_BYTES, ROW_HASH, SPLIT, ROW].map(str::to_owned);
    let mut taken = ours.to_vec();
    taken.extend(key_columns.iter().map(|column| column.name.to_lowercase()));
    key_columns
        .iter()
        .map(|column| {
            let mut name = column.name.clone();
            if ours.contains(&name.to_lowercase()) {
                while taken.contains(&name.to_lowercase()) {
                    name.insert_str(0, "key_");
                }
                taken.push(name.to_lowercase());
            }
            name
        })
        .collect()
}

fn schema(names: &[String], types: &[DataType]) -> Schema {
    let keys = names.iter().zip(types).map(|(name, data_type)| Field::new(name, data_type.clone(), true));
    let ours = [
        Field::new(KEY_BYTES, DataType::Binary, true),
        Field::new(ROW_HASH, DataType::Int64, false),
        Field::new(SPLIT, DataType::Int64, false),
        Field::new(ROW, DataType::Int64, false),
    ];
    Schema::new(keys.chain(ours).collect::<Vec<_>>())
}

fn properties(
    key_columns: &[Column],
    names: &[String],
    types: &[DataType],
) -> Result<WriterProperties, ParquetError> {
    let columns =
        serde_json::to_string(key_columns).map_err(|error| ParquetError::External(Box::new(error)))?;
    let path = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        // Keys and hashes do not repeat, and rows stand in the order of a hash: neither a dictionary nor
        // statistics are of use.
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(vec![
            KeyValue::new(VERSION_KEY.to_owned(), SNAPSHOT_VERSION.to_string()),
            KeyValue::new(COLUMNS_KEY.to_owned(), columns),
        ]))
        .set_column_dictionary_enabled(path(SPLIT), true)
        .set_column_encoding(path(ROW), Encoding::DELTA_BINARY_PACKED)
        .set_column_compression(path(ROW), Compression::UNCOMPRESSED)
        .set_column_compression(path(ROW_HASH), Compression::UNCOMPRESSED);
    for (name, data_type) in names.iter().zip(types) {
        if *data_type == DataType::Int64 {
            properties = properties.set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(properties.build())
}

/// The keys that a reader would not get back from these columns.
fn what_the_columns_cannot_say(
    rows: &[SnapshotRow<'_>],
    columns: &[ArrayRef],
    kinds: &[Column],
) -> BinaryArray {
    let readers: Option<Vec<_>> =
        columns.iter().zip(kinds).map(|(array, column)| KeyColumn::of(array, &column.kind)).collect();
    let mut key_bytes = BinaryBuilder::new();
    let mut read_back = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        read_back.clear();
        readers.iter().flatten().for_each(|column| column.push(number, &mut read_back));
        key_bytes.append_option((read_back != row.key).then_some(row.key));
    }
    key_bytes.finish()
}

/// Appends a file's rows whose key hash is wanted.
pub(super) fn read_into(
    all: &mut SnapshotRows,
    key: &str,
    body: Bytes,
    is_wanted: impl Fn(u128) -> bool,
) -> Result<(), FormatError> {
    // Parquet's decoder panics on some damage.
    catch_unwind(AssertUnwindSafe(|| decode_into(all, key, body, is_wanted)))
        .unwrap_or_else(|_| Err(damaged(key, 0, "the Parquet decoder gave up on it")))
}

fn decode_into(
    all: &mut SnapshotRows,
    key: &str,
    body: Bytes,
    is_wanted: impl Fn(u128) -> bool,
) -> Result<(), FormatError> {
    let refused = |source| FormatError::Parquet { key: key.to_owned(), source };
    // Each row has a hash of 8 bytes that is stored as it is.
    let most = body.len() / 8;
    let builder = ParquetRecordBatchReaderBuilder::try_new(body).map_err(refused)?;
    let kinds = key_columns(key, builder.metadata().file_metadata().key_value_metadata())?;
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    all.rows.reserve(rows.min(most));
    for batch in builder.with_batch_size(BATCH_ROWS).build().map_err(refused)? {
        let batch = batch.map_err(|error| refused(error.into()))?;
        push_batch(all, &batch, &kinds, &is_wanted)
            .ok_or_else(|| damaged(key, 0, "its columns are not a snapshot's"))?;
    }
    all.rows.shrink_to_fit();
    Ok(())
}

fn key_columns(key: &str, metadata: Option<&Vec<KeyValue>>) -> Result<Vec<Column>, FormatError> {
    let find = |name: &str| {
        let found = metadata.into_iter().flatten().find(|entry| entry.key == name);
        found.and_then(|entry| entry.value.as_deref())
    };
    let found = find(VERSION_KEY).and_then(|version| version.parse().ok());
    let found = found.ok_or_else(|| damaged(key, 0, "it is not a snapshot partition"))?;
    if found != SNAPSHOT_VERSION {
        return Err(FormatError::Version { key: key.to_owned(), found, known: SNAPSHOT_VERSION });
    }
    find(COLUMNS_KEY)
        .and_then(|columns| serde_json::from_str(columns).ok())
        .ok_or_else(|| damaged(key, 0, "it does not name its key columns"))
}

/// `None` if the batch has not the columns of a snapshot.
fn push_batch(
    all: &mut SnapshotRows,
    batch: &RecordBatch,
    kinds: &[Column],
    is_wanted: impl Fn(u128) -> bool,
) -> Option<()> {
    let (keys, ours) = batch.columns().split_at_checked(kinds.len())?;
    let keys: Vec<_> = keys
        .iter()
        .zip(kinds)
        .map(|(array, column)| KeyColumn::of(array, &column.kind))
        .collect::<Option<_>>()?;
    let [key_bytes, row_hash, split, row] = ours else { return None };
    let key_bytes: &BinaryArray = key_bytes.as_any().downcast_ref()?;
    let number = |array: &ArrayRef| array.as_any().downcast_ref::<Int64Array>().cloned();
    let (row_hash, split, row) = (number(row_hash)?, number(split)?, number(row)?);
    let mut key = Vec::new();
    for (n, ((&row_hash, &split), &row)) in
        row_hash.values().iter().zip(split.values()).zip(row.values()).enumerate()
    {
        key.clear();
        if key_bytes.is_valid(n) {
            key.extend_from_slice(key_bytes.value(n));
        } else {
            keys.iter().for_each(|column| column.push(n, &mut key));
        }
        let hash = xxh3_128(&key);
        if is_wanted(hash) {
            let place = Place { split: u32::try_from(split).ok()?, row: u32::try_from(row).ok()? };
            all.push(hash, SnapshotRow { key: &key, row_hash: row_hash.cast_unsigned(), place }).ok()?;
        }
    }
    Some(())
}
