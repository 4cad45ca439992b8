//! The next manifest, and the pointer swapped to it.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use penstock_columnar::changes::Untouched;
use penstock_model::contract::RunRef;
use penstock_model::definition::Mode;
use penstock_model::port::{Clock, Condition, ETag, Objects, Random};
use penstock_model::report::{ApiUsage, Counts, RejectionCount, Rejections};
use penstock_model::run_plan::{DiffMode, GateDecision, RunPlan};
use penstock_model::snapshot::{
    IdentityLayer, OverlayFile, PartitionFile, Pointer, SNAPSHOT_VERSION, SnapshotManifest,
};
use penstock_model::{Failure, FailureName, layout};
use penstock_store::json;

use crate::dead_letters::Letters;
use crate::identities::{self, IdentityLayers};
use crate::overlay::OverlayWriter;
use crate::{append, settled};

/// Chunks looked at at the same time.
const CHUNKS_AT_ONCE: usize = 16;

/// What a commit is given from outside.
#[derive(Debug, Clone, Copy)]
pub struct Ports<'a> {
    /// The state's objects.
    pub state: &'a dyn Objects,
    /// The time.
    pub clock: &'a dyn Clock,
    /// For the nonce.
    pub random: &'a dyn Random,
}

/// What a commit found and left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// Rows, with what became of them.
    pub counts: Counts,
    /// Dead letters by what they complain of, most frequent first.
    pub rejections: Vec<RejectionCount>,
    /// Overlay entries (or rows of an append) that the next run sends again.
    pub pending: u64,
    /// What the run asked of the destination.
    pub api: ApiUsage,
    /// Null counts per mapped column.
    pub null_counts: BTreeMap<String, u64>,
}

/// Where a sync's pointer points.
#[derive(Debug, Clone)]
pub struct Current {
    /// What it points at; `None` before the first commit.
    pub manifest: Option<SnapshotManifest>,
    /// The pointer itself.
    pub pointer: Pointer,
    /// Its version, which a commit has to name.
    pub etag: ETag,
}

/// A sync's pointer and its committed manifest; `None` before the first run that ended.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch` if the state was written by a later version, `InvariantBroken` if the
/// manifest is gone.
pub async fn load_current(state: &dyn Objects, sync: &str) -> Result<Option<Current>, Failure> {
    let keys = layout::SyncKeys { sync };
    let Some((pointer, etag)) = json::get_json::<Pointer>(state, &keys.pointer()).await? else {
        return Ok(None);
    };
    let manifest = match &pointer.manifest {
        None => None,
        Some(key) => {
            let found = json::get_json::<SnapshotManifest>(state, key).await?.ok_or_else(|| {
                Failure::new(
                    FailureName::InvariantBroken,
                    format!("snapshot manifest {key} is gone though {} names it", keys.pointer()),
                )
            })?;
            Some(found.0)
        }
    };
    Ok(Some(Current { manifest, pointer, etag }))
}

/// Makes the pointer a run's own, over the same manifest. Whatever version of it a dead run has pinned, or is just pinning
/// while this happens, is then gone, and a commit that is still under way finds another. Once the pointer is the run's own
/// it stays as it is: an invocation that comes twice must not take away what the first one has pinned.
///
/// # Errors
/// `Superseded` if a later run has made it its own; `StorageUnavailable`.
pub async fn claim(ports: Ports<'_>, run: &RunRef) -> Result<(), Failure> {
    let key = run.sync_keys().pointer();
    loop {
        let found = json::get_json::<Pointer>(ports.state, &key).await?;
        let (manifest, condition) = match found {
            Some((pointer, _)) if pointer.fence == run.fence => return Ok(()),
            Some((pointer, _)) if pointer.fence > run.fence => return Err(superseded(run, &pointer.run)),
            Some((pointer, etag)) => (pointer.manifest, Condition::IfMatch(etag)),
            None => (None, Condition::IfAbsent),
        };
        let pointer = pointer(run, manifest, nonce(ports.random));
        match json::swap_json(ports.state, &key, &pointer, condition).await? {
            json::Swap::Swapped(_) => return Ok(()),
            json::Swap::Lost => {
                tracing::debug!(sync = run.sync, run = run.run, "another wrote the pointer first");
            }
        }
    }
}

/// Commits what a run achieved: for every change either the destination agrees with the snapshot, or the overlay says
/// what may differ. Does nothing but count if the run never reached gate, or sent nothing on purpose. Running it twice
/// does no harm.
///
/// # Errors
/// `Superseded` if another run has moved the snapshot since plan pinned it; `StorageUnavailable` and the like.
pub async fn commit(ports: Ports<'_>, plan: &RunPlan) -> Result<Committed, Failure> {
    let keys = plan.run.keys();
    let Some((gate, _)) = json::get_json::<GateDecision>(ports.state, &keys.gate()).await? else {
        return Ok(Committed::default());
    };
    let mut committed =
        Committed { counts: found(&gate), null_counts: gate.null_counts.clone(), ..Committed::default() };
    if plan.options.dry_run {
        return Ok(committed);
    }
    let nonce = nonce(ports.random);
    let mut overlay = OverlayWriter::new(ports.state, plan, &nonce);
    let mut identities = IdentityLayers::new(ports.state, plan, &nonce);
    // Once the snapshot has gone on, dead letters stand as they are: an attempt that wakes late may say that it sent nothing, and a letter
    // that is taken away then is made up for by nothing.
    let done = committed_before(ports.state, plan).await?;
    let letters = if done.is_some() { Letters::Kept } else { Letters::Written };
    let gathered =
        gather(ports.state, plan, &gate, letters, &mut committed, &mut overlay, &mut identities).await?;
    if let Some(manifest) = done {
        committed.pending = pending(&manifest);
        return Ok(committed);
    }
    let overlay = if plan.definition.sync.mode == Mode::Append {
        Vec::new()
    } else {
        overlay.finish(&gathered.untouched).await?
    };
    let identities = identities.finish().await?;
    let manifest = next_manifest(ports, plan, &gate, &gathered, overlay, identities);
    committed.pending = pending(&manifest);
    swap(ports.state, plan, &manifest, &nonce).await?;
    sweep(ports.state, plan, &manifest).await?;
    Ok(committed)
}

/// What a run has committed before, if it has: by another invocation of finish, or by who took it over.
///
/// # Errors
/// `Superseded` if another run has moved the snapshot since plan pinned it; as [`load_current`].
async fn committed_before(state: &dyn Objects, plan: &RunPlan) -> Result<Option<SnapshotManifest>, Failure> {
    match load_current(state, &plan.run.sync).await? {
        Some(Current { manifest: Some(manifest), .. }) if manifest.run == plan.run.run => Ok(Some(manifest)),
        Some(current) if plan.pointer.as_ref() != Some(&current.etag) => {
            Err(superseded(&plan.run, &current.pointer.run))
        }
        Some(_) | None => Ok(None),
    }
}

/// What the next run takes up by itself: overlay entries, or rows of an append.
fn pending(manifest: &SnapshotManifest) -> u64 {
    let rows =
        manifest.ledger.iter().flat_map(|entry| &entry.pending).map(|range| u64::from(range.to - range.from));
    manifest.overlay.iter().map(|file| file.pending).sum::<u64>() + rows.sum::<u64>()
}

/// What a run has achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rows, with what became of them.
    pub counts: Counts,
    /// What it asked of the destination.
    pub api: ApiUsage,
}

/// What a run has achieved so far; nothing is committed.
///
/// # Errors
/// `StorageUnavailable`, or `ContractMismatch` if an object can't be read.
pub async fn tally(state: &dyn Objects, plan: &RunPlan) -> Result<Tally, Failure> {
    let Some((gate, _)) = json::get_json::<GateDecision>(state, &plan.run.keys().gate()).await? else {
        return Ok(Tally::default());
    };
    let mut tally = Tally { counts: found(&gate), api: ApiUsage::default() };
    let mut chunks = settled::each(state, &plan.run, &gate.chunks)
        .map_ok(|found| found.tally(state, plan))
        .try_buffered(CHUNKS_AT_ONCE);
    while let Some((counts, api)) = chunks.try_next().await? {
        tally.counts += counts;
        tally.api += api;
    }
    Ok(tally)
}

/// What diff found, as a run's counts.
fn found(gate: &GateDecision) -> Counts {
    Counts {
        read: gate.counts.read,
        added: gate.counts.added,
        changed: gate.counts.changed,
        removed: gate.counts.removed,
        unchanged: gate.counts.unchanged,
        ..Counts::default()
    }
}

/// What the chunks leave for the manifest.
#[derive(Debug, Default)]
struct Gathered {
    /// The changes of chunks of which nothing was sent.
    untouched: Untouched,
    /// `append`: rows that are still to be sent.
    unsent: Vec<append::Unsent>,
}

async fn gather(
    state: &dyn Objects,
    plan: &RunPlan,
    gate: &GateDecision,
    letters: Letters,
    committed: &mut Committed,
    overlay: &mut OverlayWriter<'_>,
    identities: &mut IdentityLayers<'_>,
) -> Result<Gathered, Failure> {
    let mut gathered = Gathered::default();
    let mut rejections = Rejections::default();
    let mut chunks = settled::each(state, &plan.run, &gate.chunks)
        .map_ok(|found| found.settle(state, plan, letters))
        .try_buffered(CHUNKS_AT_ONCE);
    while let Some((range, settled)) = chunks.try_next().await? {
        if settled.is_untouched {
            gathered.untouched.add(&range);
        }
        gathered.unsent.extend(append::unsent_of(&range, &settled.unsent));
        committed.counts += settled.counts;
        committed.api += settled.api;
        settled.rejections.into_iter().for_each(|group| rejections.add_group(group));
        overlay.add(settled.overlay).await?;
        identities.add(settled.identities).await?;
    }
    committed.rejections = rejections.counts();
    Ok(gathered)
}

fn next_manifest(
    ports: Ports<'_>,
    plan: &RunPlan,
    gate: &GateDecision,
    gathered: &Gathered,
    overlay: Vec<OverlayFile>,
    identity_layers: Vec<IdentityLayer>,
) -> SnapshotManifest {
    let keys = plan.run.sync_keys();
    let generation = plan.run.generation();
    let is_append = plan.definition.sync.mode == Mode::Append;
    let ledger = append::ledger(plan, &gathered.unsent);

    let partitions = if is_append {
        Vec::new()
    } else {
        (0..plan.partitions)
            .map(|partition| PartitionFile { key: keys.snapshot_partition(&generation, partition) })
            .collect()
    };
    // A replay leaves the snapshot as it was but for the replayed keys: the rest still comes from the old unload, by
    // the old mapping.
    let (unload, mapping_hash, hashing, null_counts) = match (&plan.diff, &plan.snapshot) {
        (DiffMode::Replay { .. }, Some(snapshot)) => (
            snapshot.unload.clone(),
            snapshot.mapping_hash,
            snapshot.hashing.clone(),
            snapshot.null_counts.clone(),
        ),
        (
            DiffMode::Replay { .. }
            | DiffMode::Changes
            | DiffMode::Full
            | DiffMode::Baseline
            | DiffMode::Rebuild,
            _,
        ) => ((&plan.unload).into(), plan.mapping_hash, plan.hashing.clone(), gate.null_counts.clone()),
    };
    SnapshotManifest {
        version: SNAPSHOT_VERSION,
        sync: plan.run.sync.clone(),
        run: plan.run.run.clone(),
        generation,
        binding: plan.definition.binding(),
        unload,
        key_columns: plan.key_columns.clone(),
        hashed_columns: plan.hashed_columns.clone(),
        hashing,
        mapping_hash,
        partitions,
        overlay,
        identities: Vec::new(),
        identity_layers,
        null_counts,
        rows: gate.counts.snapshot_rows,
        ledger,
        committed_at: ports.clock.now(),
    }
}

async fn swap(
    state: &dyn Objects,
    plan: &RunPlan,
    manifest: &SnapshotManifest,
    nonce: &str,
) -> Result<(), Failure> {
    let keys = plan.run.sync_keys();
    let key = keys.manifest(&plan.run.generation(), nonce);
    json::put_json(state, &key, manifest, Condition::Always).await?;
    let pointer = pointer(&plan.run, Some(key), nonce.to_owned());
    let condition = plan.pointer.clone().map_or(Condition::IfAbsent, Condition::IfMatch);
    match json::swap_json(state, &keys.pointer(), &pointer, condition).await? {
        json::Swap::Swapped(_) => Ok(()),
        json::Swap::Lost => match load_current(state, &plan.run.sync).await? {
            // Finish and a takeover committed the same run at the same time: one of them did it.
            Some(Current { manifest: Some(manifest), .. }) if manifest.run == plan.run.run => Ok(()),
            Some(current) => Err(superseded(&plan.run, &current.pointer.run)),
            None => Err(superseded(&plan.run, "another")),
        },
    }
}

fn pointer(run: &RunRef, manifest: Option<String>, nonce: String) -> Pointer {
    Pointer { version: SNAPSHOT_VERSION, manifest, run: run.run.clone(), fence: run.fence, nonce }
}

fn nonce(random: &dyn Random) -> String {
    format!("{:016x}", random.next())
}

fn superseded(run: &RunRef, other: &str) -> Failure {
    Failure::new(
        FailureName::Superseded,
        format!(
            "run {} of sync {} was folded into run {other}, which has moved the snapshot since",
            run.run, run.sync
        ),
    )
}

/// Removes snapshots and identities of older generations, but for those of the one that this run started from. A later generation
/// is never touched: this run may be a late one whose work was taken over meanwhile.
async fn sweep(state: &dyn Objects, plan: &RunPlan, manifest: &SnapshotManifest) -> Result<(), Failure> {
    identities::sweep(state, plan, manifest).await?;
    let prefix = plan.run.sync_keys().snapshots();
    let ours = plan.run.generation();
    let before = plan.snapshot.as_ref().map(|snapshot| snapshot.generation.as_str());
    for object in state.list(&prefix).await.map_err(penstock_store::storage_failure)? {
        let generation = object.key.strip_prefix(&prefix).and_then(|rest| rest.split('/').next());
        if generation.is_some_and(|generation| generation < ours.as_str() && Some(generation) != before) {
            state.delete(&object.key).await.map_err(penstock_store::storage_failure)?;
        }
    }
    Ok(())
}
