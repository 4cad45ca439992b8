//! Finds the files that belong together: a sync, its unload, its connection and its connector.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use penstock_model::connector::{Connector, HttpConnector};
use penstock_model::definition::{Connection, Problem, Sync, Unload};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::schema::{self, Kind};
use super::yaml::{self, Document};

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The field, as a path of dots; empty for the whole document.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// A definition with the place it came from.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// The definition.
    pub definition: T,
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    document: Document,
}

impl<T> Sourced<T> {
    /// A problem with its file and line.
    #[must_use]
    pub fn mistake(&self, problem: &Problem) -> Mistake {
        mistake(&self.file, &self.document, problem)
    }
}

fn mistake(file: &Path, document: &Document, problem: &Problem) -> Mistake {
    let field =
        problem.pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    Mistake {
        file: file.to_owned(),
        line: document.line(&problem.pointer),
        field,
        message: problem.message.clone(),
    }
}

/// Definitions by kind and name.
#[derive(Debug, Default)]
pub struct Project {
    /// Unloads.
    pub unloads: BTreeMap<String, Sourced<Unload>>,
    /// Connections.
    pub connections: BTreeMap<String, Sourced<Connection>>,
    /// Syncs.
    pub syncs: BTreeMap<String, Sourced<Sync>>,
    /// Connector files that were named themselves.
    pub connectors: BTreeMap<String, Sourced<HttpConnector>>,
    /// Everything wrong with the files read so far.
    pub mistakes: Vec<Mistake>,
    references: Vec<Reference>,
}

/// What a sync refers to; known also if the rest of the sync is wrong.
#[derive(Debug)]
struct Reference {
    file: PathBuf,
    unload: Option<String>,
    connection: Option<String>,
    after: Option<String>,
}

impl Project {
    /// Whether a definition may have this name.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    }

    /// Reads a file and remembers all its definitions. What is wrong is remembered too.
    pub fn read(&mut self, file: &Path) {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                self.wrong(file, format!("can't be read: {error}"));
                return;
            }
        };
        let documents = match yaml::parse(&text) {
            Ok(documents) => documents,
            Err(error) => {
                self.mistakes.push(Mistake {
                    file: file.to_owned(),
                    line: error.line,
                    field: String::new(),
                    message: format!("not YAML: {}", error.message),
                });
                return;
            }
        };
        if documents.is_empty() {
            self.wrong(file, "holds no definition".to_owned());
        }
        for document in documents {
            self.add(file, document);
        }
    }

    fn wrong(&mut self, file: &Path, message: String) {
        self.mistakes.push(Mistake { file: file.to_owned(), line: 1, field: String::new(), message });
    }

    fn add(&mut self, file: &Path, document: Document) {
        let told = Kind::of(&document.value);
        // A connector file may stand beside the connections that name it.
        let kind = told.filter(|kind| *kind == Kind::Connector).or_else(|| kind_by_folder(file)).or(told);
        let Some(kind) = kind else {
            let line = document.line("");
            self.mistakes.push(Mistake {
                file: file.to_owned(),
                line,
                field: String::new(),
                message: "is neither an unload (location), a connection (connector), a sync (fields) nor a connector \
                          (objects)"
                    .to_owned(),
            });
            return;
        };
        if kind == Kind::Sync {
            let name = |at: &str| document.value.pointer(at).and_then(Value::as_str).map(str::to_owned);
            self.references.push(Reference {
                file: file.to_owned(),
                unload: name("/unload"),
                connection: name("/connection"),
                after: name("/start/after"),
            });
        }
        let problems = schema::problems(kind, &document.value);
        if !problems.is_empty() {
            self.mistakes.extend(problems.iter().map(|problem| mistake(file, &document, problem)));
            return;
        }
        let result = match kind {
            Kind::Unload => insert(&mut self.unloads, file, document, |unload: &Unload| unload.name.clone()),
            Kind::Connection => insert(&mut self.connections, file, document, |connection: &Connection| {
                connection.name.clone()
            }),
            Kind::Sync => insert(&mut self.syncs, file, document, |sync: &Sync| sync.name.clone()),
            Kind::Connector => insert(&mut self.connectors, file, document, |_: &HttpConnector| None),
        };
        if let Err(mistake) = result {
            self.mistakes.push(*mistake);
        }
    }

    /// Looks for the unloads, connections and syncs that the syncs read so far refer to: in the folders `unloads`,
    /// `connections` and `syncs` beside the sync's folder or in it, and beside the sync's file itself.
    pub fn resolve_references(&mut self) {
        // A sync that is found refers to others in its turn.
        while let Some(Reference { file, unload, connection, after }) = self.references.pop() {
            let unload = unload.filter(|name| !self.unloads.contains_key(name));
            if let Some(found) = unload.and_then(|name| find(&file, "unloads", &name)) {
                self.read(&found);
            }
            let connection = connection.filter(|name| !self.connections.contains_key(name));
            if let Some(found) = connection.and_then(|name| find(&file, "connections", &name)) {
                self.read(&found);
            }
            let after = after.filter(|name| !self.syncs.contains_key(name));
            if let Some(found) = after.and_then(|name| find(&file, "syncs", &name)) {
                self.read(&found);
            }
        }
    }

    /// The connector of a connection: built in, or the file that it names.
    ///
    /// # Errors
    /// Every mistake of the connector file, or that there is none.
    pub fn connector(connection: &Sourced<Connection>) -> Result<Connector, Vec<Mistake>> {
        let name = &connection.definition.connector;
        if let Some(connector) = penstock_destinations::built_in(name) {
            return Ok(connector);
        }
        let at_connector = |message: String| connection.mistake(&Problem::at("/connector", message));
        if !is_path(name) {
            return Err(vec![at_connector(format!(
                "there is no built-in connector {name} (there are: {}); a connector file is named by its path, such as ./{name}.yaml",
                penstock_destinations::BUILT_IN.join(", ")
            ))]);
        }
        let path = tidy(&connection.file.parent().unwrap_or(Path::new(".")).join(name));
        let mut project = Self::default();
        project.read(&path);
        let found = project.connectors.into_values().next();
        match found {
            Some(connector) if project.mistakes.is_empty() => {
                let wrong: Vec<_> = connector
                    .definition
                    .validate()
                    .iter()
                    .map(|problem| connector.mistake(problem))
                    .collect();
                if wrong.is_empty() {
                    Ok(Connector::Http(Box::new(connector.definition)))
                } else {
                    Err(wrong)
                }
            }
            Some(_) | None if project.mistakes.is_empty() => {
                Err(vec![at_connector(format!("{} holds no connector", path.display()))])
            }
            Some(_) | None => Err(project.mistakes),
        }
    }
}

fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml")
}

fn kind_by_folder(file: &Path) -> Option<Kind> {
    match file.parent()?.file_name()?.to_str()? {
        "unloads" => Some(Kind::Unload),
        "connections" => Some(Kind::Connection),
        "syncs" => Some(Kind::Sync),
        "connectors" => Some(Kind::Connector),
        _ => None,
    }
}

fn insert<T: DeserializeOwned>(
    into: &mut BTreeMap<String, Sourced<T>>,
    file: &Path,
    document: Document,
    name: impl Fn(&T) -> Option<String>,
) -> Result<(), Box<Mistake>> {
    let wrong = |problem: Problem| Box::new(mistake(file, &document, &problem));
    let definition: T = serde_json::from_value(document.value.clone())
        .map_err(|error| wrong(Problem::at("", format!("can't be read: {error}"))))?;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let name = name(&definition).unwrap_or(stem);
    if !Project::is_name(&name) {
        return Err(wrong(Problem::at(
            "/name",
            format!(
                "the name {name:?} must be of at most 64 letters, digits, - and _; give one with the key name"
            ),
        )));
    }
    if let Some(other) =
        into.get(&name).filter(|other| other.file != file || other.document.value != document.value)
    {
        return Err(wrong(Problem::at(
            "/name",
            format!("{name} is defined in {} already", other.file.display()),
        )));
    }
    into.insert(name.clone(), Sourced { definition, name, file: file.to_owned(), document });
    Ok(())
}

fn find(sync_file: &Path, folder: &str, name: &str) -> Option<PathBuf> {
    let beside = sync_file.parent().map(Path::to_owned).unwrap_or_default();
    let above = beside.join("..");
    [above.join(folder), beside.join(folder), beside.clone(), above]
        .into_iter()
        .flat_map(|place| [place.join(format!("{name}.yaml")), place.join(format!("{name}.yml"))])
        .find(|path| path.is_file() && !same_file(path, sync_file))
        .map(|path| tidy(&path))
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// `syncs/../unloads/x.yaml` as `unloads/x.yaml`, for messages.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir if tidied.file_name().is_some_and(|last| last != "..") => {
                tidied.pop();
            }
            std::path::Component::CurDir => {}
            other @ (std::path::Component::ParentDir
            | std::path::Component::Prefix(_)
            | std::path::Component::RootDir
            | std::path::Component::Normal(_)) => tidied.push(other),
        }
    }
    tidied
}
