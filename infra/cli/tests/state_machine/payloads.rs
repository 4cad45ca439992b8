//! What the state machine carries stays far below the 256 KiB that Step Functions allows, with everything at its longest.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_cli::engine::{
    Engine, Event, ItemSource, ItemsAt, Observer, Progress as Course, Start, Status, TaskError, Tasks,
};
use penstock_model::contract::{
    CONTRACT, DeadLetterResponse, DiffResponse, FinishResponse, GateResponse, GateVerdict, LONGEST_CURSOR,
    ObjectRef, PlanResponse, PlanVerdict, Progress, ProgressStatus, ReadResponse, RunRef,
};
use penstock_model::failure::LONGEST_MESSAGE;
use penstock_model::port::{Boxed, Clock, Random};
use penstock_model::report::RunStatus;
use penstock_model::{FailureName, Timestamp};
use serde_json::{Value, json};

use super::machine;

/// The most that a state's input or output may have, in bytes of JSON.
const MOST: usize = 200 * 1024;
/// What a person or an event may say when it starts a run.
const INPUT: usize = 64 * 1024;
/// The most bytes of an object's key in S3. Keys hold the sync's name.
const KEY: usize = 1024;
/// The most bytes of a bucket's name.
const BUCKET: usize = 63;
/// The most characters of an execution's name.
const EXECUTION: usize = 80;

fn object() -> ObjectRef {
    ObjectRef { bucket: "b".repeat(BUCKET), key: "k".repeat(KEY) }
}

fn run() -> RunRef {
    RunRef { sync: "s".repeat(KEY), run: "r".repeat(EXECUTION), fence: u64::MAX }
}

fn written(response: impl serde::Serialize) -> Value {
    serde_json::to_value(response).unwrap()
}

/// Answers that are as long as they can be.
struct Longest {
    /// What kind of failure ends the chunk, after it was paused once.
    failure: FailureName,
}

impl Longest {
    fn answer(&self, function: &str, payload: &Value) -> Result<Value, TaskError> {
        let contract = CONTRACT;
        let progress = |rounds| Progress {
            contract,
            status: ProgressStatus::Paused,
            cursor: Some("c".repeat(LONGEST_CURSOR)),
            rounds,
            resume_after_s: 100_000,
        };
        Ok(match function {
            "PlanFunction" => written(PlanResponse {
                contract,
                verdict: PlanVerdict::Read,
                run: run(),
                splits: object(),
                partitions: object(),
                read_concurrency: 10_000,
                diff_concurrency: 10_000,
            }),
            "ReadFunction" => written(ReadResponse { contract, rows: u64::MAX }),
            "DiffFunction" => written(DiffResponse { contract, changes: u64::MAX }),
            "GateFunction" => written(GateResponse {
                contract,
                verdict: GateVerdict::Deliver,
                chunks: object(),
                more: false,
                concurrency: 10_000,
            }),
            "TransformFunction" => written(progress(0)),
            "PushFunction" if payload["rounds"] == 0 => written(progress(u32::MAX)),
            "PushFunction" => {
                // As lambda-kit and Lambda tell of a failure; every character of the message has to be escaped.
                let message = "\"".repeat(LONGEST_MESSAGE);
                let cause = json!({ "errorMessage": message, "errorType": self.failure.as_str() });
                return Err(TaskError { name: self.failure.to_string(), cause: cause.to_string() });
            }
            "DeadLetterFunction" => written(DeadLetterResponse { contract, dead_letters: u64::MAX }),
            "FinishFunction" => {
                written(FinishResponse { contract, status: RunStatus::Succeeded, report: object() })
            }
            other => panic!("there is no {other}"),
        })
    }
}

impl Tasks for Longest {
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>> {
        let answer = self.answer(function, &payload);
        Box::pin(async move { answer })
    }
}

struct OneItem;

impl ItemSource for OneItem {
    fn read<'a>(&'a self, _: &'a ItemsAt) -> Boxed<'a, Result<Vec<Value>, Box<dyn Error + Send + Sync>>> {
        let item = json!({ "split": u32::MAX, "partition": u32::MAX, "chunk": u32::MAX });
        Box::pin(async move { Ok(vec![item]) })
    }
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, _: Duration) -> Boxed<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Random for Still {
    fn next(&self) -> u64 {
        0
    }
}

/// Each state's largest input, by state.
#[derive(Default)]
struct Inputs(Mutex<BTreeMap<String, usize>>);

impl Inputs {
    fn saw(&self, state: &str, input: &Value) {
        let mut inputs = self.0.lock().unwrap();
        let most = inputs.entry(state.to_owned()).or_default();
        *most = input.to_string().len().max(*most);
    }
}

impl Observer for Inputs {
    fn event(&self, _: Event<'_>) {}

    fn progress(&self, progress: &Course) {
        self.saw(&progress.position.state, &progress.position.input);
        for child in progress.map.iter().flat_map(|map| map.children.values()) {
            self.saw(&child.state, &child.input);
        }
    }
}

#[tokio::test]
async fn with_everything_at_its_longest_no_state_carries_more_than_it_may() {
    let caught = FailureName::ChunkUnreadable;
    let tasks = Arc::new(Longest { failure: caught });
    let engine = Engine::new(machine(), tasks, Arc::new(OneItem), Arc::new(Still), Arc::new(Still));
    let input = json!({ "sync": "s".repeat(KEY), "trigger": "t".repeat(INPUT) });
    let inputs = Inputs::default();
    let name = "r".repeat(EXECUTION);
    let course = engine.start(Start { id: name.clone(), name, input }, &inputs).await;
    let Status::Succeeded { output } = &course.status else { panic!("{:?}", course.status) };
    inputs.saw("Done", output);
    let inputs = inputs.0.into_inner().unwrap();
    let too_large: Vec<_> = inputs.iter().filter(|(_, bytes)| **bytes > MOST).collect();
    assert!(too_large.is_empty(), "{too_large:?}");
    // What the functions add to a run's input, and what a chunk carries to its dead letters.
    for (state, most) in [("Done", INPUT + 16 * 1024), ("DeadLetter", 8 * LONGEST_MESSAGE)] {
        let bytes = inputs[state];
        assert!(bytes > most / 2 && bytes < most, "{state}: {bytes}");
    }
}
