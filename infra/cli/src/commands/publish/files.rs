//! Which files are meant: those that are named, and the definitions in folders that are.

use std::path::{Path, PathBuf};

/// The folders of a project that hold definitions.
const FOLDERS: [&str; 4] = ["unloads", "connections", "connectors", "syncs"];

/// The files, and those of folders: the YAML files in its folders `unloads`, `connections`, `connectors` and `syncs` if it
/// has a folder `syncs`, else the YAML files in the folder itself.
///
/// # Errors
/// If a folder can't be read, or holds no definition.
pub(super) fn definitions(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        if path.join("syncs").is_dir() {
            for folder in FOLDERS.map(|folder| path.join(folder)).iter().filter(|folder| folder.is_dir()) {
                yaml_files(folder, &mut files)?;
            }
        } else {
            yaml_files(path, &mut files)?;
        }
        anyhow::ensure!(files.len() > before, "{} holds no definition", path.display());
    }
    Ok(files)
}

fn yaml_files(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    files.append(&mut found);
    Ok(())
}
