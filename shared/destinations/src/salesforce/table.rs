//! What an object looks like: its fields, how they want their values, and which of them refer to other records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use penstock_model::definition::{OnRemoved, ResolvedSync};
use penstock_model::{Failure, FailureName, Timestamp};
use serde::Deserialize;

use super::connect::{Call, Course, Halt};

/// A description is asked for again after so long: fields come and go.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);
/// References to these are shared by very many records, and are not locked when one of those is written.
const NEVER_LOCKED: &[&str] =
    &["User", "Group", "RecordType", "Profile", "UserRole", "Organization", "BusinessHours"];

/// What the process knows of objects, by org, version and name.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<HashMap<String, (Timestamp, Arc<Table>)>>);

/// An object's fields.
#[derive(Debug)]
pub(super) struct Table {
    /// By name in lower case: Salesforce's names have no case.
    columns: HashMap<String, Column>,
    /// Names of relationships in lower case, and the field that each stands for: `account`, `AccountId`.
    relationships: HashMap<String, String>,
}

/// A field.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) spelling: Spelling,
    /// Whether records of other objects are referred to that get locked.
    pub(super) locks: bool,
    /// What it refers to.
    pub(super) refers_to: Vec<String>,
    /// Whether its values identify records: only then can records be upserted by it.
    pub(super) is_external: bool,
}

/// How a field wants its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As text.
    Text,
    /// As several choices in one text, with semicolons between.
    Choices,
    /// As a number.
    Number,
    /// As true or false.
    Flag,
    /// As text of a moment, to the millisecond.
    Moment,
}

#[derive(Deserialize)]
struct Described {
    fields: Vec<DescribedField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribedField {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    relationship_name: Option<String>,
    #[serde(default)]
    reference_to: Vec<String>,
    #[serde(default)]
    external_id: bool,
}

impl Column {
    fn of(field: &DescribedField) -> Self {
        let spelling = match field.kind.as_str() {
            "double" | "currency" | "percent" | "int" | "long" => Spelling::Number,
            "boolean" => Spelling::Flag,
            "datetime" => Spelling::Moment,
            "multipicklist" => Spelling::Choices,
            // Text, and all that is written as text: picklists, dates, times, references.
            _ => Spelling::Text,
        };
        let locks = field.reference_to.iter().any(|object| !NEVER_LOCKED.contains(&object.as_str()));
        Self {
            name: field.name.clone(),
            spelling,
            locks,
            refers_to: field.reference_to.clone(),
            is_external: field.external_id,
        }
    }
}

impl Table {
    fn of(described: Described) -> Self {
        let mut table = Self { columns: HashMap::new(), relationships: HashMap::new() };
        for field in described.fields {
            if let Some(relationship) = &field.relationship_name {
                table.relationships.insert(relationship.to_lowercase(), field.name.clone());
            }
            table.columns.insert(field.name.to_lowercase(), Column::of(&field));
        }
        table
    }

    /// A field by its name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(&name.to_lowercase())
    }

    /// The relationship and its field, by the name of either.
    pub(super) fn reference<'t>(&'t self, name: &'t str) -> Option<(&'t str, &'t Column)> {
        if let Some(column) = self.referring(name) {
            return Some((name, column));
        }
        let column = self.column(name)?;
        let relationship = self.relationships.iter().find(|(_, field)| **field == column.name);
        relationship.map(|(relationship, _)| (relationship.as_str(), column))
    }

    /// The field that a relationship stands for.
    pub(super) fn referring(&self, relationship: &str) -> Option<&Column> {
        self.column(self.relationships.get(&relationship.to_lowercase())?)
    }

    /// That the sync's fields are there.
    fn check(&self, definition: &ResolvedSync) -> Result<(), Failure> {
        let sync = &definition.sync;
        let cleared = match &sync.on_removed {
            OnRemoved::Clear { clear } => clear.as_slice(),
            OnRemoved::Word(_) | OnRemoved::Delete { .. } | OnRemoved::Archive { .. } => &[],
        };
        let mut unknown: Vec<String> = Vec::new();
        for name in sync.matched.keys().chain(sync.fields.keys()).chain(cleared) {
            // `Account.Region__c` writes to the record that is referred to by that field.
            let known = match name.split_once('.') {
                Some((relationship, _)) => self.referring(relationship).is_some(),
                None => self.column(name).is_some() || self.referring(name).is_some(),
            };
            if !known && !unknown.contains(name) {
                unknown.push(name.clone());
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let message = format!(
            "sync {}: {} has no field {}, or the connection's user may not see it",
            definition.name,
            sync.object,
            unknown.join(", ")
        );
        Err(Failure::new(FailureName::MappingInvalid, message))
    }
}

/// The description of the sync's object.
///
/// # Errors
/// `MappingInvalid` if it lacks a field of the sync; `DestinationRefused` if there is no such object; what a call fails with.
pub(super) async fn table(course: &Course<'_>, definition: &ResolvedSync) -> Result<Arc<Table>, Halt> {
    let address = course.door.address(course.parts).await?;
    let path = format!("{}/sobjects/{}/describe", course.door.base, definition.sync.object);
    let (key, now) = (format!("{address}{path}"), course.parts.clock.now());
    let kept = &course.parts.known.tables.0;
    let known = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let table = match known.filter(|(at, _)| at.until(now) < KEPT_FOR) {
        Some((_, table)) => table,
        None => {
            let answer = course.call(&Call::get(path)).await?;
            if !(200..300).contains(&answer.status) {
                let what = format!("to describe {}", definition.sync.object);
                return Err(course.refused(&what, &answer).into());
            }
            let described: Described = serde_json::from_slice(&answer.body).map_err(|_| {
                let message = "Salesforce describes the object in a form that can't be read";
                Failure::new(FailureName::DestinationUnavailable, message)
            })?;
            let table = Arc::new(Table::of(described));
            kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (now, Arc::clone(&table)));
            table
        }
    };
    table.check(definition)?;
    Ok(table)
}
