//! A chunk that failed for good → dead letters.

use std::sync::Arc;

use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, DeadLetterRequest, DeadLetterResponse};
use penstock_model::failure::{Failure, FailureName};
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

/// Gives every operation of the chunk without a final outcome the outcome "dead-lettered", and writes the chunk's
/// dead letters. What an earlier push saw accepted stays accepted.
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
    let keys = plan.run.keys();
    let now = context.clock.now();
    let attempts = attempts::of_chunk(state, &keys, request.chunk).await?;
    if let Some(deadline) = attempts::open_until(&attempts, now) {
        return Err(Failure::new(
            FailureName::StorageUnavailable,
            format!("chunk {} may be sending until {}; try again then", request.chunk, deadline.rfc3339()),
        ));
    }
    check_spread(context, &plan, request.chunk).await?;
    let chunk = plans::chunk(state, &plan, request.chunk).await?;
    let known = penstock_commit::load_chunk(state, &plan, chunk).await?;
    let receipt: Vec<ReceiptLine> = (0u32..)
        .zip(&known.outcomes)
        .filter(|(_, outcome)| !outcome.as_ref().is_some_and(Outcome::is_final))
        .map(|(n, _)| ReceiptLine {
            n,
            outcome: Outcome::DeadLettered { why: request.failure.error.clone() },
        })
        .collect();
    let attempt = format!("dead-letter-{:016x}", context.random.next());
    lines::put_lines(state, &keys.receipt(chunk.chunk, &attempt, 0), &receipt, Condition::Always).await?;
    let settled = penstock_commit::load_chunk(state, &plan, chunk).await?;
    let changes = settled.changes(state, &plan).await?;
    let letters = penstock_commit::write_dead_letters(state, &plan, &settled, &changes).await?;
    let dead_letters = letters.len() as u64;
    tracing::error!(
        sync = plan.run.sync,
        run = plan.run.run,
        chunk = chunk.chunk,
        failure = request.failure.error,
        dead_letters,
        "a chunk failed for good; its rows are dead letters"
    );
    Ok(DeadLetterResponse { contract: CONTRACT, dead_letters })
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
