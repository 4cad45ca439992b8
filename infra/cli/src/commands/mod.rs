//! One module per command.

pub mod check;
pub mod cost;
pub mod dead_letters;
pub mod demo;
mod deployed;
mod exchange;
mod faults;
mod place;
pub mod preview;
pub mod publish;
pub mod redrive;
pub mod rehearsal;
pub mod run;
pub mod runs;
pub mod schema;
pub mod test;
pub mod twin;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use penstock_destinations::Parts;
use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::random::SystemRandom;
use penstock_model::port::Warehouse;
use penstock_store::{FolderObjects, LocalSecrets, Opener};

use crate::args::{Cli, Command};
use crate::definitions::Mistake;
use crate::definitions::check::{CheckedSync, check};
use crate::local::{LocalExecutions, NoWarehouse, Platform};

/// The runtime that a command runs in. One thread, as the functions have it on Lambda: a run is one task that waits and computes
/// in turn, and further threads would only hand it what arrived, for a sixth of a push's processor time. A twin serves many at a
/// time. A rehearsal's time is turned: its waits take none.
///
/// # Errors
/// The system has no threads left.
pub fn runtime(cli: &Cli) -> std::io::Result<tokio::runtime::Runtime> {
    let mut one = tokio::runtime::Builder::new_current_thread();
    match &cli.command {
        Command::Run(args) => one.enable_all().start_paused(args.twin.is_some()).build(),
        Command::Twin(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        Command::Demo(_)
        | Command::Check(_)
        | Command::Cost(_)
        | Command::Publish(_)
        | Command::Test(_)
        | Command::Preview(_)
        | Command::DeadLetters(_)
        | Command::Redrive(_)
        | Command::Replay(_)
        | Command::Runs(_)
        | Command::Schema(_) => one.enable_all().build(),
    }
}

/// Carries out a command, in the runtime that [`runtime`] gives for it.
///
/// # Errors
/// What could not be done at all; what a run or a check found is in the exit code.
pub async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(args) => demo::demo(args).await,
        Command::Run(args) => match args.twin.clone() {
            Some(faults) => rehearsal::rehearse(args, &faults).await,
            None => run::run(args).await,
        },
        Command::Check(args) => check::check_files(args).await,
        Command::Cost(args) => cost::cost(args).await,
        Command::Publish(args) => publish::publish(args).await,
        Command::Test(args) => test::test(args).await,
        Command::Preview(args) => preview::preview(args).await,
        Command::DeadLetters(args) => dead_letters::list(args).await,
        Command::Redrive(args) => redrive::redrive(args).await,
        Command::Replay(args) => run::replay(args).await,
        Command::Runs(args) => runs::list(args).await,
        Command::Twin(args) => twin::serve(args).await,
        Command::Schema(args) => schema::print(&args),
    }
}

/// Where unloads are opened on this machine: folders, and S3 with this machine's credentials.
async fn opener(locations: &[&str]) -> Opener {
    if locations.iter().any(|location| location.starts_with("s3://")) {
        Opener::new(penstock_store::aws::Clients::from_profile().await.s3())
    } else {
        Opener::folders()
    }
}

/// Who unloads for a run of this machine: Redshift with this machine's credentials, where unloads lie in S3.
async fn warehouse(locations: &[&str]) -> Arc<dyn Warehouse> {
    if locations.iter().any(|location| location.starts_with("s3://")) {
        penstock_store::aws::Clients::from_profile().await.redshift("")
    } else {
        Arc::new(NoWarehouse)
    }
}

/// The platform over a state folder, with its executions.
async fn platform(
    state: &Path,
    definitions: &Path,
    locations: &[&str],
) -> anyhow::Result<(Platform, LocalExecutions)> {
    std::fs::create_dir_all(state)?;
    let state = std::path::absolute(state)?;
    let executions = LocalExecutions::new(&state);
    Ok((platform_with(parts(definitions)?, &state, &executions, locations).await, executions))
}

/// What destinations need, on this machine; secrets are looked for beside the definitions.
fn parts(definitions: &Path) -> anyhow::Result<Parts> {
    Ok(Parts {
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        secrets: Arc::new(LocalSecrets::new(std::env::vars().collect(), definitions)),
        transport: Arc::new(penstock_destinations::ReqwestTransport::new()?),
        known: Arc::default(),
    })
}

/// The platform over a state folder, with these parts.
async fn platform_with(
    parts: Parts,
    state: &Path,
    executions: &LocalExecutions,
    locations: &[&str],
) -> Platform {
    Platform {
        state: Arc::new(FolderObjects::new(state)),
        unloads: Arc::new(opener(locations).await),
        warehouse: warehouse(locations).await,
        executions: Arc::new(executions.clone()),
        parts,
        sizes: penstock_plan::Sizes {
            read_concurrency: 2,
            diff_concurrency: 2,
            ..penstock_plan::Sizes::default()
        },
    }
}

/// The one sync of a file, or every mistake in it and in what it refers to.
async fn checked_sync(file: &PathBuf, unload: Option<&str>) -> Result<CheckedSync, Vec<Mistake>> {
    let unloads = opener(unload.as_slice()).await;
    let mut checked = check(std::slice::from_ref(file), &unloads).await;
    if !checked.mistakes.is_empty() {
        return Err(checked.mistakes);
    }
    // What the sync follows was checked with it, and is not what is meant.
    checked.syncs.retain(|checked| checked.sync.file == *file);
    let wrong = |message: &str| {
        vec![Mistake { file: file.clone(), line: 1, field: String::new(), message: message.to_owned() }]
    };
    match (checked.syncs.pop(), checked.syncs.is_empty()) {
        (Some(sync), true) => Ok(sync),
        (Some(_), false) => Err(wrong("holds several syncs; name a file that holds one")),
        (None, _) => Err(wrong("holds no sync")),
    }
}

/// The folder that secrets are looked for in: where the definitions are.
fn definitions_folder(file: &Path) -> PathBuf {
    let beside = file.parent().unwrap_or(Path::new("."));
    let kinds = ["syncs", "connections"];
    let in_kind_folder = beside.file_name().is_some_and(|name| kinds.iter().any(|kind| name == *kind));
    if in_kind_folder { beside.join("..") } else { beside.to_owned() }
}

/// Mistakes as lines, for people and for messages.
fn listed(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
