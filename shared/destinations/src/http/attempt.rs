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
use super::decode::{Decoded, Verdict, decode};
use super::encode::{CompiledOperation, encode, put_idempotency_key};
use super::retry::{ATTEMPTS, account_use, backoff, nothing_left, until_reset};
use super::transport::{Request, Response, Sent, TransportError, TransportErrorKind};
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
    /// It answers. With a wait if its rate limit is used up.
    Answers { hold: Option<Duration> },
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

impl Delivery<'_> {
    /// What a batch's rows refer to.
    pub(super) fn parents_of(&self, batch: &Batch) -> HashSet<u64> {
        batch.rows.iter().filter_map(|row| self.parents.get(*row)).flatten().copied().collect()
    }

    /// Whether a batch has nothing in common with those under way.
    pub(super) fn may_travel(&self, batch: &Batch, busy: &HashSet<u64>) -> bool {
        let parents = batch.rows.iter().filter_map(|row| self.parents.get(*row)).flatten();
        busy.is_empty() || !parents.into_iter().any(|parent| busy.contains(parent))
    }

    /// Sends a batch once. Outcomes are recorded before it returns.
    pub(super) async fn attempt(self, mut batch: Batch) -> Result<Report, Failure> {
        let destination = self.destination;
        let compiled = destination.operation(batch.kind)?;
        let rows: Vec<&Operation> = batch.rows.iter().filter_map(|row| self.operations.get(*row)).collect();
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
                let signal = Signal::OutOfQuota { until };
                return Ok(Report { settled: 0, again: vec![batch], signal, sent_at: clock.now() });
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
        if let Some((name, value)) = credential.header {
            request.headers.insert(name, value);
        }
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
            return Ok(Report { settled, again: Vec::new(), signal, sent_at });
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
            return Report { settled: 0, again: Vec::new(), signal: signal(Some(batch)), sent_at };
        }
        batch.not_before = self.later(after, batch.attempts);
        Report { settled: 0, again: vec![batch], signal: signal(None), sent_at }
    }

    fn later(&self, after: Option<Duration>, attempts: u32) -> Timestamp {
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
        let report = |settled, again, signal| Ok(Report { settled, again, signal, sent_at });
        let hold = nothing_left(names, &answer.headers).then(|| reset.unwrap_or(Duration::from_secs(1)));
        match decoded {
            Decoded::Rows(verdicts) => {
                let (settled, again) = self.settle(batch, compiled, rows, verdicts).await?;
                report(settled, again, Signal::Answers { hold })
            }
            Decoded::Halve => report(0, halves(&batch, compiled, rows), Signal::Answers { hold }),
            Decoded::Throttled { after } => {
                self.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
                report(0, vec![batch], Signal::Throttles { after, reset })
            }
            Decoded::Unauthorized => {
                batch.credentials_refused += 1;
                if batch.credentials_refused > 1 {
                    return Ok(fails(batch, destination.sign_in.unauthorized(), sent_at));
                }
                match destination.sign_in.refused(generation, &destination.parts).await {
                    Ok(()) => report(0, vec![batch], Signal::RefusedCredential),
                    Err(failure) => Ok(fails(batch, failure, sent_at)),
                }
            }
            Decoded::QuotaExhausted { after } => {
                self.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
                // Rate headers tell of shorter limits.
                let wait = after.unwrap_or(QUOTA_LOOK_AGAIN);
                if wait <= LONGEST_PARKED {
                    let until = destination.parts.clock.now().plus(wait);
                    return report(0, vec![batch], Signal::OutOfQuota { until });
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
                    "{} refuses {:?} requests with status {}, which names no row: check address, object and connector",
                    destination.name, batch.kind, answer.status
                );
                Ok(fails(batch, Failure::new(FailureName::DestinationRefused, message), sent_at))
            }
            Decoded::Unavailable { after } => {
                let why = format!("status {}", answer.status);
                if compiled.repeat == Repeat::Unsafe && compiled.idempotency_key.is_none() {
                    let settled = self.record_all(rows, &Outcome::Unknown { why: why.clone() }).await?;
                    return report(
                        settled,
                        Vec::new(),
                        Signal::Unavailable { after, why, lost: true, exhausted: None },
                    );
                }
                batch.attempts += 1;
                batch.doubtful = true;
                Ok(self.unavailable(batch, after, why, sent_at))
            }
        }
    }

    /// Records what is decided; gives how many, and what has to be sent again.
    async fn settle(
        &self,
        batch: Batch,
        compiled: &CompiledOperation,
        rows: &[&Operation],
        verdicts: Vec<Verdict>,
    ) -> Result<(usize, Vec<Batch>), Failure> {
        let last = batch.attempts + 1 >= ATTEMPTS;
        // With an idempotency key only the very same request can be repeated.
        let all_lost = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Lost(_)));
        let repeatable = compiled.repeat == Repeat::Safe || (compiled.idempotency_key.is_some() && all_lost);
        let mut lines = Vec::with_capacity(rows.len());
        let (mut again, mut resend) = (Vec::new(), Vec::new());
        for ((position, row), verdict) in batch.rows.iter().zip(rows).zip(verdicts) {
            let outcome = match verdict {
                Verdict::Done(outcome) => outcome,
                Verdict::Again(refusal) if last => {
                    Outcome::Rejected { code: refusal.code, message: refusal.message, field: refusal.field }
                }
                Verdict::Lost(why) if last || !repeatable => Outcome::Unknown { why: why.to_owned() },
                Verdict::Again(_) | Verdict::Lost(_) => {
                    again.push(*position);
                    continue;
                }
                Verdict::Resend => {
                    resend.push(*position);
                    continue;
                }
            };
            lines.push(ReceiptLine { n: row.n, outcome });
        }
        let settled = lines.len();
        if settled > 0 {
            self.witness.record(lines).await?;
        }
        let mut batches = Vec::new();
        if again.len() == batch.rows.len() {
            // The very same request, with the very same key.
            let attempts = batch.attempts + 1;
            let doubtful = batch.doubtful || all_lost;
            batches.push(Batch { attempts, not_before: self.later(None, attempts), doubtful, ..batch });
        } else {
            if !again.is_empty() {
                let mut part = batch.part(again.clone(), self.bytes_of(&again, compiled));
                part.attempts += 1;
                part.not_before = self.later(None, part.attempts);
                part.mergeable = true;
                batches.push(part);
            }
            if !resend.is_empty() {
                let bytes = self.bytes_of(&resend, compiled);
                batches.push(batch.part(resend, bytes));
            }
        }
        Ok((settled, batches))
    }

    fn bytes_of(&self, positions: &[usize], compiled: &CompiledOperation) -> usize {
        positions
            .iter()
            .filter_map(|position| self.operations.get(*position))
            .map(|row| compiled.size_of(row))
            .sum()
    }

    async fn record_all(&self, rows: &[&Operation], outcome: &Outcome) -> Result<usize, Failure> {
        let lines = rows.iter().map(|row| ReceiptLine { n: row.n, outcome: outcome.clone() }).collect();
        self.witness.record(lines).await?;
        Ok(rows.len())
    }
}

fn fails(batch: Batch, failure: Failure, sent_at: Timestamp) -> Report {
    Report { settled: 0, again: vec![batch], signal: Signal::Fails(failure), sent_at }
}

fn not_sent(batch: Batch, now: Timestamp) -> Report {
    Report { settled: 0, again: vec![batch], signal: Signal::NotSent, sent_at: now }
}

/// The two halves of a batch of several rows, each with attempts of its own.
fn halves(batch: &Batch, compiled: &CompiledOperation, rows: &[&Operation]) -> Vec<Batch> {
    let middle = batch.rows.len().div_ceil(2);
    let half = |positions: &[usize], rows: &[&Operation]| Batch {
        attempts: 0,
        mergeable: false,
        apart: true,
        ..batch.part(positions.to_vec(), rows.iter().map(|row| compiled.size_of(row)).sum())
    };
    let (first_rows, second_rows) = rows.split_at(middle.min(rows.len()));
    let (first, second) = batch.rows.split_at(middle);
    vec![half(first, first_rows), half(second, second_rows)]
}

fn new_key(destination: &HttpDestination) -> String {
    let random = &destination.parts.random;
    format!("{:016x}{:016x}", random.next(), random.next())
}
