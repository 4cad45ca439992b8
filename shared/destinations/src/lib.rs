//! Destinations: one folder each, and the one place that sends.
//!
//! [`open`] turns a sync into a [`Destination`], which takes operations and a deadline and gives one outcome per
//! operation. HTTP APIs are described by connector files ([`http`]); PostgreSQL is code ([`postgres`]).

use std::sync::Arc;

use penstock_model::connector::Connector;
use penstock_model::definition::{Problem, ResolvedSync};
use penstock_model::port::{Clock, Random, Secrets};
use penstock_model::{Failure, FailureName};

mod built_in;
#[cfg(test)]
mod conformance;
pub mod destination;
pub mod http;
mod known;
mod oauth;
pub mod postgres;
pub mod probe;
pub mod reach;
pub mod salesforce;
#[cfg(test)]
mod testing;

pub use built_in::{BUILT_IN, built_in};
pub use destination::{Destination, JobMaker, NotedJob, Rest, Spending, Witness, Work};
pub use http::transport::{Deferred, ReqwestTransport, Transport};
pub use known::Known;
pub use reach::{Guard, SystemResolver};

/// What destinations need of the outside. Cloning shares all of it.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Jitter and idempotency keys.
    pub random: Arc<dyn Random>,
    /// Credentials.
    pub secrets: Arc<dyn Secrets>,
    /// What carries HTTP requests; databases open connections of their own.
    pub transport: Arc<dyn Transport>,
    /// What this process has learnt of accounts.
    pub known: Arc<Known>,
}

/// Opens a sync's destination. `width` is how many chunks of the run are delivered at the same time: each takes
/// that share of the account's limits.
///
/// # Errors
/// [`FailureName::SyncInvalid`] if the sync asks for what its connector can't do; nothing has been sent then.
pub fn open(definition: &ResolvedSync, parts: Parts, width: u32) -> Result<Arc<dyn Destination>, Failure> {
    open_guarded(definition, parts, None, width)
}

/// [`open`], where the connection may lead to public addresses only unless it says otherwise. A connection that leads
/// elsewhere fails as [`FailureName::SyncInvalid`] when it is used.
///
/// # Errors
/// As [`open`].
pub fn open_guarded(
    definition: &ResolvedSync,
    mut parts: Parts,
    guard: Option<&Guard>,
    width: u32,
) -> Result<Arc<dyn Destination>, Failure> {
    let guard = guard.filter(|_| !definition.connection.allow_private);
    if let Some(guard) = guard {
        parts.transport = guard.transport();
    }
    match &definition.connector {
        Connector::Http(connector) => http::HttpDestination::open(definition, connector, parts, width)
            .map(|it| Arc::new(it) as Arc<dyn Destination>),
        Connector::Salesforce(connector) => salesforce::open(definition, connector, parts, width),
        Connector::Postgres => postgres::open(definition, parts, guard.map(Guard::resolver), width),
    }
}

/// What is wrong with a sync as far as its connector is concerned: settings, ways to sign in, the object, the match.
/// Empty if [`open`] would succeed.
#[must_use]
pub fn check(definition: &ResolvedSync) -> Vec<Problem> {
    match &definition.connector {
        Connector::Http(connector) => http::compile::compile(definition, connector).err().unwrap_or_default(),
        Connector::Salesforce(connector) => salesforce::check(definition, connector),
        Connector::Postgres => postgres::check(definition),
    }
}

/// Problems as one failure.
pub(crate) fn invalid(definition: &ResolvedSync, problems: &[Problem]) -> Failure {
    let list: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    Failure::new(
        FailureName::SyncInvalid,
        format!("sync {} does not fit its connector: {}", definition.name, list.join("; ")),
    )
}
