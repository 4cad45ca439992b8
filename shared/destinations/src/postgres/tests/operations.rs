//! What the operations do to the table, and what they say.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_model::FailureName;
use penstock_model::json::Json;
use penstock_model::operation::{Asks, Operation, OperationKind};
use penstock_model::outcome::Outcome;
use serde_json::json;

use super::support::{Bench, operations, word, words};
use crate::destination::Rest;
use crate::testing::{Memory, operation};

const COLUMNS: &str = "id int PRIMARY KEY, email text UNIQUE, name varchar(40), score int CHECK (score >= 0)";

#[tokio::test]
async fn upsert_says_what_it_created() {
    let bench = Bench::new("upsert", COLUMNS).await;
    bench.sql("INSERT INTO customers VALUES (1, 'a@x', 'Ann', 1), (2, 'b@x', 'Bob', 2)").await;
    let rows = [
        (json!({"id": 1}), json!({"name": "Ann", "score": 1})),
        (json!({"id": 2}), json!({"name": "Bobby", "score": 2})),
        (json!({"id": 3}), json!({"name": "Cid", "score": 3})),
        (json!({"id": null}), json!({"name": "Nil", "score": 0})),
    ];
    let ops = operations(OperationKind::Upsert, &rows);
    let memory = bench.deliver(&["id"], &["name", "score"], &ops).await.unwrap();
    assert_eq!(words(&memory), ["there", "there", "created", "null_match id"]);
    assert_eq!(memory.usage().requests, 1);
    assert_eq!(
        bench.lines("SELECT * FROM customers ORDER BY id").await,
        ["1|a@x|Ann|1", "2|b@x|Bobby|2", "3|-|Cid|3"]
    );
}

#[tokio::test]
async fn create_and_update_leave_the_others_alone() {
    let bench = Bench::new("create", COLUMNS).await;
    bench.sql("INSERT INTO customers VALUES (1, 'a@x', 'Ann', 1), (3, 'c@x', 'Cid', 3)").await;
    let rows = [(json!({"id": 1}), json!({"name": "New"})), (json!({"id": 2}), json!({"name": "New"}))];
    let memory = bench.deliver(&["id"], &["name"], &operations(OperationKind::Create, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["Exists", "created"]);

    let rows = [
        (json!({"id": 1}), json!({"name": "Ann", "score": 1})),
        (json!({"id": 2}), json!({"name": "Bob", "score": 5})),
        (json!({"id": 9}), json!({"name": "Nobody", "score": 1})),
        (json!({"id": 3}), json!({})),
        (json!({"id": 8}), json!({})),
    ];
    let memory =
        bench.deliver(&["id"], &["name", "score"], &operations(OperationKind::Update, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["there", "there", "Missing", "there", "Missing"]);
    assert_eq!(
        bench.lines("SELECT * FROM customers ORDER BY id").await,
        ["1|a@x|Ann|1", "2|-|Bob|5", "3|c@x|Cid|3"]
    );
}

#[tokio::test]
async fn a_field_that_is_not_empty_is_left_alone() {
    let bench = Bench::new("if empty", COLUMNS).await;
    bench.sql("INSERT INTO customers VALUES (1, 'a@x', 'Ann', 1), (2, 'b@x', NULL, 2)").await;
    let fill = |n, kind, id: u32, name: Option<&str>| Operation {
        asks: name.map(|name| {
            let if_empty = Some(Json::of(&json!({"name": name})).unwrap());
            Box::new(Asks { if_empty, lookups: None })
        }),
        ..operation(n, kind, &json!({"id": id}), &json!({"score": 5}))
    };
    let definition = {
        let mut definition = bench.definition(&["id"], &["name", "score"]);
        let field = json!({"column": "name", "write": "if_empty"});
        definition.sync.fields.insert("name".to_owned(), serde_json::from_value(field).unwrap());
        definition
    };
    for (kind, operations) in [
        (OperationKind::Upsert, [(1, Some("New")), (2, Some("New")), (3, Some("New")), (4, None)]),
        (OperationKind::Update, [(1, Some("Newer")), (2, None), (3, Some("Newer")), (4, Some("Newer"))]),
    ] {
        let operations: Vec<_> =
            (0..).zip(operations).map(|(n, (id, name))| fill(n, kind, id, name)).collect();
        let memory = Memory::default();
        let work = bench.work(&operations, Duration::from_secs(60), &memory);
        assert_eq!(bench.open_as(&definition).deliver(work).await.unwrap(), Rest::Nothing);
        assert_eq!(memory.usage().requests, 1, "rows without the field share the statement");
    }
    assert_eq!(
        bench.lines("SELECT id, name, score FROM customers ORDER BY id").await,
        ["1|Ann|5", "2|New|5", "3|New|5", "4|Newer|5"]
    );
}

#[tokio::test]
async fn clear_and_delete_say_what_is_missing() {
    let bench = Bench::new("delete", COLUMNS).await;
    bench.sql("INSERT INTO customers VALUES (1, 'a@x', 'Ann', 1), (2, 'b@x', 'Bob', 2)").await;
    let rows = [(json!({"id": 1}), json!({"name": null})), (json!({"id": 7}), json!({"name": null}))];
    let memory = bench.deliver(&["id"], &["name"], &operations(OperationKind::Clear, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["there", "Missing"]);

    let rows = [(json!({"id": 2}), json!({})), (json!({"id": 7}), json!({}))];
    let memory = bench.deliver(&["id"], &["name"], &operations(OperationKind::Delete, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["accepted", "Missing"]);
    assert_eq!(bench.one("SELECT * FROM customers").await, "1|a@x|-|1");
}

#[tokio::test]
async fn append_adds_and_announces_what_it_adds() {
    let bench = Bench::new("append", "id int, name varchar(3), at timestamptz DEFAULT 'epoch'").await;
    let rows = [
        (json!({}), json!({"id": 1, "name": "Ann"})),
        (json!({}), json!({"id": 1, "name": "Ann"})),
        (json!({}), json!({"id": 2, "name": "far too long"})),
        (json!({}), json!({"id": 3})),
    ];
    let memory =
        bench.deliver(&[], &["id", "name"], &operations(OperationKind::Append, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["created", "created", "22001", "created"]);
    let mut intents = memory.intents.lock().unwrap().clone();
    intents.sort_unstable();
    assert_eq!(intents, [0, 1, 3]);
    assert_eq!(
        bench.lines("SELECT id, name, at = 'epoch' FROM customers ORDER BY id").await,
        ["1|Ann|t", "1|Ann|t", "3|-|t"]
    );
}

#[tokio::test]
async fn a_bad_row_is_found_among_many() {
    let bench = Bench::new("halving", COLUMNS).await;
    let bad = [0, 77, 78, 500, 999];
    let rows: Vec<_> = (0..1000)
        .map(|id| (json!({"id": id}), json!({"score": if bad.contains(&id) { -1 } else { 1 }, "name": "x"})))
        .collect();
    let memory =
        bench.deliver(&["id"], &["name", "score"], &operations(OperationKind::Upsert, &rows)).await.unwrap();
    for (n, outcome) in memory.outcomes() {
        assert_eq!(word(&outcome), if bad.contains(&n) { "23514" } else { "created" }, "{n}");
    }
    assert_eq!(bench.one("SELECT count(*) FROM customers").await, "995");
    assert!(memory.usage().requests < 100, "{:?}", memory.usage());
}

#[tokio::test]
async fn another_unique_column_rejects_the_row_without_its_detail() {
    let bench = Bench::new("conflict", COLUMNS).await;
    bench.sql("INSERT INTO customers VALUES (1, 'secret@x', 'Ann', 1)").await;
    let rows =
        [(json!({"id": 2}), json!({"email": "secret@x"})), (json!({"id": 3}), json!({"email": "other@x"}))];
    for kind in [OperationKind::Upsert, OperationKind::Create] {
        bench.sql("DELETE FROM customers WHERE id > 1").await;
        let memory = bench.deliver(&["id"], &["email"], &operations(kind, &rows)).await.unwrap();
        assert_eq!(words(&memory), ["23505", "created"]);
        let Outcome::Rejected { message, .. } = &memory.outcomes()[&0] else { panic!("not rejected") };
        assert!(message.contains("customers_email_key") && !message.contains("secret@x"), "{message}");
    }
}

#[tokio::test]
async fn rows_of_different_fields_keep_what_they_do_not_name() {
    let bench = Bench::new("fields", "id int PRIMARY KEY, a int, b int DEFAULT 7, c json").await;
    bench
        .sql("INSERT INTO customers VALUES (1, 10, 20, '[1]'), (2, 10, 20, '[2]'), (3, 10, 20, '[3]')")
        .await;
    let rows = [
        (json!({"id": 1}), json!({"a": 11})),
        (json!({"id": 2}), json!({"c": {"x": 1}})),
        (json!({"id": 3}), json!({"a": null})),
        (json!({"id": 4}), json!({"a": 14, "c": [4]})),
        (json!({"id": 5}), json!({"b": null})),
        (json!({"id": 6}), json!({})),
    ];
    let memory =
        bench.deliver(&["id"], &["a", "b", "c"], &operations(OperationKind::Upsert, &rows)).await.unwrap();
    assert_eq!(words(&memory), ["there", "there", "there", "created", "created", "created"]);
    assert_eq!(
        bench.lines("SELECT * FROM customers ORDER BY id").await,
        ["1|11|20|[1]", "2|10|20|{\"x\":1}", "3|-|20|[3]", "4|14|7|[4]", "5|-|-|-", "6|-|7|-"]
    );

    let rows = [(json!({"id": 1}), json!({"c": [9]})), (json!({"id": 4}), json!({"a": 15}))];
    let memory =
        bench.deliver(&["id"], &["a", "b", "c"], &operations(OperationKind::Update, &rows)).await.unwrap();
    assert_eq!(memory.usage().requests, 1);
    assert_eq!(
        bench.lines("SELECT * FROM customers WHERE id IN (1, 4) ORDER BY id").await,
        ["1|11|20|[9]", "4|15|7|[4]"]
    );
}

#[tokio::test]
async fn a_match_twice_in_a_chunk_is_carried_out_in_order() {
    let bench = Bench::new("twice", "id numeric PRIMARY KEY, name text").await;
    let mut ops = operations(
        OperationKind::Upsert,
        &[
            (json!({"id": 1}), json!({"name": "first"})),
            (json!({"id": 1}), json!({"name": "second"})),
            (json!({"id": 2}), json!({"name": "gone"})),
            // Equal for the database, not for the eye: SQLSTATE 21000, then halved.
            (json!({"id": "3"}), json!({"name": "three"})),
            (json!({"id": "3.0"}), json!({"name": "three point nought"})),
        ],
    );
    ops.push(operation(5, OperationKind::Delete, &json!({"id": 2}), &json!({})));
    ops.push(operation(6, OperationKind::Upsert, &json!({"id": 1}), &json!({"name": "third"})));
    let memory = bench.deliver(&["id"], &["name"], &ops).await.unwrap();
    assert_eq!(words(&memory), ["created", "there", "created", "created", "there", "accepted", "there"]);
    assert_eq!(
        bench.lines("SELECT id::int, name FROM customers ORDER BY id").await,
        ["1|third", "3|three point nought"]
    );
}

#[tokio::test]
async fn a_partitioned_table_with_a_match_of_two_columns() {
    let bench = Bench::new("partitions", "unused int").await;
    bench
        .sql(
            "DROP TABLE customers; CREATE TABLE customers (tenant char(4), \"User Id\" uuid, name text, \
             PRIMARY KEY (\"User Id\", tenant)) PARTITION BY HASH (tenant); \
             CREATE TABLE p0 PARTITION OF customers FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
             CREATE TABLE p1 PARTITION OF customers FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        )
        .await;
    let user = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let rows = |name: &str| -> Vec<_> {
        ["aa", "bb", "cc", "d "]
            .iter()
            .map(|tenant| (json!({"tenant": tenant, "User Id": user.to_uppercase()}), json!({"name": name})))
            .collect()
    };
    let matched = ["tenant", "User Id"];
    let ops = operations(OperationKind::Upsert, &rows("one"));
    assert_eq!(words(&bench.deliver(&matched, &["name"], &ops).await.unwrap()), ["created"; 4]);
    let ops = operations(OperationKind::Upsert, &rows("two"));
    assert_eq!(words(&bench.deliver(&matched, &["name"], &ops).await.unwrap()), ["there"; 4]);
    let ops = operations(OperationKind::Delete, &rows("two"));
    assert_eq!(words(&bench.deliver(&matched, &["name"], &ops).await.unwrap()), ["accepted"; 4]);
    assert_eq!(bench.one("SELECT count(*) FROM customers").await, "0");
}

#[tokio::test]
async fn a_mapping_that_does_not_fit_says_what_to_do() {
    let bench = Bench::new(
        "mapping",
        "id int PRIMARY KEY, tenant int, name text, twice int GENERATED ALWAYS AS (id * 2) STORED, \
         serial int GENERATED ALWAYS AS IDENTITY",
    )
    .await;
    bench.sql("CREATE UNIQUE INDEX ON customers (tenant) WHERE name IS NULL").await;
    let upsert = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"name": "x"}))]);
    let schema = &bench.schema;
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&["id"], &["Name", "name", "nick"], &["\"Name\", \"nick\"", "customers"]),
        (&["id"], &["twice", "serial"], &["\"serial\", \"twice\""]),
        (&["id"], &["name.first"], &["\"name\" (text)"]),
        (
            &["tenant"],
            &["name"],
            &["CREATE UNIQUE INDEX ON", &format!("\"{schema}\".\"customers\" (\"tenant\")")],
        ),
        (&["id", "tenant"], &["name"], &["(\"id\", \"tenant\")"]),
    ];
    for (matched, fields, parts) in cases {
        let failure = bench.deliver(matched, fields, &upsert).await.unwrap_err();
        assert_eq!(failure.name, FailureName::MappingInvalid, "{failure}");
        for part in *parts {
            assert!(failure.message.contains(part), "{failure}");
        }
    }
    // What an operation names beyond the definition.
    let odd = operations(OperationKind::Upsert, &[(json!({"id": 1}), json!({"odd": "x"}))]);
    let failure = bench.deliver(&["id"], &["name"], &odd).await.unwrap_err();
    assert_eq!(failure.name, FailureName::MappingInvalid);
    assert!(failure.message.contains("\"odd\""), "{failure}");
    // To find rows, neither a unique index nor a column that can be written is needed.
    let update = operations(OperationKind::Update, &[(json!({"twice": 4}), json!({"name": "x"}))]);
    assert_eq!(words(&bench.deliver(&["twice"], &["name"], &update).await.unwrap()), ["Missing"]);

    bench.sql("DROP TABLE customers").await;
    let failure = bench.deliver(&["id"], &["name"], &upsert).await.unwrap_err();
    assert_eq!(failure.name, FailureName::MappingInvalid, "{failure}");
}

#[tokio::test]
async fn ten_thousand_rows_go_out_in_big_statements() {
    let bench =
        Bench::new("many", "id int PRIMARY KEY, a text, b numeric(18,2), c timestamptz, d text").await;
    let rows = |step: i64| -> Vec<Operation> {
        let rows: Vec<_> = (0..10_000_i64)
            .map(|id| {
                let mut fields = json!({"b": format!("{}.25", id * step), "c": "2024-02-29T00:00:00Z"});
                if id % 3 > 0 {
                    fields["a"] = json!(format!("customer number {id}"));
                }
                if id % 5 > 0 {
                    fields["d"] = json!("d");
                }
                (json!({"id": id}), fields)
            })
            .collect();
        operations(OperationKind::Upsert, &rows)
    };
    let fields = ["a", "b", "c", "d"];
    for (step, expected) in [(1, "created"), (1, "there"), (2, "there")] {
        let ops = rows(step);
        let begin = jiff::Timestamp::now();
        let memory = bench.deliver(&["id"], &fields, &ops).await.unwrap();
        let seconds = jiff::Timestamp::now().duration_since(begin).as_secs_f64();
        println!("10,000 rows {expected} in {seconds:.2} s");
        assert!(words(&memory).iter().all(|word| word == expected));
        assert_eq!(memory.usage().requests, 10);
        assert!(seconds < 20.0);
    }
    assert_eq!(bench.one("SELECT sum(b), count(a) FROM customers").await, "99992500.00|6666");
}

#[tokio::test]
async fn the_table_ends_as_if_each_operation_had_come_alone() {
    let bench = Bench::new("law", "id int PRIMARY KEY, a int, b int, c int DEFAULT 5").await;
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..25 {
        bench.sql("TRUNCATE customers").await;
        let mut table: BTreeMap<u64, BTreeMap<&str, Option<u64>>> = BTreeMap::new();
        let (mut ops, mut expected) = (Vec::new(), Vec::new());
        for n in 0..40 {
            use OperationKind::{Clear, Create, Delete, Update, Upsert};
            let kind = match random(7) {
                0 => Create,
                1 => Update,
                2 => Clear,
                3 => Delete,
                _ => Upsert,
            };
            let id = random(8);
            let mut fields = BTreeMap::new();
            for name in ["a", "b", "c"] {
                match random(4) {
                    0 => {}
                    1 => drop(fields.insert(name, None)),
                    _ => drop(fields.insert(name, (kind != Clear).then(|| random(3)))),
                }
            }
            ops.push(operation(n, kind, &json!({"id": id}), &json!(fields)));
            let there = table.contains_key(&id);
            expected.push(match (kind, there) {
                (Upsert | Create, false) => "created",
                (Upsert | Update | Clear, true) => "there",
                (Create, true) => "Exists",
                (Delete, true) => "accepted",
                _ => "Missing",
            });
            match (kind, there) {
                (Delete, _) => drop(table.remove(&id)),
                (Create, true) | (Update | Clear, false) => {}
                _ => {
                    let row =
                        table.entry(id).or_insert(BTreeMap::from([("a", None), ("b", None), ("c", Some(5))]));
                    row.extend(fields);
                }
            }
        }
        let memory = bench.deliver(&["id"], &["a", "b", "c"], &ops).await.unwrap();
        assert_eq!(words(&memory), expected);
        let rows: Vec<String> = table
            .iter()
            .map(|(id, row)| {
                let cells: Vec<_> =
                    row.values().map(|v| v.map_or("-".to_owned(), |v| v.to_string())).collect();
                format!("{id}|{}", cells.join("|"))
            })
            .collect();
        assert_eq!(bench.lines("SELECT * FROM customers ORDER BY id").await, rows);
    }
}

#[tokio::test]
async fn a_fenced_push_sends_nothing_more() {
    let mut bench = Bench::new("fence", COLUMNS).await;
    bench.connection =
        json!({"connector": "postgres", "limits": {"rows_per_request": 10, "requests_in_flight": 1}});
    let rows: Vec<_> = (0..100).map(|id| (json!({"id": id}), json!({"score": id}))).collect();
    let memory = Memory::fenced_after(3);
    let failure = bench
        .open(&["id"], &["score"])
        .deliver(bench.work(&operations(OperationKind::Upsert, &rows), Duration::from_secs(30), &memory))
        .await
        .unwrap_err();
    assert_eq!(failure.name, FailureName::Superseded);
    assert_eq!(memory.outcomes().len(), 30);
    assert_eq!(bench.one("SELECT count(*) FROM customers").await, "30");
}

#[tokio::test]
async fn nothing_to_deliver_asks_nobody() {
    let mut bench = Bench::new("nothing", COLUMNS).await;
    bench.address = "postgres://nobody@127.0.0.1:1/nowhere".into();
    let memory = Memory::default();
    let rest = bench
        .open(&["id"], &["score"])
        .deliver(bench.work(&[], Duration::from_secs(30), &memory))
        .await
        .unwrap();
    assert_eq!(rest, Rest::Nothing);
}
