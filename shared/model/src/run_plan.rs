//! What plan pins for a run. After plan nobody reads the live definitions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{Replay, RunOptions, RunRef};
use crate::definition::{Mode, ResolvedSync};
use crate::guard::DiffCounts;
use crate::mapping_change::{self, CompareZone, Hashing, MappingChange};
use crate::operation::Chunk;
use crate::port::ETag;
use crate::report::Counts;
use crate::snapshot::{LedgerEntry, SnapshotManifest};
use crate::time::Timestamp;
use crate::unload::{Column, PinnedUnload, Split};

/// The pinned plan of a run, as `runs/SYNC/RUN/plan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// Format version.
    pub version: u32,
    /// Sync, run and fence.
    pub run: RunRef,
    /// The run's execution.
    pub execution: String,
    /// When plan pinned it.
    pub started_at: Timestamp,
    /// What the starter asked for.
    pub options: RunOptions,
    /// The definitions.
    pub definition: ResolvedSync,
    /// Hash of fields, match and mode.
    pub mapping_hash: u64,
    /// The unload.
    pub unload: PinnedUnload,
    /// The unload's columns that the mapping, the match or the key uses, in canonical spelling.
    pub columns: Vec<Column>,
    /// The primary key's columns (a part of `columns`), in the order of the definition.
    pub key_columns: Vec<Column>,
    /// The columns (lower case, sorted) that row hashes cover, as [`HashedColumn`] writes them.
    pub hashed_columns: Vec<String>,
    /// The columns that the snapshot's row hashes cover, where they differ: then `read` computes both.
    pub compare_columns: Option<Vec<String>>,
    /// How row hashes are made; none if an earlier version of Penstock planned the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashing: Option<Hashing>,
    /// The zone that the snapshot's row hashes took timestamps to be of, where it differs; `compare_columns` are there, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare_zone: Option<CompareZone>,
    /// How the unload is cut.
    pub splits: Vec<Split>,
    /// Key partitions: a power of two.
    pub partitions: u32,
    /// The committed snapshot that the diff starts from; none on a first run.
    pub snapshot: Option<SnapshotManifest>,
    /// The pointer's version when pinned: the commit swaps against it. `None` if there was no pointer.
    pub pointer: Option<ETag>,
    /// How the diff treats keys.
    pub diff: DiffMode,
    /// `append`: what this run sends, in place of a diff.
    pub append: Vec<LedgerEntry>,
    /// Whether ids, match values and "created by us" are remembered.
    pub remember: bool,
}

/// What gate decided, as `runs/SYNC/RUN/gate.json`: totals and every chunk. The barrier before the first side effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateDecision {
    /// Format version.
    pub version: u32,
    /// Totals over all key partitions.
    pub counts: DiffCounts,
    /// Null counts per mapped column.
    pub null_counts: BTreeMap<String, u64>,
    /// Every chunk.
    pub chunks: Vec<Chunk>,
}

/// What `read` counted in one split.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitCounts {
    /// Rows.
    pub rows: u64,
    /// Null counts per mapped column (lower case).
    pub null_counts: BTreeMap<String, u64>,
}

/// A column as `hashed_columns` names it: with how it is hashed, so that a change of that is seen like one of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashedColumn<'a> {
    /// By its value.
    Value(&'a str),
    /// Text that is hashed by what it says as JSON (the unload's `json_columns`): `json:NAME`.
    Json(&'a str),
}

impl<'a> HashedColumn<'a> {
    const JSON: &'static str = "json:";

    /// From its name in `hashed_columns`.
    #[must_use]
    pub fn of(name: &'a str) -> Self {
        name.strip_prefix(Self::JSON).map_or(Self::Value(name), Self::Json)
    }

    /// The column's own name.
    #[must_use]
    pub const fn column(self) -> &'a str {
        match self {
            Self::Value(name) | Self::Json(name) => name,
        }
    }
}

impl std::fmt::Display for HashedColumn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(name) => f.write_str(name),
            Self::Json(name) => write!(f, "{}{name}", Self::JSON),
        }
    }
}

/// How the diff treats keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DiffMode {
    /// What changed is sent.
    Changes,
    /// Every row counts as changed; removals are honoured.
    Full,
    /// Nothing is sent: the destination is taken to be in step.
    Baseline,
    /// The snapshot's row hashes say nothing of today's rows: a row whose key was delivered is taken to be in step, with today's
    /// hash. What waits, what is added and what is removed goes its way.
    Rebuild,
    /// Only rejected keys of the overlay are taken up again.
    Replay(Replay),
}

impl RunPlan {
    /// The format version that this build writes.
    pub const VERSION: u32 = 1;

    /// Whether more rows were rejected than the sync tolerates of those that were sent. A replay sends nothing but rows
    /// that were rejected before: how many of them are again says nothing new.
    #[must_use]
    pub fn is_intolerable(&self, counts: &Counts) -> bool {
        let sent = counts.accepted + counts.skipped + counts.rejected + counts.unknown;
        let tolerated = self.definition.sync.delivery.tolerate_rejected;
        self.options.replay.is_none()
            && tolerated.is_some_and(|limit| limit.is_exceeded_by(counts.rejected, sent))
    }

    /// The unload's columns as far as they are known: of one without files nothing is, and nothing but removals comes of it.
    #[must_use]
    pub fn known_columns(&self) -> Option<&[Column]> {
        (!self.unload.files.is_empty()).then_some(self.columns.as_slice())
    }

    /// Why rows may count as changed, or be sent, although no value of theirs has changed.
    #[must_use]
    pub fn mapping_changes(&self) -> Vec<MappingChange> {
        let is_compared = match (self.definition.sync.mode, &self.diff) {
            (Mode::Append, _) | (_, DiffMode::Replay(_) | DiffMode::Baseline) => false,
            (_, DiffMode::Changes | DiffMode::Full | DiffMode::Rebuild) => true,
        };
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| is_compared) else { return Vec::new() };
        match &self.hashing {
            Some(hashing) => {
                let hashed_columns = &self.hashed_columns;
                let today =
                    mapping_change::Today { mapping_hash: self.mapping_hash, hashed_columns, hashing };
                mapping_change::since(snapshot, today)
            }
            None if snapshot.mapping_hash != self.mapping_hash => vec![MappingChange::Fields],
            None => Vec::new(),
        }
    }

    /// The key partition of a key: the first bits of its hash.
    #[must_use]
    pub fn partition_of(&self, key_hash: u128) -> u32 {
        partition_of(key_hash, self.partitions)
    }
}

/// The partition of a key among `partitions` (a power of two): the first bits of its hash.
#[must_use]
pub fn partition_of(key_hash: u128, partitions: u32) -> u32 {
    let bits = partitions.trailing_zeros();
    if bits == 0 { 0 } else { u32::try_from(key_hash >> (128 - bits)).unwrap_or(0) }
}
