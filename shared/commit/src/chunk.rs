//! What became of one chunk: changes, what transform made of them, and what the pushes witnessed.

use penstock_model::change::Change;
use penstock_model::operation::{Chunk, ChunkRange, OperationKind, Transformed};
use penstock_model::outcome::Outcome;
use penstock_model::port::Objects;
use penstock_model::report::Counts;
use penstock_model::run_plan::RunPlan;
use penstock_model::settle::{ChunkReached, Repeat};
use penstock_model::{Failure, FailureName};
use penstock_store::{operations, receipts};

/// One chunk with all that is known of it.
#[derive(Debug)]
pub struct ChunkResult {
    /// The chunk.
    pub chunk: Chunk,
    /// Per ordinal: the outcome that counts; `None` without a witness.
    pub outcomes: Vec<Option<Outcome>>,
    /// Per ordinal: what transform made of the change; `None` if transform never ran, or if nobody needs to know since
    /// receipts settle every ordinal.
    pub transformed: Option<Vec<Transformed>>,
    /// Whether a push began.
    pub reached: ChunkReached,
    /// Pushes that began.
    pub attempts: u32,
}

impl ChunkResult {
    /// Its operations, by what became of them.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.outcomes.iter().flatten().for_each(|outcome| counts.add(outcome));
        counts
    }

    /// Whether every change was accepted or had nothing to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| matches!(outcome, Some(Outcome::Accepted { .. } | Outcome::Skipped { .. })))
    }

    /// Whether no push began, and nothing is known of any of its changes: all of them wait.
    pub(crate) fn is_untouched(&self) -> bool {
        let is_append = matches!(self.chunk.range, ChunkRange::Append { .. });
        !is_append && self.reached == ChunkReached::Never && self.outcomes.iter().all(Option::is_none)
    }

    /// Whether the operation of this ordinal may be sent twice.
    pub(crate) fn repeat(&self, plan: &RunPlan, n: usize) -> Repeat {
        let kind = self.transformed.as_ref().and_then(|lines| lines.get(n)).and_then(|line| match line {
            Transformed::Operation(operation) => Some(operation.kind),
            Transformed::Rejected(_) | Transformed::Skipped(_) => None,
        });
        repeat(plan, kind)
    }

    /// The chunk's changes, in the order of ordinals; none for an append.
    ///
    /// # Errors
    /// `StorageUnavailable`, `ChunkUnreadable`, or `InvariantBroken` if there are not as many as gate counted.
    pub(crate) async fn changes(&self, state: &dyn Objects, plan: &RunPlan) -> Result<Vec<Change>, Failure> {
        match self.chunk.range {
            ChunkRange::Append { .. } => Ok(Vec::new()),
            ChunkRange::Rows { .. } | ChunkRange::Removals { .. } => {
                let changes = penstock_columnar::changes::read_chunk(
                    state,
                    &plan.run.keys(),
                    plan.partitions,
                    &self.chunk.range,
                )
                .await?;
                if changes.len() != self.outcomes.len() {
                    return Err(Failure::new(
                        FailureName::InvariantBroken,
                        format!(
                            "chunk {} holds {} changes where gate counted {}",
                            self.chunk.chunk,
                            changes.len(),
                            self.outcomes.len()
                        ),
                    ));
                }
                Ok(changes)
            }
        }
    }
}

fn repeat(plan: &RunPlan, kind: Option<OperationKind>) -> Repeat {
    let capabilities = plan.definition.capabilities();
    kind.and_then(|kind| capabilities.operations.get(&kind).map(|capability| capability.repeat))
        .unwrap_or(Repeat::Safe)
}

/// Reads everything that is known of a chunk.
///
/// # Errors
/// `StorageUnavailable`, or `ContractMismatch` if an object can't be read.
pub async fn load(state: &dyn Objects, plan: &RunPlan, chunk: Chunk) -> Result<ChunkResult, Failure> {
    let keys = plan.run.keys();
    let witnessed = receipts::load(state, &keys, chunk.chunk).await?;
    // Most chunks end so. Their operations are by far the largest object of a run: identities are all they are for.
    let settled = (0..chunk.changes).all(|n| {
        matches!(witnessed.outcomes.get(&n), Some(Outcome::Accepted { .. } | Outcome::Skipped { .. }))
    });
    let transformed: Option<Vec<Transformed>> = if settled && !plan.remember {
        None
    } else {
        operations::read(state, &keys.operations(chunk.chunk)).await?
    };
    let mut outcomes = vec![None; chunk.changes as usize];
    for line in transformed.iter().flatten() {
        let (n, outcome) = match line {
            Transformed::Operation(_) => continue,
            Transformed::Rejected(rejected) => (
                rejected.n,
                Outcome::Rejected {
                    code: rejected.code.clone(),
                    message: rejected.message.clone(),
                    field: rejected.field.clone(),
                },
            ),
            Transformed::Skipped(skipped) => (skipped.n, Outcome::Skipped { why: skipped.why }),
        };
        if let Some(slot) = outcomes.get_mut(n as usize) {
            *slot = Some(outcome);
        }
    }
    for (n, outcome) in witnessed.outcomes {
        if let Some(slot) = outcomes.get_mut(n as usize) {
            *slot = Some(match slot.take() {
                Some(known) => known.merge(outcome),
                None => outcome,
            });
        }
    }
    let reached = if witnessed.attempts > 0 { ChunkReached::Attempted } else { ChunkReached::Never };
    Ok(ChunkResult { chunk, outcomes, transformed, reached, attempts: witnessed.attempts })
}
