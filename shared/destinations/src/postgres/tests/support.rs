//! A schema of its own for each test, and a witness that remembers.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::Failure;
use penstock_model::definition::ResolvedSync;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use penstock_model::port::{Clock, Secrets};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::destination::{Destination, Rest, Work};
use crate::reach::Resolver;
use crate::testing::{Kept, Memory, Short, TokioClock, operation};
use crate::{Parts, ReqwestTransport};

/// The database's address, as `infra/test.sh` gives it.
#[expect(clippy::disallowed_methods, reason = "a test has no settings module")]
pub(super) fn address() -> String {
    std::env::var("PENSTOCK_TEST_POSTGRES").expect(
        "PENSTOCK_TEST_POSTGRES is not set: run infra/test.sh, or start a database with \
         `infra/postgres.sh start DIR` and set the variable to the address it prints",
    )
}

/// A schema with a table `customers`.
pub(super) struct Bench {
    pub(super) admin: Client,
    pub(super) schema: String,
    /// Changes to the definition, as members to be merged in.
    pub(super) connection: Value,
    pub(super) address: String,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) clock: Arc<TokioClock>,
    /// Where only public addresses may be connected to: who finds them.
    pub(super) public_only: Option<Arc<dyn Resolver>>,
}

impl Bench {
    /// A bench whose table has these columns.
    pub(super) async fn new(name: &str, columns: &str) -> Self {
        let (admin, connection) = tokio_postgres::connect(&address(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let schema = format!("Test {name} {}", std::process::id());
        let bench = Self {
            admin,
            schema,
            connection: json!({"connector": "postgres"}),
            address: address(),
            secrets: Kept::new("", ""),
            clock: TokioClock::new(),
            public_only: None,
        };
        let schema = &bench.schema;
        bench
            .sql(&format!(
                "DROP SCHEMA IF EXISTS \"{schema}\" CASCADE; CREATE SCHEMA \"{schema}\"; \
                 SET search_path = \"{schema}\"; CREATE TABLE customers ({columns})"
            ))
            .await;
        bench
    }

    pub(super) async fn sql(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap();
    }

    /// A query's answer, columns with `|` between them, NULL as `-`.
    pub(super) async fn lines(&self, query: &str) -> Vec<String> {
        let messages = self.admin.simple_query(query).await.unwrap();
        messages
            .into_iter()
            .filter_map(|message| {
                let SimpleQueryMessage::Row(row) = message else { return None };
                let cells: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect();
                Some(cells.join("|"))
            })
            .collect()
    }

    pub(super) async fn one(&self, query: &str) -> String {
        self.lines(query).await.join("\n")
    }

    /// A sync into the table.
    pub(super) fn definition(&self, matched: &[&str], fields: &[&str]) -> ResolvedSync {
        let columns = |names: &[&str]| -> Value {
            names.iter().map(|&name| (name.to_owned(), name.into())).collect::<serde_json::Map<_, _>>().into()
        };
        serde_json::from_value(json!({
            "name": "customers",
            "sync": {
                "unload": "customers",
                "connection": "shop",
                "object": format!("{}.customers", self.schema),
                "match": columns(matched),
                "fields": columns(fields),
            },
            "unload": {"location": "/unloads", "primary_key": ["id"]},
            "connection": self.connection,
            "connector": "postgres",
            "environment": null,
            "address": self.address,
        }))
        .unwrap()
    }

    pub(super) fn parts(&self) -> Parts {
        Parts {
            clock: Arc::clone(&self.clock) as _,
            random: Arc::new(Short::default()),
            secrets: Arc::clone(&self.secrets),
            transport: Arc::new(ReqwestTransport::new().unwrap()),
            known: Arc::default(),
        }
    }

    pub(super) fn open(&self, matched: &[&str], fields: &[&str]) -> Arc<dyn Destination> {
        self.open_as(&self.definition(matched, fields))
    }

    pub(super) fn open_as(&self, definition: &ResolvedSync) -> Arc<dyn Destination> {
        super::super::open(definition, self.parts(), self.public_only.clone(), 1).unwrap()
    }

    /// Delivers within a minute, or says why not.
    pub(super) async fn deliver(
        &self,
        matched: &[&str],
        fields: &[&str],
        operations: &[Operation],
    ) -> Result<Memory, Failure> {
        let memory = Memory::default();
        let rest = self
            .open(matched, fields)
            .deliver(self.work(operations, Duration::from_secs(60), &memory))
            .await?;
        assert_eq!(rest, Rest::Nothing);
        assert_eq!(memory.outcomes().len(), operations.len());
        Ok(memory)
    }

    pub(super) fn work<'a>(&self, operations: &[Operation], time: Duration, memory: &'a Memory) -> Work<'a> {
        Work {
            operations: operations.to_vec(),
            cursor: None,
            jobs: Vec::new(),
            until: self.clock.now().plus(time),
            witness: memory,
        }
    }
}

/// Operations of one kind, numbered from 0.
pub(super) fn operations(kind: OperationKind, rows: &[(Value, Value)]) -> Vec<Operation> {
    rows.iter().zip(0..).map(|((matched, fields), n)| operation(n, kind, matched, fields)).collect()
}

/// An outcome in a word or two, which its Debug form hides.
pub(super) fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { created: Some(true), .. } => "created".into(),
        Outcome::Accepted { created: Some(false), .. } => "there".into(),
        Outcome::Accepted { created: None, .. } => "accepted".into(),
        Outcome::Skipped { why } => format!("{why:?}"),
        Outcome::Unknown { .. } => "unknown".into(),
        Outcome::Rejected { code, field, .. } => match field {
            Some(field) => format!("{code} {field}"),
            None => code.clone(),
        },
        Outcome::DeadLettered { .. } => "dead".into(),
    }
}

/// The outcomes of operations numbered from 0.
pub(super) fn words(memory: &Memory) -> Vec<String> {
    let outcomes = memory.outcomes();
    assert!(outcomes.keys().copied().zip(0..).all(|(n, place)| n == place));
    outcomes.values().map(word).collect()
}
