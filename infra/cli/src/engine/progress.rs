//! How far an execution is: what a redrive needs, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use penstock_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{State, StateMachine};
use super::retry::EXCEED_TOLERATED_FAILURE_THRESHOLD;

/// The version of [`Progress`] that this build writes, and the only one that it reads.
const VERSION: u32 = 1;

/// How far an execution is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    version: u32,
    /// The execution.
    pub execution: Execution,
    /// How it stands.
    pub status: Status,
    /// How often it was redriven.
    pub redrives: u32,
    /// When it was last redriven.
    pub redriven_at: Option<Timestamp>,
    /// The states that were left, in order.
    pub exited: Vec<Exited>,
    /// Where it is, or where it stopped.
    pub position: Position,
    /// The children, if it is at a Map.
    pub map: Option<MapProgress>,
}

/// An execution of the state machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// The id; an ARN on AWS.
    pub id: String,
    /// The name; unique among executions.
    pub name: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its input.
    pub input: Value,
}

/// How an execution stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// It runs; or, if nobody runs it any more, it was aborted.
    Running,
    /// It ended well.
    Succeeded {
        /// Its output.
        output: Value,
    },
    /// A state failed.
    Failed(StateFailure),
    /// It took longer than the state machine's `TimeoutSeconds`.
    TimedOut,
}

/// A state's error, as a Catch sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{error}: {cause}")]
pub struct StateFailure {
    /// The error's name.
    pub error: String,
    /// What is known of it.
    pub cause: String,
}

/// A state that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exited {
    /// The state.
    pub state: String,
    /// Its output.
    pub output: Value,
}

/// The state that an execution or a child is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The state.
    pub state: String,
    /// Its input.
    pub input: Value,
    /// Why it went no further, if it failed.
    pub failure: Option<StateFailure>,
}

/// How far a Map is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapProgress {
    /// The Map's state.
    pub state: String,
    /// Its items. Those neither in `succeeded` nor in `children` have not been started.
    pub items: u32,
    /// The children that ended well, by index.
    pub succeeded: BTreeSet<u32>,
    /// The children that were started and have not ended well, by index.
    pub children: BTreeMap<u32, Position>,
}

/// Why an execution can't be redriven.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotRedrivable {
    /// Nothing of it is left to do.
    #[error("the execution has succeeded")]
    Succeeded,
    /// Its progress was written by another build.
    #[error("the execution's progress is of version {0}, which this build does not read")]
    Version(u32),
    /// The state machine is another one now.
    #[error("the execution stopped at state {0}, which the state machine does not have")]
    UnknownState(String),
}

impl Progress {
    pub(super) fn new(execution: Execution, start_at: &str) -> Self {
        let position = Position::at(start_at, execution.input.clone());
        Self {
            version: VERSION,
            execution,
            status: Status::Running,
            redrives: 0,
            redriven_at: None,
            exited: Vec::new(),
            position,
            map: None,
        }
    }

    /// The failure that ended the execution: where a Map failed, that of its first failed child.
    #[must_use]
    pub fn root_failure(&self) -> Option<&StateFailure> {
        let Status::Failed(failure) = &self.status else { return None };
        let child = || {
            let map = self.map.as_ref().filter(|_| failure.error == EXCEED_TOLERATED_FAILURE_THRESHOLD)?;
            map.children.values().find_map(|child| child.failure.as_ref())
        };
        Some(child().unwrap_or(failure))
    }

    /// Whether the execution can go on where it stopped.
    pub(super) fn redrivable(&self, machine: &StateMachine) -> Result<(), NotRedrivable> {
        if self.version != VERSION {
            return Err(NotRedrivable::Version(self.version));
        }
        if matches!(self.status, Status::Succeeded { .. }) {
            return Err(NotRedrivable::Succeeded);
        }
        let unknown = |state: &str| NotRedrivable::UnknownState(state.to_owned());
        let states = &machine.workflow.states;
        let state = states.get(&self.position.state).ok_or_else(|| unknown(&self.position.state))?;
        let Some(progress) = &self.map else { return Ok(()) };
        let State::Map(map) = state else { return Err(unknown(&progress.state)) };
        match progress.children.values().find(|child| !map.workflow.states.contains_key(&child.state)) {
            Some(child) => Err(unknown(&child.state)),
            None => Ok(()),
        }
    }

    /// The execution, or one child of its Map, is at this state from now on.
    pub(super) fn entered(&mut self, child: Option<u32>, state: &str, input: &Value) {
        let position = Position::at(state, input.clone());
        match (child, &mut self.map) {
            (Some(index), Some(map)) => {
                map.children.insert(index, position);
            }
            (Some(_), None) => {}
            (None, map) => {
                self.position = position;
                if map.as_ref().is_some_and(|map| map.state != state) {
                    *map = None;
                }
            }
        }
    }

    /// A state was left. Of children only the positions are kept: their number has no bound.
    pub(super) fn exited(&mut self, child: Option<u32>, state: &str, output: &Value) {
        if child.is_none() {
            self.exited.push(Exited { state: state.to_owned(), output: output.clone() });
        }
    }

    /// A child of the Map has ended.
    pub(super) fn ended(&mut self, index: u32, failure: Option<StateFailure>) {
        let Some(map) = &mut self.map else { return };
        match failure {
            None => {
                map.children.remove(&index);
                map.succeeded.insert(index);
            }
            Some(failure) => {
                if let Some(child) = map.children.get_mut(&index) {
                    child.failure = Some(failure);
                }
            }
        }
    }
}

impl Position {
    pub(super) fn at(state: &str, input: Value) -> Self {
        Self { state: state.to_owned(), input, failure: None }
    }
}

impl MapProgress {
    pub(super) fn new(state: &str, items: u32) -> Self {
        Self { state: state.to_owned(), items, succeeded: BTreeSet::new(), children: BTreeMap::new() }
    }
}
