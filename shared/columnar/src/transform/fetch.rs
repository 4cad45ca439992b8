//! The rows that a chunk needs, from the unload.

use futures::stream::{self, StreamExt, TryStreamExt};
use penstock_model::port::Objects;
use penstock_model::run_plan::RunPlan;
use penstock_model::unload::{Column, PinnedUnload, Split};

use super::TransformError;
use super::rows::PlacedRows;
use crate::format::FormatError;
use crate::reading::{PageLocations, Rows, SplitSource, read_split};
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
    /// Where a read of this run left what it found, if there was one.
    pub(super) read_before: Option<&'a dyn Objects>,
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
        wanted.iter().map(|(split, rows)| one_split(from, plan, &columns, naive, (*split, rows))).collect();
    let placed: Vec<Vec<PlacedRows>> = stream::iter(reads).buffered(SPLITS_AT_ONCE).try_collect().await?;
    Ok(placed.into_iter().flatten().collect())
}

async fn one_split(
    from: From<'_>,
    plan: &RunPlan,
    columns: &[Column],
    naive: NaiveTimestamps,
    (number, rows): (u32, &[u32]),
) -> Result<Vec<PlacedRows>, TransformError> {
    let split = usize::try_from(number).ok().and_then(|number| from.splits.get(number));
    let split = split
        .ok_or(TransformError::NoSuchRow { split: number, row: rows.first().copied().unwrap_or_default() })?;
    let pages = match from.read_before {
        Some(state) => pages(state, &plan.run.keys().pages(number)).await.map_err(TransformError::Pages)?,
        None => PageLocations::default(),
    };
    let mut placed = Vec::new();
    let source = SplitSource { objects: from.objects, unload: from.unload, split, columns, naive };
    let read = read_split(source, Rows::Chosen { numbers: rows, pages: &pages }, |batch, numbers| {
        placed.push(PlacedRows { split: number, numbers: numbers.to_vec(), batch: batch.clone() });
        Ok::<(), UnloadError>(())
    });
    read.await.map_err(TransformError::Unload)?;
    Ok(placed)
}

/// Where pages stand, if `read` had reason to keep it.
async fn pages(state: &dyn Objects, key: &str) -> Result<PageLocations, FormatError> {
    match state.get(key).await? {
        Some((body, _)) => PageLocations::from_bytes(key, &body),
        None => Ok(PageLocations::default()),
    }
}
