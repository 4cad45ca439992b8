//! Checks a sync's match, fields and removals, and compiles them.

use std::collections::{BTreeMap, BTreeSet};

use penstock_model::connector::Capabilities;
use penstock_model::definition::{
    Field, FieldDetails, MatchColumn, Mode, OnNull, OnRemoved, OnRemovedWord, Problem, Scope, Sync, Write,
    pointer_part,
};
use penstock_model::operation::OperationKind;
use penstock_model::unload::{Column, ColumnType};

use super::convert::Target;
use super::tree::Node;
use super::{FieldPlan, Mapping, MatchField, Place, Removal, Source, expression, fixed, json, mapping_hash};

impl Mapping {
    /// Checks and compiles a sync's mapping. `columns` are all of the unload's; without them (no unload at hand) the
    /// names of columns are taken as they are.
    ///
    /// # Errors
    /// All that is wrong, each with a JSON pointer into the sync.
    pub fn compile(
        sync: &Sync,
        columns: Option<&[Column]>,
        capabilities: &Capabilities,
    ) -> Result<Self, Vec<Problem>> {
        let mut compiler =
            Compiler { sync, columns, capabilities, used: BTreeSet::new(), problems: Vec::new() };
        compiler.operation(sync, capabilities);
        let matched = compiler.matched(sync);
        let drafts: Vec<(String, Draft)> = sync
            .fields
            .iter()
            .filter(|(name, _)| !sync.matched.contains_key(*name))
            .filter_map(|(name, field)| Some((name.clone(), compiler.field(name, field)?)))
            .collect();
        // A match field that is also listed is sent as match; what is wrong with it is said all the same.
        for (name, field) in sync.fields.iter().filter(|(name, _)| sync.matched.contains_key(*name)) {
            compiler.field(name, field);
        }
        let asked: BTreeSet<&str> =
            sync.if_empty().chain(sync.lookups().map(|lookup| lookup.field)).collect();
        let names = sync.fields.keys().map(String::as_str).filter(|name| !sync.matched.contains_key(*name));
        let tree = compiler.tree(names.enumerate().filter(|(_, name)| !asked.contains(name)), "/fields");
        let removal = compiler.removal(sync, capabilities);
        if !compiler.problems.is_empty() {
            return Err(compiler.problems);
        }
        let columns: Vec<String> = compiler.used.into_iter().collect();
        let index = |name: &String| columns.binary_search(name).unwrap_or_default();
        let matched = matched
            .into_iter()
            .map(|it| MatchField {
                key: json::key_of(&it.name),
                name: it.name,
                column: index(&it.column),
                target: it.target,
            })
            .collect();
        let asks = drafts.iter().any(|(_, draft)| draft.place != Place::Fields);
        let fields = drafts.into_iter().map(|(name, draft)| FieldPlan {
            key: json::key_of(&name),
            name,
            place: draft.place,
            source: match draft.source {
                DraftSource::Column(column) => Source::Column(index(&column)),
                DraftSource::Constant(json) => Source::Constant(json),
                DraftSource::Expression(source, names) => {
                    let names = names.into_iter().map(|(name, column)| (name, index(&column))).collect();
                    Source::Expression(source, names)
                }
            },
            target: draft.target,
            on_null: draft.on_null,
        });
        Ok(Self {
            style: capabilities.values,
            mode: sync.mode,
            matched,
            fields: fields.collect(),
            tree,
            asks,
            removal,
            hash: mapping_hash(sync),
            columns,
        })
    }
}

/// A match field whose column has no index yet.
struct MatchDraft {
    name: String,
    column: String,
    target: Option<Target>,
}

/// A field whose columns have no index yet.
struct Draft {
    source: DraftSource,
    target: Option<Target>,
    on_null: OnNull,
    place: Place,
}

enum DraftSource {
    Column(String),
    Expression(expression::Source, Vec<(String, String)>),
    Constant(String),
}

struct Compiler<'a> {
    sync: &'a Sync,
    columns: Option<&'a [Column]>,
    capabilities: &'a Capabilities,
    used: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::at(pointer, message));
    }

    /// Notes that a column is used; gives its lower-case name, or notes that there is no such column.
    fn column(&mut self, name: &str, pointer: &str) -> Option<String> {
        let lower = name.to_lowercase();
        if let Some(columns) = self.columns
            && !columns.iter().any(|column| column.name.to_lowercase() == lower)
        {
            let hint = match nearest(&lower, columns) {
                Some(nearest) => format!("; did you mean `{nearest}`?"),
                None => String::new(),
            };
            self.problem(pointer, format!("the unload has no column `{name}`{hint}"));
            return None;
        }
        self.used.insert(lower.clone());
        Some(lower)
    }

    fn operation(&mut self, sync: &Sync, capabilities: &Capabilities) {
        if capabilities.operations.is_empty() {
            self.problem("/object", format!("this destination has no object `{}`", sync.object));
        }
        let needed = match sync.mode {
            Mode::Upsert => OperationKind::Upsert,
            Mode::CreateOnly => OperationKind::Create,
            Mode::UpdateOnly => OperationKind::Update,
            Mode::Append => OperationKind::Append,
        };
        self.require(needed, "/mode", capabilities);
        if capabilities.operations.get(&needed).is_some_and(|capability| capability.needs_id) {
            let message = format!(
                "this destination has `{}` by the record's own id only, which nothing tells: a connector file finds it by `reads`",
                word(needed)
            );
            self.problem("/mode", message);
        }
    }

    fn require(&mut self, kind: OperationKind, pointer: &str, capabilities: &Capabilities) {
        if !capabilities.operations.is_empty() && !capabilities.operations.contains_key(&kind) {
            let known: Vec<&str> = capabilities.operations.keys().map(|kind| word(*kind)).collect();
            self.problem(
                pointer,
                format!("this destination has no operation `{}`; it has {}", word(kind), known.join(", ")),
            );
        }
    }

    fn matched(&mut self, sync: &Sync) -> Vec<MatchDraft> {
        if sync.matched.is_empty() && sync.mode != Mode::Append {
            self.problem(
                "/match",
                "say which fields identify a record, and the columns that fill them, such as `match: { email: email }`",
            );
        }
        let mut matched = Vec::new();
        for (name, given) in &sync.matched {
            let pointer = format!("/match/{}", pointer_part(name));
            let target = match given.to().map(Target::parse_scalar) {
                None => None,
                Some(Ok(target)) => Some(target),
                Some(Err(message)) => {
                    self.problem(format!("{pointer}/type"), message);
                    None
                }
            };
            let pointer = match given {
                MatchColumn::Column(_) => pointer,
                MatchColumn::Details(_) => format!("{pointer}/column"),
            };
            let column = given.column();
            let Some(lower) = self.column(column, &pointer) else {
                continue;
            };
            let kind = self
                .columns
                .and_then(|columns| columns.iter().find(|column| column.name.to_lowercase() == lower));
            if kind.is_some_and(|column| is_nested(&column.kind)) {
                self.problem(
                    pointer,
                    format!("column `{column}` holds lists or objects, which can't identify a record"),
                );
                continue;
            }
            matched.push(MatchDraft { name: name.clone(), column: lower, target });
        }
        matched
    }

    fn field(&mut self, name: &str, field: &Field) -> Option<Draft> {
        let pointer = format!("/fields/{}", pointer_part(name));
        let details = field.details();
        let before = self.problems.len();
        let place = self.place(name, &details, &pointer);
        let target = match details.to.as_deref().map(Target::parse) {
            Some(Ok(target)) => Some(target),
            Some(Err(message)) => {
                self.problem(format!("{pointer}/type"), message);
                None
            }
            None => None,
        };
        let source = self.source(&pointer, field, &details);
        (self.problems.len() == before).then_some(())?;
        Some(Draft { source: source?, target, on_null: details.on_null.unwrap_or_default(), place })
    }

    /// Among which fields it stands; what the destination can't do about it is noted.
    fn place(&mut self, name: &str, details: &FieldDetails, pointer: &str) -> Place {
        let account = &self.sync.connection;
        if details.lookup.is_none() {
            for (key, given) in [
                ("on_missing", details.on_missing.is_some()),
                ("object", details.object.is_some()),
                ("label", details.label.is_some()),
            ] {
                if given {
                    self.problem(format!("{pointer}/{key}"), format!("`{key}` goes with `lookup`"));
                }
            }
        } else if !self.capabilities.lookups {
            let message = format!("the destination of connection {account} can't look records up");
            self.problem(format!("{pointer}/lookup"), message);
        }
        let if_empty = details.write == Some(Write::IfEmpty);
        let asked = if_empty && self.sync.mode.finds_records();
        if asked && details.lookup.is_none() && !self.capabilities.if_empty {
            let message =
                format!("the destination of connection {account} can't tell whether a field is empty");
            self.problem(format!("{pointer}/write"), message);
        }
        if if_empty && details.on_null == Some(OnNull::Clear) {
            self.problem(
                format!("{pointer}/on_null"),
                "a field that is written only if it is empty is never emptied",
            );
        }
        if if_empty && details.lookup.is_some() {
            self.problem(
                format!("{pointer}/write"),
                "a reference is written always: `if_empty` does not go with `lookup`",
            );
        }
        let place = match (&details.lookup, asked) {
            (Some(_), _) => Place::Lookups,
            (None, true) => Place::IfEmpty,
            (None, false) => Place::Fields,
        };
        if place != Place::Fields && is_path(name) {
            let message = format!(
                "{name:?} is a part of an object: a field that depends on what the destination holds can't be"
            );
            self.problem(pointer, message);
        }
        place
    }

    fn source(&mut self, pointer: &str, field: &Field, details: &FieldDetails) -> Option<DraftSource> {
        let given: Vec<&str> = [
            ("column", details.column.is_some()),
            ("expression", details.expression.is_some()),
            ("constant", details.constant.is_some()),
            ("lookup", details.lookup.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            self.problem(
                pointer,
                format!("give exactly one of column, expression, constant and lookup, not {found}"),
            );
            return None;
        }
        if let Some(column) = &details.column {
            let pointer = match field {
                Field::Column(_) => pointer.to_owned(),
                Field::Details(_) => format!("{pointer}/column"),
            };
            return self.column(column, &pointer).map(DraftSource::Column);
        }
        if let Some(template) = &details.expression {
            return self.expression(&format!("{pointer}/expression"), template);
        }
        if let Some(lookup) = &details.lookup {
            let pointer = format!("{pointer}/lookup");
            let [(by, column)] = lookup.iter().collect::<Vec<_>>()[..] else {
                let message = "a lookup names one field of the other record, and the column that holds its value: `{ External_Id__c: account_id }`";
                self.problem(pointer, message);
                return None;
            };
            return self.column(column, &format!("{pointer}/{}", pointer_part(by))).map(DraftSource::Column);
        }
        let constant = details.constant.as_ref()?;
        if details.to.is_some() {
            self.problem(format!("{pointer}/type"), "a constant is sent as it is written: it has no `type`");
        }
        Some(DraftSource::Constant(fixed::constant(constant, self.capabilities.values)))
    }

    fn expression(&mut self, pointer: &str, template: &str) -> Option<DraftSource> {
        let source = match expression::Source::check(template) {
            Ok(source) => source,
            Err(problems) => {
                for message in problems {
                    self.problem(pointer, message);
                }
                return None;
            }
        };
        let mut names = Vec::new();
        let mut known = true;
        for name in &source.names {
            match self.column(name, pointer) {
                Some(column) => names.push((name.clone(), column)),
                None => known = false,
            }
        }
        let missing: Vec<String> = source.paths.iter().filter_map(|path| self.missing_part(path)).collect();
        for message in &missing {
            self.problem(pointer, message.as_str());
        }
        (known && missing.is_empty()).then_some(DraftSource::Expression(source, names))
    }

    /// What is wrong with a path such as `address.city`, if its column is known and has no such part.
    fn missing_part(&self, path: &str) -> Option<String> {
        let mut parts = path.split('.');
        let root = parts.next()?.to_lowercase();
        let mut kind = &self.columns?.iter().find(|column| column.name.to_lowercase() == root)?.kind;
        for part in parts {
            kind = match kind {
                ColumnType::Struct(fields) => match fields.iter().find(|(name, _)| name == part) {
                    Some((_, kind)) => kind,
                    None => return Some(format!("`{path}`: there is no `{part}`")),
                },
                ColumnType::Map(_) | ColumnType::List(_) | ColumnType::Null => return None,
                ColumnType::Bool
                | ColumnType::Int
                | ColumnType::Decimal { .. }
                | ColumnType::Float
                | ColumnType::Text
                | ColumnType::Binary
                | ColumnType::Uuid
                | ColumnType::Date
                | ColumnType::Time
                | ColumnType::Instant
                | ColumnType::Naive => {
                    return Some(format!("`{path}`: there is no `{part}`, only structs have parts"));
                }
            };
        }
        None
    }

    /// The object that field names make; conflicts are noted below `pointer`.
    fn tree<'n>(&mut self, names: impl Iterator<Item = (usize, &'n str)>, pointer: &str) -> Node {
        let names: BTreeMap<usize, &str> = names.collect();
        match Node::of(names.iter().map(|(index, name)| (*index, *name))) {
            Ok(node) => node,
            Err(conflicts) => {
                for (index, message) in conflicts {
                    let name = names.get(&index).copied().unwrap_or_default();
                    self.problem(format!("{pointer}/{}", pointer_part(name)), message);
                }
                Node::Object(Vec::new())
            }
        }
    }

    fn removal(&mut self, sync: &Sync, capabilities: &Capabilities) -> Option<Removal> {
        let (kind, scope, pointer) = match &sync.on_removed {
            OnRemoved::Word(OnRemovedWord::Nothing) => return None,
            OnRemoved::Word(OnRemovedWord::Delete) => (OperationKind::Delete, Scope::Ours, "/on_removed"),
            OnRemoved::Word(OnRemovedWord::Archive) => (OperationKind::Archive, Scope::Ours, "/on_removed"),
            OnRemoved::Delete { delete } => (OperationKind::Delete, *delete, "/on_removed/delete"),
            OnRemoved::Archive { archive } => (OperationKind::Archive, *archive, "/on_removed/archive"),
            // What is emptied was written by this sync, and nothing is created: any record will do.
            OnRemoved::Clear { .. } => (OperationKind::Clear, Scope::Any, "/on_removed/clear"),
        };
        if sync.mode == Mode::Append {
            self.problem(pointer, "`append` compares nothing, so that no row is ever found to be removed");
        }
        self.require(kind, pointer, capabilities);
        let fields = match &sync.on_removed {
            OnRemoved::Clear { clear } => self.cleared(sync, clear),
            OnRemoved::Word(_) | OnRemoved::Delete { .. } | OnRemoved::Archive { .. } => "{}".to_owned(),
        };
        let needs_id = capabilities.operations.get(&kind).is_some_and(|capability| capability.needs_id);
        Some(Removal { kind, scope, needs_id, fields })
    }

    /// The fields to empty, as a JSON object.
    fn cleared(&mut self, sync: &Sync, clear: &[String]) -> String {
        if clear.is_empty() {
            self.problem("/on_removed/clear", "name the fields to empty");
        }
        let before = self.problems.len();
        for (index, name) in clear.iter().enumerate() {
            let pointer = format!("/on_removed/clear/{index}");
            if sync.matched.contains_key(name) {
                self.problem(pointer, format!("`{name}` identifies the record and can't be emptied"));
            } else if let Some(field) = sync.fields.get(name) {
                let details = field.details();
                if details.lookup.is_some() {
                    self.problem(pointer, format!("`{name}` refers to another record and can't be emptied"));
                } else if details.write == Some(Write::IfEmpty) {
                    let message = format!(
                        "`{name}` is written only if it is empty: what it holds may be somebody else's"
                    );
                    self.problem(pointer, message);
                }
            } else {
                self.problem(pointer, format!("`{name}` is none of the sync's fields"));
            }
        }
        if self.problems.len() > before {
            return String::new();
        }
        let names: BTreeSet<&str> = clear.iter().map(String::as_str).collect();
        let node = self.tree(names.into_iter().enumerate(), "/on_removed/clear");
        let mut out = String::new();
        let null = fixed::constant(&serde_json::Value::Null, self.capabilities.values);
        let mut leaf = |out: &mut String, _: usize| {
            out.push_str(&null);
            Ok::<bool, std::convert::Infallible>(true)
        };
        match node.write(&mut out, &mut leaf) {
            Ok(_) => out,
            Err(never) => match never {},
        }
    }
}

/// Whether a field's name is a path into an object, or could be taken for one.
fn is_path(name: &str) -> bool {
    name.contains(['.', '\\'])
}

fn is_nested(kind: &ColumnType) -> bool {
    match kind {
        ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_) => true,
        ColumnType::Bool
        | ColumnType::Int
        | ColumnType::Decimal { .. }
        | ColumnType::Float
        | ColumnType::Text
        | ColumnType::Binary
        | ColumnType::Uuid
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Instant
        | ColumnType::Naive
        | ColumnType::Null => false,
    }
}

/// An operation's name as it is written elsewhere.
fn word(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Upsert => "upsert",
        OperationKind::Create => "create",
        OperationKind::Update => "update",
        OperationKind::Delete => "delete",
        OperationKind::Archive => "archive",
        OperationKind::Clear => "clear",
        OperationKind::Append => "append",
    }
}

/// The column whose name is most like this one, if any is much like it.
fn nearest<'a>(name: &str, columns: &'a [Column]) -> Option<&'a str> {
    let allowed = name.chars().count() / 3 + 1;
    let distances: BTreeMap<(usize, &str), ()> = columns
        .iter()
        .map(|column| ((distance(name, &column.name.to_lowercase()), column.name.as_str()), ()))
        .collect();
    distances.keys().next().filter(|(distance, _)| *distance <= allowed).map(|(_, name)| *name)
}

/// How many letters have to be changed, added or left out (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut next = vec![index + 1];
        for ((above, pair), target) in row.iter().skip(1).zip(&row).zip(&other) {
            let left = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(left + 1).min(pair + usize::from(letter != *target)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
