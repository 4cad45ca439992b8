//! What Penstock knows of one kind of destination.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::{Limits, Problem};
use crate::operation::OperationKind;
use crate::settle::Repeat;

mod answer;
mod check;
mod http;
pub mod template;

pub use answer::{Answer, By, Codes, Errors, Pointer, RefusedRest, Results, Test, Unlisted};
pub use http::{
    AuthKind, Batch, Encoding, ErrorBody, HttpConnector, HttpOperation, Meaning, Method, RateHeaders,
    RepeatWord, Setting,
};

/// How values are spelt in operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueStyle {
    /// JSON of the value's own type.
    #[default]
    Json,
    /// Text for everything, the empty string for an emptied field, the items of a list with semicolons between them (HubSpot).
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
    /// Whether it can write a field only where it is empty.
    pub if_empty: bool,
    /// Whether it can find other records that a field refers to.
    pub lookups: bool,
    /// Whether an upsert that knows the record's id writes to that record, whatever its match value is.
    pub follows_id: bool,
}

impl Capabilities {
    /// Those of a destination that has these operations, and nothing beyond them.
    #[must_use]
    pub const fn of(operations: BTreeMap<OperationKind, Capability>, values: ValueStyle) -> Self {
        Self { operations, values, if_empty: false, lookups: false, follows_id: false }
    }
}

/// A connector: a declarative file for HTTP APIs, or built in code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Connector {
    /// PostgreSQL.
    Postgres,
    /// An HTTP API, as a connector file describes it.
    Http(Box<HttpConnector>),
    /// Salesforce: its synchronous calls as a connector file describes them, its bulk jobs by code.
    Salesforce(Box<HttpConnector>),
}

impl Connector {
    /// What can be done with an object; `None` if the connector doesn't know the object.
    #[must_use]
    pub fn capabilities(&self, object: &str) -> Option<Capabilities> {
        match self {
            Self::Postgres => Some(postgres_capabilities()),
            Self::Http(connector) => connector.capabilities(object),
            Self::Salesforce(connector) => connector.capabilities(object).map(salesforce_capabilities),
        }
    }

    /// What can be done with an object: nothing at all, if the connector doesn't know it.
    #[must_use]
    pub fn capabilities_or_none(&self, object: &str) -> Capabilities {
        self.capabilities(object).unwrap_or_else(|| Capabilities::of(BTreeMap::new(), ValueStyle::default()))
    }

    /// The address that a connection may leave out.
    #[must_use]
    pub fn default_address(&self) -> Option<String> {
        match self {
            Self::Postgres => None,
            Self::Http(connector) | Self::Salesforce(connector) => connector.address.clone(),
        }
    }

    /// What an account allows unless its connection says otherwise.
    #[must_use]
    pub fn limits(&self) -> Limits {
        match self {
            Self::Postgres => Limits::default(),
            Self::Http(connector) | Self::Salesforce(connector) => connector.limits.clone(),
        }
    }

    /// Whether the destination locks the records that a row refers to, so that rows which share one get in each other's way.
    #[must_use]
    pub fn locks_parents(&self) -> bool {
        match self {
            Self::Postgres | Self::Http(_) => false,
            Self::Salesforce(_) => true,
        }
    }

    /// Whether the destination works on rows by itself, in jobs that outlive a push.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        match self {
            Self::Postgres | Self::Http(_) => false,
            Self::Salesforce(_) => true,
        }
    }

    /// What is wrong with it beyond its syntax: all problems at once, with pointers into the connector file.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        match self {
            Self::Postgres => Vec::new(),
            Self::Http(connector) | Self::Salesforce(connector) => connector.validate(),
        }
    }
}

/// Ids that are not remembered are looked up by the match field; a create is a look-up first, and then says the same twice.
fn salesforce_capabilities(described: Capabilities) -> Capabilities {
    let operations = described.operations.into_iter();
    Capabilities {
        operations: operations.map(|(kind, it)| (kind, Capability { needs_id: false, ..it })).collect(),
        follows_id: true,
        if_empty: true,
        lookups: true,
        ..described
    }
}

/// Everything by key says the same twice; an append adds a row every time.
fn postgres_capabilities() -> Capabilities {
    let capability = |repeat| Capability { repeat, needs_id: false };
    let operations = BTreeMap::from([
        (OperationKind::Upsert, capability(Repeat::Safe)),
        (OperationKind::Create, capability(Repeat::Safe)),
        (OperationKind::Update, capability(Repeat::Safe)),
        (OperationKind::Delete, capability(Repeat::Safe)),
        (OperationKind::Clear, capability(Repeat::Safe)),
        (OperationKind::Append, capability(Repeat::Unsafe)),
    ]);
    Capabilities { if_empty: true, ..Capabilities::of(operations, ValueStyle::Json) }
}
