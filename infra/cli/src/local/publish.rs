//! Checked definitions go into the state as JSON: plan reads nothing else.

use penstock_model::definition::{Connection, SecretRef};
use penstock_model::port::{Condition, Objects};
use penstock_model::{Failure, layout};
use penstock_store::json::put_json;

use crate::definitions::check::{CheckedSync, absolute};

/// Publishes a sync with its unload, connection and connector.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn publish(state: &dyn Objects, checked: &CheckedSync) -> Result<(), Failure> {
    let mut unload = checked.unload.definition.clone();
    unload.location = absolute(&checked.unload.file, &unload.location);
    let connection = with_absolute_secrets(checked);
    let names = [
        ("syncs", &checked.sync.name, serde_json::to_value(&checked.sync.definition)),
        ("unloads", &checked.sync.definition.unload, serde_json::to_value(&unload)),
        ("connections", &checked.sync.definition.connection, serde_json::to_value(&connection)),
        ("connectors", &checked.sync.definition.connection, serde_json::to_value(&checked.connector)),
    ];
    for (kind, name, definition) in names {
        let definition = definition.map_err(|error| {
            Failure::because(
                penstock_model::FailureName::InvariantBroken,
                format!("definition {name} is not JSON"),
                error,
            )
        })?;
        put_json(state, &layout::definition(kind, name), &definition, Condition::Always).await?;
    }
    Ok(())
}

/// Secret files are named relative to the definition that names them.
fn with_absolute_secrets(checked: &CheckedSync) -> Connection {
    let mut connection = checked.connection.definition.clone();
    let resolve = |secret: &SecretRef| match secret {
        SecretRef::File { file } => SecretRef::File { file: absolute(&checked.connection.file, file) },
        other @ (SecretRef::Named(_) | SecretRef::Variable { .. }) => other.clone(),
    };
    if let Some(secret) = connection.auth.secret() {
        connection.auth = connection.auth.with_secret(resolve(secret));
    }
    for environment in connection.environments.values_mut() {
        environment.secret = environment.secret.as_ref().map(resolve);
    }
    connection
}
