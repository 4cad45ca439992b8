//! Jobs at the destination that may not have ended: an object for each, whose key says for whom it works. It holds which of the chunk's
//! operations the job has that can't be sent twice.
//!
//! They outlive their run. A job that a dead run has left may still write rows that are older than those of the next: whoever sends
//! next sees to it that it has ended.

use penstock_model::contract::RunRef;
use penstock_model::operation::ChunkId;
use penstock_model::port::{Condition, Objects};
use penstock_model::{Failure, FailureName};
use serde::{Deserialize, Serialize};

use crate::{json, storage_failure};

/// A job, and for whom it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its id at the destination.
    pub job: String,
    /// The run that made it.
    pub run: String,
    /// The chunk whose rows it has.
    pub chunk: ChunkId,
}

/// What a note holds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Ordinals, in stretches: the first and the last of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    once: Vec<(u32, u32)>,
}

/// Notes a job; durable when it returns. `once` are the ordinals of its operations that can't be sent twice, in their order.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` for an id that can't be a part of a key.
pub async fn note(
    objects: &dyn Objects,
    run: &RunRef,
    chunk: ChunkId,
    job: &str,
    once: &[u32],
) -> Result<(), Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if job.is_empty() || !job.bytes().all(is_plain) {
        return Err(Failure::new(
            FailureName::InvariantBroken,
            "a job's id has other than letters and digits",
        ));
    }
    let key = run.sync_keys().job(&run.run, chunk, job);
    let mut note = Note::default();
    for n in once.iter().copied() {
        match note.once.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(n) => *last = n,
            Some(_) | None => note.once.push((n, n)),
        }
    }
    json::put_json(objects, &key, &note, Condition::Always).await?;
    Ok(())
}

/// The ordinals of a job's operations that can't be sent twice, as it was noted.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` if the note can't be read.
pub async fn once(objects: &dyn Objects, sync: &RunRef, noted: &Noted) -> Result<Vec<u32>, Failure> {
    let key = sync.sync_keys().job(&noted.run, noted.chunk, &noted.job);
    let note = json::get_json::<Note>(objects, &key).await?.map(|(note, _)| note).unwrap_or_default();
    Ok(note.once.into_iter().flat_map(|(first, last)| first..=last).collect())
}

/// Forgets a job. One that is not noted is none to forget.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn forget(objects: &dyn Objects, sync: &RunRef, noted: &Noted) -> Result<(), Failure> {
    let key = sync.sync_keys().job(&noted.run, noted.chunk, &noted.job);
    objects.delete(&key).await.map_err(storage_failure)
}

/// The sync's jobs that are not forgotten, in the order of their runs.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn noted(objects: &dyn Objects, run: &RunRef) -> Result<Vec<Noted>, Failure> {
    let prefix = run.sync_keys().jobs();
    let listed = objects.list(&prefix).await.map_err(storage_failure)?;
    Ok(listed.iter().filter_map(|object| read(object.key.strip_prefix(&prefix)?)).collect())
}

/// `RUN/CHUNK/JOB.json`.
fn read(name: &str) -> Option<Noted> {
    let mut parts = name.strip_suffix(".json")?.split('/');
    let (run, chunk, job) = (parts.next()?, parts.next()?, parts.next()?);
    let noted = Noted { job: job.to_owned(), run: run.to_owned(), chunk: chunk.parse().ok()? };
    parts.next().is_none().then_some(noted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryObjects;

    #[tokio::test]
    async fn jobs_are_noted_until_they_are_forgotten() {
        let objects = MemoryObjects::new();
        let run = |run: &str| RunRef { sync: "people".into(), run: run.into(), fence: 1 };
        note(&objects, &run("r1"), 7, "7505fEAAQ", &[]).await.unwrap();
        note(&objects, &run("r2"), 0, "7506", &[0, 1, 2, 5, 7, 8]).await.unwrap();
        assert!(note(&objects, &run("r2"), 0, "../../lease", &[]).await.is_err());
        let found = noted(&objects, &run("r2")).await.unwrap();
        let first = Noted { job: "7505fEAAQ".into(), run: "r1".into(), chunk: 7 };
        assert_eq!(found[0], first);
        assert_eq!(found.len(), 2);
        assert_eq!(once(&objects, &run("r2"), &found[1]).await.unwrap(), [0, 1, 2, 5, 7, 8]);
        assert_eq!(once(&objects, &run("r2"), &first).await.unwrap(), Vec::<u32>::new());
        for _ in 0..2 {
            forget(&objects, &run("r2"), &first).await.unwrap();
        }
        assert_eq!(noted(&objects, &run("r3")).await.unwrap(), found[1..]);
    }
}
