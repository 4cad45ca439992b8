//! Salesforce against its twin: in virtual time, and over real sockets.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::Failure;
use penstock_model::definition::ResolvedSync;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::port::Clock;
use penstock_twins::{SalesforceTwin, SalesforceTwinBuilder, Script, Twin};
use serde_json::{Value, json};

use crate::destination::{Destination, JobMaker, NotedJob, Rest, Work};
use crate::testing::{InProcess, Kept, Memory, Short, TokioClock, operation};
use crate::{Parts, built_in, open};

mod bulk;
mod collections;
mod conforms;
mod insert;
mod signing_in;

const MINUTE: Duration = Duration::from_secs(60);

/// An org with an object of it, and a sync into that.
struct Org {
    twin: SalesforceTwin,
    clock: Arc<TokioClock>,
    secrets: Arc<Kept>,
    definition: ResolvedSync,
    known: Arc<crate::Known>,
}

impl Org {
    fn new(builder: SalesforceTwinBuilder, more: &Value) -> Self {
        Self {
            twin: builder.build(),
            clock: TokioClock::new(),
            secrets: Kept::new("00D-twin", "00D-twin"),
            definition: definition("http://twin", more),
            known: Arc::default(),
        }
    }

    fn parts(&self) -> Parts {
        Parts {
            clock: self.clock.clone(),
            random: Arc::new(Short::default()),
            secrets: self.secrets.clone(),
            transport: Arc::new(InProcess(self.twin.clone())),
            known: self.known.clone(),
        }
    }

    fn open(&self) -> Arc<dyn Destination> {
        open(&self.definition, self.parts(), 1).unwrap()
    }

    /// One push that finds these jobs.
    async fn push(
        &self,
        operations: &[Operation],
        cursor: Option<String>,
        jobs: Vec<NotedJob>,
        time: Duration,
    ) -> (Result<Rest, Failure>, Memory) {
        let memory = Memory::default();
        let noted = jobs.iter().map(|noted| (noted.job.clone(), noted.once.clone()));
        memory.jobs.lock().unwrap().extend(noted);
        let until = self.clock.now().plus(time);
        let work = Work { operations: operations.to_vec(), cursor, jobs, until, witness: &memory };
        let rest = self.open().deliver(work).await;
        (rest, memory)
    }

    /// Pushes until nothing is left, as the state machine does: with the cursor if `keeps`, without it else. Gives all outcomes and what
    /// is left of jobs.
    async fn deliver(&self, operations: &[Operation], keeps: bool) -> Memory {
        let whole = Memory::default();
        self.go_on(operations, &whole, keeps).await;
        whole
    }

    /// The same, after pushes of which `whole` remembers.
    async fn go_on(&self, operations: &[Operation], whole: &Memory, keeps: bool) {
        let mut cursor = None;
        for _ in 0..300 {
            let (open, jobs) = left(operations, whole);
            if open.is_empty() && jobs.iter().all(|noted| noted.in_doubt.is_empty()) {
                return;
            }
            let (rest, memory) = self.push(&open, cursor.take(), jobs, 5 * MINUTE).await;
            whole.absorb(memory);
            match rest.unwrap() {
                Rest::Nothing => return,
                Rest::Paused { cursor: next, resume_after } => {
                    cursor = next.filter(|_| keeps);
                    tokio::time::sleep(resume_after.max(Duration::from_secs(30))).await;
                }
            }
        }
        panic!("never done");
    }
}

/// What the next push gets: operations to send, and jobs with what is in doubt for their sake. As push finds them.
fn left(operations: &[Operation], whole: &Memory) -> (Vec<Operation>, Vec<NotedJob>) {
    let (settled, doubtful) = (whole.outcomes(), whole.doubtful());
    let may_send = |operation: &&Operation| {
        let is_safe = operation.kind != OperationKind::Append;
        !settled.contains_key(&operation.n) && (is_safe || !doubtful.contains(&operation.n))
    };
    let jobs = whole.jobs.lock().unwrap().clone().into_iter().map(|(job, once)| {
        let is_in_doubt = |operation: &&Operation| {
            once.contains(&operation.n) && doubtful.contains(&operation.n) && !may_send(operation)
        };
        let in_doubt = operations.iter().filter(is_in_doubt).cloned().collect();
        NotedJob { job, maker: JobMaker::ThisChunk, once, in_doubt }
    });
    (operations.iter().filter(may_send).cloned().collect(), jobs.collect())
}

/// A job that holds nothing that can't be sent twice.
fn noted(job: &str, maker: JobMaker) -> NotedJob {
    NotedJob { job: job.to_owned(), maker, once: Vec::new(), in_doubt: Vec::new() }
}

/// A sync into contacts, matched by an external id. `more` has parts of the sync and of the connection.
fn definition(address: &str, more: &Value) -> ResolvedSync {
    let mut sync = json!({
        "unload": "customers", "connection": "crm", "object": "Contact", "match": {"External_Id__c": "id"},
        "fields": {"LastName": "name"},
    });
    let mut connection = json!({"connector": "salesforce", "auth": {"bearer": {"secret": "token"}}});
    for (whole, part) in [(&mut sync, &more["sync"]), (&mut connection, &more["connection"])] {
        whole.as_object_mut().unwrap().extend(part.as_object().cloned().unwrap_or_default());
    }
    serde_json::from_value(json!({
        "name": "customers",
        "sync": sync,
        "unload": {"location": "/unloads", "primary_key": ["id"]},
        "connection": connection,
        "connector": built_in("salesforce").unwrap(),
        "environment": null,
        "address": address,
    }))
    .unwrap()
}

fn script(rules: Value) -> Script {
    serde_json::from_value(rules).unwrap()
}

fn contact(n: u32, kind: OperationKind, key: impl Into<Value>, fields: &Value) -> Operation {
    operation(n, kind, &json!({"External_Id__c": key.into()}), fields)
}

/// Upserts of contacts.
fn contacts(count: u32) -> Vec<Operation> {
    (0..count)
        .map(|n| {
            let fields = json!({"LastName": format!("Name {n}")});
            contact(n, OperationKind::Upsert, format!("c{n}"), &fields)
        })
        .collect()
}

fn tally(memory: &Memory) -> Vec<(String, usize)> {
    memory.tally().into_iter().collect()
}

fn tally_is(memory: &Memory, expected: &[(&str, usize)]) {
    let found = tally(memory);
    let found: Vec<(&str, usize)> = found.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    assert_eq!(found, expected);
}

/// Faults that a twin can play, by name, after which a push goes on by itself whatever it was doing.
fn faults() -> [(&'static str, Value); 8] {
    [
        ("429", json!({"status": {"code": 429, "retry_after": {"seconds": 1}}})),
        ("500", json!({"status": {"code": 500}})),
        ("503", json!({"status": {"code": 503, "retry_after": {"seconds": 1}}})),
        ("slow", json!({"slow": {"ms": 300}})),
        ("reset", json!("reset")),
        ("answer_lost", json!("answer_lost")),
        ("truncated", json!("truncated")),
        ("locked", json!({"refuse_rows": {"every": 7, "code": "UNABLE_TO_LOCK_ROW"}})),
    ]
}
