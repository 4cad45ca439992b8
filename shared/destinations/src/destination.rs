//! The upper of the two levels of a destination: operations in, outcomes out.

use std::fmt::Debug;
use std::time::Duration;

use penstock_model::operation::Operation;
use penstock_model::outcome::ReceiptLine;
use penstock_model::port::Boxed;
use penstock_model::report::ApiUsage;
use penstock_model::{Failure, Timestamp};

/// An account at a destination, ready to be told of operations.
pub trait Destination: Send + Sync + Debug {
    /// Delivers the operations of a chunk until all have an outcome, or `until` is near, or the destination asks
    /// for a pause that does not fit. Every outcome goes to the witness as soon as it is known.
    ///
    /// # Errors
    /// A failure of the whole call, by name: unauthorized, quota exhausted, unavailable, refused, or what the witness
    /// answered (superseded). What became of single rows is never an error.
    fn deliver<'a>(&'a self, work: Work<'a>) -> Boxed<'a, Result<Rest, Failure>>;
}

/// What one push asks of a destination.
#[derive(Debug)]
pub struct Work<'a> {
    /// The operations that have no final outcome yet, in order.
    pub operations: Vec<Operation>,
    /// Where the last push was (an asynchronous job's id, say); opaque to everybody else.
    pub cursor: Option<String>,
    /// Jobs that earlier pushes have made at the destination and that were not forgotten since.
    pub jobs: Vec<NotedJob>,
    /// Nothing is sent after this moment, and no answer is waited for beyond it.
    pub until: Timestamp,
    /// Who is told.
    pub witness: &'a dyn Witness,
}

/// A job at a destination that works on rows by itself, after the push that gave it them has ended.
#[derive(Debug, Clone)]
pub struct NotedJob {
    /// Its id there.
    pub job: String,
    /// Who made it.
    pub maker: JobMaker,
    /// Of a job of this chunk: the ordinals of its operations that can't be sent twice, as it was noted.
    pub once: Vec<u32>,
    /// Those among them that were announced, have no outcome, and are not among the operations to send: only the job can tell what became of
    /// them.
    pub in_doubt: Vec<Operation>,
}

/// Who made a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobMaker {
    /// An earlier push of this very chunk: what comes of its rows are this chunk's outcomes.
    ThisChunk,
    /// An earlier run of the sync, which is over: its rows may be older than those at hand, so that it must end first.
    EarlierRun,
}

/// What is left of a chunk when a destination returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: every operation has an outcome.
    Nothing,
    /// Some operations; go on after `resume_after` (zero: at once, only the time was up).
    Paused {
        /// For the next push.
        cursor: Option<String>,
        /// How long to wait.
        resume_after: Duration,
    },
}

/// Whether one more request may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    /// It may.
    Granted,
    /// The day's requests are spent.
    OverBudget {
        /// When there are more.
        until: Timestamp,
    },
}

/// Who is told what is about to be sent and what came of it. Writes are durable when the future completes.
pub trait Witness: Send + Sync + Debug {
    /// Asks whether this push may still send: the fence is its own and nobody has aborted the run. Cheap enough to
    /// be asked before every request.
    fn may_send(&self) -> Boxed<'_, Result<(), Failure>>;

    /// Takes one request out of what the account may spend in a day. Asked before every request.
    fn spend(&self) -> Boxed<'_, Result<Spending, Failure>>;

    /// Announces operations that can't be sent twice, before they are sent.
    fn intend<'a>(&'a self, ordinals: &'a [u32]) -> Boxed<'a, Result<(), Failure>>;

    /// Takes back announcements, those of earlier deliveries too: these operations were surely not carried out (throttled, refused
    /// credential, no connection, a job that did not look at them), and this delivery ends without sending them again. Without
    /// this they would count as unknown.
    fn withdraw<'a>(&'a self, ordinals: &'a [u32]) -> Boxed<'a, Result<(), Failure>>;

    /// Records outcomes. May gather them for a moment; `deliver`'s caller flushes at the end.
    fn record(&self, lines: Vec<ReceiptLine>) -> Boxed<'_, Result<(), Failure>>;

    /// Notes a job, before it is given rows: it may go on at the destination whatever becomes of this push. `once` are those of its operations
    /// that can't be sent twice.
    fn note_job<'a>(&'a self, job: &'a str, once: &'a [u32]) -> Boxed<'a, Result<(), Failure>>;

    /// Forgets a job that has ended. The outcomes recorded before are durable by then.
    fn forget_job<'a>(&'a self, job: &'a str) -> Boxed<'a, Result<(), Failure>>;

    /// Counts calls.
    fn count(&self, usage: ApiUsage);
}
