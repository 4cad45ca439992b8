//! What to do for one key at the destination.

use crate::dead_letter::Stage;
use crate::json::Json;
use crate::layout::CHUNKS_TOGETHER;
use crate::outcome::SkipReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A chunk's number within its run.
pub type ChunkId = u32;

/// What is asked of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Create the record or update it.
    Upsert,
    /// Create it; a record that exists is left alone.
    Create,
    /// Update it; a missing record is left missing.
    Update,
    /// Delete it.
    Delete,
    /// Archive it.
    Archive,
    /// Empty some fields of an existing record.
    Clear,
    /// Add a record, without looking for one.
    Append,
}

impl OperationKind {
    /// Its name, as definitions and objects have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Archive => "archive",
            Self::Clear => "clear",
            Self::Append => "append",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let kinds = [
            Self::Upsert,
            Self::Create,
            Self::Update,
            Self::Delete,
            Self::Archive,
            Self::Clear,
            Self::Append,
        ];
        kinds.into_iter().find(|kind| kind.name() == name)
    }
}

/// One operation. Its Debug form shows kind and ordinal only.
#[derive(Clone)]
pub struct Operation {
    /// The ordinal of its change within the chunk.
    pub n: u32,
    /// What to do.
    pub kind: OperationKind,
    /// The primary key's columns and values, for people (dead letters).
    pub key: Json,
    /// The match fields and their values, as a JSON object in the destination's spelling.
    pub matched: Json,
    /// The record's id at the destination, where it is remembered and the operation needs it.
    pub id: Option<String>,
    /// The fields to write, without the match fields, as a JSON object ready to be sent.
    pub fields: Json,
    /// What has to be asked at the destination before the rest can be written; nothing in most syncs.
    pub asks: Option<Box<Asks>>,
}

/// Fields that depend on what the destination holds, beside those that don't. What a field's name stands for is the sync's
/// to say: see [`Sync::lookups`](crate::definition::Sync::lookups).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asks {
    /// The fields to write only if they are empty there, as a JSON object: names and values, spelt as in `fields`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_empty: Option<Json>,
    /// The fields that refer to other records, as a JSON object: names, and the keys by which those records are found. A
    /// null, or an empty text where values are texts, empties the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookups: Option<Json>,
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asks")
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operation({} {:?})", self.n, self.kind)
    }
}

/// A row that could not be mapped, or that must not be sent.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedRecord {
    /// The ordinal of its change within the chunk.
    pub n: u32,
    /// The primary key's columns and values.
    pub key: Json,
    /// Where it was rejected.
    pub stage: Stage,
    /// A short code, such as `duplicate_key`.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl std::fmt::Debug for RejectedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RejectedRecord({} {})", self.n, self.code)
    }
}

/// A row that nothing is to be done about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedRow {
    /// The ordinal of its change within the chunk.
    pub n: u32,
    /// Why.
    pub why: SkipReason,
}

/// What `transform` made of one change.
#[derive(Debug, Clone)]
pub enum Transformed {
    /// To be sent.
    Operation(Operation),
    /// Rejected before sending.
    Rejected(RejectedRecord),
    /// Nothing to do.
    Skipped(SkippedRow),
}

/// A range of places of a changeset that one transform and one push take. `from` is included, `to` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ChunkRange {
    /// Rows to send (and rows to reject), ordered by place, over all key partitions.
    Rows {
        /// The first place.
        from: crate::change::Place,
        /// The place after the last.
        to: crate::change::Place,
    },
    /// Removals of one key partition, by their number in it.
    Removals {
        /// The key partition.
        partition: u32,
        /// The first removal.
        from: u32,
        /// The one after the last.
        to: u32,
    },
    /// `append`: all rows of a range, without a diff. The index names the ledger entry of the run plan.
    Append {
        /// Index into the run plan's append work.
        entry: u32,
        /// The rows.
        rows: crate::snapshot::RowRange,
    },
}

/// A chunk as gate lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Its number.
    pub chunk: ChunkId,
    /// What it takes.
    pub range: ChunkRange,
    /// How many changes it holds: ordinals go from 0 up to here.
    pub changes: u32,
}

impl Chunk {
    /// Chunks, in their order, in parts that are looked at together: those of a part have a beginning of their names in common.
    pub fn together(chunks: &[Self]) -> impl Iterator<Item = &[Self]> {
        chunks.chunk_by(|a, b| a.chunk / CHUNKS_TOGETHER == b.chunk / CHUNKS_TOGETHER)
    }
}
