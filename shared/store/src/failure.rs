use penstock_model::decode::Undecodable;
use penstock_model::port::ObjectError;
use penstock_model::{Failure, FailureName};

/// Names what an object store said of Penstock's own objects.
///
/// An unreachable store is `StorageUnavailable`. An object that vanished or changed after it was written for
/// good is `InvariantBroken`: asking again would not bring it back. (What this means for a user's unload is for
/// the reader of unloads to say.)
#[must_use]
pub fn storage_failure(error: ObjectError) -> Failure {
    let message = error.to_string();
    match error {
        ObjectError::Missing { .. } | ObjectError::Changed { .. } => {
            Failure::new(FailureName::InvariantBroken, message)
        }
        ObjectError::Unavailable { source, .. } => {
            Failure::because(FailureName::StorageUnavailable, message, source)
        }
    }
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
