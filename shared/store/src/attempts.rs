//! The deadlines after which an attempt at a chunk sends nothing any more.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_model::layout::RunKeys;
use penstock_model::lease::Attempt;
use penstock_model::operation::ChunkId;
use penstock_model::port::{Condition, Objects};
use penstock_model::{Failure, Timestamp};

use crate::failure::storage_failure;
use crate::json;
use crate::receipts::READS_AT_ONCE;

/// Records that an attempt begins and sends nothing after `deadline`. To be written before its first request.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn begin(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
    attempt: &str,
    deadline: Timestamp,
) -> Result<(), Failure> {
    record(objects, &keys.attempt(chunk, attempt), Some(deadline)).await
}

/// Records that an attempt has ended in good order: nobody needs to wait for its deadline.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn end(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
    attempt: &str,
) -> Result<(), Failure> {
    record(objects, &keys.attempt(chunk, attempt), None).await
}

async fn record(objects: &dyn Objects, key: &str, deadline: Option<Timestamp>) -> Result<(), Failure> {
    json::put_json(objects, key, &Attempt { deadline }, Condition::Always).await.map(drop)
}

/// The latest deadline of a run's attempts that have not ended in good order; `None` if all have. Until it has
/// passed, the run may still be sending.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn deadlines(objects: &dyn Objects, keys: &RunKeys<'_>) -> Result<Option<Timestamp>, Failure> {
    latest(objects, &keys.all_attempts()).await
}

/// As [`deadlines`], for the attempts at one chunk.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn chunk_deadlines(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
) -> Result<Option<Timestamp>, Failure> {
    latest(objects, &keys.attempts(chunk)).await
}

async fn latest(objects: &dyn Objects, prefix: &str) -> Result<Option<Timestamp>, Failure> {
    let found = objects.list(prefix).await.map_err(storage_failure)?;
    stream::iter(found)
        .map(|object| async move {
            let read = json::get_json::<Attempt>(objects, &object.key).await?;
            Ok(read.and_then(|(attempt, _)| attempt.deadline))
        })
        .buffered(READS_AT_ONCE)
        .try_fold(None, |latest: Option<Timestamp>, deadline| async move { Ok(latest.max(deadline)) })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryObjects;

    #[tokio::test]
    async fn the_latest_open_deadline_counts() {
        let objects = MemoryObjects::new();
        let keys = RunKeys { sync: "s", run: "r" };
        assert_eq!(deadlines(&objects, &keys).await.unwrap(), None);
        begin(&objects, &keys, 1, "a", Timestamp(500)).await.unwrap();
        begin(&objects, &keys, 2, "b", Timestamp(900)).await.unwrap();
        begin(&objects, &keys, 2, "c", Timestamp(700)).await.unwrap();
        begin(&objects, &RunKeys { sync: "s", run: "r2" }, 1, "d", Timestamp(9_999)).await.unwrap();
        assert_eq!(deadlines(&objects, &keys).await.unwrap(), Some(Timestamp(900)));
        end(&objects, &keys, 2, "b").await.unwrap();
        assert_eq!(deadlines(&objects, &keys).await.unwrap(), Some(Timestamp(700)));
        assert_eq!(chunk_deadlines(&objects, &keys, 1).await.unwrap(), Some(Timestamp(500)));
    }
}
