//! The table that is synced: its rows, how they change from day to day, and the Parquet files they are unloaded to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use penstock_model::port::{Condition, Objects};
use penstock_store::MemoryObjects;
use serde_json::{Value, json};

use crate::world::Dice;

/// One row. Whenever it changes, its version rises.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) id: Option<i64>,
    pub(crate) version: i64,
    pub(crate) note: Option<String>,
    /// The destination refuses it.
    pub(crate) bad: bool,
}

impl Row {
    /// The row that a record at the destination says.
    pub(crate) fn of_record(record: &Value) -> Self {
        let note = record.get("note").and_then(Value::as_str).map(str::to_owned);
        let id = record["id"].as_i64();
        let version = record.get("version").and_then(Value::as_i64).unwrap_or_default();
        Self { id, version, note, bad: record.get("bad").is_some_and(|bad| bad == true) }
    }

    /// The fields that a sync sends of it, beside the match field.
    pub(crate) fn fields() -> Value {
        json!({ "version": "version", "note": { "column": "note", "on_null": "clear" }, "bad": "bad" })
    }
}

/// A table, and all that it ever held.
#[derive(Debug)]
pub(crate) struct Table {
    dice: Dice,
    rows: BTreeMap<i64, Row>,
    next_id: i64,
    next_version: i64,
    /// What each unload held, by its address, oldest first.
    pub(crate) unloads: BTreeMap<String, Vec<Row>>,
    /// Whether some keys come twice, or not at all.
    pub(crate) untidy: bool,
    /// Whether every key comes twice.
    all_twice: bool,
    /// Whether every unload holds new rows only.
    pub(crate) grows_only: bool,
}

impl Table {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            dice,
            rows: BTreeMap::new(),
            next_id: 1,
            next_version: 1,
            unloads: BTreeMap::new(),
            untidy: false,
            all_twice: false,
            grows_only: false,
        }
    }

    fn version(&mut self) -> i64 {
        self.next_version += 1;
        self.next_version
    }

    fn row(&mut self, id: i64) -> Row {
        let version = self.version();
        let note = self.dice.per_mille(700).then(|| format!("note {version}"));
        Row { id: Some(id), version, note, bad: self.dice.per_mille(30) }
    }

    /// Some rows come, some change, some go.
    pub(crate) fn pass_a_day(&mut self) {
        if self.grows_only {
            self.rows.clear();
        }
        let wanted = self.dice.one_of(&[0, 1, 3, 10, 25]);
        for _ in 0..wanted {
            // Now and then a row comes back that was gone.
            let back = self.next_id > 1 && !self.grows_only && self.dice.per_mille(200);
            let id = if back {
                i64::try_from(self.dice.between(1, u64::try_from(self.next_id).unwrap())).unwrap()
            } else {
                self.next_id
            };
            self.next_id = self.next_id.max(id + 1);
            let row = self.row(id);
            self.rows.insert(id, row);
        }
        let change = self.dice.one_of(&[0, 100, 300, 1000]);
        let remove = self.dice.one_of(&[0, 0, 50, 200, 900]);
        for id in self.rows.keys().copied().collect::<Vec<_>>() {
            if self.grows_only {
                break;
            }
            if self.dice.per_mille(remove) {
                self.rows.remove(&id);
            } else if self.dice.per_mille(change) {
                let row = self.row(id);
                self.rows.insert(id, row);
            }
        }
    }

    /// So many new rows.
    pub(crate) fn add(&mut self, count: usize) {
        for _ in 0..count {
            let id = self.next_id;
            self.next_id += 1;
            let row = self.row(id);
            self.rows.insert(id, Row { bad: false, ..row });
        }
    }

    /// The destination will refuse this row.
    pub(crate) fn spoil(&mut self, id: i64) {
        let row = self.row(id);
        self.rows.insert(id, Row { bad: true, ..row });
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    /// From now on every key comes twice.
    pub(crate) fn repeat_all(&mut self) {
        self.all_twice = true;
    }

    /// Leaves an unload of the table as it is.
    pub(crate) async fn unload(&mut self, bucket: &MemoryObjects) {
        let prefix = format!("customers/dt={:04}/", self.unloads.len());
        let mut rows: Vec<Row> = self.rows.values().cloned().collect();
        if self.all_twice {
            rows.extend(rows.clone());
        }
        if self.untidy {
            for row in rows.clone() {
                if self.dice.per_mille(40) {
                    let version = self.version();
                    rows.push(Row { version, ..row });
                }
            }
            if self.dice.per_mille(300) {
                let version = self.version();
                rows.push(Row { id: None, version, note: None, bad: false });
            }
        }
        self.dice.shuffle(&mut rows);
        let files = self.dice.between(1, 3);
        let size = rows.len().div_ceil(usize::try_from(files).unwrap()).max(1);
        let mut parts: Vec<&[Row]> = rows.chunks(size).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for (number, part) in parts.iter().enumerate() {
            put(bucket, &format!("{prefix}part-{number}.parquet"), parquet(part)).await;
        }
        put(bucket, &format!("{prefix}_SUCCESS"), Bytes::new()).await;
        self.unloads.insert(format!("s3://unloads/{prefix}"), rows);
    }
}

async fn put(bucket: &MemoryObjects, key: &str, body: Bytes) {
    bucket.put(key, body, Condition::Always).await.unwrap();
}

fn parquet(rows: &[Row]) -> Bytes {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>())),
        ("version", Arc::new(rows.iter().map(|row| Some(row.version)).collect::<Int64Array>())),
        ("note", Arc::new(rows.iter().map(|row| row.note.as_deref()).collect::<StringArray>())),
        ("bad", Arc::new(rows.iter().map(|row| Some(row.bad)).collect::<BooleanArray>())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(20)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}
