use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use penstock_model::change::{ChangeKind, Place, Previous, REMOVED};
use penstock_model::connector::{Connector, ValueStyle};
use penstock_model::contract::{RunOptions, RunRef};
use penstock_model::definition::{ResolvedSync, Sync};
use penstock_model::key::KeyValue;
use penstock_model::operation::Operation;
use penstock_model::run_plan::DiffMode;
use penstock_model::snapshot::Identity;
use penstock_model::unload::{Column, ColumnType, Piece, PinnedUnload, Split, UnloadFile};
use penstock_model::{Key, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::mapping::tests::{capabilities, sync};
use crate::testing::{MemoryObjects, block_on};

/// Two splits of one file: rows 0 to 3 in two row groups, rows 4 and 5 in a third.
fn unload() -> (Arc<MemoryObjects>, PinnedUnload, Vec<Split>) {
    let ids: ArrayRef =
        Arc::new(Int64Array::from(vec![Some(10), Some(11), Some(12), Some(13), Some(14), None]));
    let names: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("d"), Some("secret"), Some("f")]));
    let seen: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0; 6]));
    let unused: ArrayRef = Arc::new(Int64Array::from(vec![0; 6]));
    let batch =
        RecordBatch::try_from_iter([("ID", ids), ("Name", names), ("seen", seen), ("unused", unused)])
            .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let size = bytes.len() as u64;
    let objects = MemoryObjects::new();
    let etag = objects.insert("u/1.parquet", bytes);
    let file = UnloadFile {
        key: "u/1.parquet".into(),
        size,
        etag,
        rows: 6,
        row_groups: vec![2, 2, 2],
        row_group_bytes: vec![],
        naive_int96: vec![],
        partition_values: BTreeMap::new(),
    };
    let pinned = PinnedUnload {
        root: "memory".into(),
        prefix: "u/".into(),
        identity: "1".into(),
        completed_at: Timestamp(0),
        files: vec![file],
    };
    let split = |first_row_group, row_groups: u32| Split {
        pieces: vec![Piece { file: 0, first_row_group, row_groups, rows: row_groups * 2 }],
        rows: row_groups * 2,
    };
    (objects, pinned, vec![split(0, 2), split(2, 1)])
}

fn plan(sync: &Sync) -> (Arc<MemoryObjects>, RunPlan) {
    let (objects, unload, splits) = unload();
    let column = |name: &str, kind| Column { name: name.into(), kind };
    let definition = ResolvedSync {
        name: "s".into(),
        sync: sync.clone(),
        unload: serde_json::from_value(
            json!({ "location": "u/", "primary_key": ["id"], "naive_timestamps": "+02:00" }),
        )
        .unwrap(),
        connection: serde_json::from_value(json!({ "connector": "postgres" })).unwrap(),
        connector: Connector::Postgres,
        environment: None,
        address: String::new(),
    };
    let plan = RunPlan {
        version: RunPlan::VERSION,
        run: RunRef { sync: "s".into(), run: "r".into(), fence: 1 },
        execution: "e".into(),
        started_at: Timestamp(0),
        options: RunOptions::default(),
        definition,
        mapping_hash: 0,
        unload,
        columns: vec![
            column("ID", ColumnType::Int),
            column("Name", ColumnType::Text),
            column("seen", ColumnType::Instant),
        ],
        key_columns: vec![column("ID", ColumnType::Int)],
        hashed_columns: Vec::new(),
        compare_columns: None,
        hashing: None,
        compare_zone: None,
        splits,
        partitions: 1,
        snapshot: None,
        pointer: None,
        diff: DiffMode::Changes,
        append: Vec::new(),
        remember: false,
    };
    (objects, plan)
}

fn mapping(sync: &Sync) -> Mapping {
    Mapping::compile(sync, None, &capabilities(ValueStyle::Json)).unwrap()
}

fn change(kind: ChangeKind, id: i128, split: u32, row: u32) -> Change {
    let key = Key::of(&[if id == 0 { KeyValue::Null } else { KeyValue::Int(id) }]);
    let previous = Previous { accepted: (kind == ChangeKind::Changed).then_some(1), maybe_present: false };
    Change { kind, key, place: Place { split, row }, row_hash: 1, previous }
}

fn lines(transformed: &[Transformed]) -> Vec<Value> {
    transformed.iter().map(shown).collect()
}

fn shown(row: &Transformed) -> Value {
    match row {
        Transformed::Operation(Operation { n, kind, key, matched, id, fields, asks }) => {
            let mut operation =
                json!({ "n": n, "kind": kind, "key": key, "match": matched, "fields": fields });
            if let Some(id) = id {
                operation["id"] = json!(id);
            }
            if let Some(asks) = asks {
                operation["asks"] = json!(asks);
            }
            json!({ "operation": operation })
        }
        Transformed::Rejected(rejected) => json!({ "rejected": rejected }),
        Transformed::Skipped(skipped) => json!({ "skipped": skipped }),
    }
}

/// All that [`rows`] hands on.
fn all_rows(
    objects: &MemoryObjects,
    plan: &RunPlan,
    mapping: &Mapping,
    changes: &[Change],
) -> Result<Vec<Transformed>, TransformError> {
    let mut all = Vec::new();
    let each = |some: Vec<Transformed>| {
        all.extend(some);
        Ok::<_, TransformError>(())
    };
    block_on(rows(objects, objects, plan, mapping, changes, each))?;
    Ok(all)
}

fn mapped(definition: Value, changes: &[Change]) -> Vec<Value> {
    let sync = sync(definition);
    let (objects, plan) = plan(&sync);
    lines(&all_rows(&objects, &plan, &mapping(&sync), changes).unwrap())
}

#[test]
fn rows_are_handed_on_some_at_a_time_and_none_is_left_out() {
    let sync = sync(json!({ "fields": { "n": "name" } }));
    let (objects, plan) = plan(&sync);
    let changes: Vec<Change> =
        (0..1000_u32).map(|n| change(ChangeKind::Added, i128::from(n) + 1, 0, n % 4)).collect();
    let (mut seen, mut handed) = (Vec::new(), 0);
    let each = |some: Vec<Transformed>| {
        handed += 1;
        seen.extend(some.iter().map(|row| match row {
            Transformed::Operation(operation) => (operation.n, operation.key.get().to_owned()),
            Transformed::Rejected(_) | Transformed::Skipped(_) => unreachable!(),
        }));
        Ok::<_, TransformError>(())
    };
    block_on(rows(objects.as_ref(), objects.as_ref(), &plan, &mapping(&sync), &changes, each)).unwrap();
    assert!(handed > 1);
    let expected = (0..1000).map(|n| (n, format!("{{\"ID\":{}}}", n + 1)));
    assert!(seen.into_iter().eq(expected));
}

#[test]
fn each_change_comes_to_one_line_in_its_place() {
    let definition = json!({ "fields": { "n": { "column": "name" }, "at": "seen" } });
    let changes = [
        change(ChangeKind::Added, 14, 1, 0),
        change(ChangeKind::DuplicateKey, 11, 0, 1),
        change(ChangeKind::Changed, 12, 0, 2),
        change(ChangeKind::NullKey, 0, 1, 1),
        change(ChangeKind::Added, 10, 0, 0),
    ];
    let operation = |n, id, fields: Value| json!({ "operation": { "n": n, "kind": "upsert", "key": { "ID": id }, "match": { "id": id }, "fields": fields } });
    let at = "1969-12-31T22:00:00.000000Z";
    assert_eq!(
        mapped(definition, &changes),
        [
            operation(0, 14, json!({ "n": "secret", "at": at })),
            json!({ "rejected": { "n": 1, "key": { "ID": 11 }, "stage": "diff", "code": "duplicate_key", "message": "several rows share this primary key" } }),
            operation(2, 12, json!({ "at": at })),
            json!({ "rejected": { "n": 3, "key": { "ID": null }, "stage": "diff", "code": "null_key", "message": "a column of the primary key is null" } }),
            operation(4, 10, json!({ "n": "a", "at": at })),
        ]
    );
}

#[test]
fn the_mode_decides_what_is_done() {
    let changes = [change(ChangeKind::Added, 10, 0, 0), change(ChangeKind::Changed, 12, 0, 2)];
    let kinds = |mode: &str| {
        let lines = mapped(json!({ "mode": mode, "fields": { "n": "name" } }), &changes);
        let word = |line: &Value| {
            line.pointer("/operation/kind")
                .or_else(|| line.pointer("/skipped/why"))
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        };
        lines.iter().map(word).collect::<Vec<_>>()
    };
    assert_eq!(kinds("upsert"), ["upsert", "upsert"]);
    assert_eq!(kinds("create_only"), ["create", "exists"]);
    // Row 2 has no name: there is nothing to update.
    assert_eq!(kinds("update_only"), ["update", "nothing_to_say"]);
    assert_eq!(kinds("append"), ["append", "append"]);

    let mut in_doubt = change(ChangeKind::Changed, 10, 0, 0);
    in_doubt.previous = Previous { accepted: None, maybe_present: true };
    let lines = mapped(json!({ "mode": "create_only", "fields": { "n": "name" } }), &[in_doubt]);
    assert_eq!(lines[0].pointer("/operation/kind"), Some(&json!("create")));
}

#[test]
fn a_row_that_can_not_be_mapped_is_rejected_without_its_value() {
    let definition = json!({ "fields": { "n": { "column": "name", "type": "integer" } } });
    let lines = mapped(definition, &[change(ChangeKind::Added, 14, 1, 0)]);
    let rejected = json!({ "rejected": { "n": 0, "key": { "ID": 14 }, "stage": "transform", "code": "not_an_integer", "message": "column name is not an integer", "field": "n" } });
    assert_eq!(lines, [rejected]);
}

#[test]
fn rows_that_are_not_there_fail_the_chunk() {
    let sync = sync(json!({ "fields": { "n": "name" } }));
    let (objects, plan) = plan(&sync);
    let mapping = mapping(&sync);
    for (split, row) in [(9, 0), (1, 2)] {
        let changes = [change(ChangeKind::Added, 1, split, row)];
        let error = all_rows(&objects, &plan, &mapping, &changes).unwrap_err();
        assert_eq!(Failure::from(error).name, FailureName::ChunkUnreadable, "{split} {row}");
    }
    let damaged = Change { key: Key::from_bytes(vec![99]), ..change(ChangeKind::Added, 1, 0, 0) };
    let error = all_rows(&objects, &plan, &mapping, &[damaged]).unwrap_err();
    assert_eq!(Failure::from(error).name, FailureName::ChunkUnreadable);
}

#[test]
fn every_row_of_a_range_is_appended() {
    let sync = sync(json!({ "mode": "append", "match": {}, "fields": { "n": "name" } }));
    let (objects, plan) = plan(&sync);
    let work = LedgerEntry { unload: plan.unload.clone(), splits: plan.splits.clone(), pending: Vec::new() };
    let range = RowRange { split: 1, from: 0, to: 2 };
    let mut transformed = Vec::new();
    let each = |some: Vec<Transformed>| {
        transformed.extend(some);
        Ok::<_, TransformError>(())
    };
    block_on(append(objects.as_ref(), &plan, &mapping(&sync), &work, range, each)).unwrap();
    let operation = |n, id: Value, name| json!({ "operation": { "n": n, "kind": "append", "key": { "ID": id }, "match": {}, "fields": { "n": name } } });
    assert_eq!(lines(&transformed), [operation(0, json!(14), "secret"), operation(1, Value::Null, "f")]);
}

fn removed(definition: Value, identity: Option<Identity>) -> Value {
    let sync = sync(definition);
    let (_, plan) = plan(&sync);
    let change = change(ChangeKind::Removed, 7, REMOVED, 0);
    let identities: HashMap<Key, Identity> = identity.into_iter().map(|it| (it.key.clone(), it)).collect();
    lines(&removals(&plan, &mapping(&sync), &[change], &identities).unwrap()).remove(0)
}

fn identity(created: bool, id: Option<&str>, matched: Option<Value>) -> Option<Identity> {
    Some(Identity {
        key: Key::of(&[KeyValue::Int(7)]),
        id: id.map(str::to_owned),
        created,
        matched: matched.map(|matched| matched.as_object().unwrap().clone()),
    })
}

#[test]
fn removals_touch_what_is_ours_unless_told_otherwise() {
    let by_key =
        |on_removed: Value| json!({ "on_removed": on_removed, "fields": { "n": "name", "a.b": "name" } });
    let by_name = |on_removed: Value| json!({ "match": { "m": "name" }, "on_removed": on_removed, "fields": { "n": "id" } });
    let operation = |kind: &str, matched: Value, id: Option<&str>, fields: Value| {
        let mut operation =
            json!({ "n": 0, "kind": kind, "key": { "ID": 7 }, "match": matched, "fields": fields });
        if let Some(id) = id {
            operation["id"] = json!(id);
        }
        json!({ "operation": operation })
    };
    let skipped = |why: &str| json!({ "skipped": { "n": 0, "why": why } });
    let key = || json!({ "id": 7 });
    let cases = [
        (by_key(json!("nothing")), None, skipped("nothing_to_say")),
        (by_key(json!("delete")), None, skipped("not_ours")),
        (by_key(json!("delete")), identity(false, None, None), skipped("not_ours")),
        (by_key(json!("delete")), identity(true, None, None), operation("delete", key(), None, json!({}))),
        (by_key(json!({ "delete": "any" })), None, operation("delete", key(), None, json!({}))),
        (
            by_key(json!("archive")),
            identity(true, Some("x1"), None),
            operation("archive", key(), Some("x1"), json!({})),
        ),
        (
            by_name(json!("archive")),
            identity(true, Some("x1"), None),
            operation("archive", json!({}), Some("x1"), json!({})),
        ),
        (
            by_name(json!({ "delete": "any" })),
            identity(false, None, Some(json!({ "m": "Ann" }))),
            operation("delete", json!({ "m": "Ann" }), None, json!({})),
        ),
        (
            by_key(json!({ "clear": ["a.b", "n"] })),
            None,
            operation("clear", key(), None, json!({ "a": { "b": null }, "n": null })),
        ),
    ];
    for (definition, identity, expected) in cases {
        let shown = definition["on_removed"].to_string();
        assert_eq!(removed(definition, identity), expected, "{shown}");
    }
    let code = |line: Value| line.pointer("/rejected/code").and_then(Value::as_str).map(str::to_owned);
    assert_eq!(
        code(removed(by_key(json!("archive")), identity(true, None, None))).as_deref(),
        Some("id_unknown")
    );
    assert_eq!(code(removed(by_name(json!({ "delete": "any" })), None)).as_deref(), Some("match_unknown"));
}
