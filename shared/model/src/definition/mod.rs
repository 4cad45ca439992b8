//! What a user writes: unloads, connections and syncs. The doc comments here are the user's reference; the JSON
//! Schemas in `infra/schema` are generated from these types.

mod connection;
mod field;
mod query;
mod sync;
mod unload;

pub use connection::{Auth, Connection, Credential, Environment, HeaderAuth, Limits, OAuth, SecretRef};
pub use field::{
    Field, FieldDetails, Lookup, LookupField, MatchColumn, MatchDetails, OnMissing, OnNull, Write,
};
pub use query::{Query, RedshiftQuery};
pub use sync::{
    Delivery, FirstRun, Guards, Limit, MappingTest, Mode, OnMappingChange, OnRemoved, OnRemovedWord, Scope,
    Start, Sync,
};
pub use unload::{Complete, Unload, WrittenBy};

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connector::{Capabilities, Connector};
use crate::snapshot::Binding;

/// Chunks delivered at the same time where neither connection nor connector says how many.
const CONCURRENCY: u32 = 4;

/// A sync with all that it refers to, as plan pins it into a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolvedSync {
    /// The sync's name.
    pub name: String,
    /// The sync.
    pub sync: Sync,
    /// Its unload.
    pub unload: Unload,
    /// Its connection.
    pub connection: Connection,
    /// The connection's connector.
    pub connector: Connector,
    /// The environment that was chosen, if the connection has any.
    pub environment: Option<String>,
    /// The account's address in that environment.
    pub address: String,
}

impl ResolvedSync {
    /// What can be done with the sync's object: nothing, if the connector doesn't know it.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.connector.capabilities_or_none(&self.sync.object)
    }

    /// Chunks that may be delivered at the same time, by the connection or else its connector. The state machine delivers
    /// this many, and each takes this share of the account's limits: both ask here. One, where chunks could lock each other's rows
    /// out at the destination, unless somebody says otherwise.
    #[must_use]
    pub fn concurrency(&self) -> u32 {
        let unless_told = if self.connector.locks_parents() && self.sync.refers() { 1 } else { CONCURRENCY };
        self.limits().concurrency.unwrap_or(unless_told).max(1)
    }

    fn limits(&self) -> Limits {
        self.connection.limits.or(&self.connector.limits())
    }

    /// Requests that the account may be sent in a day, by all syncs together.
    #[must_use]
    pub fn requests_per_day(&self) -> Option<u32> {
        self.limits().requests_per_day
    }

    /// How long the destination may take for an answer, if the connection or its connector says so.
    #[must_use]
    pub fn answer_timeout(&self) -> Option<Duration> {
        self.limits().answer_timeout_s.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether the match fields' values can be had from the primary key.
    #[must_use]
    pub fn match_is_key(&self) -> bool {
        let is_key = |matched: &MatchColumn| {
            self.unload.primary_key.iter().any(|key| key.eq_ignore_ascii_case(matched.column()))
        };
        self.sync.matched.values().all(is_key)
    }

    /// What the sync's state is bound to.
    #[must_use]
    pub fn binding(&self) -> Binding {
        Binding {
            connector: self.connection.connector.clone(),
            account: self.address.clone(),
            object: self.sync.object.clone(),
            primary_key: self.unload.primary_key.iter().map(|column| column.to_lowercase()).collect(),
            match_fields: self.sync.matched.keys().cloned().collect(),
        }
    }
}

/// Something wrong with a definition, found beyond its syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a JSON pointer into the definition, such as `/fields/Email/expression`.
    pub pointer: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem at a JSON pointer.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// One part of a JSON pointer, escaped.
#[must_use]
pub fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
