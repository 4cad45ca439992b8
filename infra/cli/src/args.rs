//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use penstock_model::contract::GuardName;

/// Reverse ETL from Parquet unloads to CRMs, tools and databases.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sync two days of a bundled customers table into a HubSpot simulator on this machine.
    Demo(Demo),
    /// Run a sync on this machine.
    Run(Run),
    /// Carry a failed or killed run on where it stopped: only what was not accepted is sent.
    Redrive(Redrive),
    /// List the runs of a sync, newest first.
    Runs(Runs),
    /// Show what runs cost on AWS, by their own figures, and what other loads would.
    Cost(Cost),
    /// Prove a connection's credential and permissions with one harmless call.
    Test(Test),
    /// Check definitions: every mistake in every file, at once.
    Check(Check),
    /// Check definitions and put them where a deployed stack reads them.
    Publish(Publish),
    /// Show the first mapped records; nothing is sent.
    Preview(Preview),
    /// List dead letters: which rows were rejected, and why; grouped by what they complain of.
    DeadLetters(DeadLetters),
    /// Send dead letters again, with their newest rows.
    Replay(Replay),
    /// Serve a simulator of a destination on this machine.
    Twin(Twin),
    /// Print the JSON Schemas of definitions.
    Schema(Schema),
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where to leave the demo's files; a new folder in the system's temporary folder if left out.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Which sync, and where its state is.
#[derive(Debug, Args, Clone)]
pub struct Target {
    /// The sync's definition.
    pub sync: PathBuf,
    /// The folder that holds the sync's state.
    #[arg(long, default_value = ".penstock")]
    pub state: PathBuf,
    /// Of a deployed stack, by its name, in place of a state folder; the sync may then be named without its file.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub stack: Option<String>,
    /// The environment of the connection.
    #[arg(long)]
    pub env: Option<String>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Which sync.
    #[command(flatten)]
    pub target: Target,
    /// Take the unload from here: a folder, a file, or s3://bucket/prefix/.
    #[arg(long)]
    pub unload: Option<String>,
    /// Compare and count; send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Send every row again; removals are honoured.
    #[arg(long)]
    pub full: bool,
    /// Take over state that is bound to another account, object or key.
    #[arg(long)]
    pub adopt: bool,
    /// Pass over a guard this once.
    #[arg(long, value_parser = guard)]
    pub allow: Vec<GuardName>,
    /// Send so many changed rows at most, and show each request (without the credential) and its answer. What is accepted is
    /// committed as in any run; the other rows stay pending for the next.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["dry_run", "twin"])]
    pub limit: Option<u32>,
    /// Rehearse the sync against a simulator of its destination that misbehaves as this fault script says; `none` for no faults.
    /// Nothing leaves this machine, no credential is needed and the state is left alone.
    #[arg(long, value_name = "FAULTS", conflicts_with_all = ["dry_run", "adopt", "full", "stack"])]
    pub twin: Option<PathBuf>,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `redrive`.
#[derive(Debug, Args)]
pub struct Redrive {
    /// The sync's definition.
    pub sync: PathBuf,
    /// The folder that holds the sync's state.
    #[arg(long, default_value = ".penstock")]
    pub state: PathBuf,
    /// Of a deployed stack, by its name, in place of a state folder; the sync may then be named without its file.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub stack: Option<String>,
    /// Which run; the newest that can be redriven if left out.
    #[arg(long)]
    pub run: Option<String>,
    /// Go on with the definitions that the run was planned with, though they have changed since.
    #[arg(long)]
    pub pinned: bool,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct Runs {
    /// The sync's definition.
    pub sync: PathBuf,
    /// The folder that holds the sync's state.
    #[arg(long, default_value = ".penstock")]
    pub state: PathBuf,
    /// Of a deployed stack, by its name, in place of a state folder; the sync may then be named without its file.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub stack: Option<String>,
    /// Print one JSON array for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cost`.
#[derive(Debug, Args)]
pub struct Cost {
    /// The sync's definition, or, with --stack, its name. Left out: only loads are reckoned.
    pub sync: Option<PathBuf>,
    /// The folder that holds the sync's state.
    #[arg(long, default_value = ".penstock")]
    pub state: PathBuf,
    /// Of a deployed stack, by its name, in place of a state folder.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub stack: Option<String>,
    /// Only this run.
    #[arg(long, requires = "sync")]
    pub run: Option<String>,
    /// Reckon a load of so many rows a day; 10 M, 100 M and 1 B if left out.
    #[arg(long, value_name = "N", value_parser = rows)]
    pub rows_per_day: Option<f64>,
    /// Percent of the rows that change a day; as in the sync's newest run, else 1, if left out.
    #[arg(long, value_name = "PERCENT")]
    pub changed: Option<f64>,
    /// Milliseconds that the destination takes to answer.
    #[arg(long, value_name = "MS")]
    pub answer_ms: Option<f64>,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct Test {
    /// The connection's definition, or a sync's: then also what it needs of its object is tested.
    pub file: PathBuf,
    /// The environment of the connection.
    #[arg(long)]
    pub env: Option<String>,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Definitions: syncs, unloads, connections, connectors.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Where state lies.
#[derive(Debug, Args, Clone)]
pub struct Place {
    /// Where the state lies: a folder, or s3://bucket.
    #[arg(long, value_name = "PLACE")]
    pub state: Option<String>,
    /// A deployed stack, by its name; found with the credentials that AWS's own CLI would use.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub stack: Option<String>,
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// Syncs, or a folder with their definitions; what they refer to goes with them.
    #[arg(default_value = ".")]
    pub files: Vec<PathBuf>,
    /// To where.
    #[command(flatten)]
    pub place: Place,
    /// Say what would change; write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove published definitions that are not among these files.
    #[arg(long)]
    pub prune: bool,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `preview`.
#[derive(Debug, Args)]
pub struct Preview {
    /// The sync's definition.
    pub sync: PathBuf,
    /// How many rows.
    #[arg(long, default_value_t = 5)]
    pub rows: u32,
    /// Take the unload from here: a folder, a file, or s3://bucket/prefix/.
    #[arg(long)]
    pub unload: Option<String>,
}

/// Arguments of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetters {
    /// Which sync.
    #[command(flatten)]
    pub target: Target,
    /// Only those of this run.
    #[arg(long)]
    pub run: Option<String>,
    /// Only those with this code.
    #[arg(long)]
    pub code: Option<String>,
    /// Only those that say the same: the fingerprint that the list shows.
    #[arg(long)]
    pub fingerprint: Option<String>,
    /// Print them as JSON lines, with key and payload.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Which sync.
    #[command(flatten)]
    pub target: Target,
    /// Only those of this run.
    #[arg(long)]
    pub run: Option<String>,
    /// Only those with this code.
    #[arg(long)]
    pub code: Option<String>,
    /// Only those that say the same: the fingerprint that `penstock dead-letters` shows.
    #[arg(long)]
    pub fingerprint: Option<String>,
    /// Take the unload from here: a folder, a file, or s3://bucket/prefix/.
    #[arg(long)]
    pub unload: Option<String>,
    /// Print one JSON object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `twin`.
#[derive(Debug, Args)]
pub struct Twin {
    /// `hubspot`, `salesforce` (an org with accounts and contacts), `batch` (a generic API that takes batches of records), `jobs` (asynchronous CSV jobs as Salesforce has them),
    /// another connector that comes with Penstock (`braze`, `mailchimp`, …), or a connector file.
    pub destination: String,
    /// The field that identifies a record, where a connector file's requests don't tell; of `batch`, `id` if left out.
    #[arg(long)]
    pub key: Vec<String>,
    /// The value of one of the connector's settings: `project_id=7`.
    #[arg(long, value_parser = name_and_value)]
    pub setting: Vec<(String, String)>,
    /// A fault script.
    #[arg(long)]
    pub faults: Option<PathBuf>,
    /// When it ends, write every request that it got into this file, as JSON lines without credentials.
    #[arg(long)]
    pub requests: Option<PathBuf>,
    /// The port on loopback; a free one if left out.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// The token that it accepts.
    #[arg(long, default_value = "pat-twin")]
    pub token: String,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// `sync`, `unload`, `connection` or `connector`; all of them if left out.
    pub kind: Option<String>,
    /// Write one file per schema into this folder.
    #[arg(long)]
    pub write: Option<PathBuf>,
}

fn rows(text: &str) -> Result<f64, String> {
    let digits = text.replace('_', "");
    let rows: u64 = digits.parse().map_err(|_| format!("{text} is no number of rows"))?;
    #[expect(clippy::cast_precision_loss, reason = "a load is not counted to the row")]
    Ok(rows as f64)
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn guard(text: &str) -> Result<GuardName, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| {
        format!(
            "there is no guard {text}; there are max_removed, max_changed, max_null_rise and older_unload"
        )
    })
}
