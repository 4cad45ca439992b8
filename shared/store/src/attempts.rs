//! The deadlines after which an attempt at a chunk sends nothing any more.

use penstock_model::layout::RunKeys;
use penstock_model::lease::Attempt;
use penstock_model::operation::ChunkId;
use penstock_model::port::Objects;
use penstock_model::{Failure, Timestamp};

use crate::json::read_below;

/// What a run's attempts say of when they stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// Attempts that began, at all chunks.
    pub attempts: usize,
    /// The latest deadline of those that have not ended in good order: until then a request may be under way.
    pub latest_open: Option<Timestamp>,
}

/// The deadlines of all attempts of a run.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn deadlines(objects: &dyn Objects, keys: &RunKeys<'_>) -> Result<Deadlines, Failure> {
    below(objects, &keys.all_attempts()).await
}

/// The latest open deadline of the attempts at one chunk; `None` if all have ended in good order.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn chunk_deadline(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
) -> Result<Option<Timestamp>, Failure> {
    Ok(below(objects, &keys.attempts(chunk)).await?.latest_open)
}

async fn below(objects: &dyn Objects, prefix: &str) -> Result<Deadlines, Failure> {
    let found = read_below::<Attempt>(objects, prefix).await?;
    let latest_open = found.iter().filter_map(|attempt| attempt.deadline).max();
    Ok(Deadlines { attempts: found.len(), latest_open })
}

#[cfg(test)]
mod tests {
    use penstock_model::port::Condition;

    use super::*;
    use crate::{MemoryObjects, json};

    #[tokio::test]
    async fn the_latest_open_deadline_counts() {
        let objects = MemoryObjects::new();
        let keys = RunKeys { sync: "s", run: "r" };
        assert_eq!(deadlines(&objects, &keys).await.unwrap(), Deadlines::default());
        let record = async |key: String, deadline: Option<i64>| {
            let attempt = Attempt { deadline: deadline.map(Timestamp) };
            json::put_json(&objects, &key, &attempt, Condition::Always).await.unwrap();
        };
        record(keys.attempt(1, "a"), Some(500)).await;
        record(keys.attempt(2, "b"), Some(900)).await;
        record(keys.attempt(2, "c"), Some(700)).await;
        record(RunKeys { sync: "s", run: "r2" }.attempt(1, "d"), Some(9_999)).await;
        let all = deadlines(&objects, &keys).await.unwrap();
        assert_eq!(all, Deadlines { attempts: 3, latest_open: Some(Timestamp(900)) });
        record(keys.attempt(2, "b"), None).await;
        let all = deadlines(&objects, &keys).await.unwrap();
        assert_eq!(all, Deadlines { attempts: 3, latest_open: Some(Timestamp(700)) });
        assert_eq!(chunk_deadline(&objects, &keys, 1).await.unwrap(), Some(Timestamp(500)));
        assert_eq!(chunk_deadline(&objects, &keys, 9).await.unwrap(), None);
    }
}
