//! JSON objects under a condition.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_model::decode::decode;
use penstock_model::port::{Condition, ETag, Objects, Put};
use penstock_model::{Failure, FailureName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{gone, storage_failure, unreadable};

/// Objects read at the same time.
pub(crate) const READS_AT_ONCE: usize = 16;

/// What became of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The object now holds what was written; its new version.
    Swapped(ETag),
    /// Another writer was first.
    Lost,
}

/// Reads a JSON object and its version; `None` if there is none.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if it does not hold a `T`.
pub async fn get_json<T: DeserializeOwned>(
    objects: &dyn Objects,
    key: &str,
) -> Result<Option<(T, ETag)>, Failure> {
    let Some((body, etag)) = objects.get(key).await.map_err(storage_failure)? else { return Ok(None) };
    let value = decode(&body).map_err(|cause| unreadable(key, cause))?;
    Ok(Some((value, etag)))
}

/// Reads a JSON object that has to be there.
///
/// # Errors
/// As [`get_json`]; `InvariantBroken` if there is no such object.
pub async fn require_json<T: DeserializeOwned>(objects: &dyn Objects, key: &str) -> Result<T, Failure> {
    let found = get_json(objects, key).await?;
    found.map(|(value, _)| value).ok_or_else(|| gone(key))
}

/// Reads every JSON object below a prefix, with its key and in order of keys. One that is deleted meanwhile is left out.
pub(crate) async fn read_below<T: DeserializeOwned + Send>(
    objects: &dyn Objects,
    prefix: &str,
) -> Result<Vec<(String, T)>, Failure> {
    let found = objects.list(prefix).await.map_err(storage_failure)?;
    let reads = found.into_iter().map(|object| async move {
        let read = get_json(objects, &object.key).await?;
        Ok(read.map(|(value, _)| (object.key, value)))
    });
    let read: Vec<Option<(String, T)>> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// Writes a JSON object under a condition, and says whether the condition held.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn put_json<T: Serialize + ?Sized>(
    objects: &dyn Objects,
    key: &str,
    value: &T,
    condition: Condition,
) -> Result<Put, Failure> {
    objects.put(key, to_json(key, value)?, condition).await.map_err(storage_failure)
}

/// Writes an object whose content follows from its key: one that is there already is as good.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn put_once(objects: &dyn Objects, key: &str, body: Bytes) -> Result<(), Failure> {
    match objects.put(key, body, Condition::IfAbsent).await.map_err(storage_failure)? {
        Put::Written(_) | Put::Refused => Ok(()),
    }
}

/// Replaces a JSON object under a condition. The value must be one that nobody else writes (it holds a nonce): after
/// a refusal the object is read back, since a request that was repeated on its way can refuse its own success.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn swap_json<T: Serialize + ?Sized>(
    objects: &dyn Objects,
    key: &str,
    value: &T,
    condition: Condition,
) -> Result<Swap, Failure> {
    let body = to_json(key, value)?;
    match objects.put(key, body.clone(), condition).await.map_err(storage_failure)? {
        Put::Written(etag) => Ok(Swap::Swapped(etag)),
        Put::Refused => Ok(match objects.get(key).await.map_err(storage_failure)? {
            Some((present, etag)) if present == body => Swap::Swapped(etag),
            Some(_) | None => Swap::Lost,
        }),
    }
}

fn to_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Bytes, Failure> {
    // serde's words could quote the value.
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|_| Failure::new(FailureName::InvariantBroken, format!("object {key} has no JSON form")))
}
