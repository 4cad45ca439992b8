//! What people read says what the code does: failures in the runbook, environment variables in the functions' READMEs.

#![expect(clippy::expect_used, reason = "a test may stop where a file is not there")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use penstock_model::FailureName;

/// A README is a screen or two, and read whole.
const MOST_LINES: usize = 60;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file is there")
}

/// The files and folders in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).expect("the folder is there");
    let mut found: Vec<_> = listed.map(|entry| entry.expect("the folder can be listed").path()).collect();
    found.sort();
    found
}

/// Every `PENSTOCK_…` in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_of_name(c)).filter(|word| word.starts_with("PENSTOCK_")).map(str::to_owned).collect()
}

#[test]
fn the_runbook_has_a_row_for_every_failure() {
    let runbook = text(&project("infra/runbook.md"));
    let rows: Vec<&str> = runbook.lines().filter(|line| line.starts_with("| `")).collect();
    let missing: Vec<_> = FailureName::ALL
        .iter()
        .filter(|name| !rows.iter().any(|row| row.contains(&format!("`{name}`"))))
        .collect();
    assert!(missing.is_empty(), "infra/runbook.md says nothing of {missing:?}");
}

#[test]
fn the_runbook_has_a_row_for_every_alarm() {
    let (runbook, template) = (text(&project("infra/runbook.md")), text(&project("template.yaml")));
    let resources: Vec<&str> = template.lines().collect();
    let alarms: Vec<&str> = resources
        .windows(2)
        .filter_map(|lines| match lines {
            [name, kind] if kind.trim() == "Type: AWS::CloudWatch::Alarm" => {
                Some(name.trim().trim_end_matches(':'))
            }
            _ => None,
        })
        .collect();
    assert!(alarms.len() >= 6, "{alarms:?}");
    let rows: Vec<&str> = runbook.lines().filter(|line| line.starts_with("| `")).collect();
    let missing: Vec<_> = alarms
        .iter()
        .filter(|name| !rows.iter().any(|row| row.starts_with(&format!("| `{name}` |"))))
        .collect();
    assert!(missing.is_empty(), "infra/runbook.md says nothing of {missing:?}");
    let told: Vec<_> =
        rows.iter().filter_map(|row| row.split('`').nth(1)).filter(|name| name.ends_with("Alarm")).collect();
    assert_eq!(told.len(), alarms.len(), "infra/runbook.md tells of alarms that there are not: {told:?}");
}

#[test]
fn every_function_explains_its_environment_variables() {
    let mut wrong = Vec::new();
    let functions: Vec<_> = entries(&project("functions")).into_iter().filter(|path| path.is_dir()).collect();
    assert_eq!(functions.len(), 10, "there are ten functions");
    for function in functions {
        let mut used: BTreeSet<String> =
            entries(&function.join("src")).iter().flat_map(|file| variables(&text(file))).collect();
        // Read by lambda-kit, for all.
        used.insert("PENSTOCK_LOG".to_owned());
        let explained = variables(&text(&function.join("README.md")));
        if used != explained {
            wrong.push(format!("{}: uses {used:?}, explains {explained:?}", function.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn readmes_are_short_and_their_links_lead_somewhere() {
    let mut wrong = Vec::new();
    let folders = ["functions", "shared"].into_iter().flat_map(|folder| entries(&project(folder)));
    let mut readmes: Vec<_> =
        folders.map(|folder| folder.join("README.md")).filter(|file| file.is_file()).collect();
    readmes
        .extend(["functions", "shared", "events", "infra"].map(|folder| project(folder).join("README.md")));
    for readme in readmes {
        let text = text(&readme);
        if text.lines().count() > MOST_LINES {
            wrong.push(format!("{}: more than {MOST_LINES} lines", readme.display()));
        }
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with('#') && !target.contains("://")) {
            let file = target.split('#').next().unwrap_or(target);
            if !readme.with_file_name(file).exists() {
                wrong.push(format!("{}: there is no {target}", readme.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
