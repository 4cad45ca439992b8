//! Runs of a deployed stack: the same commands as for a state folder, with `--stack`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::random::SystemRandom;
use penstock_model::contract::{RunOptions, StartRequest};
use penstock_model::port::{Clock as _, Random as _};
use penstock_model::report::{RunStanding, RunSummary};
use penstock_store::deployed::{Deployed, DeployedExecution, Standing};
use serde_json::json;

use super::dead_letters::sync_name;
use super::place::Place;
use super::runs::unplanned;
use crate::definitions::Project;

/// The name of a sync of a deployed stack: as it is given, or of the sync in a file.
///
/// # Errors
/// If it is a file that holds no sync.
pub(super) fn sync_of(named: &Path) -> anyhow::Result<String> {
    match named.to_str() {
        Some(name) if !named.exists() && Project::is_name(name) => Ok(name.to_owned()),
        Some(_) | None => sync_name(named),
    }
}

/// Starts a run on the stack and says where to follow it. The stack runs what is published there.
///
/// # Errors
/// If the stack can't be asked.
pub(super) async fn start(
    place: &Place,
    sync: &Path,
    environment: Option<String>,
    options: RunOptions,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let (deployed, sync) = (place.deployed()?, sync_of(sync)?);
    let now = SystemClock::new().now();
    let random = format!("{}\n{:016x}", now.0, SystemRandom.next());
    let short: String = sync.chars().take(47).collect();
    let run = format!("{short}-{}", penstock_store::fingerprint_of(random.as_bytes()));
    let trigger = Some("penstock run".to_owned());
    let request = StartRequest { sync: sync.clone(), environment, options, trigger };
    deployed.start(&run, serde_json::to_string(&request)?).await?;
    told("started", &sync, &run, deployed, as_json);
    Ok(ExitCode::SUCCESS)
}

/// Redrives a run of the stack: the named one, or the sync's newest if that has failed.
///
/// # Errors
/// If there is none to redrive, or the stack can't be asked.
pub(super) async fn redrive(
    place: &Place,
    sync: &Path,
    run: Option<&str>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let (deployed, sync) = (place.deployed()?, sync_of(sync)?);
    let run = match run {
        Some(run) => run.to_owned(),
        None => match deployed.of_sync(&sync).await?.into_iter().next() {
            Some(DeployedExecution { name, standing: Standing::Failed(_), .. }) => name,
            Some(newest) => anyhow::bail!("the newest run of sync {sync}, {}, has not failed", newest.name),
            None => anyhow::bail!("sync {sync} has no run among the newest of this stack"),
        },
    };
    deployed.redrive(&run).await?;
    told("redriven", &sync, &run, deployed, as_json);
    Ok(ExitCode::SUCCESS)
}

fn told(what: &str, sync: &str, run: &str, deployed: &Deployed, as_json: bool) {
    if as_json {
        println!(
            "{}",
            json!({ "status": what, "sync": sync, "run_id": run, "execution": deployed.arn(run) })
        );
    } else {
        println!("{what}  (run {run})\n  follow it   penstock runs {sync}, with the same --stack");
    }
}

/// What the bucket says of runs and what Step Functions says of their executions, as one.
pub(super) fn with_executions(runs: Vec<RunSummary>, executions: Vec<DeployedExecution>) -> Vec<RunSummary> {
    let mut known: BTreeMap<String, DeployedExecution> =
        executions.into_iter().map(|execution| (execution.name.clone(), execution)).collect();
    let mut all: Vec<RunSummary> = runs
        .into_iter()
        .map(|run| match known.remove(&run.run) {
            Some(execution) => seen(run, execution),
            None => run,
        })
        .collect();
    // They failed before they were planned, and have left no object.
    all.extend(known.into_values().map(|execution| seen(unplanned(execution.name.clone()), execution)));
    all.sort_by(|a, b| (b.started_at, &b.run).cmp(&(a.started_at, &a.run)));
    all
}

/// What Step Functions says of a Map whose children failed.
const CHILDREN_FAILED: &str = "States.ExceedToleratedFailureThreshold";

fn seen(run: RunSummary, execution: DeployedExecution) -> RunSummary {
    let (status, failure) = match (run.status, execution.standing) {
        (RunStanding::Unfinished, Standing::Running) => (RunStanding::Running, None),
        // Of a Map's children Step Functions says only that some have failed; what stopped them all stands beside the run.
        (RunStanding::Unfinished, Standing::Failed(name)) if name == CHILDREN_FAILED => {
            (RunStanding::Failed, run.failure.clone().or(Some(name)))
        }
        (RunStanding::Unfinished, Standing::Failed(name)) => (RunStanding::Failed, Some(name)),
        // Its report says it better.
        (status, Standing::Failed(name)) => (status, Some(name)),
        (status, Standing::Running | Standing::Succeeded) => (status, run.failure.clone()),
    };
    let (started_at, ended_at) =
        (execution.started_at.or(run.started_at), execution.ended_at.or(run.ended_at));
    RunSummary { status, failure, started_at, ended_at, ..run }
}

#[cfg(test)]
mod tests {
    use penstock_model::Timestamp;

    use super::*;

    #[test]
    fn executions_tell_what_objects_do_not() {
        let run = |name: &str, status| RunSummary { status, ..unplanned(name.to_owned()) };
        let execution = |name: &str, at, standing| DeployedExecution {
            name: name.to_owned(),
            standing,
            started_at: Some(Timestamp(at)),
            ended_at: None,
        };
        let failed = |name: &str| Standing::Failed(name.to_owned());
        let runs = vec![
            run("a", RunStanding::Unfinished),
            run("b", RunStanding::Unfinished),
            run("c", RunStanding::Succeeded),
            run("d", RunStanding::Folded),
            RunSummary { failure: Some("AccessDenied".to_owned()), ..run("f", RunStanding::Unfinished) },
            run("g", RunStanding::Unfinished),
        ];
        let executions = vec![
            execution("a", 5, Standing::Running),
            execution("b", 4, failed("DestinationUnauthorized")),
            execution("c", 3, Standing::Succeeded),
            execution("d", 2, failed("StorageUnavailable")),
            execution("e", 1, failed("SyncInvalid")),
            execution("f", 0, failed(CHILDREN_FAILED)),
            execution("g", -1, failed(CHILDREN_FAILED)),
        ];
        let told: Vec<_> = with_executions(runs, executions)
            .into_iter()
            .map(|run| (run.run, run.status, run.failure.unwrap_or_default()))
            .collect();
        let expected = [
            ("a", RunStanding::Running, ""),
            ("b", RunStanding::Failed, "DestinationUnauthorized"),
            ("c", RunStanding::Succeeded, ""),
            ("d", RunStanding::Folded, "StorageUnavailable"),
            ("e", RunStanding::Failed, "SyncInvalid"),
            ("f", RunStanding::Failed, "AccessDenied"),
            ("g", RunStanding::Failed, CHILDREN_FAILED),
        ];
        assert_eq!(told, expected.map(|(run, status, failure)| (run.to_owned(), status, failure.to_owned())));
    }
}
