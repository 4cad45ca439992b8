//! The runs of a sync, from their objects alone: a state folder's and a bucket's are the same.

use futures::{StreamExt, TryStreamExt, stream};
use penstock_model::Failure;
use penstock_model::layout::{RunKeys, SyncKeys};
use penstock_model::lease::AbortMarker;
use penstock_model::port::Objects;
use penstock_model::report::{RunStanding, RunSummary};
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_store::{json, reports, storage_failure};

use crate::snapshot::{Tally, tally};

/// Runs looked at at the same time.
const RUNS_AT_ONCE: usize = 8;

/// Every run of a sync that came so far as to leave a plan or a report, newest first.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if an object was written by a later version.
pub async fn list(state: &dyn Objects, sync: &str) -> Result<Vec<RunSummary>, Failure> {
    let names = state.folders(&SyncKeys { sync }.runs()).await.map_err(storage_failure)?;
    let looked = stream::iter(names)
        .map(|run| async move { look(state, &RunKeys { sync, run: &run }).await })
        .buffered(RUNS_AT_ONCE);
    let mut found: Vec<_> = looked.try_filter_map(|run| async move { Ok(run) }).try_collect().await?;
    found.sort_by(|a, b| (b.started_at, &b.run).cmp(&(a.started_at, &a.run)));
    Ok(found)
}

/// One run; `None` if it has left neither a plan nor a report. Of a run without a report the receipts are read.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if an object was written by a later version.
pub async fn look(state: &dyn Objects, keys: &RunKeys<'_>) -> Result<Option<RunSummary>, Failure> {
    if let Some(report) = reports::of_run(state, keys).await? {
        let mut run = RunSummary::from(report);
        if run.status == RunStanding::Folded {
            run.failure = aborted_with(state, keys).await?;
        }
        return Ok(Some(run));
    }
    let Some((plan, _)) = json::get_json::<RunPlan>(state, &keys.plan()).await? else { return Ok(None) };
    let gate = json::get_json::<GateDecision>(state, &keys.gate()).await?;
    let changes = gate.iter().flat_map(|(gate, _)| &gate.chunks).map(|chunk| u64::from(chunk.changes)).sum();
    let Tally { counts, api } = tally(state, &plan).await?;
    let pending = match plan.options.dry_run {
        true => 0,
        false => u64::saturating_sub(changes, counts.accepted + counts.skipped + counts.rejected),
    };
    Ok(Some(RunSummary {
        run: keys.run.to_owned(),
        status: RunStanding::Unfinished,
        failure: aborted_with(state, keys).await?,
        folded_into: None,
        dry_run: plan.options.dry_run,
        started_at: Some(plan.started_at),
        ended_at: None,
        counts,
        pending,
        api,
        cost: None,
    }))
}

/// The failure that stopped every push of the run, if one did.
async fn aborted_with(state: &dyn Objects, keys: &RunKeys<'_>) -> Result<Option<String>, Failure> {
    let marker = json::get_json::<AbortMarker>(state, &keys.abort()).await?;
    Ok(marker.map(|(marker, _)| marker.name.to_string()))
}
