//! An event → the syncs it concerns → one execution each, once.

mod event;
mod interest;
mod overdue;
mod published;

use std::sync::Arc;
use std::time::Duration;

use penstock_lambda_kit::Invocation;
use penstock_lambda_kit::metrics::Metrics;
use penstock_model::contract::{CONTRACT, StartRequest};
use penstock_model::definition::Unload;
use penstock_model::failure::{Failure, FailureName};
use penstock_model::layout;
use penstock_model::port::{Executions, Objects};
use penstock_store::json;
use serde::{Deserialize, Serialize};

use published::{PublishedSync, published};

pub use event::{Event, Outcome, read};
pub use interest::{concerns, execution_name, is_of_a_run};

const HOUR: Duration = Duration::from_secs(3_600);
/// A day, and time for the run to be late.
const USUAL_HOURS: u32 = 26;

/// What route needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions.
    pub state: Arc<dyn Objects>,
    /// Starts executions.
    pub executions: Arc<dyn Executions>,
    /// Who is told how many syncs are overdue.
    pub metrics: Metrics,
    /// For how long a sync that starts by itself may be without a run that succeeds, unless its definition says otherwise.
    pub overdue_after: Duration,
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
            executions: aws.executions(settings.required("PENSTOCK_STATE_MACHINE_ARN")?),
            metrics: Metrics::of(settings.required("PENSTOCK_STACK")?),
            overdue_after: HOUR * settings.parsed("PENSTOCK_NO_RUN_HOURS")?.unwrap_or(USUAL_HOURS),
        })
    }
}

/// What route did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteResponse {
    /// Contract version.
    pub contract: u32,
    /// Executions started, by name.
    pub started: Vec<String>,
    /// Executions that had been started before, by name: the event came twice.
    pub known: Vec<String>,
    /// Syncs that are overdue, where route was to look for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overdue: Vec<String>,
}

/// Starts every sync that the event concerns, or looks for those that are overdue.
///
/// # Errors
/// `SyncInvalid` if the event can't be read or concerns no sync, `UnloadMissing` if a statement failed whose unload a sync
/// waits for: it then goes to the queue of undeliverable events, with the reason. `StorageUnavailable` if definitions or the state machine can't be reached.
pub async fn handle(
    request: serde_json::Value,
    invocation: &Invocation,
    context: &Context,
) -> Result<RouteResponse, Failure> {
    let event = read(request, &invocation.request_id)?;
    let mut response =
        RouteResponse { contract: CONTRACT, started: Vec::new(), known: Vec::new(), overdue: Vec::new() };
    if let Event::LookForOverdue { due } = event {
        let Context { state, metrics, overdue_after, .. } = context;
        response.overdue = overdue::look(state.as_ref(), metrics, due, *overdue_after).await?;
        return Ok(response);
    }
    let Concerned { starts, is_of_a_run } = concerned(context.state.as_ref(), &event).await?;
    if let (Event::StatementEnded { outcome: Outcome::Broken(how), .. }, false) = (&event, starts.is_empty())
    {
        let syncs: Vec<_> = starts.iter().map(|start| start.sync.as_str()).collect();
        return Err(Failure::new(
            FailureName::UnloadMissing,
            format!(
                "{} ended as {how}, and sync {} waits for what it unloads: mend it in the warehouse and run it again",
                event.describe(),
                syncs.join(", ")
            ),
        ));
    }
    for start in starts {
        let name = execution_name(&start.sync, &event);
        let input = serde_json::to_string(&start).map_err(|error| {
            Failure::because(FailureName::InvariantBroken, "a start request can't be written", error)
        })?;
        let is_new = context.executions.start(&name, input).await.map_err(|error| {
            penstock_store::executions_failure(format!("sync {} could not be started", start.sync), error)
        })?;
        tracing::info!(sync = start.sync, execution = name, is_new, "routed an event");
        if is_new { response.started.push(name) } else { response.known.push(name) }
    }
    if response.started.is_empty() && response.known.is_empty() && is_for_somebody(&event) && !is_of_a_run {
        return Err(Failure::new(
            FailureName::SyncInvalid,
            format!("{} concerns no published sync", event.describe()),
        ));
    }
    Ok(response)
}

/// Whether it is a mistake if no sync takes the event: an unload that nobody wants may be one. A schedule that no sync
/// names, a run that no sync follows and a query that still runs are nobody's.
fn is_for_somebody(event: &Event) -> bool {
    match event {
        Event::ObjectCreated { .. } | Event::StatementEnded { .. } | Event::Start { .. } => true,
        Event::Schedule { .. }
        | Event::RunSucceeded { .. }
        | Event::LookForOverdue { .. }
        | Event::Nothing { .. } => false,
    }
}

/// Whom an event concerns.
#[derive(Default)]
struct Concerned {
    /// What is to be started.
    starts: Vec<StartRequest>,
    /// Whether it tells of what a run made for itself.
    is_of_a_run: bool,
}

async fn concerned(state: &dyn Objects, event: &Event) -> Result<Concerned, Failure> {
    let mut found = Concerned::default();
    if let Event::Start { request, .. } = event {
        found.starts.push(request.clone());
        return Ok(found);
    }
    if let Event::Nothing { what } = event {
        tracing::info!(what, "an event that starts nothing");
        return Ok(found);
    }
    for PublishedSync { name, sync, .. } in published(state).await? {
        let unload = json::get_json::<Unload>(state, &layout::definition("unloads", &sync.unload)).await?;
        let Some((unload, _)) = unload else { continue };
        found.is_of_a_run |= is_of_a_run(event, &unload);
        if concerns(event, &sync, &unload) {
            found.starts.push(StartRequest {
                sync: name,
                environment: environment(event),
                options: penstock_model::contract::RunOptions::default(),
                trigger: Some(event.describe()),
            });
        }
    }
    Ok(found)
}

/// What follows a run goes to the same environment.
fn environment(event: &Event) -> Option<String> {
    match event {
        Event::RunSucceeded { request, .. } => request.environment.clone(),
        Event::ObjectCreated { .. }
        | Event::StatementEnded { .. }
        | Event::Nothing { .. }
        | Event::LookForOverdue { .. }
        | Event::Schedule { .. }
        | Event::Start { .. } => None,
    }
}
