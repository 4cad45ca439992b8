//! A project in a temporary folder: definitions, unloads and state, and the binary run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// One row of the customers table that scenarios sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Customer {
    pub(crate) id: Option<i64>,
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) balance: Option<i128>,
}

impl Customer {
    pub(crate) fn new(id: i64) -> Self {
        Self {
            id: Some(id),
            email: Some(format!("c{id}@example.com")),
            name: Some(format!("Customer {id}")),
            balance: Some(i128::from(id) * 101),
        }
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
}

pub(crate) fn customers(ids: std::ops::Range<i64>) -> Vec<Customer> {
    ids.map(Customer::new).collect()
}

/// A folder with a user's files.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        project.write("unloads/customers.yaml", "location: data/dt=*/\nprimary_key: [id]\n");
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Leaves an unload of one day, complete by its marker.
    pub(crate) fn unload(&self, day: &str, rows: &[Customer]) {
        let folder = self.path(&format!("unloads/data/dt={day}"));
        std::fs::create_dir_all(&folder).unwrap();
        write_customers(&folder.join("part-00000.parquet"), rows);
        std::fs::write(folder.join("_SUCCESS"), "").unwrap();
    }

    /// Runs the binary in the project's folder.
    pub(crate) fn penstock(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null());
        command
    }

    /// A command with `--json` on the sync, and its one object or array.
    pub(crate) fn ask(&self, command: &str, more: &[&str]) -> Value {
        let args: Vec<&str> =
            [command, "syncs/customers.yaml", "--json"].into_iter().chain(more.iter().copied()).collect();
        json(&self.penstock(&args))
    }

    /// What a command on the sync says to a person.
    pub(crate) fn tell(&self, command: &str, more: &[&str]) -> String {
        let args: Vec<&str> =
            [command, "syncs/customers.yaml"].into_iter().chain(more.iter().copied()).collect();
        String::from_utf8(self.penstock(&args).stdout).unwrap()
    }

    /// `penstock run --json` of the sync, and its one object.
    pub(crate) fn run(&self, more: &[&str]) -> Value {
        let args: Vec<&str> =
            ["run", "syncs/customers.yaml", "--json"].into_iter().chain(more.iter().copied()).collect();
        let output = self.penstock(&args);
        let result = json(&output);
        let is_success = matches!(
            result["status"].as_str(),
            Some("succeeded" | "succeeded_with_rejections" | "nothing_to_do")
        );
        assert_eq!(output.status.success(), is_success, "exit code and status differ: {result}");
        result
    }
}

/// Asks again until the answer is there, a minute at most.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_200 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nothing has happened for a minute");
}

/// The one JSON object that a command printed.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}\nstdout: {}\nstderr: {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The result's counts that are not zero, as `added 3, accepted 3`.
pub(crate) fn counts(result: &Value) -> String {
    let shown: Vec<String> =
        ["read", "added", "changed", "removed", "unchanged", "accepted", "skipped", "rejected", "unknown"]
            .iter()
            .filter(|name| result["counts"][**name] != 0)
            .map(|name| format!("{name} {}", result["counts"][*name]))
            .collect();
    shown.join(", ")
}

pub(crate) fn write_customers(path: &Path, rows: &[Customer]) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>())),
        ("email", Arc::new(rows.iter().map(|row| row.email.as_deref()).collect::<StringArray>())),
        ("name", Arc::new(rows.iter().map(|row| row.name.as_deref()).collect::<StringArray>())),
        (
            "balance",
            Arc::new(
                rows.iter()
                    .map(|row| row.balance)
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(18, 2)
                    .unwrap(),
            ),
        ),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A table of its own in the test server.
pub(crate) struct Table {
    pub(crate) name: String,
    client: tokio_postgres::Client,
    address: String,
}

static TABLES: AtomicU32 = AtomicU32::new(0);

impl Table {
    pub(crate) async fn new(columns: &str) -> Self {
        let address = std::env::vars()
            .find_map(|(name, value)| (name == "PENSTOCK_TEST_POSTGRES").then_some(value))
            .expect(
                "PENSTOCK_TEST_POSTGRES names no server: run the tests with infra/test.sh, which starts one",
            );
        let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let name = format!("scenario_{}_{}", std::process::id(), TABLES.fetch_add(1, Ordering::Relaxed));
        client
            .batch_execute(&format!("drop table if exists {name}; create table {name} ({columns})"))
            .await
            .unwrap();
        Self { name, client, address }
    }

    /// The customers table that [`Project::unload`] fits.
    pub(crate) async fn customers() -> Self {
        Self::new("id bigint primary key, email text, name text, balance numeric(18,2)").await
    }

    pub(crate) fn connection(&self) -> String {
        format!("connector: postgres\naddress: \"{}\"\n", self.address)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client.batch_execute(&sql.replace("$table", &self.name)).await.unwrap();
    }

    /// The table's customers by id.
    pub(crate) async fn rows(&self) -> Vec<Customer> {
        let sql = format!("select id, email, name, (balance * 100)::bigint from {} order by id", self.name);
        self.client
            .query(&sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| Customer {
                id: row.get(0),
                email: row.get(1),
                name: row.get(2),
                balance: row.get::<_, Option<i64>>(3).map(i128::from),
            })
            .collect()
    }
}

/// The sync of customers into a table.
pub(crate) fn postgres_sync(table: &Table, more: &str) -> String {
    format!(
        "unload: customers\nconnection: postgres\nobject: {}\nmatch: {{ id: id }}\nfields:\n  email: email\n  name: name\n  balance: balance\n{more}",
        table.name
    )
}

/// A project that syncs customers into a table of its own.
pub(crate) async fn postgres_project(more: &str) -> (Project, Table) {
    let (project, table) = (Project::new(), Table::customers().await);
    project.write("connections/postgres.yaml", &table.connection());
    project.write("syncs/customers.yaml", &postgres_sync(&table, more));
    (project, table)
}

pub(crate) fn sorted(mut rows: Vec<Customer>) -> Vec<Customer> {
    rows.sort_by_key(|row| row.id);
    rows
}
