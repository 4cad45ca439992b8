use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, MapBuilder, NullArray, StringArray, StringBuilder, StringViewArray,
    StructArray, Time32MillisecondArray, Time64MicrosecondArray, Time64NanosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    UInt8Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, i256};
use proptest::prelude::*;

use super::*;

fn hashes(kind: &ColumnType, array: &ArrayRef) -> Vec<u64> {
    let mut hashes = vec![0; array.len()];
    add_column(&mut hashes, "c", kind, array.as_ref()).unwrap();
    hashes
}

fn hash(kind: &ColumnType, array: ArrayRef) -> u64 {
    assert_eq!(array.len(), 1);
    hashes(kind, &array)[0]
}

fn key(kind: &ColumnType, array: ArrayRef) -> penstock_model::Key {
    let column = Column { name: "C".to_owned(), kind: kind.clone() };
    let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
    all_keys(&batch, &[column]).remove(0)
}

fn all_keys(batch: &RecordBatch, columns: &[Column]) -> Vec<penstock_model::Key> {
    let keys = keys(batch, columns).unwrap();
    let owned = keys.iter().map(|(key, has_null)| {
        let key = penstock_model::Key::from_bytes(key.to_vec());
        assert_eq!(key.has_null(), has_null);
        key
    });
    owned.collect()
}

fn decimal(value: i128, precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap())
}

fn wide(value: i128, precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal256Array::from(vec![i256::from_i128(value)]);
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

const INT: ColumnType = ColumnType::Int;
const CENTS: ColumnType = ColumnType::Decimal { scale: 2 };

#[test]
fn equal_values_are_equal_whatever_their_physical_type() {
    let utc = "UTC";
    let groups: Vec<(&str, Vec<(ColumnType, ArrayRef)>)> = vec![
        (
            "5",
            vec![
                (INT, Arc::new(Int8Array::from(vec![5]))),
                (INT, Arc::new(Int16Array::from(vec![5]))),
                (INT, Arc::new(Int32Array::from(vec![5]))),
                (INT, Arc::new(Int64Array::from(vec![5]))),
                (INT, Arc::new(UInt8Array::from(vec![5]))),
                (INT, Arc::new(UInt64Array::from(vec![5]))),
                (INT, decimal(5, 9, 0)),
                (INT, decimal(5, 38, 0)),
                (INT, wide(5, 76, 0)),
                (CENTS, decimal(500, 9, 2)),
                (CENTS, decimal(50_000, 18, 4)),
            ],
        ),
        (
            "largest u64",
            vec![(INT, Arc::new(UInt64Array::from(vec![u64::MAX]))), (INT, decimal(u64::MAX.into(), 20, 0))],
        ),
        (
            "-1.5",
            vec![(CENTS, decimal(-150, 9, 2)), (CENTS, decimal(-15_000, 38, 4)), (CENTS, wide(-150, 76, 2))],
        ),
        (
            "zero",
            vec![
                (ColumnType::Float, Arc::new(Float64Array::from(vec![0.0]))),
                (ColumnType::Float, Arc::new(Float64Array::from(vec![-0.0]))),
                (ColumnType::Float, Arc::new(Float32Array::from(vec![-0.0]))),
            ],
        ),
        (
            "NaN",
            vec![
                (ColumnType::Float, Arc::new(Float64Array::from(vec![f64::NAN]))),
                (ColumnType::Float, Arc::new(Float64Array::from(vec![-f64::NAN]))),
                (ColumnType::Float, Arc::new(Float32Array::from(vec![f32::from_bits(0x7fc0_0001)]))),
            ],
        ),
        (
            "text",
            vec![
                (ColumnType::Text, Arc::new(StringArray::from(vec!["a longer text, not inline"]))),
                (ColumnType::Text, Arc::new(LargeStringArray::from(vec!["a longer text, not inline"]))),
                (ColumnType::Text, Arc::new(StringViewArray::from(vec!["a longer text, not inline"]))),
            ],
        ),
        (
            "uuid",
            vec![
                (
                    ColumnType::Uuid,
                    Arc::new(FixedSizeBinaryArray::try_from_iter([[0xabu8; 16]].into_iter()).unwrap()),
                ),
                (ColumnType::Text, Arc::new(StringArray::from(vec!["abababab-abab-abab-abab-abababababab"]))),
            ],
        ),
        (
            "binary",
            vec![
                (ColumnType::Binary, Arc::new(BinaryArray::from(vec![&b"0123456789abcdef"[..]]))),
                (ColumnType::Binary, Arc::new(BinaryViewArray::from(vec![&b"0123456789abcdef"[..]]))),
                (
                    ColumnType::Binary,
                    Arc::new(FixedSizeBinaryArray::try_from_iter([b"0123456789abcdef"].into_iter()).unwrap()),
                ),
            ],
        ),
        (
            "instant",
            vec![
                (ColumnType::Instant, Arc::new(TimestampSecondArray::from(vec![-3]).with_timezone(utc))),
                (
                    ColumnType::Instant,
                    Arc::new(TimestampMillisecondArray::from(vec![-3_000]).with_timezone(utc)),
                ),
                (
                    ColumnType::Instant,
                    Arc::new(TimestampMicrosecondArray::from(vec![-3_000_000]).with_timezone(utc)),
                ),
                (
                    ColumnType::Instant,
                    Arc::new(TimestampNanosecondArray::from(vec![-3_000_000_000]).with_timezone(utc)),
                ),
            ],
        ),
        (
            "far future",
            vec![
                (ColumnType::Naive, Arc::new(TimestampSecondArray::from(vec![253_402_300_799]))),
                (ColumnType::Naive, Arc::new(TimestampMicrosecondArray::from(vec![253_402_300_799_000_000]))),
            ],
        ),
        (
            "time",
            vec![
                (ColumnType::Time, Arc::new(Time32MillisecondArray::from(vec![7]))),
                (ColumnType::Time, Arc::new(Time64MicrosecondArray::from(vec![7_000]))),
                (ColumnType::Time, Arc::new(Time64NanosecondArray::from(vec![7_000_000]))),
            ],
        ),
    ];
    let mut seen: Vec<(u64, &str)> = Vec::new();
    for (name, group) in groups {
        let (first_kind, first) = &group[0];
        let expected = (hash(first_kind, Arc::clone(first)), key(first_kind, Arc::clone(first)));
        for (kind, array) in &group {
            let found = (hash(kind, Arc::clone(array)), key(kind, Arc::clone(array)));
            assert_eq!(found, expected, "{name} as {}", array.data_type());
        }
        assert!(seen.iter().all(|(hash, _)| *hash != expected.0), "{name} is like one of {seen:?}");
        seen.push((expected.0, name));
    }
}

#[test]
fn different_values_differ() {
    let list = |items: Vec<Option<Vec<Option<i32>>>>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(items))
    };
    let ints = ColumnType::List(Box::new(INT));
    let cells: Vec<(ColumnType, ArrayRef)> = vec![
        (INT, Arc::new(Int32Array::from(vec![None]))),
        (INT, Arc::new(Int32Array::from(vec![0]))),
        (INT, Arc::new(Int32Array::from(vec![1]))),
        (INT, Arc::new(Int32Array::from(vec![-1]))),
        (INT, decimal(i128::from(u64::MAX), 38, 0)),
        (CENTS, decimal(1, 9, 2)),
        (CENTS, decimal(1, 9, 3)),
        (CENTS, decimal(10, 9, 2)),
        (ColumnType::Float, Arc::new(Float64Array::from(vec![1.0]))),
        (ColumnType::Bool, Arc::new(BooleanArray::from(vec![true]))),
        (ColumnType::Bool, Arc::new(BooleanArray::from(vec![false]))),
        (ColumnType::Text, Arc::new(StringArray::from(vec![""]))),
        (ColumnType::Text, Arc::new(StringArray::from(vec!["1"]))),
        (ColumnType::Binary, Arc::new(BinaryArray::from(vec![&b"1"[..]]))),
        (ColumnType::Date, Arc::new(Date32Array::from(vec![1]))),
        (ColumnType::Time, Arc::new(Time64NanosecondArray::from(vec![1]))),
        (ColumnType::Naive, Arc::new(TimestampNanosecondArray::from(vec![1]))),
        (ColumnType::Instant, Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("UTC"))),
        (ints.clone(), list(vec![Some(vec![])])),
        (ints.clone(), list(vec![Some(vec![None])])),
        (ints.clone(), list(vec![Some(vec![Some(1)])])),
        (ints.clone(), list(vec![Some(vec![Some(1), Some(2)])])),
        (ints.clone(), list(vec![Some(vec![Some(2), Some(1)])])),
        (ints, list(vec![Some(vec![Some(1), Some(1)])])),
    ];
    let mut seen = Vec::new();
    for (kind, array) in cells {
        let text = format!("{kind:?} {array:?}");
        let found = hash(&kind, array);
        assert!(!seen.contains(&found), "{text} is like another");
        seen.push(found);
    }
    assert_eq!(hash(&ColumnType::Null, Arc::new(NullArray::new(1))), seen[0], "null is null");
}

#[test]
fn structs_go_by_name_and_maps_by_key() {
    let field =
        |name: &str, array: ArrayRef| (Arc::new(Field::new(name, array.data_type().clone(), true)), array);
    let a = || -> ArrayRef { Arc::new(Int32Array::from(vec![1])) };
    let b = || -> ArrayRef { Arc::new(StringArray::from(vec!["x"])) };
    let kind = ColumnType::Struct(vec![("a".to_owned(), INT), ("b".to_owned(), ColumnType::Text)]);
    let one: ArrayRef = Arc::new(StructArray::from(vec![field("a", a()), field("b", b())]));
    let other: ArrayRef = Arc::new(StructArray::from(vec![field("B", b()), field("A", a())]));
    assert_eq!(hash(&kind, one), hash(&kind, other));

    let map = |entries: &[(&str, &str)]| -> ArrayRef {
        let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (key, value) in entries {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).unwrap();
        Arc::new(builder.finish())
    };
    let kind = ColumnType::Map(Box::new(ColumnType::Text));
    assert_eq!(hash(&kind, map(&[("a", "1"), ("b", "2")])), hash(&kind, map(&[("b", "2"), ("a", "1")])));
    assert_ne!(hash(&kind, map(&[("a", "1"), ("b", "2")])), hash(&kind, map(&[("a", "2"), ("b", "1")])));
    assert_ne!(hash(&kind, map(&[])), hash(&kind, map(&[("a", "1")])));
}

#[test]
fn a_column_of_the_wrong_type_is_named() {
    let array = NullArray::new(1);
    let dictionary = arrow::compute::cast(
        &StringArray::from(vec!["x"]),
        &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    )
    .unwrap();
    let error = add_column(&mut [0], "Segment", &ColumnType::Text, dictionary.as_ref()).unwrap_err();
    assert!(error.to_string().contains("Segment"), "{error}");
    let batch = RecordBatch::try_from_iter([("a", Arc::new(array) as ArrayRef)]).unwrap();
    let column = Column { name: "b".to_owned(), kind: INT };
    assert!(row_hashes(&batch, &[column]).unwrap_err().to_string().contains('b'));
}

#[test]
fn keys_keep_nulls_and_the_order_of_columns() {
    let batch = RecordBatch::try_from_iter([
        ("ID", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
        ("region", Arc::new(StringViewArray::from(vec!["eu", "us"])) as ArrayRef),
    ])
    .unwrap();
    let columns = [
        Column { name: "region".to_owned(), kind: ColumnType::Text },
        Column { name: "id".to_owned(), kind: INT },
    ];
    let keys = all_keys(&batch, &columns);
    use penstock_model::key::KeyValue;
    assert_eq!(keys[0].values().unwrap(), [KeyValue::Text("eu".to_owned()), KeyValue::Int(1)]);
    assert!(!keys[0].has_null());
    assert!(keys[1].has_null());
    assert_eq!(null_counts(&batch), BTreeMap::from([("id".to_owned(), 1), ("region".to_owned(), 0)]));
}

/// Changing any of this changes every stored row hash: then [`HASH_VERSION`] must rise.
#[test]
fn the_hash_is_what_it_was() {
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec![Some("Ann"), None])) as ArrayRef),
        ("score", Arc::new(Float64Array::from(vec![Some(0.5), None])) as ArrayRef),
    ])
    .unwrap();
    let columns: Vec<Column> = [("id", INT), ("name", ColumnType::Text), ("score", ColumnType::Float)]
        .map(|(name, kind)| Column { name: name.to_owned(), kind })
        .into();
    insta::assert_snapshot!(format!("{HASH_VERSION}: {:x?}", row_hashes(&batch, &columns).unwrap()), @"1: [a019c62e2c93c441, 54d24df805cfba6b]");
}

proptest! {
    #[test]
    fn neither_batches_nor_the_order_of_columns_matter(
        rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>(), prop::collection::vec(any::<i64>(), 0..4)), 1..40),
        cut in 0usize..40,
    ) {
        let cut = cut.min(rows.len());
        let arrays: [ArrayRef; 3] = [
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringViewArray>()),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
                rows.iter().map(|row| Some(row.2.iter().map(|v| Some(*v)).collect::<Vec<_>>())),
            )),
        ];
        let columns = [
            Column { name: "a".to_owned(), kind: INT },
            Column { name: "b".to_owned(), kind: ColumnType::Text },
            Column { name: "c".to_owned(), kind: ColumnType::List(Box::new(INT)) },
        ];
        let names = ["A", "b", "C"];
        let batch = RecordBatch::try_from_iter(names.into_iter().zip(arrays.clone())).unwrap();
        let turned = RecordBatch::try_from_iter(names.into_iter().zip(arrays).rev()).unwrap();
        let whole = row_hashes(&batch, &columns).unwrap();
        prop_assert_eq!(&whole, &row_hashes(&turned, &columns).unwrap());
        let mut parts = row_hashes(&batch.slice(0, cut), &columns).unwrap();
        parts.extend(row_hashes(&batch.slice(cut, rows.len() - cut), &columns).unwrap());
        prop_assert_eq!(whole, parts);
    }
}
