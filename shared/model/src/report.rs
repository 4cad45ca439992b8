//! What a run tells people and programs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::time::Timestamp;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Everything was accepted.
    Succeeded,
    /// Some rows were rejected, no more than the sync tolerates.
    SucceededWithRejections,
    /// There was nothing new.
    NothingToDo,
    /// It failed.
    Failed,
}

/// Counts of rows. `read` = `added` + `changed` + `unchanged` + rows rejected by diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows of the unload.
    pub read: u64,
    /// Keys that the destination was not told of.
    pub added: u64,
    /// Keys whose row differs.
    pub changed: u64,
    /// Keys that are gone.
    pub removed: u64,
    /// Keys whose row is the same.
    pub unchanged: u64,
    /// Operations accepted.
    pub accepted: u64,
    /// Operations that had nothing to do.
    pub skipped: u64,
    /// Rows that could not be mapped or were refused.
    pub rejected: u64,
    /// Operations whose answer was lost.
    pub unknown: u64,
}

impl Counts {
    /// Adds one outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Accepted { .. } => &mut self.accepted,
            Outcome::Skipped { .. } => &mut self.skipped,
            Outcome::Unknown { .. } => &mut self.unknown,
            Outcome::Rejected { .. } | Outcome::DeadLettered { .. } => &mut self.rejected,
        };
        *count += 1;
    }
}

/// Calls to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiUsage {
    /// Requests sent (for a database: statements).
    pub requests: u64,
    /// Answers that said "too many".
    pub throttled: u64,
    /// Requests sent again.
    pub retried: u64,
}

impl std::ops::AddAssign for ApiUsage {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.throttled += other.throttled;
        self.retried += other.retried;
    }
}

/// Dead letters of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectionCount {
    /// The code.
    pub code: String,
    /// The field at fault, where known.
    pub field: Option<String>,
    /// How many.
    pub rows: u64,
}

/// The report of a run, as `runs/SYNC/RUN/report.json`. Holds no row value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// Format version.
    pub version: u32,
    /// The sync.
    pub sync: String,
    /// The run.
    pub run: String,
    /// How it ended.
    pub status: RunStatus,
    /// Whether nothing was sent on purpose.
    pub dry_run: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Rows.
    pub counts: Counts,
    /// Calls.
    pub api: ApiUsage,
    /// Dead letters by code and field, most frequent first.
    pub rejections: Vec<RejectionCount>,
    /// Overlay entries that the next run sends again.
    pub pending: u64,
    /// Null counts per mapped column.
    pub null_counts: BTreeMap<String, u64>,
    /// Where the unload lay.
    pub unload: String,
    /// Runs that had died and were folded into this one.
    pub folded: Vec<String>,
}

impl RunReport {
    /// The format version that this build writes.
    pub const VERSION: u32 = 1;
}
