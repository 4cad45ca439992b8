//! A run on this machine publishes what it was started with into its state folder.

use penstock_model::Failure;
use penstock_model::port::{Condition, Objects};
use penstock_store::json::put_json;

use crate::definitions::check::CheckedSync;
use crate::definitions::published::published;

/// Publishes a sync with its unload, connection and connector.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn publish(state: &dyn Objects, checked: &CheckedSync) -> Result<(), Failure> {
    for definition in published([checked])? {
        put_json(state, &definition.key(), &definition.definition, Condition::Always).await?;
    }
    Ok(())
}
