//! The events that route reads.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use penstock_model::contract::StartRequest;
use penstock_model::{Failure, FailureName};
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
    /// One of the template's schedules is due.
    Schedule {
        /// Its name.
        name: String,
        /// Which time it was due.
        due: String,
    },
    /// Somebody asks for one sync.
    Start {
        /// The execution's input.
        request: StartRequest,
        /// What tells this request from another like it.
        id: String,
    },
}

impl Event {
    /// The event in words, for reports and messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::ObjectCreated { bucket, key, .. } => format!("object s3://{bucket}/{key}"),
            Self::Schedule { name, .. } => format!("schedule {name}"),
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

/// What the template's schedules send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Due {
    schedule: String,
    due: String,
}

/// Reads an event: an EventBridge envelope from S3, `{"schedule": …, "due": …}`, or `{"sync": …}`. `invocation` is the
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
    if has("sync") {
        return Ok(Event::Start {
            request: decode(event, "a request for a sync")?,
            id: invocation.to_owned(),
        });
    }
    Err(unreadable("it is none of: an EventBridge event, {\"schedule\": …}, {\"sync\": …}"))
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
        (source, kind) => Err(unreadable(&format!("no sync is started by {kind} of {source}"))),
    }
}

fn decode<T: serde::de::DeserializeOwned>(value: Value, what: &str) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| Failure::because(FailureName::SyncInvalid, format!("{what} can't be read"), error))
}

fn unreadable(why: &str) -> Failure {
    Failure::new(FailureName::SyncInvalid, format!("the event can't be read: {why}"))
}
