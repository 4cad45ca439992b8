//! Arithmetic for loads that have not been run. What it assumes is printed with it.

use penstock_model::work::Requests;

use super::Usage;

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
/// A function with a whole processor, and push, in GB.
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
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and positive by then")]
pub fn forecast(rows: f64, assumptions: &Assumptions) -> Usage {
    let splits = (rows / SPLIT_ROWS).ceil().max(1.0);
    // A power of two, as plan cuts them.
    let partitions = splits.log2().ceil().exp2();
    let changes = rows * assumptions.changed;
    let chunks = (changes / CHUNK_ROWS).ceil();
    let sending_s =
        changes / assumptions.rows_per_request * assumptions.answer_ms / 1_000.0 / assumptions.in_flight;
    let invocations = splits + partitions + 2.0 * chunks + 3.0;
    let whole_s = splits * READ_S + rows / SPLIT_ROWS * DIFF_S + chunks * TRANSFORM_S;
    let gb_seconds = (whole_s + (invocations - chunks) * OVERHEAD_S) * WHOLE_GB
        + (sending_s + chunks * OVERHEAD_S) * PUSH_GB;
    // A read fetches its columns' ranges, a diff a slice of every split, a chunk its rows' pages, each beside plan and lease.
    let reads = splits * 20.0 + partitions * (splits + 5.0) + chunks * (splits.min(64.0) + 20.0) + 50.0;
    // Each leaves its result and its figures; a push also attempts, receipts and usage; finish removes and lists.
    let writes = splits * 3.0 + partitions * 6.0 + chunks * 12.0 + 40.0;
    let transitions = splits * 2.0 + partitions * 2.0 + chunks * 6.0 + 13.0;
    Usage {
        invocations: invocations as u64,
        gb_seconds,
        requests: Requests { reads: reads as u64, writes: writes as u64 },
        transitions: transitions as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_and_more_changes_cost_more() {
        let few = Assumptions::default();
        let many = Assumptions { changed: 0.1, ..few };
        for (rows, more) in [(1e6, 1e7), (1e7, 1e8), (1e8, 1e9)] {
            let prices = crate::cost::prices();
            let [small, large, changed] = [forecast(rows, &few), forecast(more, &few), forecast(rows, &many)]
                .map(|usage| usage.dollars(prices));
            assert!(small < large && small < changed, "{rows}: {small} {large} {changed}");
        }
    }

    #[test]
    fn the_shape_is_that_of_plan_and_gate() {
        let usage = forecast(10_000_000.0, &Assumptions::default());
        // Ten splits, sixteen partitions, ten chunks.
        assert_eq!(usage.invocations, 10 + 16 + 20 + 3);
        assert_eq!(usage.transitions, 20 + 32 + 60 + 13);
    }
}
