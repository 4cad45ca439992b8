//! Fetches byte ranges of a file with few requests, several of them in flight.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use penstock_model::port::Objects;
use penstock_model::unload::UnloadFile;

use crate::unload::{UnloadError, footer};

/// Ranges nearer to each other than this are fetched as one: a request costs more than these bytes.
const NEAR_BYTES: u64 = 1024 * 1024;
/// The most that one request fetches: one connection alone does not fill the line.
const PART_BYTES: u64 = 8 * 1024 * 1024;
const PARTS_IN_FLIGHT: usize = 8;

/// The bytes of each range, in order.
pub(super) async fn fetch(
    objects: &dyn Objects,
    file: &UnloadFile,
    ranges: &[Range<u64>],
) -> Result<Vec<Bytes>, UnloadError> {
    // Whole columns were checked with the footer; where single pages stand is known from elsewhere.
    if ranges.iter().any(|range| range.start > range.end || range.end > file.size) {
        return Err(UnloadError::corrupt(&file.key, "its pages are said to stand outside of it"));
    }
    let runs = runs(ranges);
    let parts: Vec<_> = runs
        .iter()
        .flat_map(|run| parts(run.clone()))
        .map(|part| footer::range(objects, &file.key, part, &file.etag))
        .collect();
    let fetched: Vec<Bytes> = stream::iter(parts).buffered(PARTS_IN_FLIGHT).try_collect().await?;
    let mut fetched = fetched.into_iter();
    let runs: Vec<(Range<u64>, Bytes)> = runs
        .into_iter()
        .map(|run| {
            let count = parts_of(&run);
            let bytes = joined(fetched.by_ref().take(count));
            (run, bytes)
        })
        .collect();
    ranges
        .iter()
        .map(|range| slice(&runs, range).ok_or_else(|| UnloadError::corrupt(&file.key, "it ends early")))
        .collect()
}

/// Merges ranges that overlap or stand near each other.
fn runs(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| (range.start, range.end));
    let mut runs: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match runs.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(NEAR_BYTES) => {
                last.end = last.end.max(range.end);
            }
            Some(_) | None => runs.push(range),
        }
    }
    runs
}

fn parts(run: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = run.start;
    std::iter::from_fn(move || {
        let end = run.end.min(start + PART_BYTES);
        let part = (start < end).then_some(start..end);
        start = end;
        part
    })
}

fn parts_of(run: &Range<u64>) -> usize {
    usize::try_from((run.end - run.start).div_ceil(PART_BYTES)).unwrap_or(usize::MAX)
}

fn joined(mut parts: impl Iterator<Item = Bytes>) -> Bytes {
    let Some(first) = parts.next() else { return Bytes::new() };
    let Some(second) = parts.next() else { return first };
    let mut whole = BytesMut::from(first.as_ref());
    whole.extend_from_slice(&second);
    parts.for_each(|part| whole.extend_from_slice(&part));
    whole.freeze()
}

fn slice(runs: &[(Range<u64>, Bytes)], range: &Range<u64>) -> Option<Bytes> {
    let at = runs.partition_point(|(run, _)| run.start <= range.start).checked_sub(1)?;
    let (run, bytes) = runs.get(at)?;
    let start = usize::try_from(range.start - run.start).ok()?;
    let end = usize::try_from(range.end.checked_sub(run.start)?).ok()?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{MemoryObjects, block_on};

    #[test]
    fn near_ranges_are_fetched_as_one_and_large_ones_in_parts() {
        const MB: u64 = 1024 * 1024;
        let body: Vec<u8> = (0..30 * MB).map(|at| (at % 251) as u8).collect();
        let objects = MemoryObjects::new();
        let etag = objects.insert("f", body.clone());
        let file = UnloadFile {
            key: "f".to_owned(),
            size: 30 * MB,
            etag,
            rows: 0,
            row_groups: vec![],
            row_group_bytes: vec![],
            naive_int96: vec![],
            partition_values: BTreeMap::new(),
        };
        let ranges = [20 * MB..30 * MB, 0..10, 5 * MB..5 * MB + 7, 500..900, 5 * MB..5 * MB];
        let fetched = block_on(fetch(objects.as_ref(), &file, &ranges)).unwrap();
        for (range, bytes) in ranges.iter().zip(fetched) {
            let expected = body.iter().enumerate().filter(|(at, _)| range.contains(&(*at as u64)));
            assert!(expected.map(|(_, byte)| byte).eq(bytes.iter()), "{range:?}");
        }
        let reads: Vec<Range<u64>> = objects.take_reads().into_iter().map(|(_, range)| range).collect();
        assert_eq!(reads, [0..900, 5 * MB..5 * MB + 7, 20 * MB..28 * MB, 28 * MB..30 * MB]);

        let outside = block_on(fetch(objects.as_ref(), &file, std::slice::from_ref(&(0..31 * MB))));
        assert!(matches!(outside, Err(UnloadError::Corrupt { .. })));
    }
}
