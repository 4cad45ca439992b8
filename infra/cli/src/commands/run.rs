//! `penstock run` and `penstock replay`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use penstock_model::FailureName;
use penstock_model::contract::{Replay, RunOptions};

use super::exchange::{ShownTransport, Sink};
use super::{checked_sync, definitions_folder, deployed, listed, place, platform};
use crate::args;
use crate::local::{self, Finished, Start, publish};
use crate::progress::Shown;
use crate::show::RunResult;

/// Runs a sync on this machine.
///
/// # Errors
/// If the state folder can't be used.
pub async fn run(args: args::Run) -> anyhow::Result<ExitCode> {
    let options = RunOptions {
        dry_run: args.dry_run,
        full: args.full,
        adopt: args.adopt,
        allow: args.allow,
        unload: args.unload,
        limit: args.limit,
        replay: None,
    };
    execute(args.target, options, args.json).await
}

/// Sends dead letters again.
///
/// # Errors
/// If the state folder can't be used.
pub async fn replay(args: args::Replay) -> anyhow::Result<ExitCode> {
    let replay = Replay { run: args.run, code: args.code, fingerprint: args.fingerprint };
    let options = RunOptions { replay: Some(replay), unload: args.unload, ..RunOptions::default() };
    execute(args.target, options, args.json).await
}

async fn execute(target: args::Target, options: RunOptions, json: bool) -> anyhow::Result<ExitCode> {
    if let Some(name) = &target.stack {
        return deployed::start(&place::stack(name).await?, &target.sync, target.env, options, json).await;
    }
    let result = match finish(&target, options, json).await? {
        Ok(finished) => finished.result,
        Err(result) => result,
    };
    end(&Told { sync: &target.sync, state: &target.state, json }, &result)
}

/// Whom a result is told, and of what.
pub(super) struct Told<'a> {
    /// The sync's file, as the user named it.
    pub(super) sync: &'a Path,
    /// The state folder.
    pub(super) state: &'a Path,
    /// Whether a program reads it.
    pub(super) json: bool,
}

/// Tells the result with the commands that lead on, and gives the exit code.
pub(super) fn end(told: &Told<'_>, result: &RunResult) -> anyhow::Result<ExitCode> {
    if told.json {
        println!("{}", serde_json::to_string(result)?);
    } else {
        print!("{}", result.plain());
        let rest =
            format!("{} --state {} --run {}", told.sync.display(), told.state.display(), result.run_id);
        if result.counts.rejected > 0 {
            println!("  see them    penstock dead-letters {rest}");
        }
        if result.redrivable {
            println!("  mend it     then go on with what was not accepted: penstock redrive {rest}");
        }
    }
    Ok(if result.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks, publishes and runs; the inner error is a result that never became a run.
///
/// # Errors
/// If the state folder can't be used.
pub async fn finish(
    target: &args::Target,
    mut options: RunOptions,
    quiet: bool,
) -> anyhow::Result<Result<Finished, RunResult>> {
    let checked = match checked_sync(&target.sync, options.unload.as_deref()).await {
        Ok(checked) => checked,
        Err(mistakes) => {
            return Ok(Err(RunResult::not_begun(FailureName::SyncInvalid.as_str(), listed(&mistakes))));
        }
    };
    options.unload = options.unload.map(|unload| absolute(&unload)).transpose()?;
    let location = options.unload.clone().unwrap_or_else(|| checked.unload.definition.location.clone());
    let (mut platform, executions) =
        platform(&target.state, &definitions_folder(&target.sync), &[&location]).await?;
    if options.limit.is_some() {
        // A program reads the result; people look at this.
        let sink = if quiet { Sink::Errors } else { Sink::Output };
        let (inner, clock) = (platform.parts.transport, platform.parts.clock.clone());
        platform.parts.transport = Arc::new(ShownTransport::new(inner, clock, sink));
    }
    publish(platform.state.as_ref(), &checked).await?;
    let start = Start { sync: checked.sync.name.clone(), environment: target.env.clone(), options };
    let shown = Shown::new(quiet);
    let finished = local::run(&platform, &executions, start, &shown).await?;
    shown.end();
    Ok(Ok(finished))
}

pub(super) fn absolute(location: &str) -> anyhow::Result<String> {
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    Ok(std::path::absolute(location)?.to_string_lossy().into_owned())
}
