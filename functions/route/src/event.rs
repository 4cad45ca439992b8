//! The events that route reads.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use penstock_model::contract::StartRequest;
use penstock_model::decode::decode_text;
use penstock_model::definition::WrittenBy;
use penstock_model::{Failure, FailureName, Timestamp};
use serde::Deserialize;
use serde_json::Value;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An object was written: perhaps an unload's manifest or marker.
    ObjectCreated {
        /// The bucket.
        bucket: String,
        /// The key; in these events it is not URL-encoded.
        key: String,
        /// The version: another ETag at the same key is another unload.
        etag: String,
    },
    /// A statement of a warehouse has ended: perhaps one that unloads.
    StatementEnded {
        /// Which one.
        statement: WrittenBy,
        /// This execution of it.
        id: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// A run has succeeded, and may have others wait for it.
    RunSucceeded {
        /// What was run.
        request: StartRequest,
        /// The run.
        run: String,
    },
    /// Something on its way, or an end that is told of elsewhere: starts nothing.
    Nothing {
        /// It in words.
        what: String,
    },
    /// One of the template's schedules is due.
    Schedule {
        /// Its name.
        name: String,
        /// Which time it was due.
        due: String,
    },
    /// It is time to look for syncs that are overdue.
    LookForOverdue {
        /// When it was due: ages are counted to this moment.
        due: Timestamp,
    },
    /// Somebody asks for one sync.
    Start {
        /// The execution's input.
        request: StartRequest,
        /// What tells this request from another like it.
        id: String,
    },
}

/// How a statement ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has done what it should.
    Finished,
    /// It has not; the warehouse's word for how.
    Broken(String),
}

impl Event {
    /// The event in words, for reports and messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::ObjectCreated { bucket, key, .. } => format!("object s3://{bucket}/{key}"),
            Self::StatementEnded { statement: WrittenBy::RedshiftStatement(name), id, .. } => {
                format!("Redshift statement {name} ({id})")
            }
            Self::StatementEnded { statement: WrittenBy::AthenaWorkgroup(name), id, .. } => {
                format!("query {id} of Athena workgroup {name}")
            }
            Self::RunSucceeded { request, run } => format!("run {run} of sync {}", request.sync),
            Self::Nothing { what } => what.clone(),
            Self::Schedule { name, .. } => format!("schedule {name}"),
            Self::LookForOverdue { due } => format!("look for overdue syncs at {}", due.rfc3339()),
            Self::Start { request, .. } => format!("request for sync {}", request.sync),
        }
    }
}

/// The part of S3's `Object Created` detail that matters; other members come and go.
#[derive(Deserialize)]
struct Created {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    etag: String,
}

/// The part of a Redshift Data API event's detail that matters. It is sent for statements that were submitted with
/// `WithEvent`: `FINISHED`, `FAILED` or `ABORTED`.
/// <https://docs.aws.amazon.com/redshift/latest/mgmt/data-api-monitoring-events.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedshiftStatement {
    #[serde(default)]
    statement_name: String,
    statement_id: String,
    state: String,
}

/// The part of an Athena event's detail that matters: `QUEUED`, `RUNNING`, then `SUCCEEDED`, `FAILED` or `CANCELLED`. The
/// query itself and where its result lies are not in it.
/// <https://docs.aws.amazon.com/athena/latest/ug/athena-events.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AthenaQuery {
    workgroup_name: String,
    query_execution_id: String,
    current_state: String,
}

/// The part of Step Functions' `Execution Status Change` detail that matters. `input` is null if input and output together
/// are too large for an event; a start request never is.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
#[derive(Deserialize)]
struct ExecutionStatus {
    name: String,
    status: String,
    input: Option<String>,
}

/// What the template's schedules send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Due {
    schedule: String,
    due: String,
}

/// What the template's look for overdue syncs sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookFor {
    look_for: Sought,
    due: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sought {
    Overdue,
}

/// Reads an event: an EventBridge envelope from S3, the Redshift Data API, Athena or Step Functions,
/// `{"schedule": …, "due": …}`, `{"look_for": "overdue", "due": …}`, or `{"sync": …}`. `invocation` is the
/// id of this invocation, which stays the same when the platform repeats it.
///
/// # Errors
/// `SyncInvalid` naming what is not understood; never the event's content.
pub fn read(event: Value, invocation: &str) -> Result<Event, Failure> {
    let has = |member: &str| event.get(member).is_some();
    if has("detail-type") {
        return read_envelope(event);
    }
    if has("schedule") {
        let due: Due = decode(event, "a schedule's event")?;
        return Ok(Event::Schedule { name: due.schedule, due: due.due });
    }
    if has("look_for") {
        let LookFor { look_for: Sought::Overdue, due } = decode(event, "a look for overdue syncs")?;
        let due = Timestamp::from_rfc3339(&due).ok_or_else(|| unreadable("its `due` is no time"))?;
        return Ok(Event::LookForOverdue { due });
    }
    if has("sync") {
        return Ok(Event::Start {
            request: decode(event, "a request for a sync")?,
            id: invocation.to_owned(),
        });
    }
    Err(unreadable(
        "it is none of: an EventBridge event, {\"schedule\": …}, {\"look_for\": …}, {\"sync\": …}",
    ))
}

fn read_envelope(event: Value) -> Result<Event, Failure> {
    let envelope: EventBridgeEvent<Value> = decode(event, "an EventBridge event")?;
    match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        ("aws.s3", "Object Created") => {
            let created: Created = decode(envelope.detail, "an S3 event's detail")?;
            Ok(Event::ObjectCreated {
                bucket: created.bucket.name,
                key: created.object.key,
                etag: created.object.etag,
            })
        }
        ("aws.redshift-data", "Redshift Data Statement Status Change") => {
            let RedshiftStatement { statement_name, statement_id, state } =
                decode(envelope.detail, "a Redshift Data API event's detail")?;
            Ok(statement_ended(WrittenBy::RedshiftStatement(statement_name), statement_id, state))
        }
        ("aws.athena", "Athena Query State Change") => {
            let AthenaQuery { workgroup_name, query_execution_id, current_state } =
                decode(envelope.detail, "an Athena event's detail")?;
            let query = WrittenBy::AthenaWorkgroup(workgroup_name);
            Ok(statement_ended(query, query_execution_id, current_state))
        }
        ("aws.states", "Step Functions Execution Status Change") => {
            run_ended(decode(envelope.detail, "a Step Functions event's detail")?)
        }
        (source, kind) => Err(unreadable(&format!("no sync is started by {kind} of {source}"))),
    }
}

fn statement_ended(statement: WrittenBy, id: String, state: String) -> Event {
    let outcome = match state.as_str() {
        "FINISHED" | "SUCCEEDED" => Outcome::Finished,
        "FAILED" | "ABORTED" | "CANCELLED" => Outcome::Broken(state),
        _ => {
            let event = Event::StatementEnded { statement, id, outcome: Outcome::Finished };
            return Event::Nothing { what: format!("{}, {state}", event.describe()) };
        }
    };
    Event::StatementEnded { statement, id, outcome }
}

fn run_ended(ExecutionStatus { name, status, input }: ExecutionStatus) -> Result<Event, Failure> {
    if status != "SUCCEEDED" {
        return Ok(Event::Nothing { what: format!("run {name}, {status}") });
    }
    let Some(input) = input else {
        return Err(unreadable("it tells of a run and lacks its input"));
    };
    Ok(Event::RunSucceeded { request: read_text(&input, "the input of a run")?, run: name })
}

fn decode<T: serde::de::DeserializeOwned>(value: Value, what: &str) -> Result<T, Failure> {
    read_text(&value.to_string(), what)
}

fn read_text<T: serde::de::DeserializeOwned>(json: &str, what: &str) -> Result<T, Failure> {
    decode_text(json)
        .map_err(|error| Failure::because(FailureName::SyncInvalid, format!("{what} can't be read"), error))
}

fn unreadable(why: &str) -> Failure {
    Failure::new(FailureName::SyncInvalid, format!("the event can't be read: {why}"))
}
