//! The ways a run takes.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_cli::engine::{
    Engine, Event, ItemSource, ItemsAt, Observer, Progress as Course, Start, Status, TaskError, Tasks,
};
use penstock_model::Timestamp;
use penstock_model::contract::{
    CONTRACT, DeadLetterRequest, DeadLetterResponse, DiffRequest, DiffResponse, FinishRequest,
    FinishResponse, GateRequest, GateResponse, GateVerdict, ObjectRef, PlanRequest, PlanResponse,
    PlanVerdict, Progress, ProgressStatus, PushRequest, ReadRequest, ReadResponse, RunRef, TransformRequest,
    UnloadRequest, UnloadResponse, UnloadStatus,
};
use penstock_model::cost::Usage;
use penstock_model::port::{Boxed, Clock, Random};
use penstock_model::report::RunStatus;
use penstock_model::work::{Work, WorkByFunction};
use serde_json::{Value, json};

use super::{CRASH, machine};

/// The failure, if any, of a function's try (counted from 1) at an item.
type Fails = dyn Fn(&str, u32, u32) -> Option<&'static str> + Send + Sync;

/// Every function by its contract: requests are read strictly, answers are written as the functions write them.
struct Functions {
    plan: PlanVerdict,
    gate: GateVerdict,
    /// Whether gate gives one chunk first, and the rest when it is asked again.
    canary: bool,
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
            canary: false,
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
            "UnloadFunction" => {
                let UnloadRequest { contract, run } = read(payload);
                (contract, run, 0)
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
                assert!(failure.is_none_or(|failure| failure.cause == "as scripted"));
                (contract, run, chunk)
            }
            "FinishFunction" => {
                let FinishRequest { contract, run } = read(payload);
                (contract, run, 0)
            }
            other => panic!("there is no {other}"),
        }
    }

    fn answer(&self, function: &str, item: u32, attempt: u32, rounds: u32) -> Value {
        let contract = CONTRACT;
        match function {
            "PlanFunction" => written(PlanResponse {
                contract,
                // Once the warehouse has unloaded, there is something to read.
                verdict: if self.plan == PlanVerdict::Unload && attempt > 1 {
                    PlanVerdict::Read
                } else {
                    self.plan
                },
                run: run(),
                splits: object("splits"),
                partitions: object("partitions"),
                read_concurrency: 2,
                diff_concurrency: 2,
            }),
            "UnloadFunction" => {
                let (status, resume_after_s) = match attempt {
                    1 => (UnloadStatus::Running, 30),
                    2 => (UnloadStatus::Running, 45),
                    _ => (UnloadStatus::Finished, 0),
                };
                written(UnloadResponse { contract, status, resume_after_s })
            }
            "ReadFunction" => written(ReadResponse { contract, rows: 5 }),
            "DiffFunction" => written(DiffResponse { contract, changes: 5 }),
            "GateFunction" => {
                let (chunks, more) = match (self.canary, attempt) {
                    (true, 1) => ("canary", true),
                    (true, _) => ("rest", false),
                    (false, _) => ("chunks", false),
                };
                let chunks = object(chunks);
                written(GateResponse { contract, verdict: self.gate, chunks, more, concurrency: 2 })
            }
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
            None => Ok(self.answer(function, item, attempt, u32::try_from(rounds).unwrap())),
        };
        let what = result.as_ref().map_or_else(|error| format!(" {}", error.name), |_| String::new());
        let call = format!("{} {item}{what}", function.trim_end_matches("Function"));
        self.calls.lock().unwrap().push(call);
        Box::pin(async move { result })
    }
}

/// The items in the objects that plan and gate name.
struct Items;

impl ItemSource for Items {
    fn read<'a>(&'a self, at: &'a ItemsAt) -> Boxed<'a, Result<Vec<Value>, Box<dyn Error + Send + Sync>>> {
        assert_eq!(at.bucket, "bucket");
        let (name, numbers) = match at.key.as_str() {
            "splits" => ("split", 0..2),
            "partitions" => ("partition", 0..2),
            "chunks" => ("chunk", 0..4),
            "canary" => ("chunk", 0..1),
            "rest" => ("chunk", 1..4),
            other => panic!("there is no object {other}"),
        };
        let items = numbers.map(|n| json!({ name: n })).collect();
        Box::pin(async move { Ok(items) })
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
    let functions = Arc::clone(functions) as Arc<dyn Tasks>;
    Engine::new(machine(), functions, Arc::new(Items), Arc::new(Still), Arc::new(Still))
}

async fn start(functions: &Arc<Functions>) -> Course {
    start_before(functions, &Silent).await
}

async fn start_before(functions: &Arc<Functions>, observer: &dyn Observer) -> Course {
    let start = Start {
        id: "arn:run-1".to_owned(),
        name: "run-1".to_owned(),
        input: json!({ "sync": "customers", "options": { "full": true } }),
    };
    engine(functions).start(start, observer).await
}

/// Counts what Step Functions charges for: states that are entered or repeated, and executions that a Map starts.
#[derive(Default)]
struct Charged(AtomicU64);

impl Observer for Charged {
    fn event(&self, event: Event<'_>) {
        let is_charged = match event {
            Event::StateEntered { .. }
            | Event::Retrying { .. }
            | Event::ChildSucceeded { .. }
            | Event::ChildFailed { .. } => true,
            Event::StateExited { .. }
            | Event::Caught { .. }
            | Event::Waiting { .. }
            | Event::MapStarted { .. } => false,
        };
        self.0.fetch_add(u64::from(is_charged), Ordering::Relaxed);
    }

    fn progress(&self, _: &Course) {}
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
        [
            "Plan",
            "WhatToDo",
            "Read",
            "Diff",
            "Gate",
            "WhatToDeliver",
            "Deliver",
            "WasItTheCanary",
            "Finish",
            "Done"
        ]
    );
    assert_eq!(started.elapsed().as_secs(), 45, "only the destination's wish is waited for");
    let mut calls = functions.calls();
    calls.sort();
    let expected = [
        "DeadLetter 0",
        "DeadLetter 1",
        "DeadLetter 2",
        "DeadLetter 3",
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
            vec!["Plan", "WhatToDo", "Gate", "WhatToDeliver", "Deliver", "WasItTheCanary", "Finish", "Done"],
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
async fn a_run_waits_for_the_unload_that_it_asks_for() {
    let functions = Arc::new(Functions {
        fails: Box::new(|function, _, attempt| {
            (function == "UnloadFunction" && attempt == 2).then_some("UnloadFailed")
        }),
        ..Functions::new(PlanVerdict::Unload, GateVerdict::Finish)
    });
    let started = tokio::time::Instant::now();
    let failed = start(&functions).await;
    assert!(matches!(failed.status, Status::Failed(_)), "{:?}", failed.status);
    let course = engine(&functions).redrive(failed, &Silent).await.unwrap();
    assert!(matches!(course.status, Status::Succeeded { .. }), "{:?}", course.status);
    assert_eq!(started.elapsed().as_secs(), 30);
    let asking = ["Plan", "WhatToDo", "Unload", "IsItUnloaded", "AwaitUnload", "Unload", "IsItUnloaded"];
    let reading = ["Plan", "WhatToDo", "Read", "Diff", "Gate", "WhatToDeliver", "Finish", "Done"];
    assert_eq!(way(&course), [asking.as_slice(), reading.as_slice()].concat());
}

#[tokio::test(start_paused = true)]
async fn a_run_sends_the_rest_only_once_its_canary_is_delivered() {
    let canary = |fails: Box<Fails>| {
        let functions = Functions::new(PlanVerdict::Deliver, GateVerdict::Deliver);
        Arc::new(Functions { canary: true, fails, ..functions })
    };
    let functions = canary(Box::new(|_, _, _| None));
    let course = start(&functions).await;
    assert!(matches!(course.status, Status::Succeeded { .. }), "{:?}", course.status);
    let gated = ["Gate", "WhatToDeliver", "Deliver", "WasItTheCanary"];
    assert_eq!(way(&course), [&["Plan", "WhatToDo"], &gated[..], &gated[..], &["Finish", "Done"]].concat());
    let mut calls = functions.calls();
    let rest = calls.split_off(5);
    assert_eq!(calls, ["Plan 0", "Gate 0", "Transform 0", "Push 0", "DeadLetter 0"]);
    let chunks: BTreeSet<&str> = rest.iter().filter_map(|call| call.strip_prefix("Push ")).collect();
    assert_eq!((rest.first().map(String::as_str), chunks), (Some("Gate 0"), BTreeSet::from(["1", "2", "3"])));

    let functions =
        canary(Box::new(|function, _, _| (function == "PushFunction").then_some("DestinationUnauthorized")));
    start(&functions).await;
    assert_eq!(functions.calls(), ["Plan 0", "Gate 0", "Transform 0", "Push 0 DestinationUnauthorized"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_the_other_run_of_its_sync_but_not_for_ever() {
    let functions = |fails: Box<Fails>| {
        Arc::new(Functions { fails, ..Functions::new(PlanVerdict::NothingNew, GateVerdict::Finish) })
    };
    let started = tokio::time::Instant::now();
    let course = start(&functions(Box::new(|_, _, attempt| (attempt <= 3).then_some("RunInProgress")))).await;
    assert_eq!((way(&course).len(), started.elapsed().as_secs()), (3, 30));
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
    assert_eq!(functions.calls(), ["Push 1", "DeadLetter 1", "Finish 0"]);
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

#[tokio::test(start_paused = true)]
async fn a_run_has_as_many_transitions_as_are_reckoned_from_its_invocations() {
    let functions = Functions::new;
    let chunk_2_is_unreadable: Box<Fails> = Box::new(|function, item, _| {
        (function == "TransformFunction" && item == 2).then_some("ChunkUnreadable")
    });
    let paused_once = |_, rounds| match rounds {
        1 => (ProgressStatus::Paused, 45),
        _ => (ProgressStatus::Done, 0),
    };
    let runs = [
        functions(PlanVerdict::NothingNew, GateVerdict::Finish),
        functions(PlanVerdict::Read, GateVerdict::Finish),
        functions(PlanVerdict::Unload, GateVerdict::Finish),
        functions(PlanVerdict::Deliver, GateVerdict::Deliver),
        Functions { canary: true, ..functions(PlanVerdict::Read, GateVerdict::Deliver) },
        Functions { push: paused_once, ..functions(PlanVerdict::Read, GateVerdict::Deliver) },
        Functions { fails: chunk_2_is_unreadable, ..functions(PlanVerdict::Read, GateVerdict::Deliver) },
    ];
    for (n, functions) in runs.into_iter().map(Arc::new).enumerate() {
        let charged = Charged::default();
        let course = start_before(&functions, &charged).await;
        assert!(matches!(course.status, Status::Succeeded { .. }), "{n}: {:?}", course.status);
        let mut work = WorkByFunction::new();
        for call in functions.calls() {
            let function =
                call.split(' ').next().unwrap().replace("DeadLetter", "dead-letter").to_lowercase();
            *work.entry(function).or_default() += Work { invocations: 1, ..Work::default() };
        }
        assert_eq!(Usage::of(&work).transitions, charged.0.into_inner(), "{n}: {work:?}");
    }
}
