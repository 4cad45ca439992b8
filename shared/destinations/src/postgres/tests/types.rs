//! Values arrive exactly.

use penstock_model::json::Json;
use penstock_model::operation::OperationKind;
use serde_json::{Value, json};

use super::support::{Bench, operations, words};
use crate::testing::operation;

#[tokio::test]
async fn every_type_keeps_its_value() {
    // Column type, JSON as it is sent, text as PostgreSQL shows it.
    let cases: &[(&str, &str, &str)] = &[
        ("bigint", "9007199254740993", "9007199254740993"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("smallint", "\"7\"", "7"),
        ("numeric", "12345678901234567890123456789.0123456789", "12345678901234567890123456789.0123456789"),
        ("numeric(18,2)", "\"1234567890123456.78\"", "1234567890123456.78"),
        ("numeric", "\"NaN\"", "NaN"),
        ("double precision", "0.1", "0.1"),
        ("double precision", "1e300", "1e+300"),
        ("double precision", "\"NaN\"", "NaN"),
        ("double precision", "\"-Infinity\"", "-Infinity"),
        ("real", "\"Infinity\"", "Infinity"),
        ("timestamptz", "\"2024-02-29T23:59:59.123456Z\"", "2024-02-29 23:59:59.123456+00"),
        ("timestamptz", "\"2024-02-29T23:59:59.5+02:00\"", "2024-02-29 21:59:59.5+00"),
        ("timestamptz", "\"2024-02-29T23:59:59\"", "2024-02-29 23:59:59+00"),
        ("timestamp", "\"2024-02-29T23:59:59.123456\"", "2024-02-29 23:59:59.123456"),
        ("timestamp", "\"2024-02-29T23:59:59+02:00\"", "2024-02-29 21:59:59"),
        ("timestamp(0)", "\"2024-02-29T23:59:58.2Z\"", "2024-02-29 23:59:58"),
        ("date", "\"2024-02-29\"", "2024-02-29"),
        ("time", "\"23:59:59.123456\"", "23:59:59.123456"),
        ("interval", "\"PT36H\"", "36:00:00"),
        ("boolean", "true", "t"),
        ("boolean", "0", "f"),
        ("text", "\"a \\\"b\\\" \\\\ {c} \\u00e9 \\ud83d\\ude00 \\n\"", "a \"b\" \\ {c} é 😀 \n"),
        ("text", "\"\"", ""),
        ("text", "17.50", "17.50"),
        ("varchar(3)", "\"äöü\"", "äöü"),
        ("char(4)", "\"ab\"", "ab  "),
        ("bytea", "\"AP8QIA==\"", "\\x00ff1020"),
        ("bytea", "\"\"", "\\x"),
        (
            "jsonb",
            "{\"a\": [1, {\"b\": null}], \"n\": 12345678901234567890}",
            "{\"a\": [1, {\"b\": null}], \"n\": 12345678901234567890}",
        ),
        ("jsonb", "\"{\\\"a\\\": 1}\"", "{\"a\": 1}"),
        ("json", "[1, \"x\"]", "[1, \"x\"]"),
        ("text[]", "[\"a\", \"b,c\", null, \"\\\"d\\\\\"]", "{a,\"b,c\",NULL,\"\\\"d\\\\\"}"),
        ("integer[]", "[[1, 2], [3, 4]]", "{{1,2},{3,4}}"),
        ("bytea[]", "[\"AP8=\"]", "{\"\\\\x00ff\"}"),
        ("jsonb[]", "[{\"a\": 1}]", "{\"{\\\"a\\\": 1}\"}"),
        ("uuid", "\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\"", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("inet", "\"10.0.0.1\"", "10.0.0.1"),
        ("point", "\"(1,2)\"", "(1,2)"),
        ("mood", "\"glad\"", "glad"),
        ("short_text", "\"abc\"", "abc"),
        ("xml", "\"<a>1</a>\"", "<a>1</a>"),
        ("int4range", "\"[1,5)\"", "[1,5)"),
        ("money", "\"12.34\"", "$12.34"),
    ];
    let bench = Bench::new("types", "unused int").await;
    bench.sql("SET TimeZone = 'UTC'; SET lc_monetary = 'C'").await;
    bench
        .sql("CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN short_text AS varchar(3) CHECK (VALUE <> 'bad')")
        .await;
    let columns: Vec<String> =
        cases.iter().enumerate().map(|(at, (kind, ..))| format!("c{at} {kind}")).collect();
    bench
        .sql(&format!(
            "DROP TABLE customers; CREATE TABLE customers (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .await;

    let names: Vec<String> = (0..cases.len()).map(|at| format!("c{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let members: Vec<String> =
        names.iter().zip(cases).map(|(name, (_, value, _))| format!("\"{name}\":{value}")).collect();
    let mut first = operation(0, OperationKind::Upsert, &json!({"id": 1}), &json!({}));
    first.fields = serde_json::from_str(&format!("{{{}}}", members.join(","))).unwrap();
    let mut second = first.clone();
    (second.n, second.matched) = (1, Json::of(&json!({"id": 2})).unwrap());

    for expected in [["created", "created"], ["there", "there"]] {
        let memory = bench.deliver(&["id"], &names, &[first.clone(), second.clone()]).await.unwrap();
        assert_eq!(words(&memory), expected);
        assert_eq!(memory.usage().requests, 1);
        for id in [1, 2] {
            for (name, (kind, value, text)) in names.iter().zip(cases) {
                let seen = bench.one(&format!("SELECT {name} FROM customers WHERE id = {id}")).await;
                assert_eq!(&seen, text, "{kind} {value}");
            }
        }
    }

    // The same values again did not write the rows again.
    let before = bench.lines("SELECT xmin, ctid FROM customers ORDER BY id").await;
    bench.deliver(&["id"], &names, &[first.clone(), second.clone()]).await.unwrap();
    assert_eq!(bench.lines("SELECT xmin, ctid FROM customers ORDER BY id").await, before);

    // And null clears all of them.
    let nulls: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    first.fields = Json::of(&nulls).unwrap();
    let memory = bench.deliver(&["id"], &names, &[first]).await.unwrap();
    assert_eq!(words(&memory), ["there"]);
    let list = names.join(", ");
    assert_eq!(bench.one(&format!("SELECT num_nonnulls({list}) FROM customers WHERE id = 1")).await, "0");
}

#[tokio::test]
async fn values_that_do_not_fit_are_rejected_and_never_cut() {
    let bench = Bench::new(
        "unfit",
        "id int PRIMARY KEY, code varchar(3), small smallint, flag bool, at timestamptz, doc jsonb, tags text[], \
         raw bytea, name text NOT NULL DEFAULT '', rate numeric(4,2), bits bit(3)",
    )
    .await;
    let cases = [
        (json!({"code": "abcd"}), "22001"),
        (json!({"small": 40000}), "22003"),
        (json!({"small": "seven"}), "22P02"),
        (json!({"small": 1.5}), "22P02"),
        (json!({"flag": "maybe"}), "22P02"),
        (json!({"at": "2024-02-30T00:00:00Z"}), "22008"),
        (json!({"doc": "no json"}), "22P02"),
        (json!({"tags": "no list"}), "22P02"),
        (json!({"tags": [{"a": 1}]}), "value_unfit tags"),
        (json!({"name": {"a": 1}}), "value_unfit name"),
        (json!({"raw": "not base64!"}), "22023"),
        (json!({"name": "nul \u{0}"}), "22021"),
        (json!({"name": null}), "23502 name"),
        (json!({"rate": 123.45}), "22003"),
        (json!({"bits": "1010"}), "22026"),
        (json!({"name": "good"}), "created"),
    ];
    let rows: Vec<_> =
        cases.iter().zip(0..).map(|((fields, _), id)| (json!({"id": id}), fields.clone())).collect();
    let fields = ["code", "small", "flag", "at", "doc", "tags", "raw", "name", "rate", "bits"];
    let memory = bench.deliver(&["id"], &fields, &operations(OperationKind::Upsert, &rows)).await.unwrap();
    let expected: Vec<_> = cases.iter().map(|(_, word)| *word).collect();
    assert_eq!(words(&memory), expected);
    assert_eq!(bench.one("SELECT id, name FROM customers").await, "15|good");
}
