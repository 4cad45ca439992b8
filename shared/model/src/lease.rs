//! Who may send for a sync.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The lease of a sync. Held by one run at a time; changed by compare-and-swap only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Format version.
    pub version: u32,
    /// Rises with every run that takes the lease: a run whose fence is lower may send nothing.
    pub fence: u64,
    /// The run that holds, or held, it.
    pub run: String,
    /// The run's execution (an ARN, or the local engine's name for it).
    pub execution: String,
    /// Whether the run has given it back.
    pub released: bool,
    /// Runs that died with unfinished work; the holder folds their receipts, oldest first.
    pub unfinished: Vec<String>,
    /// A random word, to tell one's own write from another's after a refused swap.
    pub nonce: String,
}

/// One attempt at pushing a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Nothing is sent after this moment. `None` once the attempt has ended in good order.
    pub deadline: Option<Timestamp>,
    /// Whether it has ended without a single request.
    #[serde(default)]
    pub idle: bool,
}

/// Stops every push of a run: one bad credential costs one refusal, not one per chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortMarker {
    /// The failure that every push repeats.
    pub name: crate::FailureName,
    /// Its message.
    pub message: String,
    /// When the push that wrote it began; older than the run's last redrive means it no longer counts.
    pub writer_started: Timestamp,
}
