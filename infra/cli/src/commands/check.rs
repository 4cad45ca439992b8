//! `penstock check`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::opener;
use crate::args;
use crate::definitions::Mistake;
use crate::definitions::check::check;

/// Checks definitions and prints every mistake with its file, line and field.
///
/// # Errors
/// None but those of printing.
pub async fn check_files(args: args::Check) -> anyhow::Result<ExitCode> {
    let unloads = opener(&[]).await;
    let checked = check(&args.files, &unloads).await;
    if args.json {
        let mistakes = listed_as_json(&checked.mistakes);
        println!("{}", json!({ "ok": mistakes.is_empty(), "mistakes": mistakes, "notes": checked.notes }));
    } else {
        for mistake in &checked.mistakes {
            println!("{mistake}");
        }
        for note in &checked.notes {
            println!("note: {note}");
        }
        if checked.mistakes.is_empty() {
            println!("all is well: {} checked", args.files.len());
        }
    }
    Ok(if checked.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Mistakes for programs.
pub(super) fn listed_as_json(mistakes: &[Mistake]) -> Vec<Value> {
    let shown = |mistake: &Mistake| {
        json!({
            "file": mistake.file, "line": mistake.line, "field": mistake.field, "message": mistake.message,
        })
    };
    mistakes.iter().map(shown).collect()
}
