//! What `read` tells `diff` of a split: one object, cut into key partitions.
//!
//! | part | content |
//! |---|---|
//! | header, 16 bytes | `PNFP`, version (u32), partitions (u32), rows (u32) |
//! | index, 28 bytes a partition | offset (u64), length (u64) and rows (u32) of its block, version and partitions (u32) |
//! | blocks | entries ordered by key hash, then row |
//!
//! An entry is a varint (length of the key × 4, + 2 if there is a compare hash, + 1 if the key holds a null), the
//! key, the row hash (u64), the compare hash (u64) if any, and the row (varint). Numbers are little-endian.
//!
//! The key itself stands in the place of its 128-bit hash: the snapshot needs it, a removal can't do without it, and
//! for an integer key it is shorter (about 17 bytes a row in all). Who reads it hashes it anew.
//!
//! A diff reads its partition by two ranges: its index entry, whose place follows from the partition, and its block.
//! That is why version and partitions stand in every index entry too.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use penstock_model::Key;
use penstock_model::change::{Fingerprint, Place};
use penstock_model::layout::RunKeys;
use penstock_model::port::Objects;
use penstock_model::run_plan::partition_of;
use xxhash_rust::xxh3::xxh3_128;

use crate::format::{Cursor, FormatError, damaged, narrow, push_varint, read_range, wide};

const MAGIC: [u8; 4] = *b"PNFP";
const VERSION: u32 = 1;
const HEADER: u64 = 16;
const INDEX_ENTRY: u64 = 28;
const HAS_NULL: u64 = 1;
const HAS_COMPARE: u64 = 2;
/// Splits read at the same time.
const READS_AT_ONCE: usize = 16;

/// The object of one split. All fingerprints must be of that split; `partitions` is a power of two.
#[must_use]
pub fn write(fingerprints: Vec<Fingerprint>, partitions: u32) -> Bytes {
    let mut order: Vec<(u128, &Fingerprint)> =
        fingerprints.iter().map(|fingerprint| (fingerprint.key.hash(), fingerprint)).collect();
    order.sort_unstable_by_key(|(hash, fingerprint)| (*hash, fingerprint.place.row));

    let header = usize::try_from(HEADER + INDEX_ENTRY * u64::from(partitions)).unwrap_or(0);
    let mut out = Vec::with_capacity(header + fingerprints.len() * 20);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&partitions.to_le_bytes());
    out.extend_from_slice(&narrow(fingerprints.len()).to_le_bytes());
    out.resize(header, 0);

    let mut index = Vec::with_capacity(header);
    let mut rest = order.as_slice();
    for partition in 0..partitions {
        let count = rest.partition_point(|(hash, _)| partition_of(*hash, partitions) == partition);
        let (ours, others) = rest.split_at(count);
        let start = out.len();
        for (_, fingerprint) in ours {
            push_entry(&mut out, fingerprint);
        }
        index.extend_from_slice(&wide(start).to_le_bytes());
        index.extend_from_slice(&wide(out.len() - start).to_le_bytes());
        index.extend_from_slice(&narrow(count).to_le_bytes());
        index.extend_from_slice(&VERSION.to_le_bytes());
        index.extend_from_slice(&partitions.to_le_bytes());
        rest = others;
    }
    let index_place = out.iter_mut().skip(usize::try_from(HEADER).unwrap_or(0));
    index_place.zip(index).for_each(|(place, byte)| *place = byte);
    Bytes::from(out)
}

fn push_entry(out: &mut Vec<u8>, fingerprint: &Fingerprint) {
    let key = fingerprint.key.as_bytes();
    let null = if fingerprint.key.has_null() { HAS_NULL } else { 0 };
    let compare = if fingerprint.compare_hash.is_some() { HAS_COMPARE } else { 0 };
    push_varint(out, wide(key.len()) << 2 | compare | null);
    out.extend_from_slice(key);
    out.extend_from_slice(&fingerprint.row_hash.to_le_bytes());
    if let Some(compare) = fingerprint.compare_hash {
        out.extend_from_slice(&compare.to_le_bytes());
    }
    push_varint(out, u64::from(fingerprint.place.row));
}

/// The fingerprints of one key partition from all splits, ordered by key. Keys lie in one allocation: a row takes
/// 56 bytes and its key.
#[derive(Default)]
pub struct Fingerprints {
    keys: Vec<u8>,
    rows: Vec<Row>,
}

/// Shows how many there are: keys are row values.
impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprints({})", self.rows.len())
    }
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// The key hash, the highest byte first: as a number it would make every row 8 bytes larger.
    hash: [u8; 16],
    key_at: usize,
    key_len: u32,
    has_null: bool,
    has_compare: bool,
    row_hash: u64,
    compare_hash: u64,
    place: Place,
}

/// One fingerprint, its key borrowed.
#[derive(Clone, Copy)]
pub(crate) struct FingerprintRef<'a> {
    pub(crate) hash: u128,
    pub(crate) key: &'a [u8],
    pub(crate) has_null: bool,
    pub(crate) row_hash: u64,
    pub(crate) compare_hash: Option<u64>,
    pub(crate) place: Place,
}

impl Fingerprints {
    /// Fingerprints at hand, in any order.
    #[must_use]
    pub fn of(fingerprints: &[Fingerprint]) -> Self {
        let mut all = Self { keys: Vec::new(), rows: Vec::with_capacity(fingerprints.len()) };
        for fingerprint in fingerprints {
            let has_null = fingerprint.key.has_null();
            let key = fingerprint.key.as_bytes();
            all.push(
                xxh3_128(key),
                key,
                has_null,
                fingerprint.row_hash,
                fingerprint.compare_hash,
                fingerprint.place,
            );
        }
        all.sort();
        all
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as whole fingerprints, ordered by key hash.
    pub fn iter(&self) -> impl Iterator<Item = Fingerprint> {
        self.refs().map(|row| Fingerprint {
            key: Key::from_bytes(row.key.to_vec()),
            row_hash: row.row_hash,
            compare_hash: row.compare_hash,
            place: row.place,
        })
    }

    pub(crate) fn refs(&self) -> impl Iterator<Item = FingerprintRef<'_>> {
        self.rows.iter().map(|row| FingerprintRef {
            hash: u128::from_be_bytes(row.hash),
            key: key_of(&self.keys, row),
            has_null: row.has_null,
            row_hash: row.row_hash,
            compare_hash: row.has_compare.then_some(row.compare_hash),
            place: row.place,
        })
    }

    fn push(
        &mut self,
        hash: u128,
        key: &[u8],
        has_null: bool,
        row_hash: u64,
        compare: Option<u64>,
        place: Place,
    ) {
        self.rows.push(Row {
            hash: hash.to_be_bytes(),
            key_at: self.keys.len(),
            key_len: narrow(key.len()),
            has_null,
            has_compare: compare.is_some(),
            row_hash,
            compare_hash: compare.unwrap_or_default(),
            place,
        });
        self.keys.extend_from_slice(key);
    }

    fn sort(&mut self) {
        let Self { keys, rows } = self;
        // Stable, since it makes use of the splits being sorted already.
        rows.sort_by(|a, b| {
            let by_key = || key_of(keys, a).cmp(key_of(keys, b));
            a.hash.cmp(&b.hash).then_with(by_key).then_with(|| a.place.cmp(&b.place))
        });
    }

    fn push_block(&mut self, block: &Block, partition: u32, partitions: u32) -> Result<(), FormatError> {
        let mut cursor = Cursor::new(&block.key, block.offset, &block.bytes);
        for _ in 0..block.rows {
            let head = cursor.varint()?;
            let key = cursor.take(usize::try_from(head >> 2).unwrap_or(usize::MAX))?;
            let row_hash = cursor.u64()?;
            let compare = if head & HAS_COMPARE == 0 { None } else { Some(cursor.u64()?) };
            let place = Place { split: block.split, row: cursor.varint_u32()? };
            let hash = xxh3_128(key);
            if partition_of(hash, partitions) != partition {
                return Err(cursor.damaged("a key is not of this partition"));
            }
            self.push(hash, key, head & HAS_NULL != 0, row_hash, compare, place);
        }
        if cursor.is_at_end() {
            Ok(())
        } else {
            Err(cursor.damaged("a block holds more than its index says"))
        }
    }
}

fn key_of<'a>(keys: &'a [u8], row: &Row) -> &'a [u8] {
    keys.get(row.key_at..row.key_at + row.key_len as usize).unwrap_or_default()
}

/// One partition's bytes in one split's object.
struct Block {
    key: String,
    split: u32,
    offset: u64,
    rows: u32,
    bytes: Bytes,
}

/// The fingerprints of one key partition from the first `splits` splits of a run.
///
/// # Errors
/// [`FormatError`] if an object is missing or damaged.
pub async fn read_partition(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    splits: u32,
    partition: u32,
    partitions: u32,
) -> Result<Fingerprints, FormatError> {
    let blocks: Vec<Block> = stream::iter((0..splits).map(|split| (split, keys.fingerprints(split))))
        .map(|(split, key)| read_block(objects, key, split, partition, partitions))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let rows = blocks.iter().map(|block| block.rows as usize).sum();
    let bytes: usize = blocks.iter().map(|block| block.bytes.len()).sum();
    // An entry has at least 9 bytes beside its key.
    let mut all = Fingerprints {
        keys: Vec::with_capacity(bytes.saturating_sub(rows * 9)),
        rows: Vec::with_capacity(rows),
    };
    for block in blocks {
        all.push_block(&block, partition, partitions)?;
    }
    all.keys.shrink_to_fit();
    all.sort();
    Ok(all)
}

async fn read_block(
    objects: &dyn Objects,
    key: String,
    split: u32,
    partition: u32,
    partitions: u32,
) -> Result<Block, FormatError> {
    let at = HEADER + INDEX_ENTRY * u64::from(partition);
    let entry = read_range(objects, &key, at..at + INDEX_ENTRY).await?;
    let mut cursor = Cursor::new(&key, at, &entry);
    let (offset, len, rows, version) = (cursor.u64()?, cursor.u64()?, cursor.u32()?, cursor.u32()?);
    if version != VERSION {
        return Err(FormatError::Version { key, found: version, known: VERSION });
    }
    if cursor.u32()? != partitions {
        return Err(damaged(&key, at, "it is cut into another number of partitions"));
    }
    let first = HEADER + INDEX_ENTRY * u64::from(partitions);
    // An entry has at least 10 bytes.
    if offset < first || u64::from(rows) * 10 > len {
        return Err(damaged(&key, at, "an index entry is impossible"));
    }
    let bytes = read_range(objects, &key, offset..offset.saturating_add(len)).await?;
    Ok(Block { key, split, offset, rows, bytes })
}

#[cfg(test)]
mod tests {
    use penstock_model::key::KeyValue;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{MemoryObjects, block_on};

    const KEYS: RunKeys<'_> = RunKeys { sync: "s", run: "r" };

    fn key() -> impl Strategy<Value = Key> {
        let value = prop_oneof![
            4 => (0i128..50).prop_map(KeyValue::Int),
            2 => "[a-z]{0,40}".prop_map(KeyValue::Text),
            1 => Just(KeyValue::Null),
        ];
        prop::collection::vec(value, 1..3).prop_map(|values| Key::of(&values))
    }

    fn split(split: u32) -> impl Strategy<Value = Vec<Fingerprint>> {
        prop::collection::vec((key(), any::<u64>(), any::<Option<u64>>()), 0..80).prop_map(move |rows| {
            (0u32..)
                .zip(rows)
                .map(|(row, (key, row_hash, compare_hash))| Fingerprint {
                    key,
                    row_hash,
                    compare_hash,
                    place: Place { split, row },
                })
                .collect()
        })
    }

    fn store(splits: &[Vec<Fingerprint>], partitions: u32) -> std::sync::Arc<MemoryObjects> {
        let objects = MemoryObjects::new();
        for (number, rows) in (0u32..).zip(splits) {
            objects.insert(&KEYS.fingerprints(number), write(rows.clone(), partitions));
        }
        objects
    }

    proptest! {
        #[test]
        fn every_row_reaches_exactly_one_partition_in_order(
            a in split(0), b in split(1), bits in 0u32..5,
        ) {
            let partitions = 1 << bits;
            let objects = store(&[a.clone(), b.clone()], partitions);
            let mut found = Vec::new();
            for partition in 0..partitions {
                let rows = block_on(read_partition(objects.as_ref(), &KEYS, 2, partition, partitions)).unwrap();
                prop_assert!(rows.refs().all(|row| row.has_null == Key::from_bytes(row.key.to_vec()).has_null()));
                found.extend(rows.iter());
            }
            let mut expected = [a, b].concat();
            expected.sort_by_key(|row| (row.key.hash(), row.place));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn damage_is_an_error_or_harmless_but_no_panic(rows in split(0), at in any::<prop::sample::Index>(), byte: u8) {
            let mut body = write(rows, 2).to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            let objects = MemoryObjects::new();
            objects.insert(&KEYS.fingerprints(0), body);
            for partition in 0..2 {
                drop(block_on(read_partition(objects.as_ref(), &KEYS, 1, partition, 2)));
            }
        }
    }

    fn numbered(rows: u32) -> Vec<Fingerprint> {
        (0..rows)
            .map(|row| Fingerprint {
                key: Key::of(&[KeyValue::Int(i128::from(row) + 10_000_000)]),
                row_hash: u64::from(row) << 40,
                compare_hash: None,
                place: Place { split: 0, row },
            })
            .collect()
    }

    #[test]
    fn a_partition_costs_two_requests_a_split_and_few_bytes() {
        let objects = store(&[numbered(20_000), numbered(20_000)], 16);
        block_on(read_partition(objects.as_ref(), &KEYS, 2, 3, 16)).unwrap();
        let reads = objects.take_reads();
        assert_eq!(reads.len(), 4);
        let bytes: u64 = reads.iter().map(|(_, range)| range.end - range.start).sum();
        assert!(bytes < 2 * 20_000 / 16 * 20, "{bytes} bytes for 2500 rows");
    }

    #[test]
    fn an_object_that_is_cut_off_or_of_another_version_is_named() {
        let body = write(numbered(100), 1);
        let objects = MemoryObjects::new();
        objects.insert(&KEYS.fingerprints(0), body.slice(..body.len() - 1));
        let error = block_on(read_partition(objects.as_ref(), &KEYS, 1, 0, 1)).unwrap_err();
        assert!(
            error.to_string().starts_with("object runs/s/r/fingerprints/00000.bin is damaged at offset"),
            "{error}"
        );

        let mut later = body.to_vec();
        later[usize::try_from(HEADER + 20).unwrap()] = 2;
        objects.insert(&KEYS.fingerprints(0), later);
        let error = block_on(read_partition(objects.as_ref(), &KEYS, 1, 0, 1)).unwrap_err();
        assert!(matches!(error, FormatError::Version { found: 2, known: 1, .. }), "{error}");

        objects.insert(&KEYS.fingerprints(0), write(numbered(100), 2));
        let error = block_on(read_partition(objects.as_ref(), &KEYS, 1, 0, 1)).unwrap_err();
        assert!(matches!(error, FormatError::Damaged { .. }), "{error}");
    }
}
