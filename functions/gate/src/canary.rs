//! The canary: some rows are delivered alone, and the rest only if few enough of them are rejected. A run that is limited delivers some
//! rows in the same way, and never the rest: those stay pending.

use penstock_model::Failure;
use penstock_model::operation::Chunk;
use penstock_model::port::Objects;
use penstock_model::report::Counts;
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_model::settle::ChunkReached;

/// Which chunks are delivered next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wave {
    /// All of them: the sync has no canary, or it is all there is.
    All,
    /// The canary; the rest may follow.
    Canary,
    /// The rows of a limited run; the rest never follows.
    Limited,
    /// What follows the canary.
    Rest,
    /// Nothing: there is nothing to send, or too many of the canary's rows were rejected.
    Nothing,
}

/// How many rows the first chunk holds at most, if they are delivered alone.
pub(crate) fn rows(plan: &RunPlan) -> Option<u32> {
    plan.options.limit.or(plan.definition.sync.delivery.canary)
}

/// The chunks of the first wave and of the second.
pub(crate) fn waves<'a>(plan: &RunPlan, decision: &'a GateDecision) -> (&'a [Chunk], &'a [Chunk]) {
    match decision.chunks.split_first() {
        Some((_, rest)) if rows(plan).is_some() && !rest.is_empty() => decision.chunks.split_at(1),
        Some(_) | None => (&decision.chunks, &[]),
    }
}

/// Which wave is next: the rest, once the canary was delivered and found well.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub(crate) async fn wave(
    state: &dyn Objects,
    plan: &RunPlan,
    decision: &GateDecision,
) -> Result<Wave, Failure> {
    let (first, rest) = waves(plan, decision);
    let Some(canary) = first.first().filter(|_| !rest.is_empty()) else { return Ok(Wave::All) };
    let result = penstock_commit::load_chunk(state, plan, *canary).await?;
    let is_delivered =
        result.reached == ChunkReached::Attempted || result.outcomes.iter().all(Option::is_some);
    match (is_delivered, plan.options.limit) {
        (false, None) => return Ok(Wave::Canary),
        (false, Some(_)) => return Ok(Wave::Limited),
        (true, Some(_)) => return Ok(Wave::Nothing),
        (true, None) => {}
    }
    let mut counts = Counts::default();
    result.outcomes.iter().flatten().for_each(|outcome| counts.add(outcome));
    if !plan.is_intolerable(&counts) {
        return Ok(Wave::Rest);
    }
    tracing::error!(
        sync = plan.run.sync,
        run = plan.run.run,
        rejected = counts.rejected,
        "too many of the canary's rows were rejected; the rest is not sent"
    );
    Ok(Wave::Nothing)
}
