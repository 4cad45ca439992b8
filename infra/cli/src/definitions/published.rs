//! Checked definitions as they stand in the state, as JSON: plan and route read nothing else.

use std::collections::BTreeMap;

use penstock_model::definition::{Connection, SecretRef};
use penstock_model::{Failure, FailureName, layout};
use serde::Serialize;
use serde_json::Value;

use super::check::{CheckedSync, absolute};

/// The kinds of definitions, in the order in which they are written: a sync is there once all that it refers to is.
pub const KINDS: [&str; 4] = ["unloads", "connections", "connectors", "syncs"];

/// One definition as it stands in the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its kind, one of [`KINDS`].
    pub kind: &'static str,
    /// Its name; of a connector the name of its connection.
    pub name: String,
    /// It.
    pub definition: Value,
}

impl Published {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> String {
        layout::definition(self.kind, &self.name)
    }
}

/// Syncs with all that they refer to, each definition once, in the order in which they are to be written.
///
/// # Errors
/// `InvariantBroken` if a definition has no JSON form.
pub fn published<'a>(checked: impl IntoIterator<Item = &'a CheckedSync>) -> Result<Vec<Published>, Failure> {
    let mut found = BTreeMap::new();
    for CheckedSync { sync, unload, connection, connector } in checked {
        let mut located = unload.definition.clone();
        located.location = absolute(&unload.file, &located.location);
        let signed = with_absolute_secrets(&connection.definition, &connection.file);
        let [unloads, connections, connectors, syncs] = KINDS;
        for (order, kind, name, definition) in [
            (0, unloads, &sync.definition.unload, json(&located)?),
            (1, connections, &sync.definition.connection, json(&signed)?),
            (2, connectors, &sync.definition.connection, json(connector)?),
            (3, syncs, &sync.name, json(&sync.definition)?),
        ] {
            found.insert((order, name.clone()), Published { kind, name: name.clone(), definition });
        }
    }
    Ok(found.into_values().collect())
}

fn json(definition: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(definition).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "a definition has no JSON form", error)
    })
}

/// Secret files are named relative to the definition that names them.
pub(crate) fn with_absolute_secrets(connection: &Connection, file: &std::path::Path) -> Connection {
    let mut connection = connection.clone();
    let resolve = |secret: &SecretRef| match secret {
        SecretRef::File { file: named } => SecretRef::File { file: absolute(file, named) },
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
