//! A chunk that failed for good → dead letters.

use std::sync::Arc;

use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, DeadLetterRequest, DeadLetterResponse};
use penstock_model::failure::{Failure, FailureName};
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Clock, Condition, Objects, Random};
use penstock_store::{attempts, lease, lines, plans};

/// What dead-letter needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
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
        let aws = penstock_store::aws::Clients::from_environment().await;
        Ok(Self {
            state: aws.objects(settings.required("PENSTOCK_BUCKET")?),
            clock: Arc::new(penstock_lambda_kit::clock::SystemClock::new()),
            random: Arc::new(penstock_lambda_kit::random::SystemRandom),
        })
    }
}

/// Gives every operation of the chunk without a final outcome the outcome "dead-lettered", and writes the chunk's
/// dead letters. What an earlier push saw accepted stays accepted.
///
/// # Errors
/// `Superseded`; `StorageUnavailable` also while the last push may still be sending, so that the state machine tries again.
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
    if let Some(deadline) =
        attempts::chunk_deadline(state, &keys, request.chunk).await?.filter(|open| *open > now)
    {
        return Err(Failure::new(
            FailureName::StorageUnavailable,
            format!("chunk {} may be sending until {}; try again then", request.chunk, deadline.rfc3339()),
        ));
    }
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
