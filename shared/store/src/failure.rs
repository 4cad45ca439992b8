use penstock_model::decode::Undecodable;
use penstock_model::port::{ExecutionsUnavailable, ObjectError};
use penstock_model::{Failure, FailureName};

/// Names what an object store said of Penstock's own objects.
///
/// An unreachable store is `StorageUnavailable`, a permission that is missing `AccessDenied`. An object that vanished or changed after it was written for
/// good is `InvariantBroken`: asking again would not bring it back. (What this means for a user's unload is for
/// the reader of unloads to say.)
#[must_use]
pub fn storage_failure(error: ObjectError) -> Failure {
    let (name, message) = (error.name(), error.to_string());
    match error {
        ObjectError::Missing { .. } | ObjectError::Changed { .. } => {
            Failure::new(FailureName::InvariantBroken, message)
        }
        ObjectError::Denied { source, .. } | ObjectError::Unavailable { source, .. } => {
            Failure::because(name, message, source)
        }
    }
}

/// Names what the platform said of executions; the message says what for it was asked.
#[must_use]
pub fn executions_failure(message: impl Into<String>, error: ExecutionsUnavailable) -> Failure {
    Failure::because(error.name(), message, error)
}

/// An object that this version can't read.
pub(crate) fn unreadable(key: &str, cause: Undecodable) -> Failure {
    Failure::because(
        FailureName::ContractMismatch,
        format!("object {key} is not what this version can read"),
        cause,
    )
}

/// An object that has to be there.
pub(crate) fn gone(key: &str) -> Failure {
    Failure::new(FailureName::InvariantBroken, format!("object {key} is gone, or was never written"))
}
