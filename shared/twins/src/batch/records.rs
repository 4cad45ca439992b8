//! The records of the batch twin, and what each action does to them.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, value::RawValue};

use crate::{journal::Action, row_error::RowError};

/// What is to be done with the records of a request: the last part of its path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Upsert,
    Create,
    Update,
    Delete,
    Append,
}

impl Verb {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "upsert" => Some(Self::Upsert),
            "create" => Some(Self::Create),
            "update" => Some(Self::Update),
            "delete" => Some(Self::Delete),
            "append" => Some(Self::Append),
            _ => None,
        }
    }
}

/// A record with the text by which it was last sent, which still has every digit of its numbers.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) value: Value,
    pub(super) sent: String,
}

#[derive(Default)]
pub(super) struct Records {
    pub(super) keyed: BTreeMap<String, Stored>,
    pub(super) appended: Vec<Stored>,
}

/// A record of a request that can be applied.
pub(super) struct Accepted {
    key: Option<String>,
    stored: Stored,
}

/// What became of an accepted record.
pub(super) struct Done {
    pub(super) action: Action,
    pub(super) id: String,
}

impl Records {
    /// Looks at each record without applying any. `refuse` gives the twin's own reasons against a record.
    pub(super) fn plan(
        &self,
        verb: Verb,
        key_field: &str,
        rows: &[&RawValue],
        refuse: impl Fn(&Value) -> Option<RowError>,
    ) -> Vec<Result<Accepted, RowError>> {
        let mut created = HashSet::new();
        rows.iter()
            .map(|row| {
                let value: Value = serde_json::from_str(row.get())
                    .map_err(|_| RowError::new("invalid_json", "the record can't be read"))?;
                if !value.is_object() {
                    return Err(RowError::new("not_an_object", "a record must be a JSON object"));
                }
                if let Some(error) = refuse(&value) {
                    return Err(error);
                }
                let key = key_of(&value, key_field);
                let stored = Stored { value, sent: row.get().to_owned() };
                if verb == Verb::Append {
                    return Ok(Accepted { key, stored });
                }
                let Some(key) = key else {
                    let message = "the key must be a string that is not empty, or an integer";
                    return Err(RowError::of_field("missing_key", message, key_field));
                };
                let there = self.keyed.contains_key(&key);
                match verb {
                    Verb::Create if there || !created.insert(key.clone()) => {
                        Err(RowError::of_field("exists", "there is a record with this key", key_field))
                    }
                    Verb::Update if !there => {
                        Err(RowError::of_field("not_found", "there is no record with this key", key_field))
                    }
                    Verb::Create | Verb::Update | Verb::Upsert | Verb::Delete | Verb::Append => {
                        Ok(Accepted { key: Some(key), stored })
                    }
                }
            })
            .collect()
    }

    pub(super) fn apply(&mut self, verb: Verb, Accepted { key, stored }: Accepted) -> Done {
        // Not a bare number, so that it is not taken for another record's key.
        let position = format!("appended-{}", self.appended.len() + 1);
        match (verb, key) {
            (Verb::Append, key) => {
                self.appended.push(stored);
                Done { action: Action::Appended, id: key.unwrap_or(position) }
            }
            (Verb::Delete, key) => {
                let id = key.unwrap_or_default();
                let action =
                    if self.keyed.remove(&id).is_some() { Action::Deleted } else { Action::Unchanged };
                Done { action, id }
            }
            (Verb::Upsert | Verb::Create | Verb::Update, key) => {
                let id = key.unwrap_or_default();
                Done { action: self.merge(&id, stored), id }
            }
        }
    }

    /// Sets the fields that were sent and leaves the others.
    fn merge(&mut self, key: &str, sent: Stored) -> Action {
        let Some(stored) = self.keyed.get_mut(key) else {
            self.keyed.insert(key.to_owned(), sent);
            return Action::Created;
        };
        let before = stored.value.clone();
        if let (Some(fields), Value::Object(new)) = (stored.value.as_object_mut(), sent.value) {
            fields.extend(new);
        }
        stored.sent = sent.sent;
        if stored.value == before { Action::Unchanged } else { Action::Updated }
    }
}

/// A record's key as text: an integer counts as its digits.
pub(super) fn key_of(record: &Value, field: &str) -> Option<String> {
    let value = record.get(field)?;
    match value.as_str() {
        Some(text) => (!text.is_empty()).then(|| text.to_owned()),
        None => (value.is_i64() || value.is_u64()).then(|| value.to_string()),
    }
}
