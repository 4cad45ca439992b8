//! Keeps an execution's progress while it runs, for a redrive.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::port::Clock;

use super::executions::{Kept, LocalExecutions};
use crate::engine::{Event, Observer, Progress, Status};

/// While children of a Map go from state to state, progress is kept so often: it lists every child that has ended, and
/// to write it for each would cost the square of their number. Older progress does no harm: what was sent is in receipts.
const EVERY: Duration = Duration::from_secs(1);

/// Writes progress down, and passes everything on to another observer.
pub(super) struct Keeper<'a> {
    executions: &'a LocalExecutions,
    clock: Arc<dyn Clock>,
    next: &'a dyn Observer,
    written: Mutex<Option<Written>>,
}

/// What was last written.
struct Written {
    at: Timestamp,
    state: String,
    exited: usize,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        executions: &'a LocalExecutions,
        clock: Arc<dyn Clock>,
        next: &'a dyn Observer,
    ) -> Self {
        Self { executions, clock, next, written: Mutex::new(None) }
    }

    fn keep(&self, progress: &Progress) {
        let now = self.clock.now();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let has_ended = progress.status != Status::Running;
        let is_due = has_ended || written.as_ref().is_none_or(|written| written.is_stale(progress, now));
        if !is_due {
            return;
        }
        let kept = Kept { ended_at: has_ended.then_some(now), progress: progress.clone() };
        if let Err(error) = self.executions.keep(&kept) {
            tracing::warn!(
                run = progress.execution.name,
                error = &error as &dyn std::error::Error,
                "how far the run is could not be written down; a redrive goes on from further back"
            );
        }
        let state = progress.position.state.clone();
        *written = Some(Written { at: now, state, exited: progress.exited.len() });
    }
}

impl Written {
    fn is_stale(&self, progress: &Progress, now: Timestamp) -> bool {
        self.state != progress.position.state
            || self.exited != progress.exited.len()
            || self.at.until(now) >= EVERY
    }
}

impl Observer for Keeper<'_> {
    fn event(&self, event: Event<'_>) {
        self.next.event(event);
    }

    fn progress(&self, progress: &Progress) {
        self.keep(progress);
        self.next.progress(progress);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use penstock_model::port::Boxed;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }

        fn sleep(&self, _: Duration) -> Boxed<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    struct Deaf;

    impl Observer for Deaf {
        fn event(&self, _: Event<'_>) {}
        fn progress(&self, _: &Progress) {}
    }

    #[test]
    fn states_are_kept_at_once_and_children_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let executions = LocalExecutions::new(folder.path());
        drop(executions.begin("r").unwrap());
        let clock = Arc::new(Hands::default());
        let keeper = Keeper::new(&executions, clock.clone(), &Deaf);
        let mut progress: Progress = serde_json::from_value(json!({
            "version": 1,
            "execution": { "id": "r", "name": "r", "started_at": 0, "input": {} },
            "status": "running", "redrives": 0, "redriven_at": null, "exited": [],
            "position": { "state": "Plan", "input": {}, "failure": null },
            "map": { "state": "Plan", "items": 9, "succeeded": [], "children": {} }
        }))
        .unwrap();
        let kept = || executions.kept("r").unwrap().unwrap();
        keeper.progress(&progress);
        assert_eq!(kept().progress, progress);

        progress.map.as_mut().unwrap().succeeded.insert(0);
        clock.0.store(999, Ordering::Relaxed);
        keeper.progress(&progress);
        assert_ne!(kept().progress, progress, "a child is not kept at once");
        clock.0.store(1_000, Ordering::Relaxed);
        keeper.progress(&progress);
        assert_eq!(kept().progress, progress);

        progress.position.state = "Read".to_owned();
        keeper.progress(&progress);
        assert_eq!(kept().progress, progress, "a state is");
        progress.status = Status::TimedOut;
        keeper.progress(&progress);
        assert_eq!(kept(), Kept { ended_at: Some(Timestamp(1_000)), progress });
    }
}
