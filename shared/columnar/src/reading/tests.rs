use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float64Array, Int32Array, Int64Array, ListArray, MapBuilder, NullArray, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use parquet::arrow::ArrowWriter;
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use penstock_model::definition::Complete;
use penstock_model::unload::ColumnType;
use proptest::prelude::*;

use super::*;
use crate::canonical::row_hashes;
use crate::split::{Sizes, cut};
use crate::testing::{MemoryObjects, MemoryOpener, block_on, parquet_file};
use crate::unload::{Discovered, discover, with_zone};

/// The batches of every split, joined, and the rows' numbers of each split.
struct ReadBack {
    batches: Vec<RecordBatch>,
    numbers: Vec<Vec<u32>>,
}

fn find(objects: &Arc<MemoryObjects>) -> Discovered {
    block_on(discover(&MemoryOpener(Arc::clone(objects)), "s3://b/run/", Complete::AsListed)).unwrap()
}

fn read(
    objects: &Arc<MemoryObjects>,
    unload: &PinnedUnload,
    columns: &[Column],
    split_rows: u32,
    rows: Option<&[u32]>,
    naive: NaiveTimestamps,
) -> Result<ReadBack, UnloadError> {
    let mut back = ReadBack { batches: vec![], numbers: vec![] };
    for split in cut(unload, Sizes { rows: split_rows, ..Sizes::default() }) {
        let source = SplitSource { objects: objects.as_ref(), unload, split: &split, columns, naive };
        let mut numbers = Vec::new();
        let pages = match rows {
            None => PageLocations::default(),
            // Rows are chosen by who has read all of them before.
            Some(_) => block_on(read_split(source, Rows::All, |_, _| Ok::<(), UnloadError>(())))?,
        };
        objects.take_reads();
        let rows = rows.map_or(Rows::All, |numbers| Rows::Chosen { numbers, pages: &pages });
        block_on(read_split(source, rows, |batch, rows| {
            back.batches.push(batch.clone());
            numbers.extend_from_slice(rows);
            Ok::<(), UnloadError>(())
        }))?;
        back.numbers.push(numbers);
    }
    Ok(back)
}

fn read_all(objects: &Arc<MemoryObjects>) -> Result<ReadBack, UnloadError> {
    let found = find(objects);
    read(objects, &found.unload, &found.columns, u32::MAX, None, NaiveTimestamps::Kept)
}

fn written(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    body
}

pub(super) fn many_types() -> RecordBatch {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for key in ["a", "b"] {
        map.keys().append_value(key);
        map.values().append_value("value");
        map.append(true).unwrap();
    }
    map.append(false).unwrap();
    let lists =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![]), None]);
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("y")]));
    let structs = StructArray::from(vec![(Arc::new(Field::new("Inner", DataType::Utf8, true)), inner)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("i32", Arc::new(Int32Array::from(vec![Some(1), None, Some(i32::MIN)]))),
        ("i64", Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MAX)]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(0.5)]))),
        ("text", Arc::new(StringArray::from(vec![Some("ä"), None, Some("a longer text than a view holds")]))),
        ("bin", Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None, Some(b"")]))),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab", b"cd", b"ef"].into_iter()).unwrap())),
        (
            "dec",
            Arc::new(
                Decimal128Array::from(vec![Some(-150), None, Some(1)])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
        ),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(1)]))),
        (
            "instant",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]).with_timezone("UTC")),
        ),
        ("naive", Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None, Some(1)]))),
        ("list", Arc::new(lists)),
        ("struct", Arc::new(structs)),
        ("map", Arc::new(map.finish())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Timestamps, in microseconds, as Spark and Athena write them: a column `at`.
pub(super) fn int96_file(micros: &[Option<i64>]) -> Vec<u8> {
    const DAY: i64 = 86_400_000_000;
    let word = |number: i64| u32::try_from(number).unwrap();
    let values = micros.iter().flatten().map(|micros| {
        let (day, nanos) = (micros.div_euclid(DAY), micros.rem_euclid(DAY) * 1_000);
        let mut value = Int96::new();
        // Julian day 2,440,588 is 1970-01-01.
        value.set_data(word(nanos & 0xffff_ffff), word(nanos >> 32), word(day + 2_440_588));
        value
    });
    let values: Vec<Int96> = values.collect();
    let levels: Vec<i16> = micros.iter().map(|micros| i16::from(micros.is_some())).collect();
    let schema = Arc::new(parse_message_type("message m { optional int96 at; }").unwrap());
    let mut body = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut body, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    body
}

#[test]
fn every_type_comes_back() {
    let objects = MemoryObjects::new();
    let batch = many_types();
    objects.insert("run/a", parquet_file(std::slice::from_ref(&batch), 2));
    let found = find(&objects);
    assert_eq!(found.columns.len(), batch.num_columns());
    let back = read(&objects, &found.unload, &found.columns, u32::MAX, None, NaiveTimestamps::Kept).unwrap();
    assert_eq!(back.numbers, [[0, 1, 2]]);
    let hashes: Vec<u64> =
        back.batches.iter().flat_map(|batch| row_hashes(batch, &found.columns).unwrap()).collect();
    assert_eq!(hashes, row_hashes(&batch, &found.columns).unwrap());
    let types: Vec<_> = back.batches[0].columns().iter().map(|array| array.data_type().clone()).collect();
    assert_eq!(types[4], DataType::Utf8View);
    assert_eq!(types[5], DataType::BinaryView);
    assert_eq!(types[10], DataType::Timestamp(TimeUnit::Nanosecond, None));
}

#[test]
fn only_wanted_columns_are_fetched_in_the_wanted_order() {
    let rows = 50_000;
    let noise: ArrayRef =
        Arc::new((0..rows).map(|at| Some(format!("{:x}", at * 7919))).collect::<StringArray>());
    let id: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
    let last: ArrayRef = Arc::new((0..rows).map(|at| at % 3).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("id", id), ("noise", noise), ("last", last)]).unwrap();
    let objects = MemoryObjects::new();
    let body = parquet_file(&[batch], 10_000);
    objects.insert("run/p=1/a", body.clone());
    let found = find(&objects);
    let columns: Vec<Column> = ["P", "last"]
        .map(|name| {
            let kind = if name == "P" { ColumnType::Text } else { ColumnType::Int };
            Column { name: name.to_owned(), kind }
        })
        .into();
    objects.take_reads();
    let back = read(&objects, &found.unload, &columns, 10_000, None, NaiveTimestamps::Kept).unwrap();
    assert_eq!(back.numbers.len(), 5, "one split per row group");
    assert!(back.numbers.iter().all(|rows| rows.iter().copied().eq(0..10_000)));
    let first = &back.batches[0];
    assert_eq!(
        first.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
        ["P", "last"]
    );
    assert_eq!(first.column(0).as_string_view().value(8191), "1");
    assert_eq!(first.column(1).as_primitive::<Int64Type>().value(5), 2);
    let without_footers = |reads: Vec<(String, std::ops::Range<u64>)>| -> u64 {
        let end = body.len() as u64;
        reads.iter().filter(|(_, range)| range.end < end).map(|(_, range)| range.end - range.start).sum()
    };
    let bytes = without_footers(objects.take_reads());
    assert!(bytes > 0 && bytes * 4 < body.len() as u64, "{bytes} of {} bytes", body.len());

    // Of the partition column alone, nothing but the count of rows is needed.
    let back = read(&objects, &found.unload, &columns[..1], u32::MAX, None, NaiveTimestamps::Kept).unwrap();
    assert_eq!(back.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 50_000);
}

#[test]
fn rows_of_few_pages_cost_few_bytes() {
    for located in [true, false] {
        of_few_pages(located);
    }
}

/// Reads three rows of a file that says where its pages stand, or does not.
fn of_few_pages(located: bool) {
    let array: ArrayRef =
        Arc::new((0i64..1_000_000).map(|at| Some(format!("{:x}", at * 7919))).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter([("text", array)]).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(500_000))
        .set_data_page_row_count_limit(10_000)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(!located)
        .build();
    let objects = MemoryObjects::new();
    let body = written(&batch, properties);
    objects.insert("run/a", body.clone());
    let found = find(&objects);
    let rows = [7, 600_000, 600_001];
    let back =
        read(&objects, &found.unload, &found.columns, u32::MAX, Some(&rows), NaiveTimestamps::Kept).unwrap();
    assert_eq!(back.numbers, [rows]);
    let texts: Vec<String> = back
        .batches
        .iter()
        .flat_map(|batch| {
            batch.column(0).as_string_view().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(texts, rows.map(|row| format!("{:x}", u64::from(row) * 7919)));
    let bytes: u64 = objects.take_reads().iter().map(|(_, range)| range.end - range.start).sum();
    let footer = 64 * 1024;
    assert!(bytes < footer + body.len() as u64 / 5, "{bytes} of {} bytes", body.len());
}

#[test]
fn int96_is_right_beyond_the_years_of_nanoseconds() {
    let objects = MemoryObjects::new();
    // The first is of the day 9999-12-31.
    let moments = [Some(253_402_214_400_000_001), None, Some(5)];
    objects.insert("run/a", int96_file(&moments));
    let found = find(&objects);
    assert_eq!(found.columns[0].kind, ColumnType::Instant);
    let back = read_all(&objects).unwrap();
    let at = back.batches[0].column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.iter().collect::<Vec<_>>(), moments);
}

/// The column `at` over two files, and their rows' hashes, with an unload's `naive_timestamps`.
fn moments_of(files: [&[u8]; 2], zone: Option<&str>) -> (Vec<ArrayRef>, Vec<u64>) {
    let objects = MemoryObjects::new();
    for (key, body) in ["run/a", "run/b"].into_iter().zip(files) {
        objects.insert(key, body.to_vec());
    }
    let found = find(&objects);
    let columns = with_zone(found.columns, zone).unwrap();
    let naive = NaiveTimestamps::parse(zone).unwrap();
    let [all, some] = [None, Some(&[0, 1, 2, 3, 4, 5][..])]
        .map(|rows| read(&objects, &found.unload, &columns, u32::MAX, rows, naive).unwrap().batches);
    assert_eq!(all, some);
    let hashes = all.iter().flat_map(|batch| row_hashes(batch, &columns).unwrap()).collect();
    (all.iter().map(|batch| Arc::clone(batch.column(0))).collect(), hashes)
}

#[test]
fn int96_is_what_the_other_files_of_the_unload_say_and_an_instant_if_none_does() {
    let hour = 3_600_000_000;
    let moments = [Some(-1), None, Some(30 * hour)];
    let stated = TimestampMicrosecondArray::from(moments.to_vec());
    let file = |at: TimestampMicrosecondArray| {
        parquet_file(&[RecordBatch::try_from_iter([("at", Arc::new(at) as ArrayRef)]).unwrap()], 10)
    };
    let (naive, instant) = (file(stated.clone()), file(stated.with_timezone("UTC")));
    let int96 = int96_file(&moments);
    for zone in [None, Some("UTC"), Some("+02:00"), Some("-03:30")] {
        for (other, name) in [(&naive, "without zone"), (&instant, "instants")] {
            let expected = moments_of([other, other], zone);
            for files in [[&int96, other], [other, &int96]] {
                let files = files.map(|file| file.as_slice());
                assert_eq!(moments_of(files, zone), expected, "beside {name}, {zone:?}");
            }
        }
        assert_eq!(moments_of([&int96, &int96], zone), moments_of([&instant, &instant], zone), "{zone:?}");
    }
    assert_ne!(moments_of([&int96, &naive], Some("+02:00")), moments_of([&int96, &int96], Some("+02:00")));

    // A column of nulls says nothing of it, wherever it stands.
    let nulls: ArrayRef = Arc::new(NullArray::new(3));
    let nulls = RecordBatch::try_from_iter_with_nullable([("at", nulls, true)]).unwrap();
    let nulls = parquet_file(&[nulls], 10);
    for files in [[&int96, &nulls, &naive], [&nulls, &int96, &naive], [&naive, &nulls, &int96]] {
        let objects = MemoryObjects::new();
        for (key, body) in ["run/a", "run/b", "run/c"].into_iter().zip(files) {
            objects.insert(key, body.clone());
        }
        let found = find(&objects);
        assert_eq!(found.columns[0].kind, ColumnType::Naive);
        let told = found.unload.files.iter().zip(files).all(|(pinned, file)| {
            let expected: &[&str] = if *file == int96 { &["at"] } else { &[] };
            pinned.naive_int96 == expected
        });
        assert!(told);
    }
}

#[test]
fn naive_timestamps_become_instants_of_their_zone() {
    let objects = MemoryObjects::new();
    objects.insert("run/a", parquet_file(&[many_types()], 10));
    let found = find(&objects);
    let columns: Vec<Column> = with_zone(found.columns, Some("+02:00")).unwrap();
    let columns: Vec<Column> = columns.into_iter().filter(|column| column.name == "naive").collect();
    assert_eq!(columns[0].kind, ColumnType::Instant);
    let naive = NaiveTimestamps::parse(Some("+02:00")).unwrap();
    let back = read(&objects, &found.unload, &columns, 10, None, naive).unwrap();
    let at = back.batches[0].column(0);
    assert_eq!(at.data_type(), &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())));
    let hours = 7_200_000_000_000;
    let values: Vec<_> = at.as_primitive::<TimestampNanosecondType>().iter().collect();
    assert_eq!(values, [Some(-1 - hours), None, Some(1 - hours)]);

    let smallest: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![i64::MIN]));
    objects.insert("run/a", parquet_file(&[RecordBatch::try_from_iter([("naive", smallest)]).unwrap()], 10));
    let error = read(&objects, &find(&objects).unload, &columns, 10, None, naive).err().unwrap();
    assert!(matches!(&error, UnloadError::Corrupt { why, .. } if why.contains("naive")), "{error}");
}

#[test]
fn a_file_that_changed_is_not_read() {
    let objects = MemoryObjects::new();
    objects.insert("run/a", parquet_file(&[many_types()], 10));
    let found = find(&objects);
    objects.insert("run/a", parquet_file(&[many_types()], 10));
    let read_again =
        || read(&objects, &found.unload, &found.columns, 10, None, NaiveTimestamps::Kept).err().unwrap();
    assert!(read_again().to_string().contains("changed since it was listed"));
    block_on(objects.delete("run/a")).unwrap();
    assert!(read_again().to_string().contains("gone since it was listed"));
}

#[test]
fn a_plan_that_does_not_fit_is_an_error() {
    let objects = MemoryObjects::new();
    objects.insert("run/a", parquet_file(&[many_types()], 2));
    let found = find(&objects);
    let columns = |name: &str, kind: ColumnType| vec![Column { name: name.to_owned(), kind }];
    let read = |columns: &[Column], rows: Option<&[u32]>| {
        read(&objects, &found.unload, columns, 10, rows, NaiveTimestamps::Kept).err().unwrap()
    };
    assert!(matches!(read(&columns("none", ColumnType::Int), None), UnloadError::SchemaMismatch { .. }));
    assert!(matches!(read(&columns("text", ColumnType::Int), None), UnloadError::SchemaMismatch { .. }));
    for rows in [&[3][..], &[1, 0], &[1, 1]] {
        let error = read(&columns("text", ColumnType::Text), Some(rows));
        assert!(matches!(error, UnloadError::Corrupt { .. }), "{rows:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_selection_is_the_full_read_filtered(
        chosen in prop::collection::btree_set(0u32..300, 0..60),
        sizes in prop::collection::vec(1usize..120, 1..4),
        group in 1usize..80,
        page in 1usize..40,
        located: bool,
        dictionary: bool,
    ) {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(group))
            .set_data_page_row_count_limit(page)
            .set_write_batch_size(page)
            .set_dictionary_enabled(dictionary)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(!located)
            .build();
        let objects = MemoryObjects::new();
        let mut next = 0i64;
        for (at, size) in sizes.iter().enumerate() {
            let ids: Int64Array = (next..next + *size as i64).collect();
            next += *size as i64;
            let names: ArrayRef = Arc::new(ids.iter().map(|id| Some(format!("name {id:?}"))).collect::<StringArray>());
            let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("name", names)]).unwrap();
            objects.insert(&format!("run/{at}"), written(&batch, properties.clone()));
        }
        let found = find(&objects);
        let rows: Vec<u32> = chosen.into_iter().filter(|row| i64::from(*row) < next).collect();
        let back = read(&objects, &found.unload, &found.columns, u32::MAX, Some(&rows), NaiveTimestamps::Kept).unwrap();
        let ids: Vec<i64> = back.batches.iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        prop_assert_eq!(ids, rows.iter().map(|row| i64::from(*row)).collect::<Vec<_>>());
        prop_assert_eq!(back.numbers, [rows]);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut_to in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = parquet_file(&[many_types()], 2);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(end) = cut_to {
            body.truncate(end.index(body.len()));
        }
        let objects = MemoryObjects::new();
        objects.insert("run/a", body);
        let found = block_on(discover(&MemoryOpener(Arc::clone(&objects)), "s3://b/run/", Complete::AsListed));
        let result = found.and_then(|found| {
            let back = read(&objects, &found.unload, &found.columns, 10, None, NaiveTimestamps::Kept)?;
            for batch in &back.batches {
                row_hashes(batch, &found.columns)?;
            }
            Ok(())
        });
        if let Err(error) = result {
            let named = matches!(error, UnloadError::Corrupt { .. } | UnloadError::SchemaMismatch { .. });
            prop_assert!(named || matches!(error, UnloadError::Missing { .. }), "{error}");
        }
    }
}
