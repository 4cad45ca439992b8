//! The fingerprints of one key partition from all splits, in the order of keys.

use bytes::Bytes;
use penstock_model::Key;
use penstock_model::change::{Fingerprint, Place};
use penstock_model::run_plan::partition_of;
use xxhash_rust::xxh3::xxh3_128;

use super::{Block, Entry, HAS_COMPARE, HAS_NULL, SplitBlock, SplitRow};
use crate::format::FormatError;
use crate::key_order::{self, Buckets};

/// The fingerprints of one key partition from all splits, ordered by key. They are dealt out into buckets, and a bucket is put in
/// order when it is looked at, within the processor's caches. A row takes 28 bytes and its key.
#[derive(Default)]
pub struct Fingerprints {
    buckets: Vec<Vec<u8>>,
    rows: usize,
}

/// Shows how many there are: keys are row values.
impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprints({})", self.rows)
    }
}

/// A bucket holds a row as this many bytes, then the key, and the compare hash if there is one: the first half of the key hash, the
/// row hash, split, row, and the key's length with two flags as an entry has them.
const LEAD: usize = 28;

/// One fingerprint, its key borrowed.
#[derive(Clone, Copy)]
pub(crate) struct FingerprintRef<'a> {
    pub(crate) prefix: u64,
    pub(crate) key: &'a [u8],
    pub(crate) has_null: bool,
    pub(crate) row_hash: u64,
    pub(crate) compare_hash: Option<u64>,
    pub(crate) place: Place,
}

impl<'a> FingerprintRef<'a> {
    /// The first row of a bucket's rest, and what follows it.
    fn split_first(bucket: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (lead, rest) = bucket.split_first_chunk::<LEAD>()?;
        let (prefix, lead) = lead.split_first_chunk::<8>()?;
        let (row_hash, lead) = lead.split_first_chunk::<8>()?;
        let (split, lead) = lead.split_first_chunk::<4>()?;
        let (row, head) = lead.split_first_chunk::<4>()?;
        let head = u32::from_le_bytes(head.try_into().ok()?);
        let (key, rest) = rest.split_at_checked((head >> 2) as usize)?;
        let (compare_hash, rest) = if u64::from(head) & HAS_COMPARE == 0 {
            (None, rest)
        } else {
            let (hash, rest) = rest.split_first_chunk::<8>()?;
            (Some(u64::from_le_bytes(*hash)), rest)
        };
        let place = Place { split: u32::from_le_bytes(*split), row: u32::from_le_bytes(*row) };
        let row = Self {
            prefix: u64::from_le_bytes(*prefix),
            key,
            has_null: u64::from(head) & HAS_NULL != 0,
            row_hash: u64::from_le_bytes(*row_hash),
            compare_hash,
            place,
        };
        Some((row, rest))
    }

    fn push(bucket: &mut Vec<u8>, prefix: u64, split: u32, entry: &Entry<'_>) {
        bucket.reserve(LEAD + entry.key.len() + 8);
        bucket.extend_from_slice([prefix, entry.row_hash].map(u64::to_le_bytes).as_flattened());
        bucket.extend_from_slice([split, entry.row, entry.head].map(u32::to_le_bytes).as_flattened());
        bucket.extend_from_slice(entry.key);
        if let Some(hash) = entry.compare_hash {
            bucket.extend_from_slice(&hash.to_le_bytes());
        }
    }
}

impl Fingerprints {
    /// Fingerprints at hand, in any order.
    #[must_use]
    pub fn of(fingerprints: &[Fingerprint]) -> Self {
        let mut blocks = Vec::with_capacity(fingerprints.len());
        for fingerprint in fingerprints {
            let mut block = SplitBlock::default();
            block.push(SplitRow {
                key: fingerprint.key.as_bytes(),
                has_null: fingerprint.key.has_null(),
                row_hash: fingerprint.row_hash,
                compare_hash: fingerprint.compare_hash,
                row: fingerprint.place.row,
            });
            let (split, bytes) = (fingerprint.place.split, Bytes::from(block.bytes));
            blocks.push(Block { key: String::new(), split, offset: 0, rows: block.rows, bytes });
        }
        // What was just written can be read.
        Self::of_blocks(&blocks, 0, 1).unwrap_or_default()
    }

    /// Deals out the entries of some blocks, which are all of one of `partitions`.
    pub(super) fn of_blocks(blocks: &[Block], partition: u32, partitions: u32) -> Result<Self, FormatError> {
        let rows = blocks.iter().map(|block| block.rows as usize).sum();
        let plan = Buckets::of(rows, partitions);
        let bytes: usize = blocks.iter().map(|block| block.bytes.len()).sum();
        // Hashes are spread evenly: few buckets are an eighth larger than the others. An entry has 10 bytes beside its key, or more.
        let about = (bytes + rows.min(bytes / 10) * (LEAD - 10)) / plan.count();
        let mut buckets: Vec<Vec<u8>> =
            (0..plan.count()).map(|_| Vec::with_capacity(about + about / 8)).collect();
        for block in blocks {
            let mut cursor = block.cursor();
            let mut last = 0;
            for _ in 0..block.rows {
                let entry = Entry::read(&mut cursor, last)?;
                last = entry.row;
                let hash = xxh3_128(entry.key);
                if partition_of(hash, partitions) != partition {
                    return Err(cursor.damaged("a key is not of this partition"));
                }
                let prefix = key_order::prefix(hash);
                if let Some(bucket) = buckets.get_mut(plan.of_prefix(prefix)) {
                    FingerprintRef::push(bucket, prefix, block.split, &entry);
                }
            }
            if !cursor.is_at_end() {
                return Err(cursor.damaged("a block holds more than its index says"));
            }
        }
        Ok(Self { buckets, rows })
    }

    /// How many rows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
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
        let mut buckets = self.buckets.iter();
        let (mut bucket, mut order) = ([].as_slice(), Order::default());
        std::iter::from_fn(move || {
            while order.is_at_end() {
                bucket = buckets.next()?.as_slice();
                order.put(bucket);
            }
            order.next(bucket)
        })
    }
}

/// The order of a bucket's rows.
#[derive(Default)]
struct Order {
    /// Where each row begins in the bucket.
    starts: Vec<usize>,
    /// Of each row as many bits of its key hash as fit, above its number among the starts.
    rows: Vec<u64>,
    /// The bits of the number.
    number: u64,
    at: usize,
}

impl Order {
    fn is_at_end(&self) -> bool {
        self.at == self.rows.len()
    }

    /// The next row of the bucket that was put in order.
    #[inline]
    fn next<'a>(&mut self, bucket: &'a [u8]) -> Option<FingerprintRef<'a>> {
        let row = *self.rows.get(self.at)?;
        self.at += 1;
        row_at(bucket, &self.starts, row & self.number)
    }

    fn put(&mut self, bucket: &[u8]) {
        let Self { starts, rows, number, at } = self;
        starts.clear();
        rows.clear();
        *at = 0;
        let (mut rest, mut first, mut apart) = (bucket, None, 0);
        // Nothing but rows was pushed into it.
        while let Some((row, after)) = FingerprintRef::split_first(rest) {
            starts.push(bucket.len() - rest.len());
            rows.push(row.prefix);
            apart |= row.prefix ^ *first.get_or_insert(row.prefix);
            rest = after;
        }
        // The highest bits say the bucket, and do not tell its rows apart.
        let skip = u64::leading_zeros(apart).min(63);
        let mask = (rows.len() as u64).checked_next_power_of_two().map_or(u64::MAX, |above| above - 1);
        *number = mask;
        for (row, at) in rows.iter_mut().zip(0u64..) {
            *row = (*row << skip) & !mask | at;
        }
        rows.sort_unstable();
        let whole = |row: u64| row_at(bucket, starts, row & mask).map(|row| (row.prefix, row.key, row.place));
        // What was left of a hash nearly always decides.
        for same in rows.chunk_by_mut(|a, b| a & !mask == b & !mask).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|a, b| whole(*a).cmp(&whole(*b)));
        }
    }
}

/// The row of a bucket that begins at one of these starts.
#[inline]
fn row_at<'a>(bucket: &'a [u8], starts: &[usize], number: u64) -> Option<FingerprintRef<'a>> {
    let start = *starts.get(usize::try_from(number).ok()?)?;
    FingerprintRef::split_first(bucket.get(start..)?).map(|(row, _)| row)
}
