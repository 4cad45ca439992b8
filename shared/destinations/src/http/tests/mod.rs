//! Tests of HTTP destinations: encoding and decoding as tables and laws, the engine in virtual time, and all of it over
//! real sockets.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::Failure;
use penstock_model::connector::{Connector, HttpConnector};
use penstock_model::definition::ResolvedSync;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::port::Clock;
use penstock_twins::{Script, Twin};
use serde_json::{Value, json};

use super::transport::Transport;
use crate::destination::{Destination, Rest, Work};
use crate::testing::{InProcess, Kept, Memory, Short, TokioClock, operation};
use crate::{Parts, ReqwestTransport, built_in, open};

mod asks;
mod decode;
mod encode;
mod engine;
mod hubspot;
mod probe;
mod sockets;

const BATCH_API: &str = include_str!("batch-api.yaml");

fn connector(file: &str) -> HttpConnector {
    match built_in::http(file).expect("a connector file") {
        Connector::Http(connector) => *connector,
        Connector::Postgres | Connector::Salesforce(_) => unreachable!(),
    }
}

fn hubspot() -> HttpConnector {
    connector(include_str!("../../connectors/hubspot.yaml"))
}

/// A sync that matches by `field`, as plan would pin it.
fn definition(
    connector: &HttpConnector,
    address: &str,
    object: &str,
    field: &str,
    connection: &Value,
) -> ResolvedSync {
    let mut account = json!({"connector": "x", "auth": {"bearer": {"secret": "token"}}});
    account.as_object_mut().unwrap().extend(connection.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "name": "customers",
        "sync": {"unload": "customers", "connection": "x", "object": object, "match": {field: "id"}, "fields": {}},
        "unload": {"location": "/unloads", "primary_key": ["id"]},
        "connection": account,
        "connector": {"http": connector},
        "environment": null,
        "address": address,
    }))
    .unwrap()
}

/// A destination with its clock and secrets.
struct Bench {
    clock: Arc<TokioClock>,
    secrets: Arc<Kept>,
    transport: Arc<dyn Transport>,
}

impl Bench {
    fn in_process<T: Twin>(twin: &T) -> Self {
        Self::with(Arc::new(InProcess(twin.clone())))
    }

    fn over_sockets() -> Self {
        Self::with(Arc::new(ReqwestTransport::new().unwrap()))
    }

    fn with(transport: Arc<dyn Transport>) -> Self {
        Self { clock: TokioClock::new(), secrets: Kept::new("pat-twin", "pat-twin"), transport }
    }

    fn parts(&self) -> Parts {
        Parts {
            clock: self.clock.clone(),
            random: Arc::new(Short::default()),
            secrets: self.secrets.clone(),
            transport: self.transport.clone(),
            known: Arc::default(),
        }
    }

    fn open(&self, definition: &ResolvedSync, width: u32) -> Arc<dyn Destination> {
        open(definition, self.parts(), width).unwrap()
    }

    async fn deliver(
        &self,
        destination: &dyn Destination,
        operations: &[Operation],
        time: Duration,
    ) -> (Result<Rest, Failure>, Memory) {
        let memory = Memory::default();
        let until = self.clock.now().plus(time);
        let work =
            Work { operations: operations.to_vec(), cursor: None, jobs: Vec::new(), until, witness: &memory };
        let rest = destination.deliver(work).await;
        (rest, memory)
    }
}

fn script(rules: Value) -> Script {
    serde_json::from_value(rules).unwrap()
}

/// Upserts of contacts, matched by e-mail address.
fn contacts(count: u32) -> Vec<Operation> {
    (0..count)
        .map(|n| {
            let matched = json!({"email": format!("user{n}@example.com")});
            operation(n, OperationKind::Upsert, &matched, &json!({"firstname": format!("User {n}")}))
        })
        .collect()
}

/// Operations of a kind on records with an `id`.
fn records(kind: OperationKind, count: u32) -> Vec<Operation> {
    (0..count).map(|n| operation(n, kind, &json!({"id": format!("r{n}")}), &json!({"n": n}))).collect()
}

const MINUTE: Duration = Duration::from_secs(60);
