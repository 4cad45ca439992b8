//! One chunk of changes → operations and rejected records.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use penstock_columnar::mapping::Mapping;
use penstock_columnar::{changes, transform};
use penstock_lambda_kit::Invocation;
use penstock_model::Key;
use penstock_model::change::Change;
use penstock_model::contract::{CONTRACT, Progress, ProgressStatus, TransformRequest};
use penstock_model::failure::{Failure, FailureName};
use penstock_model::operation::{Chunk, ChunkRange, Transformed};
use penstock_model::port::{Objects, OpenObjects};
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::Identity;
use penstock_store::{lease, operations, plans};

/// What transform needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// Where unloads lie.
    pub unloads: Arc<dyn OpenObjects>,
}

impl Context {
    /// The context on AWS. Reads the environment variables named in this function's README.
    ///
    /// # Errors
    /// A message that names the variable that is missing.
    pub async fn from_environment() -> Result<Self, Failure> {
        let settings = penstock_lambda_kit::settings::Settings::from_environment();
        let aws = penstock_store::aws::Clients::from_environment();
        Ok(Self { state: aws.objects(settings.required("PENSTOCK_BUCKET")?), unloads: aws.opener() })
    }
}

/// Maps one chunk. What it computes follows from run and chunk: a second invocation finds it done.
///
/// # Errors
/// `ChunkUnreadable` if the chunk's rows can't be read any more; `MappingInvalid`; `Superseded`; `StorageUnavailable`.
pub async fn handle(
    request: TransformRequest,
    _: &Invocation,
    context: &Context,
) -> Result<Progress, Failure> {
    let state = context.state.as_ref();
    let plan = plans::load(state, &request.run).await?;
    lease::verify(state, &plan.run).await?;
    let key = plan.run.keys().operations(request.chunk);
    if state.head(&key).await.map_err(penstock_store::storage_failure)?.is_none() {
        let chunk = plans::chunk(state, &plan, request.chunk).await?;
        let work = transform_chunk(context, &plan, chunk, operations::Writer::new(&key)?);
        let written = lease::or_superseded(state, &plan.run, work).await?;
        if written.rows() != chunk.changes {
            let (chunk, rows, changes) = (chunk.chunk, written.rows(), chunk.changes);
            let message = format!("chunk {chunk} came to {rows} operations of {changes} changes");
            return Err(Failure::new(FailureName::InvariantBroken, message));
        }
        written.put(state).await?;
    }
    Ok(Progress {
        contract: CONTRACT,
        status: ProgressStatus::Paused,
        cursor: None,
        rounds: 0,
        resume_after_s: 0,
    })
}

/// Writes what the chunk's changes come to, and gives the writer back.
async fn transform_chunk<'k>(
    context: &Context,
    plan: &RunPlan,
    chunk: Chunk,
    mut writer: operations::Writer<'k>,
) -> Result<operations::Writer<'k>, Failure> {
    let state = context.state.as_ref();
    let capabilities = plan.definition.capabilities();
    let mapping =
        Mapping::compile(&plan.definition.sync, plan.known_columns(), &capabilities).map_err(|problems| {
            let first = problems.first().map_or("", |problem| problem.message.as_str());
            Failure::new(FailureName::MappingInvalid, format!("sync {}: {first}", plan.run.sync))
        })?;
    match chunk.range {
        ChunkRange::Rows { .. } => {
            let changes = changes::read_chunk(state, &plan.run.keys(), plan.partitions, &chunk.range).await?;
            let unload = open(context, &plan.unload.root)?;
            // Where the match is a part of the key, it is always the one under which the record was written.
            let identities = if capabilities.follows_id && !plan.definition.match_is_key() {
                identities(state, plan, &changes).await?
            } else {
                HashMap::new()
            };
            let mut left = changes.as_slice();
            let each = |mut rows: Vec<Transformed>| {
                if !identities.is_empty() {
                    transform::moved(&mut rows, left, &identities);
                }
                left = left.get(rows.len()..).unwrap_or_default();
                writer.add(&rows)
            };
            transform::rows(unload.as_ref(), state, plan, &mapping, &changes, each).await?;
        }
        ChunkRange::Removals { .. } => {
            let changes = changes::read_chunk(state, &plan.run.keys(), plan.partitions, &chunk.range).await?;
            let identities = identities(state, plan, &changes).await?;
            writer.add(&transform::removals(plan, &mapping, &changes, &identities)?)?;
        }
        ChunkRange::Append { entry, rows } => {
            let work = plan.append.get(entry as usize).ok_or_else(|| {
                let message = format!("run {} has no append entry {entry}", plan.run.run);
                Failure::new(FailureName::InvariantBroken, message)
            })?;
            let unload = open(context, &work.unload.root)?;
            let each = |rows: Vec<Transformed>| writer.add(&rows);
            transform::append(unload.as_ref(), plan, &mapping, work, rows, each).await?;
        }
    }
    Ok(writer)
}

/// What is remembered of the records of these changes.
async fn identities(
    state: &dyn Objects,
    plan: &RunPlan,
    changes: &[Change],
) -> Result<HashMap<Key, Identity>, Failure> {
    let wanted: HashSet<Key> = changes.iter().map(|change| change.key.clone()).collect();
    match &plan.snapshot {
        Some(snapshot) if plan.remember => penstock_commit::load_identities(state, snapshot, &wanted).await,
        Some(_) | None => Ok(HashMap::new()),
    }
}

fn open(context: &Context, root: &str) -> Result<Arc<dyn Objects>, Failure> {
    context.unloads.open(root).map_err(penstock_store::storage_failure)
}
