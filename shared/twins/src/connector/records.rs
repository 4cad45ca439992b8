//! What a connector's twin holds, and what each operation does to it.

use std::collections::{BTreeMap, HashMap};

use penstock_model::operation::OperationKind;
use serde_json::{Map, Value};

use super::members::{Members, plain};
use crate::{journal::Action, row_error::RowError};

/// One record of a [`ConnectorTwin`](super::ConnectorTwin). Values are kept as the JSON text by which they were sent,
/// with every digit of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorRecord {
    /// The value of its match field as text; of several match fields their values as a JSON list, by the fields' names.
    pub key: String,
    /// The twin's own id.
    pub id: String,
    /// JSON by field. The match fields are among them where requests tell their names.
    pub fields: BTreeMap<String, String>,
}

impl ConnectorRecord {
    /// The key of a record with these match fields, a JSON object; nothing if one of them identifies nothing.
    pub fn key_of(matched: &str) -> Option<String> {
        let members = Self::fields_of(matched);
        let values: Vec<String> = members.values().map(|json| plain(json)).collect::<Option<_>>()?;
        joined(values)
    }

    /// The members of a JSON object as a record keeps them; none if it is no object.
    pub fn fields_of(object: &str) -> BTreeMap<String, String> {
        let members: Members<'_> = serde_json::from_str(object).unwrap_or_default();
        members.0.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
    }

    /// The value of a field.
    pub fn value(&self, field: &str) -> Option<Value> {
        serde_json::from_str(self.fields.get(field)?).ok()
    }

    /// All fields as one object.
    pub fn to_value(&self) -> Value {
        to_value(&self.fields)
    }
}

/// The key that these values of match fields make, which stand in the order of the fields' names.
pub(super) fn joined(values: Vec<String>) -> Option<String> {
    match <[String; 1]>::try_from(values) {
        Ok([only]) => Some(only),
        Err(values) => (!values.is_empty()).then(|| Value::from(values).to_string()),
    }
}

/// Fields as one object.
pub(super) fn to_value(fields: &BTreeMap<String, String>) -> Value {
    let member = |(name, json): (&String, &String)| Some((name.clone(), serde_json::from_str(json).ok()?));
    Value::Object(fields.iter().filter_map(member).collect::<Map<_, _>>())
}

/// What a request asks to be done with one record.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) key: Option<String>,
    pub(super) id: Option<String>,
    pub(super) fields: BTreeMap<String, String>,
    /// Whether the record is told by its id alone, and gets this key.
    pub(super) moves: bool,
}

/// Why a row is not accepted.
pub(super) enum RowProblem {
    /// There is such a record.
    Exists,
    /// There is no such record.
    Missing,
    /// Anything else.
    Bad(RowError),
}

/// What is to become of an accepted row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Write {
        creates: bool,
    },
    Remove,
    Archive,
    Append,
    /// A removal of what is not there.
    Nothing,
}

#[derive(Default)]
pub(super) struct Object {
    pub(super) live: BTreeMap<String, ConnectorRecord>,
    pub(super) archived: Vec<ConnectorRecord>,
    pub(super) appended: Vec<ConnectorRecord>,
    keys_by_id: HashMap<String, String>,
}

/// What became of an accepted row.
pub(super) struct Done {
    pub(super) action: Action,
    pub(super) key: String,
    pub(super) id: String,
}

impl Object {
    /// Decides on rows, of which each sees what those before it do. Changes nothing.
    pub(super) fn plan(
        &self,
        kind: OperationKind,
        rows: &[Result<Asked, RowError>],
    ) -> Vec<Result<Effect, RowProblem>> {
        let mut done: HashMap<&str, bool> = HashMap::new();
        let mut plan = Vec::with_capacity(rows.len());
        for row in rows {
            let asked = match row {
                Ok(asked) => asked,
                Err(error) => {
                    plan.push(Err(RowProblem::Bad(error.clone())));
                    continue;
                }
            };
            if kind == OperationKind::Append {
                plan.push(Ok(Effect::Append));
                continue;
            }
            let Some(key) = self.key(asked) else {
                // Only an id was given, and no record has it.
                plan.push(Err(RowProblem::Missing));
                continue;
            };
            let there = done.get(key).copied().unwrap_or_else(|| self.live.contains_key(key));
            if let Some(new) = asked.key.as_deref().filter(|new| asked.moves && *new != key)
                && done.get(new).copied().unwrap_or_else(|| self.live.contains_key(new))
            {
                plan.push(Err(RowProblem::Exists));
                continue;
            }
            let decided = match (kind, there) {
                (OperationKind::Upsert, there) => Ok(Effect::Write { creates: !there }),
                (OperationKind::Create, false) => Ok(Effect::Write { creates: true }),
                (OperationKind::Create, true) => Err(RowProblem::Exists),
                (OperationKind::Update | OperationKind::Clear, true) => Ok(Effect::Write { creates: false }),
                (OperationKind::Delete, true) => Ok(Effect::Remove),
                (OperationKind::Archive, true) => Ok(Effect::Archive),
                (
                    OperationKind::Update
                    | OperationKind::Clear
                    | OperationKind::Delete
                    | OperationKind::Archive,
                    false,
                ) => Err(RowProblem::Missing),
                (OperationKind::Append, _) => Ok(Effect::Append),
            };
            if let Ok(effect) = &decided {
                done.insert(key, matches!(effect, Effect::Write { .. }));
            }
            plan.push(decided);
        }
        plan
    }

    fn key<'a>(&'a self, asked: &'a Asked) -> Option<&'a str> {
        let by_id = || self.keys_by_id.get(asked.id.as_deref()?).map(String::as_str);
        asked.key.as_deref().filter(|_| !asked.moves).or_else(by_id)
    }

    /// Carries out what was decided. `new_id` gives the id of a record that is made.
    pub(super) fn apply(&mut self, asked: &Asked, effect: Effect, new_id: impl FnOnce() -> String) -> Done {
        let key = self.key(asked).unwrap_or_default().to_owned();
        match effect {
            Effect::Write { .. } => match self.live.get_mut(&key) {
                Some(record) => {
                    let before = record.fields.clone();
                    record.fields.extend(asked.fields.clone());
                    let action = if record.fields == before { Action::Unchanged } else { Action::Updated };
                    let id = record.id.clone();
                    match &asked.key {
                        Some(new) if asked.moves && *new != key => {
                            if let Some(record) = self.live.remove(&key) {
                                self.insert(ConnectorRecord { key: new.clone(), ..record });
                            }
                            Done { action, key: new.clone(), id }
                        }
                        Some(_) | None => Done { action, key, id },
                    }
                }
                None => {
                    let id = new_id();
                    self.insert(ConnectorRecord {
                        key: key.clone(),
                        id: id.clone(),
                        fields: asked.fields.clone(),
                    });
                    Done { action: Action::Created, key, id }
                }
            },
            Effect::Remove | Effect::Archive => match self.live.remove(&key) {
                Some(record) => {
                    self.keys_by_id.remove(&record.id);
                    let id = record.id.clone();
                    if effect == Effect::Archive {
                        self.archived.push(record);
                    }
                    Done { action: Action::Deleted, key, id }
                }
                None => Done { action: Action::Unchanged, key, id: String::new() },
            },
            Effect::Append => {
                let id = new_id();
                let key = asked.key.clone().unwrap_or_else(|| id.clone());
                let record =
                    ConnectorRecord { key: key.clone(), id: id.clone(), fields: asked.fields.clone() };
                self.appended.push(record);
                Done { action: Action::Appended, key, id }
            }
            Effect::Nothing => {
                Done { action: Action::Unchanged, key, id: asked.id.clone().unwrap_or_default() }
            }
        }
    }

    pub(super) fn insert(&mut self, record: ConnectorRecord) {
        self.keys_by_id.insert(record.id.clone(), record.key.clone());
        self.live.insert(record.key.clone(), record);
    }
}
