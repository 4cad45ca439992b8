//! One partition's Parquet file, written.

use std::sync::Arc;

use arrow::array::{Array, ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use penstock_model::key::{KeyCell, cells};
use penstock_model::unload::Column;

use super::SnapshotRow;
use super::columns::{Filler, KeyColumn, Needs, see, types};
use crate::format::FormatError;

pub(super) const VERSION_KEY: &str = "penstock.version";
pub(super) const COLUMNS_KEY: &str = "penstock.key_columns";
const KEY_BYTES: &str = "key_bytes";
const ROW_HASH: &str = "row_hash";
/// Of the file's format. Version 1 had the rows' places, too.
pub(super) const FILE_VERSION: u32 = 2;
/// Rows written and read at a time.
pub(super) const BATCH_ROWS: usize = 8192;
/// As DuckDB cuts its own: it reads row groups in parallel, and few are held in memory while they are written.
const ROW_GROUP_ROWS: usize = 122_880;
/// What the error of a file that has no key yet calls it.
const UNWRITTEN: &str = "(a snapshot partition)";

/// The Parquet file of one partition. `show` is to push its rows, ordered by key hash; it is asked again if a key needs wider types
/// than most. `key_columns` are the run plan's. Gives what `show` gave with the file.
///
/// # Errors
/// What `show` gives; [`FormatError::Parquet`] if Parquet refuses the rows, which no input is known to bring about.
pub fn write_partition<T>(
    key_columns: &[Column],
    mut show: impl FnMut(&mut PartitionWriter) -> Result<T, FormatError>,
) -> Result<(Bytes, T), FormatError> {
    let refused = |source| FormatError::Parquet { key: UNWRITTEN.to_owned(), source };
    // The narrowest types nearly always do: to look at every key before would cost more than to begin again.
    let mut needs = vec![Needs::default(); key_columns.len()];
    let mut misfits = Misfits::Refused;
    loop {
        let mut writer = PartitionWriter::new(key_columns, &needs, misfits).map_err(refused)?;
        let shown = show(&mut writer)?;
        match writer.finish().map_err(refused)? {
            Written::Body(body) => return Ok((body, shown)),
            Written::TooNarrow(wider) => (needs, misfits) = (wider, Misfits::AsKeyBytes),
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

enum Written {
    Body(Bytes),
    TooNarrow(Vec<Needs>),
}

/// Takes the rows of one partition, and holds no more of them than Parquet's writer does.
pub struct PartitionWriter {
    key_columns: Vec<Column>,
    fillers: Vec<Filler>,
    misfits: Misfits,
    /// What the keys ask for, once one did not fit.
    wider: Option<Vec<Needs>>,
    unsure: Unsure,
    row_hashes: Vec<i64>,
    schema: Arc<Schema>,
    /// The first error ends it; it is told at the end.
    writer: Result<ArrowWriter<Vec<u8>>, ParquetError>,
}

/// Shows nothing of the rows.
impl std::fmt::Debug for PartitionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PartitionWriter")
    }
}

/// Rows of a batch whose columns may not say their keys, and the keys.
#[derive(Default)]
struct Unsure {
    keys: Vec<u8>,
    /// Row and end of its key.
    rows: Vec<(usize, usize)>,
}

impl Unsure {
    fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut start = 0;
        self.rows.iter().map(move |(row, end)| {
            let key = self.keys.get(start..*end).unwrap_or_default();
            start = *end;
            (*row, key)
        })
    }
}

impl PartitionWriter {
    fn new(key_columns: &[Column], needs: &[Needs], misfits: Misfits) -> Result<Self, ParquetError> {
        let types = types(key_columns, needs);
        let names = names(key_columns);
        let schema = Arc::new(schema(&names, &types));
        let properties = properties(key_columns, &names, &types)?;
        Ok(Self {
            key_columns: key_columns.to_vec(),
            fillers: types.iter().map(|data_type| Filler::new(data_type, BATCH_ROWS)).collect(),
            misfits,
            wider: None,
            unsure: Unsure::default(),
            row_hashes: Vec::with_capacity(BATCH_ROWS),
            schema: Arc::clone(&schema),
            writer: ArrowWriter::try_new(Vec::new(), schema, Some(properties)),
        })
    }

    /// Takes the next row.
    pub fn push(&mut self, row: SnapshotRow<'_>) {
        if let Some(needs) = &mut self.wider {
            see(needs, row.key);
            return;
        }
        let mut values = cells(row.key);
        let mut is_sure = true;
        for (filler, column) in self.fillers.iter_mut().zip(&self.key_columns) {
            let value = values.next().and_then(Result::ok).unwrap_or(KeyCell::Null);
            is_sure &= filler.append(value, &column.kind);
        }
        if !is_sure || values.next().is_some() {
            self.unsure.keys.extend_from_slice(row.key);
            self.unsure.rows.push((self.row_hashes.len(), self.unsure.keys.len()));
        }
        self.row_hashes.push(row.row_hash.cast_signed());
        if self.row_hashes.len() == BATCH_ROWS {
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        let mut columns: Vec<ArrayRef> = self.fillers.iter_mut().map(Filler::finish).collect();
        let unsure = std::mem::take(&mut self.unsure);
        let row_hashes = std::mem::replace(&mut self.row_hashes, Vec::with_capacity(BATCH_ROWS));
        let key_bytes = what_the_columns_cannot_say(&unsure, row_hashes.len(), &columns, &self.key_columns);
        if self.misfits == Misfits::Refused && key_bytes.null_count() < row_hashes.len() {
            let mut needs = vec![Needs::default(); self.key_columns.len()];
            unsure.iter().for_each(|(_, key)| see(&mut needs, key));
            self.wider = Some(needs);
            return;
        }
        columns.push(Arc::new(key_bytes));
        columns.push(Arc::new(Int64Array::from(row_hashes)));
        let Ok(writer) = &mut self.writer else { return };
        let written = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        if let Err(error) = written.map_err(ParquetError::from).and_then(|batch| writer.write(&batch)) {
            self.writer = Err(error);
        }
    }

    fn finish(mut self) -> Result<Written, ParquetError> {
        if self.wider.is_none() && !self.row_hashes.is_empty() {
            self.write_batch();
        }
        let writer = self.writer?;
        match self.wider {
            Some(needs) => Ok(Written::TooNarrow(needs)),
            None => Ok(Written::Body(Bytes::from(writer.into_inner()?))),
        }
    }
}

/// The key columns' names in the file: their own, unless one of ours has it.
fn names(key_columns: &[Column]) -> Vec<String> {
    let ours = [KEY_BYTES, ROW_HASH].map(str::to_owned);
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
    let ours = [Field::new(KEY_BYTES, DataType::Binary, true), Field::new(ROW_HASH, DataType::Int64, false)];
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
            KeyValue::new(VERSION_KEY.to_owned(), FILE_VERSION.to_string()),
            KeyValue::new(COLUMNS_KEY.to_owned(), columns),
        ]))
        .set_column_compression(path(ROW_HASH), Compression::UNCOMPRESSED);
    for (name, data_type) in names.iter().zip(types) {
        if *data_type == DataType::Int64 {
            // In the order of a hash nothing repeats: what is packed as differences, zstd only makes dearer.
            properties = properties
                .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED)
                .set_column_compression(path(name), Compression::UNCOMPRESSED);
        }
    }
    Ok(properties.build())
}

/// The keys that a reader would not get back from these columns.
fn what_the_columns_cannot_say(
    unsure: &Unsure,
    rows: usize,
    columns: &[ArrayRef],
    kinds: &[Column],
) -> BinaryArray {
    if unsure.rows.is_empty() {
        return BinaryArray::new_null(rows);
    }
    let readers: Option<Vec<_>> =
        columns.iter().zip(kinds).map(|(array, column)| KeyColumn::of(array, &column.kind)).collect();
    let mut key_bytes = BinaryBuilder::new();
    let mut read_back = Vec::new();
    for (row, key) in unsure.iter() {
        (key_bytes.len()..row).for_each(|_| key_bytes.append_null());
        read_back.clear();
        readers.iter().flatten().for_each(|column| column.push(row, &mut read_back));
        key_bytes.append_option((read_back != key).then_some(key));
    }
    (key_bytes.len()..rows).for_each(|_| key_bytes.append_null());
    key_bytes.finish()
}
