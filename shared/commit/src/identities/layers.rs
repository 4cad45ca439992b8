//! The layers of one commit: those of the snapshot before, and what the run has learned.

use std::collections::BTreeSet;

use penstock_model::Failure;
use penstock_model::port::{Condition, Objects};
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::{Identity, IdentityFile, IdentityLayer};
use penstock_store::line_stream::LineWriter;
use penstock_store::storage_failure;

use super::first_half;
use super::merge::{Older, merge};

/// What is held and written at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Identities in memory: some 250 bytes each.
    pub(super) held: usize,
    /// Text of a file; packed it is a fourth or less.
    pub(super) file_bytes: usize,
    /// Layers of about one size: more are merged.
    pub(super) layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { held: 200_000, file_bytes: 64 * 1024 * 1024, layers: 8 }
    }
}

/// How much larger layers of the next size are.
const NEXT_SIZE: u64 = 8;

/// Collects what a run has learned.
#[derive(Debug)]
pub(crate) struct IdentityLayers<'a> {
    state: &'a dyn Objects,
    plan: &'a RunPlan,
    nonce: &'a str,
    limits: Limits,
    held: Vec<Identity>,
    layers: Vec<IdentityLayer>,
    /// The files that this commit has written, for the names of the next.
    written: u32,
    /// Those of them that a later one has taken the place of.
    stale: BTreeSet<String>,
}

impl<'a> IdentityLayers<'a> {
    pub(crate) fn new(state: &'a dyn Objects, plan: &'a RunPlan, nonce: &'a str) -> Self {
        Self::within(state, plan, nonce, Limits::default())
    }

    pub(super) fn within(state: &'a dyn Objects, plan: &'a RunPlan, nonce: &'a str, limits: Limits) -> Self {
        let layers = plan.snapshot.as_ref().map_or_else(Vec::new, |snapshot| snapshot.layers());
        Self { state, plan, nonce, limits, held: Vec::new(), layers, written: 0, stale: BTreeSet::new() }
    }

    /// Takes what a chunk tells of its records.
    ///
    /// # Errors
    /// `StorageUnavailable`.
    pub(crate) async fn add(&mut self, new: Vec<Identity>) -> Result<(), Failure> {
        self.held.extend(new);
        if self.held.len() >= self.limits.held { self.write().await } else { Ok(()) }
    }

    /// The layers of the next manifest, oldest first.
    ///
    /// # Errors
    /// `StorageUnavailable`; `InvariantBroken` if a file that the manifest names is gone.
    pub(crate) async fn finish(mut self) -> Result<Vec<IdentityLayer>, Failure> {
        if !self.held.is_empty() {
            self.write().await?;
        }
        for key in &self.stale {
            self.state.delete(key).await.map_err(storage_failure)?;
        }
        Ok(self.layers)
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_cached_key(|identity| identity.key.hash());
        let mut writer = self.writer();
        for identity in &held {
            writer.push(identity.key.hash(), identity).await?;
        }
        let layer = writer.finish().await?;
        self.take(layer);
        self.merge_if_many().await
    }

    async fn merge_if_many(&mut self) -> Result<(), Failure> {
        while let Some(from) = many(&self.layers, self.limits) {
            let older = if from == 0 { Older::No } else { Older::Yes };
            let merged =
                merge(self.state, self.layers.get(from..).unwrap_or_default(), older, self.writer()).await?;
            let ours = self.prefix();
            let gone = self.layers.drain(from..).flat_map(|layer| layer.files).map(|file| file.key);
            // Files of an earlier commit are still named by its manifest.
            self.stale.extend(gone.filter(|key| key.starts_with(&ours)));
            self.take(merged);
        }
        Ok(())
    }

    fn take(&mut self, layer: IdentityLayer) {
        self.written += u32::try_from(layer.files.len()).unwrap_or(u32::MAX);
        if !layer.files.is_empty() {
            self.layers.push(layer);
        }
    }

    fn prefix(&self) -> String {
        self.plan.run.sync_keys().identities_of(&self.plan.run.generation(), self.nonce)
    }

    fn writer(&self) -> LayerWriter<'a> {
        LayerWriter {
            state: self.state,
            prefix: self.prefix(),
            number: self.written,
            file_bytes: self.limits.file_bytes,
            open: None,
            layer: IdentityLayer { files: Vec::new(), entries: 0 },
        }
    }
}

/// From which layer on they are to be merged, since too many are of about one size or smaller.
fn many(layers: &[IdentityLayer], limits: Limits) -> Option<usize> {
    let size = |layer: &IdentityLayer| {
        let mut most = limits.held as u64;
        let mut size = 0;
        while layer.entries > most {
            most = most.saturating_mul(NEXT_SIZE);
            size += 1;
        }
        size
    };
    let largest = layers.iter().map(size).max()?;
    (0..=largest).find_map(|most| {
        let newest = layers.iter().rev().take_while(|layer| size(layer) <= most).count();
        (newest > limits.layers).then(|| layers.len() - newest)
    })
}

/// Writes one layer, file by file.
#[derive(Debug)]
pub(super) struct LayerWriter<'a> {
    state: &'a dyn Objects,
    prefix: String,
    number: u32,
    file_bytes: usize,
    open: Option<OpenFile>,
    layer: IdentityLayer,
}

#[derive(Debug)]
struct OpenFile {
    key: String,
    lines: LineWriter,
    first: u64,
    last: u64,
}

impl LayerWriter<'_> {
    /// Adds what is known of a key with this hash; hashes rise.
    pub(super) async fn push(&mut self, hash: u128, identity: &Identity) -> Result<(), Failure> {
        let last = first_half(hash);
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let key = penstock_model::layout::identity_file(&self.prefix, self.number);
                self.number += 1;
                self.open.insert(OpenFile { lines: LineWriter::new(&key)?, key, first: last, last })
            }
        };
        open.lines.push(identity)?;
        open.last = last;
        self.layer.entries += 1;
        if open.lines.bytes() >= self.file_bytes { self.close().await } else { Ok(()) }
    }

    async fn close(&mut self) -> Result<(), Failure> {
        let Some(OpenFile { key, lines, first, last }) = self.open.take() else { return Ok(()) };
        self.state.put(&key, lines.finish()?, Condition::Always).await.map_err(storage_failure)?;
        self.layer.files.push(IdentityFile { key, first, last });
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<IdentityLayer, Failure> {
        self.close().await?;
        Ok(self.layer)
    }
}
