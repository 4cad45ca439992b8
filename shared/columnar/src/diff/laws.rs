//! Laws of the diff, by simulation: runs with all sorts of outcomes against a destination that is a map.

use std::collections::{BTreeMap, BTreeSet};

use penstock_model::Key;
use penstock_model::change::{Change, ChangeKind, Fingerprint, Place};
use penstock_model::contract::Replay;
use penstock_model::key::KeyValue;
use penstock_model::outcome::Outcome;
use penstock_model::run_plan::partition_of;
use penstock_model::settle::{ChunkReached, Repeat, settle};
use penstock_model::snapshot::Disposition;
use proptest::prelude::*;

use super::tests::whole;
use super::*;

/// A row of an unload: its key (`None` is a null) and what it says.
type UnloadRow = (Option<u8>, u8);

/// What happens to one change on its way.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Accepted,
    Rejected,
    /// The answer was lost; whether it was carried out.
    Unknown(bool),
    /// The chunk was given up; whether it was carried out.
    DeadLettered(bool),
    /// The run ended before the chunk began.
    Never,
    /// The run ended within the chunk; whether it was carried out.
    Attempted(bool),
}

#[derive(Debug, Clone)]
struct Round {
    rows: Vec<UnloadRow>,
    fates: Vec<Fate>,
    mode: DiffMode,
    repeat: Repeat,
    /// The mapping, and the columns that it hashes.
    version: u64,
}

/// A sync: its committed state, and its destination.
#[derive(Debug, Default)]
struct Sync {
    snapshot: Vec<(Key, u64)>,
    overlay: Vec<OverlayEntry>,
    version: u64,
    destination: BTreeMap<Key, u8>,
}

fn key_of(key: Option<u8>) -> Key {
    Key::of(&[key.map_or(KeyValue::Null, |key| KeyValue::Int(key.into()))])
}

fn hash_of(content: u8, version: u64) -> u64 {
    version * 1000 + u64::from(content)
}

fn fingerprints(rows: &[UnloadRow], version: u64, compare: Option<u64>) -> Vec<Fingerprint> {
    (0u32..)
        .zip(rows)
        .map(|(row, &(key, content))| Fingerprint {
            key: key_of(key),
            row_hash: hash_of(content, version),
            compare_hash: compare.map(|version| hash_of(content, version)),
            place: Place { split: row % 3, row: row / 3 },
        })
        .collect()
}

fn snapshot_rows(rows: &[(Key, u64)]) -> SnapshotRows {
    SnapshotRows::of(rows.iter().map(|(key, hash)| SnapshotRow::from((key, *hash))))
}

/// What the keys that are there once say, and the keys that are there several times.
fn meaning(rows: &[UnloadRow]) -> (BTreeMap<Key, u8>, BTreeSet<Key>) {
    let mut by_key: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for &(key, content) in rows.iter().filter(|(key, _)| key.is_some()) {
        by_key.entry(key_of(key)).or_default().push(content);
    }
    let several = by_key.iter().filter(|(_, rows)| rows.len() > 1).map(|(key, _)| key.clone()).collect();
    (
        by_key.into_iter().filter(|(_, rows)| rows.len() == 1).map(|(key, rows)| (key, rows[0])).collect(),
        several,
    )
}

impl Sync {
    fn run(&mut self, round: &Round) {
        let compare = (round.version != self.version).then_some(self.version);
        let current = Fingerprints::of(&fingerprints(&round.rows, round.version, compare));
        let input = DiffInput::new(current, snapshot_rows(&self.snapshot), self.overlay.clone());
        let rules = Rules { mode: &round.mode, mapping_hash: round.version, removals: Removals::Emit };
        let (output, next) = whole(&input, rules);
        check_counts(&output, &next, round.rows.len());

        let mut overlay = output.carried.clone();
        let changes = output.changes.iter().map(ChangeRef::to_change).chain(output.removals.iter().cloned());
        for (change, fate) in changes.zip(round.fates.iter().cycle()) {
            overlay.extend(self.deliver(&change, *fate, round));
        }
        self.snapshot = next;
        self.overlay = overlay;
        self.version = round.version;
    }

    fn deliver(&mut self, change: &Change, fate: Fate, round: &Round) -> Option<OverlayEntry> {
        if matches!(change.kind, ChangeKind::DuplicateKey | ChangeKind::NullKey) {
            return settle(change, None, ChunkReached::Attempted, round.repeat, round.version, "r");
        }
        let dead = || Outcome::DeadLettered { why: "Sandbox.Timedout".into() };
        let (is_done, outcome, reached) = match fate {
            Fate::Accepted => (true, Some(Outcome::accepted()), ChunkReached::Attempted),
            Fate::Rejected => (false, Some(Outcome::rejected("BAD", "bad")), ChunkReached::Attempted),
            Fate::Unknown(done) => {
                (done, Some(Outcome::Unknown { why: "lost".into() }), ChunkReached::Attempted)
            }
            Fate::DeadLettered(done) => (done, Some(dead()), ChunkReached::Attempted),
            Fate::Never => (false, None, ChunkReached::Never),
            // What can't be repeated has an intent, so that without a witness it was not sent.
            Fate::Attempted(done) => (done && round.repeat == Repeat::Safe, None, ChunkReached::Attempted),
        };
        if is_done {
            match change.kind {
                ChangeKind::Removed => self.destination.remove(&change.key),
                ChangeKind::Added | ChangeKind::Changed | ChangeKind::DuplicateKey | ChangeKind::NullKey => {
                    let content = u8::try_from(change.row_hash % 1000).unwrap();
                    self.destination.insert(change.key.clone(), content)
                }
            };
        }
        settle(change, outcome.as_ref(), reached, round.repeat, round.version, "r")
    }

    /// Nothing is lost: where no overlay entry says otherwise, the destination says what the unload says.
    fn check_nothing_lost(&self, round: &Round) {
        let (unload, several) = meaning(&round.rows);
        let in_doubt: BTreeSet<_> = self.overlay.iter().map(|entry| entry.key.clone()).collect();
        let keys: BTreeSet<_> = unload.keys().chain(self.destination.keys()).cloned().collect();
        for key in keys {
            if !in_doubt.contains(&key) && !several.contains(&key) {
                assert_eq!(
                    self.destination.get(&key),
                    unload.get(&key),
                    "{:?} after {round:?}",
                    key.values()
                );
            }
        }
    }
}

fn check_counts(output: &DiffOutput<'_>, next: &[(Key, u64)], rows: usize) {
    let counts = output.counts;
    assert_eq!(counts.read, rows as u64);
    let sum = counts.added + counts.changed + counts.unchanged + counts.duplicate_keys + counts.null_keys;
    assert_eq!(counts.read, sum, "{counts:?}");
    assert_eq!(counts.removed, output.removals.len() as u64);
    assert_eq!(counts.snapshot_rows, next.len() as u64);
    assert_eq!(counts.carried, output.carried.len() as u64);
    assert!(output.changes.is_sorted_by_key(|change| change.place));
    assert!((0..).zip(&output.removals).all(|(row, removal)| removal.place.row == row));
}

fn unload() -> impl Strategy<Value = Vec<UnloadRow>> {
    prop::collection::vec((prop::option::weighted(0.95, 0u8..24), 0u8..4), 0..24)
}

fn unique_unload() -> impl Strategy<Value = Vec<UnloadRow>> {
    prop::collection::btree_map((0u8..60).prop_map(Some), 0u8..4, 0..40)
        .prop_map(|rows| rows.into_iter().collect())
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Accepted),
        2 => Just(Fate::Rejected),
        1 => any::<bool>().prop_map(Fate::Unknown),
        1 => any::<bool>().prop_map(Fate::DeadLettered),
        1 => Just(Fate::Never),
        1 => any::<bool>().prop_map(Fate::Attempted),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let mode = prop_oneof![
        6 => Just(DiffMode::Changes),
        1 => Just(DiffMode::Full),
        1 => Just(DiffMode::Replay(Replay::default())),
        1 => Just(DiffMode::Replay(Replay { code: Some("BAD".into()), ..Replay::default() })),
    ];
    let repeat = prop_oneof![3 => Just(Repeat::Safe), 1 => Just(Repeat::Unsafe)];
    let version = prop_oneof![4 => Just(1u64), 1 => Just(2u64)];
    (unload(), prop::collection::vec(fate(), 1..30), mode, repeat, version)
        .prop_map(|(rows, fates, mode, repeat, version)| Round { rows, fates, mode, repeat, version })
}

fn all_accepted(rows: Vec<UnloadRow>, mode: DiffMode, version: u64) -> Round {
    Round { rows, fates: vec![Fate::Accepted], mode, repeat: Repeat::Safe, version }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_sent_before_and_the_changes_give_what_is_now(before in unique_unload(), now in unique_unload()) {
        let mut sync = Sync::default();
        for rows in [&before, &now] {
            sync.run(&all_accepted(rows.clone(), DiffMode::Changes, 1));
            prop_assert_eq!(&sync.destination, &meaning(rows).0);
            prop_assert!(sync.overlay.is_empty());
        }
        let input = DiffInput::new(
            Fingerprints::of(&fingerprints(&now, 1, None)), snapshot_rows(&sync.snapshot), Vec::new(),
        );
        let rules = Rules { mode: &DiffMode::Changes, mapping_hash: 1, removals: Removals::Emit };
        let (again, next) = whole(&input, rules);
        prop_assert!(again.changes.is_empty() && again.removals.is_empty(), "the second run has nothing to do");
        prop_assert_eq!(next, sync.snapshot);
    }

    #[test]
    fn whatever_becomes_of_the_changes_nothing_is_lost(rounds in prop::collection::vec(round(), 1..8), last in unload()) {
        let mut sync = Sync { version: 1, ..Sync::default() };
        for round in &rounds {
            sync.run(round);
            // A replay leaves other keys as an older unload had them.
            if !matches!(round.mode, DiffMode::Replay { .. }) {
                sync.check_nothing_lost(round);
            }
        }
        let several = meaning(&last).1;

        // Once the destination takes everything, a changed mapping brings all in step but what can't be repeated.
        let round = all_accepted(last.clone(), DiffMode::Changes, 3);
        sync.run(&round);
        sync.check_nothing_lost(&round);
        for entry in &sync.overlay {
            prop_assert!(entry.disposition == Disposition::Unrepeatable || several.contains(&entry.key), "{:?}", entry);
        }

        let round = all_accepted(last, DiffMode::Full, 3);
        sync.run(&round);
        sync.check_nothing_lost(&round);
        for entry in &sync.overlay {
            prop_assert!(several.contains(&entry.key), "{:?}", entry);
        }
    }

    #[test]
    fn partitions_find_together_what_one_finds(
        rounds in prop::collection::vec(round(), 1..4), last in round(), bits in 1u32..5,
    ) {
        let mut sync = Sync { version: 1, ..Sync::default() };
        for round in &rounds {
            sync.run(round);
        }
        let rows = fingerprints(&last.rows, last.version, (last.version != sync.version).then_some(sync.version));
        let rules = Rules { mode: &last.mode, mapping_hash: last.version, removals: Removals::Emit };
        let input = |is_ours: &dyn Fn(&Key) -> bool| {
            let rows: Vec<_> = rows.iter().filter(|row| is_ours(&row.key)).cloned().collect();
            let snapshot: Vec<_> = sync.snapshot.iter().filter(|(key, ..)| is_ours(key)).cloned().collect();
            let overlay: Vec<_> = sync.overlay.iter().filter(|entry| is_ours(&entry.key)).cloned().collect();
            DiffInput::new(Fingerprints::of(&rows), snapshot_rows(&snapshot), overlay)
        };
        let all = input(&|_| true);
        let (all, all_next) = whole(&all, rules);

        let partitions = 1 << bits;
        let mut counts = DiffCounts::default();
        let (mut changes, mut removed, mut snapshot, mut carried) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for partition in 0..partitions {
            let part = input(&|key| partition_of(key.hash(), partitions) == partition);
            let (part, next) = whole(&part, rules);
            counts += part.counts;
            changes.extend(part.changes.iter().map(ChangeRef::to_change));
            removed.extend(part.removals.iter().map(|removal| (removal.key.clone(), removal.previous)));
            snapshot.extend(next);
            carried.extend(part.carried);
        }
        changes.sort_by_key(|change| change.place);
        prop_assert_eq!(counts, all.counts);
        prop_assert_eq!(changes, all.changes.iter().map(ChangeRef::to_change).collect::<Vec<_>>());
        let expected: Vec<_> = all.removals.iter().map(|removal| (removal.key.clone(), removal.previous)).collect();
        prop_assert_eq!(removed, expected);
        prop_assert_eq!(snapshot, all_next);
        prop_assert_eq!(carried, all.carried);
    }
}
