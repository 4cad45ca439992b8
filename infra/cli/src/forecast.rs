//! Arithmetic for loads that have not been run. What it assumes is printed with it.

use penstock_model::cost::Usage;
use penstock_model::work::{Requests, Work};

/// What a day's load is taken to be like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumptions {
    /// The share of rows that changed, were added or removed.
    pub changed: f64,
    /// Rows of a request to the destination.
    pub rows_per_request: f64,
    /// How long the destination takes to answer.
    pub answer_ms: f64,
    /// Requests in flight of one chunk.
    pub in_flight: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { changed: 0.01, rows_per_request: 100.0, answer_ms: 200.0, in_flight: 8.0 }
    }
}

/// A split and a key partition, as plan cuts them.
const SPLIT_ROWS: f64 = 1_000_000.0;
/// A chunk, as gate cuts them.
const CHUNK_ROWS: f64 = 10_000.0;
/// Seconds for a million rows of thirteen columns on a whole processor of Lambda: decoding, hashing and writing, with S3 at
/// 75 MB/s. `infra/bench` measures the first two.
const READ_S: f64 = 1.5;
/// Seconds to merge a million fingerprints with their snapshot partition.
const DIFF_S: f64 = 1.5;
/// Seconds to fetch and map a chunk whose rows lie all over the unload.
const TRANSFORM_S: f64 = 2.0;
/// Seconds that any invocation takes beside its work: to start, to read its plan and to leave its figures.
const OVERHEAD_S: f64 = 0.3;
/// A function with a whole processor; and push and dead-letter, in GB.
const WHOLE_GB: f64 = 1_769.0 / 1_024.0;
const PUSH_GB: f64 = 1.0;

impl Assumptions {
    /// They in words.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!("{:.2} % of the rows change a day, in one run", self.changed * 100.0),
            format!(
                "{:.0} rows a request, answered after {:.0} ms, {:.0} in flight for each chunk of {CHUNK_ROWS:.0} rows",
                self.rows_per_request, self.answer_ms, self.in_flight
            ),
            format!(
                "{READ_S} s to read, {DIFF_S} s to compare a million rows; {TRANSFORM_S} s to map a chunk"
            ),
            format!(
                "{OVERHEAD_S} s beside that for each invocation; no throttling, no retries, no data transfer, logs or storage"
            ),
        ]
    }
}

/// What one run of so many rows uses.
#[must_use]
pub fn forecast(rows: f64, assumptions: &Assumptions) -> Usage {
    let splits = (rows / SPLIT_ROWS).ceil().max(1.0);
    // A power of two, as plan cuts them.
    let partitions = splits.log2().ceil().exp2();
    let changes = rows * assumptions.changed;
    let chunks = (changes / CHUNK_ROWS).ceil();
    let answers_s =
        changes / assumptions.rows_per_request * assumptions.answer_ms / 1_000.0 / assumptions.in_flight;
    let each = |invocations: f64, gb: f64, busy_s: f64, reads: f64, writes: f64| Work {
        invocations: whole(invocations),
        mb_ms: whole((busy_s + invocations * OVERHEAD_S) * gb * 1_024_000.0),
        requests: Requests { reads: whole(invocations * reads), writes: whole(invocations * writes) },
    };
    // A read fetches its columns' ranges, a diff a slice of every split, a chunk its rows' pages, each beside plan and lease.
    // Each leaves its result and its figures; a push also attempts, receipts and usage; finish removes and lists.
    let work = [
        ("plan", each(1.0, WHOLE_GB, 0.0, 20.0, 10.0)),
        ("read", each(splits, WHOLE_GB, splits * READ_S, 20.0, 3.0)),
        ("diff", each(partitions, WHOLE_GB, rows / SPLIT_ROWS * DIFF_S, splits + 5.0, 6.0)),
        ("gate", each(1.0, WHOLE_GB, 0.0, 10.0, 5.0)),
        ("transform", each(chunks, WHOLE_GB, chunks * TRANSFORM_S, splits.min(64.0) + 10.0, 2.0)),
        ("push", each(chunks, PUSH_GB, answers_s, 10.0, 10.0)),
        ("dead-letter", each(chunks, PUSH_GB, 0.0, 15.0, 3.0)),
        ("finish", each(1.0, WHOLE_GB, 0.0, 20.0, 25.0)),
    ];
    Usage::of(&work.map(|(function, work)| (function.to_owned(), work)).into())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and far from the ends"
)]
fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

#[cfg(test)]
mod tests {
    use penstock_model::cost::{Architecture, PRICES};

    use super::*;

    #[test]
    fn more_rows_and_more_changes_cost_more() {
        let few = Assumptions::default();
        let many = Assumptions { changed: 0.1, ..few };
        for (rows, more) in [(1e6, 1e7), (1e7, 1e8), (1e8, 1e9)] {
            let [small, large, changed] = [forecast(rows, &few), forecast(more, &few), forecast(rows, &many)]
                .map(|usage| usage.dollars(&PRICES, Architecture::Arm64));
            assert!(small < large && small < changed, "{rows}: {small} {large} {changed}");
        }
    }

    #[test]
    fn the_shape_is_that_of_plan_and_gate() {
        let usage = forecast(10_000_000.0, &Assumptions::default());
        // Ten splits, sixteen partitions, ten chunks.
        assert_eq!(usage.invocations, 10 + 16 + 30 + 3);
        assert_eq!(usage.transitions, 1 + 2 + 21 + 33 + 4 + 60 + 1);
    }
}
