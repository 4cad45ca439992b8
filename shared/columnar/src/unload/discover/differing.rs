//! Files of one unload that say one thing in different ways, or different things.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, Time32MillisecondArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use parquet::data_type::{ByteArray, FixedLenByteArrayType, Int32Type as ParquetInt32};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use penstock_model::FailureName;
use penstock_model::unload::ColumnType;

use super::tests::{any, column, refused};
use super::*;
use crate::testing::{MemoryObjects, parquet_file};

/// An unload of two files with one column each; what is found, if the column can be used.
fn merged(first: (&str, ArrayRef), second: (&str, ArrayRef)) -> Result<Vec<Column>, UnloadError> {
    let objects = MemoryObjects::new();
    objects.insert("run/a", column(first.0, first.1));
    objects.insert("run/b", column(second.0, second.1));
    objects.insert("run/_SUCCESS", "");
    let found = any(&objects)?;
    found.check([first.0, second.0])?;
    Ok(found.columns)
}

fn int32() -> ArrayRef {
    Arc::new(Int32Array::from(vec![1]))
}

fn money(precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(precision, scale).unwrap())
}

fn text() -> ArrayRef {
    Arc::new(StringArray::from(vec!["1"]))
}

fn micros() -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from(vec![1])
}

#[test]
fn schemas_merge_by_name_and_logical_type() {
    let millis = || TimestampMillisecondArray::from(vec![1]);
    let uuid = || -> ArrayRef {
        Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once([7_u8; 16])).unwrap())
    };
    let cases: [(ArrayRef, ArrayRef, ColumnType); 9] = [
        (int32(), Arc::new(Int64Array::from(vec![1])), ColumnType::Int),
        (int32(), money(38, 0), ColumnType::Int),
        (money(9, 2), money(38, 2), ColumnType::Decimal { scale: 2 }),
        (Arc::new(millis()), Arc::new(micros()), ColumnType::Naive),
        (
            Arc::new(millis().with_timezone("UTC")),
            Arc::new(micros().with_timezone("UTC")),
            ColumnType::Instant,
        ),
        (
            Arc::new(Time32MillisecondArray::from(vec![1])),
            Arc::new(Time64MicrosecondArray::from(vec![1])),
            ColumnType::Time,
        ),
        (Arc::new(Float32Array::from(vec![1.0])), Arc::new(Float64Array::from(vec![1.0])), ColumnType::Float),
        (Arc::new(Date32Array::from(vec![1])), Arc::new(Date32Array::from(vec![2])), ColumnType::Date),
        (uuid(), uuid(), ColumnType::Binary),
    ];
    for (first, second, kind) in cases {
        let types = format!("{} and {}", first.data_type(), second.data_type());
        let expected = [Column { name: "Amount".to_owned(), kind }];
        let both_ways = [
            merged(("Amount", Arc::clone(&first)), ("AMOUNT", Arc::clone(&second))),
            merged(("Amount", second), ("amount", first)),
        ];
        for found in both_ways {
            assert_eq!(found.unwrap(), expected, "{types}");
        }
    }
}

#[test]
fn another_scale_or_another_kind_of_value_names_the_column_and_both_files() {
    let cases: [(ArrayRef, ArrayRef, &str, &str); 5] = [
        (money(9, 2), money(9, 4), "a decimal of scale 2", "a decimal of scale 4"),
        (int32(), money(9, 2), "a whole number", "a decimal of scale 2"),
        (int32(), text(), "a whole number", "text"),
        (text(), Arc::new(Float64Array::from(vec![1.0])), "text", "a floating-point number"),
        (
            Arc::new(micros()),
            Arc::new(micros().with_timezone("UTC")),
            "a timestamp without zone",
            "a timestamp in UTC",
        ),
    ];
    for (first, second, was, is) in cases {
        let error = merged(("Amount", first), ("AMOUNT", second)).unwrap_err();
        assert!(matches!(error, UnloadError::SchemaMismatch { .. }));
        let expected = format!("column Amount is {was} in file run/a of the unload and {is} in run/b");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_nobody_uses_may_differ_come_or_go() {
    let objects = MemoryObjects::new();
    let file =
        |columns: Vec<(&str, ArrayRef)>| parquet_file(&[RecordBatch::try_from_iter(columns).unwrap()], 10);
    objects.insert("run/a", file(vec![("id", int32()), ("lost", int32()), ("mixed", int32())]));
    objects.insert("run/b", file(vec![("mixed", text()), ("id", int32()), ("new", int32())]));
    objects.insert("run/_SUCCESS", "");
    let found = any(&objects).unwrap();
    assert_eq!(found.columns, [Column { name: "id".to_owned(), kind: ColumnType::Int }]);
    found.check(["id", "another"]).unwrap();
    for (used, expected) in [
        ("LOST", "column lost is in file run/a of the unload, but not in run/b"),
        ("new", "column new is in file run/b of the unload, but not in run/a"),
        ("Mixed", "column mixed is a whole number in file run/a of the unload and text in run/b"),
    ] {
        assert_eq!(found.check(["id", used]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_type_that_would_lose_something_is_refused_to_whoever_uses_it() {
    let objects = MemoryObjects::new();
    let schema = Arc::new(
        parse_message_type(
            "message m { required int32 id; required fixed_len_byte_array(12) wait (INTERVAL); }",
        )
        .unwrap(),
    );
    let mut body = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut body, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ParquetInt32>().write_batch(&[1], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let wait = ByteArray::from(vec![1; 12]).into();
    column.typed::<FixedLenByteArrayType>().write_batch(&[wait], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    objects.insert("run/a", body);
    objects.insert("run/_SUCCESS", "");
    let found = any(&objects).unwrap();
    assert_eq!(found.columns, [Column { name: "id".to_owned(), kind: ColumnType::Int }]);
    let said = found.check(["wait"]).unwrap_err().to_string();
    assert!(said.contains("wait") && said.contains("run/a") && said.contains("without loss"), "{said}");
}

#[test]
fn two_columns_of_one_file_that_differ_in_case_only_are_refused() {
    let objects = MemoryObjects::new();
    objects.insert("run/b", {
        let array = || Arc::new(Int32Array::from(vec![1])) as ArrayRef;
        parquet_file(&[RecordBatch::try_from_iter([("x", array()), ("X", array())]).unwrap()], 10)
    });
    objects.insert("run/_SUCCESS", "");
    refused(any(&objects), FailureName::UnloadSchemaMismatch, &["run/b", "x and X"]);
}
