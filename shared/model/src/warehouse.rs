//! What plan and unload tell each other of a query that the warehouse unloads for a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::Query;
use crate::time::Timestamp;

/// The query as plan pinned it, as `runs/SYNC/RUN/query.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinnedQuery {
    /// Format version.
    pub version: u32,
    /// The query.
    pub query: Query,
    /// Where unloads of this definition lie, with a slash at its end.
    pub location: String,
}

impl PinnedQuery {
    /// The format version that this build writes.
    pub const VERSION: u32 = 1;
}

/// One attempt at unloading it, as `runs/SYNC/RUN/unloads/ATTEMPT.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnloadAttempt {
    /// Format version.
    pub version: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where it unloads to: a prefix that nothing else writes to.
    pub prefix: String,
    /// The warehouse's id of the statement.
    pub statement: String,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// How it stands.
    pub outcome: UnloadOutcome,
}

impl UnloadAttempt {
    /// The format version that this build writes.
    pub const VERSION: u32 = 1;
}

/// How an attempt at an unload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UnloadOutcome {
    /// The statement runs, as far as is known.
    Submitted,
    /// It has finished.
    Finished {
        /// When that was seen.
        at: Timestamp,
        /// Rows by the statement's own result; none where it does not say.
        rows: Option<u64>,
    },
    /// It failed or was stopped; the next attempt has a prefix of its own.
    Failed,
}

/// A statement for a warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What is to be run, and where.
    pub query: Query,
    /// Where it unloads to.
    pub prefix: String,
    /// Its name, for people in the warehouse's console.
    pub name: String,
    /// Submitted again with the same token it is still one statement. At most 64 characters.
    pub token: String,
}

/// How a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementState {
    /// It waits or runs.
    Running,
    /// It has done what it should.
    Finished {
        /// Rows by its own result; none where it does not say.
        rows: Option<u64>,
    },
    /// It has failed.
    Failed,
    /// Somebody has stopped it.
    Stopped,
}
