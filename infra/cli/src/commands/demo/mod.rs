//! `penstock demo`: two days of one customers table into a HubSpot twin.

mod files;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use penstock_model::contract::RunOptions;
use penstock_store::FolderObjects;
use penstock_twins::{HubSpotTwin, RunningTwin};
use serde_json::json;

use super::{dead_letters, run, twin};
use crate::args;
use crate::show::RunResult;

/// The token that the demo's twin accepts.
const TOKEN: &str = "pat-demo";

/// Syncs day 1, then day 2, and tells what there is to see.
///
/// # Errors
/// If the folder can't be written or the twin can't be started.
pub async fn demo(args: args::Demo) -> anyhow::Result<ExitCode> {
    let folder = folder(args.folder)?;
    let twin = RunningTwin::start(twin::hubspot(TOKEN), 0).await?;
    files::lay_definitions(&folder, &twin.address(), TOKEN)?;
    let target = args::Target {
        sync: folder.join("syncs/customers-to-hubspot.yaml"),
        state: folder.join("state"),
        stack: None,
        env: None,
    };
    let say = |text: &str| {
        if !args.json {
            println!("{text}");
        }
    };
    let mut results = Vec::new();
    for day in files::DAYS {
        files::lay_unload(&folder, day)?;
        say(&format!("{}: the warehouse has unloaded {}", day.date, day.folder));
        let result = match run::finish(&target, RunOptions::default(), args.json).await? {
            Ok(finished) => finished.result,
            Err(result) => result,
        };
        say(&result.plain());
        let succeeded = result.is_success();
        results.push(result);
        if !succeeded {
            break;
        }
    }
    let letters =
        dead_letters::read(&FolderObjects::new(&target.state), "customers-to-hubspot", None).await?;
    if args.json {
        let held = twin.twin.count("contacts");
        println!(
            "{}",
            json!({ "folder": folder, "days": results, "dead_letters": letters.len(), "contacts": held })
        );
    } else {
        tell(&folder, &target, &twin, &letters);
    }
    let succeeded = results.len() == files::DAYS.len() && results.iter().all(RunResult::is_success);
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn folder(wanted: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = match wanted {
        Some(folder) => folder,
        None => tempfile::Builder::new().prefix("penstock-demo-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&folder)?;
    if folder.join("state").exists() {
        anyhow::bail!("{} holds an earlier demo; name another folder, or remove it", folder.display());
    }
    Ok(std::path::absolute(folder)?)
}

fn tell(
    folder: &Path,
    target: &args::Target,
    twin: &RunningTwin<HubSpotTwin>,
    letters: &[penstock_model::dead_letter::DeadLetter],
) {
    println!("HubSpot now holds {} contacts.", twin.twin.count("contacts"));
    for letter in letters {
        println!("rejected on purpose: {} {}: {}", letter.key.get(), letter.code, letter.message);
    }
    let (sync, state) = (target.sync.display(), target.state.display());
    println!("\nEverything lies in {}", folder.display());
    println!("  see the rejected row    penstock dead-letters {sync} --state {state}");
    println!(
        "  send it again           penstock twin hubspot --port {} --token {TOKEN}   (in another terminal)",
        twin.addr().port()
    );
    println!("                          penstock replay {sync} --state {state}");
    println!("  open the snapshot       duckdb -c \"from '{state}/state/*/snapshots/*/part-*.parquet'\"");
}
