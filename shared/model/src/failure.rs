//! The closed list of ways a function can fail, and how the state machine handles each.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the state machine answers a failure name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Retried with backoff and jitter; then the run fails and can be redriven.
    Retry,
    /// Caught for the one chunk: its rows become dead letters, the run goes on.
    DeadLetterChunk,
    /// The run fails at once; mend the cause, then redrive.
    Abort,
    /// The run fails before anything was sent; mend the definition or the unload, then start a new run.
    AbortBeforeSending,
    /// Retried at a slow, steady pace until the other run ends.
    WaitForOtherRun,
    /// The run ends: a later one carries its work on.
    Stop,
    /// Everything was delivered and committed; the run is marked failed so that somebody looks.
    FailAfterCommit,
}

macro_rules! failure_names {
    ($($(#[$doc:meta])* $name:ident => $handling:ident,)*) => {
        /// A failure's name: the Lambda `errorType`, and the `ErrorEquals` of the state machine.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum FailureName { $($(#[$doc])* $name,)* }

        impl FailureName {
            /// Every name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as it stands in the state machine.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// How the state machine handles it.
            #[must_use]
            pub const fn handling(self) -> Handling {
                match self { $(Self::$name => Handling::$handling,)* }
            }
        }
    };
}

failure_names! {
    /// Objects could not be read or written.
    StorageUnavailable => Retry,
    /// A secret could not be fetched.
    SecretsUnavailable => Retry,
    /// A permission is missing: for objects, a secret, a key or an execution.
    AccessDenied => Abort,
    /// The destination does not answer, or answers with server errors only.
    DestinationUnavailable => Retry,
    /// A chunk's rows or operations can't be read.
    ChunkUnreadable => DeadLetterChunk,
    /// The destination refuses a chunk in a way that names no row.
    DestinationRefused => DeadLetterChunk,
    /// Whatever pushes the chunk dies over it, time and again.
    ChunkPoisoned => DeadLetterChunk,
    /// Penstock contradicts itself: a defect.
    InvariantBroken => DeadLetterChunk,
    /// More chunks than a few have failed for good: the cause is not in their rows.
    TooManyChunksFailed => Abort,
    /// The destination refuses the credential, also a fresh one.
    DestinationUnauthorized => Abort,
    /// The destination's quota is used up for longer than a run waits.
    DestinationQuotaExhausted => Abort,
    /// The sync, unload or connection definition is wrong.
    SyncInvalid => AbortBeforeSending,
    /// A field's mapping is wrong, or names a column that the unload lacks.
    MappingInvalid => AbortBeforeSending,
    /// There is no complete unload.
    UnloadMissing => AbortBeforeSending,
    /// The unload's files disagree on a column, or with what was unloaded before.
    UnloadSchemaMismatch => AbortBeforeSending,
    /// A file of the unload is damaged, or is not what its manifest says.
    UnloadCorrupt => AbortBeforeSending,
    /// The warehouse's statement was refused, failed or was stopped.
    UnloadFailed => Abort,
    /// A limit of the sync was exceeded.
    GuardTripped => AbortBeforeSending,
    /// A payload is of a version that this function does not know.
    ContractMismatch => AbortBeforeSending,
    /// Another run of this sync is under way, or may still be sending.
    RunInProgress => WaitForOtherRun,
    /// This run was folded into a later one.
    Superseded => Stop,
    /// More rows were rejected than the sync tolerates; what was accepted is committed.
    RejectedTooMany => FailAfterCommit,
}

impl fmt::Display for FailureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most bytes of a failure's message with all its causes. It travels in the state machine's payloads, as JSON in JSON.
pub const LONGEST_MESSAGE: usize = 8 * 1024;
/// What stands where a message was cut off.
const CUT: &str = " …";

/// A named failure: what failed and what to do. Never holds a row value, a credential or a response body.
#[derive(Debug)]
pub struct Failure {
    /// The name the state machine acts on.
    pub name: FailureName,
    /// What failed, where, and what to do about it.
    pub message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without a further cause.
    pub fn new(name: FailureName, message: impl Into<String>) -> Self {
        Self { name, message: message.into(), source: None }
    }

    /// A failure with the error that caused it.
    pub fn because(
        name: FailureName,
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { name, message: message.into(), source: Some(source.into()) }
    }

    /// The message and all its causes in one line, for a report: [`LONGEST_MESSAGE`] bytes at most, the end cut off.
    #[must_use]
    pub fn full_message(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        if text.len() > LONGEST_MESSAGE {
            text.truncate(text.floor_char_boundary(LONGEST_MESSAGE - CUT.len()));
            text.push_str(CUT);
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|error| error as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_of_every_cause_and_is_cut_where_it_grows_too_long() {
        let failure = |message: &str, cause: &str| {
            Failure::because(FailureName::InvariantBroken, message, cause.to_owned()).full_message()
        };
        assert_eq!(failure("it broke", "why"), "it broke: why");
        // Two bytes each: the cut must not fall inside one.
        let long = failure("it broke", &"é".repeat(LONGEST_MESSAGE));
        assert!(long.len() <= LONGEST_MESSAGE && long.len() > LONGEST_MESSAGE - 4, "{}", long.len());
        assert!(long.starts_with("it broke: éé") && long.ends_with("é …"), "{}", &long[..20]);
    }
}
