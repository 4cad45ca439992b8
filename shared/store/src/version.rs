//! Versions of objects' content, and checks on keys that every store makes alike.

use penstock_model::port::{ETag, ObjectError};
use xxhash_rust::xxh3::xxh3_128;

/// 128 bits of hash (XXH3) as 32 hexadecimal digits. Not for secrets: it can be forged.
#[must_use]
pub fn fingerprint_of(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// The version of content that was read whole.
pub(crate) fn of_content(body: &[u8]) -> ETag {
    ETag(fingerprint_of(body))
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
#[error("a key is made of names between single slashes, none of them `.` or `..`")]
struct BadKey;

/// Refuses keys that would leave a folder, or that S3 clients and folders read differently.
pub(crate) fn check_key(key: &str, action: &'static str) -> Result<(), ObjectError> {
    let is_name = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if key.split('/').all(is_name) {
        Ok(())
    } else {
        Err(ObjectError::Unavailable { key: key.to_owned(), action, source: Box::new(BadKey) })
    }
}
