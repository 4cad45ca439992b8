//! The records of one object type, and who owns which unique value.

use std::collections::{BTreeMap, HashMap};

use super::properties::{OBJECT_ID, Schema};
use crate::journal::Action;

/// A record as HubSpot keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpotRecord {
    /// HubSpot's id.
    pub id: String,
    /// The properties that have a value, without those that HubSpot sets itself.
    pub properties: BTreeMap<String, String>,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// When it was last written, RFC 3339.
    pub updated_at: String,
}

pub(super) struct Object {
    pub(super) schema: Schema,
    records: BTreeMap<u64, HubSpotRecord>,
    owners: HashMap<(String, String), u64>,
    archived: Vec<HubSpotRecord>,
}

impl Object {
    pub(super) fn new(schema: Schema) -> Self {
        Self { schema, records: BTreeMap::new(), owners: HashMap::new(), archived: Vec::new() }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &HubSpotRecord> {
        self.records.values()
    }

    pub(super) fn archived(&self) -> &[HubSpotRecord] {
        &self.archived
    }

    pub(super) fn get(&self, id: u64) -> Option<&HubSpotRecord> {
        self.records.get(&id)
    }

    /// The record whose unique property has this value.
    pub(super) fn find(&self, property: &str, value: &str) -> Option<u64> {
        if property == OBJECT_ID {
            return value.parse().ok().filter(|id| self.records.contains_key(id));
        }
        self.owners.get(&(property.to_owned(), self.schema.normal(property, value))).copied()
    }

    /// Makes a record without properties; `write` fills it.
    pub(super) fn create(&mut self, id: u64, now: &str) {
        let record = HubSpotRecord {
            id: id.to_string(),
            properties: BTreeMap::new(),
            created_at: now.to_owned(),
            updated_at: now.to_owned(),
        };
        self.records.insert(id, record);
    }

    /// Sets properties; the empty string clears one. Says whether anything differs from before, or nothing if there
    /// is no such record.
    pub(super) fn write(
        &mut self,
        id: u64,
        properties: &BTreeMap<String, String>,
        now: &str,
    ) -> Option<Action> {
        let record = self.records.get_mut(&id)?;
        let mut action = Action::Unchanged;
        for (name, value) in properties {
            let value = self.schema.normal(name, value);
            let before = if value.is_empty() {
                record.properties.remove(name)
            } else {
                record.properties.insert(name.clone(), value.clone())
            };
            if before.as_deref().unwrap_or_default() == value {
                continue;
            }
            action = Action::Updated;
            if self.schema.is_unique(name) {
                if let Some(before) = before {
                    self.owners.remove(&(name.clone(), before));
                }
                if !value.is_empty() {
                    self.owners.insert((name.clone(), value), id);
                }
            }
        }
        now.clone_into(&mut record.updated_at);
        Some(action)
    }

    /// Takes a record away; its unique values are free again. Says whether there was one.
    pub(super) fn archive(&mut self, id: u64) -> bool {
        let Some(record) = self.records.remove(&id) else { return false };
        for (name, value) in self.schema.unique_among(&record.properties) {
            self.owners.remove(&(name.clone(), value.clone()));
        }
        self.archived.push(record);
        true
    }
}
