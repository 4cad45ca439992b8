//! Jobs at the destination that may not have ended: an object for each, whose key says all there is to say.
//!
//! They outlive their run. A job that a dead run has left may still write rows that are older than those of the next: whoever sends
//! next sees to it that it has ended.

use bytes::Bytes;
use penstock_model::contract::RunRef;
use penstock_model::operation::ChunkId;
use penstock_model::port::{Condition, Objects};
use penstock_model::{Failure, FailureName};

use crate::storage_failure;

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

/// Notes a job; durable when it returns.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` for an id that can't be a part of a key.
pub async fn note(objects: &dyn Objects, run: &RunRef, chunk: ChunkId, job: &str) -> Result<(), Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if job.is_empty() || !job.bytes().all(is_plain) {
        return Err(Failure::new(
            FailureName::InvariantBroken,
            "a job's id has other than letters and digits",
        ));
    }
    let key = run.sync_keys().job(&run.run, chunk, job);
    objects.put(&key, Bytes::from_static(b"{}"), Condition::Always).await.map_err(storage_failure)?;
    Ok(())
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
        note(&objects, &run("r1"), 7, "7505fEAAQ").await.unwrap();
        note(&objects, &run("r2"), 0, "7506").await.unwrap();
        assert!(note(&objects, &run("r2"), 0, "../../lease").await.is_err());
        let found = noted(&objects, &run("r2")).await.unwrap();
        let first = Noted { job: "7505fEAAQ".into(), run: "r1".into(), chunk: 7 };
        assert_eq!(found[0], first);
        assert_eq!(found.len(), 2);
        for _ in 0..2 {
            forget(&objects, &run("r2"), &first).await.unwrap();
        }
        assert_eq!(noted(&objects, &run("r3")).await.unwrap(), found[1..]);
    }
}
