//! The laptop's engine: objects in a folder, functions in this process.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use penstock_cli::engine::{Event, Observer, Progress};
use penstock_cli::local::{self, LocalExecutions, Platform, Start};
use penstock_destinations::{Parts, ReqwestTransport};
use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::random::SystemRandom;
use penstock_lambda_kit::{Invocation, invoke_in_process};
use penstock_model::contract::StartRequest;
use penstock_model::definition::SecretRef;
use penstock_model::port::{
    Boxed, Clock, Execution, Executions, ExecutionsUnavailable, Freshness, ObjectError, Objects, OpenObjects,
    Secret, SecretError, Secrets,
};
use penstock_store::FolderObjects;
use serde_json::{Value, json};

use crate::engine::{Ended, Engine};

/// The secrets of a scenario, which may change at any moment.
#[derive(Debug, Default)]
struct Held {
    now: Mutex<HashMap<String, String>>,
    /// As a warm function has them.
    fetched: Mutex<HashMap<String, String>>,
}

impl Secrets for Held {
    fn fetch<'a>(
        &'a self,
        reference: &'a SecretRef,
        freshness: Freshness,
    ) -> Boxed<'a, Result<Secret, SecretError>> {
        let SecretRef::Named(name) = reference else {
            panic!("a deployed bundle knows secrets by their names")
        };
        let mut fetched = self.fetched.lock().unwrap();
        if freshness == Freshness::Fresh || !fetched.contains_key(name) {
            fetched.insert(name.clone(), self.now.lock().unwrap()[name].clone());
        }
        Box::pin(std::future::ready(Ok(Secret::new(fetched[name].clone()))))
    }
}

/// Takes what route starts, as Step Functions does: each name once.
#[derive(Debug, Default)]
struct Inbox {
    names: Mutex<Vec<String>>,
    waiting: Mutex<VecDeque<StartRequest>>,
}

impl Executions for Inbox {
    fn describe<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn start<'a>(&'a self, name: &'a str, input: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        let mut names = self.names.lock().unwrap();
        let is_new = !names.iter().any(|known| known == name);
        if is_new {
            names.push(name.to_owned());
            self.waiting.lock().unwrap().push_back(serde_json::from_str(&input).unwrap());
        }
        Box::pin(std::future::ready(Ok(is_new)))
    }
}

/// Buckets as folders: route knows unloads in buckets only.
#[derive(Debug)]
struct Buckets(PathBuf);

impl OpenObjects for Buckets {
    fn open(&self, root: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        let bucket = root.strip_prefix("s3://").expect("an unload lies in a bucket");
        Ok(Arc::new(FolderObjects::new(self.0.join(bucket))))
    }
}

/// Watches nothing.
struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
    fn progress(&self, _: &Progress) {}
}

/// A laptop with a state folder of its own.
pub(crate) struct Laptop {
    name: String,
    folder: tempfile::TempDir,
    state: Arc<FolderObjects>,
    secrets: Arc<Held>,
    inbox: Arc<Inbox>,
}

impl Laptop {
    pub(crate) fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(FolderObjects::new(folder.path().join("state")));
        Self {
            name: scenario.replace('_', "-"),
            folder,
            state,
            secrets: Arc::default(),
            inbox: Arc::default(),
        }
    }

    async fn run_here(&self, request: StartRequest) -> Ended {
        let state = self.folder.path().join("state");
        let executions = LocalExecutions::new(&state);
        let parts = Parts {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            secrets: self.secrets.clone(),
            transport: Arc::new(ReqwestTransport::new().unwrap()),
        };
        let platform = Platform {
            state: self.state.clone(),
            unloads: self.opener(),
            executions: Arc::new(executions.clone()),
            parts,
            sizes: penstock_plan::Sizes::default(),
        };
        let StartRequest { sync, environment, options, trigger: _ } = request;
        let finished = local::run(&platform, &executions, Start { sync, environment, options }, &Silent);
        let local::Finished { result, report } = finished.await.unwrap();
        Ended { run: result.run_id, failure: result.failure.map(|failure| failure.name), report }
    }
}

impl Engine for Laptop {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> Arc<dyn Objects> {
        self.state.clone()
    }

    fn opener(&self) -> Arc<dyn OpenObjects> {
        Arc::new(Buckets(self.folder.path().join("buckets")))
    }

    fn unloads(&self) -> (String, String) {
        ("s3://unloads".to_owned(), format!("{}/", self.name))
    }

    fn put_secret<'a>(&'a self, name: &'a str, value: &'a str) -> Boxed<'a, ()> {
        self.secrets.now.lock().unwrap().insert(name.to_owned(), value.to_owned());
        Box::pin(std::future::ready(()))
    }

    fn run<'a>(&'a self, request: StartRequest) -> Boxed<'a, Ended> {
        Box::pin(self.run_here(request))
    }

    fn route(&self, event: Value) -> Boxed<'_, Result<Value, String>> {
        Box::pin(async move {
            let context =
                penstock_route::Context { state: self.state.clone(), executions: self.inbox.clone() };
            let deadline = SystemClock::new().now().plus(std::time::Duration::from_secs(60));
            let invocation = Invocation { request_id: "routed".to_owned(), deadline };
            let answer = invoke_in_process(event, &invocation, &context, penstock_route::handle).await;
            answer.map_err(|error| error.name)
        })
    }

    fn started_by_events<'a>(&'a self, sync: &'a str) -> Boxed<'a, Vec<Ended>> {
        Box::pin(async move {
            let mut ended = Vec::new();
            loop {
                let request = self.inbox.waiting.lock().unwrap().pop_front();
                match request {
                    Some(request) if request.sync == sync => ended.push(self.run_here(request).await),
                    Some(request) => panic!("{} was started, too", request.sync),
                    None => return ended,
                }
            }
        })
    }

    fn schedule_is_due<'a>(&'a self, name: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            self.route(json!({ "schedule": name, "due": "2026-01-01T00:00:00Z" })).await.unwrap();
        })
    }

    fn tell_of_object<'a>(&'a self, key: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            let (root, _) = self.unloads();
            let event = crate::scenarios::object_created(&root, key, "1");
            // No platform tells a laptop of it: these are both times.
            self.route(event.clone()).await.unwrap();
            self.route(event).await.unwrap();
        })
    }
}
