//! A query that plan has pinned → a statement of the warehouse, submitted once → its end.
//!
//! Between two calls the state machine waits, at no cost. Each attempt has a prefix of its own, and a redrive after one
//! that failed makes another.

use std::sync::Arc;
use std::time::Duration;

use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, RunRef, UnloadRequest, UnloadResponse, UnloadStatus};
use penstock_model::failure::{Failure, FailureName};
use penstock_model::port::{Clock, Condition, ETag, Objects, Put, Warehouse, WarehouseError};
use penstock_model::warehouse::{PinnedQuery, Statement, StatementState, UnloadAttempt, UnloadOutcome};
use penstock_store::{json, lease, unloads};

/// The first waits. A day of waiting is then far below the number of events that an execution may have.
const SHORTEST_WAIT: Duration = Duration::from_secs(30);
/// Later waits: a tenth of the time that has passed, up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What unload needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Runs and leases.
    pub state: Arc<dyn Objects>,
    /// Who runs statements.
    pub warehouse: Arc<dyn Warehouse>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Context {
    /// The context on AWS. Reads the environment variables named in this function's README.
    ///
    /// # Errors
    /// A message that names the variable that is missing.
    pub async fn from_environment() -> Result<Self, Failure> {
        let settings = penstock_lambda_kit::settings::Settings::from_environment();
        let aws = penstock_store::aws::Clients::from_environment();
        Ok(Self {
            state: aws.objects(settings.required("PENSTOCK_BUCKET")?),
            warehouse: aws.redshift(settings.required("PENSTOCK_SECRET_PREFIX")?),
            clock: Arc::new(penstock_lambda_kit::clock::SystemClock::new()),
        })
    }
}

/// Submits the run's statement, or sees how it stands. Called again it submits nothing twice.
///
/// # Errors
/// `UnloadFailed` if the statement was refused, failed or was stopped: the next call makes another attempt. `Superseded`;
/// `StorageUnavailable`, also if the warehouse can't be reached.
pub async fn handle(
    request: UnloadRequest,
    _: &Invocation,
    context: &Context,
) -> Result<UnloadResponse, Failure> {
    let (state, run) = (context.state.as_ref(), &request.run);
    lease::verify(state, run).await?;
    match unloads::last(state, &run.keys()).await? {
        None => submit(context, run, 1).await,
        Some((UnloadAttempt { attempt, outcome: UnloadOutcome::Failed, .. }, _)) => {
            submit(context, run, attempt.saturating_add(1)).await
        }
        Some((UnloadAttempt { outcome: UnloadOutcome::Finished { .. }, .. }, _)) => Ok(finished()),
        Some((attempt @ UnloadAttempt { outcome: UnloadOutcome::Submitted, .. }, etag)) => {
            look(context, run, attempt, etag).await
        }
    }
}

async fn submit(context: &Context, run: &RunRef, attempt: u32) -> Result<UnloadResponse, Failure> {
    let state = context.state.as_ref();
    let pinned: PinnedQuery = json::require_json(state, &run.keys().query()).await?;
    let prefix = format!("{}run={}/attempt={attempt}/", pinned.location, run.run);
    let statement = Statement {
        query: pinned.query,
        name: format!("penstock {} {}", run.sync, run.run),
        token: penstock_store::fingerprint_of(format!("{}\n{}\n{attempt}", run.sync, run.run).as_bytes()),
        prefix,
    };
    let submitted = context.warehouse.submit(&statement).await;
    let id = submitted.map_err(|error| told(run, "the statement could not be submitted", error))?;
    let written = UnloadAttempt {
        version: UnloadAttempt::VERSION,
        attempt,
        prefix: statement.prefix,
        statement: id,
        submitted_at: context.clock.now(),
        outcome: UnloadOutcome::Submitted,
    };
    tracing::info!(
        sync = run.sync,
        run = run.run,
        attempt,
        statement = written.statement,
        "submitted a statement"
    );
    // Another invocation may have been first: with the same token, it has the same statement.
    match json::put_json(state, &run.keys().unload(attempt), &written, Condition::IfAbsent).await? {
        Put::Written(_) | Put::Refused => Ok(running(SHORTEST_WAIT)),
    }
}

async fn look(
    context: &Context,
    run: &RunRef,
    attempt: UnloadAttempt,
    etag: ETag,
) -> Result<UnloadResponse, Failure> {
    let now = context.clock.now();
    let seen = context.warehouse.look(&attempt.statement).await;
    let seen = seen.map_err(|error| told(run, "the statement could not be asked after", error))?;
    let (outcome, answer) = match seen {
        StatementState::Running => {
            let wait = (attempt.submitted_at.until(now) / 10).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            return Ok(running(wait));
        }
        StatementState::Finished { rows } => (UnloadOutcome::Finished { at: now, rows }, Ok(finished())),
        StatementState::Failed => (UnloadOutcome::Failed, Err(failed(run, &attempt, "failed"))),
        StatementState::Stopped => (UnloadOutcome::Failed, Err(failed(run, &attempt, "was stopped"))),
    };
    let key = run.keys().unload(attempt.attempt);
    tracing::info!(
        sync = run.sync,
        run = run.run,
        statement = attempt.statement,
        ?outcome,
        "a statement has ended"
    );
    let ended = UnloadAttempt { outcome, ..attempt };
    // Who was first has seen the same end.
    match json::put_json(context.state.as_ref(), &key, &ended, Condition::IfMatch(etag)).await? {
        Put::Written(_) | Put::Refused => answer,
    }
}

fn failed(run: &RunRef, attempt: &UnloadAttempt, how: &str) -> Failure {
    Failure::new(
        FailureName::UnloadFailed,
        format!(
            "sync {}: the warehouse's statement {} {how}; look at it there, mend the query or its rights, then redrive \
             the run, which unloads once more to a prefix of its own",
            run.sync, attempt.statement
        ),
    )
}

fn told(run: &RunRef, what: &str, error: WarehouseError) -> Failure {
    let name = match error {
        WarehouseError::Refused { .. } => FailureName::UnloadFailed,
        WarehouseError::Unavailable { .. } => FailureName::StorageUnavailable,
    };
    Failure::because(name, format!("sync {}: {what}", run.sync), error)
}

fn running(wait: Duration) -> UnloadResponse {
    let resume_after_s = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    UnloadResponse { contract: CONTRACT, status: UnloadStatus::Running, resume_after_s }
}

fn finished() -> UnloadResponse {
    UnloadResponse { contract: CONTRACT, status: UnloadStatus::Finished, resume_after_s: 0 }
}
