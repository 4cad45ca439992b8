//! What `read` does with a split: a fingerprint for every row.

use std::collections::BTreeMap;

use penstock_model::change::{Fingerprint, Place};
use penstock_model::port::Objects;
use penstock_model::run_plan::RunPlan;
use penstock_model::unload::Column;
use penstock_model::{Failure, FailureName, Key};

use crate::canonical;
use crate::reading::{SplitSource, read_split};
use crate::unload::{NaiveTimestamps, UnloadError};

/// A split's fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRead {
    /// One per row, in the order of rows. Rows with a null in their key have one too.
    pub fingerprints: Vec<Fingerprint>,
    /// Rows of the split.
    pub rows: u64,
    /// Nulls of each hashed column, by lower-case name.
    pub null_counts: BTreeMap<String, u64>,
}

/// Why a split can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The unload can't be used.
    #[error(transparent)]
    Unload(#[from] UnloadError),
    /// The plan has no such split, or names a column that it does not pin.
    #[error("the run plan is out of step: {why}")]
    Plan {
        /// What is missing.
        why: String,
    },
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unload(error) => error.into(),
            ReadError::Plan { .. } => Self::new(FailureName::InvariantBroken, error.to_string()),
        }
    }
}

/// Reads the key and the hashed columns of one split of a plan and makes the fingerprints of its rows. `objects` are those
/// below the unload's root.
///
/// # Errors
/// [`ReadError::Unload`] if the split's files can't be read; [`ReadError::Plan`] if the plan contradicts itself.
pub async fn read_split_fingerprints(
    objects: &dyn Objects,
    plan: &RunPlan,
    split: u32,
) -> Result<SplitRead, ReadError> {
    let out_of_step = |why: String| ReadError::Plan { why };
    let found = usize::try_from(split).ok().and_then(|at| plan.splits.get(at));
    let taken = found.ok_or_else(|| out_of_step(format!("it has no split {split}")))?;
    let hashing = Hashing::new(plan)?;
    let naive = NaiveTimestamps::parse(plan.definition.unload.naive_timestamps.as_deref())?;
    let source =
        SplitSource { objects, unload: &plan.unload, split: taken, columns: &hashing.columns, naive };
    let capacity = usize::try_from(taken.rows).unwrap_or_default();
    let mut fingerprints = Vec::with_capacity(capacity);
    let mut null_counts: BTreeMap<String, u64> =
        hashing.hashed.iter().map(|column| (column.name.to_lowercase(), 0)).collect();
    read_split(source, None, |batch, rows| {
        let keys = canonical::keys(batch, &plan.key_columns)?;
        let row_hashes = canonical::row_hashes(batch, &hashing.hashed)?;
        let compare = hashing.compared.as_ref();
        let compare = compare.map(|columns| canonical::row_hashes(batch, columns)).transpose()?;
        for (column, nulls) in canonical::null_counts(batch) {
            if let Some(count) = null_counts.get_mut(&column) {
                *count += nulls;
            }
        }
        let compare = compare.unwrap_or_default().into_iter().map(Some).chain(std::iter::repeat(None));
        let cells = keys.into_iter().zip(row_hashes).zip(compare).zip(rows);
        fingerprints.extend(cells.map(|(((key, row_hash), compare_hash), row)| {
            fingerprint(key, row_hash, compare_hash, Place { split, row: *row })
        }));
        Ok::<(), UnloadError>(())
    })
    .await?;
    let rows = fingerprints.len() as u64;
    Ok(SplitRead { fingerprints, rows, null_counts })
}

fn fingerprint(key: Key, row_hash: u64, compare_hash: Option<u64>, place: Place) -> Fingerprint {
    Fingerprint { key, row_hash, compare_hash, place }
}

/// The columns that a plan has hashed, and all that must be read for it.
struct Hashing {
    columns: Vec<Column>,
    hashed: Vec<Column>,
    compared: Option<Vec<Column>>,
}

impl Hashing {
    fn new(plan: &RunPlan) -> Result<Self, ReadError> {
        let pinned = |names: &[String]| -> Result<Vec<Column>, ReadError> {
            names.iter().map(|name| column(plan, name)).collect()
        };
        let hashed = pinned(&plan.hashed_columns)?;
        let compared = plan.compare_columns.as_deref().map(pinned).transpose()?;
        let mut columns: BTreeMap<String, Column> = BTreeMap::new();
        for column in plan.key_columns.iter().chain(&hashed).chain(compared.iter().flatten()) {
            columns.entry(column.name.to_lowercase()).or_insert_with(|| column.clone());
        }
        Ok(Self { columns: columns.into_values().collect(), hashed, compared })
    }
}

fn column(plan: &RunPlan, name: &str) -> Result<Column, ReadError> {
    let lower = name.to_lowercase();
    let mut pinned = plan.columns.iter().chain(&plan.key_columns);
    let found = pinned.find(|column| column.name.to_lowercase() == lower);
    found.cloned().ok_or_else(|| ReadError::Plan { why: format!("it does not pin the column {name}") })
}

#[cfg(test)]
mod tests;
