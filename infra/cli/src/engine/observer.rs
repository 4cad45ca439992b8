//! What an execution tells while it runs.

use std::time::Duration;

use super::progress::{Progress, StateFailure};

/// Is told what an execution does, as it does it. Both methods are called in the execution's own task and
/// hold it up: they should return soon.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);

    /// The execution is further than before: after each state, and after each state of each child. What is
    /// kept here is what a redrive goes on from.
    fn progress(&self, progress: &Progress);
}

/// What happened. `child` is the index of a Map's child; `None` is the execution itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A state was entered.
    StateEntered {
        /// Whose.
        child: Option<u32>,
        /// The state.
        state: &'a str,
    },
    /// A state was left, also by a Catch.
    StateExited {
        /// Whose.
        child: Option<u32>,
        /// The state.
        state: &'a str,
    },
    /// A state failed and is tried again.
    Retrying {
        /// Whose.
        child: Option<u32>,
        /// The state.
        state: &'a str,
        /// Why.
        failure: &'a StateFailure,
        /// The wait before the next try.
        delay: Duration,
    },
    /// A state failed, and the execution goes on elsewhere.
    Caught {
        /// Whose.
        child: Option<u32>,
        /// The state that failed.
        state: &'a str,
        /// Why.
        failure: &'a StateFailure,
        /// The state that follows.
        next: &'a str,
    },
    /// A Wait began.
    Waiting {
        /// Whose.
        child: Option<u32>,
        /// The state.
        state: &'a str,
        /// How long.
        duration: Duration,
    },
    /// A Map began, or goes on in a redrive.
    MapStarted {
        /// The state.
        state: &'a str,
        /// Its items.
        items: u32,
        /// Those that have yet to end well.
        remaining: u32,
    },
    /// A child of a Map ended well.
    ChildSucceeded {
        /// The Map's state.
        state: &'a str,
        /// The child's index.
        index: u32,
    },
    /// A child of a Map failed.
    ChildFailed {
        /// The Map's state.
        state: &'a str,
        /// The child's index.
        index: u32,
        /// Why.
        failure: &'a StateFailure,
    },
}
