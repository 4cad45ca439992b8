//! One table by many writers: the same values give the same hashes, and one value changed changes one row's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array,
    Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type as ParquetInt32};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use penstock_model::definition::Complete;
use penstock_model::unload::{Column, ColumnType};
use proptest::prelude::*;

use super::*;
use crate::canonical::{keys, row_hashes};
use crate::split::{Sizes, cut};
use crate::testing::{MemoryObjects, MemoryOpener, block_on};
use crate::unload::{discover, with_zone};

/// A row's values, whatever they are written as.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: i32,
    cents: Option<i32>,
    ratio: Option<f32>,
    note: Option<String>,
    at_ms: Option<i32>,
    gift: Option<bool>,
    tags: Option<Vec<Option<i32>>>,
}

fn row() -> impl Strategy<Value = Row> {
    let ratio = prop_oneof![
        3 => any::<i16>().prop_map(|value| f32::from(value) / 8.0),
        1 => Just(f32::NAN),
        1 => Just(-0.0f32),
    ];
    (
        any::<Option<i32>>(),
        prop::option::of(ratio),
        any::<Option<String>>(),
        any::<Option<i32>>(),
        any::<Option<bool>>(),
        prop::option::of(prop::collection::vec(any::<Option<i32>>(), 0..4)),
    )
        .prop_map(|(cents, ratio, note, at_ms, gift, tags)| Row {
            id: 0,
            cents,
            ratio,
            note,
            at_ms,
            gift,
            tags,
        })
}

fn table() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), 1..30)
        .prop_map(|rows| (0..).zip(rows).map(|(id, row)| Row { id: id * 7 - 50, ..row }).collect())
}

/// A writer's choices.
#[derive(Debug, Clone, Copy)]
enum Writer {
    /// Narrow types; text as plain strings.
    Narrow,
    /// Wide decimals, nanoseconds, text as dictionary.
    Wide,
    /// Upper-case names in another order, milliseconds, -0.0 and NaN in other ways, views.
    Shouting,
}

const WRITERS: [Writer; 3] = [Writer::Narrow, Writer::Wide, Writer::Shouting];

fn decimal(values: impl Iterator<Item = Option<i128>>, precision: u8, scale: i8) -> ArrayRef {
    let array: Decimal128Array = values.collect();
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

fn batch(rows: &[Row], writer: Writer) -> RecordBatch {
    let cents = || rows.iter().map(|row| row.cents.map(i128::from));
    let ids = || rows.iter().map(|row| row.id);
    let notes = || rows.iter().map(|row| row.note.as_deref());
    let at = |per_ms: i64| rows.iter().map(move |row| row.at_ms.map(|ms| i64::from(ms) * per_ms));
    let gifts: ArrayRef = Arc::new(rows.iter().map(|row| row.gift).collect::<BooleanArray>());
    let wide = |row: &Row| {
        row.tags.as_ref().map(|tags| tags.iter().map(|tag| tag.map(i64::from)).collect::<Vec<_>>())
    };
    let utc = "UTC";
    let columns: Vec<(&str, ArrayRef)> = match writer {
        Writer::Narrow => vec![
            ("id", Arc::new(ids().collect::<Int32Array>())),
            ("cents", decimal(cents(), 18, 2)),
            ("ratio", Arc::new(rows.iter().map(|row| row.ratio).collect::<Float32Array>())),
            ("note", Arc::new(notes().collect::<StringArray>())),
            ("at", Arc::new(at(1_000).collect::<TimestampMicrosecondArray>().with_timezone(utc))),
            ("gift", gifts),
            (
                "tags",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                    rows.iter().map(|row| row.tags.clone()),
                )),
            ),
        ],
        Writer::Wide => vec![
            ("id", decimal(ids().map(|id| Some(id.into())), 38, 0)),
            ("cents", decimal(cents().map(|cents| cents.map(|cents| cents * 100)), 38, 4)),
            ("ratio", Arc::new(rows.iter().map(|row| row.ratio.map(f64::from)).collect::<Float64Array>())),
            ("note", Arc::new(notes().collect::<DictionaryArray<Int32Type>>())),
            ("at", Arc::new(at(1_000_000).collect::<TimestampNanosecondArray>().with_timezone(utc))),
            ("gift", gifts),
            ("tags", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(wide)))),
        ],
        Writer::Shouting => {
            let ratio = |row: &Row| {
                row.ratio.map(|ratio| match f64::from(ratio) {
                    nan if nan.is_nan() => f64::from_bits(0xfff8_0000_0000_0123),
                    0.0 => 0.0,
                    other => other,
                })
            };
            vec![
                ("TAGS", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(wide)))),
                (
                    "NOTE",
                    if rows.len().is_multiple_of(2) {
                        Arc::new(notes().collect::<StringViewArray>()) as ArrayRef
                    } else {
                        Arc::new(notes().collect::<LargeStringArray>())
                    },
                ),
                ("RATIO", Arc::new(rows.iter().map(ratio).collect::<Float64Array>())),
                ("AT", Arc::new(at(1).collect::<TimestampMillisecondArray>().with_timezone(utc))),
                ("GIFT", gifts),
                ("CENTS", decimal(cents().map(|cents| cents.map(|cents| cents * 10)), 21, 3)),
                ("ID", Arc::new(ids().map(i64::from).collect::<Int64Array>())),
            ]
        }
    };
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn properties(writer: Writer) -> WriterProperties {
    let builder = WriterProperties::builder();
    match writer {
        Writer::Narrow => builder.set_compression(Compression::SNAPPY).set_max_row_group_row_count(Some(7)),
        Writer::Wide => builder
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_data_page_row_count_limit(3)
            .set_write_batch_size(3),
        Writer::Shouting => builder.set_dictionary_enabled(false).set_max_row_group_row_count(Some(11)),
    }
    .build()
}

/// Writes a table into some files, in an order of the writer's own.
fn unload(rows: &[Row], writer: Writer, files: usize) -> Arc<MemoryObjects> {
    let objects = MemoryObjects::new();
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| match writer {
        Writer::Narrow => row.id,
        Writer::Wide => -row.id,
        Writer::Shouting => row.id.wrapping_mul(0x5bd1_e995),
    });
    for (number, rows) in rows.chunks(rows.len().div_ceil(files).max(1)).enumerate() {
        let batch = batch(rows, writer);
        let mut body = Vec::new();
        let mut file = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties(writer))).unwrap();
        file.write(&batch).unwrap();
        file.close().unwrap();
        objects.insert(&format!("run/{number}.parquet"), body);
    }
    objects
}

/// Each key with its row's hash.
fn hashes(objects: &Arc<MemoryObjects>) -> BTreeMap<Vec<u8>, u64> {
    let found =
        block_on(discover(&MemoryOpener(Arc::clone(objects)), "s3://b/run/", Complete::AsListed)).unwrap();
    let columns = with_zone(found.columns, None).unwrap();
    let id: Vec<Column> =
        columns.iter().filter(|column| column.name.to_lowercase() == "id").cloned().collect();
    let mut all = BTreeMap::new();
    for split in cut(&found.unload, Sizes { rows: 10, ..Sizes::default() }) {
        let naive = NaiveTimestamps::Kept;
        let source = SplitSource {
            objects: objects.as_ref(),
            unload: &found.unload,
            split: &split,
            columns: &columns,
            naive,
        };
        block_on(read_split(source, Rows::All, |batch, _| {
            let keys = keys(batch, &id)?;
            let keys = keys.iter().map(|(key, _)| key.to_vec());
            all.extend(keys.zip(row_hashes(batch, &columns)?));
            Ok::<(), UnloadError>(())
        }))
        .unwrap();
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_values_give_the_same_hashes_whoever_wrote_them(rows in table(), files in 1usize..4) {
        let expected = hashes(&unload(&rows, Writer::Narrow, 1));
        prop_assert_eq!(expected.len(), rows.len());
        for writer in WRITERS {
            prop_assert_eq!(&hashes(&unload(&rows, writer, files)), &expected, "{:?}", writer);
        }
    }

    #[test]
    fn one_value_that_differs_changes_the_hash_of_its_row_alone(
        rows in table(), at in any::<prop::sample::Index>(), other in row(), column in 0usize..6, writer in 0usize..3,
    ) {
        let mut changed = rows.clone();
        let row = at.get(&rows).clone();
        let taken = changed.iter_mut().find(|taken| taken.id == row.id).unwrap();
        match column {
            0 => taken.cents = other.cents,
            1 => taken.ratio = other.ratio,
            2 => taken.note = other.note,
            3 => taken.at_ms = other.at_ms,
            4 => taken.gift = other.gift,
            _ => taken.tags = other.tags,
        }
        let same_ratio = match (row.ratio, taken.ratio) {
            (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
            (a, b) => a.is_none() && b.is_none(),
        };
        let is_same = same_ratio && Row { ratio: None, ..taken.clone() } == Row { ratio: None, ..row.clone() };
        let before = hashes(&unload(&rows, Writer::Narrow, 2));
        let after = hashes(&unload(&changed, WRITERS[writer], 1));
        let differ: Vec<_> = before.iter().filter(|(key, hash)| after.get(*key) != Some(*hash)).collect();
        prop_assert_eq!(differ.len(), usize::from(!is_same), "{:?} and {:?}", row, changed);
    }
}

/// A file of one column, `tags` or `map`, written value by value with its levels.
fn legacy(message: &str, leaves: &[Leaf<'_>]) -> Arc<MemoryObjects> {
    let objects = MemoryObjects::new();
    objects.insert("run/a.parquet", legacy_file(message, leaves));
    objects
}

pub(super) fn legacy_file(message: &str, leaves: &[Leaf<'_>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut body = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut body, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = file.next_row_group().unwrap();
    for leaf in leaves {
        let mut column = group.next_column().unwrap().unwrap();
        match leaf.values {
            Values::Ints(values) => {
                column
                    .typed::<ParquetInt32>()
                    .write_batch(values, Some(leaf.definition), Some(leaf.repetition))
                    .unwrap();
            }
            Values::Texts(values) => {
                let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(leaf.definition), Some(leaf.repetition))
                    .unwrap();
            }
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    body
}

pub(super) struct Leaf<'a> {
    pub(super) values: Values<'a>,
    pub(super) definition: &'a [i16],
    pub(super) repetition: &'a [i16],
}

pub(super) enum Values<'a> {
    Ints(&'a [i32]),
    Texts(&'a [&'a str]),
}

/// The type of a file's one column, and the hash of each row.
fn column_of(objects: &Arc<MemoryObjects>) -> (ColumnType, Vec<u64>) {
    let found =
        block_on(discover(&MemoryOpener(Arc::clone(objects)), "s3://b/run/", Complete::AsListed)).unwrap();
    let mut all = Vec::new();
    for split in cut(&found.unload, Sizes::default()) {
        let (columns, naive) = (&found.columns, NaiveTimestamps::Kept);
        let source =
            SplitSource { objects: objects.as_ref(), unload: &found.unload, split: &split, columns, naive };
        block_on(read_split(source, Rows::All, |batch, _| {
            all.extend(row_hashes(batch, columns)?);
            Ok::<(), UnloadError>(())
        }))
        .unwrap();
    }
    (found.columns[0].kind.clone(), all)
}

#[test]
fn lists_of_older_writers_are_lists() {
    // [1, 2], [] and [3].
    let batch = RecordBatch::try_from_iter_with_nullable([(
        "tags",
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            Some(vec![]),
            Some(vec![Some(3)]),
        ])) as ArrayRef,
        true,
    )])
    .unwrap();
    let objects = MemoryObjects::new();
    objects.insert("run/a.parquet", crate::testing::parquet_file(&[batch], 100));
    let expected = column_of(&objects);
    assert_eq!(expected.0, ColumnType::List(Box::new(ColumnType::Int)));

    let values = Values::Ints(&[1, 2, 3]);
    let cases: [(&str, &[i16]); 4] = [
        // Two levels, as Thrift and old Avro writers have it.
        ("message m { optional group tags (LIST) { repeated int32 element; } }", &[2, 2, 1, 2]),
        // As Hive and Spark's legacy format have it.
        (
            "message m { optional group tags (LIST) { repeated group bag { optional int32 array_element; } } }",
            &[3, 3, 1, 3],
        ),
        (
            "message m { optional group tags (LIST) { repeated group array { optional int32 item; } } }",
            &[3, 3, 1, 3],
        ),
        // Repeated and nothing else: an empty list and none are written alike.
        ("message m { repeated int32 tags; }", &[1, 1, 0, 1]),
    ];
    for (message, definition) in cases {
        let Values::Ints(ints) = values else { continue };
        let leaf = Leaf { values: Values::Ints(ints), definition, repetition: &[0, 1, 0, 0] };
        let found = column_of(&legacy(message, &[leaf]));
        // A group named `array` with one field is that group by the rules for compatibility: a list of structs.
        if message.contains("group array") {
            assert!(
                matches!(&found.0, ColumnType::List(element) if matches!(**element, ColumnType::Struct(_))),
                "{found:?}"
            );
        } else {
            assert_eq!(found, expected, "{message}");
        }
    }
}

#[test]
fn maps_of_older_writers_are_maps() {
    let key =
        || Leaf { values: Values::Texts(&["a", "b", "c"]), definition: &[2, 2, 2], repetition: &[0, 1, 0] };
    let value =
        || Leaf { values: Values::Texts(&["1", "2"]), definition: &[3, 3, 2], repetition: &[0, 1, 0] };
    let mut seen = Vec::new();
    for (annotation, group) in [("MAP", "key_value"), ("MAP", "map"), ("MAP_KEY_VALUE", "map")] {
        let message = format!(
            "message m {{ optional group m ({annotation}) {{ repeated group {group} {{ required binary key (UTF8); \
             optional binary value (UTF8); }} }} }}"
        );
        seen.push(column_of(&legacy(&message, &[key(), value()])));
    }
    assert_eq!(seen[0].0, ColumnType::Map(Box::new(ColumnType::Text)));
    assert_eq!(seen[0].1.len(), 2);
    assert!(seen.iter().all(|found| *found == seen[0]), "{seen:?}");
}
