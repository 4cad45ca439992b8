//! Requests that write no record: reads, and links between records.

use axum::http::Response;
use bytes::Bytes;
use penstock_model::connector::{By, Meaning};
use serde_json::{Value, json};

use super::{
    answer::{Fate, Teller, Told},
    api::{Api, Fitting},
    body::Row,
    meaning::code_for,
    members::plain,
    records::{ConnectorRecord, Object},
};
use crate::{desk::Request, row_error::RowError};

/// A link: object and id of a record, object and id of the other. The other object is empty where requests don't tell it.
pub(super) type Link = (String, String, String, String);

/// What a request says of a row of which nothing is written.
pub(super) struct AskedRow {
    match_field: Option<String>,
    match_value: Option<String>,
    id: Option<String>,
    ordinal: Option<String>,
    names: Option<Vec<String>>,
    other: Option<String>,
    other_id: Option<String>,
}

impl From<Row<'_>> for AskedRow {
    fn from(row: Row<'_>) -> Self {
        let matched = row.matched.as_ref().and_then(|members| {
            let (field, value) = members.0.first_key_value()?;
            Some((field.clone(), plain(value.get())?))
        });
        let (field, value) = matched.unzip();
        Self {
            match_field: row.match_field.or(field),
            match_value: row.match_value.map(|(text, _)| text).or(value),
            id: row.id,
            ordinal: row.ordinal,
            names: row.names,
            other: row.other,
            other_id: row.other_id,
        }
    }
}

impl Object {
    /// The record whose field has this value; `is_key` says that the field is the one that identifies it.
    fn by_field(&self, field: Option<&str>, is_key: bool, value: &str) -> Option<&ConnectorRecord> {
        let has = |record: &&ConnectorRecord| {
            let held = field.and_then(|field| record.fields.get(field));
            held.and_then(|json| plain(json)).as_deref() == Some(value)
        };
        let by_key = || self.live.get(value).filter(|_| is_key || field.is_none());
        by_key().or_else(|| self.live.values().find(has))
    }

    fn has_id(&self, id: &str) -> bool {
        self.live.values().any(|record| record.id == id)
    }
}

impl Api {
    /// Where links of a record lead.
    pub(super) fn links_of(&self, object: &str, id: &str) -> Vec<(String, String)> {
        let own = self.links.iter().filter(|(from, own, ..)| from == object && own == id);
        own.map(|(_, _, other, other_id)| (other.clone(), other_id.clone())).collect()
    }

    fn teller<'a>(&'a self, fitting: &'a Fitting) -> Teller<'a> {
        Teller {
            connector: &self.connector,
            settings: &self.settings,
            compiled: &fitting.compiled,
            object: &fitting.object,
            match_field: fitting.asked.first().and_then(|row| row.match_field.as_deref()),
        }
    }

    /// Tells of the records that there are.
    pub(super) fn read_records(&self, fitting: &Fitting, request: &Request<'_>) -> Response<Bytes> {
        let teller = self.teller(fitting);
        let empty = Object::default();
        let object = self.objects.get(&fitting.object).unwrap_or(&empty);
        let keys = self.keys(&fitting.object);
        let rows: Vec<(Told, Value)> = (fitting.asked.iter().enumerate())
            .map(|(n, row)| {
                let field = row.match_field.as_deref();
                let is_key = keys.is_some_and(|keys| keys.first().map(String::as_str) == field);
                let value = row.match_value.as_deref().unwrap_or_default();
                let found = object.by_field(field, is_key, value);
                let told = |fate| Told {
                    ordinal: row.ordinal.clone(),
                    matched: row.match_value.clone(),
                    id: None,
                    fate,
                };
                match (request.refused_row(n), found) {
                    (Some(error), _) => (told(Fate::Refused(error)), json!({})),
                    (None, Some(record)) => {
                        let mut fields = record.to_value();
                        if let (Some(members), Some(field)) = (fields.as_object_mut(), field) {
                            members.insert(field.to_owned(), json!(value));
                            let asked =
                                |name: &String| row.names.as_ref().is_none_or(|names| names.contains(name));
                            members.retain(|name, _| asked(name));
                        }
                        (told(Fate::Accepted { id: record.id.clone(), created: false }), fields)
                    }
                    (None, None) => {
                        let code = code_for(&self.connector, Meaning::Missing).unwrap_or("missing");
                        (told(Fate::Refused(RowError::new(code, "there is no such record"))), json!({}))
                    }
                }
            })
            .collect();
        if let [(Told { fate: Fate::Refused(error), .. }, _)] = rows.as_slice()
            && fitting.compiled.row_in_path
        {
            return teller.refused(Meaning::Missing, error, 1);
        }
        teller.records(&rows)
    }

    /// Links records, where both are there.
    pub(super) fn link_records(&mut self, fitting: &Fitting, request: &Request<'_>) -> Response<Bytes> {
        let mut links = Vec::new();
        let mut rows = Vec::new();
        for (n, row) in fitting.asked.iter().enumerate() {
            let (id, other_id) =
                (row.id.clone().unwrap_or_default(), row.other_id.clone().unwrap_or_default());
            let own = self.objects.get(&fitting.object).is_some_and(|object| object.has_id(&id));
            let other = match &row.other {
                Some(other) => self.objects.get(other).is_some_and(|object| object.has_id(&other_id)),
                None => self.objects.values().any(|object| object.has_id(&other_id)),
            };
            let fate = match request.refused_row(n) {
                Some(error) => Fate::Refused(error),
                None if own && other => {
                    let other = row.other.clone().unwrap_or_default();
                    links.push((fitting.object.clone(), id.clone(), other, other_id));
                    Fate::Accepted { id, created: false }
                }
                None => {
                    let code = code_for(&self.connector, Meaning::Missing).unwrap_or("missing");
                    Fate::Refused(RowError::new(code, "there is no such record"))
                }
            };
            rows.push(Told {
                ordinal: row.ordinal.clone(),
                matched: row.match_value.clone(),
                id: row.id.clone(),
                fate,
            });
        }
        let teller = self.teller(fitting);
        let refused = rows.iter().find_map(|row| match &row.fate {
            Fate::Refused(error) => Some(error),
            Fate::Accepted { .. } => None,
        });
        let answer = match refused {
            Some(error) if rows.len() == 1 => return teller.refused(Meaning::Missing, error, 1),
            Some(_) if !teller.names_rows() => return teller.refused_for_rows(&rows, false),
            Some(_) | None => teller.carried_out(&rows, false),
        };
        self.links.extend(links);
        answer
    }
}

impl Teller<'_> {
    /// The answer to a read.
    fn records(&self, rows: &[(Told, Value)]) -> Response<Bytes> {
        let Some(results) = &self.compiled.operation.answer.results else {
            return self.carried_out(&[], false);
        };
        let mut elements = Vec::new();
        for (n, (told, fields)) in rows.iter().enumerate() {
            let Fate::Accepted { id, .. } = &told.fate else { continue };
            let mut element = json!({});
            if let Some(place) = &results.fields {
                self.merge(&mut element, place, fields.clone());
            }
            // A list that is read by position has one element for each row that is found.
            if !results.by.contains(&By::Position) {
                self.name(&mut element, &results.by, n, told);
            }
            if let Some(place) = &results.id {
                self.put(&mut element, place, json!(id));
            }
            if let Some(test) = &results.accepted {
                self.put(&mut element, &test.at, super::answer::holding(test));
            }
            elements.push(element);
        }
        let told: Vec<Told> = rows.iter().map(|(told, _)| told.clone()).collect();
        self.listed(elements, &results.at, &told)
    }
}
