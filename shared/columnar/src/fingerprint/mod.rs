//! What `read` tells `diff` of a split: one object, cut into key partitions.
//!
//! | part | content |
//! |---|---|
//! | header, 16 bytes | `PNFP`, version (u32), partitions (u32), rows (u32) |
//! | index, 28 bytes a partition | offset (u64), length (u64) and rows (u32) of its block, version and partitions (u32) |
//! | blocks | entries in the order of rows |
//!
//! An entry is a varint (length of the key × 4, + 2 if there is a compare hash, + 1 if the key holds a null), the
//! key, the row hash (u64), the compare hash (u64) if any, and by how much the row's number is above that of the entry
//! before, or above 0 (varint, modulo 2^32). Numbers are little-endian.
//!
//! The key itself stands in the place of its 128-bit hash: the snapshot needs it, a removal can't do without it, and
//! for an integer key it is shorter (about 15 bytes a row in all). Who reads it hashes it anew.
//!
//! A diff reads its partition by two ranges: its index entry, whose place follows from the partition, and its block.
//! That is why version and partitions stand in every index entry too.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use penstock_model::layout::RunKeys;
use penstock_model::port::Objects;
use penstock_model::run_plan::partition_of;
use xxhash_rust::xxh3::xxh3_128;

use crate::format::{Cursor, FormatError, damaged, push_varint, read_range, wide};

mod dealt;

pub(crate) use dealt::FingerprintRef;
pub use dealt::Fingerprints;

const MAGIC: [u8; 4] = *b"PNFP";
const VERSION: u32 = 2;
const HEADER: u64 = 16;
const INDEX_ENTRY: u64 = 28;
const HAS_NULL: u64 = 1;
const HAS_COMPARE: u64 = 2;
/// Splits read at the same time.
const READS_AT_ONCE: usize = 16;

/// One row of a split, as it is read.
#[derive(Clone, Copy)]
pub struct SplitRow<'a> {
    /// The key's canonical bytes.
    pub key: &'a [u8],
    /// Whether a column of the key is null.
    pub has_null: bool,
    /// Hash of the mapped columns.
    pub row_hash: u64,
    /// Hash of the columns of the last snapshot, where they differ.
    pub compare_hash: Option<u64>,
    /// The row's number in the split.
    pub row: u32,
}

/// Shows the row's number only: a key is a row value.
impl std::fmt::Debug for SplitRow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SplitRow({})", self.row)
    }
}

/// Writes the object of one split, row by row. Each row goes straight into the bytes of its partition: nothing is
/// sorted here, since diff has to order the rows of all splits anyway.
#[derive(Debug)]
pub struct SplitWriter {
    partitions: u32,
    blocks: Vec<SplitBlock>,
}

/// The rows of one partition, as they will be stored.
#[derive(Debug, Clone, Default)]
struct SplitBlock {
    bytes: Vec<u8>,
    rows: u32,
    /// The number of the last of them.
    last: u32,
}

impl SplitBlock {
    fn push(&mut self, row: SplitRow<'_>) {
        let null = if row.has_null { HAS_NULL } else { 0 };
        let compare = if row.compare_hash.is_some() { HAS_COMPARE } else { 0 };
        push_varint(&mut self.bytes, wide(row.key.len()) << 2 | compare | null);
        self.bytes.extend_from_slice(row.key);
        self.bytes.extend_from_slice(&row.row_hash.to_le_bytes());
        if let Some(compare) = row.compare_hash {
            self.bytes.extend_from_slice(&compare.to_le_bytes());
        }
        push_varint(&mut self.bytes, u64::from(row.row.wrapping_sub(self.last)));
        self.last = row.row;
        self.rows += 1;
    }
}

impl SplitWriter {
    /// For a run with so many key partitions, a power of two.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { partitions, blocks: vec![SplitBlock::default(); partitions as usize] }
    }

    /// Takes the next row.
    pub fn push(&mut self, row: SplitRow<'_>) {
        let partition = partition_of(xxh3_128(row.key), self.partitions);
        // The first bits of a hash are always one of the partitions.
        if let Some(block) = self.blocks.get_mut(partition as usize) {
            block.push(row);
        }
    }

    /// The object.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let rows: u32 = self.blocks.iter().map(|block| block.rows).sum();
        let index = HEADER + INDEX_ENTRY * u64::from(self.partitions);
        let bytes: usize = self.blocks.iter().map(|block| block.bytes.len()).sum();
        let mut out = Vec::with_capacity(bytes + usize::try_from(index).unwrap_or(0));
        out.extend_from_slice(&MAGIC);
        for number in [VERSION, self.partitions, rows] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let mut start = index;
        for block in &self.blocks {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&wide(block.bytes.len()).to_le_bytes());
            for number in [block.rows, VERSION, self.partitions] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            start += wide(block.bytes.len());
        }
        // Each block is freed once it is copied.
        for block in self.blocks {
            out.extend_from_slice(&block.bytes);
        }
        Bytes::from(out)
    }
}

/// One partition's bytes in one split's object.
struct Block {
    key: String,
    split: u32,
    offset: u64,
    rows: u32,
    bytes: Bytes,
}

impl Block {
    fn cursor(&self) -> Cursor<'_> {
        Cursor::new(&self.key, self.offset, &self.bytes)
    }
}

/// One entry of a block.
struct Entry<'a> {
    /// The key's length, and two flags below it.
    head: u32,
    key: &'a [u8],
    row_hash: u64,
    compare_hash: Option<u64>,
    row: u32,
}

impl<'a> Entry<'a> {
    /// The entry that follows one of the row `last`.
    fn read(cursor: &mut Cursor<'a>, last: u32) -> Result<Self, FormatError> {
        let head = cursor.varint_u32()?;
        let key = cursor.take((head >> 2) as usize)?;
        let row_hash = cursor.u64()?;
        let compare_hash = if u64::from(head) & HAS_COMPARE == 0 { None } else { Some(cursor.u64()?) };
        Ok(Self { head, key, row_hash, compare_hash, row: last.wrapping_add(cursor.varint_u32()?) })
    }
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
    Fingerprints::of_blocks(&blocks, partition, partitions)
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
    use penstock_model::Key;
    use penstock_model::change::{Fingerprint, Place};
    use penstock_model::key::KeyValue;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{MemoryObjects, block_on};

    /// The object of some fingerprints of one split.
    fn write(fingerprints: &[Fingerprint], partitions: u32) -> Bytes {
        crate::testing::fingerprints_object(fingerprints, partitions)
    }

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
            objects.insert(&KEYS.fingerprints(number), write(rows, partitions));
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
            let mut body = write(&rows, 2).to_vec();
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
        let body = write(&numbered(100), 1);
        let objects = MemoryObjects::new();
        objects.insert(&KEYS.fingerprints(0), body.slice(..body.len() - 1));
        let error = block_on(read_partition(objects.as_ref(), &KEYS, 1, 0, 1)).unwrap_err();
        assert!(
            error.to_string().starts_with("object runs/s/r/fingerprints/00000.bin is damaged at offset"),
            "{error}"
        );

        let mut later = body.to_vec();
        later[usize::try_from(HEADER + 20).unwrap()] = 3;
        objects.insert(&KEYS.fingerprints(0), later);
        let error = block_on(read_partition(objects.as_ref(), &KEYS, 1, 0, 1)).unwrap_err();
        assert!(matches!(error, FormatError::Version { found: 3, known: 2, .. }), "{error}");

        objects.insert(&KEYS.fingerprints(0), write(&numbered(100), 2));
        let error = block_on(read_partition(objects.as_ref(), &KEYS, 1, 0, 1)).unwrap_err();
        assert!(matches!(error, FormatError::Damaged { .. }), "{error}");
    }
}
