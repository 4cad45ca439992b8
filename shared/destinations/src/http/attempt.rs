//! One request: asked for, announced, encoded, sent, decoded, recorded.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::{Either, select};
use penstock_model::operation::Operation;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::report::ApiUsage;
use penstock_model::settle::Repeat;
use penstock_model::{Failure, FailureName, Timestamp};

use super::HttpDestination;
use super::batch::Batch;
use super::decode::{Decoded, decode};
use super::encode::{CompiledOperation, encode, put_credential, put_idempotency_key};
use super::retry::{ATTEMPTS, account_use, backoff, nothing_left, nothing_left_today, until_reset};
use super::settle::{Settled, halves};
use super::transport::{Request, Response, Sent, TransportError, TransportErrorKind};
use super::way::{Asked, Learnt, Step, is_moved};
use crate::destination::{Spending, Witness};
use crate::reach::PrivateAddress;

/// Where a destination does not say when there is more of its quota, it is asked again after so long.
const QUOTA_LOOK_AGAIN: Duration = Duration::from_secs(30 * 60);
/// A run is not parked for longer than a day, and an hour for clocks that differ.
const LONGEST_PARKED: Duration = Duration::from_secs(25 * 60 * 60);

/// What the attempts of one delivery share.
#[derive(Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub(super) destination: &'a HttpDestination,
    pub(super) operations: &'a [Operation],
    /// Per operation: what no two requests under way may have in common.
    pub(super) parents: &'a [Vec<u64>],
    /// The rows of requests that are not operations as they came.
    pub(super) asked: &'a Asked,
    pub(super) witness: &'a dyn Witness,
    /// Nothing is sent from this moment on.
    pub(super) last_send: Timestamp,
    /// No answer is waited for beyond this moment.
    pub(super) until: Timestamp,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Report {
    /// How many operations have an outcome now.
    pub(super) settled: usize,
    /// What was learnt of rows that this is not the last step of.
    pub(super) learnt: Vec<(usize, Learnt)>,
    pub(super) step: Step,
    /// What has to be sent again.
    pub(super) again: Vec<Batch>,
    /// What it says of the destination.
    pub(super) signal: Signal,
    pub(super) sent_at: Timestamp,
}

#[derive(Debug)]
pub(super) enum Signal {
    /// Nothing: it was not sent.
    NotSent,
    /// It answers. With a wait if its rate limit is used up, and until when if the day's is.
    Answers { hold: Option<Duration>, until: Option<Timestamp> },
    /// There is no more to spend until this moment; nothing was carried out.
    OutOfQuota {
        /// Until when.
        until: Timestamp,
    },
    /// It has had too many requests.
    Throttles { after: Option<Duration>, reset: Option<Duration> },
    /// It refused a credential, and there is a newer one.
    RefusedCredential,
    /// Nothing more is to be sent. What has to be sent again was surely not carried out.
    Fails(Failure),
    /// It can't, or can't be reached.
    Unavailable {
        after: Option<Duration>,
        /// What happened, for people.
        why: String,
        /// Whether operations were lost that can't be sent again.
        lost: bool,
        /// The batch whose attempts are used up.
        exhausted: Option<Batch>,
    },
}

impl<'a> Delivery<'a> {
    /// What a batch's rows refer to. Only what is written can be in each other's way.
    pub(super) fn parents_of(&self, batch: &Batch) -> HashSet<u64> {
        self.parents_among(batch).copied().collect()
    }

    /// Whether a batch has nothing in common with those under way.
    pub(super) fn may_travel(&self, batch: &Batch, busy: &HashSet<u64>) -> bool {
        busy.is_empty() || !self.parents_among(batch).any(|parent| busy.contains(parent))
    }

    fn parents_among(&self, batch: &Batch) -> impl Iterator<Item = &'a u64> {
        let parents = self.parents;
        let writes = matches!(batch.step, Step::Write(_) | Step::Move);
        let rows: Vec<usize> = if writes { batch.rows.clone() } else { Vec::new() };
        rows.into_iter().filter_map(move |row| parents.get(row)).flatten()
    }

    /// What is sent of a step's row.
    pub(super) fn row(&self, step: Step, row: usize) -> Option<&'a Operation> {
        self.asked.row(self.operations, step, row)
    }

    /// Whether anything has to be asked before an operation is sent.
    pub(super) fn asks(&self, operation: &Operation) -> bool {
        (operation.asks.is_some() && !self.destination.asks.is_empty())
            || self.moves(operation)
            || self.destination.finds(operation)
    }

    /// Whether an operation's record is written to by its id.
    fn moves(&self, operation: &Operation) -> bool {
        self.destination.moved.is_some() && is_moved(operation)
    }

    /// Whether a record has only got its new match value, and is still to be read and written.
    pub(super) fn moves_first(&self, position: usize) -> bool {
        let Some(operation) = self.operations.get(position) else { return false };
        let fills_in = operation.asks.as_ref().is_some_and(|asks| asks.if_empty.is_some());
        (fills_in && self.destination.asks.read.is_some()) || self.destination.finds(operation)
    }

    /// Whether more than the write itself may have to be done for an operation.
    pub(super) fn has_links(&self, position: usize) -> bool {
        let destination = self.destination;
        let asks = self.operations.get(position).and_then(|operation| operation.asks.as_ref());
        asks.is_some_and(|asks| asks.lookups.is_some()) && destination.asks.has_links()
    }

    /// Sends a batch once. Outcomes are recorded before it returns.
    pub(super) async fn attempt(self, mut batch: Batch) -> Result<Report, Failure> {
        let destination = self.destination;
        let compiled = destination.operation(batch.step)?;
        let rows: Vec<&Operation> = batch.rows.iter().filter_map(|row| self.row(batch.step, *row)).collect();
        let last_send = self.last_send;
        let clock = &destination.parts.clock;
        if let Err(failure) = self.witness.may_send().await {
            return Ok(fails(batch, failure, clock.now()));
        }
        let credential = match destination.sign_in.credential(&destination.parts).await {
            Ok(credential) => credential,
            Err(failure) => return Ok(fails(batch, failure, clock.now())),
        };
        match self.witness.spend().await {
            Ok(Spending::Granted) => {}
            Ok(Spending::OverBudget { until }) => {
                return Ok(Report::again(batch, Signal::OutOfQuota { until }, clock.now()));
            }
            Err(failure) => return Ok(fails(batch, failure, clock.now())),
        }
        if clock.now() >= last_send {
            return Ok(not_sent(batch, clock.now()));
        }
        if compiled.repeat == Repeat::Unsafe && !batch.intended {
            let ordinals: Vec<u32> = rows.iter().map(|row| row.n).collect();
            self.witness.intend(&ordinals).await?;
            batch.intended = true;
            if clock.now() >= last_send {
                return Ok(not_sent(batch, clock.now()));
            }
        }
        let mut request = encode(compiled, &rows);
        put_credential(&mut request, compiled, credential.header);
        if let Some(name) = &compiled.idempotency_key {
            let key = batch.key.get_or_insert_with(|| new_key(destination));
            put_idempotency_key(&mut request, name, key);
        }
        let retried = u64::from(std::mem::replace(&mut batch.sent_before, true));
        self.witness.count(ApiUsage { requests: 1, retried, ..ApiUsage::default() });
        let sent_at = clock.now();
        let answer = self.send(request, sent_at).await;
        match answer {
            Err(error) => self.broken(batch, compiled, &rows, error, sent_at).await,
            Ok(answer) => {
                let now = clock.now();
                if let Some(account) = account_use(&destination.rate_headers, &answer.headers) {
                    self.witness.count(ApiUsage { account: Some(account), ..ApiUsage::default() });
                }
                let decoded = decode(compiled, &rows, answer.status, &answer.headers, &answer.body, now);
                if matches!(decoded, Decoded::Rows(_) | Decoded::Halve) {
                    destination.sign_in.proven(credential.generation).await;
                }
                self.answered(batch, compiled, &rows, decoded, &answer, credential.generation, sent_at).await
            }
        }
    }

    async fn send(&self, request: Request, sent_at: Timestamp) -> Result<Response, TransportError> {
        let parts = &self.destination.parts;
        let timeout = self.destination.answer_timeout.min(sent_at.until(self.until));
        // The answer comes first: if both are there, it is taken.
        match select(parts.transport.send(request), parts.clock.sleep(timeout)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => {
                Err(TransportError { sent: Sent::Maybe, kind: TransportErrorKind::Timeout, source: None })
            }
        }
    }

    /// No whole answer.
    async fn broken(
        &self,
        mut batch: Batch,
        compiled: &CompiledOperation,
        rows: &[&Operation],
        error: TransportError,
        sent_at: Timestamp,
    ) -> Result<Report, Failure> {
        if error.kind == TransportErrorKind::Invalid {
            let message = format!("a request to {} could not be formed", self.destination.name);
            return Err(Failure::because(FailureName::InvariantBroken, message, error));
        }
        if error.kind == TransportErrorKind::Forbidden {
            let failure =
                Failure::because(FailureName::SyncInvalid, "a request was not sent", PrivateAddress);
            return Ok(fails(batch, failure, sent_at));
        }
        tracing::debug!(connector = self.destination.name, error = %error, "a request got no whole answer");
        let why = error.to_string();
        let unrepeatable = match error.sent {
            Sent::SurelyNot => false,
            Sent::Maybe => compiled.repeat == Repeat::Unsafe && compiled.idempotency_key.is_none(),
        };
        if unrepeatable {
            let settled = self.record_all(rows, &Outcome::Unknown { why: why.clone() }).await?;
            let signal = Signal::Unavailable { after: None, why, lost: true, exhausted: None };
            return Ok(Report { settled, ..Report::of(batch.step, signal, sent_at) });
        }
        batch.attempts += 1;
        batch.doubtful |= error.sent == Sent::Maybe;
        Ok(self.unavailable(batch, None, why, sent_at))
    }

    /// The same batch again, or its attempts are used up.
    fn unavailable(
        &self,
        mut batch: Batch,
        after: Option<Duration>,
        why: String,
        sent_at: Timestamp,
    ) -> Report {
        let signal = |exhausted| Signal::Unavailable { after, why, lost: false, exhausted };
        if batch.attempts >= ATTEMPTS {
            return Report::of(batch.step, signal(Some(batch)), sent_at);
        }
        batch.not_before = self.later(after, batch.attempts);
        Report::again(batch, signal(None), sent_at)
    }

    pub(super) fn later(&self, after: Option<Duration>, attempts: u32) -> Timestamp {
        let parts = &self.destination.parts;
        let wait = backoff(attempts, &*parts.random);
        parts.clock.now().plus(after.map_or(wait, |after| after.max(wait)))
    }

    #[expect(clippy::too_many_arguments, reason = "all that an attempt knows; used once")]
    async fn answered(
        &self,
        mut batch: Batch,
        compiled: &CompiledOperation,
        rows: &[&Operation],
        decoded: Decoded,
        answer: &Response,
        generation: u64,
        sent_at: Timestamp,
    ) -> Result<Report, Failure> {
        let destination = self.destination;
        let names = &destination.rate_headers;
        let reset = until_reset(names, &answer.headers, destination.parts.clock.now());
        let again = |batch, signal| Ok(Report::again(batch, signal, sent_at));
        let answers = || {
            let hold = nothing_left(names, &answer.headers).then(|| reset.unwrap_or(Duration::from_secs(1)));
            let day_is_used_up = nothing_left_today(names, &answer.headers);
            let until = day_is_used_up.then(|| destination.parts.clock.now().plus(QUOTA_LOOK_AGAIN));
            Signal::Answers { hold, until }
        };
        match decoded {
            Decoded::Rows(verdicts) => {
                let step = batch.step;
                let Settled { lines, learnt, again } = self.settle(batch, compiled, rows, verdicts);
                let settled = lines.len();
                if settled > 0 {
                    self.witness.record(lines).await?;
                }
                Ok(Report { settled, learnt, again, ..Report::of(step, answers(), sent_at) })
            }
            Decoded::Halve => {
                let again = halves(&batch, compiled, rows);
                Ok(Report { again, ..Report::of(batch.step, answers(), sent_at) })
            }
            Decoded::Throttled { after } => {
                self.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
                again(batch, Signal::Throttles { after, reset })
            }
            Decoded::Unauthorized => {
                batch.credentials_refused += 1;
                if batch.credentials_refused > 1 {
                    return Ok(fails(batch, destination.sign_in.unauthorized(), sent_at));
                }
                match destination.sign_in.refused(generation, &destination.parts).await {
                    Ok(()) => again(batch, Signal::RefusedCredential),
                    Err(failure) => Ok(fails(batch, failure, sent_at)),
                }
            }
            Decoded::QuotaExhausted { after } => {
                self.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
                // Rate headers tell of shorter limits.
                let wait = after.unwrap_or(QUOTA_LOOK_AGAIN);
                if wait <= LONGEST_PARKED {
                    let until = destination.parts.clock.now().plus(wait);
                    return again(batch, Signal::OutOfQuota { until });
                }
                let message = format!(
                    "the quota of {} is used up for {} hours more: redrive when there is more",
                    destination.name,
                    wait.as_secs() / 3_600
                );
                Ok(fails(batch, Failure::new(FailureName::DestinationQuotaExhausted, message), sent_at))
            }
            Decoded::Refused => {
                let message = format!(
                    "{} refuses {} with status {}, which names no row: check address, object and connector",
                    destination.name,
                    batch.step.words(),
                    answer.status
                );
                Ok(fails(batch, Failure::new(FailureName::DestinationRefused, message), sent_at))
            }
            Decoded::Unavailable { after } => {
                let why = format!("status {}", answer.status);
                if compiled.repeat == Repeat::Unsafe && compiled.idempotency_key.is_none() {
                    let settled = self.record_all(rows, &Outcome::Unknown { why: why.clone() }).await?;
                    let signal = Signal::Unavailable { after, why, lost: true, exhausted: None };
                    return Ok(Report { settled, ..Report::of(batch.step, signal, sent_at) });
                }
                batch.attempts += 1;
                batch.doubtful = true;
                Ok(self.unavailable(batch, after, why, sent_at))
            }
        }
    }

    async fn record_all(&self, rows: &[&Operation], outcome: &Outcome) -> Result<usize, Failure> {
        let lines = rows.iter().map(|row| ReceiptLine { n: row.n, outcome: outcome.clone() }).collect();
        self.witness.record(lines).await?;
        Ok(rows.len())
    }
}

impl Report {
    /// Nothing but a signal.
    fn of(step: Step, signal: Signal, sent_at: Timestamp) -> Self {
        Self { settled: 0, learnt: Vec::new(), step, again: Vec::new(), signal, sent_at }
    }

    /// The same batch again.
    fn again(batch: Batch, signal: Signal, sent_at: Timestamp) -> Self {
        let step = batch.step;
        Self { again: vec![batch], ..Self::of(step, signal, sent_at) }
    }
}

fn fails(batch: Batch, failure: Failure, sent_at: Timestamp) -> Report {
    Report::again(batch, Signal::Fails(failure), sent_at)
}

fn not_sent(batch: Batch, now: Timestamp) -> Report {
    Report::again(batch, Signal::NotSent, now)
}

fn new_key(destination: &HttpDestination) -> String {
    let random = &destination.parts.random;
    format!("{:016x}{:016x}", random.next(), random.next())
}
