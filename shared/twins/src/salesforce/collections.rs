//! sObject Collections: up to 200 records a request, one result for each in their order.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Salesforce;
use super::schema::Unreadable;
use crate::desk::{Request, claims_json, json_response};
use crate::jobs::api::{Answer, Refused, bad, not_supported, nothing_here, record_id};
use crate::jobs::job::Verb;
use crate::jobs::process::JobRecord;
use crate::journal::{Action, Applied, Journal};
use crate::row_error::RowError;

/// Records of a request at most.
const MOST: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    #[serde(default)]
    all_or_none: bool,
    records: Vec<Map<String, Value>>,
}

/// What a collection is about.
struct Wanted<'a> {
    verb: Verb,
    /// The object of an upsert; other requests name it in each record.
    object: Option<&'a str>,
    /// The external id of an upsert.
    by: Option<&'a str>,
}

type RowResult = Result<(String, bool), RowError>;

impl Salesforce {
    /// A create, update or upsert.
    pub(super) fn write_collection(
        &mut self,
        path: &[&str],
        request: &Request<'_>,
        journal: &mut Journal,
    ) -> Answer {
        let wanted = match (request.method.as_str(), path) {
            ("PATCH", [object, by]) => Wanted { verb: Verb::Upsert, object: Some(object), by: Some(by) },
            ("PATCH", []) => Wanted { verb: Verb::Update, object: None, by: None },
            ("POST", []) => Wanted { verb: Verb::Insert, object: None, by: None },
            (_, _) => return Err(nothing_here()),
        };
        if !claims_json(request.headers) {
            return Err(not_supported("application/json"));
        }
        let body: Body = serde_json::from_slice(request.body).map_err(|error| {
            bad("JSON_PARSER_ERROR", format!("the body can't be read: line {}", error.line()))
        })?;
        if body.records.len() > MOST {
            let message =
                format!("record limit reached. cannot submit more than {MOST} records into this call");
            return Err(bad("EXCEEDED_ID_LIMIT", message));
        }
        if body.all_or_none {
            return Err(bad("NOT_SUPPORTED", "the twin does not roll back: allOrNone must be false"));
        }
        let objects =
            body.records.iter().map(|record| object_of(record, &wanted)).collect::<Result<Vec<_>, _>>()?;
        if let (Some(object), Some(by)) = (wanted.object, wanted.by) {
            let schema = self.api.schemas.get(object).ok_or_else(nothing_here)?;
            if !schema.is_external_id(by) {
                let message = format!("Provided external ID field does not exist or is not accessible: {by}");
                return Err(Refused(StatusCode::NOT_FOUND, "NOT_FOUND", message));
            }
        }
        let mut rows = Vec::with_capacity(body.records.len());
        for (record, object) in body.records.iter().zip(&objects) {
            let schema =
                self.api.schemas.get(object).ok_or_else(|| {
                    bad("INVALID_TYPE", format!("sObject type '{object}' is not supported."))
                })?;
            let row =
                schema.read_json(object, record, &self.api.objects).map_err(|Unreadable(message)| {
                    let code = if message.starts_with("No such column") {
                        "INVALID_FIELD"
                    } else {
                        "JSON_PARSER_ERROR"
                    };
                    bad(code, message)
                })?;
            rows.push(row);
        }
        let locked = self.lock(&rows, request);
        let results = self.apply(&wanted, &objects, rows, &locked, request, journal);
        let with_created = wanted.verb == Verb::Upsert;
        let shown: Vec<Value> = results.iter().map(|result| show(result, with_created)).collect();
        Ok(json_response(StatusCode::OK, &Value::from(shown)))
    }

    /// `DELETE …/composite/sobjects?ids=a,b&allOrNone=false`.
    pub(super) fn delete_collection(&mut self, request: &Request<'_>, journal: &mut Journal) -> Answer {
        let mut ids: Vec<&str> = Vec::new();
        for pair in request.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("ids", list)) => ids = list.split(',').filter(|id| !id.is_empty()).collect(),
                Some(("allOrNone", "false")) => {}
                Some(_) | None => return Err(bad("INVALID_FIELD", "there is no such parameter")),
            }
        }
        if ids.is_empty() {
            return Err(bad("MALFORMED_ID", "ids is missing"));
        }
        if ids.len() > MOST {
            let message =
                format!("record limit reached. cannot submit more than {MOST} records into this call");
            return Err(bad("EXCEEDED_ID_LIMIT", message));
        }
        let mut results = Vec::with_capacity(ids.len());
        for (n, id) in ids.iter().enumerate() {
            if let Some(error) = request.refused_row(n) {
                results.push(Err(error));
                continue;
            }
            let object = self.api.objects.iter().find(|(_, all)| all.records.contains_key(*id));
            let Some(object) = object.map(|(name, _)| name.clone()) else {
                results.push(Err(RowError::new("ENTITY_IS_DELETED", "entity is deleted")));
                continue;
            };
            if let Some(all) = self.api.objects.get_mut(&object) {
                all.records.remove(*id);
            }
            self.note(journal, request, &object, Action::Deleted, id, id);
            results.push(Ok(((*id).to_owned(), false)));
        }
        let shown: Vec<Value> = results.iter().map(|result| show(result, false)).collect();
        Ok(json_response(StatusCode::OK, &Value::from(shown)))
    }

    /// Takes the locks of the records that rows refer to; gives those that another request under way holds.
    fn lock(&mut self, rows: &[Result<JobRecord, RowError>], request: &Request<'_>) -> HashSet<String> {
        let now = request.now.since_start;
        self.locks.retain(|_, until| *until > now);
        let refers = |row: &JobRecord| -> Vec<String> {
            row.iter()
                .filter(|(name, _)| name.ends_with("Id") && *name != "Id" && *name != "OwnerId")
                .map(|(_, id)| id.clone())
                .collect()
        };
        let wanted: HashSet<String> = rows.iter().flatten().flat_map(refers).collect();
        let held = wanted.iter().filter(|id| self.locks.contains_key(*id)).cloned().collect();
        let until = now.saturating_add(self.takes);
        self.locks.extend(wanted.into_iter().map(|id| (id, until)));
        held
    }

    fn apply(
        &mut self,
        wanted: &Wanted<'_>,
        objects: &[String],
        rows: Vec<Result<JobRecord, RowError>>,
        locked: &HashSet<String>,
        request: &Request<'_>,
        journal: &mut Journal,
    ) -> Vec<RowResult> {
        let key = wanted.by.unwrap_or("Id");
        let mut times: HashMap<String, usize> = HashMap::new();
        for value in rows.iter().flatten().filter_map(|row| row.get(key)) {
            *times.entry(value.clone()).or_default() += 1;
        }
        let mut by_key: HashMap<String, HashMap<String, String>> = HashMap::new();
        let mut results = Vec::with_capacity(rows.len());
        for (n, (row, object)) in rows.into_iter().zip(objects).enumerate() {
            let result = match row {
                Err(error) => Err(error),
                Ok(row) => {
                    let twice = wanted.verb != Verb::Insert
                        && row.get(key).is_some_and(|value| times.get(value).is_some_and(|times| *times > 1));
                    let refused = request.refused_row(n).or_else(|| self.refused(object, &row, locked));
                    match refused {
                        Some(error) => Err(error),
                        None if twice => {
                            Err(RowError::of_field("DUPLICATE_VALUE", "Duplicate external id specified", key))
                        }
                        None => self.write_row(wanted, object, key, &row, &mut by_key, request, journal),
                    }
                }
            };
            results.push(result);
        }
        results
    }

    fn refused(&self, object: &str, row: &JobRecord, locked: &HashSet<String>) -> Option<RowError> {
        if row.values().any(|value| locked.contains(value)) {
            let message = "unable to obtain exclusive access to this record or 1 records";
            return Some(RowError::new("UNABLE_TO_LOCK_ROW", message));
        }
        self.api.refuse_row.as_ref()?(object, row)
    }

    #[expect(clippy::too_many_arguments, reason = "all that a row's write touches; used once")]
    fn write_row(
        &mut self,
        wanted: &Wanted<'_>,
        object: &str,
        key: &str,
        row: &JobRecord,
        by_key: &mut HashMap<String, HashMap<String, String>>,
        request: &Request<'_>,
        journal: &mut Journal,
    ) -> RowResult {
        if wanted.verb != Verb::Update && row.contains_key("Id") {
            let message = "The Id field should not be specified in the sobject data.";
            return Err(RowError::of_field("INVALID_FIELD", message, "Id"));
        }
        let value = row.get(key).cloned().unwrap_or_default();
        let records = self.api.objects.entry(object.to_owned()).or_default();
        let known = by_key.entry(object.to_owned()).or_insert_with(|| records.by(key));
        let next = &mut self.api.next_record;
        let (id, action) = records.write(wanted.verb, key, &value, row, known, &mut || record_id(next))?;
        let shown = if value.is_empty() { id.clone() } else { value };
        self.note(journal, request, object, action, &shown, &id);
        Ok((id, action == Action::Created))
    }

    fn note(
        &self,
        journal: &mut Journal,
        request: &Request<'_>,
        object: &str,
        action: Action,
        key: &str,
        id: &str,
    ) {
        journal.apply(Applied {
            sequence: 0,
            request: request.number,
            object: object.to_owned(),
            action,
            key: key.to_owned(),
            id: id.to_owned(),
            at: request.now.since_start,
        });
    }
}

/// The object of a record.
fn object_of(record: &Map<String, Value>, wanted: &Wanted<'_>) -> Result<String, Refused> {
    let attributes = record.get("attributes").and_then(Value::as_object);
    let kind = attributes.and_then(|attributes| attributes.get("type")).and_then(Value::as_str);
    match (kind, wanted.object) {
        (None, _) => Err(bad("INVALID_INPUT", "Include the sObject type in attributes of the record")),
        (Some(kind), Some(object)) if kind != object => {
            Err(bad("INVALID_INPUT", format!("the record is of type {kind}, the URL of {object}")))
        }
        (Some(kind), _) => Ok(kind.to_owned()),
    }
}

fn show(result: &RowResult, with_created: bool) -> Value {
    let mut shown = match result {
        Ok((id, created)) => json!({"id": id, "success": true, "errors": [], "created": created}),
        Err(RowError { code, message, field }) => {
            let fields: Vec<&String> = field.iter().collect();
            let error = json!({"statusCode": code, "message": message, "fields": fields});
            json!({"success": false, "created": false, "errors": [error]})
        }
    };
    if !with_created && let Some(members) = shown.as_object_mut() {
        members.remove("created");
    }
    shown
}
