//! Cutting changes into chunks. Pure: what it is told it puts into chunks in that order.

use penstock_model::change::Place;
use penstock_model::operation::{Chunk, ChunkRange};

/// Puts changes into chunks of at most so many, in the order in which it is told of them: first rows by place, then
/// removals by partition. The same calls give the same chunks.
#[derive(Debug)]
pub struct Cutter {
    chunk_rows: u32,
    canary: Option<u32>,
    chunks: Vec<Chunk>,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    from: Place,
    to: Place,
    changes: u32,
}

impl Cutter {
    /// Chunks of at most `chunk_rows` changes; the first of at most `canary`.
    #[must_use]
    pub fn new(chunk_rows: u32, canary: Option<u32>) -> Self {
        let chunk_rows = chunk_rows.max(1);
        let canary = canary.map(|canary| canary.clamp(1, chunk_rows));
        Self { chunk_rows, canary, chunks: Vec::new(), open: None }
    }

    /// How many changes the chunk at hand may hold.
    fn limit(&self) -> u32 {
        match self.canary {
            Some(canary) if self.chunks.is_empty() => canary,
            Some(_) | None => self.chunk_rows,
        }
    }

    fn room(&self) -> u32 {
        self.limit().saturating_sub(self.open.map_or(0, |open| open.changes))
    }

    /// Whether a stretch with so many changes can be put into one chunk. If not, its rows must be told one by one. The
    /// canary is filled to its last place; other chunks may end before a stretch that no longer fits.
    #[must_use]
    pub fn takes_whole(&self, changes: u32) -> bool {
        let is_canary = self.canary.is_some() && self.chunks.is_empty();
        changes <= self.room() || (changes <= self.chunk_rows && !is_canary)
    }

    /// Takes the changes from `from` up to (not with) `to`, which [`takes_whole`](Self::takes_whole) has allowed.
    pub fn stretch(&mut self, from: Place, to: Place, changes: u32) {
        if changes == 0 {
            return;
        }
        if changes > self.room() {
            self.close();
        }
        let before = self.open.unwrap_or(Open { from, to, changes: 0 });
        self.open = Some(Open { from: before.from, to, changes: before.changes.saturating_add(changes) });
        if self.room() == 0 {
            self.close();
        }
    }

    /// Takes the change at one place.
    pub fn row(&mut self, place: Place) {
        self.stretch(place, Place { split: place.split, row: place.row.saturating_add(1) }, 1);
    }

    /// Takes the removals of one partition. No rows may follow.
    pub fn removals(&mut self, partition: u32, removals: u32) {
        self.close();
        let mut from = 0;
        while from < removals {
            let to = from.saturating_add(self.limit()).min(removals);
            self.push(ChunkRange::Removals { partition, from, to }, to - from);
            from = to;
        }
    }

    /// The chunks.
    #[must_use]
    pub fn finish(mut self) -> Vec<Chunk> {
        self.close();
        self.chunks
    }

    fn close(&mut self) {
        if let Some(Open { from, to, changes }) = self.open.take() {
            self.push(ChunkRange::Rows { from, to }, changes);
        }
    }

    fn push(&mut self, range: ChunkRange, changes: u32) {
        let chunk = crate::format::narrow(self.chunks.len());
        self.chunks.push(Chunk { chunk, range, changes });
    }
}
