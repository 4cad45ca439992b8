//! `append`: which rows of which unload are still to be sent. There is no diff that would heal a gap.

use penstock_model::operation::ChunkRange;
use penstock_model::outcome::Outcome;
use penstock_model::run_plan::{DiffMode, RunPlan};
use penstock_model::snapshot::{LedgerEntry, RowRange};

use crate::chunk::ChunkResult;

/// The ledger after this run: for each entry of the plan the rows that no chunk has settled. A replay's plan holds the
/// rows of dead letters only; what waited before it still does.
pub(crate) fn ledger(plan: &RunPlan, unsent: &[Unsent]) -> Vec<LedgerEntry> {
    let passed_over = match plan.diff {
        DiffMode::Replay { .. } => {
            plan.snapshot.iter().flat_map(|snapshot| snapshot.ledger.clone()).collect()
        }
        DiffMode::Changes | DiffMode::Full | DiffMode::Baseline | DiffMode::Rebuild => Vec::new(),
    };
    let begun = plan.append.iter().enumerate().filter_map(|(index, entry)| {
        let mut pending: Vec<RowRange> =
            unsent.iter().filter(|unsent| unsent.entry as usize == index).map(|it| it.rows).collect();
        pending.sort_unstable();
        (!pending.is_empty()).then(|| LedgerEntry {
            unload: entry.unload.clone(),
            splits: entry.splits.clone(),
            pending: joined(&pending),
        })
    });
    passed_over.into_iter().chain(begun).collect()
}

/// Rows of a plan's append entry that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) entry: u32,
    pub(crate) rows: RowRange,
}

/// Rows that a chunk left unsent, with the entry of the plan that they are of.
pub(crate) fn unsent_of(range: &ChunkRange, rows: &[RowRange]) -> Vec<Unsent> {
    let ChunkRange::Append { entry, .. } = *range else { return Vec::new() };
    rows.iter().map(|rows| Unsent { entry, rows: *rows }).collect()
}

/// The rows of an append chunk that have no outcome: they were surely not sent, since what is sent has an intent.
pub(crate) fn unsent(result: &ChunkResult) -> Vec<RowRange> {
    let ChunkRange::Append { rows, .. } = result.chunk.range else { return Vec::new() };
    let row = |n: usize| rows.from.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
    let without_outcome: Vec<RowRange> = result
        .outcomes
        .iter()
        .enumerate()
        .filter(|(_, outcome)| match outcome {
            None => true,
            Some(
                Outcome::Accepted { .. }
                | Outcome::Skipped { .. }
                | Outcome::Unknown { .. }
                | Outcome::Rejected { .. }
                | Outcome::DeadLettered { .. },
            ) => false,
        })
        .map(|(n, _)| RowRange { split: rows.split, from: row(n), to: row(n) + 1 })
        .collect();
    joined(&without_outcome)
}

fn joined(sorted: &[RowRange]) -> Vec<RowRange> {
    let mut ranges: Vec<RowRange> = Vec::new();
    for range in sorted {
        match ranges.last_mut() {
            Some(last) if last.split == range.split && last.to >= range.from => {
                last.to = last.to.max(range.to);
            }
            Some(_) | None => ranges.push(*range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(split: u32, from: u32, to: u32) -> RowRange {
        RowRange { split, from, to }
    }

    #[test]
    fn neighbouring_rows_become_one_range() {
        assert_eq!(
            joined(&[range(0, 1, 2), range(0, 2, 3), range(0, 5, 6), range(1, 6, 7)]),
            [range(0, 1, 3), range(0, 5, 6), range(1, 6, 7)]
        );
    }
}
