//! Objects in memory and Parquet files, for this crate's tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use penstock_model::Timestamp;
use penstock_model::change::Fingerprint;
use penstock_model::port::{Boxed, Condition, ETag, ObjectError, ObjectMeta, Objects, OpenObjects, Put};

use crate::fingerprint::{SplitRow, SplitWriter};

/// One stored object.
#[derive(Debug, Clone)]
struct Stored {
    body: Bytes,
    etag: ETag,
    modified: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    writes: i64,
    reads: Vec<(String, Range<u64>)>,
}

/// A store that lives as long as the test. Every write has a version of its own and a later time.
#[derive(Debug, Default)]
pub(crate) struct MemoryObjects {
    state: Mutex<State>,
}

impl MemoryObjects {
    /// An empty store.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an object without a condition, from a test that does not want to await.
    pub(crate) fn insert(&self, key: &str, body: impl Into<Bytes>) -> ETag {
        let mut state = self.state();
        state.writes += 1;
        let etag = ETag(format!("v{}", state.writes));
        let stored =
            Stored { body: body.into(), etag: etag.clone(), modified: Timestamp(state.writes * 1_000) };
        state.objects.insert(key.to_owned(), stored);
        etag
    }

    /// Changes the time at which an object was written.
    pub(crate) fn set_modified(&self, key: &str, modified: Timestamp) {
        if let Some(stored) = self.state().objects.get_mut(key) {
            stored.modified = modified;
        }
    }

    /// The bytes of an object.
    pub(crate) fn body(&self, key: &str) -> Option<Bytes> {
        self.state().objects.get(key).map(|stored| stored.body.clone())
    }

    /// The ranges read since the last call.
    pub(crate) fn take_reads(&self) -> Vec<(String, Range<u64>)> {
        std::mem::take(&mut self.state().reads)
    }
}

impl Objects for MemoryObjects {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        let found = self.state().objects.get(key).map(|stored| (stored.body.clone(), stored.etag.clone()));
        Box::pin(async move { Ok(found) })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.reads.push((key.to_owned(), range.clone()));
            let stored =
                state.objects.get(key).ok_or_else(|| ObjectError::Missing { key: key.to_owned() })?;
            if version.is_some_and(|version| *version != stored.etag) {
                return Err(ObjectError::Changed { key: key.to_owned() });
            }
            let len = stored.body.len();
            let start = usize::try_from(range.start).unwrap_or(len).min(len);
            let end = usize::try_from(range.end).unwrap_or(len).clamp(start, len);
            Ok(stored.body.slice(start..end))
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        let found = self.state().objects.get(key).map(|stored| meta(key, stored));
        Box::pin(async move { Ok(found) })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            let present = self.state().objects.get(key).map(|stored| stored.etag.clone());
            let allowed = match condition {
                Condition::Always => true,
                Condition::IfAbsent => present.is_none(),
                Condition::IfMatch(etag) => present == Some(etag),
            };
            Ok(if allowed { Put::Written(self.insert(key, body)) } else { Put::Refused })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        let found = self
            .state()
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, stored)| meta(key, stored))
            .collect();
        Box::pin(async move { Ok(found) })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        self.state().objects.remove(key);
        Box::pin(async move { Ok(()) })
    }

    fn bucket(&self) -> &str {
        "memory"
    }
}

fn meta(key: &str, stored: &Stored) -> ObjectMeta {
    ObjectMeta {
        key: key.to_owned(),
        size: stored.body.len() as u64,
        etag: stored.etag.clone(),
        modified: stored.modified,
    }
}

/// Opens the same store under every root.
#[derive(Debug, Clone)]
pub(crate) struct MemoryOpener(pub(crate) Arc<MemoryObjects>);

impl OpenObjects for MemoryOpener {
    fn open(&self, _root: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        let objects: Arc<dyn Objects> = self.0.clone();
        Ok(objects)
    }
}

/// The object of one split's fingerprints.
pub(crate) fn fingerprints_object(fingerprints: &[Fingerprint], partitions: u32) -> Bytes {
    let mut writer = SplitWriter::new(partitions);
    for fingerprint in fingerprints {
        writer.push(SplitRow {
            key: fingerprint.key.as_bytes(),
            has_null: fingerprint.key.has_null(),
            row_hash: fingerprint.row_hash,
            compare_hash: fingerprint.compare_hash,
            row: fingerprint.place.row,
        });
    }
    writer.finish()
}

/// A number in seven-bit groups.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::format::push_varint(&mut bytes, value);
    bytes
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// A Parquet file as arrow-rs writes it, with row groups of this many rows.
pub(crate) fn parquet_file(batches: &[RecordBatch], row_group_rows: usize) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(10)
        .build();
    let schema = batches.first().expect("a batch gives the schema").schema();
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, schema, Some(properties)).expect("a schema for Parquet");
    for batch in batches {
        writer.write(batch).expect("rows are written");
    }
    writer.close().expect("a footer is written");
    body
}
