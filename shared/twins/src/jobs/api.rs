//! The calls of the job twin.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{
    RefuseRow, csv,
    job::{Job, JobState, JobWait, Verb, Wanted},
    process::{JobRecord, Object, Written},
};
use crate::{
    clock::Moment,
    desk::{Dialect, Limits, Refusal, Request, claims_json, empty, json_response, text},
    journal::{Applied, Journal},
    row_error::RowError,
    salesforce::Schema,
};

pub(crate) struct Api {
    pub(crate) token: String,
    pub(crate) objects: BTreeMap<String, Object>,
    /// The oldest first.
    pub(crate) jobs: Vec<Job>,
    pub(crate) made: usize,
    pub(crate) next_record: u64,
    pub(crate) queued: JobWait,
    pub(crate) running: JobWait,
    /// By the number of the job: after how many rows it fails.
    pub(crate) failing: HashMap<usize, usize>,
    pub(crate) max_bytes: usize,
    pub(crate) page: usize,
    pub(crate) refuse_row: Option<Arc<RefuseRow>>,
    /// What the objects look like, where that matters.
    pub(crate) schemas: BTreeMap<String, Schema>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewState {
    state: String,
}

/// A refusal of a whole request: status, code and words.
pub(crate) struct Refused(pub(crate) StatusCode, pub(crate) &'static str, pub(crate) String);

pub(crate) type Answer = Result<Response<Bytes>, Refused>;

pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, code, message.into())
}

fn wrong_state(job: &Job, wants: &str) -> Refused {
    bad("INVALIDJOBSTATE", format!("{wants} is not possible for a job in state {}", job.state.name()))
}

impl Api {
    pub(crate) fn new() -> Self {
        Self {
            token: "00D-twin".to_owned(),
            objects: BTreeMap::new(),
            jobs: Vec::new(),
            made: 0,
            next_record: 0,
            queued: JobWait::Polls(1),
            running: JobWait::Polls(1),
            failing: HashMap::new(),
            max_bytes: 100_000_000,
            page: 1_000,
            refuse_row: None,
            schemas: BTreeMap::new(),
        }
    }

    pub(crate) fn seed(&mut self, object: &str, fields: JobRecord) -> String {
        let id = record_id(&mut self.next_record);
        self.objects.entry(object.to_owned()).or_default().records.insert(id.clone(), fields);
        id
    }

    fn route(&mut self, request: &Request<'_>, journal: &mut Journal) -> Answer {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let ["services", "data", version, "jobs", "ingest", rest @ ..] = parts.as_slice() else {
            return Err(nothing_here());
        };
        let is_version = version.strip_prefix('v').is_some_and(|number| number.parse::<f64>().is_ok());
        if !is_version {
            return Err(nothing_here());
        }
        let method = request.method.as_str();
        match (method, rest) {
            ("POST", [] | [""]) => self.make(version, request),
            ("GET", [] | [""]) => self.list(version, request),
            (_, [id, rest @ ..]) => {
                let at = self.jobs.iter().position(|job| job.id == *id);
                let at = at.ok_or_else(|| {
                    Refused(
                        StatusCode::NOT_FOUND,
                        "NOT_FOUND",
                        "The requested resource does not exist".to_owned(),
                    )
                })?;
                match (method, rest) {
                    ("GET", [] | [""]) => self.show(at, request.now, journal, request.number),
                    ("PATCH", [] | [""]) => self.change(at, request),
                    ("DELETE", [] | [""]) => self.delete(at),
                    ("PUT", ["batches"]) => self.upload(at, request),
                    ("GET", [results]) => self.results(at, results),
                    (_, _) => Err(no_such_method(method)),
                }
            }
            (_, _) => Err(no_such_method(method)),
        }
    }

    fn make(&mut self, version: &str, request: &Request<'_>) -> Answer {
        if !claims_json(request.headers) {
            return Err(not_supported("application/json"));
        }
        let wanted: Wanted = serde_json::from_slice(request.body)
            .map_err(|error| bad("JSON_PARSER_ERROR", format!("the job can't be read: {error}")))?;
        if wanted.object.is_empty() {
            return Err(bad("INVALIDENTITY", "the object has no name"));
        }
        if wanted.content_type.as_deref().is_some_and(|kind| kind != "CSV") {
            return Err(bad("INVALIDJOB", "contentType must be CSV"));
        }
        match (&wanted.operation, &wanted.external_id_field_name) {
            (Verb::Upsert, None) => {
                return Err(bad("INVALIDJOB", "externalIdFieldName is required for upsert"));
            }
            (Verb::Upsert, Some(field)) => {
                let known = self.objects.get(&wanted.object).map(|object| object.external_ids.as_slice());
                let known = known.unwrap_or_default();
                if field != "Id" && !known.is_empty() && !known.contains(field) {
                    return Err(bad(
                        "INVALIDJOB",
                        format!("{field} is not an external id of {}", wanted.object),
                    ));
                }
            }
            (Verb::Insert | Verb::Update | Verb::Delete, Some(_)) => {
                return Err(bad("INVALIDJOB", "externalIdFieldName is for upsert only"));
            }
            (Verb::Insert | Verb::Update | Verb::Delete, None) => {}
        }
        self.made += 1;
        let job = Job::new(self.made, version, wanted, request.now);
        let info = job.info();
        self.jobs.push(job);
        Ok(json_response(StatusCode::OK, &info))
    }

    /// The jobs, newest first, a page at a time: that is how a maker finds its own after a lost answer.
    fn list(&mut self, version: &str, request: &Request<'_>) -> Answer {
        let mut from = 0;
        for pair in request.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("queryLocator", place)) => {
                    from =
                        place.parse().map_err(|_| bad("INVALID_QUERY_LOCATOR", "there is no such page"))?;
                }
                Some(("jobType" | "isPkChunkingEnabled" | "concurrencyMode", _)) => {}
                Some(_) | None => return Err(bad("INVALID_FIELD", "there is no such filter")),
            }
        }
        let to = self.jobs.len().saturating_sub(from);
        let page: Vec<_> = self.jobs.iter().take(to).rev().take(self.page).map(Job::info).collect();
        let next = from.saturating_add(page.len());
        let done = next >= self.jobs.len();
        let url = format!("/services/data/{version}/jobs/ingest?queryLocator={next}");
        let url = if done { json!(null) } else { json!(url) };
        Ok(json_response(StatusCode::OK, &json!({"done": done, "records": page, "nextRecordsUrl": url})))
    }

    fn job(&mut self, at: usize) -> Result<&mut Job, Refused> {
        self.jobs.get_mut(at).ok_or_else(nothing_here)
    }

    fn upload(&mut self, at: usize, request: &Request<'_>) -> Answer {
        let max_bytes = self.max_bytes;
        let job = self.job(at)?;
        let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/csv")) {
            return Err(not_supported("text/csv"));
        }
        if job.state != JobState::Open || job.data.is_some() {
            return Err(wrong_state(job, "an upload"));
        }
        if request.body.len() > max_bytes {
            let message = format!("a job has at most {max_bytes} bytes of CSV");
            return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, "EXCEEDED_MAX_SIZE_REQUEST", message));
        }
        let data = String::from_utf8(request.body.to_vec())
            .map_err(|_| bad("INVALIDBATCH", "the CSV is not UTF-8"))?;
        let lines = data.lines().count();
        job.scripted = (0..lines).map(|row| request.refused_row(row)).collect();
        job.data = Some(data);
        Ok(empty(StatusCode::CREATED))
    }

    fn change(&mut self, at: usize, request: &Request<'_>) -> Answer {
        let job = self.job(at)?;
        if !claims_json(request.headers) {
            return Err(not_supported("application/json"));
        }
        let NewState { state } = serde_json::from_slice(request.body)
            .map_err(|error| bad("JSON_PARSER_ERROR", format!("the state can't be read: {error}")))?;
        match (state.as_str(), job.state) {
            ("UploadComplete", JobState::Open) if job.data.is_none() => {
                return Err(bad("INVALIDJOBSTATE", "the job has no data"));
            }
            ("UploadComplete", JobState::Open) => {
                job.read();
                job.enter(JobState::UploadComplete, request.now);
            }
            ("Aborted", JobState::Open | JobState::UploadComplete | JobState::InProgress) => {
                job.read();
                job.enter(JobState::Aborted, request.now);
            }
            ("UploadComplete" | "Aborted", _) => return Err(wrong_state(job, &state)),
            (_, _) => return Err(bad("INVALIDJOB", "a job's maker can say UploadComplete or Aborted")),
        }
        Ok(json_response(StatusCode::OK, &job.info()))
    }

    fn show(&mut self, at: usize, now: Moment, journal: &mut Journal, request: u64) -> Answer {
        self.advance(at, now, journal, request)?;
        let job = self.job(at)?;
        job.polled();
        Ok(json_response(StatusCode::OK, &job.details()))
    }

    /// Takes a job on as far as polls and time allow.
    fn advance(
        &mut self,
        at: usize,
        now: Moment,
        journal: &mut Journal,
        request: u64,
    ) -> Result<(), Refused> {
        let (queued, running) = (self.queued, self.running);
        let job = self.job(at)?;
        if job.state == JobState::UploadComplete && job.waited(queued, now) {
            job.enter(JobState::InProgress, now);
        }
        if job.state == JobState::InProgress && job.waited(running, now) {
            self.work(at, now, journal, request)?;
        }
        Ok(())
    }

    /// Works on a job's rows.
    fn work(&mut self, at: usize, now: Moment, journal: &mut Journal, request: u64) -> Result<(), Refused> {
        let refuse_row = self.refuse_row.clone();
        let next_record = &mut self.next_record;
        let job = self.jobs.get_mut(at).ok_or_else(nothing_here)?;
        let fails_after = self.failing.get(&job.number).copied();
        if job.error.is_some() {
            job.enter(JobState::Failed, now);
            return Ok(());
        }
        let object = job.wanted.object.clone();
        if let Some(schema) = self.schemas.get(&object)
            && let Some(column) = job.columns.iter().find(|column| !schema.knows(column, &self.schemas))
        {
            job.error = Some(format!("InvalidBatch : Field name not found : {column}"));
            job.enter(JobState::Failed, now);
            return Ok(());
        }
        if let Some(schema) = self.schemas.get(&object)
            && let Some(field) = schema.named_twice(&job.columns)
        {
            job.error = Some(format!("InvalidBatch : {field} is given in two ways"));
            job.enter(JobState::Failed, now);
            return Ok(());
        }
        let rows: Vec<Result<JobRecord, RowError>> = job
            .records()
            .map(|row| match self.schemas.get(&object) {
                Some(schema) => schema.read_cells(row, &self.objects),
                None => Ok(row),
            })
            .collect();
        let refuse = |row: &JobRecord| -> Option<RowError> { refuse_row.as_ref()?(&object, row) };
        let until = fails_after.unwrap_or(usize::MAX);
        let records = self.objects.entry(object.clone()).or_default();
        let written = records.process(job, rows, until, refuse, || record_id(next_record));
        for Written { key, id, action } in written {
            let object = object.clone();
            journal.apply(Applied { sequence: 0, request, object, action, key, id, at: now.since_start });
        }
        if fails_after.is_some() {
            job.error = Some("InternalServerError : the job was given up after its last try".to_owned());
            job.enter(JobState::Failed, now);
        } else {
            job.enter(JobState::JobComplete, now);
        }
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Answer {
        let job = self.job(at)?;
        if !job.state.has_ended() {
            return Err(wrong_state(job, "to delete"));
        }
        self.jobs.remove(at);
        Ok(empty(StatusCode::NO_CONTENT))
    }

    fn results(&mut self, at: usize, which: &str) -> Answer {
        let job = self.job(at)?;
        if !matches!(which, "successfulResults" | "failedResults" | "unprocessedrecords") {
            return Err(nothing_here());
        }
        if !job.state.has_ended() {
            return Err(wrong_state(job, which));
        }
        Ok(text(StatusCode::OK, "text/csv", job.results(which)))
    }
}

impl Job {
    /// Its rows, by column.
    fn records(&self) -> impl Iterator<Item = JobRecord> {
        self.rows.iter().map(|row| self.columns.iter().cloned().zip(row.iter().cloned()).collect())
    }

    /// Reads the uploaded CSV; what is wrong with it fails the job when it is worked on.
    fn read(&mut self) {
        let Some(data) = &self.data else { return };
        let invalid = |what: String| Some(format!("InvalidBatch : {what}"));
        let mut lines = match csv::read(data, self.wanted.style()) {
            Ok(lines) => lines.into_iter(),
            Err(what) => {
                self.error = invalid(what);
                return;
            }
        };
        self.columns = lines.next().unwrap_or_default();
        self.rows = lines.collect();
        let mut seen = HashSet::new();
        let key = match self.wanted.operation {
            Verb::Upsert => self.wanted.external_id_field_name.as_deref(),
            Verb::Update | Verb::Delete => Some("Id"),
            Verb::Insert => None,
        };
        if let Some(column) = self.columns.iter().find(|column| !seen.insert(column.as_str())) {
            self.error = invalid(format!("Duplicate column: {column}"));
        } else if let Some(key) = key.filter(|key| !self.columns.iter().any(|column| column == key)) {
            self.error = invalid(format!("Field name not found : {key}"));
        } else if self.rows.iter().any(|row| row.len() != self.columns.len()) {
            self.error = invalid("a row has another number of cells than there are columns".to_owned());
        }
    }

    /// One of the three lists of rows, as CSV with the columns that were sent.
    fn results(&self, which: &str) -> String {
        let columns = |first: &[&'static str]| -> Vec<&str> {
            first.iter().copied().chain(self.columns.iter().map(String::as_str)).collect()
        };
        let cells = |row: usize| self.rows.get(row).into_iter().flatten().map(String::as_str);
        let mut errors: Vec<(usize, String)> = Vec::new();
        for done in &self.done {
            if let Err(RowError { code, message, field }) = &done.result {
                errors.push((
                    done.row,
                    format!("{code}:{message}:{} --", field.as_deref().unwrap_or_default()),
                ));
            }
        }
        let lines: Vec<Vec<&str>> = match which {
            "successfulResults" => {
                let head = std::iter::once(columns(&["sf__Id", "sf__Created"]));
                let rows = self.done.iter().filter_map(|done| {
                    let created = if *done.result.as_ref().ok()? { "true" } else { "false" };
                    Some([done.id.as_str(), created].into_iter().chain(cells(done.row)).collect())
                });
                head.chain(rows).collect()
            }
            "failedResults" => {
                let head = std::iter::once(columns(&["sf__Id", "sf__Error"]));
                let rows = errors
                    .iter()
                    .map(|(row, error)| ["", error.as_str()].into_iter().chain(cells(*row)).collect());
                head.chain(rows).collect()
            }
            _ => {
                let head = std::iter::once(columns(&[]));
                let rows = (self.done.len()..self.rows.len()).map(|row| cells(row).collect());
                head.chain(rows).collect()
            }
        };
        csv::write(lines.into_iter(), self.wanted.style())
    }
}

/// The next record's id, as long as Salesforce's.
pub(crate) fn record_id(next: &mut u64) -> String {
    *next += 1;
    format!("003{next:015}")
}

pub(crate) fn nothing_here() -> Refused {
    Refused(StatusCode::NOT_FOUND, "NOT_FOUND", "The requested resource does not exist".to_owned())
}

pub(crate) fn no_such_method(method: &str) -> Refused {
    let message = format!("HTTP method {method} is not possible here");
    Refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}

pub(crate) fn not_supported(wants: &str) -> Refused {
    let message = format!("the body must be {wants}");
    Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
}

pub(crate) fn refused(Refused(status, code, message): Refused) -> Response<Bytes> {
    json_response(status, &json!([{"message": message, "errorCode": code}]))
}

impl Dialect for Api {
    fn authorized(&self, request: &Request<'_>) -> bool {
        let given = request.headers.get(AUTHORIZATION).and_then(|given| given.to_str().ok());
        given.and_then(|given| given.strip_prefix("Bearer ")).is_some_and(|token| token == self.token)
    }

    fn refuse(&self, refusal: Refusal, _request: &Request<'_>) -> Response<Bytes> {
        let limit =
            |status, message: &str| refused(Refused(status, "REQUEST_LIMIT_EXCEEDED", message.to_owned()));
        match refusal {
            Refusal::Throttled => limit(StatusCode::TOO_MANY_REQUESTS, "too many requests at a time"),
            Refusal::QuotaGone => limit(StatusCode::FORBIDDEN, "TotalRequests Limit exceeded."),
            Refusal::Unauthorized => {
                let message = "Session expired or invalid".to_owned();
                refused(Refused(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", message))
            }
            Refusal::Status(status) => {
                let message = status.canonical_reason().unwrap_or("an error").to_owned();
                refused(Refused(
                    status,
                    if status.is_server_error() { "SERVER_UNAVAILABLE" } else { "ERROR" },
                    message,
                ))
            }
        }
    }

    fn says_retry_after(&self) -> bool {
        false
    }

    fn respond(&mut self, request: &Request<'_>, journal: &mut Journal) -> Response<Bytes> {
        self.route(request, journal).unwrap_or_else(refused)
    }

    fn decorate(&self, limits: &mut Limits, now: Moment, headers: &mut HeaderMap) {
        let Some(daily) = &mut limits.daily else { return };
        let used = daily.limit().saturating_sub(daily.remaining_at(now.since_start));
        if let Ok(value) = HeaderValue::try_from(format!("api-usage={used}/{}", daily.limit())) {
            headers.insert(HeaderName::from_static("sforce-limit-info"), value);
        }
    }
}
