//! Every payload in `events/` is what its function reads or writes.

#![expect(clippy::expect_used, reason = "a test may stop where a file is not there")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use penstock_model::contract::{
    CONTRACT, DeadLetterRequest, DeadLetterResponse, DiffRequest, DiffResponse, FinishRequest,
    FinishResponse, GateRequest, GateResponse, PlanRequest, PlanResponse, Progress, ProgressStatus,
    PushRequest, ReadRequest, ReadResponse, TransformRequest, UnloadRequest, UnloadResponse,
};
use penstock_model::definition::WrittenBy;
use penstock_route::{Event, Outcome, RouteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Says what is wrong with a payload.
type Check = fn(Value) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("trigger.unload-complete.json", unload_complete),
    ("trigger.redshift-statement.json", redshift_statement),
    ("trigger.athena-query.json", athena_query),
    ("trigger.run-succeeded.json", run_succeeded),
    ("trigger.schedule.json", schedule),
    ("trigger.look-for-overdue.json", look_for_overdue),
    ("trigger.request.json", request),
    ("trigger.replay.json", replay),
    ("route.response.json", contract::<RouteResponse>),
    ("plan.request.json", contract::<PlanRequest>),
    ("plan.response.json", contract::<PlanResponse>),
    ("unload.request.json", contract::<UnloadRequest>),
    ("unload.response.json", contract::<UnloadResponse>),
    ("read.request.json", contract::<ReadRequest>),
    ("read.response.json", contract::<ReadResponse>),
    ("diff.request.json", contract::<DiffRequest>),
    ("diff.response.json", contract::<DiffResponse>),
    ("gate.request.json", contract::<GateRequest>),
    ("gate.response.json", contract::<GateResponse>),
    ("transform.request.json", contract::<TransformRequest>),
    ("transform.response.json", contract::<Progress>),
    ("push.request.json", contract::<PushRequest>),
    ("push.response.paused.json", paused),
    ("push.response.done.json", done),
    ("dead-letter.request.ended.json", contract::<DeadLetterRequest>),
    ("dead-letter.request.failed.json", contract::<DeadLetterRequest>),
    ("dead-letter.response.json", contract::<DeadLetterResponse>),
    ("finish.request.json", contract::<FinishRequest>),
    ("finish.response.json", contract::<FinishResponse>),
];

/// The payload is a `T` of today's version, whole: writing it again gives the same.
fn contract<T: DeserializeOwned + Serialize>(payload: Value) -> Result<(), String> {
    decoded::<T>(&payload).map(drop)
}

fn decoded<T: DeserializeOwned + Serialize>(payload: &Value) -> Result<T, String> {
    if payload.get("contract") != Some(&Value::from(CONTRACT)) {
        return Err(format!("its contract is not {CONTRACT}"));
    }
    let decoded: T = serde_json::from_value(payload.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(&decoded).map_err(|error| error.to_string())?;
    if again == *payload { Ok(decoded) } else { Err(format!("written again it is {again}")) }
}

fn paused(payload: Value) -> Result<(), String> {
    let progress = decoded::<Progress>(&payload)?;
    let waits = progress.status == ProgressStatus::Paused && progress.resume_after_s >= 30;
    if waits { Ok(()) } else { Err("it does not pause for half a minute or more".to_owned()) }
}

fn done(payload: Value) -> Result<(), String> {
    let progress = decoded::<Progress>(&payload)?;
    if progress.status == ProgressStatus::Done { Ok(()) } else { Err("it is not done".to_owned()) }
}

fn routed(payload: Value) -> Result<Event, String> {
    penstock_route::read(payload, "an-invocation").map_err(|failure| failure.full_message())
}

/// Route reads the payload as what the file is meant to be.
fn read_as(payload: Value, is_meant: impl Fn(&Event) -> bool) -> Result<(), String> {
    let event = routed(payload)?;
    if is_meant(&event) { Ok(()) } else { Err(format!("route reads {event:?}")) }
}

fn unload_complete(payload: Value) -> Result<(), String> {
    read_as(payload, |event| {
        let expected = Event::ObjectCreated {
            bucket: "acme-unloads".to_owned(),
            key: "customers/dt=2026-11-21/manifest".to_owned(),
            etag: "9b2cf535f27731c974343645a3985328".to_owned(),
        };
        *event == expected
    })
}

fn redshift_statement(payload: Value) -> Result<(), String> {
    read_as(payload, |event| {
        let expected = Event::StatementEnded {
            statement: WrittenBy::RedshiftStatement("unload-customers".to_owned()),
            id: "dd2e1ec9-2ee3-49a0-819f-905fa7d75a4a".to_owned(),
            outcome: Outcome::Finished,
        };
        *event == expected
    })
}

fn athena_query(payload: Value) -> Result<(), String> {
    read_as(payload, |event| {
        let expected = Event::StatementEnded {
            statement: WrittenBy::AthenaWorkgroup("unloads".to_owned()),
            id: "d3e31b4c-c3e9-4dbd-9cb2-38d0f33ca0f8".to_owned(),
            outcome: Outcome::Finished,
        };
        *event == expected
    })
}

fn run_succeeded(payload: Value) -> Result<(), String> {
    read_as(payload, |event| {
        matches!(event, Event::RunSucceeded { request, run }
            if request.sync == "accounts-to-crm" && run == "accounts-to-crm-5f1c0d3e9a7b2468")
    })
}

fn schedule(payload: Value) -> Result<(), String> {
    read_as(
        payload,
        |event| matches!(event, Event::Schedule { name, due } if name == "nightly" && due == "2026-11-22T03:00:00Z"),
    )
}

fn look_for_overdue(payload: Value) -> Result<(), String> {
    read_as(
        payload,
        |event| matches!(event, Event::LookForOverdue { due } if due.rfc3339() == "2026-11-22T03:30:00Z"),
    )
}

fn request(payload: Value) -> Result<(), String> {
    read_as(payload, |event| {
        matches!(event, Event::Start { request, .. }
            if request.sync == "customers-to-crm" && request.options.dry_run)
    })
}

fn replay(payload: Value) -> Result<(), String> {
    read_as(payload, |event| {
        matches!(event, Event::Start { request, .. }
            if request.options.replay.as_ref().is_some_and(|replay| replay.fingerprint.is_some()))
    })
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(project(path)).expect("the file is there")
}

#[test]
fn every_payload_is_what_its_function_reads_or_writes() {
    let wrong: Vec<String> = CHECKS
        .iter()
        .filter_map(|(file, check)| {
            let payload =
                serde_json::from_str(&text(&format!("events/{file}"))).expect("the file holds JSON");
            check(payload).err().map(|why| format!("events/{file}: {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_file_is_checked_and_explained() {
    let known: BTreeSet<String> = CHECKS.iter().map(|(file, _)| (*file).to_owned()).collect();
    let found: BTreeSet<String> = std::fs::read_dir(project("events"))
        .expect("the folder is there")
        .map(|entry| entry.expect("the folder can be listed").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(found, known, "events/ and the table in this test differ");
    let readme = text("events/README.md");
    let silent: Vec<_> = known.iter().filter(|file| !readme.contains(file.as_str())).collect();
    assert!(silent.is_empty(), "events/README.md says nothing of {silent:?}");
}

#[test]
fn the_templates_schedules_send_what_route_reads() {
    let template = text("template.yaml");
    let names: Vec<String> = template
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Input: '")?.strip_suffix('\''))
        // What EventBridge Scheduler puts in its place.
        .map(|input| input.replace("<aws.scheduler.scheduled-time>", "2026-11-22T03:00:00Z"))
        .map(|input| match routed(serde_json::from_str(&input).expect("the input is JSON")) {
            Ok(Event::Schedule { name, .. }) => name,
            Ok(Event::LookForOverdue { .. }) => "look for overdue".to_owned(),
            other @ (Ok(
                Event::ObjectCreated { .. }
                | Event::StatementEnded { .. }
                | Event::RunSucceeded { .. }
                | Event::Nothing { .. }
                | Event::Start { .. },
            )
            | Err(_)) => format!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["hourly", "nightly", "look for overdue"]);
}
