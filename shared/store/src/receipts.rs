//! What the attempts at a chunk have witnessed: receipts, and intents that have none.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_model::layout::RunKeys;
use penstock_model::operation::ChunkId;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Condition, Objects, Put};
use penstock_model::{Failure, FailureName};
use serde::de::DeserializeOwned;

use crate::failure::storage_failure;
use crate::lines;

/// Objects read at the same time.
pub(crate) const READS_AT_ONCE: usize = 16;

/// Everything that is known of a chunk's operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Witnessed {
    /// The outcome that counts, by ordinal. What was intended and has no receipt is `Unknown`.
    pub outcomes: BTreeMap<u32, Outcome>,
    /// Attempts that began.
    pub attempts: u32,
}

/// Writes one receipt. The attempt is in its key, and an attempt counts its receipts, so that none is there yet;
/// one that is there is this same request, repeated on its way.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` if the attempt has used the number for another receipt.
pub async fn write(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
    attempt: &str,
    sequence: u32,
    outcomes: &[ReceiptLine],
) -> Result<(), Failure> {
    let key = keys.receipt(chunk, attempt, sequence);
    put_new(objects, &key, lines::encode_lines(&key, outcomes)?).await
}

/// Writes one intent: the ordinals that are about to be sent and can't be sent twice.
///
/// # Errors
/// As [`write`].
pub async fn write_intent(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
    attempt: &str,
    sequence: u32,
    ordinals: &[u32],
) -> Result<(), Failure> {
    let key = keys.intent(chunk, attempt, sequence);
    let body = serde_json::to_vec(ordinals).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "an intent has no JSON form", error)
    })?;
    put_new(objects, &key, body.into()).await
}

/// Writes what was witnessed, and never over something else.
async fn put_new(objects: &dyn Objects, key: &str, body: bytes::Bytes) -> Result<(), Failure> {
    match objects.put(key, body.clone(), Condition::IfAbsent).await.map_err(storage_failure)? {
        Put::Written(_) => Ok(()),
        Put::Refused => match objects.get(key).await.map_err(storage_failure)? {
            Some((present, _)) if present == body => Ok(()),
            Some(_) | None => Err(Failure::new(
                FailureName::InvariantBroken,
                format!("object {key} was to be new, and holds something else"),
            )),
        },
    }
}

/// Reads and merges everything the attempts at a chunk have witnessed.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if a receipt can't be read.
pub async fn load(objects: &dyn Objects, keys: &RunKeys<'_>, chunk: ChunkId) -> Result<Witnessed, Failure> {
    let attempts = objects.list(&keys.attempts(chunk)).await.map_err(storage_failure)?.len();
    let mut witnessed =
        Witnessed { attempts: u32::try_from(attempts).unwrap_or(u32::MAX), ..Witnessed::default() };
    let mut answered: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for (attempt, receipt) in read_all::<ReceiptLine>(objects, &keys.receipts(chunk)).await? {
        for line in receipt {
            answered.entry(attempt.clone()).or_default().insert(line.n);
            witnessed.add(line.n, line.outcome);
        }
    }
    // An intent is one array of ordinals, which makes it one line.
    for (attempt, intent) in read_all::<Vec<u32>>(objects, &keys.intents(chunk)).await? {
        let answered = answered.get(&attempt);
        let open =
            intent.into_iter().flatten().filter(|n| !answered.is_some_and(|answered| answered.contains(n)));
        for n in open {
            witnessed.add(n, Outcome::Unknown { why: "the attempt ended before it could say".to_owned() });
        }
    }
    Ok(witnessed)
}

impl Witnessed {
    fn add(&mut self, n: u32, outcome: Outcome) {
        let merged = match self.outcomes.remove(&n) {
            Some(known) => known.merge(outcome),
            None => outcome,
        };
        self.outcomes.insert(n, merged);
    }
}

/// All objects below `ATTEMPT/` of this prefix, in order of keys, each with its attempt.
async fn read_all<T: DeserializeOwned>(
    objects: &dyn Objects,
    prefix: &str,
) -> Result<Vec<(String, Vec<T>)>, Failure> {
    let found = objects.list(prefix).await.map_err(storage_failure)?;
    stream::iter(found)
        .map(|object| async move {
            let read = lines::read_lines(objects, &object.key).await?;
            Ok((attempt_of(prefix, &object.key), read.unwrap_or_default()))
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await
}

fn attempt_of(prefix: &str, key: &str) -> String {
    let rest = key.strip_prefix(prefix).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use penstock_model::Timestamp;

    use super::*;
    use crate::{MemoryObjects, attempts};

    const KEYS: RunKeys<'_> = RunKeys { sync: "s", run: "r" };

    fn line(n: u32, outcome: Outcome) -> ReceiptLine {
        ReceiptLine { n, outcome }
    }

    #[tokio::test]
    async fn merges_attempts_and_counts_an_unanswered_intent_as_unknown() {
        let objects = MemoryObjects::new();
        attempts::begin(&objects, &KEYS, 7, "a", Timestamp(1)).await.unwrap();
        attempts::begin(&objects, &KEYS, 7, "b", Timestamp(2)).await.unwrap();
        write_intent(&objects, &KEYS, 7, "a", 0, &[0, 1, 2]).await.unwrap();
        write(&objects, &KEYS, 7, "a", 0, &[line(0, Outcome::rejected("x", "y"))]).await.unwrap();
        write_intent(&objects, &KEYS, 7, "b", 0, &[1]).await.unwrap();
        write(&objects, &KEYS, 7, "b", 0, &[line(1, Outcome::accepted())]).await.unwrap();
        // Another chunk's.
        write(&objects, &KEYS, 70, "a", 0, &[line(9, Outcome::accepted())]).await.unwrap();

        let witnessed = load(&objects, &KEYS, 7).await.unwrap();
        assert_eq!(witnessed.attempts, 2);
        assert_eq!(witnessed.outcomes.len(), 3);
        // Answered in the attempt that intended it: the intent says nothing more.
        assert_eq!(witnessed.outcomes[&0], Outcome::rejected("x", "y"));
        assert_eq!(witnessed.outcomes[&1], Outcome::accepted());
        assert!(matches!(witnessed.outcomes[&2], Outcome::Unknown { .. }));
    }

    #[tokio::test]
    async fn a_receipt_is_never_overwritten() {
        let objects = MemoryObjects::new();
        let accepted = [line(0, Outcome::accepted())];
        write(&objects, &KEYS, 1, "a", 0, &accepted).await.unwrap();
        write(&objects, &KEYS, 1, "a", 0, &accepted).await.unwrap();
        let other = write(&objects, &KEYS, 1, "a", 0, &[line(0, Outcome::rejected("x", "y"))]).await;
        assert_eq!(other.unwrap_err().name, FailureName::InvariantBroken);
        assert_eq!(load(&objects, &KEYS, 1).await.unwrap().outcomes[&0], Outcome::accepted());
    }
}
