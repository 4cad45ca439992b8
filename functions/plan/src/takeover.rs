//! A run that died is folded in: its receipts are committed before the next run looks at the snapshot.

use std::collections::BTreeMap;

use penstock_commit::{Committed, Ports, claim, commit};
use penstock_model::contract::RunRef;
use penstock_model::cost::{Architecture, Cost};
use penstock_model::port::Condition;
use penstock_model::report::{RunReport, RunStatus};
use penstock_model::run_plan::RunPlan;
use penstock_model::{Failure, FailureName};
use penstock_store::{attempts, json, lease, work};

use crate::Context;

/// Folds every unfinished run, oldest first, and says which ones there were. The lease is held already, with a higher
/// fence than theirs, and the pointer is claimed before they are forgotten: what they try from then on is refused, also
/// by one whose plan has yet to be written.
///
/// # Errors
/// `RunInProgress` while an attempt's deadline has not passed: until then a request of it may be under way;
/// `Superseded`.
pub(crate) async fn fold(
    context: &Context,
    run: &RunRef,
    unfinished: &[String],
) -> Result<Vec<String>, Failure> {
    let state = context.state.as_ref();
    for dead in unfinished {
        let keys = penstock_model::layout::RunKeys { sync: &run.sync, run: dead };
        if let Some((plan, _)) = json::get_json::<RunPlan>(state, &keys.plan()).await? {
            fold_one(context, run, &plan).await?;
        }
    }
    if !unfinished.is_empty() {
        claim(ports(context), run).await?;
    }
    for dead in unfinished {
        lease::folded(state, context.random.as_ref(), run, dead).await?;
        tracing::warn!(sync = run.sync, run = run.run, folded = dead, "folded a run that had died");
    }
    Ok(unfinished.to_vec())
}

async fn fold_one(context: &Context, run: &RunRef, dead: &RunPlan) -> Result<(), Failure> {
    let state = context.state.as_ref();
    let attempts = attempts::of_run(state, &dead.run.keys()).await?;
    let now = context.clock.now();
    if let Some(deadline) = attempts::open_until(&attempts, now) {
        return Err(Failure::new(
            FailureName::RunInProgress,
            format!(
                "run {} of sync {} has died, but may be sending until {}; waiting for that moment",
                dead.run.run,
                dead.run.sync,
                deadline.rfc3339()
            ),
        ));
    }
    let committed = if attempts.iter().all(|attempt| attempt.idle) {
        // Nothing was sent: the snapshot is as true as it was.
        Committed::default()
    } else {
        match commit(ports(context), dead).await {
            // Another run has moved the snapshot since: it has folded this one.
            Err(failure) if failure.name == FailureName::Superseded => Committed::default(),
            other => other?,
        }
    };
    let work = work::total(state, &dead.run.keys()).await?;
    let report = RunReport {
        version: RunReport::VERSION,
        sync: dead.run.sync.clone(),
        run: dead.run.run.clone(),
        status: RunStatus::Failed,
        dry_run: dead.options.dry_run,
        started_at: dead.started_at,
        ended_at: now,
        counts: committed.counts,
        api: committed.api,
        cost: Cost::of(&work, Architecture::of_this_build()),
        work,
        rejections: committed.rejections,
        pending: committed.pending,
        mapping_changes: dead.mapping_changes(),
        null_counts: BTreeMap::new(),
        unload: dead.unload.prefix.clone(),
        folded: Vec::new(),
        folded_into: Some(run.run.clone()),
    };
    json::put_json(state, &dead.run.keys().report(), &report, Condition::IfAbsent).await?;
    Ok(())
}

fn ports(context: &Context) -> Ports<'_> {
    Ports { state: context.state.as_ref(), clock: context.clock.as_ref(), random: context.random.as_ref() }
}
