//! A chunk that has ended → its dead letters, and what it leaves for the commit.

use std::sync::Arc;

use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, CaughtFailure, DeadLetterRequest, DeadLetterResponse};
use penstock_model::failure::{Failure, FailureName};
use penstock_model::operation::Chunk;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Clock, Condition, Executions, Objects, Random};
use penstock_model::run_plan::RunPlan;
use penstock_store::{attempts, json, lease, lines, plans};

/// More chunks than this that fail for good stop a run: then the cause is hardly in their rows.
const MOST_FAILED_CHUNKS: usize = 3;

/// What dead-letter needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// To ask when the run was last redriven.
    pub executions: Arc<dyn Executions>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For the attempt's name.
    pub random: Arc<dyn Random>,
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
            executions: aws.executions(settings.required("PENSTOCK_STATE_MACHINE_ARN")?),
            clock: Arc::new(penstock_lambda_kit::clock::SystemClock::new()),
            random: Arc::new(penstock_lambda_kit::random::SystemRandom),
        })
    }
}

/// Writes what a chunk that has ended leaves: its dead letters, and what the commit needs of it. If it failed for good, every
/// operation without a final outcome first gets the outcome "dead-lettered"; what an earlier push saw accepted stays accepted.
///
/// # Errors
/// `TooManyChunksFailed` once more than a few chunks have; `Superseded`; `StorageUnavailable` also while the last push may
/// still be sending, so that the state machine tries again.
pub async fn handle(
    request: DeadLetterRequest,
    _: &Invocation,
    context: &Context,
) -> Result<DeadLetterResponse, Failure> {
    let state = context.state.as_ref();
    let plan = plans::load(state, &request.run).await?;
    lease::verify(state, &plan.run).await?;
    let chunk = plans::chunk(state, &plan, request.chunk).await?;
    if let Some(failure) = &request.failure {
        give_up(context, &plan, chunk, failure).await?;
    }
    let settled = penstock_commit::settle_chunk(state, &plan, chunk).await?;
    let dead_letters = settled.rejections.iter().map(|group| group.rows).sum();
    if let Some(failure) = request.failure {
        tracing::error!(
            sync = plan.run.sync,
            run = plan.run.run,
            chunk = chunk.chunk,
            failure = failure.error,
            dead_letters,
            "a chunk failed for good; its rows are dead letters"
        );
    }
    Ok(DeadLetterResponse { contract: CONTRACT, dead_letters })
}

/// Says of every operation that has no final outcome that it is dead-lettered.
async fn give_up(
    context: &Context,
    plan: &RunPlan,
    chunk: Chunk,
    failure: &CaughtFailure,
) -> Result<(), Failure> {
    let (state, keys) = (context.state.as_ref(), plan.run.keys());
    let attempts = attempts::of_chunk(state, &keys, chunk.chunk).await?;
    if let Some(deadline) = attempts::open_until(&attempts, context.clock.now()) {
        return Err(Failure::new(
            FailureName::StorageUnavailable,
            format!("chunk {} may be sending until {}; try again then", chunk.chunk, deadline.rfc3339()),
        ));
    }
    check_spread(context, plan, chunk.chunk).await?;
    let known = penstock_commit::load_chunk(state, plan, chunk).await?;
    let receipt: Vec<ReceiptLine> = (0u32..)
        .zip(&known.outcomes)
        .filter(|(_, outcome)| !outcome.as_ref().is_some_and(Outcome::is_final))
        .map(|(n, _)| ReceiptLine { n, outcome: Outcome::DeadLettered { why: failure.error.clone() } })
        .collect();
    let attempt = format!("dead-letter-{:016x}", context.random.next());
    lines::put_lines(state, &keys.receipt(chunk.chunk, &attempt, 0), &receipt, Condition::Always).await
}

/// Counts the chunk among those that failed, and stops the run if they are too many. Those from before a redrive are
/// left out: whoever redrives a run wants to go on.
async fn check_spread(context: &Context, plan: &RunPlan, chunk: u32) -> Result<(), Failure> {
    let (state, keys) = (context.state.as_ref(), plan.run.keys());
    let since = plans::redriven_at(context.executions.as_ref(), plan).await?;
    json::put_json(state, &keys.failed_chunk(chunk), &context.clock.now(), Condition::Always).await?;
    let failed = state.list(&keys.failed_chunks()).await.map_err(penstock_store::storage_failure)?;
    let failed = failed.iter().filter(|failed| since.is_none_or(|since| failed.modified >= since)).count();
    if failed <= MOST_FAILED_CHUNKS {
        return Ok(());
    }
    Err(Failure::new(
        FailureName::TooManyChunksFailed,
        format!(
            "{failed} chunks of run {} failed for good; the last few became dead letters, and the run stops here: see \
             their failures, mend the cause, and redrive",
            plan.run.run
        ),
    ))
}
