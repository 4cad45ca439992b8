//! A twin that keeps every request as it came, to be compared with those of other clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, Method, header::CONTENT_TYPE};
use serde::Serialize;

use crate::{
    desk::{Reply, Twin},
    faults::Script,
    journal::Journal,
};

/// A request as it came, without its credential. Has no `Debug`: it holds row values.
#[derive(Clone, Serialize)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header `content-type`.
    pub content_type: Option<String>,
    /// The body as text.
    pub body: String,
    /// The answer's status; nothing if the connection broke.
    pub status: Option<u16>,
}

/// A twin and the requests that it got. Clones share both.
#[derive(Clone)]
pub struct Recording<T> {
    twin: T,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
}

impl<T: Twin> Recording<T> {
    /// Records what reaches this twin from now on.
    pub fn of(twin: T) -> Self {
        Self { twin, requests: Arc::default() }
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: Twin> Twin for Recording<T> {
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let reply = self.twin.handle(method, path, headers, body);
        let content_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let status = reply.outcome.as_ref().ok().map(|answer| answer.status().as_u16());
        let body = String::from_utf8_lossy(body).into_owned();
        let request =
            RecordedRequest { method: method.to_string(), path: path.to_owned(), content_type, body, status };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        reply
    }

    fn journal(&self) -> Journal {
        self.twin.journal()
    }

    fn held(&self) -> BTreeMap<String, usize> {
        self.twin.held()
    }

    fn set_faults(&self, script: Script) {
        self.twin.set_faults(script);
    }
}
