//! What the engine's tests hand it: functions from closures, items from a table, a seeded generator, and an
//! observer that remembers.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Clock, Random};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for Seeded {
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Tokio's time, counted from the first of January 2026.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000).plus(self.0.elapsed())
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// One invocation, as a function sees it.
pub(super) struct Call {
    pub(super) function: String,
    pub(super) payload: Value,
    /// How often this function has been invoked with this payload, this time included.
    pub(super) nth: u32,
}

/// What a function does with a call: its answer, and the seconds it takes.
pub(super) type Answer = (u64, Result<Value, &'static str>);

/// Functions from one closure.
pub(super) struct Functions {
    answer: Box<dyn Fn(&Call) -> Answer + Send + Sync>,
    calls: Mutex<BTreeMap<(String, String), u32>>,
    running: Mutex<(usize, usize)>,
    completed: Mutex<Vec<String>>,
}

impl Functions {
    /// Calls that were answered, as `Function payload`, sorted.
    pub(super) fn completed(&self) -> Vec<String> {
        let mut completed = self.completed.lock().unwrap().clone();
        completed.sort();
        completed
    }

    /// The most calls that ran at the same time.
    pub(super) fn widest(&self) -> usize {
        self.running.lock().unwrap().1
    }
}

/// Counts a call as running until it is dropped.
struct Running<'a>(&'a Mutex<(usize, usize)>);

impl<'a> Running<'a> {
    fn new(counts: &'a Mutex<(usize, usize)>) -> Self {
        let mut now = counts.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        drop(now);
        Self(counts)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl Tasks for Functions {
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>> {
        Box::pin(async move {
            let id = (function.to_owned(), payload.to_string());
            let nth = {
                let mut calls = self.calls.lock().unwrap();
                let nth = calls.entry(id.clone()).or_default();
                *nth += 1;
                *nth
            };
            let _running = Running::new(&self.running);
            let (seconds, result) = (self.answer)(&Call { function: function.to_owned(), payload, nth });
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if result.is_ok() {
                self.completed.lock().unwrap().push(format!("{} {}", id.0, id.1));
            }
            result.map_err(|name| TaskError { name: name.to_owned(), cause: format!("{function} said so") })
        })
    }
}

/// Items by `bucket/key`.
pub(super) struct Items(pub(super) Mutex<BTreeMap<String, Vec<Value>>>);

impl ItemSource for Items {
    fn read<'a>(&'a self, at: &'a ItemsAt) -> Boxed<'a, Result<Vec<Value>, Box<dyn Error + Send + Sync>>> {
        let found = self.0.lock().unwrap().get(&format!("{}/{}", at.bucket, at.key)).cloned();
        Box::pin(async move { found.ok_or_else(|| "no such object".into()) })
    }
}

/// Remembers events, each with the second it came in, and every progress.
pub(super) struct Recorder {
    started: Instant,
    pub(super) events: Mutex<Vec<String>>,
    pub(super) progress: Mutex<Vec<Progress>>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), events: Mutex::default(), progress: Mutex::default() }
    }
}

impl Observer for Recorder {
    fn event(&self, event: Event<'_>) {
        let who = |child: Option<u32>| child.map(|index| format!("{index}:")).unwrap_or_default();
        let text = match event {
            Event::StateEntered { child, state } => format!("enter {}{state}", who(child)),
            Event::StateExited { child, state } => format!("exit {}{state}", who(child)),
            Event::Retrying { child, state, failure, delay } => {
                format!("retry {}{state} {} in {}", who(child), failure.error, delay.as_secs())
            }
            Event::Caught { child, state, failure, next } => {
                format!("catch {}{state} {} to {next}", who(child), failure.error)
            }
            Event::Waiting { child, state, duration } => {
                format!("wait {}{state} {}", who(child), duration.as_secs())
            }
            Event::MapStarted { state, items, remaining } => format!("map {state} {remaining} of {items}"),
            Event::ChildSucceeded { state, index } => format!("child {state} {index}"),
            Event::ChildFailed { state, index, failure } => {
                format!("child {state} {index} {}", failure.error)
            }
        };
        self.events.lock().unwrap().push(format!("{} {text}", self.started.elapsed().as_secs()));
    }

    fn progress(&self, progress: &Progress) {
        self.progress.lock().unwrap().push(progress.clone());
    }
}

/// An engine, and what it was handed.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) functions: Arc<Functions>,
    pub(super) items: Arc<Items>,
    pub(super) recorder: Recorder,
}

impl Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bench({:?})", self.recorder.events.lock().unwrap())
    }
}

impl Bench {
    pub(super) fn new(machine: Value, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let functions = Arc::new(Functions {
            answer: Box::new(answer),
            calls: Mutex::default(),
            running: Mutex::default(),
            completed: Mutex::default(),
        });
        let items = Arc::new(Items(Mutex::default()));
        let engine = Engine::new(
            StateMachine::parse(&machine.to_string()).unwrap(),
            Arc::clone(&functions) as Arc<dyn Tasks>,
            Arc::clone(&items) as Arc<dyn ItemSource>,
            Arc::new(TokioClock(Instant::now())),
            Arc::new(Seeded::new(42)),
        );
        Self { engine, functions, items, recorder: Recorder::new() }
    }

    /// With the numbers from 0 to `count` as items at `b/k`.
    pub(super) fn with_items(self, count: u32) -> Self {
        let items = (0..count).map(|n| json!({ "n": n })).collect();
        self.items.0.lock().unwrap().insert("b/k".to_owned(), items);
        self
    }

    pub(super) async fn start(&self, input: Value) -> Progress {
        let start = Start { id: "arn:run-1".to_owned(), name: "run-1".to_owned(), input };
        self.engine.start(start, &self.recorder).await
    }

    /// A redrive from what was written down, as another process would do it.
    pub(super) async fn redrive(&self, progress: &Progress) -> Progress {
        let written = serde_json::to_string(progress).unwrap();
        self.engine.redrive(serde_json::from_str(&written).unwrap(), &self.recorder).await.unwrap()
    }

    /// The events so far, which are forgotten.
    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.recorder.events.lock().unwrap())
    }
}

/// A machine of these states, the first named `A`.
pub(super) fn machine(states: Value) -> Value {
    json!({ "StartAt": "A", "States": states })
}

/// A Task that invokes `${F}` with its whole input and ends, with `more` fields over that.
pub(super) fn task(more: Value) -> Value {
    let mut task = json!({
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": { "FunctionName": "${F}", "Payload": { "in.$": "$" } },
        "ResultSelector": { "out.$": "$.Payload" },
        "ResultPath": "$.result",
        "TimeoutSeconds": 60,
        "End": true,
    });
    put(&mut task, more);
    task
}

/// A Map over the items at `b/k` with these child states, the first named `C`, which ends.
pub(super) fn map(states: Value, more: Value) -> Value {
    let mut map = json!({
        "Type": "Map",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": { "InputType": "JSON" },
            "Parameters": { "Bucket.$": "$.bucket", "Key.$": "$.key" },
        },
        "ItemProcessor": {
            "ProcessorConfig": { "Mode": "DISTRIBUTED", "ExecutionType": "STANDARD" },
            "StartAt": "C",
            "States": states,
        },
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Parameters": { "Bucket": "${Bucket}", "Prefix": "results" },
        },
        "ResultPath": null,
        "End": true,
    });
    put(&mut map, more);
    map
}

/// Puts fields over an object's; `Next` takes the place of `End`.
fn put(object: &mut Value, more: Value) {
    let fields = object.as_object_mut().unwrap();
    let Value::Object(more) = more else { panic!("fields are an object") };
    for (name, value) in more {
        if name == "Next" {
            fields.remove("End");
        }
        fields.insert(name, value);
    }
}

/// The input under which `map` finds its items.
pub(super) fn at_items() -> Value {
    json!({ "bucket": "b", "key": "k" })
}
