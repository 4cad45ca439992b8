//! HTTP destinations, described by connector files.
//!
//! Pure at its edges: [`encode`] makes a request of operations, [`decode`] makes one verdict per operation of an answer.
//! [`deliver`] is the one place that sends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use penstock_model::connector::{HttpConnector, RateHeaders, ValueStyle};
use penstock_model::definition::ResolvedSync;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::port::Boxed;
use penstock_model::{Failure, FailureName};

use crate::destination::{Destination, Rest, Work};
use crate::{Parts, invalid};
use ask::CompiledAsks;
use auth::SignIn;
use encode::CompiledOperation;
use pace::Pace;
use way::Step;

mod answer;
mod ask;
mod attempt;
pub(crate) mod auth;
mod batch;
pub mod compile;
mod cursor;
pub mod decode;
mod deliver;
pub mod encode;
mod extract;
pub(crate) mod pace;
pub(crate) mod probe;
pub(crate) mod retry;
mod settle;
mod template;
#[cfg(test)]
mod tests;
mod texts;
pub mod transport;
mod way;

/// An account at an HTTP API, ready for the operations of one sync.
#[derive(Debug)]
pub struct HttpDestination {
    name: String,
    operations: BTreeMap<OperationKind, CompiledOperation>,
    asks: CompiledAsks,
    moved: Option<CompiledOperation>,
    values: ValueStyle,
    requests_in_flight: usize,
    answer_timeout: Duration,
    rate_headers: RateHeaders,
    sign_in: SignIn,
    // Outlives a delivery, so that the next one in this process does not begin with a burst.
    pace: Mutex<Pace>,
    parts: Parts,
}

impl HttpDestination {
    /// Opens it; sends nothing.
    ///
    /// # Errors
    /// [`FailureName::SyncInvalid`] with everything in which the sync does not fit its connector.
    pub fn open(
        definition: &ResolvedSync,
        connector: &HttpConnector,
        parts: Parts,
        width: u32,
    ) -> Result<Self, Failure> {
        let compile::Compiled { operations, asks, moved } =
            compile::compile(definition, connector).map_err(|problems| invalid(definition, &problems))?;
        let limits = compile::limits(&definition.connection.limits, &connector.limits);
        let pace = Mutex::new(Pace::new(&limits.windows, width));
        Ok(Self { operations, asks, moved, pace, ..Self::bare(definition, connector, parts) })
    }

    /// The account without operations.
    fn bare(definition: &ResolvedSync, connector: &HttpConnector, parts: Parts) -> Self {
        let limits = compile::limits(&definition.connection.limits, &connector.limits);
        Self {
            name: connector.name.clone(),
            operations: BTreeMap::new(),
            asks: CompiledAsks::default(),
            moved: None,
            values: connector.values,
            requests_in_flight: limits.requests_in_flight,
            answer_timeout: limits.answer_timeout,
            rate_headers: connector.rate_headers.clone(),
            sign_in: SignIn::new(
                definition.connection.auth.clone(),
                connector.name.clone(),
                compile::token_endpoint(definition, connector),
            ),
            pace: Mutex::new(Pace::new(&limits.windows, 1)),
            parts,
        }
    }

    /// As [`deliver`](Destination::deliver), without two requests under way that share a parent: `parents` holds those of each
    /// operation.
    pub(crate) async fn deliver_apart(&self, work: Work<'_>, parents: &[Vec<u64>]) -> Result<Rest, Failure> {
        deliver::deliver(self, work, parents).await
    }

    /// What becomes of a row of which another call has told that it was refused.
    ///
    /// # Errors
    /// [`FailureName::InvariantBroken`] if the connector has no such operation.
    pub(crate) fn verdict(
        &self,
        kind: OperationKind,
        code: &str,
        message: &str,
        field: Option<&str>,
    ) -> Result<decode::Verdict, Failure> {
        Ok(decode::told_refused(self.operation(Step::Write(kind))?, code, message, field))
    }

    /// Whether an operation's record has to be found before it is sent: its id is needed and not known, or it decides between an update and a
    /// creation.
    fn finds(&self, operation: &Operation) -> bool {
        let needs = match self.operations.get(&operation.kind) {
            Some(compiled) => compiled.needs_id && operation.id.is_none(),
            None => operation.kind == OperationKind::Upsert,
        };
        needs && self.asks.read.is_some()
    }

    pub(crate) fn pace(&self) -> MutexGuard<'_, Pace> {
        // The pace is valid after every statement of its methods.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self, step: Step) -> Result<&CompiledOperation, Failure> {
        let lookup = |number| self.asks.lookups.get(number);
        let operation = match step {
            Step::Write(kind) => self.operations.get(&kind),
            Step::Read => self.asks.read.as_ref(),
            Step::Move => self.moved.as_ref(),
            Step::LookUp(number) => lookup(number).map(|lookup| &lookup.read),
            Step::Link(number) => lookup(number).and_then(|lookup| lookup.link.as_ref()),
        };
        operation.ok_or_else(|| {
            Failure::new(
                FailureName::InvariantBroken,
                format!(
                    "the connector {} has no operation {step:?} for this object, and was asked for one",
                    self.name
                ),
            )
        })
    }
}

impl Destination for HttpDestination {
    fn deliver<'a>(&'a self, work: Work<'a>) -> Boxed<'a, Result<Rest, Failure>> {
        Box::pin(deliver::deliver(self, work, &[]))
    }
}
