//! Sync + unload → splits, partitions and limits, pinned. Takes the lease, and folds in a run that died.

mod append;
mod definitions;
mod pin;
mod query;
mod snapshot;
mod takeover;

pub use definitions::resolve;

use std::sync::Arc;

use penstock_columnar::split;
use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, ObjectRef, PlanRequest, PlanResponse, PlanVerdict, RunRef};
use penstock_model::cost::{Architecture, Cost};
use penstock_model::definition::Mode;
use penstock_model::failure::{Failure, FailureName};
use penstock_model::port::{Clock, Condition, Executions, Objects, OpenObjects, Random};
use penstock_model::report::{ApiUsage, Counts, RunReport, RunStatus};
use penstock_model::run_plan::RunPlan;
use penstock_store::{json, lease, reports, successes, work};

/// What plan needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// Where unloads lie.
    pub unloads: Arc<dyn OpenObjects>,
    /// To ask whether another run still runs.
    pub executions: Arc<dyn Executions>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For nonces.
    pub random: Arc<dyn Random>,
    /// How large splits and partitions are.
    pub sizes: Sizes,
}

/// How large splits and partitions are, and how many are worked on at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A split.
    pub split: split::Sizes,
    /// Rows of a key partition, about.
    pub partition_rows: u32,
    /// Reads at the same time.
    pub read_concurrency: u32,
    /// Diffs at the same time.
    pub diff_concurrency: u32,
}

impl Default for Sizes {
    /// One million rows each: a read or a diff then stays well under 200 MB.
    fn default() -> Self {
        Self {
            split: split::Sizes::default(),
            partition_rows: 1_000_000,
            read_concurrency: 64,
            diff_concurrency: 64,
        }
    }
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
            unloads: aws.opener(),
            executions: aws.executions(settings.required("PENSTOCK_STATE_MACHINE_ARN")?),
            clock: Arc::new(penstock_lambda_kit::clock::SystemClock::new()),
            random: Arc::new(penstock_lambda_kit::random::SystemRandom),
            sizes: Sizes::default(),
        })
    }
}

/// Plans a run. Called again for the same run it gives the same answer.
///
/// # Errors
/// `RunInProgress` while another run holds the lease or may still be sending; what is wrong with the definitions or
/// the unload, by name; `StorageUnavailable`.
pub async fn handle(
    request: PlanRequest,
    invocation: &Invocation,
    context: &Context,
) -> Result<PlanResponse, Failure> {
    let state = context.state.as_ref();
    let ports = lease::Ports {
        objects: state,
        executions: context.executions.as_ref(),
        random: context.random.as_ref(),
    };
    let held = lease::take(ports, &request.request.sync, &request.run, &request.execution).await?;
    let run =
        RunRef { sync: request.request.sync.clone(), run: request.run.clone(), fence: held.lease.fence };
    match plan(context, invocation, &request, &run, &held.lease.unfinished).await {
        // Another invocation may have found nothing new meanwhile, so that a later run holds the lease by now.
        Err(failure) if failure.name == FailureName::Superseded => {
            match reports::of_run(state, &run.keys()).await? {
                Some(report) if report.status == RunStatus::NothingToDo => {
                    Ok(respond_without_plan(context, &run, PlanVerdict::NothingNew))
                }
                Some(_) | None => Err(failure),
            }
        }
        planned => planned,
    }
}

/// Plans a run that holds the lease.
async fn plan(
    context: &Context,
    invocation: &Invocation,
    request: &PlanRequest,
    run: &RunRef,
    unfinished: &[String],
) -> Result<PlanResponse, Failure> {
    let state = context.state.as_ref();
    if let Some((plan, _)) = json::get_json::<RunPlan>(state, &run.keys().plan()).await? {
        return planned(context, &plan).await;
    }
    let folded = takeover::fold(context, run, unfinished).await?;
    match pin::pin(context, request, run).await? {
        pin::Pinned::Work(plan) => {
            json::put_json(state, &run.keys().plan(), &*plan, Condition::IfAbsent).await?;
            // A second invocation may have been first, and have found a newer unload: what is kept counts.
            let plan: RunPlan = json::require_json(state, &run.keys().plan()).await?;
            tracing::info!(
                sync = run.sync,
                run = run.run,
                files = plan.unload.files.len(),
                rows = plan.unload.files.iter().map(|file| file.rows).sum::<u64>(),
                splits = plan.splits.len(),
                partitions = plan.partitions,
                "planned the run"
            );
            planned(context, &plan).await
        }
        pin::Pinned::Unload => {
            tracing::info!(sync = run.sync, run = run.run, "the warehouse has to unload first");
            Ok(respond_without_plan(context, run, PlanVerdict::Unload))
        }
        pin::Pinned::NothingNew { unload } => {
            let told = Nothing { unload, folded, is_whole: request.request.options.are_whole() };
            report_nothing(context, invocation, run, told).await?;
            lease::release(state, context.random.as_ref(), run).await?;
            tracing::info!(sync = run.sync, run = run.run, "nothing new to deliver");
            Ok(respond_without_plan(context, run, PlanVerdict::NothingNew))
        }
    }
}

/// What follows from the plan that is kept: the same for everybody who asks.
async fn planned(context: &Context, plan: &RunPlan) -> Result<PlanResponse, Failure> {
    write_items(context.state.as_ref(), plan).await?;
    Ok(respond(context, plan, verdict(plan)))
}

fn verdict(plan: &RunPlan) -> PlanVerdict {
    match plan.definition.sync.mode {
        Mode::Append => PlanVerdict::Deliver,
        Mode::Upsert | Mode::CreateOnly | Mode::UpdateOnly => PlanVerdict::Read,
    }
}

/// The Maps' items: an object for each split and each partition.
async fn write_items(state: &dyn Objects, plan: &RunPlan) -> Result<(), Failure> {
    let splits: Vec<_> = (0..plan.splits.len()).map(|split| serde_json::json!({ "split": split })).collect();
    let partitions: Vec<_> =
        (0..plan.partitions).map(|partition| serde_json::json!({ "partition": partition })).collect();
    json::put_json(state, &plan.run.keys().splits(), &splits, Condition::Always).await?;
    json::put_json(state, &plan.run.keys().partitions(), &partitions, Condition::Always).await?;
    Ok(())
}

fn respond(context: &Context, plan: &RunPlan, verdict: PlanVerdict) -> PlanResponse {
    let keys = plan.run.keys();
    let object = |key: String| ObjectRef { bucket: context.state.bucket().to_owned(), key };
    PlanResponse {
        contract: CONTRACT,
        verdict,
        splits: object(keys.splits()),
        partitions: object(keys.partitions()),
        read_concurrency: context.sizes.read_concurrency,
        diff_concurrency: context.sizes.diff_concurrency,
        run: plan.run.clone(),
    }
}

fn respond_without_plan(context: &Context, run: &RunRef, verdict: PlanVerdict) -> PlanResponse {
    let object = |key: String| ObjectRef { bucket: context.state.bucket().to_owned(), key };
    PlanResponse {
        contract: CONTRACT,
        verdict,
        splits: object(run.keys().splits()),
        partitions: object(run.keys().partitions()),
        read_concurrency: 1,
        diff_concurrency: 1,
        run: run.clone(),
    }
}

/// What there is to report of a run that has nothing to do.
struct Nothing {
    /// Where the unload lies that was delivered before.
    unload: String,
    /// Runs that had died.
    folded: Vec<String>,
    /// Whether it was asked to bring everything in step.
    is_whole: bool,
}

async fn report_nothing(
    context: &Context,
    invocation: &Invocation,
    run: &RunRef,
    Nothing { unload, folded, is_whole }: Nothing,
) -> Result<(), Failure> {
    let (state, now) = (context.state.as_ref(), context.clock.now());
    let own = invocation.meter.map(|meter| meter.work(now, state.requests()));
    let work = work::total_with(state, &run.keys(), "plan", own).await?;
    let report = RunReport {
        version: RunReport::VERSION,
        sync: run.sync.clone(),
        run: run.run.clone(),
        status: RunStatus::NothingToDo,
        dry_run: false,
        started_at: now,
        ended_at: now,
        counts: Counts::default(),
        api: ApiUsage::default(),
        cost: Cost::of(&work, Architecture::of_this_build()),
        work,
        rejections: Vec::new(),
        pending: 0,
        mapping_changes: Vec::new(),
        null_counts: std::collections::BTreeMap::new(),
        unload,
        folded,
        folded_into: None,
    };
    successes::note(state, &report, is_whole).await?;
    json::put_json(state, &run.keys().report(), &report, Condition::Always).await?;
    Ok(())
}
