//! A small Step Functions: runs a state machine on a laptop, or in a test with virtual time.
//!
//! It interprets the subset of the Amazon States Language that `infra/sync.asl.json` uses, as Step Functions
//! does, and refuses the rest when the definition is loaded, by state and field: JSONPath with reference paths
//! of dotted names, no intrinsic functions; Task (`lambda:invoke`), distributed Map over a JSON array in an
//! object, Choice, Wait, Succeed and Fail; Retry, Catch, timeouts and redrive. It knows nothing of Penstock:
//! what a task does and where items lie is handed in.
//!
//! Facts are from AWS's documentation: "Handling errors in Step Functions workflows", "Using Map state in
//! Distributed mode", "Restarting state machine executions with redrive", and the States Language
//! specification (states-language.net). Where the two differ, it does what AWS says of its service: a path
//! that leads nowhere and a Choice without a match are `States.Runtime`, which nothing retries or catches.
//!
//! Narrower than Step Functions on purpose:
//! - A Map has a `ResultWriter` and `"ResultPath": null`: results are not kept, its output is its input.
//! - Children of a Map can't read `$$.Execution`, which is the child's there and not the run's.
//! - A Task must have `TimeoutSeconds`; without it AWS waits for more than three years.
//!
//! All waiting is `tokio::time`, so that a paused runtime makes it virtual.

mod check;
mod choice;
mod definition;
mod execution;
mod map;
mod observer;
mod path;
mod progress;
mod retry;
mod wire;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::Arc;

use penstock_model::port::{Boxed, Clock, Random};
use serde_json::Value;

pub use check::DefinitionError;
pub use choice::Condition;
pub use definition::{
    Choice, Concurrency, Fail, Map, Next, Seconds, State, StateMachine, Task, Text, Wait, Workflow,
};
pub use observer::{Event, Observer};
pub use path::{Path, ResultPath, Template};
pub use progress::{Execution, Exited, MapProgress, NotRedrivable, Position, Progress, StateFailure, Status};
pub use retry::{Catcher, Jitter, Retrier};

use execution::{Entry, Run};

/// The functions that tasks invoke.
pub trait Tasks: Send + Sync {
    /// Invokes a function, named by its placeholder (`PlanFunction`), and gives its answer. The future is dropped
    /// when the task times out, or when its Map is given up.
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>>;
}

/// A function's error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {cause}")]
pub struct TaskError {
    /// What Lambda calls `errorType`: what `ErrorEquals` is compared with.
    pub name: String,
    /// What stands in `Cause`: for Lambda, JSON with `errorType` and `errorMessage`.
    pub cause: String,
}

/// Where a Map's items lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemsAt {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// Reads the items of Maps.
pub trait ItemSource: Send + Sync {
    /// The JSON array in an object. A redrive reads it again and must find the same.
    fn read<'a>(&'a self, at: &'a ItemsAt) -> Boxed<'a, Result<Vec<Value>, Box<dyn Error + Send + Sync>>>;
}

/// What is started.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The execution's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its input.
    pub input: Value,
}

/// Runs one state machine.
pub struct Engine {
    machine: StateMachine,
    tasks: Arc<dyn Tasks>,
    items: Arc<dyn ItemSource>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Engine {
    /// An engine. The clock gives the times that executions carry, and is waited on; timeouts are tokio's. Randomness is for
    /// jitter.
    #[must_use]
    pub fn new(
        machine: StateMachine,
        tasks: Arc<dyn Tasks>,
        items: Arc<dyn ItemSource>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { machine, tasks, items, clock, random }
    }

    /// Runs a new execution to its end; [`Progress::status`] says how it ended.
    ///
    /// Dropping the future aborts the execution; what the observer was last given can be redriven.
    pub async fn start(&self, start: Start, observer: &dyn Observer) -> Progress {
        let Start { id, name, input } = start;
        let execution = Execution { id, name, started_at: self.clock.now(), input };
        let progress = Progress::new(execution, &self.machine.workflow.start_at);
        Run::new(self, observer, progress).finish(Entry::First).await
    }

    /// Goes on where an execution stopped, with the same input: at the state that failed, timed out or was
    /// aborted. States that were left are not run again. Of a Map, children that have not ended well go on from
    /// their own states. Retries and the execution's timeout start anew; a Wait waits for its whole time.
    ///
    /// # Errors
    /// [`NotRedrivable`] if the execution has succeeded, or if its progress does not fit this state machine.
    pub async fn redrive(
        &self,
        mut progress: Progress,
        observer: &dyn Observer,
    ) -> Result<Progress, NotRedrivable> {
        progress.redrivable(&self.machine)?;
        progress.status = Status::Running;
        progress.redrives += 1;
        progress.redriven_at = Some(self.clock.now());
        Ok(Run::new(self, observer, progress).finish(Entry::Redriven).await)
    }
}
