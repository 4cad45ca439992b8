//! Stateful simulators of destination APIs with scripted faults.
//!
//! A twin is a small stand-in for an API: it keeps what it was sent, is strict where the API is strict, enforces
//! rate limits, misbehaves by script, and answers typed questions about what reached it.
//!
//! - [`HubSpotTwin`]: the batch calls of HubSpot's CRM objects.
//! - [`BatchTwin`]: a generic JSON API that takes batches of records.
//! - [`ConnectorTwin`]: any HTTP API that a connector file describes.
//! - [`JobTwin`]: asynchronous CSV jobs, as Salesforce's Bulk API 2.0 has them.
//! - [`SalesforceTwin`]: an org: token endpoint, sObject Collections, bulk jobs, descriptions, questions.
//!
//! All run as a real HTTP server on loopback (`builder().start()`), as an [`axum::Router`]
//! ([`Twin::router`]) and without any transport ([`Twin::handle`]).
//!
//! Time is tokio's clock ([`tokio::time::Instant`]): a test that pauses time also pauses a twin's rate limits.
//!
//! ```
//! use penstock_twins::{HubSpotTwin, Twin, http::{HeaderMap, Method}};
//!
//! let twin = HubSpotTwin::builder().token("secret").build();
//! let reply = twin.handle(&Method::POST, "/crm/v3/objects/contacts/batch/read", &HeaderMap::new(), b"{}");
//! assert_eq!(reply.outcome.unwrap().status(), 401);
//! ```

pub use axum::http;

mod batch;
mod clock;
mod connector;
mod desk;
mod faults;
mod form;
mod hubspot;
mod jobs;
mod journal;
mod recording;
mod row_error;
mod salesforce;
mod server;
mod window;

pub use batch::{Auth, BatchTwin, BatchTwinBuilder, RowErrors};
pub use connector::{ConnectorRecord, ConnectorTwin, ConnectorTwinBuilder, RefusedRows};
pub use desk::{Broken, Reply, Twin};
pub use faults::{Fault, RetryAfter, Rule, Script, ScriptError, When};
pub use hubspot::{
    HubSpotRecord, HubSpotTwin, HubSpotTwinBuilder, InvalidRows, Kind, Property, ResultOrder, Schema,
};
pub use jobs::{JobRecord, JobSeen, JobState, JobTwin, JobTwinBuilder, JobWait};
pub use journal::{Action, Applied, Counts, Ended, Journal};
pub use recording::{RecordedRequest, Recording};
pub use row_error::RowError;
pub use salesforce::{SalesforceKind, SalesforceTwin, SalesforceTwinBuilder, Schema as SalesforceSchema};
pub use server::RunningTwin;
pub use window::{RateLimit, account_limits, most_within};
