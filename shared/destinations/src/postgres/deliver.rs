//! One push: connections side by side take batches until all rows have an outcome or the time is up.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{Either, join_all, select};
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::ReceiptLine;
use penstock_model::port::Freshness;
use penstock_model::{Failure, FailureName, Timestamp};

use super::PostgresDestination;
use super::batch::{batches, waves};
use super::connect::Login;
use super::errors::Fault;
use super::lane::Lane;
use super::table::Table;
use super::values::{Row, Unready, read};
use crate::destination::{Rest, Witness, Work};

/// Text of a statement's parameters, about.
const BYTES_PER_STATEMENT: usize = 1 << 20;
/// No statement starts with less time left than this.
pub(super) const RESERVE: Duration = Duration::from_secs(1);
/// Why a lane stops before its work is done.
pub(super) enum Halt {
    /// Time is up; go on after this long.
    Later(Duration),
    /// Another lane has failed.
    Stopped,
    /// The call has failed.
    Failed(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Delivers a push's operations.
pub(super) async fn deliver(to: &PostgresDestination, work: Work<'_>) -> Result<Rest, Failure> {
    if work.operations.is_empty() {
        return Ok(Rest::Nothing);
    }
    let push = Push {
        to,
        until: work.until,
        witness: work.witness,
        login: tokio::sync::Mutex::new(None),
        stopped: AtomicBool::new(false),
        succeeded: AtomicBool::new(false),
    };
    match push.run(&work.operations).await {
        Ok(()) => Ok(Rest::Nothing),
        Err(Halt::Later(resume_after)) => Ok(Rest::Paused { cursor: None, resume_after }),
        Err(Halt::Stopped) => Ok(Rest::Paused { cursor: None, resume_after: Duration::ZERO }),
        Err(Halt::Failed(failure)) => Err(failure),
    }
}

/// What the lanes of one push share.
pub(super) struct Push<'a> {
    pub(super) to: &'a PostgresDestination,
    until: Timestamp,
    pub(super) witness: &'a dyn Witness,
    login: tokio::sync::Mutex<Option<Login>>,
    pub(super) stopped: AtomicBool,
    pub(super) succeeded: AtomicBool,
}

impl Push<'_> {
    async fn run(&self, operations: &[Operation]) -> Result<(), Halt> {
        let mut first = Lane::new(self);
        let table = first.table().await?;
        let kinds: BTreeSet<OperationKind> = operations.iter().map(|operation| operation.kind).collect();
        if kinds.contains(&OperationKind::Archive) {
            return Err(Failure::new(
                FailureName::SyncInvalid,
                "PostgreSQL has no archive: use delete or clear",
            )
            .into());
        }
        table.check(&self.to.mapped, &kinds)?;
        let rows = self.read(operations, &table).await?;

        let mut lanes = vec![first];
        for wave in waves(&rows) {
            let batches = batches(&wave, self.to.rows_per_statement as usize, BYTES_PER_STATEMENT);
            while lanes.len() < batches.len().min(self.to.connections as usize) {
                lanes.push(Lane::new(self));
            }
            let queue = Mutex::new(VecDeque::from(batches));
            let ends = join_all(lanes.iter_mut().map(|lane| lane.drain(&table, &queue))).await;
            worst(ends)?;
        }
        join_all(lanes.into_iter().map(Lane::close)).await;
        Ok(())
    }

    /// Reads all operations; those that can't be sent are recorded as rejected.
    async fn read<'r>(&self, operations: &'r [Operation], table: &'r Table) -> Result<Vec<Row<'r>>, Failure> {
        let mut rows = Vec::with_capacity(operations.len());
        let mut rejected = Vec::new();
        let mut unknown = BTreeSet::new();
        for operation in operations {
            match read(operation, table) {
                Ok(row) => rows.push(row),
                Err(Unready::Rejected(outcome)) => rejected.push(ReceiptLine { n: operation.n, outcome }),
                Err(Unready::UnknownColumns(columns)) => unknown.extend(columns),
                Err(Unready::Unreadable) => {
                    return Err(Failure::new(
                        FailureName::ChunkUnreadable,
                        format!("operation {} of the chunk has no readable match and fields", operation.n),
                    ));
                }
            }
        }
        if !unknown.is_empty() {
            return Err(table.lacks(&unknown));
        }
        if !rejected.is_empty() {
            self.witness.record(rejected).await?;
        }
        Ok(rows)
    }

    pub(super) fn left(&self) -> Duration {
        self.to.clock.now().until(self.until)
    }

    /// Time is up, or will be before `pause` has passed. Without a single success that is an outage.
    pub(super) fn late(&self, fault: Option<Fault>) -> Halt {
        match fault {
            Some(fault) if !self.succeeded.load(Ordering::Relaxed) => Halt::Failed(unavailable(fault)),
            Some(_) | None => Halt::Later(Duration::ZERO),
        }
    }

    /// Waits for a future, but not beyond the push's time.
    pub(super) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.at_most(self.left(), future).await
    }

    pub(super) async fn at_most<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(std::pin::pin!(future), self.to.clock.sleep(time)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// The credential to show; another one if this one was refused.
    pub(super) async fn login(&self, refused: Option<(Freshness, Fault)>) -> Result<Login, Failure> {
        let freshness = match refused {
            None => Freshness::Cached,
            Some((Freshness::Cached, _)) => Freshness::Fresh,
            Some((Freshness::Fresh, fault)) => {
                return Err(Failure::because(
                    FailureName::DestinationUnauthorized,
                    "the database refuses the user or the password; mend the secret, then redrive",
                    fault,
                ));
            }
        };
        let mut kept = self.login.lock().await;
        // Another lane may have fetched it afresh already.
        if let Some(login) = &*kept
            && (login.freshness == freshness || login.freshness == Freshness::Fresh)
        {
            return Ok(login.clone());
        }
        let login = self.to.door.login(freshness).await?;
        *kept = Some(login.clone());
        Ok(login)
    }
}

pub(super) fn unavailable(fault: Fault) -> Failure {
    Failure::because(
        FailureName::DestinationUnavailable,
        "the database could not be reached, or could not go on",
        fault,
    )
}

/// The end that counts among several: a failure, else the longest wait.
fn worst(ends: Vec<Result<(), Halt>>) -> Result<(), Halt> {
    let mut later = None;
    let mut stopped = false;
    for end in ends {
        match end {
            Err(Halt::Failed(failure)) => return Err(Halt::Failed(failure)),
            Err(Halt::Later(wait)) => later = later.max(Some(wait)),
            Err(Halt::Stopped) => stopped = true,
            Ok(()) => {}
        }
    }
    match later {
        Some(wait) => Err(Halt::Later(wait)),
        None if stopped => Err(Halt::Stopped),
        None => Ok(()),
    }
}
