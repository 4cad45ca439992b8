//! The attempts at a run's own unload.

use penstock_model::Failure;
use penstock_model::layout::RunKeys;
use penstock_model::port::{ETag, Objects};
use penstock_model::warehouse::UnloadAttempt;

use crate::{json, storage_failure};

/// The last attempt and the version of its object; none before the first.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn last(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
) -> Result<Option<(UnloadAttempt, ETag)>, Failure> {
    let listed = objects.list(&keys.unloads()).await.map_err(storage_failure)?;
    match listed.last() {
        Some(object) => json::get_json(objects, &object.key).await,
        None => Ok(None),
    }
}
