//! Executions on a laptop. Each holds a lock on a file of its own while its process lives, so that the next run knows a
//! dead one from a running one without waiting; and each keeps its progress beside it, for a redrive.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::contract::StartRequest;
use penstock_model::port::{Boxed, Execution, ExecutionStatus, Executions, ExecutionsUnavailable};
use serde::{Deserialize, Serialize};

use crate::engine::Progress;

/// Who looks at a lock holds it for an instant: so often is it tried to be had.
const TRIES: u32 = 5;
/// The wait between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The executions of one state folder: `executions/RUN.lock` and `executions/RUN.json`.
#[derive(Debug, Clone)]
pub struct LocalExecutions {
    folder: PathBuf,
}

/// An execution under way. It ends when this is dropped, or when its process dies.
#[derive(Debug)]
pub struct Running {
    _lock: File,
}

/// What is kept of an execution, as `executions/RUN.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// When it ended; none while it runs, and if its process was killed.
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub progress: Progress,
}

/// The part of [`Kept`] that pushes ask for, whatever build wrote the rest.
#[derive(Deserialize)]
struct Redriven {
    progress: RedrivenAt,
}

#[derive(Deserialize)]
struct RedrivenAt {
    redriven_at: Option<Timestamp>,
}

impl Kept {
    /// When it was started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.progress.execution.started_at
    }

    /// The sync that was run, where the input says so.
    #[must_use]
    pub fn sync(&self) -> Option<String> {
        let input = self.progress.execution.input.clone();
        serde_json::from_value::<StartRequest>(input).ok().map(|request| request.sync)
    }
}

impl LocalExecutions {
    /// The executions below a state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("executions") }
    }

    fn file(&self, execution: &str, kind: &str) -> io::Result<PathBuf> {
        // A name that a user types must not lead out of the folder.
        if execution.is_empty() || execution.contains(['/', '\\']) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "this is no name of a run"));
        }
        Ok(self.folder.join(format!("{execution}.{kind}")))
    }

    /// Begins an execution, or takes one up again.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if an execution of this name is under way; others if the folder can't be written.
    pub fn begin(&self, execution: &str) -> io::Result<Running> {
        std::fs::create_dir_all(&self.folder)?;
        let path = self.file(execution, "lock")?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        for _ in 1..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Running { _lock: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        file.try_lock().map_err(io::Error::from)?;
        Ok(Running { _lock: file })
    }

    /// Keeps how far an execution is: the file is whole, old or new, whenever the process dies. It is not flushed to the
    /// disk: after a power cut a new run takes over instead.
    ///
    /// # Errors
    /// If the folder can't be written.
    pub fn keep(&self, kept: &Kept) -> io::Result<()> {
        let name = &kept.progress.execution.name;
        let (path, draft) = (self.file(name, "json")?, self.file(name, "json.new")?);
        std::fs::write(&draft, serde_json::to_vec(kept)?)?;
        std::fs::rename(draft, path)
    }

    /// What is kept of an execution; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if another build wrote it; others if it can't be read.
    pub fn kept(&self, execution: &str) -> io::Result<Option<Kept>> {
        self.read(execution)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, execution: &str) -> io::Result<Option<T>> {
        match self.file(execution, "json").and_then(std::fs::read) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The executions of a sync with their names, newest first. What can't be read is left out.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn of_sync(&self, sync: &str) -> io::Result<Vec<(String, Kept)>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        let kept = names.into_iter().filter_map(|name| {
            let kept = self.kept(&name).ok().flatten()?;
            (kept.sync().as_deref() == Some(sync)).then_some((name, kept))
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort_by(|(a_name, a), (b_name, b)| (b.started_at(), b_name).cmp(&(a.started_at(), a_name)));
        Ok(kept)
    }

    /// How an execution stands; `None` if there is none of this name.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn look(&self, execution: &str) -> io::Result<Option<Execution>> {
        let opened = self.file(execution, "lock").and_then(|path| OpenOptions::new().write(true).open(path));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Those who look don't keep each other out.
        let status = match file.try_lock_shared() {
            Ok(()) => ExecutionStatus::Ended,
            Err(TryLockError::WouldBlock) => ExecutionStatus::Running,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let redriven_at = self.read::<Redriven>(execution)?.and_then(|kept| kept.progress.redriven_at);
        Ok(Some(Execution { status, redriven_at }))
    }
}

impl Executions for LocalExecutions {
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        let found = self.look(execution).map_err(|error| ExecutionsUnavailable::Away {
            action: "asked for an execution",
            source: Box::new(error),
        });
        Box::pin(std::future::ready(found))
    }

    fn start<'a>(&'a self, _: &'a str, _: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        let refused = io::Error::new(
            io::ErrorKind::Unsupported,
            "on this machine runs are started with `penstock run`",
        );
        Box::pin(std::future::ready(Err(ExecutionsUnavailable::Away {
            action: "started",
            source: Box::new(refused),
        })))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_execution_runs_until_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let executions = LocalExecutions::new(folder.path());
        let status = async || executions.describe("r1").await.unwrap().map(|execution| execution.status);
        assert_eq!(status().await, None);
        let running = executions.begin("r1").unwrap();
        assert_eq!(status().await, Some(ExecutionStatus::Running));
        assert_eq!(executions.begin("r1").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(running);
        assert_eq!(status().await, Some(ExecutionStatus::Ended));
        executions.begin("r1").unwrap();
    }

    /// What is kept of an execution of `sync`, as JSON.
    fn kept(name: &str, sync: &str, redriven_at: Option<i64>) -> Kept {
        let progress = json!({
            "version": 1,
            "execution": { "id": name, "name": name, "started_at": 1, "input": { "sync": sync } },
            "status": "running",
            "redrives": 0,
            "redriven_at": redriven_at,
            "exited": [],
            "position": { "state": "Plan", "input": {}, "failure": null },
            "map": null
        });
        Kept { ended_at: None, progress: serde_json::from_value(progress).unwrap() }
    }

    #[tokio::test]
    async fn what_is_kept_is_found_again_newest_first_and_says_when_it_was_redriven() {
        let folder = tempfile::tempdir().unwrap();
        let executions = LocalExecutions::new(folder.path());
        assert!(executions.of_sync("a").unwrap().is_empty());
        for (name, sync, redriven_at) in
            [("1", "a", None), ("3", "a", Some(7)), ("2", "a", None), ("4", "b", None)]
        {
            drop(executions.begin(name).unwrap());
            executions.keep(&kept(name, sync, redriven_at)).unwrap();
        }
        std::fs::write(folder.path().join("executions/5.json"), "{").unwrap();
        let names: Vec<_> = executions.of_sync("a").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["3", "2", "1"]);
        let redriven = async |name| executions.describe(name).await.unwrap().unwrap().redriven_at;
        assert_eq!((redriven("1").await, redriven("3").await), (None, Some(Timestamp(7))));
        assert_eq!(executions.kept("../executions/1").unwrap(), None, "a name leads nowhere else");
        assert_eq!(executions.kept("9").unwrap(), None);
    }
}
