//! What a chunk leaves once it has ended, written by the function that saw it end: the commit then only gathers.

use serde::{Deserialize, Serialize};

use crate::report::{ApiUsage, Counts, RejectionCount};
use crate::snapshot::{Identity, OverlayEntry, RowRange};

/// What one chunk leaves, as `runs/SYNC/RUN/settled/CHUNK.jsonl.zst`, one line. It counts only while the chunk's traces are those
/// that it was made from: an answer that comes later makes it stale, and the commit then looks for itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettledChunk {
    /// Format version.
    pub version: u32,
    /// The version of the chunk's traces: of all that transform, pushes and dead-letter have left of it.
    pub traces: String,
    /// Its operations, by what became of them.
    pub counts: Counts,
    /// What its attempts asked of the destination.
    pub api: ApiUsage,
    /// Its dead letters by what they complain of, all groups.
    pub rejections: Vec<RejectionCount>,
    /// The keys for which snapshot and destination may differ.
    pub overlay: Vec<OverlayEntry>,
    /// What was learned of records, where the sync remembers them.
    pub identities: Vec<Identity>,
    /// `append`: its rows that are still to be sent.
    pub unsent: Vec<RowRange>,
    /// Whether no push began and nothing is known of any of its changes: all of them wait, and none has an overlay entry here.
    pub is_untouched: bool,
}

impl SettledChunk {
    /// The version of this format.
    pub const VERSION: u32 = 1;
}

/// Shows the counts: keys and match values are row values.
impl std::fmt::Debug for SettledChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SettledChunk({:?})", self.counts)
    }
}
