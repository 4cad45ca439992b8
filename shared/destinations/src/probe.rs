//! What one harmless call shows of a connection, before anything is written.

use penstock_model::Failure;
use penstock_model::connector::Connector;
use penstock_model::definition::ResolvedSync;

use crate::{Parts, http, postgres, salesforce};

/// What a probe showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What was sent, without the credential.
    pub request: String,
    /// The status of the answer, of an HTTP API.
    pub status: Option<u16>,
    /// What it means.
    pub verdict: Verdict,
    /// What the destination said, in its words, if it did not accept; what was found, if it did.
    pub said: Option<String>,
}

/// What the answer to a probe means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The credential is accepted, and may do what was asked.
    Accepted,
    /// The credential is refused, or may not do what was asked.
    Unauthorized,
    /// Too many requests at the moment, or the quota is used up: the credential was not looked at.
    Throttled,
    /// The destination can't answer at the moment.
    Unavailable,
    /// It is refused for another reason: mostly the address is wrong.
    Refused,
}

/// Proves a connection's credential and permissions with one harmless call. With a database it also looks at the table and
/// at what may be done with it, if `definition` has a sync of its own; `has_sync` says so.
///
/// # Errors
/// `SyncInvalid` if the connection does not fit its connector; `DestinationUnauthorized`, `DestinationUnavailable`, `MappingInvalid`;
/// what fetching the credential fails with.
pub async fn probe(definition: &ResolvedSync, has_sync: bool, parts: Parts) -> Result<Probed, Failure> {
    match &definition.connector {
        Connector::Http(connector) => http::probe::probe(definition, connector, parts).await,
        Connector::Salesforce(connector) => salesforce::probe(definition, connector, parts).await,
        Connector::Postgres => postgres::probe(definition, has_sync, parts).await,
    }
}
