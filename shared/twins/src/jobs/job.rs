//! One job: what it was asked to do, how far it is, and what came of its rows.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::csv::Style;
use crate::{clock::Moment, row_error::RowError};

/// What a job does with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    Insert,
    Update,
    Upsert,
    Delete,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Delete => "delete",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Delimiter {
    #[default]
    Comma,
    Tab,
    Semicolon,
    Pipe,
    Caret,
    Backquote,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum LineEnding {
    #[default]
    #[serde(rename = "LF")]
    Lf,
    #[serde(rename = "CRLF")]
    CrLf,
}

/// The body by which a job is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Wanted {
    pub(super) object: String,
    pub(super) operation: Verb,
    pub(super) external_id_field_name: Option<String>,
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) line_ending: LineEnding,
    #[serde(default)]
    pub(super) column_delimiter: Delimiter,
}

impl Wanted {
    pub(super) const fn style(&self) -> Style {
        let delimiter = match self.column_delimiter {
            Delimiter::Comma => ',',
            Delimiter::Tab => '\t',
            Delimiter::Semicolon => ';',
            Delimiter::Pipe => '|',
            Delimiter::Caret => '^',
            Delimiter::Backquote => '`',
        };
        let line_end = match self.line_ending {
            LineEnding::Lf => "\n",
            LineEnding::CrLf => "\r\n",
        };
        Style { delimiter, line_end }
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It was made and waits for its rows.
    Open,
    /// It has its rows and waits to be worked on.
    UploadComplete,
    /// It is worked on.
    InProgress,
    /// It is done; rows may have failed.
    JobComplete,
    /// It ended before all rows were looked at.
    Failed,
    /// Its maker ended it.
    Aborted,
}

impl JobState {
    /// As the API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::UploadComplete => "UploadComplete",
            Self::InProgress => "InProgress",
            Self::JobComplete => "JobComplete",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
        }
    }

    pub(super) const fn has_ended(self) -> bool {
        matches!(self, Self::JobComplete | Self::Failed | Self::Aborted)
    }
}

/// How long a job stays in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobWait {
    /// Until its state was asked for so many times.
    Polls(u32),
    /// For this time.
    Time(Duration),
}

/// A row that was looked at.
pub(crate) struct Done {
    pub(super) row: usize,
    pub(super) id: String,
    /// Whether the record is new, or why the row failed.
    pub(super) result: Result<bool, RowError>,
}

pub(crate) struct Job {
    /// Its number among all that were made, from 1.
    pub(super) number: usize,
    pub(super) id: String,
    pub(super) wanted: Wanted,
    pub(super) version: String,
    pub(super) state: JobState,
    pub(super) created: String,
    /// The uploaded CSV.
    pub(super) data: Option<String>,
    /// Errors that the fault script has given to rows when they were uploaded, by position.
    pub(super) scripted: Vec<Option<RowError>>,
    /// The columns, and the rows in the order sent; known once the job is worked on.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) done: Vec<Done>,
    pub(super) error: Option<String>,
    polls: u32,
    since: Duration,
}

impl Job {
    pub(super) fn new(number: usize, version: &str, wanted: Wanted, now: Moment) -> Self {
        Self {
            number,
            id: format!("750{number:015}"),
            wanted,
            version: version.to_owned(),
            state: JobState::Open,
            created: now.rfc3339(),
            data: None,
            scripted: Vec::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            done: Vec::new(),
            error: None,
            polls: 0,
            since: now.since_start,
        }
    }

    pub(super) fn enter(&mut self, state: JobState, now: Moment) {
        (self.state, self.polls, self.since) = (state, 0, now.since_start);
    }

    /// Whether the job has been in its state for so long.
    pub(super) fn waited(&self, wait: JobWait, now: Moment) -> bool {
        match wait {
            JobWait::Polls(polls) => self.polls >= polls,
            JobWait::Time(time) => now.since_start >= self.since.saturating_add(time),
        }
    }

    pub(super) fn polled(&mut self) {
        self.polls = self.polls.saturating_add(1);
    }

    pub(super) fn failed(&self) -> usize {
        self.done.iter().filter(|done| done.result.is_err()).count()
    }

    /// The job as the API shows it.
    pub(super) fn info(&self) -> Value {
        let style = self.wanted.style();
        let mut info = json!({
            "id": self.id, "operation": self.wanted.operation.name(), "object": self.wanted.object,
            "createdDate": self.created, "systemModstamp": self.created, "state": self.state.name(),
            "concurrencyMode": "Parallel", "contentType": "CSV",
            "apiVersion": self.version.trim_start_matches('v').parse::<f64>().unwrap_or_default(),
            "jobType": "V2Ingest",
            "lineEnding": if style.line_end == "\n" { "LF" } else { "CRLF" },
            "columnDelimiter": format!("{:?}", self.wanted.column_delimiter).to_uppercase(),
        });
        if let Some(info) = info.as_object_mut() {
            if let Some(field) = &self.wanted.external_id_field_name {
                info.insert("externalIdFieldName".to_owned(), json!(field));
            }
            if self.state == JobState::Open {
                let url = format!("services/data/{}/jobs/ingest/{}/batches", self.version, self.id);
                info.insert("contentUrl".to_owned(), json!(url));
            }
        }
        info
    }

    /// The job with its counts, as the API shows a single one.
    pub(super) fn details(&self) -> Value {
        let mut details = self.info();
        if let Some(members) = details.as_object_mut() {
            members.insert("retries".to_owned(), json!(0));
            members.insert("numberRecordsProcessed".to_owned(), json!(self.done.len()));
            members.insert("numberRecordsFailed".to_owned(), json!(self.failed()));
            if let Some(error) = &self.error {
                members.insert("errorMessage".to_owned(), json!(error));
            }
        }
        details
    }
}
