//! The batch twin: a generic JSON API that takes batches of records.
//!
//! `POST /{object}/{upsert|create|update|delete|append}` with `{"records": [{…}, …]}` or with one record as the body.
//! The answer has one result per record, in the order sent:
//! `{"results": [{"id", "status": "created|updated|deleted|unchanged|error", "error": {"code", "message", "field"}}]}`.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use axum::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use crate::{
    clock::Moment,
    desk::{Dialect, Limits, Refusal, Reply, Request, Setting, SharedDesk, Twin, claims_json, json_response},
    faults::Script,
    journal::{Action, Applied, Journal},
    row_error::RowError,
    server::RunningTwin,
    window::RateLimit,
};

mod auth;
mod records;

pub use auth::Auth;

use records::{Records, Stored, Verb, key_of};

/// The request header that names the key field of its records, before what was configured.
const KEY_FIELD: &str = "key-field";
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How an answer tells of records that are not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowErrors {
    /// In the results of a 200. The default.
    UnderOk,
    /// In the results of a 207.
    UnderMultiStatus,
    /// By a 400 that names no record; none is applied.
    WholeBatch,
}

type RefuseRow = dyn Fn(&str, &Value) -> Option<RowError> + Send + Sync;

/// The simulated API. Clones share one state.
#[derive(Clone)]
pub struct BatchTwin(SharedDesk<Api>);

/// Settings of a [`BatchTwin`].
pub struct BatchTwinBuilder {
    api: Api,
    setting: Setting,
}

impl BatchTwinBuilder {
    /// The credential asked for; none by default.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.api.auth = auth;
        self
    }

    /// The key field of an object's records; `id` by default. A request's `Key-Field` header goes before it.
    pub fn key(mut self, object: &str, field: &str) -> Self {
        self.api.keys.insert(object.to_owned(), field.to_owned());
        self
    }

    /// The key field of all objects that are given none by [`key`](Self::key).
    pub fn default_key(mut self, field: &str) -> Self {
        field.clone_into(&mut self.api.default_key);
        self
    }

    /// How row errors are told.
    pub fn row_errors(mut self, row_errors: RowErrors) -> Self {
        self.api.row_errors = row_errors;
        self
    }

    /// The records that a request may have, else 400; 1,000 by default.
    pub fn max_records(mut self, records: usize) -> Self {
        self.api.max_records = records;
        self
    }

    /// The bytes that a body may have, else 413; 10 MiB by default.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.api.max_bytes = bytes;
        self
    }

    /// Refuses the records of an object (first argument) for which this gives an error.
    pub fn refuse_rows(
        mut self,
        refuse: impl Fn(&str, &Value) -> Option<RowError> + Send + Sync + 'static,
    ) -> Self {
        self.api.refuse_row = Some(Arc::new(refuse));
        self
    }

    // No limits by default.
    crate::desk::settings!();

    /// The twin without a server.
    pub fn build(self) -> BatchTwin {
        BatchTwin(SharedDesk::new(self.api, self.setting))
    }

    /// The twin as a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(self) -> io::Result<RunningTwin<BatchTwin>> {
        RunningTwin::start(self.build(), 0).await
    }
}

impl BatchTwin {
    /// A twin with defaults, to be changed.
    pub fn builder() -> BatchTwinBuilder {
        BatchTwinBuilder {
            api: Api {
                auth: Auth::None,
                keys: HashMap::new(),
                default_key: "id".to_owned(),
                row_errors: RowErrors::UnderOk,
                max_records: 1_000,
                max_bytes: 10 * 1024 * 1024,
                refuse_row: None,
                objects: BTreeMap::new(),
                answered: HashMap::new(),
            },
            setting: Setting::new(RateLimit::UNLIMITED),
        }
    }

    /// From now on this credential is asked for, as after a rotation.
    pub fn replace_auth(&self, auth: Auth) {
        self.0.lock().dialect.auth = auth;
    }

    /// Puts a record into an object without a request, unnoted in the journal. Gives its key, or nothing if the record
    /// has none.
    pub fn seed(&self, object: &str, record: Value) -> Option<String> {
        let mut desk = self.0.lock();
        let key = key_of(&record, desk.dialect.key_field(object))?;
        let stored = Stored { sent: record.to_string(), value: record };
        desk.dialect.objects.entry(object.to_owned()).or_default().keyed.insert(key.clone(), stored);
        Some(key)
    }

    /// The names of the objects that have or had records.
    pub fn objects(&self) -> Vec<String> {
        self.0.lock().dialect.objects.keys().cloned().collect()
    }

    /// The records of an object by ascending key (as text), without the appended ones.
    pub fn records(&self, object: &str) -> Vec<Value> {
        self.of(object, |records| records.keyed.values().map(|stored| stored.value.clone()).collect())
            .unwrap_or_default()
    }

    /// How many records an object has, without the appended ones.
    pub fn count(&self, object: &str) -> usize {
        self.of(object, |records| records.keyed.len()).unwrap_or_default()
    }

    /// The record with this key.
    pub fn record(&self, object: &str, key: &str) -> Option<Value> {
        self.of(object, |records| records.keyed.get(key).map(|stored| stored.value.clone()))?
    }

    /// The JSON text by which the record with this key was last sent: here every digit of a number is kept.
    pub fn sent(&self, object: &str, key: &str) -> Option<String> {
        self.of(object, |records| records.keyed.get(key).map(|stored| stored.sent.clone()))?
    }

    /// The appended records of an object, in that order.
    pub fn appended(&self, object: &str) -> Vec<Value> {
        self.of(object, |records| records.appended.iter().map(|stored| stored.value.clone()).collect())
            .unwrap_or_default()
    }

    /// The JSON texts by which records were appended, in that order.
    pub fn appended_as_sent(&self, object: &str) -> Vec<String> {
        self.of(object, |records| records.appended.iter().map(|stored| stored.sent.clone()).collect())
            .unwrap_or_default()
    }

    /// How many operations were accepted so far.
    pub fn applied_so_far(&self) -> usize {
        self.0.lock().journal.applied().len()
    }

    /// The accepted operations from this position on, in the order in which they were applied.
    pub fn applied_since(&self, position: usize) -> Vec<Applied> {
        self.0.lock().journal.applied().iter().skip(position).cloned().collect()
    }

    fn of<R>(&self, object: &str, ask: impl FnOnce(&Records) -> R) -> Option<R> {
        self.0.lock().dialect.objects.get(object).map(ask)
    }
}

impl Twin for BatchTwin {
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        self.0.handle(method, path, headers, body)
    }

    fn journal(&self) -> Journal {
        self.0.lock().journal.clone()
    }

    fn held(&self) -> BTreeMap<String, usize> {
        let desk = self.0.lock();
        let held = |records: &Records| records.keyed.len() + records.appended.len();
        desk.dialect.objects.iter().map(|(name, records)| (name.clone(), held(records))).collect()
    }

    fn set_faults(&self, script: Script) {
        self.0.set_faults(script);
    }
}

pub(crate) struct Api {
    auth: Auth,
    keys: HashMap<String, String>,
    default_key: String,
    row_errors: RowErrors,
    max_records: usize,
    max_bytes: usize,
    refuse_row: Option<Arc<RefuseRow>>,
    objects: BTreeMap<String, Records>,
    /// By path and idempotency key: the body and its answer.
    answered: HashMap<(String, Vec<u8>), (Bytes, Response<Bytes>)>,
}

impl Api {
    fn key_field(&self, object: &str) -> &str {
        self.keys.get(object).map_or(self.default_key.as_str(), String::as_str)
    }

    fn write(
        &mut self,
        object: &str,
        verb: Verb,
        request: &Request<'_>,
        journal: &mut Journal,
    ) -> Response<Bytes> {
        let rows = match rows(request.body) {
            Ok(rows) => rows,
            Err(error) => {
                return refused(StatusCode::BAD_REQUEST, "invalid_json", &format!("can't be read: {error}"));
            }
        };
        if rows.is_empty() || rows.len() > self.max_records {
            let message = format!("a request has 1 to {} records", self.max_records);
            return refused(StatusCode::BAD_REQUEST, "too_many_records", &message);
        }
        let from_header = request.headers.get(KEY_FIELD).and_then(|value| value.to_str().ok());
        let key_field = from_header.unwrap_or_else(|| self.key_field(object)).to_owned();
        let refuse_row = self.refuse_row.clone();
        let refuse = |record: &Value| refuse_row.as_ref().and_then(|refuse| refuse(object, record));

        let records = self.objects.entry(object.to_owned()).or_default();
        let mut plan = records.plan(verb, &key_field, &rows, refuse);
        for (position, planned) in plan.iter_mut().enumerate() {
            if let Some(error) = request.refused_row(position) {
                *planned = Err(error);
            }
        }
        let any_error = plan.iter().any(Result::is_err);
        if any_error && self.row_errors == RowErrors::WholeBatch {
            let message = "at least one record is not acceptable; none was applied";
            return refused(StatusCode::BAD_REQUEST, "batch_refused", message);
        }
        let mut results = Vec::with_capacity(plan.len());
        for (planned, row) in plan.into_iter().zip(rows) {
            let done = match planned {
                Ok(accepted) => records.apply(verb, accepted),
                Err(error) => {
                    let id = serde_json::from_str(row.get()).ok().and_then(|row| key_of(&row, &key_field));
                    results.push(json!({"id": id, "status": "error", "error": error}));
                    continue;
                }
            };
            results.push(json!({"id": done.id, "status": status(done.action)}));
            journal.apply(Applied {
                sequence: 0,
                request: request.number,
                object: object.to_owned(),
                action: done.action,
                key: done.id.clone(),
                id: done.id,
                at: request.now.since_start,
            });
        }
        let status = if any_error && self.row_errors == RowErrors::UnderMultiStatus {
            StatusCode::MULTI_STATUS
        } else {
            StatusCode::OK
        };
        json_response(status, &json!({"results": results}))
    }
}

/// The records of a body: those of its `records` array, or the body itself.
fn rows(body: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body)?;
    match fields.get("records") {
        Some(records) if records.get().starts_with('[') => serde_json::from_str(records.get()),
        _ => Ok(vec![serde_json::from_slice(body)?]),
    }
}

fn status(action: Action) -> &'static str {
    match action {
        Action::Created | Action::Appended => "created",
        Action::Updated => "updated",
        Action::Unchanged => "unchanged",
        Action::Deleted => "deleted",
    }
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    json_response(status, &json!({"error": {"code": code, "message": message}}))
}

impl Dialect for Api {
    fn authorized(&self, request: &Request<'_>) -> bool {
        self.auth.accepts(request.headers)
    }

    fn refuse(&self, refusal: Refusal, _request: &Request<'_>) -> Response<Bytes> {
        match refusal {
            Refusal::Throttled => refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests"),
            Refusal::QuotaGone => {
                refused(StatusCode::TOO_MANY_REQUESTS, "daily_quota", "the quota of the day is used up")
            }
            Refusal::Unauthorized => {
                refused(StatusCode::UNAUTHORIZED, "unauthorized", "the credential is not accepted")
            }
            Refusal::Status(status) => {
                refused(status, "error", status.canonical_reason().unwrap_or("an error"))
            }
        }
    }

    fn says_retry_after(&self) -> bool {
        true
    }

    fn respond(&mut self, request: &Request<'_>, journal: &mut Journal) -> Response<Bytes> {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let (object, verb) = match parts.as_slice() {
            [object, verb] if !object.is_empty() => (*object, Verb::named(verb)),
            _ => ("", None),
        };
        let Some(verb) = verb else {
            return refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path");
        };
        if request.method != Method::POST {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "only POST is possible");
        }
        if !claims_json(request.headers) {
            return refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "the body must be application/json",
            );
        }
        if request.body.len() > self.max_bytes {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body has too many bytes");
        }
        let Some(idempotency_key) = request.headers.get(IDEMPOTENCY_KEY) else {
            return self.write(object, verb, request, journal);
        };
        let place = (request.path.to_owned(), idempotency_key.as_bytes().to_vec());
        match self.answered.get(&place) {
            Some((body, answer)) if body == request.body => return answer.clone(),
            Some(_) => {
                let message = "this Idempotency-Key came with another body before";
                return refused(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message);
            }
            None => {}
        }
        let answer = self.write(object, verb, request, journal);
        self.answered.insert(place, (Bytes::copy_from_slice(request.body), answer.clone()));
        answer
    }

    fn decorate(&self, _limits: &mut Limits, _now: Moment, _headers: &mut HeaderMap) {}
}
