//! Who may depend on whom. A heavy crate has one owner, and crates of the workspace point in one direction.
//!
//! Direct dependencies are looked at, those for tests excepted.

#![expect(clippy::expect_used, reason = "a test may stop where Cargo's answer is not what it should be")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

/// Crates that one crate of ours owns: `prefix*` stands for every name that begins so.
const OWNED: &[(&str, &[&str])] = &[
    ("penstock-lambda-kit", &["lambda_runtime"]),
    ("penstock-store", &["aws-config", "aws-sdk-*", "aws-smithy-*"]),
    ("penstock-columnar", &["arrow", "arrow-*", "parquet", "minijinja"]),
    (
        "penstock-destinations",
        &["reqwest", "hyper", "hyper-*", "rustls", "webpki-roots", "tokio-postgres", "tokio-postgres-*"],
    ),
    ("penstock-twins", &["axum", "axum-*"]),
    ("penstock-cli", &["clap", "indicatif", "anyhow"]),
];

/// What the libraries may use of the workspace.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("penstock-model", &[]),
    ("penstock-columnar", &["penstock-model"]),
    ("penstock-destinations", &["penstock-model"]),
    ("penstock-store", &["penstock-model"]),
    ("penstock-lambda-kit", &["penstock-model"]),
    ("penstock-commit", &["penstock-model", "penstock-store", "penstock-columnar"]),
    ("penstock-twins", &["penstock-model"]),
];

/// What model, which has no IO and no runtime, may never use.
const NOT_PURE: &[&str] = &["tokio", "futures", "async-trait", "tracing", "rand"];

/// One crate of the workspace.
struct Member {
    folder: String,
    /// Direct dependencies, those for tests excepted.
    uses: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

fn workspace() -> BTreeMap<String, Member> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata gives JSON");
    let member = |package: Package| {
        let folder =
            package.manifest_path.strip_prefix(&metadata.workspace_root).unwrap_or(&package.manifest_path);
        let folder = folder.trim_matches('/').trim_end_matches("/Cargo.toml").to_owned();
        let is_for_use = |dependency: &Dependency| dependency.kind.as_deref() != Some("dev");
        let uses =
            package.dependencies.into_iter().filter(is_for_use).map(|dependency| dependency.name).collect();
        (package.name, Member { folder, uses })
    };
    metadata.packages.into_iter().map(member).collect()
}

fn is_function(member: &Member) -> bool {
    member.folder.starts_with("functions/")
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_heavy_crate_is_known_to_its_owner_only() {
    let workspace = workspace();
    let mut wrong = Vec::new();
    for (owner, patterns) in OWNED {
        for pattern in *patterns {
            for (name, member) in workspace.iter().filter(|(name, _)| name.as_str() != *owner) {
                for used in member.uses.iter().filter(|used| fits(pattern, used)) {
                    wrong.push(format!(
                        "{name} depends on {used}, which is {owner}'s: put what needs it there, behind a type of ours"
                    ));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_owner_uses_what_it_owns() {
    let workspace = workspace();
    let mut wrong = Vec::new();
    for (owner, patterns) in OWNED {
        let Some(member) = workspace.get(*owner) else {
            wrong.push(format!(
                "{owner} owns crates but is not in the workspace: correct the table in this test"
            ));
            continue;
        };
        if !patterns.iter().any(|pattern| member.uses.iter().any(|used| fits(pattern, used))) {
            wrong.push(format!("{owner} uses none of {patterns:?}: correct the table in this test"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn a_function_never_imports_another() {
    let workspace = workspace();
    let functions: BTreeSet<&str> =
        workspace.iter().filter(|(_, member)| is_function(member)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(functions.len(), 10, "there are ten functions, not {functions:?}");
    let mut wrong = Vec::new();
    let may = |member: &Member| member.folder == "infra/cli" || member.folder.starts_with("infra/bench/");
    for (name, member) in workspace.iter().filter(|(_, member)| !may(member)) {
        for used in member.uses.iter().filter(|used| functions.contains(used.as_str())) {
            wrong.push(format!(
                "{name} depends on the function {used}: functions meet in model's contracts and in the state machine, \
                 and only the CLI's engine (and a benchmark) holds them all"
            ));
        }
    }
    assert_none(&wrong);
}

#[test]
fn libraries_point_towards_the_model() {
    let workspace = workspace();
    let mut wrong = Vec::new();
    for (name, member) in workspace.iter().filter(|(_, member)| member.folder.starts_with("shared/")) {
        let Some((_, allowed)) = LIBRARIES.iter().find(|(library, _)| library == name) else {
            wrong.push(format!("{name} is new: say in this test which of our crates it may use"));
            continue;
        };
        for used in member.uses.iter().filter(|used| workspace.contains_key(*used)) {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} depends on {used}: it may use {allowed:?} of our crates"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_model_has_no_io_and_no_runtime() {
    let workspace = workspace();
    let model = workspace.get("penstock-model").expect("there is a model");
    let impure: Vec<_> = NOT_PURE
        .iter()
        .filter(|name| model.uses.contains(**name))
        .map(|name| {
            format!("penstock-model depends on {name}: it is pure, and knows neither IO nor a runtime")
        })
        .collect();
    assert_none(&impure);
}

#[test]
fn push_never_sees_parquet_and_nobody_else_a_destination() {
    let workspace = workspace();
    let mut wrong = Vec::new();
    for (name, member) in workspace.iter().filter(|(_, member)| is_function(member)) {
        let forbidden: &[&str] = if name == "penstock-push" {
            &["penstock-columnar", "penstock-commit"]
        } else {
            &["penstock-destinations"]
        };
        for used in forbidden.iter().filter(|used| member.uses.contains(**used)) {
            wrong.push(format!("{name} depends on {used}: operations cross between them as objects"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_cli_and_the_twins_are_in_nothing_that_is_deployed() {
    let workspace = workspace();
    let mut wrong = Vec::new();
    for (name, member) in workspace.iter().filter(|(name, _)| name.as_str() != "penstock-cli") {
        for used in ["penstock-cli", "penstock-twins"].iter().filter(|used| member.uses.contains(**used)) {
            wrong.push(format!("{name} depends on {used}, other than for its tests"));
        }
    }
    assert_none(&wrong);
}
