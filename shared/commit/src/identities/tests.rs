use std::collections::{BTreeMap, BTreeSet};

use penstock_model::key::KeyValue;
use penstock_model::port::Condition;
use penstock_model::snapshot::IdentityLayer;
use penstock_store::{MemoryObjects, lines};
use proptest::prelude::*;
use serde_json::json;

use super::layers::Limits;
use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// The plan of a run with this fence, after a commit that left these layers.
fn plan(fence: u64, layers: &[IdentityLayer], old_files: &[String]) -> RunPlan {
    let binding = json!({
        "connector": "c", "account": "a", "object": "o", "primary_key": ["id"], "match_fields": []
    });
    serde_json::from_value(json!({
        "version": 1, "run": { "sync": "s", "run": format!("r{fence}"), "fence": fence }, "execution": "e",
        "started_at": 0, "options": {},
        "definition": {
            "name": "s",
            "sync": { "unload": "u", "connection": "c", "object": "o", "fields": { "name": "name" } },
            "unload": { "location": "s3://b/run/", "primary_key": ["id"] },
            "connection": { "connector": "postgres" }, "connector": "postgres", "environment": null,
            "address": "postgres://localhost"
        },
        "mapping_hash": 0,
        "unload": { "root": "s3://b", "prefix": "p", "identity": "u", "completed_at": 0, "files": [] },
        "columns": [], "key_columns": [], "hashed_columns": [], "compare_columns": null, "splits": [],
        "partitions": 1,
        "snapshot": {
            "version": 1, "sync": "s", "run": "before", "generation": "g", "binding": binding,
            "unload": { "identity": "u", "prefix": "p", "completed_at": 0 },
            "key_columns": [], "hashed_columns": [], "mapping_hash": 7, "partitions": [], "overlay": [],
            "identities": old_files, "identity_layers": layers, "null_counts": {}, "rows": 0, "ledger": [],
            "committed_at": 0
        },
        "pointer": null, "diff": "changes", "append": [], "remember": true
    }))
    .unwrap()
}

/// Whether we created it, its id, and its match value.
type Said = (bool, Option<u8>, Option<u8>);

fn identity(key: u8, said: Said) -> Identity {
    let (created, id, matched) = said;
    let matched = matched.map(|value| serde_json::Map::from_iter([("m".to_owned(), json!(value))]));
    Identity {
        key: Key::of(&[KeyValue::Int(i128::from(key))]),
        id: id.map(|id| id.to_string()),
        created,
        matched,
    }
}

/// What is known of records, tombstones left out.
fn known(identities: HashMap<Key, Identity>) -> BTreeMap<u128, Identity> {
    let all = identities.into_iter().filter(|(_, identity)| !is_tombstone(identity));
    all.map(|(key, identity)| (key.hash(), identity)).collect()
}

fn files(layers: &[IdentityLayer]) -> BTreeSet<String> {
    layers.iter().flat_map(|layer| &layer.files).map(|file| file.key.clone()).collect()
}

/// What some runs learn of keys, one after the other.
fn runs() -> impl Strategy<Value = Vec<Vec<(u8, Said)>>> {
    let one = (any::<bool>(), any::<Option<u8>>(), prop::option::of(0_u8..3));
    // A key is changed once a run.
    let run = prop::collection::btree_map(0_u8..30, one, 0..25).prop_map(|all| all.into_iter().collect());
    prop::collection::vec(run, 1..12)
}

proptest! {
    #[test]
    fn layers_say_what_all_runs_have_learned_however_they_are_merged(
        runs in runs(), held in 1_usize..12, file_bytes in 1_usize..300, most in 1_usize..4,
    ) {
        let objects = MemoryObjects::default();
        let limits = Limits { held, file_bytes, layers: most };
        let every: HashSet<Key> = (0..30).map(|key| identity(key, (true, None, None)).key).collect();
        let (mut layers, mut expected) = (Vec::new(), HashMap::new());
        for (fence, run) in (1..).zip(runs) {
            let plan = plan(fence, &layers, &[]);
            let mut learning = IdentityLayers::within(&objects, &plan, "n", limits);
            for (key, said) in run {
                learn(&mut expected, identity(key, said));
                block_on(learning.add(vec![identity(key, said)])).unwrap();
            }
            let before = files(&layers);
            layers = block_on(learning.finish()).unwrap();
            let ours = plan.run.sync_keys().identities_of(&plan.run.generation(), "n");
            let written: BTreeSet<String> =
                block_on(objects.list(&ours)).unwrap().into_iter().map(|object| object.key).collect();
            let named: BTreeSet<String> = files(&layers).difference(&before).cloned().collect();
            prop_assert_eq!(written, named, "files that nobody names are left behind");

            let manifest = plan_after(fence, &layers);
            let loaded = block_on(load(&objects, &manifest, &every)).unwrap();
            prop_assert_eq!(known(loaded), known(expected.clone()));
            for key in every.iter().take(5) {
                let one = block_on(load(&objects, &manifest, &HashSet::from([key.clone()]))).unwrap();
                prop_assert_eq!(known(one).into_values().next(), known(expected.clone()).remove(&key.hash()));
            }
        }
        // Few layers are left: of each size no more than the limit.
        prop_assert!(layers.len() <= most * 8, "{} layers", layers.len());
    }
}

fn plan_after(fence: u64, layers: &[IdentityLayer]) -> SnapshotManifest {
    plan(fence, layers, &[]).snapshot.unwrap()
}

#[test]
fn files_of_an_earlier_version_are_the_oldest_layers() {
    let objects = MemoryObjects::default();
    let old = "state/s/identity/0000000001-r1-n.jsonl.zst".to_owned();
    let said = [identity(1, (true, Some(1), None)), identity(2, (true, Some(2), None))];
    block_on(lines::put_lines(&objects, &old, &said, Condition::Always)).unwrap();
    let plan = plan(2, &[], &[old]);
    let mut learning = IdentityLayers::new(&objects, &plan, "n");
    block_on(learning.add(vec![identity(2, (false, None, None)), identity(1, (false, Some(9), None))]))
        .unwrap();
    let layers = block_on(learning.finish()).unwrap();
    assert_eq!(layers.len(), 2);
    let every: HashSet<Key> = said.iter().map(|identity| identity.key.clone()).collect();
    let loaded = known(block_on(load(&objects, &plan_after(2, &layers), &every)).unwrap());
    assert_eq!(loaded.into_values().collect::<Vec<_>>(), [identity(1, (true, Some(9), None))]);
}
