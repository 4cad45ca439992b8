//! `penstock runs`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use penstock_model::Timestamp;
use penstock_model::port::ExecutionStatus;
use penstock_model::report::{ApiUsage, Counts, RunStanding, RunSummary};
use penstock_store::FolderObjects;

use super::dead_letters::sync_name;
use super::{deployed, place};
use crate::args;
use crate::engine::Status;
use crate::local::{Kept, LocalExecutions, failure};
use crate::show::table;

/// Lists the runs of a sync, newest first.
///
/// # Errors
/// If the state can't be read, or the file holds no sync.
pub async fn list(args: args::Runs) -> anyhow::Result<ExitCode> {
    let (sync, runs) = match &args.stack {
        Some(name) => {
            let (place, sync) = (place::stack(name).await?, deployed::sync_of(&args.sync)?);
            let runs = penstock_commit::list_runs(place.objects(), &sync).await?;
            let executions = place.deployed()?.of_sync(&sync).await?;
            (sync, deployed::with_executions(runs, executions))
        }
        None => {
            let (sync, state) = (sync_name(&args.sync)?, std::path::absolute(&args.state)?);
            let runs = penstock_commit::list_runs(&FolderObjects::new(&state), &sync).await?;
            let runs = with_executions(runs, &LocalExecutions::new(&state), &sync)?;
            (sync, runs)
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&runs)?);
    } else if runs.is_empty() {
        println!("sync {sync} has no run here");
    } else {
        let head = ["run", "started", "ended", "accepted", "rejected", "pending", "requests", "status"];
        let rows: Vec<_> = runs.iter().map(row).collect();
        for line in table(&head.map(str::to_owned), &rows) {
            println!("{line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the objects say of runs and what is kept of their executions, as one: a run that failed before it was planned
/// has left no object, and only its execution tells whether an unfinished run still runs.
fn with_executions(
    runs: Vec<RunSummary>,
    executions: &LocalExecutions,
    sync: &str,
) -> anyhow::Result<Vec<RunSummary>> {
    let mut kept: BTreeMap<String, Kept> = executions.of_sync(sync)?.into_iter().collect();
    let mut all = Vec::new();
    for run in runs {
        all.push(match kept.remove(&run.run) {
            Some(kept) => told(run, &kept, executions)?,
            None => run,
        });
    }
    for (name, kept) in kept {
        all.push(told(unplanned(name), &kept, executions)?);
    }
    all.sort_by(|a, b| (b.started_at, &b.run).cmp(&(a.started_at, &a.run)));
    Ok(all)
}

/// A run that has left no object.
pub(super) fn unplanned(run: String) -> RunSummary {
    RunSummary {
        run,
        status: RunStanding::Unfinished,
        failure: None,
        folded_into: None,
        dry_run: false,
        started_at: None,
        ended_at: None,
        counts: Counts::default(),
        pending: 0,
        api: ApiUsage::default(),
        cost: None,
    }
}

/// A run with what its execution knows better.
fn told(run: RunSummary, kept: &Kept, executions: &LocalExecutions) -> anyhow::Result<RunSummary> {
    let progress = &kept.progress;
    let known = executions.look(&run.run)?;
    let is_running = known.is_some_and(|execution| execution.status == ExecutionStatus::Running);
    let status = match (run.status, &progress.status) {
        (RunStanding::Unfinished, _) if is_running => RunStanding::Running,
        // Without a status it was killed, and can be redriven.
        (RunStanding::Unfinished, Status::Failed(_) | Status::TimedOut) => RunStanding::Failed,
        (status, _) => status,
    };
    let failure = match status {
        RunStanding::Failed | RunStanding::Folded => {
            failure(progress).map(|failure| failure.name).or(run.failure)
        }
        RunStanding::Unfinished => Some("killed".to_owned()),
        RunStanding::Running
        | RunStanding::Succeeded
        | RunStanding::SucceededWithRejections
        | RunStanding::NothingToDo => None,
    };
    let ended_at = if is_running { None } else { kept.ended_at.or(run.ended_at) };
    let started_at = Some(progress.execution.started_at);
    Ok(RunSummary { status, failure, started_at, ended_at, ..run })
}

fn row(run: &RunSummary) -> [String; 8] {
    [
        run.run.clone(),
        time(run.started_at),
        time(run.ended_at),
        run.counts.accepted.to_string(),
        run.counts.rejected.to_string(),
        run.pending.to_string(),
        run.api.requests.to_string(),
        status(run),
    ]
}

/// A moment in UTC, to the second.
fn time(moment: Option<Timestamp>) -> String {
    moment.map_or(String::new(), |moment| Timestamp(moment.0.div_euclid(1000) * 1000).rfc3339())
}

fn status(run: &RunSummary) -> String {
    let failure = run.failure.as_deref().map_or(String::new(), |failure| format!(" {failure}"));
    let text = match run.status {
        RunStanding::Running => "running".to_owned(),
        RunStanding::Unfinished => format!("unfinished{failure}"),
        RunStanding::Succeeded => "succeeded".to_owned(),
        RunStanding::SucceededWithRejections => "succeeded, with rejected rows".to_owned(),
        RunStanding::NothingToDo => "nothing to do".to_owned(),
        RunStanding::Failed => format!("failed{failure}"),
        RunStanding::Folded => {
            let into = run.folded_into.as_deref().unwrap_or("a later run");
            format!("failed{failure}, folded into {into}")
        }
    };
    if run.dry_run { format!("{text} (dry run)") } else { text }
}
