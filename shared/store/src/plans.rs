//! What plan and gate have pinned for a run.

use penstock_model::contract::RunRef;
use penstock_model::operation::{Chunk, ChunkId};
use penstock_model::port::{Executions, Objects};
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_model::{Failure, FailureName, Timestamp};

use crate::{executions_failure, json};

/// When a run was last redriven; `None` if it never was. What stopped it before then counts no more.
///
/// # Errors
/// `StorageUnavailable` if the platform can't be asked.
pub async fn redriven_at(executions: &dyn Executions, plan: &RunPlan) -> Result<Option<Timestamp>, Failure> {
    let execution = executions
        .describe(&plan.execution)
        .await
        .map_err(|error| executions_failure("the run's execution could not be looked up", error))?;
    Ok(execution.and_then(|execution| execution.redriven_at))
}

/// The pinned plan of a run.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`; `InvariantBroken` if there is none, or if it was pinned under another
/// fence than the payload says.
pub async fn load(objects: &dyn Objects, run: &RunRef) -> Result<RunPlan, Failure> {
    let plan: RunPlan = json::require_json(objects, &run.keys().plan()).await?;
    if plan.version != RunPlan::VERSION {
        return Err(Failure::new(
            FailureName::ContractMismatch,
            format!(
                "the plan of run {} has version {}, and this function reads {}",
                run.run,
                plan.version,
                RunPlan::VERSION
            ),
        ));
    }
    if plan.run == *run {
        return Ok(plan);
    }
    Err(Failure::new(
        FailureName::InvariantBroken,
        format!(
            "run {} of sync {} was called with fence {}, and its plan says {}",
            run.run, run.sync, run.fence, plan.run.fence
        ),
    ))
}

/// One chunk as gate listed it.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`; `InvariantBroken` if gate has not decided, or knows no such chunk.
pub async fn chunk(objects: &dyn Objects, plan: &RunPlan, chunk: ChunkId) -> Result<Chunk, Failure> {
    let keys = plan.run.keys();
    let chunks = match json::get_json::<Vec<Chunk>>(objects, &keys.part_of_chunks(chunk)).await? {
        Some((chunks, _)) => chunks,
        // An earlier version's gate, in the midst of a redrive.
        None => json::require_json::<GateDecision>(objects, &keys.gate()).await?.chunks,
    };
    chunks.into_iter().find(|listed| listed.chunk == chunk).ok_or_else(|| {
        Failure::new(
            FailureName::InvariantBroken,
            format!("gate listed no chunk {chunk} for run {} of sync {}", plan.run.run, plan.run.sync),
        )
    })
}
