//! The laptop's engine: objects in a folder, functions in this process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use penstock_cli::engine::{self, Event, Observer, Progress, StateMachine, Status, TaskError, Tasks};
use penstock_cli::local::{Functions, NoWarehouse, Platform};
use penstock_destinations::{Parts, ReqwestTransport};
use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::metrics::Metrics;
use penstock_lambda_kit::random::SystemRandom;
use penstock_lambda_kit::{Invocation, invoke_in_process, logging};
use penstock_model::Timestamp;
use penstock_model::contract::StartRequest;
use penstock_model::definition::SecretRef;
use penstock_model::port::{
    Boxed, Clock, Execution, ExecutionStatus, Executions, ExecutionsUnavailable, Freshness, ObjectError,
    Objects, OpenObjects, Secret, SecretError, Secrets,
};
use penstock_store::FolderObjects;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::engine::{Ended, Engine, Said, report};
use crate::said::Used;

const STATE_MACHINE: &str = include_str!("../../../sync.asl.json");

/// A clock that runs faster than the machine's, so that what waits does not wait long.
#[derive(Debug)]
struct Hasty {
    clock: SystemClock,
    began: Timestamp,
    times: u32,
}

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        self.began.plus(self.began.until(self.clock.now()) * self.times)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        self.clock.sleep(duration / self.times)
    }
}

/// What the functions of every scenario in this process log, by the filter and in the form that they have on AWS.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        logging::start_into(move || writer.clone(), "debug");
        log
    })
}

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

/// Step Functions as the functions see it: starts each name once, and knows who runs.
#[derive(Debug, Default)]
struct Machine {
    names: Mutex<HashSet<String>>,
    waiting: Mutex<VecDeque<(String, StartRequest)>>,
    ended: Mutex<HashSet<String>>,
}

impl Executions for Machine {
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        let status = if self.ended.lock().unwrap().contains(execution) {
            ExecutionStatus::Ended
        } else {
            ExecutionStatus::Running
        };
        let known = self.names.lock().unwrap().contains(execution);
        let found = known.then_some(Execution { status, redriven_at: None });
        Box::pin(std::future::ready(Ok(found)))
    }

    fn start<'a>(&'a self, name: &'a str, input: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        let is_new = self.names.lock().unwrap().insert(name.to_owned());
        if is_new {
            let request = serde_json::from_str(&input).unwrap();
            self.waiting.lock().unwrap().push_back((name.to_owned(), request));
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

/// Functions whose pushes can be killed.
struct Mortal {
    functions: Arc<Functions>,
    pushing: Arc<AtomicU32>,
    kill: Arc<Notify>,
}

impl Tasks for Mortal {
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>> {
        let answer = self.functions.invoke(function, payload);
        if function != "PushFunction" {
            return answer;
        }
        Box::pin(async move {
            let killed = self.kill.notified();
            self.pushing.fetch_add(1, Ordering::SeqCst);
            let answer = tokio::select! {
                answer = answer => answer,
                () = killed => Err(TaskError {
                    name: "Runtime.ExitError".to_owned(),
                    cause: "the process was killed".to_owned(),
                }),
            };
            self.pushing.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

/// Keeps what the state machine carries.
#[derive(Debug, Default)]
struct Payloads(Mutex<String>);

impl Payloads {
    fn keep(&self, text: &str) {
        let mut all = self.0.lock().unwrap();
        all.push_str(text);
        all.push('\n');
    }
}

impl Observer for Payloads {
    fn event(&self, event: Event<'_>) {
        self.keep(&format!("{event:?}"));
    }

    fn progress(&self, progress: &Progress) {
        // `exited` grows with each state; its newest is the only one not kept yet.
        self.keep(&format!("{:?} {:?} {:?}", progress.exited.last(), progress.position, progress.status));
        for child in progress.map.iter().flat_map(|map| map.children.values()) {
            self.keep(&format!("{child:?}"));
        }
    }
}

/// A laptop with a state folder of its own.
pub(crate) struct Laptop {
    name: String,
    folder: tempfile::TempDir,
    state: Arc<FolderObjects>,
    clock: Arc<Hasty>,
    secrets: Arc<Held>,
    machine: Arc<Machine>,
    payloads: Payloads,
    pushing: Arc<AtomicU32>,
    kill: Arc<Notify>,
    used: Used,
}

impl Laptop {
    /// A laptop whose clock runs this many times as fast as the machine's.
    pub(crate) fn new(scenario: &str, times: u32) -> Self {
        log();
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(FolderObjects::new(folder.path().join("state")));
        let clock = SystemClock::new();
        Self {
            name: scenario.replace('_', "-"),
            folder,
            state,
            clock: Arc::new(Hasty { began: clock.now(), clock, times }),
            secrets: Arc::default(),
            machine: Arc::default(),
            payloads: Payloads::default(),
            pushing: Arc::default(),
            kill: Arc::default(),
            used: Used::default(),
        }
    }

    fn engine(&self) -> engine::Engine {
        let parts = Parts {
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
            secrets: self.secrets.clone(),
            transport: Arc::new(ReqwestTransport::new().unwrap()),
            known: Arc::default(),
        };
        let functions = Arc::new(Functions::new(&Platform {
            state: self.state.clone(),
            unloads: self.opener(),
            warehouse: Arc::new(NoWarehouse),
            executions: self.machine.clone(),
            parts,
            sizes: penstock_plan::Sizes::default(),
        }));
        let mortal = Arc::new(Mortal {
            functions: functions.clone(),
            pushing: self.pushing.clone(),
            kill: self.kill.clone(),
        });
        let machine = StateMachine::parse(STATE_MACHINE).unwrap();
        engine::Engine::new(machine, mortal, functions, self.clock.clone(), Arc::new(SystemRandom))
    }

    async fn run_as(&self, name: String, request: StartRequest) -> Ended {
        let input = serde_json::to_value(&request).unwrap();
        let told = json!({ "name": name, "status": "SUCCEEDED", "input": input.to_string() });
        self.machine.names.lock().unwrap().insert(name.clone());
        let start = engine::Start { id: name.clone(), name: name.clone(), input };
        let progress = self.engine().start(start, &self.payloads).await;
        self.machine.ended.lock().unwrap().insert(name.clone());
        let failure = match &progress.status {
            Status::Succeeded { .. } => None,
            Status::Failed(failure) => Some(progress.root_failure().unwrap_or(failure).error.clone()),
            other @ (Status::Running | Status::TimedOut) => panic!("{name} is {other:?}"),
        };
        if failure.is_none() {
            // As Step Functions tells of it.
            let event = json!({
                "version": "0", "id": "e", "detail-type": "Step Functions Execution Status Change", "source": "aws.states",
                "account": "000000000000", "time": "2026-01-01T00:00:00Z", "region": "us-east-1", "resources": [],
                "detail": told,
            });
            self.route(event).await.unwrap();
        }
        let report = report(self.state.as_ref(), &request.sync, &name).await;
        Ended { run: name, failure, report }
    }
}

impl Engine for Laptop {
    fn name(&self) -> &str {
        &self.name
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn used(&self) -> &Used {
        &self.used
    }

    fn said(&self) -> Boxed<'_, Said> {
        let logs = String::from_utf8(log().0.lock().unwrap().clone()).unwrap();
        let payloads = self.payloads.0.lock().unwrap().clone();
        Box::pin(std::future::ready(Said { logs, payloads }))
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
        let name = format!("run-{}", self.machine.names.lock().unwrap().len());
        Box::pin(self.run_as(name, request))
    }

    fn route(&self, event: Value) -> Boxed<'_, Result<Value, String>> {
        Box::pin(async move {
            let context = penstock_route::Context {
                state: self.state.clone(),
                executions: self.machine.clone(),
                metrics: Metrics::nowhere(),
                overdue_after: Duration::from_secs(26 * 3_600),
            };
            let deadline = self.clock.now().plus(Duration::from_secs(60));
            let invocation = Invocation::free("routed", deadline);
            let answer = invoke_in_process(event, &invocation, &context, penstock_route::handle).await;
            answer.map_err(|error| {
                self.payloads.keep(&error.cause);
                error.name
            })
        })
    }

    fn started_by_events<'a>(&'a self, sync: &'a str) -> Boxed<'a, Vec<Ended>> {
        Box::pin(async move {
            let mut ended = Vec::new();
            loop {
                let next = self.machine.waiting.lock().unwrap().pop_front();
                match next {
                    Some((name, request)) if request.sync == sync => {
                        ended.push(self.run_as(name, request).await);
                    }
                    Some((_, request)) => panic!("{} was started, too", request.sync),
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

    fn kill_pushes(&self, _: u16) -> u32 {
        let pushing = self.pushing.load(Ordering::SeqCst);
        self.kill.notify_waiters();
        pushing
    }
}
