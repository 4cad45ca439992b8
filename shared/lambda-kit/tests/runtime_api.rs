//! A function as Lambda runs it: a process of its own that asks a runtime API for events. The API is a server on
//! loopback; the process is this test binary, started again for the one test that serves.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use penstock_lambda_kit::Invocation;
use penstock_lambda_kit::settings::Settings;
use penstock_model::contract::{CONTRACT, ReadRequest, ReadResponse};
use penstock_model::port::Objects as _;
use penstock_model::work::Invoked;
use penstock_model::{Failure, FailureName};
use penstock_store::MemoryObjects;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const SECRET: &str = "tim@acme.com";
const DEADLINE: u64 = 1_893_456_000_000;

struct Context {
    rows: u64,
    state: MemoryObjects,
}

/// The function under test.
async fn handle(
    request: ReadRequest,
    invocation: &Invocation,
    context: &Context,
) -> Result<ReadResponse, Failure> {
    match request.split {
        0 => Ok(ReadResponse { contract: CONTRACT, rows: context.rows }),
        5 => {
            let left = context.state.list("runs/s/r/work/").await.unwrap();
            let figures = left.iter().filter_map(|object| Invoked::parse(object.key.rsplit('/').next()?));
            let of_read = figures.filter(|invoked| invoked.function == "read" && invoked.memory_mb == 128);
            Ok(ReadResponse { contract: CONTRACT, rows: u64::try_from(of_read.count()).unwrap() })
        }
        1 => {
            let cause = std::io::Error::other("connection reset");
            Err(Failure::because(FailureName::StorageUnavailable, "object a/b could not be read", cause))
        }
        2 => panic!("{SECRET}"),
        3 => {
            let thread = std::thread::spawn(|| panic!("{SECRET}"));
            let rows = u64::from(thread.join().is_err());
            Ok(ReadResponse { contract: CONTRACT, rows })
        }
        _ => Ok(ReadResponse { contract: CONTRACT, rows: u64::try_from(invocation.deadline.0).unwrap() }),
    }
}

/// The process that is the function; nothing when the test binary runs as a test.
#[tokio::test]
async fn serves_when_started_as_a_function() {
    static BUILDS: AtomicU32 = AtomicU32::new(0);
    let settings = Settings::from_environment();
    if settings.optional("AWS_LAMBDA_RUNTIME_API").is_none() {
        return;
    }
    let failing_builds = settings.parsed("FAILING_BUILDS").unwrap().unwrap_or(0);
    let build = async || {
        if BUILDS.fetch_add(1, Ordering::Relaxed) < failing_builds {
            return Err(Failure::new(FailureName::SecretsUnavailable, "not yet"));
        }
        Ok(Context { rows: 7, state: MemoryObjects::new() })
    };
    penstock_lambda_kit::run("read", build, handle, |context| &context.state).await.unwrap();
}

#[derive(Clone)]
struct Api {
    events: Arc<Mutex<VecDeque<(String, String)>>>,
    answers: mpsc::UnboundedSender<(String, String, Value)>,
}

async fn next(State(api): State<Api>) -> Response {
    let event = api.events.lock().unwrap().pop_front();
    let Some((id, payload)) = event else { return std::future::pending().await };
    let mut headers = HeaderMap::new();
    headers.insert("lambda-runtime-aws-request-id", id.parse().unwrap());
    headers.insert("lambda-runtime-deadline-ms", DEADLINE.to_string().parse().unwrap());
    (headers, payload).into_response()
}

async fn answer(
    State(api): State<Api>,
    Path((id, kind)): Path<(String, String)>,
    body: axum::body::Bytes,
) -> StatusCode {
    api.answers.send((id, kind, serde_json::from_slice(&body).unwrap())).unwrap();
    StatusCode::ACCEPTED
}

struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Hands the payloads to the function; gives its answers, in order, and what it logged.
async fn serve(payloads: &[String], failing_builds: u32) -> (Vec<(String, Value)>, Vec<Value>) {
    let (answers, mut answered) = mpsc::unbounded_channel();
    let events = payloads.iter().enumerate().map(|(n, payload)| (format!("request-{n}"), payload.clone()));
    let api = Api { events: Arc::new(Mutex::new(events.collect())), answers };
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answer))
        .with_state(api);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let mut process = Function(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves_when_started_as_a_function", "--nocapture"])
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "read")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("FAILING_BUILDS", failing_builds.to_string())
            .env("PENSTOCK_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut given = Vec::new();
    for n in 0..payloads.len() {
        let (id, kind, body) =
            tokio::time::timeout(Duration::from_secs(30), answered.recv()).await.expect("an answer").unwrap();
        assert_eq!(id, format!("request-{n}"));
        given.push((kind, body));
    }
    process.0.kill().unwrap();
    let output = {
        use std::io::Read as _;
        let (mut out, mut err) = (String::new(), String::new());
        process.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        process.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, "", "nothing goes past the log");
        out
    };
    assert!(!output.contains(SECRET), "a value was logged: {output}");
    let logged = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (given, logged)
}

fn payload(contract: u32, split: Value) -> String {
    json!({ "contract": contract, "run": { "sync": "s", "run": "r", "fence": 1 }, "split": split })
        .to_string()
}

fn failed(name: &str, message: &str) -> (String, Value) {
    ("error".to_owned(), json!({ "errorType": name, "errorMessage": message }))
}

fn answered(rows: u64) -> (String, Value) {
    ("response".to_owned(), json!({ "contract": CONTRACT, "rows": rows }))
}

#[tokio::test]
async fn every_answer_has_the_platform_s_form_and_a_name() {
    let payloads = [
        payload(CONTRACT, json!(0)),
        payload(CONTRACT, json!(1)),
        payload(CONTRACT, json!(2)),
        payload(CONTRACT, json!(SECRET)),
        payload(CONTRACT + 1, json!(0)),
        json!({ "hello": SECRET }).to_string(),
        payload(CONTRACT, json!(3)),
        payload(CONTRACT, json!(4)),
    ];
    let (mut answers, logged) = serve(&payloads, 0).await;

    let (kind, panicked) = answers.remove(2);
    assert_eq!((kind.as_str(), &panicked["errorType"]), ("error", &json!("InvariantBroken")));
    let message = panicked["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("panicked at ") && message.contains("tests/runtime_api.rs:"), "{message}");
    assert_eq!(
        answers,
        [
            answered(7),
            failed("StorageUnavailable", "object a/b could not be read: connection reset"),
            failed(
                "ContractMismatch",
                "the payload is not what this function reads: a value of another kind than expected at split, \
                 line 1 column 75"
            ),
            failed(
                "ContractMismatch",
                "the payload has contract version 2, and this function reads version 1: deploy functions and state \
                 machine together"
            ),
            failed(
                "ContractMismatch",
                "the payload is not what this function reads: unknown field `hello`, expected one of `contract`, \
                 `run`, `split` at hello, line 1 column 8"
            ),
            // A panic in a thread of the handler's is the handler's to deal with; it is logged by its place.
            answered(1),
            answered(DEADLINE),
        ]
    );

    let told: Vec<_> = logged
        .iter()
        .filter(|line| line["failure"].is_string())
        .map(|line| (line["level"].as_str().unwrap(), line["failure"].as_str().unwrap(), &line["span"]))
        .collect();
    let names: Vec<_> = told.iter().map(|(level, name, _)| (*level, *name)).collect();
    let mismatch = ("ERROR", "ContractMismatch");
    let once = [("WARN", "StorageUnavailable"), ("ERROR", "InvariantBroken"), mismatch, mismatch, mismatch];
    assert_eq!(names, once, "each failure is logged once: {logged:#?}");
    assert_eq!(logged.iter().filter(|line| line["level"] == "ERROR").count(), 5, "{logged:#?}");
    let (_, _, span) = told.first().unwrap();
    for (field, expected) in [("sync", "s"), ("run", "r"), ("function", "read"), ("request_id", "request-1")]
    {
        assert_eq!(span[field], expected, "{span}");
    }
}

#[tokio::test]
async fn a_context_that_can_t_be_built_yet_is_built_later() {
    let (answers, _) = serve(&[payload(CONTRACT, json!(0)), payload(CONTRACT, json!(0))], 2).await;
    assert_eq!(answers, [failed("SecretsUnavailable", "not yet"), answered(7)]);
}

#[tokio::test]
async fn an_invocation_for_a_run_leaves_its_figures_however_it_ends() {
    let payloads = [
        payload(CONTRACT, json!(0)),
        payload(CONTRACT, json!(1)),
        payload(CONTRACT, json!(2)),
        json!({ "hello": "nobody" }).to_string(),
        payload(CONTRACT, json!(5)),
    ];
    let (answers, _) = serve(&payloads, 0).await;
    assert_eq!(answers.last(), Some(&answered(3)));
}
