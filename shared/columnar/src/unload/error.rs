use std::error::Error;

use parquet::errors::ParquetError;
use penstock_model::port::ObjectError;
use penstock_model::{Failure, FailureName};

/// Why an unload can't be used. Names files and columns, never a value of a row.
#[derive(Debug, thiserror::Error)]
pub enum UnloadError {
    /// The location, or the zone of its timestamps, is not written as it should be.
    #[error("{message}")]
    Definition {
        /// What is wrong with it.
        message: String,
    },
    /// There is no complete unload.
    #[error("{message}")]
    Missing {
        /// What was looked for, and where.
        message: String,
    },
    /// A file is damaged, or is not what its manifest says, or has changed since it was pinned.
    #[error("file {file} of the unload can't be used: {why}")]
    Corrupt {
        /// The file's key.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Files of the unload disagree on a column, or have a column that can't be read.
    #[error("{message}")]
    SchemaMismatch {
        /// The column, and the files that disagree.
        message: String,
    },
    /// The store could not be reached, or may not be read.
    #[error("the unload could not be read")]
    Storage(#[source] ObjectError),
}

impl UnloadError {
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::Missing { message: message.into() }
    }

    pub(crate) fn corrupt(file: &str, why: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), why: why.into() }
    }

    pub(crate) fn mismatch(message: impl Into<String>) -> Self {
        Self::SchemaMismatch { message: message.into() }
    }

    /// What a failed read of a pinned file means: one that is gone or has changed is corrupt, since trying
    /// again can't bring it back.
    pub(crate) fn pinned(file: &str, error: ObjectError) -> Self {
        match error {
            ObjectError::Missing { .. } => Self::corrupt(file, "it is gone since it was listed"),
            ObjectError::Changed { .. } => Self::corrupt(file, "it has changed since it was listed"),
            ObjectError::Denied { .. } | ObjectError::Unavailable { .. } => Self::Storage(error),
        }
    }

    /// A decoder's complaint. Complaints about conversions are cut short: those may quote a value.
    pub(crate) fn decoding(file: &str, error: &ParquetError) -> Self {
        let why = if let ParquetError::General(why) | ParquetError::EOF(why) | ParquetError::NYI(why) = error
        {
            why.clone()
        } else {
            "its values are not of the types that its footer states".to_owned()
        };
        Self::corrupt(file, why)
    }

    /// What the state machine is told.
    #[must_use]
    pub const fn name(&self) -> FailureName {
        match self {
            Self::Definition { .. } => FailureName::SyncInvalid,
            Self::Missing { .. } => FailureName::UnloadMissing,
            Self::Corrupt { .. } => FailureName::UnloadCorrupt,
            Self::SchemaMismatch { .. } => FailureName::UnloadSchemaMismatch,
            Self::Storage(error) => error.name(),
        }
    }
}

impl From<UnloadError> for Failure {
    fn from(error: UnloadError) -> Self {
        let (name, message) = (error.name(), error.to_string());
        match error {
            UnloadError::Storage(source) => {
                let source: Box<dyn Error + Send + Sync> = Box::new(source);
                Self::because(name, message, source)
            }
            UnloadError::Definition { .. }
            | UnloadError::Missing { .. }
            | UnloadError::Corrupt { .. }
            | UnloadError::SchemaMismatch { .. } => Self::new(name, message),
        }
    }
}
