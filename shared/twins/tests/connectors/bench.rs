//! A twin and the destination in one process, in virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_destinations::http::transport::{Request, Response, Sent, TransportError, TransportErrorKind};
use penstock_destinations::{Parts, Rest, Spending, Transport, Witness, Work, built_in, open};
use penstock_model::connector::{Connector, HttpConnector};
use penstock_model::definition::{ResolvedSync, SecretRef};
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Boxed, Clock, Freshness, Random, Secret, SecretError, Secrets};
use penstock_model::report::ApiUsage;
use penstock_model::{Failure, Timestamp};
use penstock_twins::{Broken, ConnectorTwin, Twin};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Value, json};

pub(crate) fn hubspot() -> HttpConnector {
    shipped("hubspot")
}

/// A connector file that comes with Penstock.
pub(crate) fn shipped(name: &str) -> HttpConnector {
    match built_in(name).unwrap() {
        Connector::Http(connector) => *connector,
        Connector::Postgres | Connector::Salesforce(_) => {
            unreachable!("{name} is not described by a file alone")
        }
    }
}

/// The same with three rows a request, so that a few rows make several.
pub(crate) fn in_threes(name: &str) -> HttpConnector {
    let mut file = shipped(name);
    file.limits.rows_per_request = Some(3);
    file
}

/// Reads a connector file.
pub(crate) fn connector(file: &str) -> HttpConnector {
    serde_json::from_value(value(&Yaml::load_from_str(file).unwrap()[0])).unwrap()
}

/// The connector file that the page on connector files shows.
pub(crate) fn page() -> HttpConnector {
    let page = include_str!("../../../destinations/connector-files.md");
    connector(page.split("```yaml").nth(1).unwrap().split("```").next().unwrap())
}

fn value(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Sequence(items) => items.iter().map(value).collect(),
        Yaml::Mapping(members) => {
            let name = |name: &Yaml<'_>| {
                let name = value(name);
                name.as_str().map_or_else(|| name.to_string(), str::to_owned)
            };
            Value::Object(members.iter().map(|(key, member)| (name(key), value(member))).collect())
        }
        Yaml::Value(Scalar::Null | Scalar::FloatingPoint(_))
        | Yaml::Representation(..)
        | Yaml::Tagged(..)
        | Yaml::Alias(_)
        | Yaml::BadValue => unreachable!("{yaml:?} does not stand in these files"),
    }
}

#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

/// When every test begins: the first moment of 2026.
pub(crate) const START: jiff::Timestamp = jiff::Timestamp::constant(1_767_225_600, 0);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(START.as_millisecond()).plus(self.0.elapsed())
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Token;

impl Secrets for Token {
    fn fetch<'a>(&'a self, _: &'a SecretRef, _: Freshness) -> Boxed<'a, Result<Secret, SecretError>> {
        Box::pin(std::future::ready(Ok(Secret::new("twin:twin".to_owned()))))
    }
}

struct InProcess(ConnectorTwin);

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

impl Transport for InProcess {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let path = request.url.strip_prefix("http://twin").unwrap().to_owned();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let reply = self.0.handle(&request.method, &path, &request.headers, &request.whole_body());
            tokio::time::sleep(reply.after).await;
            match reply.outcome {
                Ok(answer) => {
                    let (parts, body) = answer.into_parts();
                    Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
                }
                Err(Broken::Reset | Broken::AnswerLost | Broken::Truncated { .. }) => {
                    Err(TransportError { sent: Sent::Maybe, kind: TransportErrorKind::Broken, source: None })
                }
            }
        })
    }
}

#[derive(Debug, Default)]
struct Memory {
    lines: Mutex<Vec<ReceiptLine>>,
    usage: Mutex<ApiUsage>,
}

impl Witness for Memory {
    fn may_send(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn spend(&self) -> Boxed<'_, Result<Spending, Failure>> {
        Box::pin(std::future::ready(Ok(Spending::Granted)))
    }

    fn intend<'a>(&'a self, _: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn withdraw<'a>(&'a self, _: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn record(&self, lines: Vec<ReceiptLine>) -> Boxed<'_, Result<(), Failure>> {
        self.lines.lock().unwrap().extend(lines);
        Box::pin(std::future::ready(Ok(())))
    }

    fn note_job<'a>(&'a self, _: &'a str, _: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        unreachable!("connector files have no jobs")
    }

    fn forget_job<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<(), Failure>> {
        unreachable!("connector files have no jobs")
    }

    fn count(&self, usage: ApiUsage) {
        *self.usage.lock().unwrap() += usage;
    }
}

/// What came of a delivery.
pub(crate) struct Delivered {
    pub(crate) rest: Result<Rest, Failure>,
    pub(crate) outcomes: BTreeMap<u32, Outcome>,
    pub(crate) usage: ApiUsage,
}

/// A value for each setting that has no default.
pub(crate) fn chosen(connector: &HttpConnector) -> Value {
    let open = connector.settings.iter().filter(|(_, setting)| setting.default.is_none());
    open.map(|(name, _)| (name.clone(), json!("7"))).collect::<serde_json::Map<_, _>>().into()
}

/// Delivers operations to a twin, as a push of a sync that matches by `field` does.
pub(crate) async fn deliver(
    connector: &HttpConnector,
    twin: &ConnectorTwin,
    object: &str,
    field: &str,
    operations: Vec<Operation>,
    time: Duration,
) -> Delivered {
    let secret = json!({"secret": "token"});
    let way = connector.auth.first().map(|kind| serde_json::to_value(kind).unwrap());
    let auth = match way.as_ref().and_then(Value::as_str) {
        Some("none") => json!("none"),
        Some("basic") => json!({"basic": secret}),
        Some("body") => json!({"body": secret}),
        Some("header") => json!({"header": {"name": "Api-Key", "secret": "token"}}),
        _ => json!({"bearer": secret}),
    };
    let definition: ResolvedSync = serde_json::from_value(json!({
        "name": "customers",
        "sync": {"unload": "u", "connection": "x", "object": object, "match": {field: "id"}, "fields": {}},
        "unload": {"location": "/unloads", "primary_key": ["id"]},
        "connection": {
            "connector": "x", "auth": auth, "limits": {"requests_in_flight": 3}, "settings": chosen(connector),
        },
        "connector": {"http": connector},
        "environment": null,
        "address": "http://twin",
    }))
    .unwrap();
    let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
    let parts = Parts {
        clock: clock.clone(),
        random: Arc::new(Counting::default()),
        secrets: Arc::new(Token),
        transport: Arc::new(InProcess(twin.clone())),
        known: Arc::default(),
    };
    let memory = Memory::default();
    let destination = open(&definition, parts, 1).unwrap();
    let work =
        Work { operations, cursor: None, jobs: Vec::new(), until: clock.now().plus(time), witness: &memory };
    let rest = destination.deliver(work).await;
    let mut outcomes = BTreeMap::new();
    for line in memory.lines.lock().unwrap().iter() {
        assert!(outcomes.insert(line.n, line.outcome.clone()).is_none(), "two outcomes for {}", line.n);
    }
    Delivered { rest, outcomes, usage: *memory.usage.lock().unwrap() }
}

pub(crate) fn operation(n: u32, kind: OperationKind, field: &str, key: &str, fields: &Value) -> Operation {
    let raw = |value: &Value| Json::of(value).unwrap();
    Operation {
        n,
        kind,
        key: raw(&json!({"id": n})),
        matched: raw(&json!({field: key})),
        id: None,
        fields: raw(fields),
        asks: None,
    }
}

/// An outcome in a word; of a rejection without its code.
pub(crate) fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { .. } => "accepted".to_owned(),
        Outcome::Skipped { why } => format!("{why:?}").to_lowercase(),
        Outcome::Unknown { .. } => "unknown".to_owned(),
        Outcome::Rejected { .. } => "rejected".to_owned(),
        Outcome::DeadLettered { .. } => "dead".to_owned(),
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
