use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, DictionaryArray,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int64Array, LargeStringArray, ListArray,
    MapBuilder, NullArray, StringArray, StringBuilder, StringViewArray, StructArray, Time32SecondArray,
    Time64NanosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, i256};
use penstock_model::connector::{Capabilities, ValueStyle};
use penstock_model::definition::OnMissing;
use penstock_model::unload::ColumnType;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_type_in_both_styles() {
    let decimal = |value: i128, scale: i8| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap())
    };
    let wide = i256::from_string("123456789012345678901234567890123456789012").unwrap();
    let wide = Decimal256Array::from(vec![wide]).with_precision_and_scale(60, 2).unwrap();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None])]);
    let address = StructArray::from(vec![
        (Arc::new(Field::new("City", DataType::Utf8, true)), texts(vec![Some("Köln")])),
        (Arc::new(Field::new("zip", DataType::Utf8, true)), texts(vec![None])),
    ]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k\"0");
    map.values().append_null();
    map.append(true).unwrap();
    let instant = || TimestampMicrosecondArray::from(vec![1_776_236_671_317_898]).with_timezone("UTC");
    let struct_kind =
        ColumnType::Struct(vec![("city".into(), ColumnType::Text), ("zip".into(), ColumnType::Text)]);
    let cases: Vec<(ColumnType, ArrayRef, Value, Value)> = vec![
        (ColumnType::Bool, Arc::new(BooleanArray::from(vec![true])), json!(true), json!("true")),
        (ColumnType::Int, Arc::new(Int8Array::from(vec![-7])), json!(-7), json!("-7")),
        (
            ColumnType::Int,
            Arc::new(UInt64Array::from(vec![u64::MAX])),
            json!(u64::MAX),
            json!("18446744073709551615"),
        ),
        (
            ColumnType::Int,
            decimal(9_007_199_254_740_993, 0),
            json!(9_007_199_254_740_993_i64),
            json!("9007199254740993"),
        ),
        (
            ColumnType::Decimal { scale: 2 },
            decimal(-287_789_189, 2),
            json!("-2877891.89"),
            json!("-2877891.89"),
        ),
        (ColumnType::Decimal { scale: 4 }, decimal(0, 2), json!("0.0000"), json!("0.0000")),
        (
            ColumnType::Decimal { scale: 2 },
            Arc::new(wide),
            json!("1234567890123456789012345678901234567890.12"),
            json!("1234567890123456789012345678901234567890.12"),
        ),
        (ColumnType::Float, Arc::new(Float64Array::from(vec![5e-324])), json!(5e-324), json!("5e-324")),
        (ColumnType::Float, Arc::new(Float32Array::from(vec![88.3125])), json!(88.3125), json!("88.3125")),
        (ColumnType::Float, Arc::new(Float32Array::from(vec![0.1])), json!(0.1), json!("0.1")),
        (ColumnType::Float, Arc::new(Float64Array::from(vec![f64::NAN])), json!("NaN"), json!("NaN")),
        (
            ColumnType::Float,
            Arc::new(Float64Array::from(vec![f64::NEG_INFINITY])),
            json!("-Infinity"),
            json!("-Infinity"),
        ),
        (
            ColumnType::Text,
            texts(vec![Some("é \"\\\n\u{1}")]),
            json!("é \"\\\n\u{1}"),
            json!("é \"\\\n\u{1}"),
        ),
        (ColumnType::Text, Arc::new(LargeStringArray::from(vec!["x"])), json!("x"), json!("x")),
        (ColumnType::Text, Arc::new(StringViewArray::from(vec!["x"])), json!("x"), json!("x")),
        (ColumnType::Text, Arc::new(DictionaryArray::<Int32Type>::from_iter(["x"])), json!("x"), json!("x")),
        (
            ColumnType::Binary,
            Arc::new(BinaryArray::from(vec![&[0xfb, 0xff][..]])),
            json!("+/8="),
            json!("+/8="),
        ),
        (
            ColumnType::Uuid,
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once([0x62; 16])).unwrap()),
            json!("62626262-6262-6262-6262-626262626262"),
            json!("62626262-6262-6262-6262-626262626262"),
        ),
        (
            ColumnType::Binary,
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once([1; 2])).unwrap()),
            json!("AQE="),
            json!("AQE="),
        ),
        (
            ColumnType::Date,
            Arc::new(Date32Array::from(vec![11_016])),
            json!("2000-02-29"),
            json!("2000-02-29"),
        ),
        (
            ColumnType::Time,
            Arc::new(Time32SecondArray::from(vec![3_661])),
            json!("01:01:01.000000"),
            json!("01:01:01.000000"),
        ),
        (
            ColumnType::Time,
            Arc::new(Time64NanosecondArray::from(vec![1])),
            json!("00:00:00.000000001"),
            json!("00:00:00.000000001"),
        ),
        (
            ColumnType::Instant,
            Arc::new(instant()),
            json!("2026-04-15T07:04:31.317898Z"),
            json!("2026-04-15T07:04:31.317898Z"),
        ),
        (
            ColumnType::Naive,
            Arc::new(TimestampNanosecondArray::from(vec![-1])),
            json!("1969-12-31T23:59:59.999999999"),
            json!("1969-12-31T23:59:59.999999999"),
        ),
        (
            ColumnType::Naive,
            Arc::new(TimestampSecondArray::from(vec![i64::MAX])),
            json!("+292277026596-12-04T15:30:07.000000"),
            json!("+292277026596-12-04T15:30:07.000000"),
        ),
        (ColumnType::List(Box::new(ColumnType::Int)), Arc::new(list), json!([1, null]), json!("1")),
        (
            struct_kind,
            Arc::new(address),
            json!({ "city": "Köln", "zip": null }),
            json!("{\"city\":\"Köln\",\"zip\":null}"),
        ),
        (
            ColumnType::Map(Box::new(ColumnType::Text)),
            Arc::new(map.finish()),
            json!({ "k\"0": null }),
            json!("{\"k\\\"0\":null}"),
        ),
        (ColumnType::Null, Arc::new(NullArray::new(1)), Value::Null, json!("")),
    ];
    for (kind, array, typed, text) in cases {
        let shown = format!("{kind:?}");
        let columns = [("Col", kind, array)];
        let field = json!({ "column": "COL", "on_null": "clear" });
        assert_eq!(one(field.clone(), ValueStyle::Json, &columns), Ok(typed), "{shown}");
        assert_eq!(one(field, ValueStyle::Text, &columns), Ok(text), "{shown}");
    }
}

#[test]
fn expressions_by_example() {
    let columns: Vec<TestColumn> = vec![
        ("EMAIL", ColumnType::Text, texts(vec![Some(" Ann@X.com ")])),
        ("nothing", ColumnType::Text, texts(vec![None])),
        (
            "amount",
            ColumnType::Decimal { scale: 2 },
            Arc::new(Decimal128Array::from(vec![1250]).with_precision_and_scale(18, 2).unwrap()),
        ),
        (
            "long",
            ColumnType::Decimal { scale: 10 },
            Arc::new(
                Decimal128Array::from(vec![123_456_789_012_345_678_901])
                    .with_precision_and_scale(38, 10)
                    .unwrap(),
            ),
        ),
        ("big", ColumnType::Int, Arc::new(Int64Array::from(vec![9_007_199_254_740_993]))),
        ("vip", ColumnType::Bool, Arc::new(BooleanArray::from(vec![true]))),
        (
            "tags",
            ColumnType::List(Box::new(ColumnType::Int)),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![
                Some(1),
                None,
                Some(2),
            ])])),
        ),
        ("born", ColumnType::Date, Arc::new(Date32Array::from(vec![0]))),
    ];
    let cases = [
        ("{{ email | trim | lower }}", Ok(json!("ann@x.com"))),
        ("{{ Email | trim }}", Ok(json!("Ann@X.com"))),
        ("{{ big + 1 }}", Ok(json!(9_007_199_254_740_994_i64))),
        ("{{ amount * 2 }}", Ok(json!(25.0))),
        ("{{ amount + 0.25 }}", Ok(json!(12.75))),
        ("{{ 'vip' if amount > 5 else 'std' }}", Ok(json!("vip"))),
        ("{{ amount }} EUR", Ok(json!("12.5 EUR"))),
        ("{{ not vip }}", Ok(json!(false))),
        ("{{ vip }}/{{ 1 }}", Ok(json!("true/1"))),
        ("{{ 'is ' ~ email | trim }}", Ok(json!("is Ann@X.com"))),
        ("{{ 'x' if not vip }}", Ok(json!("absent"))),
        ("{{ tags[0] }}{{ tags | max }}", Ok(json!("12"))),
        ("{{ tags[7] | upper }}", Ok(json!("absent"))),
        ("{{ email.part }}", Ok(json!("absent"))),
        ("{{ tags | join('-') }}", Ok(json!("1-2"))),
        ("{{ tags | join(d='+') }}", Ok(json!("1+2"))),
        ("{{ tags }}", Ok(json!([1, null, 2]))),
        ("{{ {'a': big, 'b': [nothing]} }}", Ok(json!({ "a": 9_007_199_254_740_993_i64, "b": [null] }))),
        ("{{ '7' | int }}", Ok(json!(7))),
        ("{{ (born) }}", Ok(json!("1970-01-01"))),
        ("{{ born[:4] }}", Ok(json!("1970"))),
        ("{{ nothing[:4] }}", Ok(json!("absent"))),
        ("from {{ born[:4] }}", Ok(json!("from 1970"))),
        ("{{ born[:4] | int }}", Ok(json!(1970))),
        ("{{ nothing | int }}", Ok(json!("absent"))),
        ("{{ nothing | int(default=3) }}", Ok(json!(3))),
        ("{{ nothing | float(1.5) }}", Ok(json!(1.5))),
        // Nulls stay nulls.
        ("{{ nothing }}", Ok(json!("absent"))),
        ("{{ nothing | trim | lower | replace('a', 'b') }}", Ok(json!("absent"))),
        ("{{ nothing * 100 }}", Ok(json!("absent"))),
        ("{{ (nothing or email)[:4] }}", Ok(json!("absent"))),
        ("{{ (nothing | default(email))[1:4] }}", Ok(json!("Ann"))),
        ("{{ vip }}/{{ nothing }}", Ok(json!("absent"))),
        ("{{ 'Mr ' ~ nothing }}", Ok(json!("absent"))),
        ("{{ 'low' if nothing < 5 else 'high' }}", Ok(json!("absent"))),
        ("{{ nothing == email }}", Ok(json!("absent"))),
        ("{{ nothing | length }}", Ok(json!("absent"))),
        ("{{ nothing | round(1) }}", Ok(json!("absent"))),
        ("{{ email | replace('a', nothing) }}", Ok(json!("absent"))),
        ("{{ '%s!' | format(nothing) }}", Ok(json!("absent"))),
        ("{{ none if vip else 1 }}", Ok(json!("absent"))),
        ("{% for x in nothing %}x{% endfor %}", Ok(json!("absent"))),
        // Unless something is said about them.
        ("{{ nothing | default('x') }}", Ok(json!("x"))),
        ("{{ nothing or email | trim }}", Ok(json!("Ann@X.com"))),
        ("{{ 'a' if nothing else 'b' }}", Ok(json!("b"))),
        ("{{ nothing is none }}", Ok(json!(true))),
        ("{% if nothing is not none %}yes{% else %}no{% endif %}", Ok(json!("no"))),
        ("{{ [email | trim, nothing] | join(', ') }}", Ok(json!("Ann@X.com"))),
        ("{{ [amount, nothing] | min }}", Ok(json!(12.5))),
        ("{{ tags | sum }}", Ok(json!(3))),
        // What can't be worked out is said.
        ("{{ email * email }}", Err("expression_failed")),
        ("{{ long * 2 }}", Err("expression_failed")),
        ("{{ email | int }}", Err("expression_failed")),
    ];
    for (template, expected) in cases {
        let got = one(json!({ "expression": template }), ValueStyle::Json, &columns);
        assert_eq!(got, expected, "{template}");
    }
    let typed = json!({ "expression": "{{ amount * 1.1 }}", "type": "decimal(18,2)" });
    assert_eq!(one(typed, ValueStyle::Json, &columns), Ok(json!("13.75")));
}

#[test]
fn nulls_and_constants_by_style() {
    let columns = [("x", ColumnType::Text, texts(vec![None]))];
    let cases = [
        (json!("x"), json!("absent"), json!("absent")),
        (json!({ "column": "x", "on_null": "skip" }), json!("absent"), json!("absent")),
        (json!({ "column": "x", "on_null": "clear" }), json!(null), json!("")),
        (json!({ "column": "x", "on_null": "clear", "type": "integer" }), json!(null), json!("")),
        (json!({ "expression": "{{ x | upper }}", "on_null": "clear" }), json!(null), json!("")),
        (json!({ "constant": 1.5 }), json!(1.5), json!("1.5")),
        (
            json!({ "constant": { "b": [1], "a": null } }),
            json!({ "a": null, "b": [1] }),
            json!("{\"a\":null,\"b\":[1]}"),
        ),
        (json!({ "constant": "x" }), json!("x"), json!("x")),
    ];
    for (field, typed, text) in cases {
        assert_eq!(one(field.clone(), ValueStyle::Json, &columns), Ok(typed), "{field}");
        assert_eq!(one(field.clone(), ValueStyle::Text, &columns), Ok(text), "{field}");
    }
}

#[test]
fn rejections_name_the_field_and_not_the_value() {
    let sync = fields(json!({ "Age": { "column": "AGE", "type": "integer" } }));
    let mapping = compile(&sync);
    let columns: Vec<TestColumn> = vec![
        ("Age", ColumnType::Text, texts(vec![Some("secret"), Some("7"), Some("8"), Some("9")])),
        ("ID", ColumnType::Text, texts(vec![Some("a"), Some("b"), None, Some("  ")])),
    ];
    let rows = map_all(&mapping, &columns);
    let rejection = |code, message: &str, field: &str| {
        Err(Rejection { code, message: message.into(), field: field.into() })
    };
    assert_eq!(rows[0], rejection("not_an_integer", "column age is not an integer", "Age"));
    assert_eq!(
        rows[1],
        Ok(Row {
            matched: r#"{"id":"b"}"#.into(),
            fields: r#"{"Age":7}"#.into(),
            anything: true,
            asks: None
        })
    );
    let empty = || rejection("match_empty", "column id is empty, so that the record can't be found", "id");
    assert_eq!(rows[2], empty());
    assert_eq!(rows[3], empty());
}

#[test]
fn a_wide_row() {
    let sync = sync(json!({
        "match": { "email": "email" },
        "fields": {
            "email": "email",
            "name.first": "first",
            "name.last": { "column": "last" },
            "phones.0.value": { "column": "phone" },
            "phones.0.type": { "constant": "home" },
            "phones.1.value": { "column": "mobile" },
            "props.spent": { "column": "spent", "type": "number" },
            r"props.a\.b": { "constant": [1, "x"] },
            "raw": { "column": "extra", "type": "json" },
            "segment": { "column": "segment", "on_null": "clear" },
            "greeting": { "expression": "Hello {{ first }} {{ last | default('?') }}" },
        }
    }));
    let spent = Decimal128Array::from(vec![12_340]).with_precision_and_scale(18, 2).unwrap();
    let columns: Vec<TestColumn> = vec![
        ("email", ColumnType::Text, texts(vec![Some("ann@x.com")])),
        ("first", ColumnType::Text, texts(vec![Some("Ann")])),
        ("last", ColumnType::Text, texts(vec![None])),
        ("phone", ColumnType::Text, texts(vec![Some("+49 1")])),
        ("mobile", ColumnType::Text, texts(vec![None])),
        ("spent", ColumnType::Decimal { scale: 2 }, Arc::new(spent)),
        ("extra", ColumnType::Text, texts(vec![Some("{ \"k\" : [ 1,\n2 ] }")])),
        ("segment", ColumnType::Text, texts(vec![None])),
    ];
    let mapping = compile(&sync);
    assert_eq!(mapping.columns(), ["email", "extra", "first", "last", "mobile", "phone", "segment", "spent"]);
    let mapped = map_all(&mapping, &columns).remove(0).unwrap();
    insta::assert_snapshot!(mapped.matched, @r#"{"email":"ann@x.com"}"#);
    insta::assert_snapshot!(mapped.fields, @r#"{"greeting":"Hello Ann ?","name":{"first":"Ann"},"phones":[{"type":"home","value":"+49 1"}],"props":{"a.b":[1,"x"],"spent":123.40},"raw":{"k":[1,2]},"segment":null}"#);
}

/// What serde_json makes of a value, for comparison.
#[derive(Debug, Clone)]
struct Sample {
    text: Option<String>,
    whole: Option<i64>,
    float: Option<f64>,
    flag: Option<bool>,
    list: Option<Vec<Option<i32>>>,
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        any::<Option<String>>(),
        any::<Option<i64>>(),
        any::<Option<f64>>(),
        any::<Option<bool>>(),
        any::<Option<Vec<Option<i32>>>>(),
    )
        .prop_map(|(text, whole, float, flag, list)| Sample { text, whole, float, flag, list })
}

proptest! {
    #[test]
    fn rows_are_the_json_that_serde_makes(samples in prop::collection::vec(sample(), 1..20), name in "[a-z\"\\\\é ]{1,8}") {
        let mapping = compile(&fields(json!({
            (format!("t.{}", name.replace('\\', "\\\\"))): { "column": "text", "on_null": "clear" },
            "w": { "column": "whole", "on_null": "clear" },
            "f": "float",
            "b": "flag",
            "l": { "column": "list", "on_null": "clear" },
        })));
        let column = |get: &dyn Fn(&Sample) -> Option<String>| texts_owned(samples.iter().map(get).collect());
        let columns: Vec<TestColumn> = vec![
            ("id", ColumnType::Int, Arc::new(Int64Array::from_iter_values(0..i64::try_from(samples.len()).unwrap()))),
            ("text", ColumnType::Text, column(&|sample| sample.text.clone())),
            ("whole", ColumnType::Int, Arc::new(samples.iter().map(|sample| sample.whole).collect::<Int64Array>())),
            ("float", ColumnType::Float, Arc::new(samples.iter().map(|sample| sample.float).collect::<Float64Array>())),
            ("flag", ColumnType::Bool, Arc::new(samples.iter().map(|sample| sample.flag).collect::<BooleanArray>())),
            ("list", ColumnType::List(Box::new(ColumnType::Int)), Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(samples.iter().map(|sample| sample.list.clone())))),
        ];
        for (row, (mapped, sample)) in map_all(&mapping, &columns).into_iter().zip(&samples).enumerate() {
            let mapped = mapped.unwrap();
            let mut expected = json!({ "t": { (name.clone()): sample.text }, "w": sample.whole, "l": sample.list });
            let object = expected.as_object_mut().unwrap();
            if let Some(flag) = sample.flag {
                object.insert("b".into(), json!(flag));
            }
            let mut got: Value = serde_json::from_str(&mapped.fields).unwrap();
            // serde_json reads floats to within the last digit only.
            let spelt: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&mapped.fields).unwrap();
            got.as_object_mut().unwrap().remove("f");
            prop_assert_eq!(got, expected);
            let float = spelt.get("f").map(|json| json.get().trim_matches('"').parse::<f64>().unwrap());
            prop_assert_eq!(float.map(f64::to_bits), sample.float.map(|float| if float.is_nan() { f64::NAN } else { float }.to_bits()));
            prop_assert_eq!(mapped.matched, json!({ "id": row }).to_string());
        }
    }
}

fn texts_owned(values: Vec<Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

#[test]
fn fields_that_need_the_destination_stand_apart() {
    let sync = fields(json!({
        "name": "name",
        "phone": { "column": "phone", "write": "if_empty" },
        "mobile": { "column": "mobile", "write": "if_empty" },
        "company": { "lookup": { "domain": "domain" }, "on_null": "clear" },
        "owner": { "lookup": { "code": "owner" }, "object": "owners", "on_missing": "skip" },
    }));
    let can = Capabilities { if_empty: true, lookups: true, ..capabilities(ValueStyle::Json) };
    let mapping = Mapping::compile(&sync, None, &can).unwrap();
    let columns = |rows: [[Option<&str>; 5]; 3]| -> Vec<TestColumn> {
        let names = ["name", "phone", "mobile", "domain", "owner"];
        let column = |n: usize| texts(rows.iter().map(|row| row[n]).collect());
        let mut columns: Vec<_> = (0..5).map(|n| (names[n], ColumnType::Text, column(n))).collect();
        columns.push(("id", ColumnType::Int, Arc::new(Int64Array::from(vec![1, 2, 3]))));
        columns
    };
    let rows = columns([
        [Some("Ann"), Some("1"), Some("2"), Some("acme.com"), Some("o1")],
        [None, Some("1"), None, Some("acme.com"), Some(" ")],
        [Some("Bob"), None, None, None, None],
    ]);
    let shown: Vec<String> = map_all(&mapping, &rows)
        .into_iter()
        .map(|mapped| {
            let mapped = mapped.unwrap();
            format!("{} {}", mapped.fields, serde_json::to_string(&mapped.asks).unwrap())
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"{"name":"Ann"} {"if_empty":{"mobile":"2","phone":"1"},"lookups":{"company":"acme.com","owner":"o1"}}"#,
            r#"{} {"if_empty":{"phone":"1"},"lookups":{"company":"acme.com"}}"#,
            r#"{"name":"Bob"} {"lookups":{"company":null}}"#,
        ]
    );
    let lookups: Vec<_> = sync.lookups().map(|it| (it.field, it.object, it.by, it.on_missing)).collect();
    assert_eq!(
        lookups,
        [("company", "company", "domain", OnMissing::Reject), ("owner", "owners", "code", OnMissing::Skip)]
    );
    assert_eq!(sync.if_empty().collect::<Vec<_>>(), ["mobile", "phone"]);
}
