//! What the attempts at a chunk have witnessed: receipts, and intents that have none.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_model::Failure;
use penstock_model::layout::RunKeys;
use penstock_model::operation::ChunkId;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::Objects;
use serde::de::DeserializeOwned;

use crate::failure::storage_failure;
use crate::json::READS_AT_ONCE;
use crate::{attempts, lines};

/// Everything that is known of a chunk's operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Witnessed {
    /// The outcome that counts, by ordinal. What was intended and has no receipt is `Unknown`.
    pub outcomes: BTreeMap<u32, Outcome>,
    /// Attempts that sent something, or may have.
    pub attempts: u32,
}

/// What the attempts at a chunk have left, without a look at the attempts themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// As in [`Witnessed`].
    pub outcomes: BTreeMap<u32, Outcome>,
    /// The attempts that left a receipt.
    pub attempts: BTreeSet<String>,
}

/// Reads and merges everything the attempts at a chunk have witnessed.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if a receipt can't be read.
pub async fn load(objects: &dyn Objects, keys: &RunKeys<'_>, chunk: ChunkId) -> Result<Witnessed, Failure> {
    let attempts = attempts::of_chunk(objects, keys, chunk).await?.iter().filter(|it| !it.idle).count();
    let Answers { outcomes, attempts: _ } = answers(objects, keys, chunk).await?;
    Ok(Witnessed { outcomes, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) })
}

/// Reads and merges the receipts and intents of a chunk. For who has looked at its attempts already.
///
/// # Errors
/// As [`load`].
pub async fn answers(objects: &dyn Objects, keys: &RunKeys<'_>, chunk: ChunkId) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    let receipts = read_all::<ReceiptLine>(objects, &keys.receipts(chunk)).await?;
    // An intent is one array of ordinals, which makes it one line.
    let intents = read_all::<Vec<u32>>(objects, &keys.intents(chunk)).await?;
    let mut answered: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    if !intents.is_empty() {
        for (attempt, receipt) in &receipts {
            answered.entry(attempt.clone()).or_default().extend(receipt.iter().map(|line| line.n));
        }
    }
    // What an attempt took back at its end needs no answer, of itself or of those before it: their names are in the order of time.
    let mut withdrawn: BTreeMap<u32, String> = BTreeMap::new();
    if !intents.is_empty() {
        for (attempt, ordinals) in read_all::<Vec<u32>>(objects, &keys.withdrawals(chunk)).await? {
            for n in ordinals.into_iter().flatten() {
                let last = withdrawn.entry(n).or_default();
                if *last < attempt {
                    last.clone_from(&attempt);
                }
            }
        }
    }
    answers.attempts = receipts.iter().map(|(attempt, _)| attempt.clone()).collect();
    for line in receipts.into_iter().flat_map(|(_, receipt)| receipt) {
        answers.add(line.n, line.outcome);
    }
    for (attempt, intent) in intents {
        let answered = answered.get(&attempt);
        let open = intent.into_iter().flatten().filter(|n| {
            !answered.is_some_and(|answered| answered.contains(n))
                && withdrawn.get(n).is_none_or(|last| *last < attempt)
        });
        for n in open {
            answers.add(n, Outcome::Unknown { why: "the attempt ended before it could say".to_owned() });
        }
    }
    Ok(answers)
}

impl Answers {
    fn add(&mut self, n: u32, outcome: Outcome) {
        match self.outcomes.entry(n) {
            Entry::Vacant(entry) => {
                entry.insert(outcome);
            }
            Entry::Occupied(mut entry) => {
                let known = std::mem::replace(entry.get_mut(), Outcome::accepted());
                entry.insert(known.merge(outcome));
            }
        }
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
    use penstock_model::lease::Attempt;
    use penstock_model::port::Condition;

    use super::*;
    use crate::{MemoryObjects, json};

    const KEYS: RunKeys<'_> = RunKeys { sync: "s", run: "r" };

    #[tokio::test]
    async fn merges_attempts_and_counts_an_unanswered_intent_as_unknown() {
        let objects = MemoryObjects::new();
        for (attempt, deadline) in [("a", 1), ("b", 2)] {
            let attempt = KEYS.attempt(7, attempt);
            let record = Attempt { deadline: Some(Timestamp(deadline)), idle: false };
            json::put_json(&objects, &attempt, &record, Condition::Always).await.unwrap();
        }
        let intend = async |attempt, ordinals: &[u32]| {
            let key = KEYS.intent(7, attempt, 0);
            json::put_json(&objects, &key, ordinals, Condition::Always).await.unwrap();
        };
        let witness = async |chunk, attempt, n, outcome| {
            let key = KEYS.receipt(chunk, attempt, 0);
            lines::put_lines(&objects, &key, [ReceiptLine { n, outcome }], Condition::Always).await.unwrap();
        };
        intend("a", &[0, 1, 2]).await;
        witness(7, "a", 0, Outcome::rejected("x", "y")).await;
        intend("b", &[1]).await;
        witness(7, "b", 1, Outcome::accepted()).await;
        // Announced at first, found not to be carried out by the second, announced anew by the third.
        intend("a", &[0, 1, 2, 3, 4]).await;
        let taken_back = KEYS.withdrawal(7, "b", 0);
        json::put_json(&objects, &taken_back, &[3, 4], Condition::Always).await.unwrap();
        intend("c", &[4]).await;
        // Another chunk's.
        witness(70, "a", 9, Outcome::accepted()).await;

        let witnessed = load(&objects, &KEYS, 7).await.unwrap();
        assert_eq!(witnessed.attempts, 2);
        assert_eq!(witnessed.outcomes.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 4]);
        assert!(matches!(witnessed.outcomes[&4], Outcome::Unknown { .. }));
        // Answered in the attempt that intended it: the intent says nothing more.
        assert_eq!(witnessed.outcomes[&0], Outcome::rejected("x", "y"));
        assert_eq!(witnessed.outcomes[&1], Outcome::accepted());
        assert!(matches!(witnessed.outcomes[&2], Outcome::Unknown { .. }));
    }
}
