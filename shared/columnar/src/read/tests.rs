use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondBuilder,
};
use penstock_model::Key;
use penstock_model::change::Fingerprint;
use penstock_model::definition::Complete;
use penstock_model::run_plan::RunPlan;
use serde_json::json;

use super::*;
use crate::fingerprint::read_partition;
use crate::split::{Sizes, cut};
use crate::testing::{MemoryObjects, MemoryOpener, block_on, fingerprints_object, parquet_file};
use crate::unload::discover;

fn customers(objects: &Arc<MemoryObjects>, key: &str, ids: ArrayRef) {
    let rows = ids.len() as i64;
    let name = |at: i64| (at % 2 == 0).then(|| format!("name {at}"));
    let batch = RecordBatch::try_from_iter([
        ("Customer_ID", ids),
        ("name", Arc::new((0..rows).map(name).collect::<StringArray>()) as ArrayRef),
        ("noise", Arc::new((0..rows).collect::<Int64Array>())),
    ]);
    objects.insert(key, parquet_file(&[batch.unwrap()], 4));
}

fn plan(objects: &Arc<MemoryObjects>, compare: Option<&[&str]>) -> RunPlan {
    let opener = MemoryOpener(Arc::clone(objects));
    let found = block_on(discover(&opener, "s3://b/run/", Complete::AsListed)).unwrap();
    let splits = cut(&found.unload, Sizes { rows: 5, ..Sizes::default() });
    serde_json::from_value(json!({
        "version": RunPlan::VERSION,
        "run": { "sync": "s", "run": "r", "fence": 1 },
        "execution": "e",
        "started_at": 0,
        "options": {},
        "definition": {
            "name": "s",
            "sync": { "unload": "u", "connection": "c", "object": "o", "fields": { "Name": "name" } },
            "unload": { "location": "s3://b/run/", "primary_key": ["customer_id"] },
            "connection": { "connector": "postgres" },
            "connector": "postgres",
            "environment": null,
            "address": "postgres://localhost"
        },
        "mapping_hash": 0,
        "unload": found.unload,
        "columns": found.columns,
        "key_columns": found.columns.iter().filter(|column| column.name == "Customer_ID").collect::<Vec<_>>(),
        "hashed_columns": ["customer_id", "name"],
        "compare_columns": compare,
        "splits": splits,
        "partitions": 1,
        "snapshot": null,
        "pointer": null,
        "diff": "changes",
        "append": [],
        "remember": false
    }))
    .unwrap()
}

/// The fingerprints of a split in the order of rows.
fn prints_of(read: &SplitRead, split: u32) -> Vec<Fingerprint> {
    let objects = MemoryObjects::new();
    let keys = penstock_model::layout::RunKeys { sync: "s", run: "r" };
    for earlier in 0..split {
        objects.insert(&keys.fingerprints(earlier), fingerprints_object(&[], 1));
    }
    objects.insert(&keys.fingerprints(split), read.fingerprints.clone());
    let all = block_on(read_partition(objects.as_ref(), &keys, split + 1, 0, 1)).unwrap();
    let mut prints: Vec<Fingerprint> = all.iter().collect();
    prints.sort_by_key(|print| print.place);
    prints
}

#[test]
fn every_row_has_a_fingerprint_in_its_place() {
    let objects = MemoryObjects::new();
    customers(
        &objects,
        "run/a",
        Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4), Some(5), Some(6)])),
    );
    let plan = plan(&objects, None);
    assert_eq!(plan.splits.len(), 2);
    let reads: Vec<SplitRead> = (0..2)
        .map(|split| block_on(read_split_fingerprints(objects.as_ref(), &plan, split)).unwrap())
        .collect();
    assert_eq!(reads.iter().map(|read| read.rows).collect::<Vec<_>>(), [4, 2]);
    let prints: Vec<Fingerprint> =
        (0..).zip(&reads).flat_map(|(split, read)| prints_of(read, split)).collect();
    let places: Vec<(u32, u32)> = prints.iter().map(|print| (print.place.split, print.place.row)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]);
    assert!(prints[2].key.has_null());
    assert_eq!(reads[0].null_counts, BTreeMap::from([("customer_id".to_owned(), 1), ("name".to_owned(), 2)]));
    assert!(prints.iter().all(|print| print.compare_hash.is_none()));

    let error = block_on(read_split_fingerprints(objects.as_ref(), &plan, 2)).unwrap_err();
    assert!(matches!(error, ReadError::Plan { .. }));
}

#[test]
fn another_writer_and_another_cut_change_nothing() {
    let (one, other) = (MemoryObjects::new(), MemoryObjects::new());
    customers(&one, "run/a", Arc::new((0..30).collect::<Int64Array>()));
    customers(&other, "run/b", Arc::new((0..30).collect::<Int32Array>()));
    let prints = |objects: &Arc<MemoryObjects>, compare: Option<&[&str]>| -> Vec<(Key, u64, Option<u64>)> {
        let plan = plan(objects, compare);
        (0u32..)
            .zip(&plan.splits)
            .flat_map(|(split, _)| {
                let read = block_on(read_split_fingerprints(objects.as_ref(), &plan, split)).unwrap();
                prints_of(&read, split)
            })
            .map(|print| (print.key, print.row_hash, print.compare_hash))
            .collect()
    };
    let first = prints(&one, None);
    assert_eq!(first, prints(&other, None));
    let distinct: std::collections::BTreeSet<u64> = first.iter().map(|(_, hash, _)| *hash).collect();
    assert_eq!(distinct.len(), 30);

    let compared = prints(&one, Some(&["name", "customer_id"]));
    assert!(
        compared.iter().all(|(_, hash, compare)| Some(*hash) == *compare),
        "the order of names is nothing"
    );
    let compared = prints(&one, Some(&["noise"]));
    assert!(compared.iter().all(|(_, hash, compare)| Some(*hash) != *compare && compare.is_some()));
}

/// A table with timestamps without zone, plain and in a list, and with instants.
fn moments(objects: &Arc<MemoryObjects>) {
    let hour = 3_600_000_000_i64;
    let at: TimestampMicrosecondArray = (0..4).map(|n| (n != 2).then_some(n * hour)).collect();
    let mut lists = ListBuilder::new(TimestampMillisecondBuilder::new());
    (0..4_i64).for_each(|n| lists.append_value((0..n).map(|at| Some(at * 1_000))));
    let batch = RecordBatch::try_from_iter([
        ("Customer_ID", Arc::new((0..4).collect::<Int64Array>()) as ArrayRef),
        ("name", Arc::new(at.clone())),
        ("lists", Arc::new(lists.finish())),
        ("instants", Arc::new(at.with_timezone("UTC"))),
    ]);
    objects.insert("run/a", parquet_file(&[batch.unwrap()], 10));
}

/// The plan of a table of moments with an unload's `naive_timestamps`, compared with those of another.
fn plan_of_moments(
    objects: &Arc<MemoryObjects>,
    naive_timestamps: Option<&str>,
    then: Option<Option<&str>>,
) -> RunPlan {
    let hashed: Vec<String> = ["customer_id", "instants", "lists", "name"].map(str::to_owned).to_vec();
    let mut plan = plan(objects, None);
    let stated = std::mem::take(&mut plan.columns);
    let offset_s = |zone: Option<&str>| NaiveTimestamps::parse(zone).unwrap().zone_s();
    plan.compare_zone = then.map(|zone| CompareZone {
        naive_offset_s: offset_s(zone),
        columns: stated.iter().filter(|column| column.kind.has_naive()).cloned().collect(),
    });
    plan.compare_columns = then.map(|_| hashed.clone());
    plan.columns = crate::unload::with_zone(stated, naive_timestamps).unwrap();
    plan.definition.unload.naive_timestamps = naive_timestamps.map(str::to_owned);
    plan.hashed_columns = hashed;
    plan
}

#[test]
fn rows_are_compared_as_if_their_timestamps_were_still_of_the_zone_of_the_last_run() {
    let objects = MemoryObjects::new();
    moments(&objects);
    let prints = |plan: &RunPlan| {
        let read = block_on(read_split_fingerprints(objects.as_ref(), plan, 0)).unwrap();
        prints_of(&read, 0)
    };
    let zones = [None, Some("UTC"), Some("+02:00"), Some("-03:30")];
    for then in zones {
        let before: Vec<u64> =
            prints(&plan_of_moments(&objects, then, None)).iter().map(|print| print.row_hash).collect();
        for now in zones.into_iter().filter(|now| *now != then) {
            let today = prints(&plan_of_moments(&objects, now, Some(then)));
            let compared: Vec<u64> = today.iter().filter_map(|print| print.compare_hash).collect();
            assert_eq!(compared, before, "{then:?} and then {now:?}");
            let same = today.iter().zip(&before).filter(|(print, before)| print.row_hash == **before).count();
            assert_eq!(same, 0, "{then:?} and then {now:?}");
        }
    }
}

#[test]
fn a_plan_of_another_hash_version_is_not_carried_on() {
    let objects = MemoryObjects::new();
    customers(&objects, "run/a", Arc::new((0..3).collect::<Int64Array>()));
    let version = canonical::HASH_VERSION + 1;
    let hashing = mapping_change::Hashing { version, naive_offset_s: None, columns: Vec::new() };
    let plan = RunPlan { hashing: Some(hashing), ..plan(&objects, None) };
    let failure: Failure = block_on(read_split_fingerprints(objects.as_ref(), &plan, 0)).unwrap_err().into();
    assert_eq!(failure.name, FailureName::ContractMismatch);
    assert!(failure.message.contains("start a new run"), "{}", failure.message);
}

#[test]
fn a_plan_that_names_an_unpinned_column_is_out_of_step() {
    let objects = MemoryObjects::new();
    customers(&objects, "run/a", Arc::new((0..3).collect::<Int64Array>()));
    let plan = plan(&objects, Some(&["gone"]));
    let failure: Failure = block_on(read_split_fingerprints(objects.as_ref(), &plan, 0)).unwrap_err().into();
    assert_eq!(failure.name, FailureName::InvariantBroken);
    assert!(failure.message.contains("gone"));
}
