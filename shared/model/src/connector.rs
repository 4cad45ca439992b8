//! What Penstock knows of one kind of destination.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::OperationKind;
use crate::settle::Repeat;

/// How values are spelt in operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueStyle {
    /// JSON of the value's own type.
    #[default]
    Json,
    /// Text for everything, the empty string for an emptied field (HubSpot).
    Text,
}

/// What one operation of a connector can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Whether it may be sent again when its answer was lost.
    pub repeat: Repeat,
    /// Whether it needs the record's id at the destination.
    pub needs_id: bool,
}

/// What a destination can do, whichever way it is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The operations it has.
    pub operations: BTreeMap<OperationKind, Capability>,
    /// How it wants values spelt.
    pub values: ValueStyle,
}

/// A connector: a declarative file for HTTP APIs, or built in code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Connector {
    /// PostgreSQL.
    Postgres,
}
