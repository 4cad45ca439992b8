//! What the functions have left of each chunk, from a few listings for many chunks in place of a few for each.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use penstock_model::Failure;
use penstock_model::layout::{self, RunKeys};
use penstock_model::operation::ChunkId;
use penstock_model::port::{ObjectMeta, Objects};
use xxhash_rust::xxh3::Xxh3;

use crate::failure::storage_failure;

/// What is there of one chunk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traces {
    /// Stands for every object that tells what became of the chunk, and its version; none if there is no such object. The same
    /// objects always give the same.
    pub version: Option<String>,
    /// Whether what it leaves was written.
    pub is_settled: bool,
    /// Whether dead letters were written.
    pub has_letters: bool,
}

/// The traces of the chunks whose names begin so. Chunks without any are left out.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn of_chunks(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    beginning: &str,
) -> Result<BTreeMap<ChunkId, Traces>, Failure> {
    let mut versions: BTreeMap<ChunkId, Xxh3> = BTreeMap::new();
    for (chunk, object) in below(objects, &keys.traces(), beginning).await? {
        let version = versions.entry(chunk).or_default();
        for part in [object.key.as_str(), "\0", object.etag.0.as_str(), "\0"] {
            version.update(part.as_bytes());
        }
    }
    let mut traces: BTreeMap<ChunkId, Traces> = BTreeMap::new();
    for (chunk, version) in versions {
        traces.entry(chunk).or_default().version = Some(format!("{:032x}", version.digest128()));
    }
    let (settled, letters) = (keys.all_settled(), keys.all_dead_letters());
    for (chunk, object) in below(objects, &[settled.clone(), letters], beginning).await? {
        let traces = traces.entry(chunk).or_default();
        let is_settled = object.key.starts_with(&settled);
        traces.is_settled |= is_settled;
        traces.has_letters |= !is_settled;
    }
    Ok(traces)
}

/// The traces of one chunk.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn of_chunk(objects: &dyn Objects, keys: &RunKeys<'_>, chunk: ChunkId) -> Result<Traces, Failure> {
    let mut found = of_chunks(objects, keys, &layout::chunk_name(chunk)).await?;
    Ok(found.remove(&chunk).unwrap_or_default())
}

/// The objects of chunks below these prefixes, in the prefixes' order and then that of keys.
async fn below(
    objects: &dyn Objects,
    prefixes: &[String],
    beginning: &str,
) -> Result<Vec<(ChunkId, ObjectMeta)>, Failure> {
    let lists = prefixes.iter().map(|prefix| async move {
        let found = objects.list(&format!("{prefix}{beginning}")).await.map_err(storage_failure)?;
        let of_chunk =
            |object: ObjectMeta| Some((layout::chunk_of(object.key.strip_prefix(prefix)?)?, object));
        Ok(found.into_iter().filter_map(of_chunk).collect::<Vec<_>>())
    });
    Ok(try_join_all(lists).await?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use penstock_model::port::Condition;

    use super::*;
    use crate::MemoryObjects;

    const KEYS: RunKeys<'_> = RunKeys { sync: "s", run: "r" };

    async fn put(objects: &MemoryObjects, key: &str, body: &'static str) {
        objects.put(key, Bytes::from_static(body.as_bytes()), Condition::Always).await.unwrap();
    }

    #[tokio::test]
    async fn whatever_is_added_or_replaced_makes_another_version_of_its_chunk_only() {
        let objects = MemoryObjects::new();
        put(&objects, &KEYS.attempt(7, "a"), "open").await;
        put(&objects, &KEYS.receipt(1_007, "a", 0), "1").await;
        let of = async |chunk| of_chunk(&objects, &KEYS, chunk).await.unwrap();
        let (mut before, other) = (of(7).await, of(1_007).await);
        assert!(other.version.is_some() && other.version != before.version);
        let steps = [
            (KEYS.attempt(7, "a"), "ended"),
            (KEYS.attempt(7, "b"), "open"),
            (KEYS.operations(7), "1"),
            (KEYS.intent(7, "a", 0), "[1]"),
            (KEYS.withdrawal(7, "a", 0), "[1]"),
            (KEYS.receipt(7, "a", 0), "1"),
            (KEYS.receipt(7, "a", 1), "1"),
        ];
        for (key, body) in steps {
            put(&objects, &key, body).await;
            let now = of(7).await;
            assert!(now.version.is_some() && now.version != before.version, "{key}");
            before = now;
        }
        assert_eq!(of(1_007).await, other);
        assert_eq!(of(8).await, Traces::default());
    }

    #[tokio::test]
    async fn many_are_listed_together_as_each_is_alone() {
        let objects = MemoryObjects::new();
        for chunk in [0, 7, 999, 1_000, 100_000, 1_000_000] {
            put(&objects, &KEYS.attempt(chunk, "a"), "open").await;
        }
        put(&objects, &KEYS.settled(7), "7").await;
        put(&objects, &KEYS.dead_letters(999), "").await;
        let listed =
            async |chunk| of_chunks(&objects, &KEYS, &layout::chunks_beginning(chunk)).await.unwrap();
        let together = listed(5).await;
        assert_eq!(together.keys().copied().collect::<Vec<_>>(), [0, 7, 999]);
        for (chunk, traces) in &together {
            assert_eq!(of_chunk(&objects, &KEYS, *chunk).await.unwrap(), *traces);
            assert_eq!((traces.is_settled, traces.has_letters), (*chunk == 7, *chunk == 999));
        }
        for chunk in [1_000, 100_000, 1_000_000] {
            assert!(listed(chunk).await.contains_key(&chunk), "{chunk}");
        }
    }
}
