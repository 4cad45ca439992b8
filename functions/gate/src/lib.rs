//! Totals, guards and the chunk list: the barrier before the first side effect.

mod canary;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use penstock_columnar::changes;
use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, GateRequest, GateResponse, GateVerdict, GuardName, ObjectRef};
use penstock_model::definition::Mode;
use penstock_model::failure::{Failure, FailureName};
use penstock_model::guard::{self, DiffCounts, Nulls};
use penstock_model::mapping_change::MappingChange;
use penstock_model::operation::{Chunk, ChunkRange};
use penstock_model::port::{Condition, Objects};
use penstock_model::run_plan::{DiffMode, GateDecision, RunPlan, SplitCounts};
use penstock_model::snapshot::RowRange;
use penstock_store::{json, lease, plans};

/// Objects read at the same time.
const READS_AT_ONCE: usize = 16;
/// Rows of a chunk, unless the sync says otherwise.
const CHUNK_ROWS: u32 = 10_000;

/// What gate needs from outside.
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

/// Decides whether anything may be sent, and in which chunks. Called again for the same run it gives the same answer.
///
/// # Errors
/// `GuardTripped` with the figures; `Superseded` if another run holds the lease; `StorageUnavailable`.
pub async fn handle(
    request: GateRequest,
    _: &Invocation,
    context: &Context,
) -> Result<GateResponse, Failure> {
    let state = context.state.as_ref();
    let plan = plans::load(state, &request.run).await?;
    lease::verify(state, &plan.run).await?;
    let decision = match json::get_json::<GateDecision>(state, &plan.run.keys().gate()).await? {
        Some((decision, _)) => decision,
        None => decide(state, &plan).await?,
    };
    let wave = if plan.options.dry_run || decision.chunks.is_empty() {
        canary::Wave::Nothing
    } else {
        canary::wave(state, &plan, &decision).await?
    };
    let verdict = match wave {
        canary::Wave::All | canary::Wave::Canary | canary::Wave::Limited | canary::Wave::Rest => {
            GateVerdict::Deliver
        }
        // Finish commits what the canary achieved, writes its dead letters, and says that they were too many.
        canary::Wave::Nothing => GateVerdict::Finish,
    };
    let keys = plan.run.keys();
    let key = match wave {
        canary::Wave::All | canary::Wave::Canary | canary::Wave::Limited | canary::Wave::Nothing => {
            keys.chunks()
        }
        canary::Wave::Rest => keys.chunks_after_canary(),
    };
    Ok(GateResponse {
        contract: CONTRACT,
        verdict,
        chunks: ObjectRef { bucket: context.state.bucket().to_owned(), key },
        more: wave == canary::Wave::Canary,
        concurrency: plan.definition.concurrency(),
    })
}

async fn decide(state: &dyn Objects, plan: &RunPlan) -> Result<GateDecision, Failure> {
    let decision = match plan.definition.sync.mode {
        Mode::Append => GateDecision {
            version: RunPlan::VERSION,
            counts: append_counts(plan),
            null_counts: BTreeMap::new(),
            chunks: append_chunks(plan),
        },
        Mode::Upsert | Mode::CreateOnly | Mode::UpdateOnly => compared(state, plan).await?,
    };
    let keys = plan.run.keys();
    for part in Chunk::together(&decision.chunks) {
        let Some(first) = part.first() else { continue };
        json::put_json(state, &keys.part_of_chunks(first.chunk), part, Condition::Always).await?;
    }
    let (first, rest) = canary::waves(plan, &decision);
    json::put_json(state, &keys.chunks(), &items(first), Condition::Always).await?;
    json::put_json(state, &keys.chunks_after_canary(), &items(rest), Condition::Always).await?;
    json::put_json(state, &keys.gate(), &decision, Condition::Always).await?;
    tracing::info!(
        sync = plan.run.sync,
        run = plan.run.run,
        read = decision.counts.read,
        added = decision.counts.added,
        changed = decision.counts.changed,
        removed = decision.counts.removed,
        chunks = decision.chunks.len(),
        "gate opened"
    );
    Ok(decision)
}

fn items(chunks: &[Chunk]) -> Vec<serde_json::Value> {
    chunks.iter().map(|chunk| serde_json::json!({ "chunk": chunk.chunk })).collect()
}

async fn compared(state: &dyn Objects, plan: &RunPlan) -> Result<GateDecision, Failure> {
    let keys = plan.run.keys();
    let mut counts = DiffCounts::default();
    for partition in 0..plan.partitions {
        counts += json::require_json(state, &keys.diff_counts(partition)).await?;
    }
    let splits = u32::try_from(plan.splits.len()).unwrap_or(u32::MAX);
    let per_split: Vec<SplitCounts> = stream::iter((0..splits).map(|split| keys.split_counts(split)))
        .map(|key| async move { json::require_json(state, &key).await })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut null_counts = BTreeMap::new();
    for (column, nulls) in per_split.into_iter().flat_map(|split| split.null_counts) {
        *null_counts.entry(column).or_insert(0) += nulls;
    }
    check_guards(plan, &counts, &null_counts)?;
    let chunk_rows = plan.definition.sync.delivery.chunk_rows.unwrap_or(CHUNK_ROWS);
    let first = canary::rows(plan);
    let chunks = changes::plan_chunks(state, &keys, plan.partitions, chunk_rows, first).await?;
    Ok(GateDecision { version: RunPlan::VERSION, counts, null_counts, chunks })
}

fn check_guards(plan: &RunPlan, counts: &DiffCounts, nulls: &BTreeMap<String, u64>) -> Result<(), Failure> {
    let before = plan.snapshot.as_ref();
    let nulls = before.map(|snapshot| Nulls {
        before: &snapshot.null_counts,
        rows_before: snapshot.rows,
        now: nulls,
        rows_now: counts.read,
    });
    let tripped = guard::tripped(&plan.definition.sync.guards, counts, nulls, &plan.options.allow);
    if tripped.is_empty() {
        return Ok(());
    }
    let names_changes = tripped.iter().any(|tripped| tripped.guard == GuardName::MaxChanged);
    let mut messages: Vec<_> = tripped.into_iter().map(|tripped| tripped.message).collect();
    if names_changes {
        messages.extend(causes(plan));
    }
    Err(Failure::new(FailureName::GuardTripped, format!("sync {}: {}", plan.run.sync, messages.join("; "))))
}

/// Why so many rows would be sent that may not have changed at all.
fn causes(plan: &RunPlan) -> Vec<String> {
    if plan.options.full {
        return vec!["the run was started with --full, which sends every row".to_owned()];
    }
    let is_full = plan.diff == DiffMode::Full;
    let is_cause = |change: &MappingChange| match change {
        // Otherwise rows are compared as they were before.
        MappingChange::Fields | MappingChange::NaiveTimestamps { .. } => is_full,
        MappingChange::JsonColumns { .. } => false,
        MappingChange::HashVersion { .. } | MappingChange::ColumnTypes { .. } => true,
    };
    let changes = plan.mapping_changes();
    let named: Vec<String> =
        changes.iter().filter(|change| is_cause(change)).map(ToString::to_string).collect();
    if named.is_empty() {
        return named;
    }
    let mut causes = vec![format!("the cause is {}", named.join("; and "))];
    if is_full && changes.iter().any(MappingChange::is_decided) {
        causes.push(
            "on_mapping_change: resend sends every row again, and from_now_on only rows that change"
                .to_owned(),
        );
    }
    causes
}

fn append_counts(plan: &RunPlan) -> DiffCounts {
    let rows = plan
        .append
        .iter()
        .flat_map(|entry| &entry.pending)
        .map(|range| u64::from(range.to - range.from))
        .sum();
    DiffCounts { read: rows, added: rows, ..DiffCounts::default() }
}

fn append_chunks(plan: &RunPlan) -> Vec<Chunk> {
    let most = plan.definition.sync.delivery.chunk_rows.unwrap_or(CHUNK_ROWS).max(1);
    let first = plan.options.limit.unwrap_or(most).clamp(1, most);
    let mut chunks = Vec::new();
    for (entry, work) in (0u32..).zip(&plan.append) {
        for range in &work.pending {
            let mut from = range.from;
            while from < range.to {
                let rows = if chunks.is_empty() { first } else { most };
                let to = from.saturating_add(rows).min(range.to);
                chunks.push(Chunk {
                    chunk: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
                    range: ChunkRange::Append { entry, rows: RowRange { split: range.split, from, to } },
                    changes: to - from,
                });
                from = to;
            }
        }
    }
    chunks
}
