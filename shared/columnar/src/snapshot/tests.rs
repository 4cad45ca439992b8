use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use penstock_model::Timestamp;
use penstock_model::key::KeyValue;
use penstock_model::snapshot::{Binding, PartitionFile, UnloadIdentity};
use penstock_model::unload::{Column, ColumnType};
use proptest::prelude::*;

use penstock_model::run_plan::partition_of;

use super::*;
use crate::testing::{MemoryObjects, block_on};

/// A manifest over these partition objects.
pub(crate) fn manifest(keys: impl IntoIterator<Item = String>) -> SnapshotManifest {
    SnapshotManifest {
        version: 1,
        sync: "s".into(),
        run: "r0".into(),
        generation: "0000000001-r0".into(),
        binding: Binding {
            connector: "postgres".into(),
            account: "db".into(),
            object: "customers".into(),
            primary_key: vec!["id".into()],
            match_fields: vec!["id".into()],
        },
        unload: UnloadIdentity { identity: "u0".into(), prefix: "dt=1/".into(), completed_at: Timestamp(0) },
        key_columns: Vec::new(),
        hashed_columns: Vec::new(),
        hashing: None,
        mapping_hash: 1,
        partitions: keys.into_iter().map(|key| PartitionFile { key }).collect(),
        overlay: Vec::new(),
        identities: Vec::new(),
        identity_layers: Vec::new(),
        null_counts: BTreeMap::new(),
        rows: 0,
        ledger: Vec::new(),
        committed_at: Timestamp(0),
    }
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column { name: name.to_owned(), kind }
}

/// A value that a column of this kind holds, now and then one that only a damaged or foreign key would.
fn value_of(kind: &ColumnType) -> BoxedStrategy<KeyValue> {
    let decimal = || "-?(0|[1-9][0-9]{0,30})\\.[0-9]{0,9}[1-9]".prop_map(KeyValue::Decimal);
    let huge = || "[1-9][0-9]{39,50}".prop_map(KeyValue::Decimal);
    let small = any::<i32>().prop_map(|value| KeyValue::Int(value.into()));
    let own = match kind {
        ColumnType::Bool => any::<bool>().prop_map(KeyValue::Bool).boxed(),
        ColumnType::Int => {
            prop_oneof![8 => small, 1 => any::<i128>().prop_map(KeyValue::Int), 1 => huge()].boxed()
        }
        ColumnType::Decimal { .. } => {
            prop_oneof![decimal(), huge(), any::<i128>().prop_map(KeyValue::Int)].boxed()
        }
        ColumnType::Float => any::<f64>().prop_map(KeyValue::Float).boxed(),
        ColumnType::Binary => any::<Vec<u8>>().prop_map(KeyValue::Bytes).boxed(),
        ColumnType::Date => any::<i32>().prop_map(KeyValue::Date).boxed(),
        ColumnType::Time => any::<i64>().prop_map(KeyValue::Time).boxed(),
        ColumnType::Instant => prop_oneof![
            4 => (-1_000_000i128..1_000_000_000).prop_map(|micros| KeyValue::Instant(micros * 1000)),
            1 => any::<i128>().prop_map(KeyValue::Instant)
        ]
        .boxed(),
        ColumnType::Naive => any::<i64>().prop_map(|nanos| KeyValue::Naive(nanos.into())).boxed(),
        ColumnType::Text
        | ColumnType::Uuid
        | ColumnType::List(_)
        | ColumnType::Struct(_)
        | ColumnType::Map(_)
        | ColumnType::Null => any::<String>().prop_map(KeyValue::Text).boxed(),
    };
    let foreign = prop_oneof![
        Just(KeyValue::Null),
        decimal(),
        Just(KeyValue::Decimal("5".into())),
        any::<String>().prop_map(KeyValue::Text),
        any::<i64>().prop_map(|nanos| KeyValue::Naive(nanos.into())),
    ];
    prop_oneof![15 => own, 1 => foreign].boxed()
}

fn kind() -> impl Strategy<Value = ColumnType> {
    prop::sample::select(vec![
        ColumnType::Bool,
        ColumnType::Int,
        ColumnType::Decimal { scale: 2 },
        ColumnType::Float,
        ColumnType::Text,
        ColumnType::Binary,
        ColumnType::Uuid,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Instant,
        ColumnType::Naive,
        ColumnType::Null,
    ])
}

type Rows = Vec<(Key, u64)>;

fn table() -> impl Strategy<Value = (Vec<Column>, Rows)> {
    prop::collection::vec(kind(), 1..4).prop_flat_map(|kinds| {
        let key = kinds.iter().map(value_of).collect::<Vec<_>>().prop_map(|values| Key::of(&values));
        let row = (key, any::<u64>());
        let columns: Vec<_> = kinds
            .iter()
            .zip(["id", "Key_Bytes", "Row_Hash"])
            .map(|(kind, name)| column(name, kind.clone()))
            .collect();
        prop::collection::vec(row, 0..60).prop_map(move |rows| (columns.clone(), sorted(rows)))
    })
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort_by_cached_key(|(key, _)| (key.hash(), key.clone()));
    rows
}

fn write(rows: &[(Key, u64)], columns: &[Column]) -> Bytes {
    let show = |writer: &mut PartitionWriter| {
        rows.iter().for_each(|(key, hash)| writer.push(SnapshotRow::from((key, *hash))));
        Ok(())
    };
    write_partition(columns, show).unwrap().0
}

fn whole(rows: &SnapshotRows) -> Rows {
    rows.iter().map(|row| (Key::from_bytes(row.key.to_vec()), row.row_hash)).collect()
}

proptest! {
    #[test]
    fn a_partition_gives_back_every_key_whatever_its_columns_can_hold((columns, rows) in table()) {
        let objects = MemoryObjects::new();
        objects.insert("p", write(&rows, &columns));
        let manifest = manifest(["p".into()]);
        let read = block_on(read_partition(objects.as_ref(), &manifest, 0, 1)).unwrap();
        prop_assert_eq!(&whole(&read), &rows);
        let mut cursor_rows = Vec::new();
        let opened = block_on(open_partition(objects.as_ref(), &manifest, 0, 1)).unwrap();
        let cursor = opened.cursor();
        // Two rows of one key are no snapshot.
        if rows.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            prop_assert!(cursor.is_err());
            return Ok(());
        }
        let mut cursor = cursor.unwrap();
        while let Some((prefix, row)) = cursor.head() {
            prop_assert_eq!(prefix, key_order::prefix(xxh3_128(row.key)));
            cursor_rows.push((Key::from_bytes(row.key.to_vec()), row.row_hash));
            cursor.advance().unwrap();
        }
        prop_assert_eq!(cursor_rows, rows);
    }

    #[test]
    fn a_snapshot_can_be_read_in_any_number_of_partitions(
        numbers in prop::collection::btree_set(0i128..1000, 0..80), before in 0u32..4, now in 0u32..4,
    ) {
        let (before, now) = (1 << before, 1 << now);
        let columns = [column("id", ColumnType::Int)];
        let rows = sorted(numbers.iter().map(|n| (Key::of(&[KeyValue::Int(*n)]), 1)).collect());
        let objects = MemoryObjects::new();
        for partition in 0..before {
            let rows: Vec<_> =
                rows.iter().filter(|(key, _)| partition_of(key.hash(), before) == partition).cloned().collect();
            objects.insert(&format!("p{partition}"), write(&rows, &columns));
        }
        let manifest = manifest((0..before).map(|partition| format!("p{partition}")));
        let mut found = Vec::new();
        for partition in 0..now {
            let read = block_on(read_partition(objects.as_ref(), &manifest, partition, now)).unwrap();
            prop_assert!(read.iter().all(|row| partition_of(xxh3_128(row.key), now) == partition));
            found.extend(whole(&read));
        }
        prop_assert_eq!(found, rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_is_an_error_or_harmless_but_no_panic(at in any::<prop::sample::Index>(), byte: u8) {
        let mut body = write(&numbered(300), &[column("id", ColumnType::Int)]).to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let objects = MemoryObjects::new();
        objects.insert("p", body);
        let manifest = manifest(["p".into()]);
        drop(block_on(read_partition(objects.as_ref(), &manifest, 0, 1)));
        let opened = block_on(open_partition(objects.as_ref(), &manifest, 0, 1)).unwrap();
        let Ok(mut cursor) = opened.cursor() else { return Ok(()) };
        while cursor.head().is_some() && cursor.advance().is_ok() {}
    }
}

fn numbered(rows: u32) -> Rows {
    let row = |row| {
        let key = Key::of(&[KeyValue::Int(i128::from(row) + 10_000_000)]);
        let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
        (key, hash)
    };
    sorted((0..rows).map(row).collect())
}

#[test]
fn partitions_overlap_where_their_hash_ranges_do() {
    for (a, of_a, b, of_b, expected) in [
        (0, 1, 3, 4, true),
        (3, 4, 0, 1, true),
        (1, 2, 1, 4, false),
        (1, 2, 2, 4, true),
        (2, 4, 1, 2, true),
        (1, 4, 1, 2, false),
        (5, 8, 5, 8, true),
        (5, 8, 6, 8, false),
    ] {
        assert_eq!(overlaps(a, of_a, b, of_b), expected, "{a} of {of_a}, {b} of {of_b}");
    }
}

#[test]
fn columns_have_the_narrowest_type_that_their_values_allow() {
    use KeyValue::{Instant, Int, Naive};
    let utc = || Some("UTC".into());
    let cases = [
        (ColumnType::Int, Int(i64::MIN.into()), DataType::Int64),
        (ColumnType::Int, Int(i128::from(i64::MAX) + 1), DataType::Decimal128(38, 0)),
        (ColumnType::Instant, Instant(1_000), DataType::Timestamp(TimeUnit::Microsecond, utc())),
        (ColumnType::Instant, Instant(1_001), DataType::Timestamp(TimeUnit::Nanosecond, utc())),
        (ColumnType::Naive, Naive(1_000), DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    for (kind, value, expected) in cases {
        let rows = [(Key::of(std::slice::from_ref(&value)), 1)];
        let body = write(&rows, &[column("id", kind)]);
        let reader = ParquetRecordBatchReaderBuilder::try_new(body).unwrap();
        assert_eq!(reader.schema().field(0).data_type(), &expected, "{value:?}");
    }
}

#[test]
fn a_key_column_with_a_name_of_ours_gets_another() {
    let columns = [
        column("row_hash", ColumnType::Text),
        column("key_row_hash", ColumnType::Text),
        column("Key_Bytes", ColumnType::Text),
    ];
    let reader = ParquetRecordBatchReaderBuilder::try_new(write(&[], &columns)).unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["key_key_row_hash", "key_row_hash", "key_Key_Bytes", "key_bytes", "row_hash"]);
}

#[test]
fn the_state_stays_small() {
    let rows = 100_000;
    let body = write(&numbered(rows), &[column("id", ColumnType::Int)]);
    let a_row = body.len() as f64 / f64::from(rows);
    assert!(a_row < 12.0, "{a_row} bytes a row with its key");
}

#[test]
fn a_file_of_version_1_has_places_and_is_read() {
    let rows = numbered(20_000);
    let new =
        ParquetRecordBatchReaderBuilder::try_new(write(&rows, &[column("id", ColumnType::Int)])).unwrap();
    let mut metadata = new.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let version = metadata.iter_mut().find(|entry| entry.key == "penstock.version").unwrap();
    version.value = Some("1".to_owned());
    let with_places = |batch: RecordBatch| {
        let place: ArrayRef = Arc::new(Int64Array::from(vec![7; batch.num_rows()]));
        let schema = batch.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        let all: Vec<_> = names
            .zip(batch.columns().to_vec())
            .chain(["split", "row"].map(|name| (name.to_owned(), Arc::clone(&place))))
            .map(|(name, array)| (name, array, true))
            .collect();
        RecordBatch::try_from_iter_with_nullable(all).unwrap()
    };
    let batches: Vec<_> = new.build().unwrap().map(|batch| with_places(batch.unwrap())).collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(metadata));
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batches[0].schema(), Some(properties.build())).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    let objects = MemoryObjects::new();
    objects.insert("p", body);
    assert_eq!(
        whole(&block_on(read_partition(objects.as_ref(), &manifest(["p".into()]), 0, 1)).unwrap()),
        rows
    );
}

#[test]
fn what_is_not_a_snapshot_is_named() {
    let objects = MemoryObjects::new();
    objects.insert("p", "no Parquet");
    let error = block_on(read_partition(objects.as_ref(), &manifest(["p".into()]), 0, 1)).unwrap_err();
    assert_eq!(error.to_string(), "object p can't be handled as Parquet");
    let error = block_on(read_partition(objects.as_ref(), &manifest(["q".into()]), 0, 1)).unwrap_err();
    assert_eq!(error.name(), penstock_model::FailureName::StorageUnavailable);
}
