//! Dead letters: every row of a chunk that was rejected, or whose answer was lost for good.

use bytes::Bytes;
use penstock_columnar::transform::key_json;
use penstock_model::Failure;
use penstock_model::change::Change;
use penstock_model::complaint::fingerprint;
use penstock_model::dead_letter::{DeadLetter, Stage};
use penstock_model::json::Json;
use penstock_model::layout::RunKeys;
use penstock_model::operation::{Chunk, Transformed};
use penstock_model::outcome::Outcome;
use penstock_model::port::{Condition, Objects};
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_model::settle::Repeat;
use penstock_store::{json, lines};

use crate::chunk::ChunkResult;

const VERSION: u32 = 1;

/// What becomes of dead letters that were written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Letters {
    /// They are written anew, by what is known now.
    Written,
    /// They stay: a snapshot rests on them.
    Kept,
}

/// Writes the dead letters of a chunk and gives them: nothing if it has none, unless some were written before (`are_there`).
/// Whoever writes them again writes the same, or what has become known since.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` if a key's bytes are damaged.
pub(crate) async fn write(
    state: &dyn Objects,
    plan: &RunPlan,
    result: &ChunkResult,
    changes: &[Change],
    are_there: bool,
) -> Result<Vec<DeadLetter>, Failure> {
    let letters = of_chunk(plan, result, changes)?;
    if are_there || !letters.is_empty() {
        let body: Bytes = lines::to_lines(&letters)?;
        let key = plan.run.keys().dead_letters(result.chunk.chunk);
        state.put(&key, body, Condition::Always).await.map_err(penstock_store::storage_failure)?;
    }
    Ok(letters)
}

/// The dead letters of one chunk of a run as far as they are known by now, whether they were written or not. Nothing is
/// written: a run that failed may be redriven, and its rejected rows are still worth a look.
///
/// # Errors
/// As [`crate::load_chunk`]; `InvariantBroken` if a key's bytes are damaged.
pub async fn known(state: &dyn Objects, plan: &RunPlan, chunk: Chunk) -> Result<Vec<DeadLetter>, Failure> {
    let result = crate::chunk::load(state, plan, chunk).await?;
    let has_any =
        result.outcomes.iter().enumerate().any(|(n, outcome)| {
            outcome.as_ref().is_some_and(|o| reason(o, result.repeat(plan, n)).is_some())
        });
    if !has_any {
        return Ok(Vec::new());
    }
    let changes = result.changes(state, plan).await?;
    of_chunk(plan, &result, &changes)
}

/// The chunks whose dead letters have not been committed with the run: those of a run that is under way or has failed.
/// None once it has a report, since its dead letters are all written then.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn uncommitted(
    state: &dyn Objects,
    keys: &RunKeys<'_>,
) -> Result<Option<(RunPlan, Vec<Chunk>)>, Failure> {
    if state.head(&keys.report()).await.map_err(penstock_store::storage_failure)?.is_some() {
        return Ok(None);
    }
    let plan = json::get_json::<RunPlan>(state, &keys.plan()).await?;
    let gate = json::get_json::<GateDecision>(state, &keys.gate()).await?;
    Ok(plan.zip(gate).map(|((plan, _), (gate, _))| (plan, gate.chunks)))
}

/// The dead letters of a chunk; nothing is written.
pub(crate) fn of_chunk(
    plan: &RunPlan,
    result: &ChunkResult,
    changes: &[Change],
) -> Result<Vec<DeadLetter>, Failure> {
    let rejected = result.outcomes.iter().enumerate().filter_map(|(n, outcome)| {
        let reason = reason(outcome.as_ref()?, result.repeat(plan, n))?;
        Some(letter(plan, result, changes, n, reason))
    });
    rejected.collect()
}

/// Why a row becomes a dead letter; `None` if it does not.
fn reason(outcome: &Outcome, repeat: Repeat) -> Option<(String, String, Option<String>)> {
    match outcome {
        Outcome::Accepted { .. } | Outcome::Skipped { .. } => None,
        Outcome::Rejected { code, message, field } => Some((code.clone(), message.clone(), field.clone())),
        Outcome::DeadLettered { why } => {
            Some((why.clone(), "the chunk failed for good; see the run's failures".to_owned(), None))
        }
        Outcome::Unknown { why } => match repeat {
            Repeat::Safe => None,
            Repeat::Unsafe => Some((
                "answer_lost".to_owned(),
                format!("the row may have been written, and writing it again could write it twice: {why}"),
                None,
            )),
        },
    }
}

fn letter(
    plan: &RunPlan,
    result: &ChunkResult,
    changes: &[Change],
    n: usize,
    (code, message, field): (String, String, Option<String>),
) -> Result<DeadLetter, Failure> {
    let line = result.transformed.as_ref().and_then(|lines| lines.get(n));
    let mut asks = None;
    let (key, operation, fields, stage) = match line {
        Some(Transformed::Operation(operation)) => {
            asks = operation.asks.as_deref().cloned();
            (operation.key.clone(), Some(operation.kind), Some(operation.fields.clone()), Stage::Push)
        }
        Some(Transformed::Rejected(rejected)) => (rejected.key.clone(), None, None, rejected.stage),
        Some(Transformed::Skipped(_)) | None => {
            let key = match changes.get(n) {
                Some(change) => key_json(&change.key, &plan.key_columns)?,
                None => Json::written("{}".to_owned()),
            };
            (key, None, None, Stage::Transform)
        }
    };
    Ok(DeadLetter {
        version: VERSION,
        run: plan.run.run.clone(),
        chunk: result.chunk.chunk,
        n: u32::try_from(n).unwrap_or(u32::MAX),
        key,
        operation,
        fields,
        asks,
        stage,
        fingerprint: fingerprint(stage, &code, field.as_deref(), &message),
        code,
        message,
        field,
        attempts: result.attempts,
    })
}
