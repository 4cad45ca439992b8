//! `penstock schema`.

use std::path::Path;
use std::process::ExitCode;

use crate::args;
use crate::definitions::Kind;

/// Prints JSON Schemas, or writes one file for each.
///
/// # Errors
/// If there is no such kind, or the folder can't be written.
pub fn print(args: &args::Schema) -> anyhow::Result<ExitCode> {
    let kinds: Vec<Kind> = match &args.kind {
        None => Kind::ALL.to_vec(),
        Some(name) => {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            vec![kind.ok_or_else(|| {
                anyhow::anyhow!("there is no schema {name}; there are sync, unload, connection and connector")
            })?]
        }
    };
    for kind in kinds {
        let text = text(kind)?;
        match &args.write {
            Some(folder) => std::fs::write(file(folder, kind), text)?,
            None => print!("{text}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The schema's file in a folder.
#[must_use]
pub fn file(folder: &Path, kind: Kind) -> std::path::PathBuf {
    folder.join(format!("{}.schema.json", kind.name()))
}

/// The schema's text, as `infra/schema` holds it.
///
/// # Errors
/// None in practice: a schema is JSON.
pub fn text(kind: Kind) -> serde_json::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&kind.schema())?))
}
