//! The attempts at a chunk: until when each may be sending, and which of them ended in good order.

use penstock_model::layout::RunKeys;
use penstock_model::lease::Attempt;
use penstock_model::operation::ChunkId;
use penstock_model::port::Objects;
use penstock_model::{Failure, Timestamp};

use crate::json::read_below;

/// One attempt, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded {
    /// Its name: names sort by the time at which attempts began.
    pub name: String,
    /// Nothing is sent after this moment. `None` once it has ended in good order.
    pub deadline: Option<Timestamp>,
    /// Whether it has ended without a single request.
    pub idle: bool,
}

impl Recorded {
    /// Until when a request of it may be under way; `None` if it has ended, or can't be sending any more.
    #[must_use]
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.deadline.filter(|deadline| *deadline > now)
    }

    /// Whether it died: its deadline has passed without a word.
    #[must_use]
    pub fn died(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// An attempt's name. `random` tells attempts apart that begin in the same millisecond.
#[must_use]
pub fn name(began: Timestamp, random: u64) -> String {
    format!("{:015}-{random:016x}", began.0)
}

/// When the attempt of this name began; `None` for a name of another make.
#[must_use]
pub fn began(name: &str) -> Option<Timestamp> {
    name.split('-').next()?.parse().ok().map(Timestamp)
}

/// The attempts at one chunk, oldest first.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn of_chunk(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
) -> Result<Vec<Recorded>, Failure> {
    below(objects, &keys.attempts(chunk)).await
}

/// The attempts at all chunks of a run.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn of_run(objects: &dyn Objects, keys: &RunKeys<'_>) -> Result<Vec<Recorded>, Failure> {
    below(objects, &keys.all_attempts()).await
}

/// The latest moment until which one of them may be sending.
#[must_use]
pub fn open_until(attempts: &[Recorded], now: Timestamp) -> Option<Timestamp> {
    attempts.iter().filter_map(|attempt| attempt.open_until(now)).max()
}

async fn below(objects: &dyn Objects, prefix: &str) -> Result<Vec<Recorded>, Failure> {
    let found = read_below::<Attempt>(objects, prefix).await?;
    let recorded = found.into_iter().filter_map(|(key, Attempt { deadline, idle })| {
        let name = key.rsplit('/').next()?.strip_suffix(".json")?.to_owned();
        Some(Recorded { name, deadline, idle })
    });
    Ok(recorded.collect())
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
        let record = async |key: String, deadline: Option<i64>| {
            let attempt = Attempt { deadline: deadline.map(Timestamp), idle: false };
            json::put_json(&objects, &key, &attempt, Condition::Always).await.unwrap();
        };
        record(keys.attempt(1, "a"), Some(500)).await;
        record(keys.attempt(2, "c"), Some(700)).await;
        record(keys.attempt(2, "b"), Some(900)).await;
        record(RunKeys { sync: "s", run: "r2" }.attempt(1, "d"), Some(9_999)).await;
        let open = async |now| open_until(&of_run(&objects, &keys).await.unwrap(), Timestamp(now));
        assert_eq!(open(0).await, Some(Timestamp(900)));
        assert_eq!(open(900).await, None);
        record(keys.attempt(2, "b"), None).await;
        assert_eq!(open(0).await, Some(Timestamp(700)));
        let chunk = of_chunk(&objects, &keys, 2).await.unwrap();
        let seen: Vec<_> = chunk.iter().map(|it| (it.name.as_str(), it.died(Timestamp(800)))).collect();
        assert_eq!(seen, [("b", false), ("c", true)]);
        assert_eq!(of_chunk(&objects, &keys, 9).await.unwrap(), []);
    }

    #[test]
    fn names_tell_when_attempts_began() {
        assert_eq!(began(&name(Timestamp(1_767_225_600_000), 7)), Some(Timestamp(1_767_225_600_000)));
        assert!(name(Timestamp(9), u64::MAX) < name(Timestamp(10), 0));
        assert_eq!(began("dead-letter-07"), None);
    }
}
