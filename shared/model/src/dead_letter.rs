//! Rejected records, kept for people and for replay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::complaint::fingerprint;
use crate::json::Json;
use crate::operation::{Asks, OperationKind};

/// Where a row was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its key is null or not unique.
    Diff,
    /// It could not be mapped.
    Transform,
    /// The destination refused it, or its answer was lost for good.
    Push,
}

/// One dead letter: a line of `dead-letters/SYNC/RUN/CHUNK.jsonl`. Its Debug form shows the code only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// Format version.
    pub version: u32,
    /// The run.
    pub run: String,
    /// The chunk.
    pub chunk: u32,
    /// The ordinal within the chunk.
    pub n: u32,
    /// The primary key's columns and values.
    pub key: Json,
    /// What was to be done; none if the row never became an operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationKind>,
    /// The fields as they were to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Json>,
    /// The fields that depend on what the destination holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// Where it was rejected.
    pub stage: Stage,
    /// The code.
    pub code: String,
    /// The words.
    pub message: String,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it complains of, whatever the values: the [error fingerprint](crate::complaint::fingerprint). Builds before
    /// it left it out; [`DeadLetter::fingerprint`] is the same for both.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// How many attempts at the chunk there were.
    pub attempts: u32,
}

impl DeadLetter {
    /// The error fingerprint, also of a letter that was written without it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        if self.fingerprint.is_empty() {
            fingerprint(self.stage, &self.code, self.field.as_deref(), &self.message)
        } else {
            self.fingerprint.clone()
        }
    }
}

impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeadLetter({})", self.code)
    }
}
