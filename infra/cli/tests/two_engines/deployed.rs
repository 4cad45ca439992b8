//! The deployed bundle, through the AWS API. `infra/test.sh aws` starts an emulator, deploys the stack and sets what is read here.

use std::sync::Arc;
use std::time::Duration;

use penstock_lambda_kit::clock::SystemClock;
use penstock_model::Timestamp;
use penstock_model::contract::StartRequest;
use penstock_model::port::{Boxed, Clock as _, Objects, OpenObjects};
use penstock_store::aws::Clients;
use penstock_store::{Opener, S3Objects};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::engine::{Ended, Engine, Said, report};
use crate::said::Used;
use crate::scenarios::object_created;

/// Longer than any scenario's run takes, and than the minute between two firings of the schedule.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// What the deployment is called.
struct Outputs {
    endpoint: String,
    state_bucket: String,
    unload_bucket: String,
    state_machine: String,
    route: String,
    log_group: String,
    state_machine_logs: String,
    lost_events: String,
}

impl Outputs {
    fn from_environment() -> Self {
        let variables: std::collections::HashMap<String, String> = std::env::vars().collect();
        let of = |name: &str| {
            let value = variables.get(name).cloned();
            value.unwrap_or_else(|| {
                panic!("{name} is not set: run this with infra/test.sh aws, which deploys a stack")
            })
        };
        Self {
            endpoint: of("AWS_ENDPOINT_URL"),
            state_bucket: of("PENSTOCK_TEST_STATE_BUCKET"),
            unload_bucket: of("PENSTOCK_TEST_UNLOAD_BUCKET"),
            state_machine: of("PENSTOCK_TEST_STATE_MACHINE"),
            route: of("PENSTOCK_TEST_ROUTE"),
            log_group: of("PENSTOCK_TEST_LOG_GROUP"),
            state_machine_logs: of("PENSTOCK_TEST_STATE_MACHINE_LOGS"),
            lost_events: of("PENSTOCK_TEST_LOST_EVENTS"),
        }
    }
}

/// A scenario's part of the stack.
pub(crate) struct Stack {
    name: String,
    outputs: Outputs,
    clients: Clients,
    used: Used,
}

impl Stack {
    pub(crate) async fn new(scenario: &str) -> Self {
        Self {
            // A stack may have seen other runs of these scenarios.
            name: format!("{}-{}", scenario.replace('_', "-"), std::process::id()),
            outputs: Outputs::from_environment(),
            clients: Clients::from_profile().await,
            used: Used::default(),
        }
    }

    /// Calls a service for which the bundle has no client. The emulator does not look at signatures.
    async fn call(&self, service: &str, path: &str, header: &str, body: &Value) -> (u16, String) {
        let host = self.outputs.endpoint.trim_start_matches("http://");
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, \
             Signature=0\r\n{header}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn ended(&self, sync: &str, arn: &str) -> Ended {
        let began = self.now();
        loop {
            let execution =
                self.clients.step_functions().describe_execution().execution_arn(arn).send().await.unwrap();
            if execution.status().as_str() == "RUNNING" {
                assert!(began.until(self.now()) < PATIENCE, "{arn} does not end");
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            let run = execution.name().unwrap().to_owned();
            let state = self.state();
            let report = report(state.as_ref(), sync, &run).await;
            let failure = match execution.error() {
                // All that Step Functions says of a Map's children; `penstock runs` says what stopped them.
                Some("States.ExceedToleratedFailureThreshold") => {
                    let keys = penstock_model::layout::RunKeys { sync, run: &run };
                    penstock_commit::look_at_run(state.as_ref(), &keys)
                        .await
                        .unwrap()
                        .and_then(|run| run.failure)
                }
                other => other.map(str::to_owned),
            };
            return Ended { run, failure, report };
        }
    }

    /// The executions whose input names this sync, oldest first.
    async fn executions_of(&self, sync: &str) -> Vec<String> {
        let listed =
            self.clients.step_functions().list_executions().state_machine_arn(&self.outputs.state_machine);
        let listed = listed.max_results(1_000).send().await.unwrap();
        let mut found = Vec::new();
        for execution in listed.executions() {
            let arn = execution.execution_arn();
            let told =
                self.clients.step_functions().describe_execution().execution_arn(arn).send().await.unwrap();
            let input: Value = serde_json::from_str(told.input().unwrap_or("{}")).unwrap();
            if input["sync"] == sync {
                found.push((execution.start_date().as_nanos(), arn.to_owned()));
            }
        }
        found.sort();
        found.into_iter().map(|(_, arn)| arn).collect()
    }

    /// Every line of a log group.
    async fn lines_of(&self, log_group: &str) -> String {
        let mut lines = String::new();
        let mut filter = json!({ "logGroupName": log_group, "limit": 10_000 });
        loop {
            let (status, answer) =
                self.call("logs", "/", "X-Amz-Target: Logs_20140328.FilterLogEvents", &filter).await;
            assert_eq!(status, 200, "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            for event in answer["events"].as_array().unwrap() {
                lines.push_str(event["message"].as_str().unwrap());
                lines.push('\n');
            }
            match answer["nextToken"].as_str() {
                Some(token) => filter["nextToken"] = token.into(),
                None => return lines,
            }
        }
    }

    /// Everything that an execution and its Maps' children have carried.
    async fn history_of(&self, execution: &str) -> String {
        let step_functions = self.clients.step_functions();
        let mut executions = vec![execution.to_owned()];
        let maps = step_functions.list_map_runs().execution_arn(execution).send().await.unwrap();
        for map in maps.map_runs() {
            let children = step_functions.list_executions().map_run_arn(map.map_run_arn());
            let children = children.max_results(1_000).send().await.unwrap();
            executions.extend(children.executions().iter().map(|child| child.execution_arn().to_owned()));
        }
        let mut carried = String::new();
        for execution in executions {
            let history = step_functions.get_execution_history().execution_arn(&execution);
            let mut pages = history.include_execution_data(true).into_paginator().send();
            while let Some(page) = pages.next().await {
                carried.push_str(&format!("{:?}", page.unwrap().events()));
            }
        }
        carried
    }
}

/// What no laptop has.
impl Stack {
    /// Gives an event to route as the rule and the schedules do: nobody waits for the answer.
    pub(crate) async fn tell_route(&self, event: &Value) {
        let path = format!("/2015-03-31/functions/{}/invocations", self.outputs.route);
        let (status, body) = self.call("lambda", &path, "X-Amz-Invocation-Type: Event", event).await;
        assert_eq!(status, 202, "{body}");
    }

    /// The first lost event that holds this word.
    pub(crate) async fn lost_event(&self, word: &str) -> Value {
        let receive =
            json!({ "QueueUrl": self.outputs.lost_events, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
        let began = self.now();
        while began.until(self.now()) < PATIENCE {
            let (status, body) =
                self.call("sqs", "/", "X-Amz-Target: AmazonSQS.ReceiveMessage", &receive).await;
            assert_eq!(status, 200, "{body}");
            let answer: Value = serde_json::from_str(&body).unwrap();
            for message in answer["Messages"].as_array().into_iter().flatten() {
                let message = message["Body"].as_str().unwrap();
                if message.contains(word) {
                    return serde_json::from_str(message).unwrap();
                }
            }
        }
        panic!("the queue of lost events holds nothing with {word}");
    }
}

/// The processes that have a connection to this port of 127.0.0.1, by what Linux tells of sockets.
fn connected_to(port: u16) -> Vec<u32> {
    // Remote address and state (01 is ESTABLISHED) in the third and fourth column, the inode in the tenth.
    let remote = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(2) == Some(&remote.as_str()) && columns.get(3) == Some(&"01"))
        .map(|columns| format!("socket:[{}]", columns[9]))
        .collect();
    let holds_one = |pid: &u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(holds_one).collect()
}

impl Engine for Stack {
    fn name(&self) -> &str {
        &self.name
    }

    fn now(&self) -> Timestamp {
        SystemClock::new().now()
    }

    fn used(&self) -> &Used {
        &self.used
    }

    fn said(&self) -> Boxed<'_, Said> {
        Box::pin(async move {
            let mut logs = self.lines_of(&self.outputs.log_group).await;
            logs.push_str(&self.lines_of(&self.outputs.state_machine_logs).await);
            let mut payloads = self.outputs.state_machine.clone();
            for execution in self.executions_of(&self.name).await {
                payloads.push_str(&self.history_of(&execution).await);
            }
            Said { logs, payloads }
        })
    }

    fn state(&self) -> Arc<dyn Objects> {
        Arc::new(S3Objects::new(self.clients.s3(), self.outputs.state_bucket.as_str()))
    }

    fn opener(&self) -> Arc<dyn OpenObjects> {
        Arc::new(Opener::new(self.clients.s3()))
    }

    fn unloads(&self) -> (String, String) {
        (format!("s3://{}", self.outputs.unload_bucket), format!("{}/", self.name))
    }

    fn put_secret<'a>(&'a self, name: &'a str, value: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            let (secrets, id) = (self.clients.secrets_manager(), format!("penstock/{name}"));
            let created = secrets.create_secret().name(&id).secret_string(value).send().await;
            if created.is_err() {
                secrets.put_secret_value().secret_id(&id).secret_string(value).send().await.unwrap();
            }
        })
    }

    fn run<'a>(&'a self, request: StartRequest) -> Boxed<'a, Ended> {
        Box::pin(async move {
            let input = serde_json::to_string(&request).unwrap();
            let start = self
                .clients
                .step_functions()
                .start_execution()
                .state_machine_arn(&self.outputs.state_machine);
            let started = start.input(input).send().await.unwrap();
            self.ended(&request.sync, started.execution_arn()).await
        })
    }

    fn route(&self, event: Value) -> Boxed<'_, Result<Value, String>> {
        Box::pin(async move {
            let path = format!("/2015-03-31/functions/{}/invocations", self.outputs.route);
            let (status, body) =
                self.call("lambda", &path, "X-Amz-Invocation-Type: RequestResponse", &event).await;
            assert_eq!(status, 200, "{body}");
            let answer: Value = serde_json::from_str(&body).unwrap();
            match answer["errorType"].as_str() {
                Some(name) => Err(name.to_owned()),
                None => Ok(answer),
            }
        })
    }

    fn started_by_events<'a>(&'a self, sync: &'a str) -> Boxed<'a, Vec<Ended>> {
        Box::pin(async move {
            let began = self.now();
            loop {
                let executions = self.executions_of(sync).await;
                if !executions.is_empty() {
                    let mut ended = Vec::new();
                    for arn in &executions {
                        ended.push(self.ended(sync, arn).await);
                    }
                    return ended;
                }
                assert!(began.until(self.now()) < PATIENCE, "nothing has started {sync}");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    fn schedule_is_due<'a>(&'a self, _: &'a str) -> Boxed<'a, ()> {
        // The stack's `hourly` fires every minute.
        Box::pin(std::future::ready(()))
    }

    fn tell_of_object<'a>(&'a self, key: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            // The bucket has told of it by itself.
            let (root, _) = self.unloads();
            let objects = self.opener().open(&root).unwrap();
            let etag = objects.head(key).await.unwrap().unwrap().etag.0;
            let again = self.route(object_created(&root, key, etag.trim_matches('"'))).await.unwrap();
            let named = again["started"].as_array().unwrap().len() + again["known"].as_array().unwrap().len();
            assert_eq!(named, 1, "{again}");
        })
    }

    fn kill_pushes(&self, port: u16) -> u32 {
        let this = std::process::id();
        let workers = connected_to(port).into_iter().filter(|pid| *pid != this);
        let killed = workers.filter(|pid| {
            let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            kill.unwrap().success()
        });
        u32::try_from(killed.count()).unwrap()
    }
}
