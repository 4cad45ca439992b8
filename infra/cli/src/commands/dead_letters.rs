//! `penstock dead-letters`.

use std::path::Path;
use std::process::ExitCode;

use penstock_model::dead_letter::DeadLetter;
use penstock_model::port::Objects;

use super::{deployed, place};
use crate::args;
use crate::complaints::{Complaint, Complaints, Selection, each, stage};
use crate::definitions::Project;
use crate::show::table;

/// Lists the dead letters of a sync: grouped by what they complain of, or as JSON lines, the newest run last.
///
/// # Errors
/// If the state can't be read, or the file holds no sync.
pub async fn list(args: args::DeadLetters) -> anyhow::Result<ExitCode> {
    let (sync, place) = match &args.target.stack {
        Some(name) => (deployed::sync_of(&args.target.sync)?, place::stack(name).await?),
        None => (sync_name(&args.target.sync)?, place::folder(&args.target.state)?),
    };
    let state = place.objects();
    let selection = Selection { code: args.code, fingerprint: args.fingerprint };
    if args.json {
        let mut lines = Vec::new();
        each(state, &sync, args.run.as_deref(), &selection, |letter| {
            lines.push(serde_json::to_string(&with_fingerprint(letter)));
        })
        .await?;
        for line in lines {
            println!("{}", line?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let complaints = Complaints::read(state, &sync, args.run.as_deref(), &selection).await?.by_frequency();
    if complaints.is_empty() {
        println!("there are no dead letters");
    } else {
        print!("{}", shown(&complaints));
    }
    Ok(ExitCode::SUCCESS)
}

/// Letters of earlier builds get theirs, so that programs need not tell them apart.
fn with_fingerprint(letter: DeadLetter) -> DeadLetter {
    DeadLetter { fingerprint: letter.fingerprint(), ..letter }
}

fn shown(complaints: &[Complaint]) -> String {
    let head = ["fingerprint", "rows", "stage", "code", "field", "newest run"].map(str::to_owned);
    let rows: Vec<[String; 6]> = complaints.iter().map(row).collect();
    let lines = table(&head, &rows);
    let mut text = String::new();
    for (n, line) in lines.into_iter().enumerate() {
        text.push_str(&line);
        text.push('\n');
        let Some(complaint) = n.checked_sub(1).and_then(|n| complaints.get(n)) else { continue };
        let mut keys: Vec<String> = complaint.keys.iter().map(|key| key.get().to_owned()).collect();
        if complaint.rows > complaint.keys.len() as u64 {
            keys.push("…".to_owned());
        }
        text.push_str(&format!("    {}\n    {}\n", complaint.message, keys.join(", ")));
    }
    text
}

fn row(complaint: &Complaint) -> [String; 6] {
    [
        complaint.fingerprint.clone(),
        complaint.rows.to_string(),
        stage(complaint.stage).to_owned(),
        complaint.code.clone(),
        complaint.field.clone().unwrap_or_default(),
        complaint.run.clone(),
    ]
}

/// The name of the one sync in a file.
///
/// # Errors
/// If it holds none.
pub(super) fn sync_name(file: &Path) -> anyhow::Result<String> {
    let mut project = Project::default();
    project.read(file);
    match project.syncs.keys().next() {
        Some(sync) => Ok(sync.clone()),
        None => anyhow::bail!("{}", super::listed(&project.mistakes)),
    }
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
    let mut letters = Vec::new();
    each(state, sync, run, &Selection::default(), |letter| letters.push(letter)).await?;
    Ok(letters)
}
