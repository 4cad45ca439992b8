//! The order of rows within a key partition: by key hash, of which the first half nearly always decides.
//!
//! Hashes are spread evenly, so rows are first dealt out into buckets by the hash's first bits: each bucket then is
//! sorted within the processor's caches. Over a million rows that is several times cheaper than one sort.

use std::cmp::Ordering;

use penstock_model::run_plan::partition_of;

/// Rows of a bucket, about: they fit the nearest cache.
const BUCKET_ROWS: usize = 256;
/// Each bucket that is dealt out to keeps a page and a line of the caches busy: with more than this, dealing out costs more than larger
/// buckets cost to sort (measured with 64 to 4,096).
const MOST_BUCKETS: usize = 256;

/// A row with a key hash.
pub(crate) trait Ordered: Copy + Default {
    /// The first half of the key hash.
    fn prefix(&self) -> u64;
}

/// The first half of a key hash.
pub(crate) fn prefix(hash: u128) -> u64 {
    u64::try_from(hash >> 64).unwrap_or(u64::MAX)
}

/// The partition, of `partitions`, of the keys whose hash begins so.
pub(crate) fn partition_of_prefix(prefix: u64, partitions: u32) -> u32 {
    partition_of(u128::from(prefix) << 64, partitions)
}

/// The rows of one of `partitions`, ordered by the first half of the key hash and then by `then`.
pub(crate) fn sorted<T: Ordered>(rows: Vec<T>, partitions: u32, then: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let buckets = Buckets::of(rows.len(), partitions);
    let mut ends = vec![0usize; buckets.count];
    for row in &rows {
        if let Some(rows) = ends.get_mut(buckets.of_prefix(row.prefix())) {
            *rows += 1;
        }
    }
    let mut next = starts(&mut ends);
    let mut dealt = vec![T::default(); rows.len()];
    for row in &rows {
        let Some(at) = next.get_mut(buckets.of_prefix(row.prefix())) else { continue };
        if let Some(place) = dealt.get_mut(*at) {
            *place = *row;
        }
        *at += 1;
    }
    drop(rows);
    let by = |a: &T, b: &T| a.prefix().cmp(&b.prefix()).then_with(|| then(a, b));
    let mut rest = dealt.as_mut_slice();
    let mut start = 0;
    for end in ends {
        let (bucket, others) = rest.split_at_mut(end - start);
        bucket.sort_unstable_by(by);
        (rest, start) = (others, end);
    }
    dealt
}

/// How rows are dealt out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    count: usize,
    /// The bits that say the partition are the same in all rows.
    partition_bits: u32,
    shift: u32,
}

impl Buckets {
    /// For so many rows of one of `partitions`.
    pub(crate) fn of(rows: usize, partitions: u32) -> Self {
        let count = (rows / BUCKET_ROWS).next_power_of_two().min(MOST_BUCKETS);
        Self { count, partition_bits: partitions.trailing_zeros(), shift: 64 - count.trailing_zeros() }
    }

    /// How many there are.
    pub(crate) const fn count(self) -> usize {
        self.count
    }

    /// The bucket of a row, by the first half of its key hash.
    pub(crate) fn of_prefix(self, prefix: u64) -> usize {
        // One bucket shifts all bits away, which is none.
        let bucket = (prefix << self.partition_bits).checked_shr(self.shift);
        usize::try_from(bucket.unwrap_or(0)).unwrap_or(0)
    }
}

/// Makes ends of counts, and gives the starts.
fn starts(counts: &mut [usize]) -> Vec<usize> {
    let mut start = 0;
    let mut starts = Vec::with_capacity(counts.len());
    for count in counts {
        starts.push(start);
        start += *count;
        *count = start;
    }
    starts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
    struct Row {
        prefix: u64,
        more: u8,
    }

    impl Ordered for Row {
        fn prefix(&self) -> u64 {
            self.prefix
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn dealing_out_sorts_like_sorting(
            seed: u64, count in 0u64..5_000, bits in 0u32..8, partition: u32, clumped: bool,
        ) {
            let partition = u64::from(partition) & ((1 << bits) - 1);
            let rows: Vec<Row> = (0..count)
                .map(|n| {
                    let spread = (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let prefix = if clumped { spread % 7 } else { spread };
                    let top = partition.checked_shl(64 - bits).unwrap_or(0);
                    Row { prefix: (prefix >> bits) | top, more: (n % 5) as u8 }
                })
                .collect();
            let mut expected = rows.clone();
            expected.sort();
            prop_assert_eq!(sorted(rows, 1 << bits, |a, b| a.more.cmp(&b.more)), expected);
        }
    }
}
