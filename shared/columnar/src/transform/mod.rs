//! A chunk of changes → operations and rejected records, one for each change and in their order.
//!
//! Only the rows of the chunk are fetched from the unload, and only the columns that are mapped.

mod fetch;
mod moved;
mod removals;
mod rows;

#[cfg(test)]
mod tests;

use penstock_model::change::Change;
use penstock_model::json::Json;
use penstock_model::key::KeyDamaged;
use penstock_model::operation::Transformed;
use penstock_model::port::Objects;
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::{LedgerEntry, RowRange};
use penstock_model::{Failure, FailureName};

pub use moved::moved;
pub use removals::removals;

use crate::format::FormatError;
use crate::mapping::{KeyColumns, Mapping, UnknownColumn};
use crate::unload::UnloadError;

/// Why a chunk can't be mapped. A row that can't be is no error: it is a rejected record.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The rows could not be read.
    #[error("the chunk's rows could not be read")]
    Unload(#[source] UnloadError),
    /// A file holds a column that can't be mapped.
    #[error("the chunk's rows can't be mapped")]
    Column(#[from] UnknownColumn),
    /// Where the pages of a split stand can't be read.
    #[error("where the pages of a split stand can't be read")]
    Pages(#[source] FormatError),
    /// A change's key is damaged.
    #[error("a key of the chunk is damaged")]
    Key(#[from] KeyDamaged),
    /// A change names a row that the unload does not have.
    #[error("the chunk names row {row} of split {split}, which the unload does not have")]
    NoSuchRow {
        /// The split.
        split: u32,
        /// The row.
        row: u32,
    },
    /// What was written is no JSON: a defect.
    #[error("a row was not written as JSON")]
    NotJson(#[source] serde_json::Error),
}

impl From<TransformError> for Failure {
    fn from(error: TransformError) -> Self {
        let name = match &error {
            TransformError::Pages(error) => error.name(),
            TransformError::Unload(UnloadError::Storage(error)) => error.name(),
            // The run has begun: whatever is wrong with the file now costs this chunk.
            TransformError::Unload(_) | TransformError::Key(_) | TransformError::NoSuchRow { .. } => {
                FailureName::ChunkUnreadable
            }
            TransformError::Column(_) => FailureName::MappingInvalid,
            TransformError::NotJson(_) => FailureName::InvariantBroken,
        };
        Self::because(name, error.to_string(), error)
    }
}

/// Maps the rows of a chunk that are new or have changed, and hands them to `each` some at a time, in the order of `changes` and one for
/// each. `unload` is the root of the plan's unload; `state` tells what `read` left of its splits.
///
/// # Errors
/// [`TransformError`] if the rows can't be read or mapped at all; what `each` fails with.
pub async fn rows<E: From<TransformError>>(
    unload: &dyn Objects,
    state: &dyn Objects,
    plan: &RunPlan,
    mapping: &Mapping,
    changes: &[Change],
    each: impl FnMut(Vec<Transformed>) -> Result<(), E>,
) -> Result<(), E> {
    let wanted = rows::wanted(changes);
    let from =
        fetch::From { objects: unload, unload: &plan.unload, splits: &plan.splits, read_before: Some(state) };
    let placed = fetch::fetch(from, plan, mapping.columns(), &wanted).await?;
    rows::changed_rows(plan, mapping, changes, &placed, each)
}

/// Maps a range of rows of an unload that is appended, each to an operation, and hands them to `each` some at a time and in their order.
/// `unload` is the root of `work`'s unload.
///
/// # Errors
/// [`TransformError`] if the rows can't be read or mapped at all; what `each` fails with.
pub async fn append<E: From<TransformError>>(
    unload: &dyn Objects,
    plan: &RunPlan,
    mapping: &Mapping,
    work: &LedgerEntry,
    range: RowRange,
    each: impl FnMut(Vec<Transformed>) -> Result<(), E>,
) -> Result<(), E> {
    let wanted = vec![(range.split, (range.from..range.to).collect())];
    let mut columns = mapping.columns().to_vec();
    columns.extend(plan.key_columns.iter().map(|column| column.name.to_lowercase()));
    let from = fetch::From { objects: unload, unload: &work.unload, splits: &work.splits, read_before: None };
    let placed = fetch::fetch(from, plan, &columns, &wanted).await?;
    rows::append_rows(plan, mapping, range, &placed, each)
}

/// The primary key's columns and values as a JSON object, for people.
///
/// # Errors
/// [`TransformError::Key`] if the key's bytes are damaged.
pub fn key_json(
    key: &penstock_model::Key,
    columns: &[penstock_model::unload::Column],
) -> Result<Json, TransformError> {
    Ok(Json::written(KeyColumns::of(columns).object(key)?))
}
