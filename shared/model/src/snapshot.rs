//! The committed state of a sync: snapshot manifest, pointer, overlay and identities.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Key;
use crate::change::Previous;
use crate::mapping_change::Hashing;
use crate::time::Timestamp;
use crate::unload::{Column, PinnedUnload};

/// The version of the snapshot's formats.
pub const SNAPSHOT_VERSION: u32 = 1;

/// What the pointer object holds: which manifest is the committed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// Format version.
    pub version: u32,
    /// The manifest's key; none if nothing was ever committed and a takeover has only claimed the pointer.
    pub manifest: Option<String>,
    /// The run that swapped it in: the one that committed the manifest, or a later one that took over and claimed the pointer.
    pub run: String,
    /// The fence that run held.
    pub fence: u64,
    /// A random word: after a refused swap one reads back and compares it, since a repeated request can
    /// refuse its own success.
    pub nonce: String,
}

/// What the state of a sync is bound to. Pointing the sync elsewhere makes the state meaningless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The connector's name.
    pub connector: String,
    /// The account: the connection's address, without credentials.
    pub account: String,
    /// The object at the destination.
    pub object: String,
    /// The unload's primary key columns, lower case.
    pub primary_key: Vec<String>,
    /// The match fields.
    pub match_fields: Vec<String>,
}

/// One immutable partition of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionFile {
    /// Its key.
    pub key: String,
}

/// The overlay entries of one key partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayFile {
    /// Its key.
    pub key: String,
    /// Which key partition.
    pub partition: u32,
    /// Entries in it.
    pub entries: u64,
    /// Entries that the next run sends again by itself.
    pub pending: u64,
}

/// A committed snapshot. Partition `i` of `partitions` holds the keys whose hash begins with the bits of `i`;
/// the number of partitions is a power of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotManifest {
    /// Format version.
    pub version: u32,
    /// The sync.
    pub sync: String,
    /// The run that committed it.
    pub run: String,
    /// The run's [`generation`](crate::contract::RunRef::generation): where its partitions lie.
    pub generation: String,
    /// What the state is bound to.
    pub binding: Binding,
    /// The unload it came from (without its files).
    pub unload: UnloadIdentity,
    /// The primary key's columns with the types its partitions store them in.
    pub key_columns: Vec<Column>,
    /// The columns (lower case, sorted) that the row hashes cover.
    pub hashed_columns: Vec<String>,
    /// How they are made; none in a manifest of the time before that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashing: Option<Hashing>,
    /// Hash of the mapping: fields, match, mode.
    pub mapping_hash: u64,
    /// The partitions, in order.
    pub partitions: Vec<PartitionFile>,
    /// The overlay, by partition; partitions without entries have none.
    pub overlay: Vec<OverlayFile>,
    /// Identity files of an earlier version of Penstock, oldest first. All of them are older than `identity_layers`.
    pub identities: Vec<String>,
    /// Identities, oldest layer first: what a later one says of a key counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_layers: Vec<IdentityLayer>,
    /// Null counts per mapped column (lower case), for the null-flood guard.
    pub null_counts: BTreeMap<String, u64>,
    /// Rows of the unload.
    pub rows: u64,
    /// `append`: what is still to be sent of unloads begun.
    pub ledger: Vec<LedgerEntry>,
    /// When it was committed.
    pub committed_at: Timestamp,
}

/// Identities that some runs learned, ordered by key hash over its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityLayer {
    /// The files (JSON lines, zstd), in order.
    pub files: Vec<IdentityFile>,
    /// Entries in all of them; 0 if an earlier version did not say.
    pub entries: u64,
}

/// One file of identities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// Its key.
    pub key: String,
    /// The first half of the smallest key hash in it.
    pub first: u64,
    /// The first half of the largest key hash in it.
    pub last: u64,
}

impl SnapshotManifest {
    /// All layers of identities, oldest first; a file of an earlier version is one of its own.
    #[must_use]
    pub fn layers(&self) -> Vec<IdentityLayer> {
        let old = self.identities.iter().map(|key| IdentityLayer {
            files: vec![IdentityFile { key: key.clone(), first: 0, last: u64::MAX }],
            entries: 0,
        });
        old.chain(self.identity_layers.iter().cloned()).collect()
    }
}

/// Which unload a snapshot came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnloadIdentity {
    /// [`PinnedUnload::identity`].
    pub identity: String,
    /// [`PinnedUnload::prefix`].
    pub prefix: String,
    /// [`PinnedUnload::completed_at`].
    pub completed_at: Timestamp,
}

impl From<&PinnedUnload> for UnloadIdentity {
    fn from(unload: &PinnedUnload) -> Self {
        Self {
            identity: unload.identity.clone(),
            prefix: unload.prefix.clone(),
            completed_at: unload.completed_at,
        }
    }
}

/// `append`: rows of an unload that were neither accepted nor given up. Plan finishes the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// The unload.
    pub unload: PinnedUnload,
    /// How it was cut, so that places keep their meaning.
    pub splits: Vec<crate::unload::Split>,
    /// The rows to send, as ranges of rows within splits.
    pub pending: Vec<RowRange>,
}

/// Rows `from..to` of one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowRange {
    /// The split.
    pub split: u32,
    /// The first row.
    pub from: u32,
    /// The row after the last.
    pub to: u32,
}

/// Whether the next run takes an overlay entry up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Disposition {
    /// Sent again by the next run, with the newest row.
    Pending,
    /// Refused for good: sent again only when the row or the mapping has changed, or by a replay.
    Rejected,
    /// It may have been carried out and can't be repeated safely: sent again only when the row has changed, or by a replay.
    Unrepeatable,
}

/// What was intended for a key and not certainly done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Intended {
    /// To send the row with this hash.
    Send {
        /// The row's hash.
        row_hash: u64,
    },
    /// To remove the record.
    Remove,
}

/// A key for which snapshot and destination may differ. It overrules the snapshot's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayEntry {
    /// The key.
    pub key: Key,
    /// The row hash accepted last, if certain.
    pub accepted: Option<u64>,
    /// Whether the destination may hold the record although `accepted` is not known.
    pub maybe_present: bool,
    /// What was intended.
    pub intended: Intended,
    /// Who takes it up again.
    pub disposition: Disposition,
    /// The mapping under which it was intended.
    pub mapping_hash: u64,
    /// The run that intended it.
    pub run: String,
    /// The code under which it was rejected, for replay by code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The error fingerprint of its dead letter, for replay by fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl OverlayEntry {
    /// What is known of the key.
    #[must_use]
    pub fn previous(&self) -> Previous {
        Previous { accepted: self.accepted, maybe_present: self.maybe_present }
    }
}

/// What is remembered of a record at the destination.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The row's primary key.
    pub key: Key,
    /// The record's id at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether we created it; false if it was there, or if that is not known.
    pub created: bool,
    /// The match fields' values as last sent, where they can't be had from the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<serde_json::Map<String, serde_json::Value>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.key)
    }
}
