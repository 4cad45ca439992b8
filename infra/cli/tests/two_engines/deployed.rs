//! The deployed bundle, through the AWS API. `infra/test.sh aws` starts an emulator, deploys the stack and sets what is read here.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::contract::StartRequest;
use penstock_model::port::{Boxed, Objects, OpenObjects};
use penstock_store::{Opener, S3Objects, clients};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::engine::{Ended, Engine, report};
use crate::scenarios::object_created;

/// Longer than any scenario's run takes, and than the minute between two firings of the schedule.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// What the deployment is called.
struct Outputs {
    endpoint: String,
    state_bucket: String,
    unload_bucket: String,
    state_machine: String,
    route: String,
    log_group: String,
    lost_events: String,
    /// The emulator's process: the functions' processes are its children.
    emulator: String,
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
            lost_events: of("PENSTOCK_TEST_LOST_EVENTS"),
            emulator: of("PENSTOCK_TEST_EMULATOR_PID"),
        }
    }
}

/// A scenario's part of the stack.
pub(crate) struct Stack {
    name: String,
    outputs: Outputs,
    clients: penstock_store::aws::Clients,
}

impl Stack {
    pub(crate) async fn new(scenario: &str) -> Self {
        Self {
            // A stack may have seen other runs of these scenarios.
            name: format!("{}-{}", scenario.replace('_', "-"), std::process::id()),
            outputs: Outputs::from_environment(),
            clients: clients().await,
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
        let began = std::time::Instant::now();
        loop {
            let execution =
                self.clients.step_functions.describe_execution().execution_arn(arn).send().await.unwrap();
            if execution.status().as_str() == "RUNNING" {
                assert!(began.elapsed() < PATIENCE, "{arn} does not end");
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
            self.clients.step_functions.list_executions().state_machine_arn(&self.outputs.state_machine);
        let listed = listed.max_results(1_000).send().await.unwrap();
        let mut found = Vec::new();
        for execution in listed.executions() {
            let arn = execution.execution_arn();
            let told =
                self.clients.step_functions.describe_execution().execution_arn(arn).send().await.unwrap();
            let input: Value = serde_json::from_str(told.input().unwrap_or("{}")).unwrap();
            if input["sync"] == sync {
                found.push((execution.start_date().as_nanos(), arn.to_owned()));
            }
        }
        found.sort();
        found.into_iter().map(|(_, arn)| arn).collect()
    }

    /// No function has logged, and no state has passed on, what only rows and secrets hold.
    pub(crate) async fn says_no_secret_and_no_value(&self) {
        let forbidden = ["@example.com", "Customer ", "token-1", "token-2"];
        let filter = json!({ "logGroupName": self.outputs.log_group, "limit": 10_000 });
        let (status, logs) =
            self.call("logs", "/", "X-Amz-Target: Logs_20140328.FilterLogEvents", &filter).await;
        assert_eq!(status, 200, "{logs}");
        assert!(
            logs.contains("\"run\"") || logs.contains("\\\"run\\\""),
            "the functions have logged nothing: {logs}"
        );
        for arn in self.executions_of(&self.name).await {
            let history = self.clients.step_functions.get_execution_history().execution_arn(&arn);
            let history = history.include_execution_data(true).max_results(1_000).send().await.unwrap();
            let told = format!("{history:?}");
            for word in forbidden {
                assert!(!told.contains(word), "the history of {arn} holds {word}");
            }
        }
        for word in forbidden {
            assert!(!logs.contains(word), "the log holds {word}");
        }
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
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
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

    /// Kills the processes that run push, as a machine does that runs out of memory. How many there were.
    pub(crate) fn kill_pushes(&self) -> u32 {
        let mut killed = 0;
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
            let parent = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            // The name in brackets may hold spaces.
            let parent = parent.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            if parent == Some(self.outputs.emulator.as_str())
                && environment.contains("AWS_LAMBDA_FUNCTION_NAME=penstock-PushFunction")
            {
                let status =
                    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
                killed += u32::from(status.success());
            }
        }
        killed
    }
}

impl Engine for Stack {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> Arc<dyn Objects> {
        Arc::new(S3Objects::new(self.clients.s3.clone(), self.outputs.state_bucket.as_str()))
    }

    fn opener(&self) -> Arc<dyn OpenObjects> {
        Arc::new(Opener::new(self.clients.s3.clone()))
    }

    fn unloads(&self) -> (String, String) {
        (format!("s3://{}", self.outputs.unload_bucket), format!("{}/", self.name))
    }

    fn put_secret<'a>(&'a self, name: &'a str, value: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            let (secrets, id) = (&self.clients.secrets, format!("penstock/{name}"));
            let created = secrets.create_secret().name(&id).secret_string(value).send().await;
            if created.is_err() {
                secrets.put_secret_value().secret_id(&id).secret_string(value).send().await.unwrap();
            }
        })
    }

    fn run<'a>(&'a self, request: StartRequest) -> Boxed<'a, Ended> {
        Box::pin(async move {
            let input = serde_json::to_string(&request).unwrap();
            let start =
                self.clients.step_functions.start_execution().state_machine_arn(&self.outputs.state_machine);
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
            let began = std::time::Instant::now();
            loop {
                let executions = self.executions_of(sync).await;
                if !executions.is_empty() {
                    let mut ended = Vec::new();
                    for arn in &executions {
                        ended.push(self.ended(sync, arn).await);
                    }
                    return ended;
                }
                assert!(began.elapsed() < PATIENCE, "nothing has started {sync}");
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
}
