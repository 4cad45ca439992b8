//! Executions on a laptop: each holds a lock on a file of its own while its process lives, so that the next run
//! knows a dead one from a running one without waiting.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use penstock_model::port::{Boxed, Execution, ExecutionStatus, Executions, ExecutionsUnavailable};

/// The executions of one state folder.
#[derive(Debug, Clone)]
pub struct LocalExecutions {
    folder: PathBuf,
}

/// An execution under way. It ends when this is dropped, or when its process dies.
#[derive(Debug)]
pub struct Running {
    _lock: File,
}

impl LocalExecutions {
    /// The executions below a state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("executions") }
    }

    fn file(&self, execution: &str) -> PathBuf {
        self.folder.join(format!("{execution}.lock"))
    }

    /// Begins an execution.
    ///
    /// # Errors
    /// If the folder can't be written, or an execution of this name is under way.
    pub fn begin(&self, execution: &str) -> io::Result<Running> {
        std::fs::create_dir_all(&self.folder)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.file(execution))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Running { _lock: file })
    }

    fn look(&self, execution: &str) -> io::Result<Option<Execution>> {
        let file = match OpenOptions::new().write(true).open(self.file(execution)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let status = match file.try_lock() {
            Ok(()) => ExecutionStatus::Ended,
            Err(TryLockError::WouldBlock) => ExecutionStatus::Running,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        Ok(Some(Execution { status, redriven_at: None }))
    }
}

impl Executions for LocalExecutions {
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        let found = self.look(execution).map_err(|error| ExecutionsUnavailable {
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
        Box::pin(std::future::ready(Err(ExecutionsUnavailable {
            action: "started",
            source: Box::new(refused),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_execution_runs_until_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let executions = LocalExecutions::new(folder.path());
        let status = async || executions.describe("r1").await.unwrap().map(|execution| execution.status);
        assert_eq!(status().await, None);
        let running = executions.begin("r1").unwrap();
        assert_eq!(status().await, Some(ExecutionStatus::Running));
        assert!(executions.begin("r1").is_err());
        drop(running);
        assert_eq!(status().await, Some(ExecutionStatus::Ended));
    }
}
