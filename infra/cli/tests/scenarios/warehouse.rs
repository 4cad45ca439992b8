//! An unload with a query: the run has the warehouse unload first, and believes it that there are no rows only if it says so.

use std::sync::{Arc, Mutex};

use penstock_cli::engine::{Event, Observer, Progress};
use penstock_cli::local::{self, Finished, LocalExecutions, Platform, Redrivable, Start};
use penstock_destinations::{Parts, ReqwestTransport};
use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::random::SystemRandom;
use penstock_model::contract::RunOptions;
use penstock_model::port::{Boxed, Condition, ObjectError, Objects, OpenObjects, Warehouse, WarehouseError};
use penstock_model::warehouse::{Statement, StatementState};
use penstock_store::{LocalSecrets, MemoryObjects};
use serde_json::{Value, json};

use crate::harness::{Customer, customers, write_customers};

struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
    fn progress(&self, _: &Progress) {}
}

/// What a statement does, and what is said of it in the end.
#[derive(Debug, Clone)]
enum Does {
    /// Unloads these rows.
    Unloads(Vec<Customer>),
    /// Writes nothing; the result has so many rows.
    WritesNothing(Option<u64>),
    Fails,
}

/// Redshift: an unload goes to its prefix with a manifest, and one without rows writes nothing at all.
#[derive(Debug)]
struct Scripted {
    bucket: Arc<MemoryObjects>,
    script: Mutex<Vec<Does>>,
    submitted: Mutex<Vec<(Statement, u32)>>,
}

impl Scripted {
    async fn carry_out(&self, statement: &Statement) {
        let Does::Unloads(rows) = self.script.lock().unwrap()[0].clone() else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        write_customers(file.path(), &rows);
        let body = std::fs::read(file.path()).unwrap();
        let prefix = statement.prefix.strip_prefix("s3://acme-unloads/").unwrap();
        let entry = json!({
            "url": format!("{}0000_part_00.parquet", statement.prefix),
            "meta": { "content_length": body.len(), "record_count": rows.len() },
        });
        let manifest = json!({ "entries": [entry] }).to_string();
        for (name, body) in [("0000_part_00.parquet", body), ("manifest", manifest.into_bytes())] {
            self.bucket.put(&format!("{prefix}{name}"), body.into(), Condition::IfAbsent).await.unwrap();
        }
    }
}

impl Warehouse for Scripted {
    fn submit<'a>(&'a self, statement: &'a Statement) -> Boxed<'a, Result<String, WarehouseError>> {
        Box::pin(async move {
            self.carry_out(statement).await;
            let mut submitted = self.submitted.lock().unwrap();
            submitted.push((statement.clone(), 0));
            Ok(format!("statement-{}", submitted.len()))
        })
    }

    fn look<'a>(&'a self, id: &'a str) -> Boxed<'a, Result<StatementState, WarehouseError>> {
        let mut submitted = self.submitted.lock().unwrap();
        assert_eq!(id, format!("statement-{}", submitted.len()), "the last one is asked after");
        let looks = &mut submitted.last_mut().unwrap().1;
        *looks += 1;
        let state = if *looks < 3 {
            StatementState::Running
        } else {
            match self.script.lock().unwrap().remove(0) {
                Does::Unloads(rows) => StatementState::Finished { rows: Some(rows.len() as u64) },
                Does::WritesNothing(rows) => StatementState::Finished { rows },
                Does::Fails => StatementState::Failed,
            }
        };
        Box::pin(std::future::ready(Ok(state)))
    }
}

/// The one bucket.
#[derive(Debug)]
struct Bucket(Arc<MemoryObjects>);

impl OpenObjects for Bucket {
    fn open(&self, root: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        assert_eq!(root, "s3://acme-unloads");
        Ok(self.0.clone())
    }
}

struct Stack {
    platform: Platform,
    executions: LocalExecutions,
    warehouse: Arc<Scripted>,
    _folder: tempfile::TempDir,
}

impl Stack {
    async fn new(script: Vec<Does>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let executions = LocalExecutions::new(folder.path());
        let (state, bucket) = (Arc::new(MemoryObjects::new()), Arc::new(MemoryObjects::new()));
        let (script, submitted) = (Mutex::new(script), Mutex::default());
        let warehouse = Arc::new(Scripted { bucket: bucket.clone(), script, submitted });
        let definitions = [
            (
                "unloads/made",
                json!({
                    "location": "s3://acme-unloads/made", "primary_key": ["id"],
                    "query": { "redshift": { "sql": "select 'it''s'", "database": "d", "workgroup": "w" } },
                }),
            ),
            ("connections/db", json!({ "connector": "postgres", "address": "postgres://u@127.0.0.1:1/d" })),
            ("connectors/db", json!("postgres")),
            (
                "syncs/customers",
                json!({
                    "unload": "made", "connection": "db", "object": "t", "match": { "id": "id" },
                    "first_run": "baseline", "on_removed": { "delete": "any" }, "fields": { "name": "name" },
                }),
            ),
        ];
        for (name, definition) in definitions {
            let body = serde_json::to_vec(&definition).unwrap().into();
            state.put(&format!("definitions/{name}.json"), body, Condition::Always).await.unwrap();
        }
        let platform = Platform {
            state,
            unloads: Arc::new(Bucket(bucket)),
            warehouse: warehouse.clone(),
            executions: Arc::new(executions.clone()),
            parts: Parts {
                clock: Arc::new(SystemClock::new()),
                random: Arc::new(SystemRandom),
                secrets: Arc::new(LocalSecrets::new(Default::default(), folder.path())),
                transport: Arc::new(ReqwestTransport::new().unwrap()),
                known: Arc::default(),
            },
            sizes: penstock_plan::Sizes::default(),
        };
        Self { platform, executions, warehouse, _folder: folder }
    }

    async fn run(&self, dry_run: bool) -> Finished {
        let options = RunOptions { dry_run, ..RunOptions::default() };
        let start = Start { sync: "customers".to_owned(), environment: None, options };
        local::run(&self.platform, &self.executions, start, &Silent).await.unwrap()
    }

    async fn redrive(&self) -> Finished {
        let state = self.platform.state.as_ref();
        let found = Redrivable::find(state, &self.executions, "customers", None).await.unwrap();
        let found = found.unwrap_or_else(|refusal| panic!("{refusal}"));
        local::redrive(&self.platform, &self.executions, "customers", found, &Silent).await.unwrap()
    }

    fn prefixes(&self) -> Vec<String> {
        let submitted = self.warehouse.submitted.lock().unwrap();
        submitted.iter().map(|(statement, _)| statement.prefix.clone()).collect()
    }
}

fn said(finished: &Finished) -> Value {
    let failure = finished.result.failure.as_ref().map(|failure| failure.name.clone());
    let counts = finished.result.counts;
    json!([failure, counts.read, counts.added, counts.removed])
}

#[tokio::test(start_paused = true)]
async fn a_run_has_its_query_unloaded_to_a_prefix_of_its_own() {
    let stack = Stack::new(vec![Does::Unloads(customers(0..3)), Does::Unloads(customers(1..5))]).await;
    let first = stack.run(false).await;
    // A baseline takes the destination to be in step.
    assert_eq!(said(&first), json!([null, 3, 0, 0]), "{:?}", first.result.failure);
    let second = stack.run(true).await;
    assert_eq!(said(&second), json!([null, 4, 2, 1]), "{:?}", second.result.failure);
    let runs = [first.result.run_id, second.result.run_id];
    assert_eq!(stack.prefixes(), runs.map(|run| format!("s3://acme-unloads/made/run={run}/attempt=1/")));
}

#[tokio::test(start_paused = true)]
async fn an_empty_result_is_an_empty_unload_only_if_the_statement_says_so() {
    let script = vec![
        Does::Unloads(customers(0..3)),
        Does::WritesNothing(None),
        Does::WritesNothing(Some(3)),
        Does::WritesNothing(Some(0)),
    ];
    let stack = Stack::new(script).await;
    stack.run(false).await;
    for _ in 0..2 {
        let unknown = stack.run(true).await;
        assert_eq!(said(&unknown)[0], json!("UnloadMissing"), "nobody has said that there are no rows");
    }
    let empty = stack.run(true).await;
    assert_eq!(said(&empty), json!([null, 0, 0, 3]), "{:?}", empty.result.failure);
}

#[tokio::test(start_paused = true)]
async fn a_first_run_without_rows_has_nothing_to_do() {
    let stack = Stack::new(vec![Does::WritesNothing(Some(0))]).await;
    assert_eq!(said(&stack.run(false).await), json!([null, 0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_failed_is_made_again_by_a_redrive_elsewhere() {
    let stack = Stack::new(vec![Does::Fails, Does::Unloads(customers(0..3))]).await;
    let failed = stack.run(false).await;
    assert_eq!(said(&failed)[0], json!("UnloadFailed"));
    let mended = stack.redrive().await;
    assert_eq!(said(&mended), json!([null, 3, 0, 0]), "{:?}", mended.result.failure);
    let run = failed.result.run_id;
    let at = |attempt: u32| format!("s3://acme-unloads/made/run={run}/attempt={attempt}/");
    assert_eq!(stack.prefixes(), [at(1), at(2)]);
    let submitted = stack.warehouse.submitted.lock().unwrap();
    assert_ne!(submitted[0].0.token, submitted[1].0.token);
}
