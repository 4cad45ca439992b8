//! Answers in the shape that a connector file declares.

use std::collections::BTreeMap;

use axum::http::{Response, StatusCode};
use bytes::Bytes;
use penstock_model::connector::{By, Errors, HttpConnector, Meaning, Pointer, RefusedRest, Results, Test};
use serde_json::{Map, Value, json};

use super::{
    Compiled,
    meaning::{candidates, code_for, of_status},
};
use crate::{desk::json_response, row_error::RowError};

/// What an answer is to say of one row.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) ordinal: Option<String>,
    /// The match field's value.
    pub(super) matched: Option<String>,
    /// The id that the request named.
    pub(super) id: Option<String>,
    pub(super) fate: Fate,
}

#[derive(Clone)]
pub(super) enum Fate {
    Accepted { id: String, created: bool },
    Refused(RowError),
}

/// Makes the answers of one operation to one request.
pub(super) struct Teller<'a> {
    pub(super) connector: &'a HttpConnector,
    pub(super) settings: &'a BTreeMap<String, String>,
    pub(super) compiled: &'a Compiled,
    pub(super) object: &'a str,
    pub(super) match_field: Option<&'a str>,
}

impl Teller<'_> {
    /// Whether an answer can say of single rows that they were refused.
    pub(super) fn names_rows(&self) -> bool {
        let answer = &self.compiled.operation.answer;
        !answer.errors.is_empty() || answer.results.as_ref().is_some_and(|it| it.accepted.is_some())
    }

    /// The answer to a request that was carried out; rows may have been refused if [`names_rows`](Self::names_rows).
    /// `multi` says so with a 207.
    pub(super) fn carried_out(&self, rows: &[Told], multi: bool) -> Response<Bytes> {
        let answer = &self.compiled.operation.answer;
        let refused = rows.iter().any(|row| matches!(row.fate, Fate::Refused(_)));
        if refused && answer.refused_rest == RefusedRest::Accepted {
            let status = self.status(Meaning::Rejected, rows.len(), |_| true);
            let mut body = self.message("some rows were refused, and the others accepted");
            self.errors(&mut body, rows);
            return json_response(status, &body);
        }
        let all_created = !rows.iter().any(|row| matches!(row.fate, Fate::Accepted { created: false, .. }));
        let says_created = |status: u16| answer.created_statuses.contains(&status);
        let status = if refused && multi && self.means(207, rows.len()) == Meaning::Accepted {
            StatusCode::MULTI_STATUS
        } else if all_created && !answer.created_statuses.is_empty() {
            self.first(&answer.created_statuses)
        } else {
            self.status(Meaning::Accepted, rows.len(), |status| !says_created(status))
        };
        let mut body = json!({});
        if let Some(proof) = &answer.proof {
            self.put(&mut body, &proof.at, holding(proof));
        }
        if let Some(results) = &answer.results {
            self.results(&mut body, results, rows);
        }
        self.errors(&mut body, rows);
        json_response(status, &body)
    }

    /// The answer that refuses a whole request because of rows, which it names if asked to.
    pub(super) fn refused_for_rows(&self, rows: &[Told], named: bool) -> Response<Bytes> {
        let mut body = self.message("at least one row is not acceptable; none was applied");
        if named {
            self.errors(&mut body, rows);
        }
        json_response(self.status(Meaning::Rejected, rows.len(), |_| true), &body)
    }

    /// The answer that refuses a whole request for this reason.
    pub(super) fn refused(&self, meaning: Meaning, error: &RowError, rows: usize) -> Response<Bytes> {
        let place = self.connector.error.code.0.first();
        let says = self.says(meaning, rows);
        let known = code_for(self.connector, meaning);
        let code = match meaning {
            Meaning::Rejected => Some(error.code.as_str()),
            // In its own words, if there are none that mean something to the connector file.
            Meaning::Exists | Meaning::Missing if !says => known.or(Some(error.code.as_str())),
            Meaning::Exists
            | Meaning::Missing
            | Meaning::Accepted
            | Meaning::Retry
            | Meaning::Throttled
            | Meaning::Unauthorized
            | Meaning::Quota
            | Meaning::Refused => known,
        };
        let mut body = self.message(&error.message);
        let mut told = None;
        if let (Some(place), Some(code)) = (place, code) {
            self.put(&mut body, place, json!(code));
            told = self.connector.codes.get(code).copied();
        }
        let told = told == Some(meaning);
        let usual = candidates(self.connector, Some(&self.compiled.operation), meaning);
        // An answer that has to be proven and has a code for this is one of an API that says everything under 200.
        let status = if told && self.compiled.operation.answer.proof.is_some() {
            StatusCode::OK
        } else if says {
            self.status(meaning, rows, |_| true)
        } else if told && usual.first().is_some_and(|status| self.means(*status, rows) != Meaning::Accepted) {
            self.first(&usual)
        } else {
            self.status(Meaning::Rejected, rows, |_| true)
        };
        json_response(status, &body)
    }

    /// Whether status or code can say this of a whole request.
    pub(super) fn can_say(&self, meaning: Meaning, rows: usize) -> bool {
        let has_code = code_for(self.connector, meaning).is_some() && !self.connector.error.code.is_empty();
        has_code || self.says(meaning, rows)
    }

    /// Whether some status says this of a request of so many rows.
    fn says(&self, meaning: Meaning, rows: usize) -> bool {
        let all = candidates(self.connector, Some(&self.compiled.operation), meaning);
        all.into_iter().any(|status| self.means(status, rows) == meaning)
    }

    fn means(&self, status: u16, rows: usize) -> Meaning {
        let operation = Some(&self.compiled.operation);
        of_status(self.connector, operation, self.compiled.row_in_path, rows, status)
    }

    fn status(&self, meaning: Meaning, rows: usize, suits: impl Fn(u16) -> bool) -> StatusCode {
        let all = candidates(self.connector, Some(&self.compiled.operation), meaning);
        let fitting: Vec<u16> =
            all.into_iter().filter(|status| self.means(*status, rows) == meaning && suits(*status)).collect();
        self.first(&fitting)
    }

    fn first(&self, statuses: &[u16]) -> StatusCode {
        let status = statuses.first().and_then(|status| StatusCode::from_u16(*status).ok());
        status.unwrap_or(if statuses.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK })
    }

    fn message(&self, message: &str) -> Value {
        let mut body = json!({});
        match &self.connector.error.message {
            Some(place) => self.put(&mut body, place, json!(message)),
            None => self.put(&mut body, &Pointer("/detail".to_owned()), json!(message)),
        }
        body
    }

    fn results(&self, body: &mut Value, results: &Results, rows: &[Told]) {
        let by_position = results.by.contains(&By::Position);
        let mut elements = Vec::with_capacity(rows.len());
        for (n, row) in rows.iter().enumerate() {
            let accepted = matches!(row.fate, Fate::Accepted { .. });
            // Without a test every row of the list counts as accepted: others stand in the lists of errors.
            if !accepted && results.accepted.is_none() && !by_position {
                continue;
            }
            let mut element = json!({});
            self.name(&mut element, &results.by, n, row);
            match &row.fate {
                Fate::Accepted { id, created } => {
                    if let Some(place) = &results.id {
                        self.put(&mut element, place, json!(id));
                    }
                    self.tests(&mut element, results, *created);
                }
                Fate::Refused(error) => {
                    if let Some(test) = &results.accepted {
                        self.put(&mut element, &test.at, failing(test));
                    }
                    self.words(
                        &mut element,
                        results.code.0.first(),
                        results.message.as_ref(),
                        results.field.as_ref(),
                        error,
                    );
                }
            }
            elements.push(element);
        }
        self.list(body, &results.at, elements);
    }

    /// Puts a list of elements at its place, or its only element where a list would be out of place.
    fn list(&self, body: &mut Value, at: &Pointer, mut elements: Vec<Value>) {
        let one = elements.len() == 1 && self.is_one_object(at);
        let list = match elements.pop() {
            Some(element) if one => element,
            Some(element) => {
                elements.push(element);
                Value::Array(elements)
            }
            None => Value::Array(elements),
        };
        self.merge(body, at, list);
    }

    /// The answer to a read: these records, and errors for the other rows where the file has a place for them.
    pub(super) fn listed(&self, elements: Vec<Value>, at: &Pointer, rows: &[Told]) -> Response<Bytes> {
        let mut body = json!({});
        if let Some(proof) = &self.compiled.operation.answer.proof {
            self.put(&mut body, &proof.at, holding(proof));
        }
        self.list(&mut body, at, elements);
        self.errors(&mut body, rows);
        json_response(self.status(Meaning::Accepted, rows.len(), |_| true), &body)
    }

    /// Whether the element of a request of one row stands where a list would: if it is the whole answer, or if other parts
    /// of the answer stand within it.
    fn is_one_object(&self, at: &Pointer) -> bool {
        let operation = &self.compiled.operation;
        let error = &self.connector.error;
        let singles = error.code.0.iter().chain(&error.message);
        let singles = singles.chain(operation.answer.proof.as_ref().map(|proof| &proof.at));
        let within = |single: &Pointer| {
            let rest = single.0.strip_prefix(at.0.as_str()).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        operation.batch.rows == 1 && (at.0.is_empty() || singles.into_iter().any(within))
    }

    /// Says whether the row was accepted, and whether its record is new; both may stand at one place.
    fn tests(&self, element: &mut Value, results: &Results, created: bool) {
        let accepted = results.accepted.as_ref();
        let Some(test) = &results.created else {
            if let Some(test) = accepted {
                self.put(element, &test.at, holding(test));
            }
            return;
        };
        match accepted {
            Some(accepted) if accepted.at == test.at => {
                let fits = |value: &&Value| test.is.contains(value) == created;
                let value = accepted.is.iter().find(fits).cloned();
                self.put(element, &test.at, value.unwrap_or_else(|| holding(accepted)));
            }
            Some(_) | None => {
                if let Some(accepted) = accepted {
                    self.put(element, &accepted.at, holding(accepted));
                }
                self.put(element, &test.at, if created { holding(test) } else { failing(test) });
            }
        }
    }

    fn errors(&self, body: &mut Value, rows: &[Told]) {
        let lists = &self.compiled.operation.answer.errors;
        let mut elements: Vec<Vec<Value>> = lists.iter().map(|_| Vec::new()).collect();
        for (n, row) in rows.iter().enumerate() {
            let Fate::Refused(error) = &row.fate else { continue };
            let Some(chosen) = self.list_for(lists, error) else { continue };
            let (Some(list), Some(elements)) = (lists.get(chosen), elements.get_mut(chosen)) else {
                continue;
            };
            let mut element = json!({});
            self.name(&mut element, &list.by, n, row);
            if element.is_object() {
                self.words(
                    &mut element,
                    list.code.0.first(),
                    list.message.as_ref(),
                    list.field.as_ref(),
                    error,
                );
            }
            elements.push(element);
        }
        for (list, elements) in lists.iter().zip(elements) {
            // A place that proves the answer must be there even if it is empty.
            let proof = self.compiled.operation.answer.proof.as_ref();
            if list.by_field {
                if !elements.is_empty() {
                    self.merge(body, &list.at, json!({"name": elements}));
                }
            } else if !elements.is_empty() || proof.is_some_and(|proof| proof.at == list.at) {
                self.merge(body, &list.at, Value::Array(elements));
            }
        }
    }

    /// The list of errors that can say this: the one made for its code, else the first that has codes, else the first.
    fn list_for(&self, lists: &[Errors], error: &RowError) -> Option<usize> {
        let position = |suits: &dyn Fn(&Errors) -> bool| lists.iter().position(suits);
        position(&|list| list.fixed_code.as_ref() == Some(&error.code))
            .or_else(|| position(&|list| !list.code.is_empty()))
            .or_else(|| (!lists.is_empty()).then_some(0))
    }

    /// Puts what names the row into an element, in every way that the file reads and the request allows.
    pub(super) fn name(&self, element: &mut Value, by: &[By], n: usize, row: &Told) {
        for by in by {
            let (place, value) = match by {
                By::Position => continue,
                By::Index(place) => (place, Some(json!(n))),
                By::Ordinal(place) => (place, row.ordinal.as_ref().map(|ordinal| json!(ordinal))),
                By::Match(place) => (place, row.matched.as_ref().map(|matched| json!(matched))),
                By::Id(place) => match &row.fate {
                    Fate::Accepted { id, .. } => (place, Some(json!(id))),
                    Fate::Refused(_) => (place, row.id.as_ref().map(|id| json!(id))),
                },
            };
            if let Some(value) = value {
                self.put(element, place, value);
            }
        }
    }

    fn words(
        &self,
        element: &mut Value,
        code: Option<&Pointer>,
        message: Option<&Pointer>,
        field: Option<&Pointer>,
        error: &RowError,
    ) {
        // Where two of them stand at one place, the code is what counts.
        if let (Some(place), Some(field)) = (field, &error.field) {
            self.put(element, place, json!(field));
        }
        if let Some(place) = message {
            self.put(element, place, json!(error.message));
        }
        if let Some(place) = code {
            self.put(element, place, json!(error.code));
        }
    }

    /// Puts a value at a pointer whose placeholders are filled.
    pub(super) fn put(&self, root: &mut Value, place: &Pointer, value: Value) {
        put(root, &self.filled(place), value);
    }

    /// Puts a value at a pointer; what stands there already is kept beside it, if both are objects.
    pub(super) fn merge(&self, root: &mut Value, place: &Pointer, value: Value) {
        let place = self.filled(place);
        match (at(root, &place), value) {
            (Some(Value::Object(there)), Value::Object(members)) => there.extend(members),
            (_, value) => put(root, &place, value),
        }
    }

    fn filled(&self, Pointer(text): &Pointer) -> Vec<String> {
        let mut filled = text.clone();
        let escaped = |text: &str| text.replace('~', "~0").replace('/', "~1");
        if let Some(field) = self.match_field {
            filled = filled.replace("{match.field}", &escaped(field));
        }
        filled = filled.replace("{object}", &escaped(self.object));
        for (name, value) in self.settings {
            filled = filled.replace(&format!("{{{name}}}"), &escaped(value));
        }
        filled.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
    }
}

/// A value for which a test holds.
pub(super) fn holding(test: &Test) -> Value {
    test.is.first().cloned().unwrap_or(Value::Bool(true))
}

/// A value for which a test does not hold, of the kind that it asks for.
fn failing(test: &Test) -> Value {
    let others = match test.is.first() {
        Some(Value::String(_)) => ["error", "refused", "failed"].map(Value::from),
        Some(Value::Number(_)) => [-1, -2, -3].map(Value::from),
        Some(Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_)) | None => {
            [Value::Bool(false), Value::Bool(true), Value::Null]
        }
    };
    others.into_iter().find(|other| !test.is.contains(other)).unwrap_or(Value::Null)
}

/// The value at a place, made of objects and lists as its parts need them.
fn at<'v>(root: &'v mut Value, place: &[String]) -> Option<&'v mut Value> {
    let Some((part, rest)) = place.split_first() else { return Some(root) };
    if root.is_null() {
        *root = if part == "0" { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
    }
    match root {
        Value::Object(members) => at(members.entry(part.clone()).or_insert(Value::Null), rest),
        Value::Array(items) => {
            let n: usize = part.parse().ok()?;
            while items.len() <= n {
                items.push(Value::Null);
            }
            at(items.get_mut(n)?, rest)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn put(root: &mut Value, place: &[String], value: Value) {
    if let Some(at) = at(root, place) {
        *at = value;
    }
}
