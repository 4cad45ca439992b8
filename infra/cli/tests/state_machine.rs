//! `infra/sync.asl.json`: every failure is handled as `FailureName` says, every payload is a contract, and a run
//! takes the way that the design draws.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_cli::engine::{
    Engine, Event, ItemSource, ItemsAt, Jitter, Observer, Progress as Course, ResultPath, Retrier, Start,
    State, StateMachine, Status, Task, TaskError, Tasks, Workflow,
};
use penstock_model::contract::{
    CONTRACT, DeadLetterRequest, DeadLetterResponse, DiffRequest, DiffResponse, FinishRequest,
    FinishResponse, GateRequest, GateResponse, GateVerdict, ObjectRef, PlanRequest, PlanResponse,
    PlanVerdict, Progress, ProgressStatus, PushRequest, ReadRequest, ReadResponse, RunRef, TransformRequest,
};
use penstock_model::failure::Handling;
use penstock_model::port::{Boxed, Clock, Random};
use penstock_model::report::RunStatus;
use penstock_model::{FailureName, Timestamp};
use serde_json::{Value, json};

const SOURCE: &str = include_str!("../../sync.asl.json");

/// What Lambda answers when it, and not the function, is in trouble.
const SERVICE: [&str; 5] = [
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
];

/// How a function ends that its input, or its size, kills.
const CRASH: [&str; 4] = ["Runtime.ExitError", "Sandbox.Timedout", "Lambda.Unknown", "States.Timeout"];

fn machine() -> StateMachine {
    StateMachine::parse(SOURCE).unwrap()
}

fn tasks_of<'a>(workflow: &'a Workflow, found: &mut Vec<(&'a str, &'a Task)>) {
    for (name, state) in &workflow.states {
        match state {
            State::Task(task) => found.push((name, task)),
            State::Map(map) => tasks_of(&map.workflow, found),
            State::Choice(_) | State::Wait(_) | State::Succeed | State::Fail(_) => {}
        }
    }
}

fn each_task(mut check: impl FnMut(&str, &Task)) {
    let machine = machine();
    let mut tasks = Vec::new();
    tasks_of(&machine.workflow, &mut tasks);
    assert_eq!(tasks.len(), 8, "one task for each function");
    for (name, task) in tasks {
        check(name, task);
    }
}

/// Whether a task works on one chunk, whose failure need not be the run's.
fn works_on_a_chunk(task: &Task) -> bool {
    matches!(task.function.as_str(), "TransformFunction" | "PushFunction")
}

fn retrier<'a>(task: &'a Task, error: &str) -> Option<&'a Retrier> {
    task.retry.iter().find(|retrier| retrier.error_equals.iter().any(|name| name == error))
}

fn catcher<'a>(task: &'a Task, error: &str) -> Option<&'a str> {
    let catcher = task.catch.iter().find(|catcher| catcher.error_equals.iter().any(|name| name == error))?;
    assert_eq!(catcher.result_path, ResultPath::Place(vec!["failure".to_owned()]));
    Some(&catcher.next)
}

fn grows_with_jitter(retrier: &Retrier) -> bool {
    retrier.jitter == Jitter::Full && retrier.backoff_rate > 1.0 && retrier.max_delay.is_some()
}

#[test]
fn every_failure_is_handled_on_every_task_as_its_name_says() {
    each_task(|state, task| {
        for name in FailureName::ALL {
            let (retried, caught) = (retrier(task, name.as_str()), catcher(task, name.as_str()));
            let letter = works_on_a_chunk(task).then_some("DeadLetter");
            let right = match name.handling() {
                Handling::Retry => {
                    retried.is_some_and(|r| grows_with_jitter(r) && r.max_attempts >= 3) && caught.is_none()
                }
                Handling::DeadLetterChunk => retried.is_none() && caught == letter,
                Handling::WaitForOtherRun if task.function == "PlanFunction" => {
                    let steady = |r: &Retrier| {
                        r.interval == Duration::from_secs(10)
                            && r.backoff_rate <= 1.0
                            && r.max_attempts == 720
                    };
                    retried.is_some_and(steady) && caught.is_none()
                }
                Handling::WaitForOtherRun
                | Handling::Abort
                | Handling::AbortBeforeSending
                | Handling::Stop
                | Handling::FailAfterCommit => retried.is_none() && caught.is_none(),
            };
            assert!(right, "{state}: {name} is {:?}, but {retried:?}, caught by {caught:?}", name.handling());
        }
    });
}

#[test]
fn the_platform_is_given_time_and_a_chunk_that_kills_its_function_becomes_dead_letters() {
    each_task(|state, task| {
        for name in SERVICE {
            let long = retrier(task, name).is_some_and(|r| grows_with_jitter(r) && r.max_attempts >= 20);
            assert!(long && catcher(task, name).is_none(), "{state}: {name}");
        }
        for name in CRASH {
            let few = retrier(task, name).is_some_and(|r| grows_with_jitter(r) && r.max_attempts == 2);
            let letter = works_on_a_chunk(task).then_some("DeadLetter");
            assert!(few && catcher(task, name) == letter, "{state}: {name}");
        }
    });
}

#[test]
fn no_other_name_is_retried_or_caught_and_none_twice() {
    let known: BTreeSet<&str> =
        FailureName::ALL.iter().map(|name| name.as_str()).chain(SERVICE).chain(CRASH).collect();
    each_task(|state, task| {
        let lists = [
            task.retry.iter().flat_map(|retrier| &retrier.error_equals).collect::<Vec<_>>(),
            task.catch.iter().flat_map(|catcher| &catcher.error_equals).collect(),
        ];
        for names in lists {
            let unique: BTreeSet<&str> = names.iter().map(|name| name.as_str()).collect();
            assert_eq!(unique.len(), names.len(), "{state}: a name is listed twice");
            assert!(unique.is_subset(&known), "{state}: {:?}", unique.difference(&known));
        }
    });
    for state in machine().workflow.states.values() {
        let State::Map(map) = state else { continue };
        // A Map that was retried or left could not be redriven.
        assert!(map.retry.is_empty() && map.catch.is_empty(), "{}", map.label);
        assert_eq!((map.tolerated_count, map.tolerated_percentage), (Some(0), None), "{}", map.label);
    }
}

#[test]
fn a_task_waits_longer_than_its_function_can_run() {
    let mut timeouts = BTreeMap::new();
    each_task(|_, task| {
        timeouts.insert(task.function.clone(), task.timeout.as_secs());
    });
    // The functions' own timeouts, as the template has them.
    let functions = [
        ("PlanFunction", 300),
        ("ReadFunction", 600),
        ("DiffFunction", 600),
        ("GateFunction", 300),
        ("TransformFunction", 300),
        ("PushFunction", 600),
        ("DeadLetterFunction", 300),
        ("FinishFunction", 600),
    ];
    assert_eq!(timeouts, functions.map(|(name, seconds)| (name.to_owned(), seconds + 30)).into());
}

/// The failure, if any, of a function's try (counted from 1) at an item.
type Fails = dyn Fn(&str, u32, u32) -> Option<&'static str> + Send + Sync;

/// Every function by its contract: requests are read strictly, answers are written as the functions write them.
struct Functions {
    plan: PlanVerdict,
    gate: GateVerdict,
    fails: Box<Fails>,
    /// The answer to the push with this number of a chunk.
    push: fn(u32, u32) -> (ProgressStatus, u32),
    tries: Mutex<BTreeMap<(String, u32), u32>>,
    calls: Mutex<Vec<String>>,
}

fn object(key: &str) -> ObjectRef {
    ObjectRef { bucket: "bucket".to_owned(), key: key.to_owned() }
}

fn run() -> RunRef {
    RunRef { sync: "customers".to_owned(), run: "run-1".to_owned(), fence: 7 }
}

fn read<T: serde::de::DeserializeOwned>(payload: Value) -> T {
    serde_json::from_value(payload.clone()).unwrap_or_else(|error| panic!("{error} in {payload}"))
}

fn written(response: impl serde::Serialize) -> Value {
    serde_json::to_value(response).unwrap()
}

impl Functions {
    fn new(plan: PlanVerdict, gate: GateVerdict) -> Self {
        Self {
            plan,
            gate,
            fails: Box::new(|_, _, _| None),
            push: |_, _| (ProgressStatus::Done, 0),
            tries: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// The item that a payload is about, once it has been read as its function reads it.
    fn item(function: &str, payload: Value) -> (u32, RunRef, u32) {
        match function {
            "PlanFunction" => {
                let request: PlanRequest = read(payload);
                assert_eq!((request.run.as_str(), request.execution.as_str()), ("run-1", "arn:run-1"));
                assert_eq!(request.request.sync, "customers");
                (request.contract, run(), 0)
            }
            "ReadFunction" => {
                let ReadRequest { contract, run, split } = read(payload);
                (contract, run, split)
            }
            "DiffFunction" => {
                let DiffRequest { contract, run, partition } = read(payload);
                (contract, run, partition)
            }
            "GateFunction" => {
                let GateRequest { contract, run } = read(payload);
                (contract, run, 0)
            }
            "TransformFunction" => {
                let TransformRequest { contract, run, chunk } = read(payload);
                (contract, run, chunk)
            }
            "PushFunction" => {
                let PushRequest { contract, run, chunk, cursor, rounds } = read(payload);
                assert_eq!(cursor, (rounds > 0).then(|| format!("after {rounds}")));
                (contract, run, chunk)
            }
            "DeadLetterFunction" => {
                let DeadLetterRequest { contract, run, chunk, failure } = read(payload);
                assert_eq!(failure.cause, "as scripted");
                (contract, run, chunk)
            }
            "FinishFunction" => {
                let FinishRequest { contract, run } = read(payload);
                (contract, run, 0)
            }
            other => panic!("there is no {other}"),
        }
    }

    fn answer(&self, function: &str, item: u32, rounds: u32) -> Value {
        let contract = CONTRACT;
        match function {
            "PlanFunction" => written(PlanResponse {
                contract,
                verdict: self.plan,
                run: run(),
                splits: object("split"),
                partitions: object("partition"),
                read_concurrency: 2,
                diff_concurrency: 2,
            }),
            "ReadFunction" => written(ReadResponse { contract, rows: 5 }),
            "DiffFunction" => written(DiffResponse { contract, changes: 5 }),
            "GateFunction" => written(GateResponse {
                contract,
                verdict: self.gate,
                chunks: object("chunk"),
                more: false,
                concurrency: 2,
            }),
            "TransformFunction" => written(Progress {
                contract,
                status: ProgressStatus::Paused,
                cursor: None,
                rounds: 0,
                resume_after_s: 0,
            }),
            "PushFunction" => {
                let rounds = rounds + 1;
                let (status, resume_after_s) = (self.push)(item, rounds);
                let cursor = Some(format!("after {rounds}"));
                written(Progress { contract, status, cursor, rounds, resume_after_s })
            }
            "DeadLetterFunction" => written(DeadLetterResponse { contract, dead_letters: 5 }),
            _ => written(FinishResponse { contract, status: RunStatus::Succeeded, report: object("report") }),
        }
    }
}

impl Tasks for Functions {
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>> {
        let rounds = payload.get("rounds").and_then(Value::as_u64).unwrap_or(0);
        let (contract, of, item) = Self::item(function, payload);
        assert_eq!((contract, of), (CONTRACT, run()));
        let attempt = {
            let mut tries = self.tries.lock().unwrap();
            let attempt = tries.entry((function.to_owned(), item)).or_default();
            *attempt += 1;
            *attempt
        };
        let result = match (self.fails)(function, item, attempt) {
            Some(name) => Err(TaskError { name: name.to_owned(), cause: "as scripted".to_owned() }),
            None => Ok(self.answer(function, item, u32::try_from(rounds).unwrap())),
        };
        let what = result.as_ref().map_or_else(|error| format!(" {}", error.name), |_| String::new());
        let call = format!("{} {item}{what}", function.trim_end_matches("Function"));
        self.calls.lock().unwrap().push(call);
        Box::pin(async move { result })
    }
}

/// Items `0..count` under the name that a Map's children call them by.
struct Items(BTreeMap<&'static str, u32>);

impl ItemSource for Items {
    fn read<'a>(&'a self, at: &'a ItemsAt) -> Boxed<'a, Result<Vec<Value>, Box<dyn Error + Send + Sync>>> {
        assert_eq!(at.bucket, "bucket");
        let count = self.0.get(at.key.as_str()).copied();
        let items = count.map(|count| (0..count).map(|n| json!({ at.key.as_str(): n })).collect());
        Box::pin(async move { items.ok_or_else(|| "no such object".into()) })
    }
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Random for Still {
    fn next(&self) -> u64 {
        u64::MAX
    }
}

struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
    fn progress(&self, _: &Course) {}
}

fn engine(functions: &Arc<Functions>) -> Engine {
    let items = Items(BTreeMap::from([("split", 2), ("partition", 2), ("chunk", 4)]));
    let functions = Arc::clone(functions) as Arc<dyn Tasks>;
    Engine::new(machine(), functions, Arc::new(items), Arc::new(Still), Arc::new(Still))
}

async fn start(functions: &Arc<Functions>) -> Course {
    let start = Start {
        id: "arn:run-1".to_owned(),
        name: "run-1".to_owned(),
        input: json!({ "sync": "customers", "options": { "full": true } }),
    };
    engine(functions).start(start, &Silent).await
}

impl Functions {
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

fn way(course: &Course) -> Vec<&str> {
    course.exited.iter().map(|exited| exited.state.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_reads_compares_and_delivers() {
    let functions = Arc::new(Functions {
        fails: Box::new(|function, item, _| {
            (function == "TransformFunction" && item == 2).then_some("ChunkUnreadable")
        }),
        push: |chunk, rounds| match (chunk, rounds) {
            (1, 1) => (ProgressStatus::Paused, 0),
            (1, 2) => (ProgressStatus::Paused, 45),
            (3, _) => (ProgressStatus::Unfinished, 0),
            _ => (ProgressStatus::Done, 0),
        },
        ..Functions::new(PlanVerdict::Read, GateVerdict::Deliver)
    });
    let started = tokio::time::Instant::now();
    let course = start(&functions).await;
    let Status::Succeeded { output } = &course.status else { panic!("{:?}", course.status) };
    assert_eq!(output["finish"], json!({"contract": 1, "status": "succeeded", "report": object("report")}));
    assert_eq!(
        way(&course),
        ["Plan", "WhatToDo", "Read", "Diff", "Gate", "WhatToDeliver", "Deliver", "Finish", "Done"]
    );
    assert_eq!(started.elapsed().as_secs(), 45, "only the destination's wish is waited for");
    let mut calls = functions.calls();
    calls.sort();
    let expected = [
        "DeadLetter 2",
        "Diff 0",
        "Diff 1",
        "Finish 0",
        "Gate 0",
        "Plan 0",
        "Push 0",
        "Push 1",
        "Push 1",
        "Push 1",
        "Push 3",
        "Read 0",
        "Read 1",
        "Transform 0",
        "Transform 1",
        "Transform 2 ChunkUnreadable",
        "Transform 3",
    ];
    assert_eq!(calls, expected);
}

#[tokio::test(start_paused = true)]
async fn a_run_leaves_out_what_there_is_no_need_for() {
    for (plan, gate, expected) in [
        (PlanVerdict::NothingNew, GateVerdict::Finish, vec!["Plan", "WhatToDo", "Skipped"]),
        (
            PlanVerdict::Deliver,
            GateVerdict::Deliver,
            vec!["Plan", "WhatToDo", "Gate", "WhatToDeliver", "Deliver", "Finish", "Done"],
        ),
        (
            PlanVerdict::Read,
            GateVerdict::Finish,
            vec!["Plan", "WhatToDo", "Read", "Diff", "Gate", "WhatToDeliver", "Finish", "Done"],
        ),
    ] {
        let course = start(&Arc::new(Functions::new(plan, gate))).await;
        assert!(matches!(course.status, Status::Succeeded { .. }), "{:?}", course.status);
        assert_eq!(way(&course), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_the_other_run_of_its_sync_but_not_for_ever() {
    let functions = |fails: Box<Fails>| {
        Arc::new(Functions { fails, ..Functions::new(PlanVerdict::NothingNew, GateVerdict::Finish) })
    };
    let started = tokio::time::Instant::now();
    let course = start(&functions(Box::new(|_, _, attempt| (attempt <= 3).then_some("RunInProgress")))).await;
    assert_eq!((way(&course).len(), started.elapsed().as_secs()), (3, 90));
    let started = tokio::time::Instant::now();
    let course = start(&functions(Box::new(|_, _, _| Some("RunInProgress")))).await;
    assert_eq!(course.root_failure().unwrap().error, "RunInProgress");
    assert_eq!(started.elapsed().as_secs(), 2 * 60 * 60);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_fails_the_run_and_a_redrive_sends_the_rest_from_its_cursors() {
    let functions = Arc::new(Functions {
        fails: Box::new(|function, chunk, attempt| {
            (function == "PushFunction" && chunk == 1 && attempt == 2).then_some("DestinationUnauthorized")
        }),
        push: |chunk, rounds| {
            if (chunk, rounds) == (1, 1) { (ProgressStatus::Paused, 30) } else { (ProgressStatus::Done, 0) }
        },
        ..Functions::new(PlanVerdict::Read, GateVerdict::Deliver)
    });
    let failed = start(&functions).await;
    assert_eq!(failed.root_failure().unwrap().error, "DestinationUnauthorized");
    assert_eq!(failed.position.state, "Deliver");
    functions.calls();
    let course = engine(&functions).redrive(failed, &Silent).await.unwrap();
    assert!(matches!(course.status, Status::Succeeded { .. }));
    // The push of chunk 1 is its second round: the functions above check that it comes with its cursor.
    assert_eq!(functions.calls(), ["Push 1", "Finish 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_kills_its_function_on_every_try_becomes_dead_letters() {
    for name in CRASH {
        let fails =
            move |function: &str, chunk, _| (function == "PushFunction" && chunk == 0).then_some(name);
        let functions = Arc::new(Functions {
            fails: Box::new(fails),
            ..Functions::new(PlanVerdict::Deliver, GateVerdict::Deliver)
        });
        assert!(matches!(start(&functions).await.status, Status::Succeeded { .. }));
        let calls = functions.calls();
        assert_eq!(calls.iter().filter(|call| call.starts_with("Push 0")).count(), 3, "{calls:?}");
        assert!(calls.contains(&"DeadLetter 0".to_owned()));
    }
}
