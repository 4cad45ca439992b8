//! Today's rows against what the destination was last told, for one key partition.
//!
//! Three inputs meet by key: fingerprints, snapshot rows and overlay entries. An overlay entry overrules the snapshot's
//! row. Pure but for [`load`]; memory is bounded by the partition: 28 bytes and the key a fingerprint (beside the bytes that were read, while
//! they are dealt out), the snapshot's file, and 64 bytes a change. The snapshot is decoded, and the next one written, as the merge goes along.

mod compare;

use penstock_model::change::Change;
use penstock_model::guard::DiffCounts;
use penstock_model::port::Objects;
use penstock_model::run_plan::{DiffMode, RunPlan};
use penstock_model::snapshot::OverlayEntry;

use crate::changes::ChangeRef;
use crate::fingerprint::{self, Fingerprints};
use crate::format::{FormatError, narrow};
use crate::overlay::Overlay;
use crate::snapshot::{self, Partition, SnapshotRow, SnapshotRows};

pub use crate::snapshot::overlaps;

/// What one key partition's diff compares.
#[derive(Debug, Default)]
pub struct DiffInput {
    current: Fingerprints,
    snapshot: Partition,
    overlay: Overlay,
}

impl DiffInput {
    /// All rows, in any order, must be of the same key partition.
    #[must_use]
    pub fn new(current: Fingerprints, snapshot: SnapshotRows, overlay: impl Into<Overlay>) -> Self {
        Self::of_partition(current, Partition::Rows(snapshot), overlay.into(), 1)
    }

    fn of_partition(
        current: Fingerprints,
        snapshot: Partition,
        mut overlay: Overlay,
        partitions: u32,
    ) -> Self {
        overlay.sort(partitions);
        Self { current, snapshot, overlay }
    }
}

/// What one key partition's diff found. Keys of changes are borrowed from the input.
#[derive(Debug, Default)]
pub struct DiffOutput<'a> {
    /// Added, changed and rejected rows, ordered by place.
    pub changes: Vec<ChangeRef<'a>>,
    /// Removed keys, ordered by key hash.
    pub removals: Vec<Change>,
    /// Overlay entries that hold on without being sent, ordered by key hash.
    pub carried: Vec<OverlayEntry>,
    /// How many of what.
    pub counts: DiffCounts,
}

/// What becomes of keys that the unload no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// They are sent.
    Emit,
    /// They are counted and forgotten (`on_removed: nothing`).
    CountOnly,
}

/// How keys are treated.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The run's way.
    pub mode: &'a DiffMode,
    /// The mapping of this run.
    pub mapping_hash: u64,
    /// What becomes of removed keys.
    pub removals: Removals,
}

/// Compares one partition as the run plan says; see [`diff`].
///
/// # Errors
/// [`FormatError`] if the snapshot's partition is damaged.
pub fn diff_partition<'a>(
    input: &'a DiffInput,
    plan: &RunPlan,
    removals: Removals,
    next: &mut impl FnMut(SnapshotRow<'_>),
) -> Result<DiffOutput<'a>, FormatError> {
    diff(input, Rules { mode: &plan.diff, mapping_hash: plan.mapping_hash, removals }, next)
}

/// Compares one partition. For every key, by how many rows it has:
///
/// - null in the key: each row is rejected; nothing is remembered of it.
/// - several rows: each is rejected; what was known of the key stays as it was, and it does not count as removed.
/// - one row: unchanged if the destination certainly has it; it stays rejected if this very row was rejected (under this
///   mapping) or can't be repeated; otherwise added or changed.
/// - none: removed if the destination has or may have the record, unless its removal stays rejected.
///
/// A full run sends every row; a baseline takes every row as delivered; a replay takes up the rejected keys that it
/// names, and leaves all other keys as they are. A rebuild takes a row as delivered whose key was, whatever its hash: a key without
/// overlay entry. Of the others what waits or was rejected is sent, and what can't be repeated is left alone.
///
/// `next` is shown the next snapshot's rows, ordered by key hash: right if all that is sent is accepted.
///
/// # Errors
/// [`FormatError`] if the snapshot's partition is damaged.
pub fn diff<'a>(
    input: &'a DiffInput,
    rules: Rules<'_>,
    next: &mut impl FnMut(SnapshotRow<'_>),
) -> Result<DiffOutput<'a>, FormatError> {
    let mut output = compare::compare(input, rules, next)?;
    output.changes.sort_unstable_by_key(|change| change.place);
    output.counts.carried = u64::from(narrow(output.carried.len()));
    Ok(output)
}

/// Fetches what one partition's diff compares. `overlay` are the committed overlay's entries of this partition.
///
/// # Errors
/// [`FormatError`] if an object is missing, damaged or of another version.
pub async fn load(
    objects: &dyn Objects,
    plan: &RunPlan,
    partition: u32,
    overlay: Overlay,
) -> Result<DiffInput, FormatError> {
    let splits = narrow(plan.splits.len());
    let keys = plan.run.keys();
    let current = fingerprint::read_partition(objects, &keys, splits, partition, plan.partitions);
    let before = async {
        match &plan.snapshot {
            Some(manifest) => snapshot::open_partition(objects, manifest, partition, plan.partitions).await,
            None => Ok(Partition::default()),
        }
    };
    let (current, before) = futures::try_join!(current, before)?;
    Ok(DiffInput::of_partition(current, before, overlay, plan.partitions))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
