//! Every payload in `events/` is what its function reads or writes.

#![expect(clippy::expect_used, reason = "a test may stop where a file is not there")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use penstock_model::contract::{
    CONTRACT, DeadLetterRequest, DeadLetterResponse, DiffRequest, DiffResponse, FinishRequest,
    FinishResponse, GateRequest, GateResponse, PlanRequest, PlanResponse, Progress, ProgressStatus,
    PushRequest, ReadRequest, ReadResponse, TransformRequest,
};
use penstock_route::{Event, RouteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Says what is wrong with a payload.
type Check = fn(Value) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("trigger.unload-complete.json", unload_complete),
    ("trigger.schedule.json", schedule),
    ("trigger.request.json", request),
    ("trigger.replay.json", replay),
    ("route.response.json", contract::<RouteResponse>),
    ("plan.request.json", contract::<PlanRequest>),
    ("plan.response.json", contract::<PlanResponse>),
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
    ("dead-letter.request.json", contract::<DeadLetterRequest>),
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

fn unload_complete(payload: Value) -> Result<(), String> {
    match routed(payload)? {
        Event::ObjectCreated { bucket, key, etag } => {
            let expected =
                ("acme-unloads", "customers/dt=2026-11-21/manifest", "9b2cf535f27731c974343645a3985328");
            let found = (bucket.as_str(), key.as_str(), etag.as_str());
            if found == expected { Ok(()) } else { Err(format!("route reads {found:?}")) }
        }
        other @ (Event::Schedule { .. } | Event::Start { .. }) => Err(format!("route reads {other:?}")),
    }
}

fn schedule(payload: Value) -> Result<(), String> {
    match routed(payload)? {
        Event::Schedule { name, due } if name == "nightly" && due == "2026-11-22T03:00:00Z" => Ok(()),
        other @ (Event::ObjectCreated { .. } | Event::Schedule { .. } | Event::Start { .. }) => {
            Err(format!("route reads {other:?}"))
        }
    }
}

fn request(payload: Value) -> Result<(), String> {
    match routed(payload)? {
        Event::Start { request, .. } if request.sync == "customers-to-crm" && request.options.dry_run => {
            Ok(())
        }
        other @ (Event::ObjectCreated { .. } | Event::Schedule { .. } | Event::Start { .. }) => {
            Err(format!("route reads {other:?}"))
        }
    }
}

fn replay(payload: Value) -> Result<(), String> {
    match routed(payload)? {
        Event::Start { request, .. }
            if request.options.replay.as_ref().is_some_and(|replay| replay.fingerprint.is_some()) =>
        {
            Ok(())
        }
        other @ (Event::ObjectCreated { .. } | Event::Schedule { .. } | Event::Start { .. }) => {
            Err(format!("route reads {other:?}"))
        }
    }
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
        .map(|input| match routed(serde_json::from_str(input).expect("the input is JSON")) {
            Ok(Event::Schedule { name, .. }) => name,
            other @ (Ok(Event::ObjectCreated { .. } | Event::Start { .. }) | Err(_)) => format!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["hourly", "nightly"]);
}
