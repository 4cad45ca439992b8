//! One execution on a laptop, from start request to report.

use std::sync::Arc;

use penstock_commit::{Tally, tally};
use penstock_model::contract::{RunOptions, StartRequest};
use penstock_model::report::{RunReport, RunStatus};
use penstock_model::run_plan::RunPlan;
use penstock_model::{Failure, FailureName, Timestamp, layout};
use penstock_store::json::get_json;
use penstock_store::reports;

use super::executions::LocalExecutions;
use super::keeper::Keeper;
use super::redrive::{Redrivable, helps};
use super::tasks::{Functions, Platform};
use crate::complaints::{Complaints, Selection};
use crate::engine::{Engine, Observer, Progress, StateFailure, StateMachine, Status};
use crate::show::{FailureShown, RunResult};

/// The state machine, as it is deployed.
const STATE_MACHINE: &str = include_str!("../../../sync.asl.json");

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// The sync's name.
    pub sync: String,
    /// The environment of its connection.
    pub environment: Option<String>,
    /// What is special about the run.
    pub options: RunOptions,
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What to show.
    pub result: RunResult,
    /// The report, if the run came so far.
    pub report: Option<RunReport>,
}

/// Runs a sync to its end.
///
/// # Errors
/// If the state machine can't be read, the state folder can't be written, or the report can't be read. A run that
/// fails is not an error here: its result says so.
pub async fn run(
    platform: &Platform,
    executions: &LocalExecutions,
    start: Start,
    observer: &dyn Observer,
) -> Result<Finished, Failure> {
    let clock = platform.parts.clock.clone();
    let began = clock.now();
    let run_id = run_id(began, platform.parts.random.next());
    let engine = engine(platform)?;
    let _running = executions.begin(&run_id).map_err(|error| {
        Failure::because(FailureName::StorageUnavailable, "the state folder can't be written", error)
    })?;
    let request = StartRequest {
        sync: start.sync.clone(),
        environment: start.environment,
        options: start.options,
        trigger: Some("penstock run".to_owned()),
    };
    let input = serde_json::to_value(&request).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "a start request is not JSON", error)
    })?;
    let keeper = Keeper::new(executions, clock, observer);
    let start_engine = crate::engine::Start { id: run_id.clone(), name: run_id, input };
    let progress = engine.start(start_engine, &keeper).await;
    finished(platform, &start.sync, &progress, began).await
}

/// Carries a run on where it stopped, with the same input, to its end.
///
/// # Errors
/// As [`run`].
pub async fn redrive(
    platform: &Platform,
    executions: &LocalExecutions,
    sync: &str,
    redrivable: Redrivable,
    observer: &dyn Observer,
) -> Result<Finished, Failure> {
    let clock = platform.parts.clock.clone();
    let began = clock.now();
    let Redrivable { progress, running, .. } = redrivable;
    let keeper = Keeper::new(executions, clock, observer);
    let redriven = engine(platform)?.redrive(progress, &keeper).await;
    let progress = redriven.map_err(|error| {
        Failure::because(FailureName::ContractMismatch, "the run can't be taken up; start a new one", error)
    })?;
    let finished = finished(platform, sync, &progress, began).await;
    drop(running);
    finished
}

fn engine(platform: &Platform) -> Result<Engine, Failure> {
    let machine = StateMachine::parse(STATE_MACHINE).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "the state machine can't be read", error)
    })?;
    let functions = Arc::new(Functions::new(platform));
    let parts = &platform.parts;
    Ok(Engine::new(machine, functions.clone(), functions, parts.clock.clone(), parts.random.clone()))
}

/// How an execution that has ended failed; `None` if it succeeded, or if it is under way.
#[must_use]
pub fn failure(progress: &Progress) -> Option<FailureShown> {
    match &progress.status {
        Status::Succeeded { .. } | Status::Running => None,
        Status::Failed(failure) => Some(shown(progress.root_failure().unwrap_or(failure))),
        Status::TimedOut => Some(FailureShown {
            name: "States.Timeout".to_owned(),
            message: "the run took longer than the state machine allows".to_owned(),
        }),
    }
}

/// What to tell of an execution that has ended.
async fn finished(
    platform: &Platform,
    sync: &str,
    progress: &Progress,
    began: Timestamp,
) -> Result<Finished, Failure> {
    let state = platform.state.as_ref();
    let failure = failure(progress);
    let duration_ms = u64::try_from(began.until(platform.parts.clock.now()).as_millis()).unwrap_or(u64::MAX);
    let keys = layout::RunKeys { sync, run: &progress.execution.name };
    let report = reports::of_run(state, &keys).await?;
    let mut result = match &report {
        Some(report) => RunResult::of(report, failure, duration_ms),
        None => unreported(platform, &keys, failure, duration_ms).await?,
    };
    if result.counts.rejected > 0 {
        let complaints = Complaints::read(state, sync, Some(keys.run), &Selection::default()).await?;
        result.rejections = complaints.first(RunResult::MOST_REJECTIONS);
    }
    Ok(Finished { result, report })
}

/// What is known of a run that failed before its report.
async fn unreported(
    platform: &Platform,
    keys: &layout::RunKeys<'_>,
    failure: Option<FailureShown>,
    duration_ms: u64,
) -> Result<RunResult, Failure> {
    let state = platform.state.as_ref();
    let Tally { counts, api } = match get_json::<RunPlan>(state, &keys.plan()).await? {
        Some((plan, _)) => tally(state, &plan).await?,
        None => Tally::default(),
    };
    let redrivable = failure.as_ref().is_some_and(|failure| helps(&failure.name));
    Ok(RunResult {
        status: RunStatus::Failed,
        run_id: keys.run.to_owned(),
        failure,
        redrivable,
        mapping_changes: Vec::new(),
        rejections: Vec::new(),
        counts,
        api,
        duration_ms,
    })
}

/// The failure in a function's own words: Lambda wraps them in JSON.
fn shown(failure: &StateFailure) -> FailureShown {
    let wrapped: Option<serde_json::Value> = serde_json::from_str(&failure.cause).ok();
    let message = wrapped
        .as_ref()
        .and_then(|cause| cause.get("errorMessage"))
        .and_then(|message| message.as_str())
        .unwrap_or(&failure.cause);
    FailureShown { name: failure.error.clone(), message: message.to_owned() }
}

/// A name that sorts by time: `20261122T190211-4f2ac1d0`.
fn run_id(now: Timestamp, random: u64) -> String {
    let time: String =
        now.rfc3339().chars().take_while(|c| *c != '.' && *c != 'Z').filter(|c| !"-:".contains(*c)).collect();
    format!("{time}-{:08x}", random & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time() {
        assert_eq!(run_id(Timestamp(1_795_374_131_250), 0x4f2a_c1d0), "20261122T190211-4f2ac1d0");
    }
}
