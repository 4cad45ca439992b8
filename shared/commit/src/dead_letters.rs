//! Dead letters: every row of a chunk that was rejected, or whose answer was lost for good.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_columnar::transform::key_json;
use penstock_model::change::Change;
use penstock_model::dead_letter::{DeadLetter, Stage};
use penstock_model::operation::Transformed;
use penstock_model::outcome::Outcome;
use penstock_model::port::{Condition, Objects};
use penstock_model::report::RejectionCount;
use penstock_model::run_plan::RunPlan;
use penstock_model::settle::Repeat;
use penstock_model::{Failure, FailureName};
use penstock_store::lines;
use serde_json::value::RawValue;

use crate::chunk::ChunkResult;

const VERSION: u32 = 1;

/// How many rows were rejected, by code and field.
pub(crate) type Tally = BTreeMap<(String, Option<String>), u64>;

/// Writes the dead letters of a chunk (nothing if it has none) and says how many of each kind there are. Whoever
/// writes them again writes the same, or more that has become known since.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` if a key's bytes are damaged.
pub async fn write(
    state: &dyn Objects,
    plan: &RunPlan,
    result: &ChunkResult,
    changes: &[Change],
) -> Result<Vec<RejectionCount>, Failure> {
    let mut tally = Tally::new();
    let mut letters = Vec::new();
    for (n, outcome) in result.outcomes.iter().enumerate() {
        let Some((code, message, field)) =
            outcome.as_ref().and_then(|outcome| reason(outcome, result.repeat(plan, n)))
        else {
            continue;
        };
        *tally.entry((code.clone(), field.clone())).or_default() += 1;
        letters.push(letter(plan, result, changes, n, (code, message, field))?);
    }
    if !letters.is_empty() {
        let body: Bytes = lines::to_lines(&letters)?;
        let key = plan.run.keys().dead_letters(result.chunk.chunk);
        state.put(&key, body, Condition::Always).await.map_err(penstock_store::storage_failure)?;
    }
    Ok(tally.into_iter().map(|((code, field), rows)| RejectionCount { code, field, rows }).collect())
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
    let (key, operation, fields, stage) = match line {
        Some(Transformed::Operation(operation)) => {
            (operation.key.clone(), Some(operation.kind), Some(operation.fields.clone()), Stage::Push)
        }
        Some(Transformed::Rejected(rejected)) => (rejected.key.clone(), None, None, rejected.stage),
        Some(Transformed::Skipped { .. }) | None => {
            let key = match changes.get(n) {
                Some(change) => key_json(&change.key, &plan.key_columns)?,
                None => RawValue::from_string("{}".to_owned()).map_err(|error| {
                    Failure::because(FailureName::InvariantBroken, "an empty object is not JSON", error)
                })?,
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
        stage,
        code,
        message,
        field,
        attempts: result.attempts,
    })
}
