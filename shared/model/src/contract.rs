//! The functions' requests and responses: references and counts, never rows.
//!
//! Every payload carries `contract`. A function reads this version and the one before it, since a redrive may
//! follow a deployment, and answers [`FailureName::ContractMismatch`](crate::FailureName) to any other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::ChunkId;
use crate::report::RunStatus;

/// The contract version that this build writes.
pub const CONTRACT: u32 = 1;
/// The oldest contract version that this build reads.
pub const OLDEST_CONTRACT: u32 = 1;

/// A run, as every function after plan is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRef {
    /// The sync's name.
    pub sync: String,
    /// The run's id: the execution's name.
    pub run: String,
    /// The fence that the run holds.
    pub fence: u64,
}

impl RunRef {
    /// Fence and run in one word: names of generations sort as the runs took the lease.
    #[must_use]
    pub fn generation(&self) -> String {
        format!("{:010}-{}", self.fence, self.run)
    }

    /// The run's keys.
    #[must_use]
    pub fn keys(&self) -> crate::layout::RunKeys<'_> {
        crate::layout::RunKeys { sync: &self.sync, run: &self.run }
    }

    /// The sync's keys.
    #[must_use]
    pub fn sync_keys(&self) -> crate::layout::SyncKeys<'_> {
        crate::layout::SyncKeys { sync: &self.sync }
    }
}

/// Where an object lies, for the state machine's `ItemReader`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// The bucket (or the local engine's folder).
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// The execution's input: which sync, and how. Schedules, events, the CLI and people in the console write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// The sync's name.
    pub sync: String,
    /// The environment of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What is special about this run.
    #[serde(default)]
    pub options: RunOptions,
    /// What started it, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
}

/// What is special about a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// Compare and count; send nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Send every row again; removals are honoured.
    #[serde(default)]
    pub full: bool,
    /// Take over state that is bound to another account, object or key.
    #[serde(default)]
    pub adopt: bool,
    /// Guards to pass over this once.
    #[serde(default)]
    pub allow: Vec<GuardName>,
    /// Another location for the unload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unload: Option<String>,
    /// Deliver so many changes at most, and leave the others pending for the next run: what is delivered is committed as in any run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<u32>,
    /// Send dead letters again, from their newest rows, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

impl RunOptions {
    /// Whether a run with them, if it succeeds, has brought all of the destination in step.
    #[must_use]
    pub const fn are_whole(&self) -> bool {
        !self.dry_run && self.limit.is_none() && self.replay.is_none()
    }
}

/// Which dead letters are sent again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Only those of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Only those with this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Only those with this error fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Replay {
    /// Whether a rejection is meant: of this run, under this code and with this error fingerprint, where they are named.
    #[must_use]
    pub fn means(&self, run: &str, code: Option<&str>, fingerprint: Option<&str>) -> bool {
        self.run.as_deref().is_none_or(|wanted| wanted == run)
            && self.code.as_deref().is_none_or(|wanted| Some(wanted) == code)
            && self.fingerprint.as_deref().is_none_or(|wanted| Some(wanted) == fingerprint)
    }
}

/// A guard's name, as users write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardName {
    /// `guards.max_removed`.
    MaxRemoved,
    /// `guards.max_changed`.
    MaxChanged,
    /// `guards.max_null_rise`.
    MaxNullRise,
    /// The unload is older than the committed one.
    OlderUnload,
}

/// Plan's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Contract version.
    pub contract: u32,
    /// The execution's name.
    pub run: String,
    /// The execution (its ARN).
    pub execution: String,
    /// The execution's input.
    pub request: StartRequest,
}

/// What plan found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanVerdict {
    /// The unload is the committed one, and nothing is pending.
    NothingNew,
    /// The warehouse has to unload first; then ask again.
    Unload,
    /// Read and compare.
    Read,
    /// Nothing to compare: deliver.
    Deliver,
}

/// Plan's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanResponse {
    /// Contract version.
    pub contract: u32,
    /// What to do.
    pub verdict: PlanVerdict,
    /// The run.
    pub run: RunRef,
    /// The Read Map's items.
    pub splits: ObjectRef,
    /// The Diff Map's items.
    pub partitions: ObjectRef,
    /// Reads at the same time.
    pub read_concurrency: u32,
    /// Diffs at the same time.
    pub diff_concurrency: u32,
}

/// Unload's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnloadRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
}

/// How the warehouse's statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnloadStatus {
    /// It runs: ask again after `resume_after_s`.
    Running,
    /// It has finished: plan can go on.
    Finished,
}

/// Unload's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnloadResponse {
    /// Contract version.
    pub contract: u32,
    /// How the statement stands.
    pub status: UnloadStatus,
    /// Seconds to wait before the next question: 0 once it has finished, else at least 30.
    pub resume_after_s: u32,
}

/// Read's request: one item of the Read Map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
    /// The split.
    pub split: u32,
}

/// Read's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadResponse {
    /// Contract version.
    pub contract: u32,
    /// Rows fingerprinted.
    pub rows: u64,
}

/// Diff's request: one item of the Diff Map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
    /// The key partition.
    pub partition: u32,
}

/// Diff's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffResponse {
    /// Contract version.
    pub contract: u32,
    /// Changes found, removals among them.
    pub changes: u64,
}

/// Gate's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
}

/// What follows gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// There are chunks to deliver.
    Deliver,
    /// There is nothing to send.
    Finish,
}

/// Gate's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateResponse {
    /// Contract version.
    pub contract: u32,
    /// What follows.
    pub verdict: GateVerdict,
    /// The Deliver Map's items.
    pub chunks: ObjectRef,
    /// Whether gate is to be asked again once these chunks are delivered: they are the canary.
    pub more: bool,
    /// Chunks delivered at the same time.
    pub concurrency: u32,
}

/// Transform's request: one item of the Deliver Map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
    /// The chunk.
    pub chunk: ChunkId,
}

/// The most bytes of a [`Progress::cursor`].
pub const LONGEST_CURSOR: usize = 1024;

/// How far a chunk is: the answer of transform and of push, and what push is given next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Contract version.
    pub contract: u32,
    /// Whether the chunk needs another push.
    pub status: ProgressStatus,
    /// Where push was: a hint, since receipts decide; [`LONGEST_CURSOR`] bytes at most.
    pub cursor: Option<String>,
    /// Pushes so far.
    pub rounds: u32,
    /// Seconds to wait before the next push: 0, or at least 30.
    pub resume_after_s: u32,
}

/// Whether a chunk needs another push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProgressStatus {
    /// Every operation has its outcome.
    Done,
    /// There is more to send, after `resume_after_s`.
    Paused,
    /// There is more to send, but this run has tried long enough: the next run carries on.
    Unfinished,
}

/// Push's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
    /// The chunk.
    pub chunk: ChunkId,
    /// The cursor of the last answer.
    pub cursor: Option<String>,
    /// Pushes so far.
    pub rounds: u32,
}

/// Dead-letter's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
    /// The chunk.
    pub chunk: ChunkId,
    /// Why it failed for good; none if it has ended well, with rows that were rejected or without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<CaughtFailure>,
}

/// A failure as the state machine's Catch hands it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaughtFailure {
    /// The failure's name.
    #[serde(rename = "Error")]
    pub error: String,
    /// What the platform says of it.
    #[serde(default, rename = "Cause")]
    pub cause: String,
}

/// Dead-letter's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterResponse {
    /// Contract version.
    pub contract: u32,
    /// Dead letters written.
    pub dead_letters: u64,
}

/// Finish's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// Contract version.
    pub contract: u32,
    /// The run.
    pub run: RunRef,
}

/// Finish's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishResponse {
    /// Contract version.
    pub contract: u32,
    /// How the run ended.
    pub status: RunStatus,
    /// The report.
    pub report: ObjectRef,
}
