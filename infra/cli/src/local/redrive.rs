//! Which run can be redriven, and why another can't.

use std::io;

use penstock_model::contract::{CONTRACT, PlanRequest, StartRequest};
use penstock_model::failure::Handling;
use penstock_model::layout::{RunKeys, SyncKeys};
use penstock_model::lease::Lease;
use penstock_model::port::Objects;
use penstock_model::report::RunStatus;
use penstock_model::run_plan::RunPlan;
use penstock_model::{Failure, FailureName, Timestamp};
use penstock_store::json::get_json;
use penstock_store::{MemoryObjects, attempts, reports};

use super::executions::{LocalExecutions, Running};
use super::publish::publish;
use crate::definitions::check::CheckedSync;
use crate::engine::{Progress, Status};

/// A run that stopped and can go on. Nobody else can take it up while this is held.
#[derive(Debug)]
pub struct Redrivable {
    /// How far it came.
    pub progress: Progress,
    /// What plan pinned, if it came so far.
    pub plan: Option<RunPlan>,
    /// Until then a request that its process sent before it was killed may be under way.
    pub may_send_until: Option<Timestamp>,
    pub(super) running: Running,
}

/// Why a run can't be redriven, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRedriven {
    /// The sync has no run in this state folder.
    #[error("sync {sync} has no run in this state folder; start one with `penstock run`")]
    NoRun {
        /// The sync.
        sync: String,
    },
    /// It has runs, but not this one.
    #[error("sync {sync} has no run {run} in this state folder; `penstock runs` lists those it has")]
    NoSuchRun {
        /// The sync.
        sync: String,
        /// The run.
        run: String,
    },
    /// Its process lives.
    #[error("run {run} is under way; let it end, or stop its process, and redrive it then if it failed")]
    Running {
        /// The run.
        run: String,
    },
    /// It ended well.
    #[error("run {run} has succeeded, so nothing of it is left to do; `penstock run` starts a new one")]
    Succeeded {
        /// The run.
        run: String,
    },
    /// It failed after everything was committed.
    #[error(
        "run {run} has delivered and committed all that it could, and its rejected rows are dead letters; mend what \
         they say, then send them with `penstock replay`"
    )]
    Committed {
        /// The run.
        run: String,
    },
    /// A later run has the lease.
    #[error(
        "run {run} was folded into run {by}, which carries its work on; if that one failed too, redrive it, or start a \
         new one with `penstock run`"
    )]
    Superseded {
        /// The run.
        run: String,
        /// The later run.
        by: String,
    },
    /// What the run goes by is not what the files say now.
    #[error(
        "{changed} changed since run {run} was planned, and a redrive uses what plan pinned; start a new run with \
         `penstock run`, which takes over what this one achieved, or go on with the old with --pinned"
    )]
    DefinitionsChanged {
        /// The run.
        run: String,
        /// Which definitions.
        changed: String,
    },
    /// Its progress does not fit this build.
    #[error("run {run} can't be taken up by this build: {why}; start a new run with `penstock run`")]
    OtherBuild {
        /// The run.
        run: String,
        /// Why.
        why: String,
    },
}

impl NotRedriven {
    /// The refusal's name. Where Penstock or Step Functions has a name for it, it is that.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoRun { .. } | Self::NoSuchRun { .. } => "ExecutionDoesNotExist",
            Self::Running { .. } => FailureName::RunInProgress.as_str(),
            Self::Succeeded { .. } | Self::OtherBuild { .. } => "ExecutionNotRedrivable",
            Self::Committed { .. } => FailureName::RejectedTooMany.as_str(),
            Self::Superseded { .. } => FailureName::Superseded.as_str(),
            Self::DefinitionsChanged { .. } => "DefinitionsChanged",
        }
    }
}

impl Redrivable {
    /// The run that is named, or the newest of the sync that can be redriven.
    ///
    /// # Errors
    /// `StorageUnavailable`; `ContractMismatch` if an object was written by a later version. A run that can't be redriven
    /// is the inner error; of several it is that of the newest.
    pub async fn find(
        state: &dyn Objects,
        executions: &LocalExecutions,
        sync: &str,
        run: Option<&str>,
    ) -> Result<Result<Self, NotRedriven>, Failure> {
        if let Some(run) = run {
            let is_of_sync = match executions.kept(run) {
                Ok(kept) => kept.is_some_and(|kept| kept.sync().as_deref() == Some(sync)),
                // It is there; why it can't be taken up is said below.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => true,
                Err(error) => return Err(unreadable(error)),
            };
            if !is_of_sync {
                return Ok(Err(NotRedriven::NoSuchRun { sync: sync.to_owned(), run: run.to_owned() }));
            }
            return Self::take(state, executions, sync, run).await;
        }
        let mut newest = None;
        for (name, _) in executions.of_sync(sync).map_err(unreadable)? {
            match Self::take(state, executions, sync, &name).await? {
                Ok(redrivable) => return Ok(Ok(redrivable)),
                // It decides about the sync: older runs are folded, or are about to be.
                Err(running @ NotRedriven::Running { .. }) => return Ok(Err(running)),
                Err(refused) => newest = newest.or(Some(refused)),
            }
        }
        Ok(Err(newest.unwrap_or_else(|| NotRedriven::NoRun { sync: sync.to_owned() })))
    }

    async fn take(
        state: &dyn Objects,
        executions: &LocalExecutions,
        sync: &str,
        name: &str,
    ) -> Result<Result<Self, NotRedriven>, Failure> {
        let run = name.to_owned();
        // From here on what is found stays so: whoever else redrives it is refused, and a new run waits for it.
        let running = match executions.begin(name) {
            Ok(running) => running,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Err(NotRedriven::Running { run }));
            }
            Err(error) => return Err(unreadable(error)),
        };
        let progress = match executions.kept(name) {
            Ok(Some(kept)) => kept.progress,
            Ok(None) => return Ok(Err(NotRedriven::NoSuchRun { sync: sync.to_owned(), run })),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Err(NotRedriven::OtherBuild { run, why: error.to_string() }));
            }
            Err(error) => return Err(unreadable(error)),
        };
        match &progress.status {
            Status::Succeeded { .. } => return Ok(Err(NotRedriven::Succeeded { run })),
            Status::Running | Status::Failed(_) | Status::TimedOut => {}
        }
        let keys = RunKeys { sync, run: name };
        let plan = get_json::<RunPlan>(state, &keys.plan()).await?.map(|(plan, _)| plan);
        if let Some(refused) = over(state, &keys, plan.as_ref()).await? {
            return Ok(Err(refused));
        }
        let attempts = attempts::of_run(state, &keys).await?;
        let may_send_until = attempts.iter().filter_map(|attempt| attempt.deadline).max();
        Ok(Ok(Self { progress, plan, may_send_until, running }))
    }
}

/// Why nothing of a run is left to do for itself.
async fn over(
    state: &dyn Objects,
    keys: &RunKeys<'_>,
    plan: Option<&RunPlan>,
) -> Result<Option<NotRedriven>, Failure> {
    let run = keys.run.to_owned();
    if let Some(report) = reports::of_run(state, keys).await? {
        return Ok(Some(match (report.status, report.folded_into) {
            (_, Some(by)) => NotRedriven::Superseded { run, by },
            (RunStatus::Failed, None) => NotRedriven::Committed { run },
            // Killed at its very end.
            (RunStatus::Succeeded | RunStatus::SucceededWithRejections | RunStatus::NothingToDo, None) => {
                NotRedriven::Succeeded { run }
            }
        }));
    }
    // A run that was not planned has sent nothing: it plans, with a lease of its own.
    let Some(plan) = plan else { return Ok(None) };
    let lease = get_json::<Lease>(state, &SyncKeys { sync: keys.sync }.lease()).await?;
    let taken = lease.filter(|(lease, _)| lease.fence != plan.run.fence || lease.run != run);
    Ok(taken.map(|(lease, _)| NotRedriven::Superseded { run, by: lease.run }))
}

/// Which definitions are not as plan pinned them for the run; `None` if all are.
///
/// # Errors
/// What is wrong with the definitions, as plan would say it.
pub async fn pinned_otherwise(checked: &CheckedSync, plan: &RunPlan) -> Result<Option<String>, Failure> {
    let published = MemoryObjects::new();
    publish(&published, checked).await?;
    let request = PlanRequest {
        contract: CONTRACT,
        run: plan.run.run.clone(),
        execution: plan.execution.clone(),
        request: StartRequest {
            sync: plan.definition.name.clone(),
            environment: plan.definition.environment.clone(),
            options: plan.options.clone(),
            trigger: None,
        },
    };
    let now = penstock_plan::resolve(&published, &request).await?;
    let pinned = &plan.definition;
    let parts = [
        ("the sync", now.sync != pinned.sync || now.name != pinned.name),
        ("its unload", now.unload != pinned.unload),
        ("its connection", now.connection != pinned.connection || now.address != pinned.address),
        ("its connector", now.connector != pinned.connector),
    ];
    let changed: Vec<_> = parts.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    Ok((!changed.is_empty()).then(|| changed.join(" and ")))
}

/// Whether a run that failed so can be carried on once the cause is mended. Names that are not Penstock's are the
/// platform's: time and memory.
#[must_use]
pub fn helps(failure: &str) -> bool {
    let Some(name) = FailureName::ALL.iter().find(|name| name.as_str() == failure) else { return true };
    match name.handling() {
        Handling::Retry | Handling::Abort | Handling::WaitForOtherRun => true,
        // Another build may read what this one does not.
        Handling::AbortBeforeSending => *name == FailureName::ContractMismatch,
        Handling::DeadLetterChunk | Handling::Stop | Handling::FailAfterCommit => false,
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::because(FailureName::StorageUnavailable, "the state folder can't be used", error)
}
