//! One execution: from state to state.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Engine;
use super::definition::{Choice, Fail, Map, Next, Seconds, State, Task, Text, Wait, Workflow};
use super::observer::{Event, Observer};
use super::path::{Path, Template};
use super::progress::{Execution, Position, Progress, StateFailure, Status};
use super::retry::{
    Attempts, Catcher, DATA_LIMIT_EXCEEDED, RESULT_PATH_MATCH_FAILURE, RUNTIME, Retrier, TIMEOUT, catcher,
};

/// The largest state input, state output and task result in bytes of JSON: a quota of Step Functions.
const DATA_LIMIT: usize = 262_144;

/// One execution under way.
pub(super) struct Run<'a> {
    pub(super) engine: &'a Engine,
    pub(super) observer: &'a dyn Observer,
    execution: Execution,
    progress: Mutex<Progress>,
}

/// The state an execution or a child is in, and how often it was retried.
pub(super) struct Place<'a> {
    pub(super) child: Option<u32>,
    pub(super) state: &'a str,
}

/// Whether a state is entered by the execution's own course or again by a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    First,
    Redriven,
}

/// A state that can be retried and caught.
#[derive(Clone, Copy)]
enum Work<'a> {
    Task(&'a Task),
    Map(&'a Map),
}

impl StateFailure {
    pub(super) fn new(error: &str, cause: impl Into<String>) -> Self {
        Self { error: error.to_owned(), cause: cause.into() }
    }

    pub(super) fn nowhere(state: &str, path: &Path) -> Self {
        Self::new(RUNTIME, format!("state {state}: path {} leads nowhere in its input", path.as_str()))
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(engine: &'a Engine, observer: &'a dyn Observer, progress: Progress) -> Self {
        Self { engine, observer, execution: progress.execution.clone(), progress: Mutex::new(progress) }
    }

    /// Runs to the end.
    pub(super) async fn finish(self, entry: Entry) -> Progress {
        let machine = &self.engine.machine;
        let position = self.progress().position.clone();
        let walk = self.walk(&machine.workflow, None, position, entry);
        let ended = match machine.timeout {
            Some(timeout) => tokio::time::timeout(timeout, walk).await.ok(),
            None => Some(walk.await),
        };
        self.update(|progress| match ended {
            Some(Ok(output)) => progress.status = Status::Succeeded { output },
            Some(Err(failure)) => {
                progress.position.failure = Some(failure.clone());
                progress.status = Status::Failed(failure);
            }
            None => progress.status = Status::TimedOut,
        });
        self.progress.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress();
        change(&mut progress);
        self.observer.progress(&progress);
    }

    /// From state to state until the workflow ends; its output, or the failure of the state where it stopped.
    pub(super) async fn walk(
        &self,
        workflow: &Workflow,
        child: Option<u32>,
        position: Position,
        mut entry: Entry,
    ) -> Result<Value, StateFailure> {
        let Position { state: mut name, mut input, failure: _ } = position;
        loop {
            let state = workflow
                .states
                .get(&name)
                .ok_or_else(|| StateFailure::new(RUNTIME, format!("there is no state {name}")))?;
            self.update(|progress| progress.entered(child, &name, &input));
            self.observer.event(Event::StateEntered { child, state: &name });
            let place = Place { child, state: &name };
            let (output, next) = match state {
                State::Task(task) => self.work(&place, Work::Task(task), input, entry).await?,
                State::Map(map) => self.work(&place, Work::Map(map), input, entry).await?,
                State::Choice(choice) => self.choose(&place, choice, input)?,
                State::Wait(wait) => self.wait(&place, wait, input).await?,
                State::Succeed => (input, None),
                State::Fail(fail) => return Err(self.failure(&place, fail, &input)),
            };
            within_limit(&name, "output", &output)?;
            self.update(|progress| progress.exited(child, &name, &output));
            self.observer.event(Event::StateExited { child, state: &name });
            match next {
                Some(next) => name = next,
                None => return Ok(output),
            }
            input = output;
            entry = Entry::First;
        }
    }

    /// The context object.
    pub(super) fn context(&self, place: &Place<'_>, retries: u32) -> Value {
        let Execution { id, name, started_at, input } = &self.execution;
        json!({
            "Execution": { "Id": id, "Name": name, "StartTime": started_at.rfc3339(), "Input": input },
            "State": { "Name": place.state, "RetryCount": retries },
        })
    }

    /// Runs a Task or a Map with its retries, and catches its failure.
    async fn work(
        &self,
        place: &Place<'_>,
        work: Work<'_>,
        input: Value,
        mut entry: Entry,
    ) -> Result<(Value, Option<String>), StateFailure> {
        let &Place { child, state } = place;
        let mut attempts = Attempts::new(work.retry());
        let failure = loop {
            let context = self.context(place, attempts.count());
            let result = match work {
                Work::Task(task) => self.invoke(place, task, &input, &context).await,
                Work::Map(map) => self.map(state, map, &input, &context, entry).await.map(|()| input.clone()),
            };
            let failure = match result {
                Ok(output) => return Ok((output, work.next().name())),
                Err(failure) => failure,
            };
            let Some(delay) = attempts.after(&failure.error, &*self.engine.random) else { break failure };
            self.observer.event(Event::Retrying { child, state, failure: &failure, delay });
            self.engine.clock.sleep(delay).await;
            entry = Entry::First;
        };
        let Some(catcher) = catcher(work.catch(), &failure.error) else { return Err(failure) };
        self.observer.event(Event::Caught { child, state, failure: &failure, next: &catcher.next });
        let error = json!({ "Error": failure.error, "Cause": failure.cause });
        let output = catcher.result_path.place(input, error).ok_or_else(|| result_path_mismatch(state))?;
        Ok((output, Some(catcher.next.clone())))
    }

    /// One try of a Task: its output.
    async fn invoke(
        &self,
        place: &Place<'_>,
        task: &Task,
        input: &Value,
        context: &Value,
    ) -> Result<Value, StateFailure> {
        let payload = fill(place.state, &task.payload, input, context)?;
        within_limit(place.state, "payload", &payload)?;
        let answer = tokio::time::timeout(task.timeout, self.engine.tasks.invoke(&task.function, payload));
        let answer = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(StateFailure { error: error.name, cause: error.cause }),
            Err(_) => {
                let cause = format!("{} did not answer within {} s", task.function, task.timeout.as_secs());
                return Err(StateFailure::new(TIMEOUT, cause));
            }
        };
        within_limit(place.state, "result", &answer)?;
        let result = json!({ "ExecutedVersion": "$LATEST", "Payload": answer, "StatusCode": 200 });
        let result = match &task.result_selector {
            Some(selector) => fill(place.state, selector, &result, context)?,
            None => result,
        };
        task.result_path.place(input.clone(), result).ok_or_else(|| result_path_mismatch(place.state))
    }

    fn choose(
        &self,
        place: &Place<'_>,
        choice: &Choice,
        input: Value,
    ) -> Result<(Value, Option<String>), StateFailure> {
        let context = self.context(place, 0);
        for (condition, next) in &choice.rules {
            if condition.holds(&input, &context).map_err(|path| StateFailure::nowhere(place.state, path))? {
                return Ok((input, Some(next.clone())));
            }
        }
        match &choice.default {
            Some(next) => Ok((input, Some(next.clone()))),
            None => {
                let cause = format!("state {}: no choice matches, and there is no default", place.state);
                Err(StateFailure::new(RUNTIME, cause))
            }
        }
    }

    async fn wait(
        &self,
        place: &Place<'_>,
        wait: &Wait,
        input: Value,
    ) -> Result<(Value, Option<String>), StateFailure> {
        let seconds = match &wait.seconds {
            Seconds::Fixed(seconds) => *seconds,
            Seconds::At(path) => self.count_at(place, path, &input, &self.context(place, 0))?,
        };
        let duration = Duration::from_secs(seconds);
        self.observer.event(Event::Waiting { child: place.child, state: place.state, duration });
        self.engine.clock.sleep(duration).await;
        Ok((input, wait.next.name()))
    }

    /// The whole number, zero or more, at a path.
    pub(super) fn count_at(
        &self,
        place: &Place<'_>,
        path: &Path,
        input: &Value,
        context: &Value,
    ) -> Result<u64, StateFailure> {
        let value = path.find(input, context).ok_or_else(|| StateFailure::nowhere(place.state, path))?;
        value.as_u64().ok_or_else(|| {
            let cause = format!("state {}: {} is no whole number, zero or more", place.state, path.as_str());
            StateFailure::new(RUNTIME, cause)
        })
    }

    fn failure(&self, place: &Place<'_>, fail: &Fail, input: &Value) -> StateFailure {
        let context = self.context(place, 0);
        let text = |text: &Text| match text {
            Text::Fixed(text) => Ok(text.clone()),
            Text::At(path) => path
                .find(input, &context)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| StateFailure::nowhere(place.state, path)),
        };
        match (text(&fail.error), text(&fail.cause)) {
            (Ok(error), Ok(cause)) => StateFailure { error, cause },
            (Err(failure), _) | (_, Err(failure)) => failure,
        }
    }
}

impl<'a> Work<'a> {
    fn retry(self) -> &'a [Retrier] {
        match self {
            Self::Task(task) => &task.retry,
            Self::Map(map) => &map.retry,
        }
    }

    fn catch(self) -> &'a [Catcher] {
        match self {
            Self::Task(task) => &task.catch,
            Self::Map(map) => &map.catch,
        }
    }

    fn next(self) -> &'a Next {
        match self {
            Self::Task(task) => &task.next,
            Self::Map(map) => &map.next,
        }
    }
}

impl Next {
    fn name(&self) -> Option<String> {
        match self {
            Self::State(name) => Some(name.clone()),
            Self::End => None,
        }
    }
}

pub(super) fn fill(
    state: &str,
    template: &Template,
    input: &Value,
    context: &Value,
) -> Result<Value, StateFailure> {
    template.fill(input, context).map_err(|path| StateFailure::nowhere(state, path))
}

pub(super) fn within_limit(state: &str, what: &str, value: &Value) -> Result<(), StateFailure> {
    let bytes = value.to_string().len();
    if bytes <= DATA_LIMIT {
        return Ok(());
    }
    let cause = format!("state {state}: its {what} has {bytes} bytes, more than {DATA_LIMIT}");
    Err(StateFailure::new(DATA_LIMIT_EXCEEDED, cause))
}

fn result_path_mismatch(state: &str) -> StateFailure {
    StateFailure::new(
        RESULT_PATH_MATCH_FAILURE,
        format!("state {state}: its ResultPath leads through a non-object"),
    )
}
