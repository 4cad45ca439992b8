//! The rows that a chunk needs, from the unload.

use futures::stream::{self, StreamExt, TryStreamExt};
use penstock_model::port::Objects;
use penstock_model::run_plan::RunPlan;
use penstock_model::unload::{Column, PinnedUnload, Split};

use super::TransformError;
use super::rows::PlacedRows;
use crate::reading::{SplitSource, read_split};
use crate::unload::{NaiveTimestamps, UnloadError};

/// Splits read at the same time: most of the time goes by waiting for the store.
const SPLITS_AT_ONCE: usize = 8;

/// The unload that rows are fetched from.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    /// The objects below its root.
    pub(super) objects: &'a dyn Objects,
    /// Its files.
    pub(super) unload: &'a PinnedUnload,
    /// How it was cut.
    pub(super) splits: &'a [Split],
}

/// Fetches rows by split and number (rising), with the plan's columns of these lower-case names.
pub(super) async fn fetch(
    from: From<'_>,
    plan: &RunPlan,
    names: &[String],
    wanted: &[(u32, Vec<u32>)],
) -> Result<Vec<PlacedRows>, TransformError> {
    let naive = NaiveTimestamps::parse(plan.definition.unload.naive_timestamps.as_deref())
        .map_err(TransformError::Unload)?;
    let columns: Vec<Column> =
        plan.columns.iter().filter(|column| names.contains(&column.name.to_lowercase())).cloned().collect();
    // Collected first: a stream over a borrowing closure makes a future that the compiler can't prove to be Send.
    let reads: Vec<_> =
        wanted.iter().map(|(split, rows)| one_split(from, &columns, naive, *split, rows)).collect();
    let placed: Vec<Vec<PlacedRows>> = stream::iter(reads).buffered(SPLITS_AT_ONCE).try_collect().await?;
    Ok(placed.into_iter().flatten().collect())
}

async fn one_split(
    from: From<'_>,
    columns: &[Column],
    naive: NaiveTimestamps,
    number: u32,
    rows: &[u32],
) -> Result<Vec<PlacedRows>, TransformError> {
    let split = usize::try_from(number).ok().and_then(|number| from.splits.get(number));
    let split = split
        .ok_or(TransformError::NoSuchRow { split: number, row: rows.first().copied().unwrap_or_default() })?;
    let mut placed = Vec::new();
    let source = SplitSource { objects: from.objects, unload: from.unload, split, columns, naive };
    let read = read_split(source, Some(rows), |batch, numbers| {
        placed.push(PlacedRows { split: number, numbers: numbers.to_vec(), batch: batch.clone() });
        Ok::<(), UnloadError>(())
    });
    read.await.map_err(TransformError::Unload)?;
    Ok(placed)
}
