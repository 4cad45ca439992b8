use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_model::change::REMOVED;
use penstock_model::key::KeyValue;
use penstock_model::layout::RunKeys;
use penstock_model::operation::{Chunk, ChunkRange};
use penstock_model::run_plan::partition_of;
use proptest::prelude::*;

use super::*;
use crate::testing::{MemoryObjects, block_on};

const KEYS: RunKeys<'_> = RunKeys { sync: "s", run: "r" };

/// What every partition's diff found, written as the run would.
struct Written {
    objects: Arc<MemoryObjects>,
    partitions: u32,
    /// Rows by place, then removals by partition: the order of delivery.
    all: Vec<Change>,
}

fn written(mut rows: Vec<Change>, removed: &[Key], partitions: u32) -> Written {
    let objects = MemoryObjects::new();
    rows.sort_by_key(|change| change.place);
    let mut all = rows.clone();
    let mut removed = removed.to_vec();
    removed.sort_by_key(Key::hash);
    for partition in 0..partitions {
        let is_ours = |key: &Key| partition_of(key.hash(), partitions) == partition;
        let ours: Vec<ChangeRef<'_>> =
            rows.iter().filter(|change| is_ours(&change.key)).map(Into::into).collect();
        objects.insert(&KEYS.changes(partition), write_changes(&ours, partitions));
        let removals: Vec<Change> = (0..)
            .zip(removed.iter().filter(|key| is_ours(key)))
            .map(|(row, key)| Change {
                kind: ChangeKind::Removed,
                key: key.clone(),
                place: Place { split: REMOVED, row },
                row_hash: 0,
                previous: Previous {
                    accepted: (row % 3 > 0).then_some(u64::from(row)),
                    maybe_present: row % 2 == 0,
                },
            })
            .collect();
        let refs: Vec<ChangeRef<'_>> = removals.iter().map(Into::into).collect();
        objects.insert(&KEYS.removals(partition), write_removals(refs.iter().copied()));
        all.extend(removals);
    }
    Written { objects, partitions, all }
}

impl Written {
    fn chunks(&self, chunk_rows: u32, canary: Option<u32>) -> Vec<Chunk> {
        block_on(plan_chunks(self.objects.as_ref(), &KEYS, self.partitions, chunk_rows, canary)).unwrap()
    }

    fn read(&self, range: &ChunkRange) -> Vec<Change> {
        block_on(read_chunk(self.objects.as_ref(), &KEYS, self.partitions, range)).unwrap()
    }

    /// The laws of a chunk list.
    fn check(&self, chunk_rows: u32, canary: Option<u32>) {
        let chunks = self.chunks(chunk_rows, canary);
        assert_eq!(chunks, self.chunks(chunk_rows, canary), "the same changes give the same chunks");
        let mut read = Vec::new();
        for (number, chunk) in (0..).zip(&chunks) {
            let changes = self.read(&chunk.range);
            assert_eq!(chunk.chunk, number);
            assert_eq!(chunk.changes as usize, changes.len(), "{chunk:?}");
            assert!((1..=chunk_rows).contains(&chunk.changes), "{chunk:?}");
            read.extend(changes);
        }
        assert!(read == self.all, "every change is in one chunk, in order");
        if let (Some(canary), Some(first)) = (canary, chunks.first()) {
            let rows = self.all.iter().filter(|change| change.place.split != REMOVED).count();
            let rows = u32::try_from(rows).unwrap();
            let whole = if rows > 0 { rows } else { first.changes };
            assert_eq!(first.changes, canary.min(chunk_rows).min(whole));
        }
    }
}

fn change(place: Place, key: Key, kind: ChangeKind, row_hash: u64, previous: Previous) -> Change {
    Change { kind, key, place, row_hash, previous }
}

fn kind() -> impl Strategy<Value = ChangeKind> {
    use ChangeKind::{Added, Changed, DuplicateKey, NullKey};
    prop::sample::select(vec![Added, Changed, DuplicateKey, NullKey])
}

fn rows(most: usize) -> impl Strategy<Value = Vec<Change>> {
    let place = (0u32..4, prop_oneof![0u32..400, 0u32..100_000, Just(u32::MAX - 1)]);
    let row = (any::<i64>(), kind(), any::<u64>(), any::<Option<u64>>(), any::<bool>());
    prop::collection::btree_map(place, row, 0..most).prop_map(|rows: BTreeMap<_, _>| {
        rows.into_iter()
            .map(|((split, row), (key, kind, hash, accepted, maybe_present))| {
                let key = Key::of(&[KeyValue::Int(key.into())]);
                change(Place { split, row }, key, kind, hash, Previous { accepted, maybe_present })
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn chunks_are_a_partition_of_the_changes(
        rows in rows(400),
        removed in prop::collection::btree_set(any::<i32>(), 0..60),
        bits in 0u32..4,
        chunk_rows in 1u32..150,
        canary in prop::option::of(1u32..200),
    ) {
        let removed: Vec<_> = removed.into_iter().map(|key| Key::of(&[KeyValue::Int(key.into())])).collect();
        written(rows, &removed, 1 << bits).check(chunk_rows, canary);
    }

    #[test]
    fn any_range_of_places_gives_its_changes(
        rows in rows(300), bits in 0u32..4, from in (0u32..4, 0u32..500), to in (0u32..5, 0u32..500),
    ) {
        let written = written(rows, &[], 1 << bits);
        let place = |(split, row)| Place { split, row };
        let (from, to) = (place(from), place(to));
        let expected: Vec<_> =
            written.all.iter().filter(|change| from <= change.place && change.place < to).cloned().collect();
        prop_assert_eq!(written.read(&ChunkRange::Rows { from, to }), expected);
    }

    #[test]
    fn damage_is_an_error_or_harmless_but_no_panic(
        rows in rows(60), at in any::<prop::sample::Index>(), byte: u8, removals: bool,
    ) {
        let removed: Vec<_> = rows.iter().map(|change| change.key.clone()).collect();
        let written = written(rows, &removed, 1);
        let key = if removals { KEYS.removals(0) } else { KEYS.changes(0) };
        let mut body = written.objects.body(&key).unwrap().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        written.objects.insert(&key, body);
        let objects = written.objects.as_ref();
        if let Ok(chunks) = block_on(plan_chunks(objects, &KEYS, 1, 10, Some(3)))
            && chunks.len() < 1000
        {
            for chunk in chunks {
                drop(block_on(read_chunk(objects, &KEYS, 1, &chunk.range)));
            }
        }
    }
}

fn dense(rows: u32, every: usize) -> Vec<Change> {
    (0..rows)
        .step_by(every)
        .map(|row| {
            let key = Key::of(&[KeyValue::Int(row.into())]);
            change(
                Place { split: row / 30_000, row: row % 30_000 },
                key,
                ChangeKind::Added,
                7,
                Previous::default(),
            )
        })
        .collect()
}

#[test]
fn many_pages_of_an_index_are_found_again() {
    let removed: Vec<_> = (0..5_000).map(|key| Key::of(&[KeyValue::Int(1_000_000 + key)])).collect();
    for (every, partitions) in [(1, 1), (40, 1), (7, 8)] {
        let written = written(dense(100_000, every), &removed, partitions);
        written.check(3_333, Some(10));
        written.check(10_000, None);
    }
}

#[test]
fn a_chunk_reads_little_more_than_itself() {
    let written = written(dense(100_000, 1), &[], 4);
    written.objects.take_reads();
    let range = ChunkRange::Rows { from: Place { split: 1, row: 0 }, to: Place { split: 1, row: 2_000 } };
    assert_eq!(written.read(&range).len(), 2_000);
    let reads = written.objects.take_reads();
    let beyond_the_head: u64 =
        reads.iter().filter(|(_, range)| range.start > 0).map(|(_, range)| range.end - range.start).sum();
    assert!(beyond_the_head < 2_000 * 20, "{beyond_the_head} bytes");
    assert!(reads.len() <= 4 * 3, "{} requests", reads.len());
}

#[test]
fn a_small_object_costs_one_request() {
    let written = written(dense(300, 1), &[], 1);
    let chunks = written.chunks(100, None);
    written.objects.take_reads();
    written.read(&chunks[1].range);
    assert_eq!(written.objects.take_reads().len(), 1);
}

#[test]
fn nothing_found_is_no_chunk() {
    assert_eq!(written(Vec::new(), &[], 4).chunks(100, Some(10)), []);
}

#[test]
fn damage_names_object_and_handling() {
    let written = written(dense(300, 1), &[], 1);
    written.objects.insert(&KEYS.changes(0), "PNCH");
    let range = ChunkRange::Rows { from: Place { split: 0, row: 0 }, to: Place { split: 0, row: 2 } };
    let error = block_on(read_chunk(written.objects.as_ref(), &KEYS, 1, &range)).unwrap_err();
    assert_eq!(error.to_string(), "object runs/s/r/changes/00000.bin is damaged at offset 4: it ends early");
    assert_eq!(error.of_chunk().name, penstock_model::FailureName::ChunkUnreadable);
}
