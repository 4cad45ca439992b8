//! The changes that no push ever began on: after a run that was cancelled, most of them.

use std::collections::BTreeMap;

use penstock_model::change::Place;
use penstock_model::layout::RunKeys;
use penstock_model::operation::ChunkRange;
use penstock_model::port::Objects;

use super::rows::{self, BucketSize};
use super::{ChangeRef, removals};
use crate::format::FormatError;

/// Ranges of a run's changes. What it takes does not grow with the changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untouched {
    /// By place, rising, without overlaps.
    rows: Vec<(Place, Place)>,
    /// By key partition.
    removals: BTreeMap<u32, Vec<(u32, u32)>>,
}

impl Untouched {
    /// Adds a chunk's changes. Chunks must come in their order. An append has no changes.
    pub fn add(&mut self, range: &ChunkRange) {
        match *range {
            ChunkRange::Rows { from, to } => match self.rows.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                Some(_) | None => self.rows.push((from, to)),
            },
            ChunkRange::Removals { partition, from, to } => {
                self.removals.entry(partition).or_default().push((from, to));
            }
            ChunkRange::Append { .. } => {}
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.removals.is_empty()
    }

    /// Shows those of one of `partitions` key partitions. What is in memory is one partition's changes, as they are stored.
    ///
    /// # Errors
    /// [`FormatError`] if an object is missing or damaged.
    pub async fn visit_partition(
        &self,
        objects: &dyn Objects,
        keys: &RunKeys<'_>,
        partition: u32,
        partitions: u32,
        mut each: impl FnMut(&ChangeRef<'_>),
    ) -> Result<(), FormatError> {
        if let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) {
            let mut ranges = self.rows.iter().peekable();
            let filtered = |change: &ChangeRef<'_>| {
                while ranges.next_if(|range| range.1 <= change.place).is_some() {}
                if ranges.peek().is_some_and(|range| range.0 <= change.place) {
                    each(change);
                }
            };
            let size = BucketSize::of(partitions);
            rows::visit_between(objects, &keys.changes(partition), size, first.0, last.1, filtered).await?;
        }
        for (from, to) in self.removals.get(&partition).into_iter().flatten() {
            removals::visit_between(objects, &keys.removals(partition), *from, *to, &mut each).await?;
        }
        Ok(())
    }
}
