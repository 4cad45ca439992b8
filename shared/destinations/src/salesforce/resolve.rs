//! What depends on the records that are there, asked for before anything is written: ids of records that are updated or deleted, and whether
//! a record that is only to be created is there already.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use penstock_model::operation::OperationKind;
use penstock_model::outcome::{Outcome, ReceiptLine, SkipReason};
use penstock_model::{Failure, FailureName};
use serde::Deserialize;
use serde_json::Value;

use super::ID;
use super::connect::{Call, Course, Halt};
use super::statement::questions;
use super::table::Table;
use super::values::{Cell, Row, parents};
use crate::http::encode::percent_encode;

/// A page of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    done: bool,
    #[serde(default)]
    next_records_url: Option<String>,
    records: Vec<BTreeMap<String, Value>>,
}

/// What is found of a record.
struct Found {
    id: String,
    /// The names, in lower case, of those fields asked for that hold something.
    filled: HashSet<String>,
}

/// Gives every row that names its record the record's id, and leaves of what depends on records only what is to be written. Rows that
/// have nothing to do get their outcome.
///
/// # Errors
/// What a call fails with; what the witness answers.
pub(super) async fn resolve(
    course: &Course<'_>,
    object: &str,
    table: &Table,
    mut rows: Vec<Row>,
) -> Result<Vec<Row>, Halt> {
    refer(course, table, &mut rows).await?;
    let wants_id = |row: &Row| match row.kind {
        OperationKind::Create => true,
        OperationKind::Update | OperationKind::Clear | OperationKind::Delete | OperationKind::Archive => {
            row.id.is_none()
        }
        OperationKind::Upsert | OperationKind::Append => false,
    };
    let wants = |row: &Row| wants_id(row) || !row.if_empty.is_empty();
    // A record that is known by its id is found by that.
    let by_id: Vec<Cell> =
        rows.iter().filter(|row| wants(row)).filter_map(|row| row.id.clone().map(Cell::Text)).collect();
    let by_match: Vec<Cell> = rows
        .iter()
        .filter(|row| wants(row) && row.id.is_none())
        .filter_map(|row| Some(row.matched.as_ref()?.1.clone()))
        .collect();
    let asked: BTreeSet<&str> =
        rows.iter().flat_map(|row| &row.if_empty).map(|(name, _)| name_of(table, name)).collect();
    let mut found = records(course, object, ID, &by_id, &asked).await?;
    if let Some(field) = rows.iter().find_map(|row| Some(row.matched.as_ref()?.0.as_str())) {
        found.extend(records(course, object, name_of(table, field), &by_match, &asked).await?);
    }
    let mut lines = Vec::new();
    let mut left = Vec::with_capacity(rows.len());
    for mut row in rows {
        if !wants(&row) {
            left.push(row);
            continue;
        }
        let key = row.id.as_ref().map(|id| id.to_lowercase()).or_else(|| row.match_key());
        let there = key.and_then(|key| found.get(&key)).map(Vec::as_slice).unwrap_or_default();
        let if_empty = std::mem::take(&mut row.if_empty);
        let known = row.id.is_some();
        let outcome = match (row.kind, there) {
            (OperationKind::Create, []) => None,
            (OperationKind::Create, _) => Some(Outcome::Skipped { why: SkipReason::Exists }),
            // What is new is empty; what is gone is told when it is written.
            (OperationKind::Upsert, []) => {
                row.fields.extend(if_empty);
                None
            }
            (_, []) if known => None,
            (_, []) => Some(Outcome::Skipped { why: SkipReason::Missing }),
            (OperationKind::Upsert, [only, ..]) => {
                row.fields.extend(empty(if_empty, only));
                None
            }
            (_, [only]) => {
                row.id = Some(only.id.clone());
                row.fields.extend(empty(if_empty, only));
                None
            }
            (_, _) => {
                Some(Outcome::rejected("DUPLICATE_EXTERNAL_ID", "several records have this match value"))
            }
        };
        let says_nothing = row.fields.is_empty() && row.kind == OperationKind::Update;
        match outcome {
            None if says_nothing => {
                lines.push(ReceiptLine {
                    n: row.n,
                    outcome: Outcome::Skipped { why: SkipReason::NothingToSay },
                });
            }
            None => left.push(row),
            Some(outcome) => lines.push(ReceiptLine { n: row.n, outcome }),
        }
    }
    if !lines.is_empty() {
        course.witness.record(lines).await?;
    }
    Ok(left)
}

/// Those of the fields that hold nothing.
fn empty(fields: Vec<(String, Cell)>, found: &Found) -> impl Iterator<Item = (String, Cell)> {
    fields.into_iter().filter(|(name, _)| !found.filled.contains(&name.to_lowercase()))
}

/// Looks up the records that rows refer to, where a row is not refused for one that is missing.
async fn refer(course: &Course<'_>, table: &Table, rows: &mut [Row]) -> Result<(), Halt> {
    let mut wanted: BTreeMap<(String, String), Vec<Cell>> = BTreeMap::new();
    for lookup in rows.iter().flat_map(|row| &row.lookups) {
        let keys = wanted.entry((lookup.object.clone(), lookup.by.clone())).or_default();
        if !keys.contains(&lookup.key) {
            keys.push(lookup.key.clone());
        }
    }
    let mut there: HashMap<(String, String), HashSet<String>> = HashMap::new();
    for ((object, by), keys) in wanted {
        let found = records(course, &object, &by, &keys, &BTreeSet::new()).await?;
        there.insert((object, by), found.into_keys().collect());
    }
    for row in rows {
        for lookup in std::mem::take(&mut row.lookups) {
            let is_there = there
                .get(&(lookup.object.clone(), lookup.by.clone()))
                .is_some_and(|keys| keys.contains(&lookup.key.plain().to_lowercase()));
            if is_there {
                row.fields.push((lookup.name, Cell::Record(vec![(lookup.by, lookup.key)])));
            } else if lookup.empties {
                row.fields.push((lookup.field, Cell::Null));
            }
        }
        row.parents = parents(&row.fields, table);
    }
    Ok(())
}

fn name_of<'a>(table: &'a Table, field: &'a str) -> &'a str {
    table.column(field).map_or(field, |column| column.name.as_str())
}

/// The records whose field has one of these values, by the value in lower case.
async fn records(
    course: &Course<'_>,
    object: &str,
    field: &str,
    values: &[Cell],
    asked: &BTreeSet<&str>,
) -> Result<HashMap<String, Vec<Found>>, Halt> {
    let mut found: HashMap<String, Vec<Found>> = HashMap::new();
    let mut fields: BTreeSet<&str> = asked.clone();
    fields.extend([ID, field]);
    let fields: Vec<&str> = fields.into_iter().collect();
    let head = format!("SELECT {} FROM {object} WHERE {field}", fields.join(","));
    for question in questions(&head, values) {
        for record in ask(course, &question).await? {
            let (Some(Value::String(id)), Some(value)) = (record.get(ID), record.get(field)) else {
                continue;
            };
            let is_filled = |value: &Value| !value.is_null() && value.as_str() != Some("");
            let filled =
                record.iter().filter(|(_, value)| is_filled(value)).map(|(name, _)| name.to_lowercase());
            found.entry(key(value)).or_default().push(Found { id: id.clone(), filled: filled.collect() });
        }
    }
    Ok(found)
}

/// A value as a row's match key is spelt.
fn key(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_lowercase(),
        // Salesforce's numbers are floating: 7 comes back as 7.0.
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The records that a question is answered with, over all pages.
pub(super) async fn ask(course: &Course<'_>, question: &str) -> Result<Vec<BTreeMap<String, Value>>, Halt> {
    let mut path = format!("{}/query?q=", course.door.base);
    percent_encode(&mut path, question);
    let mut records = Vec::new();
    loop {
        let answer = course.call(&Call::get(path)).await?;
        if !(200..300).contains(&answer.status) {
            return Err(course.refused("a question for records", &answer).into());
        }
        let page: Page = serde_json::from_slice(&answer.body).map_err(|_| {
            let message = "Salesforce answers a question for records in a form that can't be read";
            Failure::new(FailureName::DestinationUnavailable, message)
        })?;
        records.extend(page.records);
        match page.next_records_url {
            Some(next) if !page.done => path = next,
            Some(_) | None => return Ok(records),
        }
    }
}
