//! The Salesforce twin: an org with a token endpoint, sObject Collections, bulk jobs, descriptions and questions.
//!
//! Facts from Salesforce's REST API Developer Guide ("Using sObject Collections", "Status Codes and Error Responses"), Bulk API 2.0 Developer
//! Guide, SOQL and SOSL Reference, and Help ("OAuth 2.0 Client Credentials Flow", "OAuth 2.0 JWT Bearer Flow").

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use serde_json::json;

use crate::{
    clock::Moment,
    desk::{Dialect, Limits, Refusal, Reply, Request, Setting, SharedDesk, Twin, json_response},
    faults::Script,
    jobs::{
        JobSeen,
        api::{Answer, Api, bad, no_such_method, nothing_here, refused},
        job::JobWait,
        process::JobRecord,
    },
    journal::Journal,
    row_error::RowError,
    server::RunningTwin,
    window::RateLimit,
};

mod collections;
mod oauth;
mod query;
mod schema;

pub use schema::{SalesforceKind, Schema};

use oauth::App;

const TOKEN_PATH: &str = "/services/oauth2/token";

/// The simulated org. Clones share one state.
#[derive(Clone)]
pub struct SalesforceTwin(SharedDesk<Salesforce>);

/// Settings of a [`SalesforceTwin`].
pub struct SalesforceTwinBuilder {
    org: Salesforce,
    setting: Setting,
}

pub(crate) struct Salesforce {
    /// Records and jobs.
    pub(crate) api: Api,
    app: App,
    /// How long a request is under way, and so holds the locks of the records that its rows refer to.
    takes: Duration,
    /// Locked records, and until when.
    locks: HashMap<String, Duration>,
    /// Access tokens given out so far.
    tokens: u32,
    /// Records of a page of an answer to a question.
    page: usize,
}

impl SalesforceTwinBuilder {
    /// The first access token; `00D-twin` by default. Each that the token endpoint gives out later differs from it.
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.org.api.token);
        self
    }

    /// The app's client id and secret; `twin-app` and `twin-secret` by default.
    pub fn client(mut self, id: &str, secret: &str) -> Self {
        id.clone_into(&mut self.org.app.client_id);
        secret.clone_into(&mut self.org.app.client_secret);
        self
    }

    /// The user of assertions, and the public half of the app's key in PEM form (2,048 bits); without a key no assertion is taken.
    pub fn assertions(mut self, username: &str, public_key: &str) -> Self {
        username.clone_into(&mut self.org.app.username);
        self.org.app.public_key = oauth::rsa_key(public_key);
        self
    }

    /// The refresh token; `twin-refresh-0` by default.
    pub fn refresh_token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.org.app.refresh_token);
        self
    }

    /// A refresh token that is used is worth nothing any more: the answer brings another.
    pub fn rotates_refresh_tokens(mut self) -> Self {
        self.org.app.rotates = true;
        self
    }

    /// What tokens call the org's address; the one that was asked by default.
    pub fn instance_url(mut self, url: &str) -> Self {
        self.org.app.instance_url = Some(url.to_owned());
        self
    }

    /// Adds or replaces an object. `Account` and `Contact` are there with some standard fields and some of their own.
    pub fn object(mut self, name: &str, schema: Schema) -> Self {
        self.org.describe(name, schema);
        self
    }

    /// How long a request with records is under way; no time by default. Another one that refers to the same record in that time fails with
    /// `UNABLE_TO_LOCK_ROW` for those rows.
    pub fn takes(mut self, time: Duration) -> Self {
        self.org.takes = time;
        self
    }

    /// How long a closed job waits, and how long it is worked on; for one poll each by default.
    pub fn job_times(mut self, queued: JobWait, running: JobWait) -> Self {
        (self.org.api.queued, self.org.api.running) = (queued, running);
        self
    }

    /// The nth job, from 1, fails after so many of its rows.
    pub fn fail_job(mut self, nth: usize, after_rows: usize) -> Self {
        self.org.api.failing.insert(nth, after_rows);
        self
    }

    /// The bytes that a job's CSV may have, else 413; 100 MB by default.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.org.api.max_bytes = bytes;
        self
    }

    /// The records that a page of an answer to a question has; 2,000 by default.
    pub fn page(mut self, records: usize) -> Self {
        self.org.page = records.max(1);
        self
    }

    /// Refuses the rows of an object (first argument) for which this gives an error, such as `UNABLE_TO_LOCK_ROW`.
    pub fn refuse_rows(
        mut self,
        refuse: impl Fn(&str, &JobRecord) -> Option<RowError> + Send + Sync + 'static,
    ) -> Self {
        self.org.api.refuse_row = Some(Arc::new(refuse));
        self
    }

    // No limits by default; above a day's requests, 403 with `REQUEST_LIMIT_EXCEEDED`.
    crate::desk::settings!();

    /// The twin without a server.
    pub fn build(self) -> SalesforceTwin {
        SalesforceTwin(SharedDesk::new(self.org, self.setting))
    }

    /// The twin as a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(self) -> io::Result<RunningTwin<SalesforceTwin>> {
        RunningTwin::start(self.build(), 0).await
    }
}

impl SalesforceTwin {
    /// A twin with defaults, to be changed.
    pub fn builder() -> SalesforceTwinBuilder {
        let mut org = Salesforce {
            api: Api::new(),
            app: App::new(),
            takes: Duration::ZERO,
            locks: HashMap::new(),
            tokens: 0,
            page: 2_000,
        };
        org.describe("Account", Schema::accounts());
        org.describe("Contact", Schema::contacts());
        org.describe("User", Schema::bare());
        SalesforceTwinBuilder { org, setting: Setting::new(RateLimit::UNLIMITED) }
    }

    /// The limits that it enforces; the requests a day as a window of 24 hours.
    pub fn limits(&self) -> Vec<RateLimit> {
        self.0.lock().limits()
    }

    /// Ends every session: the token endpoint gives out another token.
    pub fn end_sessions(&self) {
        self.0.lock().dialect.new_token();
    }

    /// From now on only this client secret is taken.
    pub fn replace_client_secret(&self, secret: &str) {
        secret.clone_into(&mut self.0.lock().dialect.app.client_secret);
    }

    /// Puts a record into an object without a request, unchecked and unnoted in the journal. Gives its id.
    pub fn seed<'a>(&self, object: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.0.lock().dialect.api.seed(object, fields)
    }

    /// Removes a record without a request, as a person would.
    pub fn remove(&self, object: &str, id: &str) {
        if let Some(object) = self.0.lock().dialect.api.objects.get_mut(object) {
            object.records.remove(id);
        }
    }

    /// The records of an object, by id.
    pub fn records(&self, object: &str) -> BTreeMap<String, JobRecord> {
        self.0.lock().dialect.api.objects.get(object).map(|object| object.records.clone()).unwrap_or_default()
    }

    /// How many records an object has.
    pub fn count(&self, object: &str) -> usize {
        self.0.lock().dialect.api.objects.get(object).map_or(0, |object| object.records.len())
    }

    /// The record whose field has this value.
    pub fn record(&self, object: &str, field: &str, value: &str) -> Option<JobRecord> {
        let desk = self.0.lock();
        let object = desk.dialect.api.objects.get(object)?;
        object.records.get(object.find(field, value)?).cloned()
    }

    /// The jobs that were made and not deleted, oldest first.
    pub fn jobs(&self) -> Vec<JobSeen> {
        self.0.lock().dialect.api.jobs.iter().map(JobSeen::of).collect()
    }
}

impl Twin for SalesforceTwin {
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        self.0.handle(method, path, headers, body)
    }

    fn journal(&self) -> Journal {
        self.0.lock().journal.clone()
    }

    fn held(&self) -> BTreeMap<String, usize> {
        let desk = self.0.lock();
        let held = desk.dialect.api.objects.iter().map(|(name, object)| (name.clone(), object.records.len()));
        held.filter(|(_, count)| *count > 0).collect()
    }

    fn set_faults(&self, script: Script) {
        self.0.set_faults(script);
    }
}

impl Salesforce {
    fn describe(&mut self, name: &str, schema: Schema) {
        let object = self.api.objects.entry(name.to_owned()).or_default();
        object.external_ids = schema.external_ids();
        object.required = schema.required_fields();
        self.api.schemas.insert(name.to_owned(), schema);
    }

    fn new_token(&mut self) {
        self.tokens += 1;
        let first = self.api.token.split("-session-").next().unwrap_or_default().to_owned();
        self.api.token = format!("{first}-session-{}", self.tokens);
    }

    fn route(&mut self, request: &Request<'_>, journal: &mut Journal) -> Answer {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let ["services", "data", version, rest @ ..] = parts.as_slice() else { return Err(nothing_here()) };
        if version.strip_prefix('v').is_none_or(|number| number.parse::<f64>().is_err()) {
            return Err(nothing_here());
        }
        match (request.method.as_str(), rest) {
            ("GET", ["sobjects", object, "describe"]) => {
                let schema = self.api.schemas.get(*object).ok_or_else(nothing_here)?;
                Ok(json_response(StatusCode::OK, &schema.describe(object)))
            }
            ("GET", ["query"]) => self.query(request, version),
            ("GET", ["query", locator]) => self.next_page(locator, version),
            ("DELETE", ["composite", "sobjects"]) => self.delete_collection(request, journal),
            ("PATCH" | "POST", ["composite", "sobjects", path @ ..]) => {
                self.write_collection(path, request, journal)
            }
            (_, ["sobjects" | "query" | "composite", ..]) => Err(no_such_method(request.method.as_str())),
            (_, _) => Err(nothing_here()),
        }
    }

    fn query(&mut self, request: &Request<'_>, version: &str) -> Answer {
        let text = request.query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("q="));
        let text = text.and_then(decoded).ok_or_else(|| bad("MALFORMED_QUERY", "q is missing"))?;
        self.page_of(&text, 0, version)
    }

    /// Where a question goes on is written into its locator.
    fn next_page(&mut self, locator: &str, version: &str) -> Answer {
        let (from, text) = locator.split_once('-').ok_or_else(nothing_here)?;
        let from = from.parse().map_err(|_| bad("INVALID_QUERY_LOCATOR", "invalid query locator"))?;
        let text = decoded(text).ok_or_else(|| bad("INVALID_QUERY_LOCATOR", "invalid query locator"))?;
        self.page_of(&text, from, version)
    }

    fn page_of(&mut self, text: &str, from: usize, version: &str) -> Answer {
        let question = query::read(text).map_err(|why| bad("MALFORMED_QUERY", why))?;
        let invalid = || bad("INVALID_TYPE", format!("sObject type '{}' is not supported.", question.object));
        let schema = self.api.schemas.get(&question.object).ok_or_else(invalid)?;
        let records = self.api.objects.get(&question.object).ok_or_else(invalid)?;
        let all = query::answer(&question, schema, records).map_err(|why| bad("INVALID_FIELD", why))?;
        let page: Vec<_> = all.iter().skip(from).take(self.page).collect();
        let next = from.saturating_add(page.len());
        let mut answer = json!({"totalSize": all.len(), "done": next >= all.len(), "records": page});
        if next < all.len()
            && let Some(members) = answer.as_object_mut()
        {
            let locator: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let url = format!("/services/data/{version}/query/{next}-{locator}");
            members.insert("nextRecordsUrl".to_owned(), json!(url));
        }
        Ok(json_response(StatusCode::OK, &answer))
    }
}

/// A part of a URL as text.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push(match byte {
            b'+' => b' ',
            b'%' => u8::try_from(hex(bytes.next())? * 16 + hex(bytes.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

impl Dialect for Salesforce {
    fn authorized(&self, request: &Request<'_>) -> bool {
        request.path == TOKEN_PATH || self.api.authorized(request)
    }

    fn refuse(&self, refusal: Refusal, request: &Request<'_>) -> Response<Bytes> {
        self.api.refuse(refusal, request)
    }

    fn says_retry_after(&self) -> bool {
        false
    }

    fn respond(&mut self, request: &Request<'_>, journal: &mut Journal) -> Response<Bytes> {
        if request.path == TOKEN_PATH {
            if request.method != Method::POST {
                return refused(no_such_method(request.method.as_str()));
            }
            // A session that is open is given again, as Salesforce does.
            return self.app.grant(request.headers, request.body, request.now.wall, &self.api.token);
        }
        if request.path.contains("/jobs/ingest") {
            return self.api.respond(request, journal);
        }
        self.route(request, journal).unwrap_or_else(refused)
    }

    fn takes(&self, request: &Request<'_>) -> Duration {
        if request.path.contains("/composite/") { self.takes } else { Duration::ZERO }
    }

    fn decorate(&self, limits: &mut Limits, now: Moment, headers: &mut HeaderMap) {
        self.api.decorate(limits, now, headers);
    }
}
