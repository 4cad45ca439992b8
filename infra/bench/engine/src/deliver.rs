//! Chunks as pushes and dead-letter leave them, without a destination: for measuring what a commit makes of them.

use penstock_model::contract::RunRef;
use penstock_model::lease::Attempt;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Condition, Objects};
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_model::{Failure, Timestamp};
use penstock_store::{json, lines};
use serde::{Deserialize, Serialize};

/// Rows of a receipt, as a push with batches of 100 flushes them.
const RECEIPT_ROWS: u32 = 1_000;

/// Which chunks are delivered.
#[derive(Debug, Deserialize)]
pub(crate) struct DeliverRequest {
    run: RunRef,
    /// Of so many chunks in a hundred every row is accepted; no push begins on the others.
    percent: usize,
}

/// What was delivered.
#[derive(Debug, Serialize)]
pub(crate) struct Delivered {
    chunks: usize,
    accepted: u64,
}

/// Writes an attempt and its receipts for the first chunks of a run, and what they leave.
pub(crate) async fn deliver(request: DeliverRequest, state: &dyn Objects) -> Result<Delivered, Failure> {
    let keys = request.run.keys();
    let plan: RunPlan = json::require_json(state, &keys.plan()).await?;
    let gate: GateDecision = json::require_json(state, &keys.gate()).await?;
    let chunks = gate.chunks.len() * request.percent / 100;
    let mut accepted = 0;
    for chunk in gate.chunks.iter().take(chunks) {
        let attempt = Attempt { deadline: Some(Timestamp(1)), idle: false };
        json::put_json(state, &keys.attempt(chunk.chunk, "a"), &attempt, Condition::Always).await?;
        for (sequence, from) in (0u32..).zip((0..chunk.changes).step_by(RECEIPT_ROWS as usize)) {
            let to = chunk.changes.min(from + RECEIPT_ROWS);
            let receipt = (from..to).map(|n| ReceiptLine { n, outcome: Outcome::accepted() });
            let key = keys.receipt(chunk.chunk, "a", sequence);
            lines::put_lines(state, &key, receipt, Condition::Always).await?;
        }
        penstock_commit::settle_chunk(state, &plan, *chunk).await?;
        accepted += u64::from(chunk.changes);
    }
    Ok(Delivered { chunks, accepted })
}
