//! `penstock publish`.

mod changes;
mod files;
mod portable;

use std::process::ExitCode;

use changes::{Change, Changes};
use serde_json::json;

use super::check::listed_as_json;
use super::{opener, place};
use crate::args;
use crate::definitions::check::check;
use crate::definitions::published::published;

/// Checks definitions as `penstock check` does and puts them where a deployed stack, or a state folder, reads them. Nothing is
/// written if one of them is wrong.
///
/// # Errors
/// If the bucket can't be reached, or somebody else publishes at the same time: then what was written is taken back.
pub async fn publish(args: args::Publish) -> anyhow::Result<ExitCode> {
    let files = files::definitions(&args.files)?;
    let place = place::find(&args.place).await?;
    // Columns are checked too where unloads can be reached: on AWS with this person's credentials.
    let unloads = opener(&[place.name()]).await;
    let mut checked = check(&files, &unloads).await;
    if place.is_on_aws() {
        checked.mistakes.extend(checked.syncs.iter().flat_map(portable::mistakes));
        checked.mistakes.sort();
        checked.mistakes.dedup();
    }
    if !checked.mistakes.is_empty() {
        if args.json {
            println!("{}", json!({ "ok": false, "mistakes": listed_as_json(&checked.mistakes) }));
        } else {
            for mistake in &checked.mistakes {
                println!("{mistake}");
            }
            println!("nothing was published");
        }
        return Ok(ExitCode::FAILURE);
    }
    let changes = Changes::find(place.objects(), published(&checked.syncs)?, args.prune).await?;
    if !args.dry_run {
        changes.apply(place.objects()).await?;
    }
    if args.json {
        let told: Vec<_> = changes.all().map(Change::as_json).collect();
        println!(
            "{}",
            json!({ "ok": true, "dry_run": args.dry_run, "definitions": told, "notes": checked.notes })
        );
    } else {
        print!("{}", changes.shown());
        for note in &checked.notes {
            println!("note: {note}");
        }
        let what = if args.dry_run { "would be published to" } else { "published to" };
        println!("{} {what} {}", changes.summary(), place.name());
    }
    Ok(ExitCode::SUCCESS)
}
