//! The published definitions of a sync, resolved.

use penstock_model::connector::Connector;
use penstock_model::contract::PlanRequest;
use penstock_model::definition::{Connection, ResolvedSync, Sync, Unload};
use penstock_model::port::Objects;
use penstock_model::{Failure, FailureName, layout};
use penstock_store::json;
use serde::de::DeserializeOwned;

/// Reads a sync and all that it refers to, as plan pins it.
///
/// # Errors
/// `SyncInvalid` if one of them is not published, or the environment is not one of the connection's.
pub async fn resolve(state: &dyn Objects, request: &PlanRequest) -> Result<ResolvedSync, Failure> {
    let name = &request.request.sync;
    let sync: Sync = read(state, "syncs", name, name).await?;
    let unload: Unload = read(state, "unloads", &sync.unload, name).await?;
    let connection: Connection = read(state, "connections", &sync.connection, name).await?;
    let connector: Connector = read(state, "connectors", &sync.connection, name).await?;
    let environment = request.request.environment.clone();
    let (address, connection) = in_environment(connection, environment.as_deref(), &connector)
        .map_err(|message| invalid(format!("sync {name}: connection {}: {message}", sync.connection)))?;
    Ok(ResolvedSync { name: name.clone(), sync, unload, connection, connector, environment, address })
}

/// The connection's address and credential in an environment.
fn in_environment(
    mut connection: Connection,
    environment: Option<&str>,
    connector: &Connector,
) -> Result<(String, Connection), String> {
    let names = || connection.environments.keys().cloned().collect::<Vec<_>>().join(", ");
    let chosen = match environment {
        Some(name) => {
            let chosen = connection.environments.get(name);
            if chosen.is_none() && !connection.environments.is_empty() {
                return Err(format!("there is no environment {name}; it has {}", names()));
            }
            chosen
        }
        None => match (connection.environments.len(), &connection.address) {
            (1, None) => connection.environments.values().next(),
            (0, _) | (_, Some(_)) => None,
            (_, None) => return Err(format!("choose an environment: {}", names())),
        },
    };
    if let Some(secret) = chosen.and_then(|environment| environment.secret.clone()) {
        connection.auth = connection.auth.with_secret(secret);
    }
    let address = chosen
        .map(|environment| environment.address.clone())
        .or_else(|| connection.address.clone())
        .or_else(|| connector.default_address())
        .ok_or("it has no address, and its connector has no default")?;
    Ok((address, connection))
}

async fn read<T: DeserializeOwned>(
    state: &dyn Objects,
    kind: &str,
    name: &str,
    sync: &str,
) -> Result<T, Failure> {
    let found: Option<(T, _)> = json::get_json(state, &layout::definition(kind, name)).await?;
    found.map(|(definition, _)| definition).ok_or_else(|| {
        invalid(format!(
            "sync {sync}: there is no {name} among the published {kind}; publish the definitions first"
        ))
    })
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureName::SyncInvalid, message)
}
