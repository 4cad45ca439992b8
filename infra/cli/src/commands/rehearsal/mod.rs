//! `penstock run --twin`: a sync against a simulator of its destination, until nothing is pending or it is clear that it
//! never will be.
//!
//! All of it runs in this process and in a time that is turned: no socket, no credential, no waiting. The user's state is not
//! touched.

mod account;
mod held;
mod org;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use penstock_destinations::Parts;
use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::random::SystemRandom;
use penstock_model::FailureName;
use penstock_model::connector::{Connector, HttpConnector};
use penstock_model::contract::RunOptions;
use penstock_model::definition::{Auth, Credential, FirstRun};
use penstock_model::operation::Transformed;
use penstock_model::port::Clock;
use penstock_twins::{ConnectorTwin, Script};

use super::run::absolute;
use super::{checked_sync, dead_letters, faults, listed, platform_with, preview};
use crate::args;
use crate::definitions::check::CheckedSync;
use crate::local::{self, LocalExecutions, Platform, Start, publish};
use crate::progress::Shown;
use account::{FixedSecret, InProcess};
use held::{Account, Simulated};
use verdict::{RunShown, Verdict};

/// Runs at most: what is not delivered by then is not going to be.
const RUNS: usize = 20;
/// What lies between two runs, as with an hourly schedule.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// A used-up quota is waited for until the next day.
const NEXT_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Rehearses a sync and says whether anything was lost or sent twice.
///
/// # Errors
/// Mistakes in the definitions or in the fault script; a destination that has no twin; a temporary folder that can't be used.
pub async fn rehearse(args: args::Run, script: &Path) -> anyhow::Result<ExitCode> {
    let script = if script == Path::new("none") {
        Script::default()
    } else {
        faults::read(script).map_err(|mistake| anyhow::anyhow!("{mistake}"))?
    };
    let mut checked = match checked_sync(&args.target.sync, args.unload.as_deref()).await {
        Ok(checked) => checked,
        Err(mistakes) => anyhow::bail!("{}", listed(&mistakes)),
    };
    if let Connector::Postgres = &checked.connector {
        anyhow::bail!(
            "PostgreSQL has no twin: the real thing is easily had. Make an empty copy of the table in a database of your own, name \
             that database under environments in {}, and run with --env and with --state of its own",
            checked.connection.file.display()
        )
    }
    // What is rehearsed is the delivery: a twin is signed in to without asking for a token first.
    let auth = &mut checked.connection.definition.auth;
    if let Some(oauth) = auth.oauth() {
        *auth = Auth::Bearer(Credential { secret: oauth.secret.clone() });
    }
    // A baseline sends nothing: there would be nothing to rehearse.
    checked.sync.definition.first_run = FirstRun::Send;
    let unload = args.unload.as_deref().map(absolute).transpose()?;
    let location = unload.clone().unwrap_or_else(|| checked.unload.definition.location.clone());
    if location.starts_with("s3://") {
        anyhow::bail!(
            "a rehearsal's time is turned, and S3's is not: copy the unload or a part of it to a folder and name it with --unload"
        );
    }
    let rows = preview::mapped(&checked, unload.as_deref(), u32::MAX).await?;
    let account = Account::of(simulated(&checked, &rows)?, &checked.sync.definition, &rows, script);
    let folder = tempfile::Builder::new().prefix("penstock-twin-").tempdir()?;
    let executions = LocalExecutions::new(folder.path());
    let parts = Parts {
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        secrets: Arc::new(FixedSecret),
        transport: Arc::new(InProcess::new(account.twin.clone(), &checked)),
        known: Arc::default(),
    };
    let platform = platform_with(parts, folder.path(), &executions, &[&location]).await;
    publish(platform.state.as_ref(), &checked).await?;
    let options = RunOptions { allow: args.allow, unload, ..RunOptions::default() };
    let start = Start { sync: checked.sync.name.clone(), environment: args.target.env, options };
    let shown = Shown::new(args.json);
    let runs = run_until_done(&platform, &executions, &start, &account.twin, &shown).await?;
    shown.end();
    let letters = dead_letters::read(platform.state.as_ref(), &checked.sync.name, None).await?;
    let verdict = Verdict::of(&checked.sync.definition, &account, rows, &letters, runs);
    folder.close()?;
    if args.json {
        println!("{}", serde_json::to_string(&verdict)?);
    } else {
        print!("{}", verdict.plain());
    }
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What simulates the sync's destination.
fn simulated(checked: &CheckedSync, rows: &[Transformed]) -> anyhow::Result<Simulated> {
    let sync = &checked.sync.definition;
    let by_id = sync.matched.keys().any(|field| field.eq_ignore_ascii_case("Id"));
    match &checked.connector {
        Connector::Http(connector) => Ok(Simulated::File(of_file(checked, (**connector).clone())?)),
        Connector::Salesforce(_) if by_id => {
            anyhow::bail!(
                "a simulated org has none of the ids that this sync matches by: match by an external id"
            )
        }
        Connector::Salesforce(connector) => Ok(Simulated::Salesforce(org::twin(checked, connector, rows))),
        Connector::Postgres => anyhow::bail!("PostgreSQL has no twin"),
    }
}

/// An account at the API that a connector file describes.
fn of_file(checked: &CheckedSync, connector: HttpConnector) -> anyhow::Result<ConnectorTwin> {
    let sync = &checked.sync.definition;
    let connection = &checked.connection.definition;
    let limits = connection.limits.or(&connector.limits);
    let keys = || sync.matched.keys().map(String::as_str);
    let mut builder = ConnectorTwin::builder(connector)
        .auth(account::auth(&connection.auth))
        .limits(&limits)
        .object(&sync.object)
        .key(&sync.object, keys())
        .key("*", keys());
    for (name, value) in &connection.settings {
        builder = builder.setting(name, value);
    }
    builder.build().map_err(|problems| {
        let words: Vec<String> =
            problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        anyhow::anyhow!("the connector has no twin: {}", words.join("; "))
    })
}

/// Runs as a schedule would: until a run has nothing to do or leaves nothing pending.
async fn run_until_done(
    platform: &Platform,
    executions: &LocalExecutions,
    start: &Start,
    twin: &Simulated,
    shown: &Shown,
) -> anyhow::Result<Vec<RunShown>> {
    let clock: &dyn Clock = platform.parts.clock.as_ref();
    let mut runs: Vec<RunShown> = Vec::new();
    while runs.len() < RUNS {
        let before = twin.journal().requests();
        let finished = local::run(platform, executions, start.clone(), shown).await?;
        let requests = twin.journal().requests() - before;
        let pending = finished.report.as_ref().map(|report| report.pending);
        let run = RunShown::of(&finished, requests, pending);
        let is_done = run.is_last();
        let is_stuck = requests == 0
            && runs.last().is_some_and(|last| {
                last.requests == 0 && last.failure.is_some() && last.failure == run.failure
            });
        let wait = match finished.result.failure.as_ref().map(|failure| failure.name.as_str()) {
            Some(name) if name == FailureName::DestinationQuotaExhausted.as_str() => NEXT_DAY,
            Some(_) | None => INTERVAL,
        };
        runs.push(run);
        if is_done || is_stuck {
            break;
        }
        clock.sleep(wait).await;
    }
    Ok(runs)
}
