//! Salesforce, by two of its APIs: sObject Collections for few rows, Bulk API 2.0 for many.
//!
//! The object's description says how each field wants its value spelt, which fields refer to other records, and whether there is such a
//! field at all. Collections are sent by the HTTP engine, as the built-in connector file describes them. A bulk job works by itself: it is
//! noted before it gets rows, so that whoever comes next finds it, takes its results, and never has two jobs at work on one chunk.
//!
//! From operations to outcomes: `values` reads one operation against the `table`, `resolve` asks for what depends on the records that are
//! there, `batch` keeps rows apart that must not travel together, `deliver` sends them through the engine or as jobs (`bulk`), and `errors` says
//! what an answer means.

use std::sync::Arc;

use penstock_model::Failure;
use penstock_model::connector::HttpConnector;
use penstock_model::definition::{Mode, Problem, ResolvedSync};
use penstock_model::operation::OperationKind;
use penstock_model::port::Boxed;

use crate::Parts;
use crate::destination::{Destination, Rest, Work};
use crate::http::compile;
use crate::probe::Probed;

mod batch;
mod bulk;
mod connect;
mod deliver;
mod errors;
mod resolve;
mod statement;
pub(crate) mod table;
mod values;

#[cfg(test)]
mod tests;

use connect::Door;

/// From so many rows of a chunk on, a job costs fewer requests than collections and less of the day's quota.
const BULK_FROM: usize = 2_000;
/// The field that is a record's id.
const ID: &str = "Id";

/// Which API rows go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Auto,
    Collections,
    Bulk,
}

/// Opens an object of a Salesforce org as a destination. Sends nothing.
///
/// `width` is how many chunks of the run are delivered at the same time: each takes that share of the account's limits.
///
/// # Errors
/// `SyncInvalid` with everything in which the sync does not fit; see [`check`].
pub fn open(
    definition: &ResolvedSync,
    connector: &HttpConnector,
    parts: Parts,
    width: u32,
) -> Result<Arc<dyn Destination>, Failure> {
    let problems = check(definition, connector);
    if !problems.is_empty() {
        return Err(crate::invalid(definition, &problems));
    }
    let connector = needed(definition, connector);
    let api = api(definition).unwrap_or(Api::Auto);
    let door = Door::new(definition, &connector);
    let matched = definition.sync.matched.keys().next().cloned();
    Ok(Arc::new(SalesforceDestination {
        definition: definition.clone(),
        connector,
        api,
        door,
        matched,
        parts,
        width,
    }))
}

/// What is wrong with a sync into Salesforce, as far as it can be told without the org. Empty if [`open`] would succeed.
#[must_use]
pub fn check(definition: &ResolvedSync, connector: &HttpConnector) -> Vec<Problem> {
    let mut problems = compile::compile(definition, &needed(definition, connector)).err().unwrap_or_default();
    problems.extend(api(definition).err());
    let by_id = definition.sync.matched.keys().any(|field| field.eq_ignore_ascii_case(ID));
    if by_id && definition.sync.mode == Mode::CreateOnly {
        let message = "a record has no Id before it is created: match by an external id";
        problems.push(Problem::at("/sync/match", message));
    }
    problems
}

/// Sends the connector's probe to where the org is, with an access token.
///
/// # Errors
/// As [`http::probe`](crate::http::probe); what asking for a token fails with.
pub(crate) async fn probe(
    definition: &ResolvedSync,
    connector: &HttpConnector,
    parts: Parts,
) -> Result<Probed, Failure> {
    let definition = Door::new(definition, connector).definition(definition, &parts).await?;
    crate::http::probe::probe(&definition, connector, parts).await
}

fn api(definition: &ResolvedSync) -> Result<Api, Problem> {
    match definition.connection.settings.get("api").map(String::as_str) {
        None | Some("auto") => Ok(Api::Auto),
        Some("collections") => Ok(Api::Collections),
        Some("bulk") => Ok(Api::Bulk),
        Some(_) => Err(Problem::at("/connection/settings/api", "api is auto, collections or bulk")),
    }
}

/// The connector; without a match field only with what needs none: an append.
fn needed(definition: &ResolvedSync, connector: &HttpConnector) -> HttpConnector {
    let mut connector = connector.clone();
    if definition.sync.matched.is_empty() {
        for operations in connector.objects.values_mut() {
            operations.retain(|kind, _| *kind == OperationKind::Append);
        }
    }
    connector
}

/// One object of one org.
struct SalesforceDestination {
    definition: ResolvedSync,
    connector: HttpConnector,
    api: Api,
    door: Door,
    /// The match field; none for an append without one.
    matched: Option<String>,
    parts: Parts,
    width: u32,
}

impl std::fmt::Debug for SalesforceDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SalesforceDestination({})", self.definition.sync.object)
    }
}

impl Destination for SalesforceDestination {
    fn deliver<'a>(&'a self, work: Work<'a>) -> Boxed<'a, Result<Rest, Failure>> {
        Box::pin(deliver::deliver(self, work))
    }
}
