//! One execution on a laptop, from start request to report.

use std::sync::Arc;

use penstock_model::contract::{RunOptions, StartRequest};
use penstock_model::report::{ApiUsage, RunReport, RunStatus};
use penstock_model::run_plan::RunPlan;
use penstock_model::{Failure, FailureName, layout};
use penstock_store::json::get_json;

use super::executions::LocalExecutions;
use super::tasks::{Functions, Platform};
use crate::engine::{Engine, Observer, StateFailure, StateMachine, Status};
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
    let machine = StateMachine::parse(STATE_MACHINE).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "the state machine can't be read", error)
    })?;
    let _running = executions.begin(&run_id).map_err(|error| {
        Failure::because(FailureName::StorageUnavailable, "the state folder can't be written", error)
    })?;
    let functions = Arc::new(Functions::new(platform));
    let engine =
        Engine::new(machine, functions.clone(), functions, clock.clone(), platform.parts.random.clone());
    let request = StartRequest {
        sync: start.sync.clone(),
        environment: start.environment,
        options: start.options,
        trigger: Some("penstock run".to_owned()),
    };
    let input = serde_json::to_value(&request).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "a start request is not JSON", error)
    })?;
    let progress = engine
        .start(crate::engine::Start { id: run_id.clone(), name: run_id.clone(), input }, observer)
        .await;
    let failure = match &progress.status {
        Status::Succeeded { .. } => None,
        Status::Failed(failure) => Some(shown(progress.root_failure().unwrap_or(failure))),
        Status::TimedOut => Some(FailureShown {
            name: "States.Timeout".to_owned(),
            message: "the run took longer than the state machine allows".to_owned(),
        }),
        Status::Running => Some(FailureShown {
            name: FailureName::InvariantBroken.to_string(),
            message: "the engine stopped before the run ended".to_owned(),
        }),
    };
    let duration_ms = u64::try_from(began.until(clock.now()).as_millis()).unwrap_or(u64::MAX);
    let keys = layout::RunKeys { sync: &start.sync, run: &run_id };
    let report =
        get_json::<RunReport>(platform.state.as_ref(), &keys.report()).await?.map(|(report, _)| report);
    let result = match &report {
        Some(report) => RunResult::of(report, failure, duration_ms),
        None => unreported(platform, &keys, failure, duration_ms).await?,
    };
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
    let counts = match get_json::<RunPlan>(state, &keys.plan()).await? {
        Some((plan, _)) => penstock_commit::tally(state, &plan).await?,
        None => penstock_model::report::Counts::default(),
    };
    let api: ApiUsage = penstock_store::usage::total(state, keys).await?;
    Ok(RunResult {
        status: RunStatus::Failed,
        run_id: keys.run.to_owned(),
        failure,
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
fn run_id(now: penstock_model::Timestamp, random: u64) -> String {
    let time: String =
        now.rfc3339().chars().take_while(|c| *c != '.' && *c != 'Z').filter(|c| !"-:".contains(*c)).collect();
    format!("{time}-{:08x}", random & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time() {
        assert_eq!(
            run_id(penstock_model::Timestamp(1_795_374_131_250), 0x4f2a_c1d0),
            "20261122T190211-4f2ac1d0"
        );
    }
}
