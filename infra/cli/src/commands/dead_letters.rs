//! `penstock dead-letters`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use penstock_model::dead_letter::DeadLetter;
use penstock_model::layout;
use penstock_model::port::Objects;
use penstock_store::{FolderObjects, lines, storage_failure};

use crate::args;
use crate::definitions::Project;

/// Lists the dead letters of a sync, newest run last.
///
/// # Errors
/// If the state can't be read, or the file holds no sync.
pub async fn list(args: args::DeadLetters) -> anyhow::Result<ExitCode> {
    let mut project = Project::default();
    project.read(&args.target.sync);
    let Some(sync) = project.syncs.keys().next() else {
        anyhow::bail!("{}", super::listed(&project.mistakes));
    };
    let state = FolderObjects::new(&std::path::absolute(&args.target.state)?);
    let letters = read(&state, sync, args.run.as_deref()).await?;
    if args.json {
        for letter in &letters {
            println!("{}", serde_json::to_string(letter)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut kinds: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for letter in &letters {
        let field = letter.field.as_deref().map_or(String::new(), |field| format!("{field}: "));
        println!("{}  {}  {}  {field}{}", letter.run, letter.key, letter.code, letter.message);
        *kinds.entry((&letter.run, &letter.code)).or_default() += 1;
    }
    if letters.is_empty() {
        println!("there are no dead letters");
    }
    for ((run, code), rows) in kinds {
        println!("{rows} × {code} in run {run}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the dead letters of a sync, of one run or of all.
///
/// # Errors
/// `StorageUnavailable`, or `ContractMismatch` if a file was written by a later version.
pub async fn read(
    state: &dyn Objects,
    sync: &str,
    run: Option<&str>,
) -> Result<Vec<DeadLetter>, penstock_model::Failure> {
    let mut prefix = layout::SyncKeys { sync }.dead_letters();
    if let Some(run) = run {
        prefix.push_str(run);
        prefix.push('/');
    }
    let mut letters = Vec::new();
    for object in state.list(&prefix).await.map_err(storage_failure)? {
        let found: Option<Vec<DeadLetter>> = lines::read_lines(state, &object.key).await?;
        letters.extend(found.unwrap_or_default());
    }
    Ok(letters)
}
