//! What becomes of one key, as a table; and the way through the objects.

use penstock_model::Key;
use penstock_model::change::{ChangeKind, Fingerprint, Place, Previous, REMOVED};
use penstock_model::contract::Replay;
use penstock_model::key::KeyValue;
use penstock_model::snapshot::{Disposition, Intended};
use penstock_model::unload::{Column, ColumnType};

use super::*;
use crate::testing::{MemoryObjects, block_on};

const MAPPING: u64 = 9;
const CHANGES: DiffMode = DiffMode::Changes;

fn key() -> Key {
    Key::of(&[KeyValue::Int(7)])
}

fn entry(
    accepted: Option<u64>,
    maybe_present: bool,
    intended: Intended,
    disposition: Disposition,
) -> OverlayEntry {
    OverlayEntry {
        key: key(),
        accepted,
        maybe_present,
        intended,
        disposition,
        mapping_hash: MAPPING,
        run: "r0".into(),
        code: Some("BAD".into()),
        fingerprint: Some("00f1".into()),
    }
}

/// One key: hashes of its rows, the snapshot's hash, the overlay's entry.
#[derive(Clone)]
struct Case {
    rows: &'static [u64],
    compare: Option<u64>,
    snapshot: Option<u64>,
    overlay: Option<OverlayEntry>,
    mode: DiffMode,
}

/// What came of it: kinds with what was known, the next snapshot's hash, the entry carried.
#[derive(Debug, PartialEq)]
struct Seen {
    changes: Vec<(ChangeKind, Previous)>,
    snapshot: Option<u64>,
    carried: Option<OverlayEntry>,
}

/// What a diff found, with the next snapshot's rows.
pub(super) fn whole<'a>(input: &'a DiffInput, rules: Rules<'_>) -> (DiffOutput<'a>, Vec<(Key, u64)>) {
    let mut next = Vec::new();
    let mut keep = |row: SnapshotRow<'_>| next.push((Key::from_bytes(row.key.to_vec()), row.row_hash));
    let output = diff(input, rules, &mut keep).unwrap();
    (output, next)
}

fn see(case: &Case) -> Seen {
    let rows: Vec<_> = (0u32..)
        .zip(case.rows)
        .map(|(row, &row_hash)| Fingerprint {
            key: key(),
            row_hash,
            compare_hash: case.compare,
            place: Place { split: 1, row },
        })
        .collect();
    let before = key();
    let snapshot = SnapshotRows::of(case.snapshot.map(|hash| SnapshotRow::from((&before, hash))));
    let input =
        DiffInput::new(Fingerprints::of(&rows), snapshot, case.overlay.iter().cloned().collect::<Vec<_>>());
    let rules = Rules { mode: &case.mode, mapping_hash: MAPPING, removals: Removals::Emit };
    let (output, next) = whole(&input, rules);
    let changes = output.changes.iter().map(|change| (change.kind, change.previous));
    let removals = output.removals.iter().map(|change| (change.kind, change.previous));
    Seen {
        changes: changes.chain(removals).collect(),
        snapshot: next.first().map(|(_, hash)| *hash),
        carried: output.carried.first().cloned(),
    }
}

fn sure(accepted: u64) -> Previous {
    Previous { accepted: Some(accepted), maybe_present: false }
}

const NOTHING: Previous = Previous { accepted: None, maybe_present: false };
const DOUBT: Previous = Previous { accepted: None, maybe_present: true };

#[test]
fn what_becomes_of_a_key() {
    use ChangeKind::{Added, Changed, DuplicateKey, Removed};
    use Disposition::{Pending, Rejected, Unrepeatable};
    use Intended::Remove;
    let send = |row_hash| Intended::Send { row_hash };
    let case = |rows, snapshot, overlay| Case { rows, compare: None, snapshot, overlay, mode: CHANGES };
    let is = |changes: &[(ChangeKind, Previous)], snapshot, carried| Seen {
        changes: changes.to_vec(),
        snapshot,
        carried,
    };
    let in_mode = |mode, case: Case| Case { mode, ..case };
    let old_mapping = |entry: OverlayEntry| OverlayEntry { mapping_hash: 8, ..entry };
    let stuck = || entry(Some(1), false, send(2), Rejected);
    let unrepeatable = || entry(None, true, send(2), Unrepeatable);
    let replay = |code: &str| {
        DiffMode::Replay(Replay { run: Some("r0".into()), code: Some(code.into()), fingerprint: None })
    };
    let replay_fingerprint = |fingerprint: &str| {
        DiffMode::Replay(Replay { run: None, code: None, fingerprint: Some(fingerprint.into()) })
    };

    let cases: Vec<(&str, Case, Seen)> = vec![
        ("new", case(&[2], None, None), is(&[(Added, NOTHING)], Some(2), None)),
        ("same", case(&[2], Some(2), None), is(&[], Some(2), None)),
        ("other", case(&[2], Some(1), None), is(&[(Changed, sure(1))], Some(2), None)),
        ("gone", case(&[], Some(1), None), is(&[(Removed, sure(1))], None, None)),
        (
            "several rows leave what was known",
            case(&[2, 3], Some(1), Some(stuck())),
            is(&[(DuplicateKey, NOTHING), (DuplicateKey, NOTHING)], Some(1), Some(stuck())),
        ),
        ("stays rejected", case(&[2], Some(2), Some(stuck())), is(&[], Some(2), Some(stuck()))),
        (
            "rejected, and the row has changed",
            case(&[3], Some(2), Some(stuck())),
            is(&[(Changed, sure(1))], Some(3), None),
        ),
        (
            "rejected, and the mapping has changed",
            case(&[2], Some(2), Some(old_mapping(stuck()))),
            is(&[(Changed, sure(1))], Some(2), None),
        ),
        ("rejected, and the row is what it was", case(&[1], Some(2), Some(stuck())), is(&[], Some(1), None)),
        (
            "an addition that was rejected stays an addition",
            case(&[3], Some(2), Some(entry(None, false, send(2), Rejected))),
            is(&[(Added, NOTHING)], Some(3), None),
        ),
        (
            "can't be repeated, not even under another mapping",
            case(&[2], Some(2), Some(old_mapping(unrepeatable()))),
            is(&[], Some(2), Some(old_mapping(unrepeatable()))),
        ),
        (
            "can't be repeated, and the row has changed",
            case(&[3], Some(2), Some(unrepeatable())),
            is(&[(Changed, DOUBT)], Some(3), None),
        ),
        (
            "pending is sent again",
            case(&[2], Some(2), Some(entry(Some(1), false, send(2), Pending))),
            is(&[(Changed, sure(1))], Some(2), None),
        ),
        (
            "pending in doubt is sent again even if it is the row accepted last",
            case(&[2], Some(2), Some(entry(Some(2), true, send(2), Pending))),
            is(&[(Changed, Previous { accepted: Some(2), maybe_present: true })], Some(2), None),
        ),
        (
            "a removal that was not sent, and the row is back",
            case(&[1], None, Some(entry(Some(1), false, Remove, Pending))),
            is(&[], Some(1), None),
        ),
        (
            "a removal in doubt, and the row is back",
            case(&[1], None, Some(entry(None, true, Remove, Pending))),
            is(&[(Changed, DOUBT)], Some(1), None),
        ),
        (
            "a removal that was not sent",
            case(&[], None, Some(entry(Some(1), false, Remove, Pending))),
            is(&[(Removed, sure(1))], None, None),
        ),
        (
            "a removal stays rejected",
            case(&[], None, Some(entry(Some(1), false, Remove, Rejected))),
            is(&[], None, Some(entry(Some(1), false, Remove, Rejected))),
        ),
        (
            "a removal was rejected under another mapping",
            case(&[], None, Some(old_mapping(entry(Some(1), false, Remove, Rejected)))),
            is(&[(Removed, sure(1))], None, None),
        ),
        ("in doubt and gone", case(&[], Some(2), Some(unrepeatable())), is(&[(Removed, DOUBT)], None, None)),
        (
            "never sent and gone",
            case(&[], Some(2), Some(entry(None, false, send(2), Rejected))),
            is(&[], None, None),
        ),
        (
            "full sends the same",
            in_mode(DiffMode::Full, case(&[2], Some(2), None)),
            is(&[(Changed, sure(2))], Some(2), None),
        ),
        (
            "full sends the rejected",
            in_mode(DiffMode::Full, case(&[2], Some(2), Some(stuck()))),
            is(&[(Changed, sure(1))], Some(2), None),
        ),
        (
            "a rebuild takes what was delivered as in step, and remembers today's hash",
            in_mode(DiffMode::Rebuild, case(&[7], Some(2), None)),
            is(&[], Some(7), None),
        ),
        (
            "a rebuild sends what is new",
            in_mode(DiffMode::Rebuild, case(&[7], None, None)),
            is(&[(Added, NOTHING)], Some(7), None),
        ),
        (
            "a rebuild removes what is gone",
            in_mode(DiffMode::Rebuild, case(&[], Some(2), None)),
            is(&[(Removed, sure(2))], None, None),
        ),
        (
            "a rebuild sends what waits",
            in_mode(DiffMode::Rebuild, case(&[7], Some(2), Some(entry(Some(1), false, send(2), Pending)))),
            is(&[(Changed, sure(1))], Some(7), None),
        ),
        (
            "a rebuild tries the rejected again",
            in_mode(DiffMode::Rebuild, case(&[7], Some(2), Some(stuck()))),
            is(&[(Changed, sure(1))], Some(7), None),
        ),
        (
            "a rebuild does not say twice what can't be repeated, and takes today's row for what was meant",
            in_mode(DiffMode::Rebuild, case(&[7], Some(2), Some(unrepeatable()))),
            is(&[], Some(2), Some(entry(None, true, send(7), Unrepeatable))),
        ),
        (
            "full tries rejected removals again",
            in_mode(DiffMode::Full, case(&[], None, Some(entry(Some(1), false, Remove, Rejected)))),
            is(&[(Removed, sure(1))], None, None),
        ),
        (
            "baseline takes all as sent",
            in_mode(DiffMode::Baseline, case(&[2], None, None)),
            is(&[], Some(2), None),
        ),
        (
            "baseline forgets what is gone",
            in_mode(DiffMode::Baseline, case(&[], Some(1), None)),
            is(&[], None, None),
        ),
        (
            "baseline still rejects several rows",
            in_mode(DiffMode::Baseline, case(&[2, 2], None, None)),
            is(&[(DuplicateKey, NOTHING), (DuplicateKey, NOTHING)], None, None),
        ),
        (
            "replay takes up what it names",
            in_mode(replay("BAD"), case(&[2], Some(2), Some(stuck()))),
            is(&[(Changed, sure(1))], Some(2), None),
        ),
        (
            "replay leaves other codes",
            in_mode(replay("WORSE"), case(&[3], Some(2), Some(stuck()))),
            is(&[], Some(2), Some(stuck())),
        ),
        (
            "replay takes up the fingerprint that it names",
            in_mode(replay_fingerprint("00f1"), case(&[2], Some(2), Some(stuck()))),
            is(&[(Changed, sure(1))], Some(2), None),
        ),
        (
            "replay leaves other fingerprints",
            in_mode(replay_fingerprint("00f2"), case(&[3], Some(2), Some(stuck()))),
            is(&[], Some(2), Some(stuck())),
        ),
        ("replay leaves changes", in_mode(replay("BAD"), case(&[2], Some(1), None)), is(&[], Some(1), None)),
        ("replay leaves new rows", in_mode(replay("BAD"), case(&[2], None, None)), is(&[], None, None)),
        ("replay leaves removals", in_mode(replay("BAD"), case(&[], Some(1), None)), is(&[], Some(1), None)),
        (
            "replay of a row that has gone meanwhile",
            in_mode(replay("BAD"), case(&[], Some(2), Some(stuck()))),
            is(&[(Removed, sure(1))], None, None),
        ),
        (
            "replay does not reject again",
            in_mode(replay("BAD"), case(&[2, 2], Some(1), None)),
            is(&[], Some(1), None),
        ),
        (
            "other columns, same row",
            Case { compare: Some(2), ..case(&[20], Some(2), None) },
            is(&[], Some(20), None),
        ),
        (
            "other columns, other row",
            Case { compare: Some(3), ..case(&[30], Some(2), None) },
            is(&[(Changed, sure(2))], Some(30), None),
        ),
        (
            "other columns, still rejected",
            Case { compare: Some(2), ..case(&[20], Some(2), Some(stuck())) },
            is(&[], Some(20), Some(entry(Some(1), false, send(20), Rejected))),
        ),
    ];
    for (name, case, expected) in cases {
        assert_eq!(see(&case), expected, "{name}");
    }
}

#[test]
fn removals_that_nobody_wants_are_counted_and_forgotten() {
    let gone = key();
    let snapshot = SnapshotRows::of([SnapshotRow::from((&gone, 1))]);
    let input = DiffInput::new(Fingerprints::default(), snapshot, Vec::new());
    let rules = Rules { mode: &CHANGES, mapping_hash: MAPPING, removals: Removals::CountOnly };
    let (output, _) = whole(&input, rules);
    assert_eq!((output.counts.before, output.counts.removed, output.counts.snapshot_rows), (1, 1, 0));
    assert!(output.removals.is_empty());
}

#[test]
fn a_null_in_the_key_is_rejected_and_never_remembered() {
    let null = Key::of(&[KeyValue::Int(1), KeyValue::Null]);
    let rows = [3, 4].map(|row| Fingerprint {
        key: null.clone(),
        row_hash: 5,
        compare_hash: None,
        place: Place { split: 0, row },
    });
    let input = DiffInput::new(Fingerprints::of(&rows), SnapshotRows::default(), Vec::new());
    let rules = Rules { mode: &CHANGES, mapping_hash: MAPPING, removals: Removals::Emit };
    let (output, next) = whole(&input, rules);
    assert_eq!((output.counts.read, output.counts.null_keys, output.counts.duplicate_keys), (2, 2, 0));
    assert!(
        output
            .changes
            .iter()
            .all(|change| change.kind == ChangeKind::NullKey && change.place.split != REMOVED)
    );
    assert!(next.is_empty());
}

/// A plan of two splits of ten rows, over this snapshot.
fn plan(partitions: u32, snapshot: &penstock_model::snapshot::SnapshotManifest) -> RunPlan {
    serde_json::from_value(serde_json::json!({
        "version": RunPlan::VERSION,
        "run": { "sync": "s", "run": "r", "fence": 2 },
        "execution": "e",
        "started_at": 0,
        "options": {},
        "definition": {
            "name": "s",
            "sync": { "unload": "u", "connection": "c", "object": "o", "fields": { "Name": "name" } },
            "unload": { "location": "s3://b/run/", "primary_key": ["id"] },
            "connection": { "connector": "postgres" },
            "connector": "postgres",
            "environment": null,
            "address": "postgres://localhost"
        },
        "mapping_hash": MAPPING,
        "unload": { "root": "s3://b", "prefix": "run/", "identity": "u1", "completed_at": 0, "files": [] },
        "columns": [],
        "key_columns": [{ "name": "id", "kind": "int" }],
        "hashed_columns": [],
        "compare_columns": null,
        "splits": [{ "pieces": [], "rows": 10 }, { "pieces": [], "rows": 10 }],
        "partitions": partitions,
        "snapshot": snapshot,
        "pointer": null,
        "diff": "changes",
        "append": [],
        "remember": false
    }))
    .unwrap()
}

#[test]
fn a_partition_is_compared_with_a_snapshot_of_any_number_of_partitions() {
    for before in [1, 4, 8] {
        compare_with_a_snapshot_of(before);
    }
}

fn compare_with_a_snapshot_of(partitions: u32) {
    let objects = MemoryObjects::new();
    let number = |id: i128| Key::of(&[KeyValue::Int(id)]);
    let row = |split: u32, row: u32| Fingerprint {
        key: number(i128::from(split * 10 + row)),
        row_hash: u64::from(row),
        compare_hash: None,
        place: Place { split, row },
    };
    // Of the keys 5 to 24 the last five are gone; keys 0 to 4 are new, and every fifth row says something else.
    let mut before: Vec<_> =
        (5u32..25).map(|id| (number(id.into()), u64::from(if id % 5 == 0 { 77 } else { id % 10 }))).collect();
    before.sort_by_cached_key(|(key, _)| key.hash());
    let columns = [Column { name: "id".into(), kind: ColumnType::Int }];
    for partition in 0..partitions {
        let show = |writer: &mut snapshot::PartitionWriter| {
            for (key, hash) in &before {
                if penstock_model::run_plan::partition_of(key.hash(), partitions) == partition {
                    writer.push(SnapshotRow::from((key, *hash)));
                }
            }
            Ok(())
        };
        objects.insert(&format!("before{partition}"), snapshot::write_partition(&columns, show).unwrap().0);
    }
    let names = (0..partitions).map(|partition| format!("before{partition}"));
    let plan = plan(4, &snapshot::tests::manifest(names));
    for split in 0..2 {
        let rows: Vec<_> = (0..10).map(|at| row(split, at)).collect();
        let body = crate::testing::fingerprints_object(&rows, plan.partitions);
        objects.insert(&plan.run.keys().fingerprints(split), body);
    }

    let mut counts = DiffCounts::default();
    for partition in 0..plan.partitions {
        let input = block_on(load(objects.as_ref(), &plan, partition, Overlay::default())).unwrap();
        let mut next = Vec::new();
        let mut keep = |row: SnapshotRow<'_>| next.push(Key::from_bytes(row.key.to_vec()));
        let output = diff_partition(&input, &plan, Removals::Emit, &mut keep).unwrap();
        assert!(next.iter().all(|key| plan.partition_of(key.hash()) == partition));
        counts += output.counts;
    }
    let expected = DiffCounts {
        before: 20,
        read: 20,
        added: 5,
        changed: 3,
        removed: 5,
        unchanged: 12,
        snapshot_rows: 20,
        ..DiffCounts::default()
    };
    assert_eq!(counts, expected);
}
