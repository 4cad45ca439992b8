//! The lease of a sync: who may send. Changed by compare-and-swap only.
//!
//! ```text
//! none, or released ──take──► held, fence + 1
//! held by this run  ──take──► as it was (a function that runs twice)
//! held by another   ──take──► it runs: RunInProgress
//!                             it has ended: held, fence + 1; the dead run joins `unfinished`
//! ```

use penstock_model::contract::RunRef;
use penstock_model::layout::SyncKeys;
use penstock_model::lease::Lease;
use penstock_model::port::{Condition, ETag, ExecutionStatus, Executions, Objects, Random};
use penstock_model::{Failure, FailureName};

use crate::executions_failure;
use crate::json::{self, Swap};

/// The version of the lease's format.
pub const LEASE_VERSION: u32 = 1;
/// Swaps lost in a row before somebody should look.
const ROUNDS: u32 = 16;

/// What taking a lease needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Ports<'a> {
    /// The state's objects.
    pub objects: &'a dyn Objects,
    /// To ask whether the holder still runs.
    pub executions: &'a dyn Executions,
    /// For the nonce.
    pub random: &'a dyn Random,
}

/// A lease that this run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// The version of its object.
    pub etag: ETag,
}

/// Takes the lease of a sync for a run. Taking it again gives it as it is.
///
/// A run whose execution has ended without giving the lease back is fenced off and joins `unfinished`; its attempts'
/// deadlines may lie ahead, and waiting for them is the caller's part.
///
/// # Errors
/// `RunInProgress` if the holder still runs; `StorageUnavailable`, also if Step Functions can't be asked;
/// `ContractMismatch` if the lease was written by a later version.
pub async fn take(ports: Ports<'_>, sync: &str, run: &str, execution: &str) -> Result<Held, Failure> {
    let key = SyncKeys { sync }.lease();
    for _ in 0..ROUNDS {
        let found = read(ports.objects, sync).await?;
        let (fence, unfinished, condition) = match found {
            None => (1, Vec::new(), Condition::IfAbsent),
            Some((lease, etag)) if !lease.released && lease.run == run => return Ok(Held { lease, etag }),
            Some((lease, etag)) => {
                let mut unfinished = lease.unfinished;
                if !lease.released {
                    refuse_if_running(ports.executions, sync, &lease.run, &lease.execution).await?;
                    if !unfinished.contains(&lease.run) {
                        unfinished.push(lease.run);
                    }
                }
                (lease.fence.saturating_add(1), unfinished, Condition::IfMatch(etag))
            }
        };
        let lease = Lease {
            version: LEASE_VERSION,
            fence,
            run: run.to_owned(),
            execution: execution.to_owned(),
            released: false,
            unfinished,
            nonce: nonce(ports.random),
        };
        match json::swap_json(ports.objects, &key, &lease, condition).await? {
            Swap::Swapped(etag) => return Ok(Held { lease, etag }),
            Swap::Lost => tracing::debug!(sync, run, "another run wrote the lease first"),
        }
    }
    Err(contended(sync))
}

/// Whether a run still holds its lease. To be asked before anything is sent, and again every few seconds.
///
/// # Errors
/// `Superseded` if a later run has taken it, or if the run has given it back: an invocation that comes after its run's
/// end may do nothing any more. `StorageUnavailable`, `ContractMismatch`.
pub async fn verify(objects: &dyn Objects, run: &RunRef) -> Result<(), Failure> {
    if held(objects, run).await?.lease.released {
        return Err(Failure::new(
            FailureName::Superseded,
            format!("run {} of sync {} has finished", run.run, run.sync),
        ));
    }
    Ok(())
}

/// Does work of a run. If it fails and the run has lost its lease meanwhile, that is why: later runs take away what
/// earlier ones had to read.
///
/// # Errors
/// `Superseded` if the work failed and a later run holds the lease; what asking after the lease fails with, since then nobody can say what
/// the work failed for; else what the work fails with.
pub async fn or_superseded<T>(
    objects: &dyn Objects,
    run: &RunRef,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match work.await {
        Ok(done) => Ok(done),
        Err(failure) => match verify(objects, run).await {
            Ok(()) => Err(failure),
            Err(lost) => Err(lost),
        },
    }
}

/// Whether no later run has taken the lease, given back or not: for who finishes a run a second time.
///
/// # Errors
/// `Superseded` if a later run has taken it; `StorageUnavailable`, `ContractMismatch`.
pub async fn verify_last(objects: &dyn Objects, run: &RunRef) -> Result<(), Failure> {
    held(objects, run).await.map(drop)
}

/// Gives the lease back; `unfinished` stays for the next run. Giving it back twice does no harm.
///
/// # Errors
/// As [`verify`].
pub async fn release(objects: &dyn Objects, random: &dyn Random, run: &RunRef) -> Result<(), Failure> {
    change(objects, random, run, |lease| lease.released = true).await
}

/// Notes that the work of a dead run is folded into the state, so that no run looks at it again.
///
/// # Errors
/// As [`verify`].
pub async fn folded(
    objects: &dyn Objects,
    random: &dyn Random,
    run: &RunRef,
    dead: &str,
) -> Result<(), Failure> {
    change(objects, random, run, |lease| lease.unfinished.retain(|unfinished| unfinished != dead)).await
}

/// Changes a lease that the run holds.
async fn change(
    objects: &dyn Objects,
    random: &dyn Random,
    run: &RunRef,
    apply: impl Fn(&mut Lease) + Send + Sync,
) -> Result<(), Failure> {
    let key = run.sync_keys().lease();
    for _ in 0..ROUNDS {
        let Held { mut lease, etag } = held(objects, run).await?;
        let before = lease.clone();
        apply(&mut lease);
        if lease == before {
            return Ok(());
        }
        lease.nonce = nonce(random);
        match json::swap_json(objects, &key, &lease, Condition::IfMatch(etag)).await? {
            Swap::Swapped(_) => return Ok(()),
            Swap::Lost => {
                tracing::debug!(sync = run.sync, run = run.run, "another attempt wrote the lease first");
            }
        }
    }
    Err(contended(&run.sync))
}

/// A word that no other write has, so that each write has a version of its own.
fn nonce(random: &dyn Random) -> String {
    format!("{:016x}{:016x}", random.next(), random.next())
}

async fn held(objects: &dyn Objects, run: &RunRef) -> Result<Held, Failure> {
    match read(objects, &run.sync).await? {
        Some((lease, etag)) if lease.fence == run.fence && lease.run == run.run => Ok(Held { lease, etag }),
        Some((lease, _)) => Err(Failure::new(
            FailureName::Superseded,
            format!(
                "run {} of sync {} no longer holds the lease: run {} took it with fence {}, and carries the work on",
                run.run, run.sync, lease.run, lease.fence
            ),
        )),
        None => Err(Failure::new(
            FailureName::Superseded,
            format!("the lease of sync {} is gone, so run {} may send nothing", run.sync, run.run),
        )),
    }
}

async fn read(objects: &dyn Objects, sync: &str) -> Result<Option<(Lease, ETag)>, Failure> {
    let key = SyncKeys { sync }.lease();
    let found = json::get_json::<Lease>(objects, &key).await?;
    match &found {
        Some((lease, _)) if lease.version != LEASE_VERSION => Err(Failure::new(
            FailureName::ContractMismatch,
            format!("object {key} has version {}, and this function reads {LEASE_VERSION}", lease.version),
        )),
        Some(_) | None => Ok(found),
    }
}

async fn refuse_if_running(
    executions: &dyn Executions,
    sync: &str,
    holder: &str,
    execution: &str,
) -> Result<(), Failure> {
    let known = executions.describe(execution).await.map_err(|error| {
        let message = format!("whether run {holder} of sync {sync} still runs could not be found out");
        executions_failure(message, error)
    })?;
    match known.map(|execution| execution.status) {
        Some(ExecutionStatus::Running) => Err(Failure::new(
            FailureName::RunInProgress,
            format!("run {holder} of sync {sync} is under way; this run waits for it"),
        )),
        Some(ExecutionStatus::Ended) | None => Ok(()),
    }
}

fn contended(sync: &str) -> Failure {
    Failure::new(
        FailureName::StorageUnavailable,
        format!("the lease of sync {sync} was changed by others {ROUNDS} times in a row"),
    )
}
