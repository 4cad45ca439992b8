//! The job twin: an asynchronous bulk API in the shape of Salesforce's Bulk API 2.0 for ingest.
//!
//! A job is made, given its rows as CSV once, closed, asked for its state until it has ended, and asked for what came of each
//! row. Facts from Salesforce's Bulk API 2.0 Developer Guide: "Create a Job", "Upload Job Data", "Understanding Bulk API 2.0
//! Ingest", "Get All Jobs", "Limits and Allocations".

use std::{collections::BTreeMap, io, sync::Arc};

use axum::http::{HeaderMap, Method};

use crate::{
    desk::{Reply, Setting, SharedDesk, Twin},
    faults::Script,
    journal::Journal,
    row_error::RowError,
    server::RunningTwin,
    window::RateLimit,
};

pub(crate) mod api;
mod csv;
pub(crate) mod job;
pub(crate) mod process;

pub use job::{JobState, JobWait};
pub use process::JobRecord;

use api::Api;
use process::Object;

pub(crate) type RefuseRow = dyn Fn(&str, &JobRecord) -> Option<RowError> + Send + Sync;

/// The simulated API. Clones share one state.
#[derive(Clone)]
pub struct JobTwin(SharedDesk<Api>);

/// Settings of a [`JobTwin`].
pub struct JobTwinBuilder {
    api: Api,
    setting: Setting,
}

/// A job, as it can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeen {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub state: JobState,
    /// Rows that were looked at.
    pub processed: usize,
    /// Rows among them that failed.
    pub failed: usize,
}

impl JobSeen {
    pub(crate) fn of(job: &job::Job) -> Self {
        let (processed, failed) = (job.done.len(), job.failed());
        Self { id: job.id.clone(), state: job.state, processed, failed }
    }
}

impl JobTwinBuilder {
    /// The bearer token asked for; `00D-twin` by default.
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.api.token);
        self
    }

    /// A field whose values identify the object's records. With one, no other can serve as `externalIdFieldName`; without any,
    /// every field can.
    pub fn external_id(mut self, object: &str, field: &str) -> Self {
        self.object(object).external_ids.push(field.to_owned());
        self
    }

    /// A field that every record of the object has.
    pub fn required(mut self, object: &str, field: &str) -> Self {
        self.object(object).required.push(field.to_owned());
        self
    }

    fn object(&mut self, object: &str) -> &mut Object {
        self.api.objects.entry(object.to_owned()).or_default()
    }

    /// How long a closed job waits; for one poll by default.
    pub fn queued(mut self, wait: JobWait) -> Self {
        self.api.queued = wait;
        self
    }

    /// How long a job is worked on; for one poll by default. Its rows are written at the end.
    pub fn running(mut self, wait: JobWait) -> Self {
        self.api.running = wait;
        self
    }

    /// The nth job, from 1, fails after so many of its rows.
    pub fn fail_job(mut self, nth: usize, after_rows: usize) -> Self {
        self.api.failing.insert(nth, after_rows);
        self
    }

    /// The bytes that a job's CSV may have, else 413; 100 MB by default.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.api.max_bytes = bytes;
        self
    }

    /// The jobs that a page of the list has; 1,000 by default.
    pub fn page(mut self, jobs: usize) -> Self {
        self.api.page = jobs.max(1);
        self
    }

    /// Refuses the rows of an object (first argument) for which this gives an error, such as `UNABLE_TO_LOCK_ROW`.
    pub fn refuse_rows(
        mut self,
        refuse: impl Fn(&str, &JobRecord) -> Option<RowError> + Send + Sync + 'static,
    ) -> Self {
        self.api.refuse_row = Some(Arc::new(refuse));
        self
    }

    // No limits by default; above a day's requests, 403 with `REQUEST_LIMIT_EXCEEDED`. Of faults, `refuse_rows` befalls the rows of an upload.
    crate::desk::settings!();

    /// The twin without a server.
    pub fn build(self) -> JobTwin {
        JobTwin(SharedDesk::new(self.api, self.setting))
    }

    /// The twin as a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(self) -> io::Result<RunningTwin<JobTwin>> {
        RunningTwin::start(self.build(), 0).await
    }
}

impl JobTwin {
    /// A twin with defaults, to be changed.
    pub fn builder() -> JobTwinBuilder {
        JobTwinBuilder { api: Api::new(), setting: Setting::new(RateLimit::UNLIMITED) }
    }

    /// From now on this token is asked for, as after a rotation.
    pub fn replace_token(&self, token: &str) {
        token.clone_into(&mut self.0.lock().dialect.token);
    }

    /// Puts a record into an object without a request, unnoted in the journal. Gives its id.
    pub fn seed<'a>(&self, object: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.0.lock().dialect.seed(object, fields)
    }

    /// The records of an object, by id.
    pub fn records(&self, object: &str) -> BTreeMap<String, JobRecord> {
        self.0.lock().dialect.objects.get(object).map(|object| object.records.clone()).unwrap_or_default()
    }

    /// How many records an object has.
    pub fn count(&self, object: &str) -> usize {
        self.0.lock().dialect.objects.get(object).map_or(0, |object| object.records.len())
    }

    /// The record whose field has this value.
    pub fn record(&self, object: &str, field: &str, value: &str) -> Option<JobRecord> {
        let desk = self.0.lock();
        let object = desk.dialect.objects.get(object)?;
        object.records.get(object.find(field, value)?).cloned()
    }

    /// The jobs that were made and not deleted, oldest first.
    pub fn jobs(&self) -> Vec<JobSeen> {
        self.0.lock().dialect.jobs.iter().map(JobSeen::of).collect()
    }
}

impl Twin for JobTwin {
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        self.0.handle(method, path, headers, body)
    }

    fn journal(&self) -> Journal {
        self.0.lock().journal.clone()
    }

    fn held(&self) -> BTreeMap<String, usize> {
        let desk = self.0.lock();
        desk.dialect.objects.iter().map(|(name, object)| (name.clone(), object.records.len())).collect()
    }

    fn set_faults(&self, script: Script) {
        self.0.set_faults(script);
    }
}
