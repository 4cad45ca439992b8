//! The next overlay, written a piece at a time: what is in memory does not grow with it.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use penstock_columnar::changes::Untouched;
use penstock_columnar::overlay::WaitingWriter;
use penstock_model::Failure;
use penstock_model::port::{Condition, Objects};
use penstock_model::run_plan::{DiffMode, RunPlan, partition_of};
use penstock_model::snapshot::{Disposition, OverlayEntry, OverlayFile};
use penstock_store::{lines, storage_failure};

/// Entries that are held before they are written: some 25 MB of them.
const MOST_HELD: usize = 100_000;
/// Key partitions whose waiting changes are read at the same time: some 40 MB each at a hundred million rows.
const PARTITIONS_AT_ONCE: usize = 2;

/// Writes the overlay of one commit.
#[derive(Debug)]
pub(crate) struct OverlayWriter<'a> {
    state: &'a dyn Objects,
    plan: &'a RunPlan,
    nonce: &'a str,
    held: BTreeMap<u32, Piece>,
    entries: usize,
    pieces: u32,
    files: Vec<OverlayFile>,
}

/// Entries of one key partition.
#[derive(Debug, Default)]
struct Piece {
    entries: Vec<OverlayEntry>,
    pending: u64,
}

impl<'a> OverlayWriter<'a> {
    pub(crate) const fn new(state: &'a dyn Objects, plan: &'a RunPlan, nonce: &'a str) -> Self {
        Self { state, plan, nonce, held: BTreeMap::new(), entries: 0, pieces: 0, files: Vec::new() }
    }

    /// Takes what chunks left behind.
    ///
    /// # Errors
    /// `StorageUnavailable`.
    pub(crate) async fn add(&mut self, entries: Vec<OverlayEntry>) -> Result<(), Failure> {
        for entry in entries {
            let piece = self.held.entry(partition_of(entry.key.hash(), self.plan.partitions)).or_default();
            piece.pending += u64::from(entry.disposition == Disposition::Pending);
            piece.entries.push(entry);
            self.entries += 1;
        }
        self.write_if_many().await
    }

    /// Takes what diff carried over, and the changes of which nothing was sent; gives the overlay's files.
    ///
    /// # Errors
    /// `StorageUnavailable`; `InvariantBroken` if an object of the run is damaged or gone.
    pub(crate) async fn finish(mut self, untouched: &Untouched) -> Result<Vec<OverlayFile>, Failure> {
        // A replay passes over what waits. Any other run carries an entry that waits only if its key is not unique: then
        // this unload has nothing to send for it, and the next run need not look at the same unload again.
        let carried_wait = matches!(self.plan.diff, DiffMode::Replay { .. });
        for partition in 0..self.plan.partitions {
            let key = self.plan.run.keys().carried_overlay(partition);
            let carried: Option<Vec<OverlayEntry>> = lines::read_lines(self.state, &key).await?;
            let Some(carried) = carried.filter(|carried| !carried.is_empty()) else { continue };
            let waiting = carried.iter().filter(|entry| entry.disposition == Disposition::Pending).count();
            self.entries += carried.len();
            let piece = self.held.entry(partition).or_default();
            piece.pending += if carried_wait { waiting as u64 } else { 0 };
            piece.entries.extend(carried);
            self.write_if_many().await?;
        }
        self.write().await?;
        if !untouched.is_empty() {
            let waiting: Vec<_> =
                (0..self.plan.partitions).map(|partition| self.waiting(untouched, partition)).collect();
            let waiting: Vec<Option<OverlayFile>> =
                stream::iter(waiting).buffered(PARTITIONS_AT_ONCE).try_collect().await?;
            self.files.extend(waiting.into_iter().flatten());
        }
        self.files.sort_by(|a, b| (a.partition, &a.key).cmp(&(b.partition, &b.key)));
        Ok(self.files)
    }

    async fn write_if_many(&mut self) -> Result<(), Failure> {
        if self.entries > MOST_HELD { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let generation = self.plan.run.generation();
        for (partition, mut piece) in std::mem::take(&mut self.held) {
            piece.entries.sort_by_cached_key(|entry| entry.key.hash());
            let keys = self.plan.run.sync_keys();
            let key = keys.overlay_partition(&generation, self.nonce, partition, self.pieces);
            lines::put_lines(self.state, &key, &piece.entries, Condition::Always).await?;
            let entries = piece.entries.len() as u64;
            self.files.push(OverlayFile { key, partition, entries, pending: piece.pending });
        }
        self.entries = 0;
        self.pieces += 1;
        Ok(())
    }

    /// The changes of one key partition that wait.
    async fn waiting(&self, untouched: &Untouched, partition: u32) -> Result<Option<OverlayFile>, Failure> {
        let (plan, keys) = (self.plan, self.plan.run.keys());
        let mut writer = WaitingWriter::new(plan.mapping_hash, &plan.run.run);
        untouched
            .visit_partition(self.state, &keys, partition, plan.partitions, |change| writer.push(change))
            .await?;
        let entries = u64::from(writer.entries());
        if entries == 0 {
            return Ok(None);
        }
        let key = plan.run.sync_keys().waiting_partition(&plan.run.generation(), self.nonce, partition);
        self.state.put(&key, writer.finish(), Condition::Always).await.map_err(storage_failure)?;
        Ok(Some(OverlayFile { key, partition, entries, pending: entries }))
    }
}
