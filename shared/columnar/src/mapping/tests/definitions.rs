use arrow::array::Decimal128Array;
use penstock_model::connector::ValueStyle;
use penstock_model::definition::Sync;
use penstock_model::operation::OperationKind;
use penstock_model::unload::{Column, ColumnType};
use proptest::prelude::*;
use serde_json::json;

use super::super::{KeyColumns, match_from_key};
use super::*;

#[test]
fn all_problems_are_found_at_once() {
    let columns: Vec<Column> = [
        ("CUSTOMER_ID", ColumnType::Int),
        ("Email", ColumnType::Text),
        ("tags", ColumnType::List(Box::new(ColumnType::Text))),
        ("address", ColumnType::Struct(vec![("city".into(), ColumnType::Text)])),
    ]
    .map(|(name, kind)| Column { name: name.into(), kind })
    .into();
    let sync: Sync = serde_json::from_value(json!({
        "unload": "u", "connection": "c", "object": "o",
        "mode": "upsert",
        "match": {
            "Id": "customer_idd", "T": "tags",
            "U": { "column": "emali", "type": "json" }, "V": { "column": "email", "type": "money" },
        },
        "on_removed": { "clear": ["Nope", "Id"] },
        "fields": {
            "a": "emial",
            "a.b": "email",
            "b/c": { "column": "email", "constant": 1 },
            "c": {},
            "d": { "expression": "{{ email | trim" },
            "e": { "expression": "{{ emails | trim }}" },
            "f": { "expression": "{{ email | shout }}{{ 1 if email == none }}{{ email.strip() }}" },
            "ff": { "expression": "{{ address.city }}{{ address.zap }}{{ Email.first[:2] }}{{ tags.0 }}" },
            "g": { "column": "zzz", "type": "money" },
            "h": { "column": "email", "write": "if_empty" },
            "i": { "lookup": { "X": "customer_id" } },
            "j": { "column": "email", "on_missing": "skip" },
            "k": { "constant": 1, "type": "integer" },
        }
    }))
    .unwrap();
    let mut few = capabilities(ValueStyle::Json);
    few.operations.retain(|kind, _| matches!(kind, OperationKind::Create | OperationKind::Delete));
    let problems = Mapping::compile(&sync, Some(&columns), &few).unwrap_err();
    let list: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    insta::assert_snapshot!(list.join("\n"), @r#"
    /mode: this destination has no operation `upsert`; it has create, delete
    /match/Id: the unload has no column `customer_idd`; did you mean `CUSTOMER_ID`?
    /match/T: column `tags` holds lists or objects, which can't identify a record
    /match/U/type: JSON can't identify a record: give another type, or none
    /match/U/column: the unload has no column `emali`; did you mean `Email`?
    /match/V/type: there is no type "money": it is one of text, integer, number, decimal(p,s), boolean, date, timestamp, json
    /fields/a: the unload has no column `emial`; did you mean `Email`?
    /fields/b~1c: give exactly one of column, expression, constant and lookup, not column and constant
    /fields/c: give exactly one of column, expression, constant and lookup, not none
    /fields/d/expression: the expression is not valid Jinja: unexpected end of input, expected end of variable block
    /fields/e/expression: the unload has no column `emails`; did you mean `Email`?
    /fields/f/expression: nothing compares with none: write `is none` or `is not none`
    /fields/f/expression: values have no method `strip()`: use a filter, such as `| strip`
    /fields/f/expression: there is no filter `shout`
    /fields/ff/expression: `Email.first`: there is no `first`, only structs have parts
    /fields/ff/expression: `address.zap`: there is no `zap`
    /fields/g/type: there is no type "money": it is one of text, integer, number, decimal(p,s), boolean, date, timestamp, json
    /fields/g/column: the unload has no column `zzz`
    /fields/h/write: the destination of connection c can't tell whether a field is empty
    /fields/i/lookup: the destination of connection c can't look records up
    /fields/j/on_missing: `on_missing` goes with `lookup`
    /fields/k/type: a constant is sent as it is written: it has no `type`
    /fields/a.b: "a.b" can't be both a value and an object: another field uses a part of its name as a value
    /on_removed/clear: this destination has no operation `clear`; it has create, delete
    /on_removed/clear/0: `Nope` is none of the sync's fields
    /on_removed/clear/1: `Id` identifies the record and can't be emptied
    "#);
}

#[test]
fn fields_that_need_the_destination_are_checked() {
    let sync = sync(json!({
        "on_removed": { "clear": ["phone", "company"] },
        "fields": {
            "phone": { "column": "phone", "write": "if_empty", "on_null": "clear" },
            "company": { "lookup": { "domain": "company_domain" }, "write": "if_empty" },
            "owner": { "lookup": { "a": "b", "c": "d" } },
            "address.city": { "column": "city", "write": "if_empty" },
            "x": { "column": "x", "object": "things", "label": 7 },
        }
    }));
    let can = Capabilities { if_empty: true, lookups: true, ..capabilities(ValueStyle::Json) };
    let problems = Mapping::compile(&sync, None, &can).unwrap_err();
    let list: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    insta::assert_snapshot!(list.join("\n"), @r#"
    /fields/address.city: "address.city" is a part of an object: a field that depends on what the destination holds can't be
    /fields/company/write: a reference is written always: `if_empty` does not go with `lookup`
    /fields/owner/lookup: a lookup names one field of the other record, and the column that holds its value: `{ External_Id__c: account_id }`
    /fields/phone/on_null: a field that is written only if it is empty is never emptied
    /fields/x/object: `object` goes with `lookup`
    /fields/x/label: `label` goes with `lookup`
    /on_removed/clear/0: `phone` is written only if it is empty: what it holds may be somebody else's
    /on_removed/clear/1: `company` refers to another record and can't be emptied
    "#);
}

#[test]
fn a_mode_that_writes_new_records_only_asks_nothing() {
    for (mode, asks) in [("upsert", 1), ("update_only", 1), ("create_only", 0), ("append", 0)] {
        let sync =
            sync(json!({ "mode": mode, "fields": { "phone": { "column": "phone", "write": "if_empty" } } }));
        assert_eq!(sync.if_empty().count(), asks, "{mode}");
        let refused = Mapping::compile(&sync, None, &capabilities(ValueStyle::Json)).is_err();
        assert_eq!(refused, asks > 0, "{mode}");
    }
}

#[test]
fn match_is_required_unless_rows_are_appended() {
    let compile = |mode: &str, on_removed: &str| {
        let sync =
            sync(json!({ "match": {}, "mode": mode, "on_removed": on_removed, "fields": { "x": "x" } }));
        let problems =
            Mapping::compile(&sync, None, &capabilities(ValueStyle::Json)).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
    };
    assert_eq!(compile("upsert", "nothing"), ["/match"]);
    assert!(compile("append", "nothing").is_empty());
    assert_eq!(compile("append", "delete"), ["/on_removed"]);
}

#[test]
fn the_hash_follows_the_meaning() {
    let hash = |sync: &Sync| compile(sync).hash();
    let base = hash(&fields(json!({ "a": "x", "b": { "constant": { "p": 1, "q": 2 } } })));
    let same =
        fields(json!({ "b": { "constant": { "q": 2, "p": 1 } }, "a": { "column": "X", "on_null": "skip" } }));
    assert_eq!(hash(&same), base);
    assert_eq!(base, 14_719_165_401_649_783_191, "stored snapshots hold this number");
    for other in [
        json!({ "a": "y", "b": { "constant": { "p": 1, "q": 2 } } }),
        json!({ "a": { "column": "x", "on_null": "clear" }, "b": { "constant": { "p": 1, "q": 2 } } }),
        json!({ "a": "x" }),
    ] {
        assert_ne!(hash(&fields(other)), base);
    }
    let by = |matched| hash(&sync(json!({ "match": matched, "fields": { "a": "x" } })));
    assert_eq!(by(json!({ "id": { "column": "ID" } })), by(json!({ "id": "id" })));
    assert_ne!(by(json!({ "id": { "column": "id", "type": "text" } })), by(json!({ "id": "id" })));
    assert_ne!(
        hash(&sync(json!({ "match": { "id": "other" }, "fields": { "a": "x" } }))),
        hash(&fields(json!({ "a": "x" })))
    );
    assert_ne!(
        hash(&sync(json!({ "mode": "append", "fields": { "a": "x" } }))),
        hash(&fields(json!({ "a": "x" })))
    );
}

#[test]
fn a_sync_tests_itself() {
    let sync = sync(json!({
        "fields": {
            "Email": { "expression": "{{ email | trim | lower }}" },
            "Age": { "column": "age", "type": "integer" },
            "Note": "note",
            "Spent": { "column": "spent", "type": "number" },
        },
        "tests": [
            { "row": { "id": 7, "EMAIL": " Ann@X.com ", "spent": 1.0 }, "expect": { "id": 7, "Email": "ann@x.com", "Note": null, "Spent": 1 } },
            { "row": { "email": "A", "age": "old", "typo": 1 }, "expect": { "Email": "A", "Age": 1, "Note": "n", "Nope": 1 } },
        ],
    }));
    let problems = compile(&sync).run_tests(&sync.tests);
    let list: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    insta::assert_snapshot!(list.join("\n"), @r#"
    /tests/1/row/typo: no field and no match uses the column `typo`
    /tests/1/expect/Age: expected 1, but the row is rejected: column age is not an integer
    /tests/1/expect/Email: expected "A", got "a"
    /tests/1/expect/Nope: `Nope` is none of the sync's fields
    /tests/1/expect/Note: expected "n", but the field is not sent: it is null
    "#);
}

#[test]
fn keys_are_shown_and_matched_as_the_rows_were() {
    use penstock_model::Key;
    use penstock_model::key::KeyValue;
    let mapping = compile(&sync(json!({ "match": { "Price": "PRICE", "Id": "id" }, "fields": {} })));
    let columns = [
        Column { name: "Id".into(), kind: ColumnType::Int },
        Column { name: "price".into(), kind: ColumnType::Decimal { scale: 2 } },
        Column { name: "at".into(), kind: ColumnType::Instant },
    ];
    let cases = [
        (KeyValue::Int(5), "\"5.00\""),
        (KeyValue::Decimal("5.5".into()), "\"5.50\""),
        (KeyValue::Decimal("-0.25".into()), "\"-0.25\""),
    ];
    for (price, shown) in cases {
        let key = Key::of(&[KeyValue::Int(7), price, KeyValue::Instant(-1)]);
        let matched = match_from_key(&mapping, &key, &columns).unwrap().unwrap();
        assert_eq!(matched, format!("{{\"Id\":7,\"Price\":{shown}}}"));
        assert_eq!(
            KeyColumns::of(&columns).object(&key).unwrap(),
            format!("{{\"Id\":7,\"price\":{shown},\"at\":\"1969-12-31T23:59:59.999999999Z\"}}")
        );
    }
    assert!(match_from_key(&mapping, &Key::of(&[KeyValue::Int(1)]), &columns[..1]).unwrap().is_none());
    assert!(KeyColumns::of(&columns).object(&Key::from_bytes(vec![99])).is_err());
    assert!(mapping.match_is_key(&["ID".into(), "price".into()]));
    assert!(!mapping.match_is_key(&["id".into()]));
}

#[test]
fn a_match_value_is_of_the_type_that_the_sync_asks_for() {
    use penstock_model::Key;
    use penstock_model::key::KeyValue;
    let price = Decimal128Array::from(vec![550, 700]).with_precision_and_scale(18, 2).unwrap();
    let rows: Vec<TestColumn> = vec![
        ("id", ColumnType::Int, Arc::new(Int64Array::from(vec![7, 8]))),
        ("price", ColumnType::Decimal { scale: 2 }, Arc::new(price)),
    ];
    let columns = rows.iter().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: kind.clone() });
    let columns: Vec<Column> = columns.collect();
    let keys = [
        Key::of(&[KeyValue::Int(7), KeyValue::Decimal("5.5".into())]),
        Key::of(&[KeyValue::Int(8), KeyValue::Int(7)]),
    ];
    for (id, price, shown) in [
        (json!("id"), json!("price"), [r#"{"i":7,"p":"5.50"}"#, r#"{"i":8,"p":"7.00"}"#]),
        (
            json!({ "column": "ID", "type": "text" }),
            json!({ "column": "price", "type": "number" }),
            [r#"{"i":"7","p":5.50}"#, r#"{"i":"8","p":7.00}"#],
        ),
        (
            json!({ "column": "id", "type": "decimal(9,3)" }),
            json!({ "column": "price", "type": "text" }),
            [r#"{"i":"7.000","p":"5.50"}"#, r#"{"i":"8.000","p":"7.00"}"#],
        ),
    ] {
        let mapping = compile(&sync(json!({ "match": { "i": id, "p": price }, "fields": {} })));
        for ((mapped, key), shown) in map_all(&mapping, &rows).into_iter().zip(&keys).zip(shown) {
            assert_eq!(mapped.unwrap().matched, shown);
            // A removed row's match is spelt alike, else its record would not be found.
            assert_eq!(match_from_key(&mapping, key, &columns).unwrap().as_deref(), Some(shown));
        }
    }
    let whole = json!({ "match": { "p": { "column": "price", "type": "integer" } }, "fields": {},
        "tests": [{ "row": { "price": "7.5" }, "expect": { "p": 7 } }] });
    let whole = sync(whole);
    let mapping = compile(&whole);
    let of = |row: Result<Row, Rejection>| row.map(|it| it.matched).map_err(|it| (it.code, it.message));
    let refused = Err(("not_an_integer", "column price is not an integer".to_owned()));
    let mapped: Vec<_> = map_all(&mapping, &rows).into_iter().map(of).collect();
    assert_eq!(mapped, [refused, Ok(r#"{"p":7}"#.to_owned())]);
    assert_eq!(match_from_key(&mapping, &keys[0], &columns).unwrap(), None);
    let told: Vec<_> = mapping.run_tests(&whole.tests).into_iter().map(|it| it.message).collect();
    assert_eq!(told, ["expected 7, but the row is rejected: column price is not an integer"]);
}

proptest! {
    #[test]
    fn any_template_compiles_or_is_a_problem(template in "[{}%#a-z|~.'\"( )=_-]{0,40}") {
        let sync = fields(json!({ "f": { "expression": template } }));
        if let Ok(mapping) = Mapping::compile(&sync, None, &capabilities(ValueStyle::Json)) {
            let test = serde_json::from_value(json!({ "row": {}, "expect": { "f": "never" } })).unwrap();
            prop_assert!(mapping.run_tests(&[test]).len() <= 1);
        }
    }
}
