//! What a run has reported of itself, or a later run of it.

use penstock_model::Failure;
use penstock_model::layout::RunKeys;
use penstock_model::port::Objects;
use penstock_model::report::RunReport;

use crate::json;

/// A run's report; none while it has not ended.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn of_run(objects: &dyn Objects, keys: &RunKeys<'_>) -> Result<Option<RunReport>, Failure> {
    let found = json::get_json(objects, &keys.report()).await?;
    Ok(found.map(|(report, _)| report))
}
