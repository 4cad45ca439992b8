//! Receipts as pushes leave them, without a destination: for measuring what dead-letter and a commit make of them. Operations
//! are left only where records are remembered: then they are read again.

use penstock_model::contract::RunRef;
use penstock_model::json::Json;
use penstock_model::lease::Attempt;
use penstock_model::operation::{Operation, OperationKind, Transformed};
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Condition, Objects};
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_model::{Failure, Timestamp};
use penstock_store::{json, lines, operations};
use serde::{Deserialize, Serialize};

/// Rows of a receipt, as a push with batches of 100 flushes them.
const RECEIPT_ROWS: u32 = 1_000;

/// Which chunks are delivered.
#[derive(Debug, Deserialize)]
pub(crate) struct DeliverRequest {
    run: RunRef,
    /// Pushes have sent so many chunks in a hundred; none begins on the others.
    percent: usize,
    /// One row of so many is rejected, and the others are accepted; none if left out.
    reject_one_of: Option<u32>,
}

/// What was delivered.
#[derive(Debug, Serialize)]
pub(crate) struct Delivered {
    chunks: usize,
    accepted: u64,
    rejected: u64,
}

/// Writes an attempt and its receipts for the first chunks of a run.
pub(crate) async fn deliver(request: DeliverRequest, state: &dyn Objects) -> Result<Delivered, Failure> {
    let keys = request.run.keys();
    let plan: RunPlan = json::require_json(state, &keys.plan()).await?;
    let gate: GateDecision = json::require_json(state, &keys.gate()).await?;
    let chunks = gate.chunks.len() * request.percent / 100;
    let outcome = |n: u32| match request.reject_one_of {
        Some(of) if n.is_multiple_of(of) => {
            Outcome::rejected("INVALID", "the row is refused, for the benchmark")
        }
        Some(_) | None if plan.remember => {
            Outcome::Accepted { id: Some(format!("{n:015}")), created: Some(true) }
        }
        Some(_) | None => Outcome::accepted(),
    };
    let (mut rows, mut rejected) = (0, 0);
    for chunk in gate.chunks.iter().take(chunks) {
        if plan.remember {
            let key = keys.operations(chunk.chunk);
            let mut writer = operations::Writer::new(&key)?;
            writer.add(&(0..chunk.changes).map(upsert).collect::<Vec<_>>())?;
            writer.put(state).await?;
        }
        let attempt = Attempt { deadline: Some(Timestamp(1)), idle: false };
        json::put_json(state, &keys.attempt(chunk.chunk, "a"), &attempt, Condition::Always).await?;
        for (sequence, from) in (0u32..).zip((0..chunk.changes).step_by(RECEIPT_ROWS as usize)) {
            let to = chunk.changes.min(from + RECEIPT_ROWS);
            let receipt = (from..to).map(|n| ReceiptLine { n, outcome: outcome(n) });
            let key = keys.receipt(chunk.chunk, "a", sequence);
            lines::put_lines(state, &key, receipt, Condition::Always).await?;
        }
        rows += u64::from(chunk.changes);
        rejected += request.reject_one_of.map_or(0, |of| u64::from(chunk.changes.div_ceil(of)));
    }
    Ok(Delivered { chunks, accepted: rows - rejected, rejected })
}

fn upsert(n: u32) -> Transformed {
    let json = |text: &str| Json::written(text.to_owned());
    Transformed::Operation(Operation {
        n,
        kind: OperationKind::Upsert,
        key: json("{}"),
        matched: json("{}"),
        id: None,
        fields: json("{}"),
        asks: None,
    })
}
