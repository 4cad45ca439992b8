//! When a sync last succeeded: one small object beside its state, so that nobody has to look through its runs.

use penstock_model::Failure;
use penstock_model::layout::SyncKeys;
use penstock_model::port::{Condition, Objects};
use penstock_model::report::{LastSuccess, RunReport};

use crate::json;

/// Notes a run that is about to be reported, if it is a success. To be called under the sync's lease, so that no earlier run
/// can note itself later.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn note(objects: &dyn Objects, report: &RunReport, is_whole: bool) -> Result<(), Failure> {
    if !is_whole || !report.status.is_success() {
        return Ok(());
    }
    let success = LastSuccess { version: LastSuccess::VERSION, run: report.run.clone(), at: report.ended_at };
    let key = SyncKeys { sync: &report.sync }.last_success();
    json::put_json(objects, &key, &success, Condition::Always).await.map(drop)
}

/// A sync's last success; none if it never had one, or none since a build that notes them.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn last(objects: &dyn Objects, sync: &str) -> Result<Option<LastSuccess>, Failure> {
    let found = json::get_json(objects, &SyncKeys { sync }.last_success()).await?;
    Ok(found.map(|(success, _)| success))
}
