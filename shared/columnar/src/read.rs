//! What `read` does with a split: a fingerprint for every row.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use penstock_model::mapping_change::{self, CompareZone};
use penstock_model::port::Objects;
use penstock_model::run_plan::{HashedColumn, RunPlan};
use penstock_model::unload::Column;
use penstock_model::{Failure, FailureName};

use crate::canonical;
use crate::fingerprint::{SplitRow, SplitWriter};
use crate::reading::{Rows, SplitSource, read_split, rezoned};
use crate::unload::{NaiveTimestamps, UnloadError};

/// A split's fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRead {
    /// The object that holds one per row. Rows with a null in their key have one too.
    pub fingerprints: Bytes,
    /// The object that tells where pages stand, for who reads a part of the split; `None` if the files say it themselves.
    pub pages: Option<Bytes>,
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
    /// Another version of Penstock has planned the run: half of its rows would be hashed in one way and half in another.
    #[error(
        "the run was planned with row hashes of version {planned}, and this version of Penstock makes those of {ours}; start a new run"
    )]
    HashVersion {
        /// The plan's.
        planned: u32,
        /// This build's.
        ours: u32,
    },
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unload(error) => error.into(),
            ReadError::Plan { .. } => Self::new(FailureName::InvariantBroken, error.to_string()),
            ReadError::HashVersion { .. } => Self::new(FailureName::ContractMismatch, error.to_string()),
        }
    }
}

/// Reads the key and the hashed columns of one split of a plan and makes the fingerprints of its rows. `objects` are those
/// below the unload's root.
///
/// # Errors
/// [`ReadError::Unload`] if the split's files can't be read; [`ReadError::Plan`] if the plan contradicts itself;
/// [`ReadError::HashVersion`] if it is of a version of Penstock that hashed otherwise.
pub async fn read_split_fingerprints(
    objects: &dyn Objects,
    plan: &RunPlan,
    split: u32,
) -> Result<SplitRead, ReadError> {
    let planned =
        plan.hashing.as_ref().map_or(mapping_change::Hashing::FIRST_VERSION, |hashing| hashing.version);
    if planned != canonical::HASH_VERSION {
        return Err(ReadError::HashVersion { planned, ours: canonical::HASH_VERSION });
    }
    let out_of_step = |why: String| ReadError::Plan { why };
    let found = usize::try_from(split).ok().and_then(|at| plan.splits.get(at));
    let taken = found.ok_or_else(|| out_of_step(format!("it has no split {split}")))?;
    let naive = NaiveTimestamps::parse(plan.definition.unload.naive_timestamps.as_deref())?;
    let hashing = Hashing::new(plan, naive)?;
    let source =
        SplitSource { objects, unload: &plan.unload, split: taken, columns: &hashing.columns, naive };
    let mut writer = SplitWriter::new(plan.partitions);
    let mut count = 0;
    let mut null_counts: BTreeMap<String, u64> =
        hashing.hashed.all().map(|column| (column.name.to_lowercase(), 0)).collect();
    let located = read_split(source, Rows::All, |batch, rows| {
        let keys = canonical::keys(batch, &plan.key_columns)?;
        let row_hashes = hashing.hashed.hashes(batch)?;
        let compare = hashing.compared.as_ref().map(|columns| columns.hashes(batch)).transpose()?;
        for (column, nulls) in canonical::null_counts(batch) {
            if let Some(count) = null_counts.get_mut(&column) {
                *count += nulls;
            }
        }
        let mut compare = compare.unwrap_or_default().into_iter();
        for ((((key, has_null), row_hash), compare_hash), row) in
            keys.iter().zip(row_hashes).zip(std::iter::from_fn(|| Some(compare.next()))).zip(rows)
        {
            writer.push(SplitRow { key, has_null, row_hash, compare_hash, row: *row });
            count += 1;
        }
        Ok::<(), UnloadError>(())
    })
    .await?;
    let pages = (!located.is_empty()).then(|| located.to_bytes());
    Ok(SplitRead { fingerprints: writer.finish(), pages, rows: count, null_counts })
}

/// The columns that a plan has hashed, and all that must be read for it.
struct Hashing {
    columns: Vec<Column>,
    hashed: Hashed,
    compared: Option<Compared>,
}

/// What the snapshot's row hashes cover, where that differs.
struct Compared {
    hashed: Hashed,
    zone: Option<CompareZone>,
    today: NaiveTimestamps,
}

impl Compared {
    fn hashes(&self, batch: &RecordBatch) -> Result<Vec<u64>, UnloadError> {
        match &self.zone {
            None => self.hashed.hashes(batch),
            Some(zone) => self.hashed.hashes(&rezoned(batch, zone, self.today)?),
        }
    }
}

/// Columns by how they are hashed.
#[derive(Default)]
struct Hashed {
    values: Vec<Column>,
    /// Text that is compared by what it says as JSON.
    json: Vec<Column>,
}

impl Hashed {
    fn of(plan: &RunPlan, names: &[String]) -> Result<Self, ReadError> {
        let mut hashed = Self::default();
        for name in names {
            match HashedColumn::of(name) {
                HashedColumn::Value(name) => hashed.values.push(column(plan, name)?),
                HashedColumn::Json(name) => hashed.json.push(column(plan, name)?),
            }
        }
        Ok(hashed)
    }

    fn all(&self) -> impl Iterator<Item = &Column> {
        self.values.iter().chain(&self.json)
    }

    fn hashes(&self, batch: &RecordBatch) -> Result<Vec<u64>, UnloadError> {
        let mut hashes = canonical::row_hashes(batch, &self.values)?;
        for column in &self.json {
            canonical::add_json_column(&mut hashes, batch, column)?;
        }
        Ok(hashes)
    }
}

impl Hashing {
    fn new(plan: &RunPlan, naive: NaiveTimestamps) -> Result<Self, ReadError> {
        let hashed = Hashed::of(plan, &plan.hashed_columns)?;
        let compared = plan.compare_columns.as_deref().map(|names| Hashed::of(plan, names)).transpose()?;
        let compared =
            compared.map(|hashed| Compared { hashed, zone: plan.compare_zone.clone(), today: naive });
        let mut columns: BTreeMap<String, Column> = BTreeMap::new();
        let compared_columns = compared.iter().flat_map(|compared| compared.hashed.all());
        for column in plan.key_columns.iter().chain(hashed.all()).chain(compared_columns) {
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
