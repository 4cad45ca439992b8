//! The chunk list of a run, and the changes of one chunk.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use penstock_model::change::{Change, Place};
use penstock_model::layout::RunKeys;
use penstock_model::operation::{Chunk, ChunkRange};
use penstock_model::port::Objects;

use super::cut::Cutter;
use super::rows::BucketSize;
use super::{removals, rows};
use crate::format::FormatError;

/// Objects read at the same time.
const READS_AT_ONCE: usize = 16;
/// Changes whose places are looked at in one go, where a bucket must be cut.
const LOOK_AT: u32 = 50_000;

/// Every chunk of a run: rows by place over all partitions, then removals by partition. Each change is in exactly one
/// chunk, none holds more than `chunk_rows`, and the first (if `canary` is given) no more than that. The same changes
/// give the same chunks.
///
/// # Errors
/// [`FormatError`] if an object is missing or damaged.
pub async fn plan_chunks(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    partitions: u32,
    chunk_rows: u32,
    canary: Option<u32>,
) -> Result<Vec<Chunk>, FormatError> {
    let size = BucketSize::of(partitions);
    let buckets: Vec<((u32, u32), u32)> =
        count_buckets(objects, keys, partitions, size).await?.into_iter().collect();
    let mut cutter = Cutter::new(chunk_rows, canary);
    let mut rest = buckets.as_slice();
    while let Some((&((split, bucket), changes), after)) = rest.split_first() {
        if cutter.takes_whole(changes) {
            cutter.stretch(size.start(split, bucket), size.end(split, bucket), changes);
            rest = after;
        } else {
            let (span, after) = rest.split_at(span_to_look_at(rest));
            let to = span.last().map_or((split, bucket), |(place, _)| *place);
            let (from, to) = (size.start(split, bucket), size.end(to.0, to.1));
            for change in read_rows(objects, keys, partitions, from, to).await? {
                cutter.row(change.place);
            }
            rest = after;
        }
    }
    let mut counts = stream::iter((0..partitions).map(|partition| keys.removals(partition)))
        .map(|key| async move { removals::read_removal_count(objects, &key).await })
        .buffered(READS_AT_ONCE);
    let mut partition = 0;
    while let Some(count) = counts.try_next().await? {
        cutter.removals(partition, count);
        partition += 1;
    }
    Ok(cutter.finish())
}

/// How many of the next buckets to look at: at least one.
fn span_to_look_at(buckets: &[((u32, u32), u32)]) -> usize {
    let mut total = 0u32;
    let fits = buckets.iter().take_while(|(_, changes)| {
        total = total.saturating_add(*changes);
        total <= LOOK_AT
    });
    fits.count().max(1)
}

/// Changes per bucket, summed over all partitions.
async fn count_buckets(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    partitions: u32,
    size: BucketSize,
) -> Result<BTreeMap<(u32, u32), u32>, FormatError> {
    let mut totals = BTreeMap::new();
    let mut indexes = stream::iter((0..partitions).map(|partition| keys.changes(partition)))
        .map(|key| async move { rows::read_index(objects, &key, size).await })
        .buffered(READS_AT_ONCE);
    while let Some(index) = indexes.try_next().await? {
        for bucket in index {
            let total: &mut u32 = totals.entry((bucket.split, bucket.bucket)).or_default();
            *total = total.saturating_add(bucket.changes);
        }
    }
    Ok(totals)
}

/// The changes of a chunk; a change's ordinal is its place in this list. None for an append, which has no changes.
///
/// # Errors
/// [`FormatError`] if an object is missing or damaged. [`FormatError::of_chunk`] names it for the chunk alone.
pub async fn read_chunk(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    partitions: u32,
    range: &ChunkRange,
) -> Result<Vec<Change>, FormatError> {
    match *range {
        ChunkRange::Rows { from, to } => read_rows(objects, keys, partitions, from, to).await,
        ChunkRange::Removals { partition, from, to } => {
            removals::read_between(objects, &keys.removals(partition), from, to).await
        }
        ChunkRange::Append { .. } => Ok(Vec::new()),
    }
}

async fn read_rows(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    partitions: u32,
    from: Place,
    to: Place,
) -> Result<Vec<Change>, FormatError> {
    let size = BucketSize::of(partitions);
    let slices: Vec<Vec<Change>> = stream::iter((0..partitions).map(|partition| keys.changes(partition)))
        .map(|key| async move { rows::read_between(objects, &key, size, from, to).await })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut changes: Vec<Change> = slices.into_iter().flatten().collect();
    // A row is in one partition only, so that no two changes have the same place.
    changes.sort_unstable_by_key(|change| change.place);
    Ok(changes)
}
