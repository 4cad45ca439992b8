//! `penstock check`: every mistake in every file, at once.

use std::path::{Path, PathBuf};

use penstock_columnar::mapping::Mapping;
use penstock_columnar::unload;
use penstock_model::connector::{Capabilities, Connector};
use penstock_model::definition::{Connection, Problem, ResolvedSync, Sync, Unload};
use penstock_model::port::OpenObjects;
use penstock_model::unload::Column;

use super::project::{Mistake, Project, Sourced, tidy};

/// A sync and what it refers to, all of it sound.
#[derive(Debug)]
pub struct CheckedSync {
    /// The sync.
    pub sync: Sourced<Sync>,
    /// Its unload.
    pub unload: Sourced<Unload>,
    /// Its connection.
    pub connection: Sourced<Connection>,
    /// The connection's connector.
    pub connector: Connector,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The syncs without a mistake.
    pub syncs: Vec<CheckedSync>,
    /// Every mistake, by file and line.
    pub mistakes: Vec<Mistake>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

/// Checks files and all that they refer to. The unload's own columns are looked at if it can be reached.
pub async fn check(files: &[PathBuf], unloads: &dyn OpenObjects) -> Checked {
    let mut project = Project::default();
    for file in files {
        project.read(file);
    }
    project.resolve_references();
    let mut checked = Checked { mistakes: std::mem::take(&mut project.mistakes), ..Checked::default() };
    for connector in project.connectors.values() {
        let problems = connector.definition.validate();
        checked.mistakes.extend(problems.iter().map(|problem| connector.mistake(problem)));
    }
    for connection in project.connections.values() {
        match Project::connector(connection) {
            Ok(_) => {}
            Err(mistakes) => checked.mistakes.extend(mistakes),
        }
    }
    checked.mistakes.extend(project.syncs.values().filter_map(|sync| follows(sync, &project)));
    for unload in project.unloads.values() {
        let query = unload.definition.query.as_ref();
        let problems = query.map(|query| query.problems(&unload.definition.location)).unwrap_or_default();
        checked.mistakes.extend(problems.iter().map(|problem| unload.mistake(problem)));
    }
    for sync in project.syncs.values() {
        check_sync(sync, &project, unloads, &mut checked).await;
    }
    checked.mistakes.sort();
    checked.mistakes.dedup();
    checked
}

async fn check_sync(
    sync: &Sourced<Sync>,
    project: &Project,
    unloads: &dyn OpenObjects,
    checked: &mut Checked,
) {
    let unload = project.unloads.get(&sync.definition.unload);
    let connection = project.connections.get(&sync.definition.connection);
    let mut missing = |pointer: &str, what: &str, name: &str, folder: &str| {
        // A file that is there but wrong has its own mistakes already.
        let known_wrong =
            checked.mistakes.iter().any(|mistake| mistake.file.file_stem().is_some_and(|stem| stem == name));
        if !known_wrong {
            let message = format!(
                "there is no {what} {name}: looked for {folder}/{name}.yaml and {name}.yaml beside the sync"
            );
            checked.mistakes.push(sync.mistake(&Problem::at(pointer, message)));
        }
    };
    if unload.is_none() {
        missing("/unload", "unload", &sync.definition.unload, "unloads");
    }
    if connection.is_none() {
        missing("/connection", "connection", &sync.definition.connection, "connections");
    }
    let (Some(unload), Some(connection)) = (unload, connection) else { return };
    let Ok(connector) = Project::connector(connection) else { return };
    let capabilities = connector.capabilities_or_none(&sync.definition.object);
    let columns = match columns(sync, unload, &capabilities, unloads).await {
        Ok(columns) => Some(columns),
        Err(why) => {
            checked.notes.push(format!("sync {}: its columns were not checked: {why}", sync.name));
            None
        }
    };
    let problems = match Mapping::compile(&sync.definition, columns.as_deref(), &capabilities) {
        Ok(mapping) => mapping.run_tests(&sync.definition.tests),
        Err(problems) => problems,
    };
    let mut fit = fit(sync, unload, connection, &connector);
    if unload.definition.query.is_some() && sync.definition.start.on_unload {
        let message =
            "this unload has a query, which a run itself begins with: start it by schedule or after instead";
        fit.push(sync.mistake(&Problem::at("/start/on_unload", message)));
    }
    if let Some(columns) = &columns {
        let lacks = |key: &&String| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(key));
        for key in unload.definition.primary_key.iter().filter(lacks) {
            let message = format!("the unload has no column {key}");
            checked.mistakes.push(unload.mistake(&Problem::at("/primary_key", message)));
        }
    }
    if problems.is_empty() && fit.is_empty() {
        checked.syncs.push(CheckedSync {
            sync: sync.clone(),
            unload: unload.clone(),
            connection: connection.clone(),
            connector,
        });
    }
    checked.mistakes.extend(problems.iter().map(|problem| sync.mistake(problem)));
    checked.mistakes.extend(fit);
}

/// What is wrong with the sync that this one follows: it is not there, or follows this one in its turn.
fn follows(sync: &Sourced<Sync>, project: &Project) -> Option<Mistake> {
    let wrong = |message: String| Some(sync.mistake(&Problem::at("/start/after", message)));
    let mut chain = vec![sync.name.as_str()];
    let mut last = sync;
    while let Some(before) = &last.definition.start.after {
        if *before == sync.name {
            chain.push(before);
            return wrong(format!("runs in a circle: {}", chain.join(" after ")));
        }
        match project.syncs.get(before) {
            // A circle that this sync is not part of is told of where it is.
            Some(_) if chain.contains(&before.as_str()) => return None,
            Some(next) => last = next,
            None if last.name != sync.name => return None,
            None => {
                return wrong(format!(
                    "there is no sync {before}: looked for syncs/{before}.yaml and {before}.yaml beside the sync"
                ));
            }
        }
        chain.push(before);
    }
    None
}

/// What of the sync or its connection does not fit the connector, for each environment of the connection.
fn fit(
    sync: &Sourced<Sync>,
    unload: &Sourced<Unload>,
    connection: &Sourced<Connection>,
    connector: &Connector,
) -> Vec<Mistake> {
    let given = &connection.definition;
    let mut addresses: Vec<(String, String)> = given
        .environments
        .iter()
        .map(|(name, at)| (format!("/environments/{name}/address"), at.address.clone()))
        .collect();
    let own = given.address.clone().or_else(|| connector.default_address());
    addresses.extend(own.map(|address| ("/address".to_owned(), address)));
    if addresses.is_empty() {
        let message = "the key address is missing, and the connector has no default".to_owned();
        return vec![connection.mistake(&Problem::at("", message))];
    }
    let mut mistakes = Vec::new();
    for (at, address) in addresses {
        let definition = ResolvedSync {
            name: sync.name.clone(),
            sync: sync.definition.clone(),
            unload: unload.definition.clone(),
            connection: given.clone(),
            connector: connector.clone(),
            environment: None,
            address,
        };
        for problem in penstock_destinations::check(&definition) {
            let told = |pointer: &str| Problem::at(pointer, problem.message.clone());
            mistakes.push(match problem.pointer.strip_prefix("/sync") {
                Some(pointer) => sync.mistake(&told(pointer)),
                None => {
                    let pointer = problem.pointer.strip_prefix("/connection").unwrap_or(&problem.pointer);
                    connection.mistake(&told(if pointer == "/address" { &at } else { pointer }))
                }
            });
        }
    }
    mistakes
}

/// The unload's columns; or why they, or those that the sync uses, can't be had.
async fn columns(
    sync: &Sourced<Sync>,
    unload: &Sourced<Unload>,
    capabilities: &Capabilities,
    unloads: &dyn OpenObjects,
) -> Result<Vec<Column>, String> {
    let (location, complete) = unload.definition.place();
    let location = absolute(&unload.file, &location);
    let found = unload::discover(unloads, &location, complete).await.map_err(|error| error.to_string())?;
    // What is wrong with the fields themselves is told elsewhere.
    if let Ok(mapping) = Mapping::compile(&sync.definition, None, capabilities) {
        let used = mapping.columns().iter().chain(&unload.definition.primary_key);
        found.check(used).map_err(|error| error.to_string())?;
    }
    unload::with_zone(found.columns, unload.definition.naive_timestamps.as_deref())
        .map_err(|error| error.to_string())
}

/// A location as runs need it: folders relative to the definition's file become absolute.
#[must_use]
pub fn absolute(file: &Path, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let beside = file.parent().unwrap_or(Path::new("."));
    let path = beside.join(location);
    tidy(&std::path::absolute(&path).unwrap_or(path)).to_string_lossy().into_owned()
}
