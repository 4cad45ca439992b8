//! The syncs that are published.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_model::definition::Sync;
use penstock_model::port::{ObjectMeta, Objects};
use penstock_model::{Failure, Timestamp, layout};
use penstock_store::json;

/// Objects read at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// A published sync.
pub(crate) struct PublishedSync {
    /// Its name.
    pub(crate) name: String,
    /// It.
    pub(crate) sync: Sync,
    /// When it was last published.
    pub(crate) at: Timestamp,
}

/// Every published sync, in the order of names.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if one can't be read.
pub(crate) async fn published(state: &dyn Objects) -> Result<Vec<PublishedSync>, Failure> {
    let prefix = layout::definitions("syncs");
    let listed = state.list(&prefix).await.map_err(penstock_store::storage_failure)?;
    let reads = listed.into_iter().map(|object| read(state, &prefix, object));
    let read: Vec<_> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// None for what is no sync, and for one that was withdrawn meanwhile.
async fn read(
    state: &dyn Objects,
    prefix: &str,
    object: ObjectMeta,
) -> Result<Option<PublishedSync>, Failure> {
    let name = object.key.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".json"));
    let Some(name) = name.map(str::to_owned) else { return Ok(None) };
    let found = json::get_json::<Sync>(state, &object.key).await?;
    Ok(found.map(|(sync, _)| PublishedSync { name, sync, at: object.modified }))
}
