//! What chunks leave → committed snapshot and run report.

mod figures;

use std::sync::Arc;

use penstock_commit::{Committed, Ports, commit};
use penstock_lambda_kit::Invocation;
use penstock_lambda_kit::metrics::Metrics;
use penstock_model::contract::{CONTRACT, FinishRequest, FinishResponse, ObjectRef};
use penstock_model::cost::{Architecture, Cost};
use penstock_model::failure::{Failure, FailureName};
use penstock_model::port::{Clock, Condition, Objects, Random};
use penstock_model::report::{RunReport, RunStatus};
use penstock_model::run_plan::RunPlan;
use penstock_store::{json, lease, plans, reports, successes, work};

/// What finish needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For nonces.
    pub random: Arc<dyn Random>,
    /// Who is told a run's figures.
    pub metrics: Metrics,
}

impl Context {
    /// The context on AWS. Reads the environment variables named in this function's README.
    ///
    /// # Errors
    /// A message that names the variable that is missing.
    pub async fn from_environment() -> Result<Self, Failure> {
        let settings = penstock_lambda_kit::settings::Settings::from_environment();
        let aws = penstock_store::aws::Clients::from_environment();
        Ok(Self {
            state: aws.objects(settings.required("PENSTOCK_BUCKET")?),
            clock: Arc::new(penstock_lambda_kit::clock::SystemClock::new()),
            random: Arc::new(penstock_lambda_kit::random::SystemRandom),
            metrics: Metrics::of(settings.required("PENSTOCK_STACK")?),
        })
    }
}

/// Commits the run and reports it. Called again for the same run it does no harm.
///
/// # Errors
/// `RejectedTooMany` after everything was committed; `Superseded`; `StorageUnavailable`.
pub async fn handle(
    request: FinishRequest,
    invocation: &Invocation,
    context: &Context,
) -> Result<FinishResponse, Failure> {
    let plan = plans::load(context.state.as_ref(), &request.run).await?;
    match finish(context, invocation, &plan).await {
        // Another invocation may have finished the run meanwhile, so that a later one holds the lease by now.
        Err(failure) if failure.name == FailureName::Superseded => {
            match reported(context.state.as_ref(), &plan).await? {
                Some(report) if report.status != RunStatus::Failed => answer(context, &plan, &report),
                Some(_) | None => Err(failure),
            }
        }
        finished => finished,
    }
}

/// What the run has reported. That there was nothing to do is from before it was redriven: by now it has a plan.
async fn reported(state: &dyn Objects, plan: &RunPlan) -> Result<Option<RunReport>, Failure> {
    let found = reports::of_run(state, &plan.run.keys()).await?;
    Ok(found.filter(|report| report.status != RunStatus::NothingToDo))
}

async fn finish(
    context: &Context,
    invocation: &Invocation,
    plan: &RunPlan,
) -> Result<FinishResponse, Failure> {
    let (state, keys) = (context.state.as_ref(), plan.run.keys());
    if let Some(report) = reported(state, plan).await? {
        // A later run reports the runs that it folds as failed.
        if report.status == RunStatus::Failed {
            lease::verify_last(state, &plan.run).await?;
        }
        return answer(context, plan, &report);
    }
    lease::verify_last(state, &plan.run).await?;
    let ports = Ports { state, clock: context.clock.as_ref(), random: context.random.as_ref() };
    let committed = commit(ports, plan).await?;
    let report = report(context, invocation, plan, committed).await?;
    successes::note(state, &report, plan.options.are_whole()).await?;
    json::put_json(state, &keys.report(), &report, Condition::Always).await?;
    lease::release(state, context.random.as_ref(), &plan.run).await?;
    context.metrics.tell(report.ended_at, &plan.run.sync, &plan.run.run, &figures::metrics(&report));
    tracing::info!(
        sync = plan.run.sync,
        run = plan.run.run,
        accepted = report.counts.accepted,
        skipped = report.counts.skipped,
        rejected = report.counts.rejected,
        unknown = report.counts.unknown,
        requests = report.api.requests,
        dollars = report.cost.as_ref().map(|cost| cost.dollars),
        gb_seconds = report.cost.as_ref().map(|cost| cost.usage.gb_seconds),
        transitions = report.cost.as_ref().map(|cost| cost.usage.transitions),
        "run finished"
    );
    answer(context, plan, &report)
}

async fn report(
    context: &Context,
    invocation: &Invocation,
    plan: &RunPlan,
    committed: Committed,
) -> Result<RunReport, Failure> {
    let (state, keys) = (context.state.as_ref(), plan.run.keys());
    let status = if plan.is_intolerable(&committed.counts) {
        RunStatus::Failed
    } else if committed.counts.rejected > 0 {
        RunStatus::SucceededWithRejections
    } else {
        RunStatus::Succeeded
    };
    let own = invocation.meter.map(|meter| meter.work(context.clock.now(), state.requests()));
    let work = work::total_with(state, &keys, "finish", own).await?;
    Ok(RunReport {
        version: RunReport::VERSION,
        sync: plan.run.sync.clone(),
        run: plan.run.run.clone(),
        status,
        dry_run: plan.options.dry_run,
        started_at: plan.started_at,
        ended_at: context.clock.now(),
        counts: committed.counts,
        api: committed.api,
        cost: Cost::of(&work, Architecture::of_this_build()),
        work,
        rejections: committed.rejections,
        pending: committed.pending,
        mapping_changes: plan.mapping_changes(),
        null_counts: committed.null_counts,
        unload: plan.unload.prefix.clone(),
        folded: Vec::new(),
        folded_into: None,
    })
}

fn answer(context: &Context, plan: &RunPlan, report: &RunReport) -> Result<FinishResponse, Failure> {
    match report.status {
        RunStatus::Failed => Err(Failure::new(
            FailureName::RejectedTooMany,
            format!(
                "sync {}: {} rows were rejected, more than delivery.tolerate_rejected allows; the {} accepted are \
                 committed, the rejected are dead letters of run {}, and {} changes wait for the next run",
                plan.run.sync, report.counts.rejected, report.counts.accepted, plan.run.run, report.pending
            ),
        )),
        RunStatus::Succeeded | RunStatus::SucceededWithRejections | RunStatus::NothingToDo => {
            Ok(FinishResponse {
                contract: CONTRACT,
                status: report.status,
                report: ObjectRef {
                    bucket: context.state.bucket().to_owned(),
                    key: plan.run.keys().report(),
                },
            })
        }
    }
}
