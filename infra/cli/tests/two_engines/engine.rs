//! What a scenario asks of whoever runs the bundle.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use penstock_cli::definitions::check;
use penstock_cli::local::publish;
use penstock_model::Timestamp;
use penstock_model::contract::StartRequest;
use penstock_model::layout::RunKeys;
use penstock_model::port::{Boxed, Condition, Objects, OpenObjects};
use penstock_model::report::RunReport;
use penstock_store::reports;
use serde_json::Value;

use crate::harness::{Customer, write_customers};
use crate::said::Used;

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its name.
    pub(crate) run: String,
    /// The failure's name; none if it succeeded.
    pub(crate) failure: Option<String>,
    /// Its report, if it came so far.
    pub(crate) report: Option<RunReport>,
}

impl Ended {
    /// The report's counts that are not zero, as `added 3, accepted 3`.
    pub(crate) fn counts(&self) -> String {
        assert_eq!(self.failure, None, "{self:?}");
        let report = self.report.as_ref().expect("a run that succeeded has a report");
        crate::harness::counts(&serde_json::json!({ "counts": report.counts }))
    }
}

/// What an engine has said while it ran a scenario.
pub(crate) struct Said {
    /// The functions' logs.
    pub(crate) logs: String,
    /// What the state machine has carried: every input, output, error and cause.
    pub(crate) payloads: String,
}

/// Runs the bundle. What is named in it (syncs, secrets, unloads) is the scenario's own: scenarios share a stack.
pub(crate) trait Engine: Sync {
    /// What the names of this scenario's syncs, connections and secrets begin with.
    fn name(&self) -> &str;

    /// The time, as the engine has it.
    fn now(&self) -> Timestamp;

    /// What the scenario has used, and nobody may say.
    fn used(&self) -> &Used;

    /// What the engine has said so far, of this scenario and perhaps of others.
    fn said(&self) -> Boxed<'_, Said>;

    /// Definitions, state and runs.
    fn state(&self) -> Arc<dyn Objects>;

    /// Opens the place where unloads lie.
    fn opener(&self) -> Arc<dyn OpenObjects>;

    /// Where this scenario's unloads lie: a bucket or a folder, with the scenario's prefix.
    fn unloads(&self) -> (String, String);

    /// Sets a secret that connections can name.
    fn put_secret<'a>(&'a self, name: &'a str, value: &'a str) -> Boxed<'a, ()>;

    /// Starts a sync, and waits for its end.
    fn run<'a>(&'a self, request: StartRequest) -> Boxed<'a, Ended>;

    /// Gives an event to route, as a trigger would: what route answers, or the failure's name.
    fn route(&self, event: Value) -> Boxed<'_, Result<Value, String>>;

    /// The runs of a sync that an event has started, each at its end. Waits until there is one.
    fn started_by_events<'a>(&'a self, sync: &'a str) -> Boxed<'a, Vec<Ended>>;

    /// Lets a schedule of this name be due.
    fn schedule_is_due<'a>(&'a self, name: &'a str) -> Boxed<'a, ()>;

    /// Tells of an object that was written into the unloads' bucket, once more than the platform does.
    fn tell_of_object<'a>(&'a self, key: &'a str) -> Boxed<'a, ()>;

    /// Kills the workers that push to this port of this machine, as a machine does that runs out of memory. How many there
    /// were.
    fn kill_pushes(&self, port: u16) -> u32;
}

/// The scenario's sync with its files, checked and published.
pub(crate) async fn publish_sync(engine: &dyn Engine, files: &[(&str, String)]) {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        if name.starts_with("syncs/") {
            paths.push(path);
        }
    }
    let checked = check::check(&paths, engine.opener().as_ref()).await;
    assert!(checked.mistakes.is_empty(), "{:?}", checked.mistakes);
    for sync in &checked.syncs {
        publish(engine.state().as_ref(), sync).await.unwrap();
    }
}

/// Leaves an unload, complete by its marker, which is written last. Gives the marker's key.
pub(crate) async fn unload(engine: &dyn Engine, day: &str, rows: &[Customer]) -> String {
    for row in rows {
        engine.used().row(row);
    }
    let (root, prefix) = engine.unloads();
    let objects = engine.opener().open(&root).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part.parquet");
    write_customers(&file, rows);
    put(objects.as_ref(), &format!("{prefix}dt={day}/part-00000.parquet"), &file).await;
    let marker = format!("{prefix}dt={day}/_SUCCESS");
    objects.put(&marker, Bytes::from_static(b"done"), Condition::Always).await.unwrap();
    marker
}

async fn put(objects: &dyn Objects, key: &str, file: &Path) {
    let body = Bytes::from(std::fs::read(file).unwrap());
    objects.put(key, body, Condition::Always).await.unwrap();
}

/// Sets the scenario's own secret.
pub(crate) async fn put_own_secret(engine: &dyn Engine, value: &str) {
    engine.used().text(value);
    engine.put_secret(engine.name(), value).await;
}

/// A run's report.
pub(crate) async fn report(state: &dyn Objects, sync: &str, run: &str) -> Option<RunReport> {
    reports::of_run(state, &RunKeys { sync, run }).await.unwrap()
}

/// A plain request for a sync.
pub(crate) fn request(sync: &str) -> StartRequest {
    StartRequest {
        sync: sync.to_owned(),
        environment: None,
        options: penstock_model::contract::RunOptions::default(),
        trigger: None,
    }
}
