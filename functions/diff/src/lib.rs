//! One key partition → changes and the next snapshot partition. Repeating it costs nobody anything.

use std::sync::Arc;

use penstock_columnar::overlay::Overlay;
use penstock_columnar::{changes, diff, snapshot};
use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, DiffRequest, DiffResponse};
use penstock_model::definition::{OnRemoved, OnRemovedWord};
use penstock_model::failure::Failure;
use penstock_model::guard::DiffCounts;
use penstock_model::layout;
use penstock_model::port::{Condition, ObjectError, Objects};
use penstock_model::run_plan::{RunPlan, partition_of};
use penstock_model::snapshot::OverlayEntry;
use penstock_store::{json, lease, lines, plans, storage_failure};

/// What diff needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
}

impl Context {
    /// The context on AWS. Reads the environment variables named in this function's README.
    ///
    /// # Errors
    /// A message that names the variable that is missing.
    pub async fn from_environment() -> Result<Self, Failure> {
        let settings = penstock_lambda_kit::settings::Settings::from_environment();
        let aws = penstock_store::aws::Clients::from_environment();
        Ok(Self { state: aws.objects(settings.required("PENSTOCK_BUCKET")?) })
    }
}

/// Compares one key partition.
///
/// # Errors
/// `InvariantBroken` if an object of Penstock's own is damaged; `Superseded` if a later run has taken it away;
/// `StorageUnavailable`.
pub async fn handle(
    request: DiffRequest,
    _: &Invocation,
    context: &Context,
) -> Result<DiffResponse, Failure> {
    let state = context.state.as_ref();
    let plan = plans::load(state, &request.run).await?;
    let keys = plan.run.keys();
    let partition = request.partition;
    let counts_key = keys.diff_counts(partition);
    // Done before: the counts are written last.
    if let Some((counts, _)) = json::get_json::<DiffCounts>(state, &counts_key).await? {
        return Ok(respond(&counts));
    }
    let counts = lease::or_superseded(state, &plan.run, compare(state, &plan, partition)).await?;
    json::put_json(state, &counts_key, &counts, Condition::Always).await?;
    Ok(respond(&counts))
}

async fn compare(state: &dyn Objects, plan: &RunPlan, partition: u32) -> Result<DiffCounts, Failure> {
    let keys = plan.run.keys();
    let overlay = overlay(state, plan, partition).await?;
    let input = diff::load(state, plan, partition, overlay).await?;
    let (body, output) = snapshot::write_partition(&plan.key_columns, |next| {
        diff::diff_partition(&input, plan, removals(plan), &mut |row| next.push(row))
    })?;
    let candidate = plan.run.sync_keys().snapshot_partition(&plan.run.generation(), partition);
    json::put_once(state, &candidate, body).await?;
    json::put_once(state, &keys.changes(partition), changes::write_changes(&output.changes, plan.partitions))
        .await?;
    json::put_once(
        state,
        &keys.removals(partition),
        changes::write_removals(output.removals.iter().map(Into::into)),
    )
    .await?;
    if !output.carried.is_empty() {
        lines::put_lines(state, &keys.carried_overlay(partition), &output.carried, Condition::Always).await?;
    }
    Ok(output.counts)
}

fn respond(counts: &DiffCounts) -> DiffResponse {
    DiffResponse { contract: CONTRACT, changes: counts.added + counts.changed + counts.removed }
}

fn removals(plan: &RunPlan) -> diff::Removals {
    match &plan.definition.sync.on_removed {
        OnRemoved::Word(OnRemovedWord::Nothing) => diff::Removals::CountOnly,
        OnRemoved::Word(OnRemovedWord::Delete | OnRemovedWord::Archive)
        | OnRemoved::Clear { .. }
        | OnRemoved::Delete { .. }
        | OnRemoved::Archive { .. } => diff::Removals::Emit,
    }
}

/// The overlay entries of this partition. The snapshot may have been cut into another number of partitions.
async fn overlay(state: &dyn Objects, plan: &RunPlan, partition: u32) -> Result<Overlay, Failure> {
    let mut overlay = Overlay::default();
    let Some(snapshot) = &plan.snapshot else { return Ok(overlay) };
    let of_snapshot = u32::try_from(snapshot.partitions.len()).unwrap_or(u32::MAX);
    for file in &snapshot.overlay {
        if !snapshot::overlaps(file.partition, of_snapshot, partition, plan.partitions) {
            continue;
        }
        if layout::is_waiting(&file.key) {
            let found = state.get(&file.key).await.map_err(storage_failure)?;
            let missing = || storage_failure(ObjectError::Missing { key: file.key.clone() });
            let (body, _) = found.ok_or_else(missing)?;
            overlay.add_waiting(&file.key, body, partition, plan.partitions)?;
        } else {
            let found: Vec<OverlayEntry> = lines::require_lines(state, &file.key).await?;
            let ours = |entry: &OverlayEntry| partition_of(entry.key.hash(), plan.partitions) == partition;
            overlay.extend(found.into_iter().filter(ours));
        }
    }
    Ok(overlay)
}
