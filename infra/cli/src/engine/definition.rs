//! The state machine as the engine runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::choice::Condition;
use super::path::{Path, ResultPath, Template};
use super::retry::{Catcher, Retrier};

/// A checked state machine. [`StateMachine::parse`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct StateMachine {
    /// The states.
    pub workflow: Workflow,
    /// How long an execution, or one redrive of it, may take.
    pub timeout: Option<Duration>,
}

/// States that lead to one another: the machine's own, or those of a Map's children.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// The first state.
    pub start_at: String,
    /// Every state by name; all can be reached, and all names that follow a state are here.
    pub states: BTreeMap<String, State>,
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Invokes a function.
    Task(Task),
    /// Runs a child execution for each item of an object.
    Map(Box<Map>),
    /// Chooses what follows.
    Choice(Choice),
    /// Waits.
    Wait(Wait),
    /// Ends the execution well; its input is the output.
    Succeed,
    /// Ends the execution with an error.
    Fail(Fail),
}

/// What follows a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Another state.
    State(String),
    /// Nothing: the execution ends well.
    End,
}

/// A `lambda:invoke` task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The function's placeholder: `PlanFunction` for `${PlanFunction}`.
    pub function: String,
    /// Its payload.
    pub payload: Template,
    /// What of the result is kept. Without one, all of it.
    pub result_selector: Option<Template>,
    /// Where the result goes.
    pub result_path: ResultPath,
    /// How long one try may take.
    pub timeout: Duration,
    /// Retriers, in order.
    pub retry: Vec<Retrier>,
    /// Catchers, in order.
    pub catch: Vec<Catcher>,
    /// What follows.
    pub next: Next,
}

/// A distributed Map. Its results are written elsewhere; its output is its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// The name in its children's ids.
    pub label: String,
    /// Where the items' bucket stands.
    pub bucket: Path,
    /// Where the items' key stands.
    pub key: Path,
    /// A child's input. Without one, the item.
    pub item_selector: Option<Template>,
    /// How many children run at the same time.
    pub concurrency: Concurrency,
    /// More failed children than this fail the Map. 0 if neither threshold is given.
    pub tolerated_count: Option<u64>,
    /// A greater share of failed children than this, in percent of all items, fails the Map.
    pub tolerated_percentage: Option<f64>,
    /// A child's states.
    pub workflow: Workflow,
    /// Retriers, in order: a retry runs every child anew.
    pub retry: Vec<Retrier>,
    /// Catchers, in order.
    pub catch: Vec<Catcher>,
    /// What follows.
    pub next: Next,
}

/// How many children of a Map run at the same time; 0 is as many as there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concurrency {
    /// This many.
    Fixed(u64),
    /// As many as stand at this path.
    At(Path),
}

/// Chooses what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The first condition that holds decides.
    pub rules: Vec<(Condition, String)>,
    /// What follows if none holds.
    pub default: Option<String>,
}

/// Waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// How long.
    pub seconds: Seconds,
    /// What follows.
    pub next: Next,
}

/// Whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seconds {
    /// This many.
    Fixed(u64),
    /// As many as stand at this path.
    At(Path),
}

/// Ends the execution with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    /// The error's name.
    pub error: Text,
    /// Its cause.
    pub cause: Text,
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// This one; empty if the field is not given.
    Fixed(String),
    /// The one at this path.
    At(Path),
}

impl State {
    /// The states that may follow, each with the field that names it.
    #[must_use]
    pub fn followers(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Task(task) => followers(&task.next, &task.catch),
            Self::Map(map) => followers(&map.next, &map.catch),
            Self::Choice(choice) => choice
                .rules
                .iter()
                .map(|(_, next)| ("Choices", next.as_str()))
                .chain(choice.default.iter().map(|next| ("Default", next.as_str())))
                .collect(),
            Self::Wait(wait) => followers(&wait.next, &[]),
            Self::Succeed | Self::Fail(_) => Vec::new(),
        }
    }
}

fn followers<'a>(next: &'a Next, catch: &'a [Catcher]) -> Vec<(&'static str, &'a str)> {
    let next = match next {
        Next::State(name) => Some(("Next", name.as_str())),
        Next::End => None,
    };
    next.into_iter().chain(catch.iter().map(|catcher| ("Catch", catcher.next.as_str()))).collect()
}
