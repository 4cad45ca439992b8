//! What a job does to the records of its object.

use std::collections::{BTreeMap, HashMap};

use super::job::{Done, Job, Verb};
use crate::{journal::Action, row_error::RowError};

/// What empties a field; an empty cell leaves it alone.
pub(crate) const CLEARS: &str = "#N/A";
const ID: &str = "Id";

/// A record of a [`JobTwin`](super::JobTwin): its fields by name.
pub type JobRecord = BTreeMap<String, String>;

/// The records of an object, by id.
#[derive(Default)]
pub(crate) struct Object {
    pub(crate) records: BTreeMap<String, JobRecord>,
    pub(crate) external_ids: Vec<String>,
    pub(crate) required: Vec<String>,
}

/// What was written of a row, for the journal.
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) action: Action,
}

impl Object {
    /// The id of the record with this value in this field.
    pub(crate) fn find(&self, field: &str, value: &str) -> Option<&str> {
        if field == ID {
            return self.records.get_key_value(value).map(|(id, _)| id.as_str());
        }
        let has = |record: &JobRecord| record.get(field).is_some_and(|own| own == value);
        self.records.iter().find(|(_, record)| has(record)).map(|(id, _)| id.as_str())
    }

    /// The ids of the records by a field's value.
    pub(crate) fn by(&self, field: &str) -> HashMap<String, String> {
        let records = self.records.iter();
        records.filter_map(|(id, record)| Some((record.get(field)?.clone(), id.clone()))).collect()
    }

    /// Works on the rows of a job up to the row `until`. A row may be refused before it is looked at.
    pub(super) fn process(
        &mut self,
        job: &mut Job,
        rows: Vec<Result<JobRecord, RowError>>,
        until: usize,
        refuse: impl Fn(&JobRecord) -> Option<RowError>,
        mut new_id: impl FnMut() -> String,
    ) -> Vec<Written> {
        let verb = job.wanted.operation;
        let key = match verb {
            Verb::Upsert => job.wanted.external_id_field_name.clone().unwrap_or_default(),
            Verb::Insert | Verb::Update | Verb::Delete => ID.to_owned(),
        };
        let mut times: HashMap<&str, usize> = HashMap::new();
        for value in rows.iter().flatten().filter_map(|row| row.get(&key)) {
            *times.entry(value).or_default() += 1;
        }
        // External ids are searched for by value: a job may have as many rows as the object has records.
        let mut by_key = self.by(&key);
        let mut written = Vec::new();
        for (n, row) in rows.iter().enumerate().take(until) {
            let scripted = job.scripted.get(n).cloned().flatten();
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    let result = Err(scripted.unwrap_or_else(|| error.clone()));
                    job.done.push(Done { row: n, id: String::new(), result });
                    continue;
                }
            };
            let value = row.get(&key).map_or("", String::as_str);
            let refused = scripted.or_else(|| refuse(row));
            let twice =
                verb != Verb::Insert && !value.is_empty() && times.get(value).is_some_and(|times| *times > 1);
            let result = match refused {
                Some(error) => Err(error),
                None if twice => {
                    let message = format!("Duplicate external id specified: {value}");
                    Err(RowError::of_field("DUPLICATE_VALUE", &message, &key))
                }
                None => self.write(verb, &key, value, row, &mut by_key, &mut new_id),
            };
            let (id, result) = match result {
                Ok((id, action)) => {
                    let key = if value.is_empty() { id.clone() } else { value.to_owned() };
                    written.push(Written { key, id: id.clone(), action });
                    (id, Ok(action == Action::Created))
                }
                Err(error) => (String::new(), Err(error)),
            };
            job.done.push(Done { row: n, id, result });
        }
        written
    }

    pub(crate) fn write(
        &mut self,
        verb: Verb,
        key: &str,
        value: &str,
        row: &JobRecord,
        by_key: &mut HashMap<String, String>,
        new_id: &mut impl FnMut() -> String,
    ) -> Result<(String, Action), RowError> {
        let missing = || RowError::of_field("MISSING_ARGUMENT", &format!("{key} not specified"), key);
        let existing = match verb {
            Verb::Insert => {
                let taken = |field: &&String| {
                    row.get(*field).is_some_and(|own| !own.is_empty() && self.find(field, own).is_some())
                };
                if let Some(field) = self.external_ids.iter().find(taken) {
                    let message =
                        format!("duplicate value found: {field} duplicates value on another record");
                    return Err(RowError::of_field("DUPLICATE_VALUE", &message, field));
                }
                None
            }
            Verb::Upsert if value.is_empty() => return Err(missing()),
            Verb::Upsert => by_key.get(value).cloned(),
            Verb::Update | Verb::Delete if value.is_empty() => return Err(missing()),
            Verb::Update | Verb::Delete if self.records.contains_key(value) => Some(value.to_owned()),
            Verb::Update | Verb::Delete => {
                return Err(RowError::new("ENTITY_IS_DELETED", "entity is deleted"));
            }
        };
        if verb == Verb::Delete {
            self.records.remove(value);
            return Ok((value.to_owned(), Action::Deleted));
        }
        let before = existing.as_ref().and_then(|id| self.records.get(id));
        let mut record = before.cloned().unwrap_or_default();
        for (field, cell) in row.iter().filter(|(field, cell)| *field != ID && !cell.is_empty()) {
            if cell == CLEARS {
                record.remove(field);
            } else {
                record.insert(field.clone(), cell.clone());
            }
        }
        let lacking: Vec<&str> =
            self.required.iter().filter(|field| !record.contains_key(*field)).map(String::as_str).collect();
        if !lacking.is_empty() {
            let message = format!("Required fields are missing: [{}]", lacking.join(", "));
            return Err(RowError::of_field("REQUIRED_FIELD_MISSING", &message, &lacking.join(",")));
        }
        let action = match before {
            None => Action::Created,
            Some(before) if *before == record => Action::Unchanged,
            Some(_) => Action::Updated,
        };
        let id = existing.unwrap_or_else(new_id);
        self.records.insert(id.clone(), record);
        if verb == Verb::Upsert {
            by_key.insert(value.to_owned(), id.clone());
        }
        Ok((id, action))
    }
}
