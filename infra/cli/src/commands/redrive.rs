//! `penstock redrive`.

use std::process::ExitCode;

use penstock_model::Failure;
use penstock_store::FolderObjects;

use super::dead_letters::sync_name;
use super::run::{Told, end};
use super::{checked_sync, definitions_folder, deployed, listed, place, platform};
use crate::args;
use crate::local::{self, LocalExecutions, NotRedriven, Redrivable, pinned_otherwise, publish};
use crate::progress::Shown;
use crate::show::RunResult;

/// Carries a failed, timed-out or killed run on where it stopped, as Step Functions redrives one: with the same input and
/// what plan pinned, unfinished chunks only.
///
/// # Errors
/// If the state folder can't be used, or the file holds no sync.
pub async fn redrive(args: args::Redrive) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.stack {
        let place = place::stack(name).await?;
        return deployed::redrive(&place, &args.sync, args.run.as_deref(), args.json).await;
    }
    let sync = sync_name(&args.sync)?;
    let result = match carry_on(&args, &sync).await? {
        Ok(finished) => finished.result,
        Err(result) => result,
    };
    end(&Told { sync: &args.sync, state: &args.state, json: args.json }, &result)
}

/// The inner error is a refusal, as the result of what never became a run.
async fn carry_on(args: &args::Redrive, sync: &str) -> anyhow::Result<Result<local::Finished, RunResult>> {
    let state = std::path::absolute(&args.state)?;
    let (objects, executions) = (FolderObjects::new(&state), LocalExecutions::new(&state));
    let refused = |refusal: NotRedriven| Ok(Err(RunResult::not_begun(refusal.name(), refusal.to_string())));
    let redrivable = match Redrivable::find(&objects, &executions, sync, args.run.as_deref()).await? {
        Ok(redrivable) => redrivable,
        Err(refusal) => return refused(refusal),
    };
    let run = redrivable.progress.execution.name.clone();
    let checked = checked_sync(&args.sync, None).await;
    let mut to_publish = None;
    match (&redrivable.plan, checked) {
        (Some(plan), checked) => {
            let changed = match checked {
                Ok(checked) => {
                    pinned_otherwise(&checked, plan).await.unwrap_or_else(|failure| said(&failure))
                }
                Err(mistakes) => Some(format!("the definitions ({})", listed(&mistakes))),
            };
            if let Some(changed) = changed.filter(|_| !args.pinned) {
                return refused(NotRedriven::DefinitionsChanged { run, changed });
            }
        }
        // It stopped before it was planned: plan reads what is published.
        (None, Ok(checked)) => to_publish = Some(checked),
        (None, Err(mistakes)) => {
            let message = listed(&mistakes);
            return Ok(Err(RunResult::not_begun(penstock_model::FailureName::SyncInvalid.as_str(), message)));
        }
    }
    let location = match (&redrivable.plan, &to_publish) {
        (Some(plan), _) => plan.options.unload.clone().unwrap_or_else(|| plan.unload.root.clone()),
        (None, Some(checked)) => checked.unload.definition.location.clone(),
        (None, None) => String::new(),
    };
    let (platform, executions) = platform(&args.state, &definitions_folder(&args.sync), &[&location]).await?;
    if let Some(checked) = to_publish {
        publish(platform.state.as_ref(), &checked).await?;
    }
    let clock = &platform.parts.clock;
    if let Some(wait) = redrivable.may_send_until.map(|until| clock.now().until(until))
        && !wait.is_zero()
    {
        if !args.json {
            eprintln!("run {run} was stopped while it sent; waiting {wait:.0?} until that is surely over");
        }
        clock.sleep(wait).await;
    }
    let shown = Shown::new(args.json);
    let finished = local::redrive(&platform, &executions, sync, redrivable, &shown).await?;
    shown.end();
    Ok(Ok(finished))
}

/// Definitions that plan would refuse now are other ones than it pinned.
fn said(failure: &Failure) -> Option<String> {
    Some(format!("the definitions ({})", failure.full_message()))
}
