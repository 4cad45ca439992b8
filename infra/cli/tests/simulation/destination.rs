//! The destination: a batch twin in this process, and everything that it was ever told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_destinations::Transport;
use penstock_destinations::http::transport::{Request, Response, Sent, TransportError, TransportErrorKind};
use penstock_model::port::Boxed;
use penstock_twins::{Action, Auth, BatchTwin, Broken, RowError, Twin};
use serde_json::Value;

use crate::platform::die;
use crate::table::Row;
use crate::world::Dice;

/// Where the twin is thought to be.
pub(crate) const ADDRESS: &str = "http://twin";
/// The object that is synced.
pub(crate) const OBJECT: &str = "customers";

/// One operation that the destination carried out.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) id: i64,
    pub(crate) action: Action,
    /// The row, unless it was removed.
    pub(crate) row: Option<Row>,
    /// The request that carried it.
    pub(crate) request: u64,
}

/// The destination with its history.
#[derive(Clone)]
pub(crate) struct Destination {
    pub(crate) twin: BatchTwin,
    dice: Dice,
    history: Arc<Mutex<Vec<Told>>>,
    /// Requests of each day.
    days: Arc<Mutex<BTreeMap<u64, u32>>>,
    began: tokio::time::Instant,
    /// The rows that kill whoever sends them.
    deadly: Arc<Mutex<Vec<i64>>>,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destination")
    }
}

impl Destination {
    pub(crate) fn new(builder: penstock_twins::BatchTwinBuilder, dice: Dice) -> Self {
        let twin = builder
            .auth(Auth::Bearer("token".to_owned()))
            .refuse_rows(|_, record| {
                (record["bad"] == true).then(|| RowError::of_field("invalid", "it is bad", "bad"))
            })
            .build();
        Self {
            twin,
            dice,
            history: Arc::default(),
            days: Arc::default(),
            began: tokio::time::Instant::now(),
            deadly: Arc::default(),
        }
    }

    pub(crate) fn history(&self) -> Vec<Told> {
        self.history.lock().unwrap().clone()
    }

    /// Whoever sends one of these rows dies of it.
    pub(crate) fn kills(&self, ids: &[i64]) {
        *self.deadly.lock().unwrap() = ids.to_vec();
    }

    fn is_deadly(&self, request: &Request) -> bool {
        let deadly = self.deadly.lock().unwrap();
        if deadly.is_empty() {
            return false;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let ids = body["records"].as_array().unwrap().iter().filter_map(|record| record["id"].as_i64());
        ids.into_iter().any(|id| deadly.contains(&id))
    }

    /// What the destination holds now, by id.
    pub(crate) fn records(&self) -> BTreeMap<i64, Row> {
        self.twin.records(OBJECT).iter().map(Row::of_record).map(|row| (row.id.unwrap(), row)).collect()
    }

    /// What was appended, in that order.
    pub(crate) fn appended(&self) -> Vec<Row> {
        self.twin.appended(OBJECT).iter().map(Row::of_record).collect()
    }

    /// The requests of the day that had most.
    pub(crate) fn most_in_a_day(&self) -> u32 {
        self.days.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    fn note(&self, before: usize, request: &Request) {
        let journal = self.twin.applied_since(before);
        if journal.is_empty() {
            return;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let mut sent: Vec<Row> = body["records"].as_array().unwrap().iter().map(Row::of_record).collect();
        let mut history = self.history.lock().unwrap();
        for applied in journal {
            // What is appended need not have a key.
            let Ok(id) = applied.key.parse() else { continue };
            // A key may come twice.
            let row = sent.remove(sent.iter().position(|row| row.id == Some(id)).unwrap());
            let row = Some(row).filter(|_| !request.url.ends_with("/delete"));
            history.push(Told { id, action: applied.action, row, request: applied.request });
        }
    }
}

impl Destination {
    async fn receive(self, request: Request) -> Result<Response, TransportError> {
        let broken = |sent| TransportError { sent, kind: TransportErrorKind::Broken, source: None };
        let path = request.url.strip_prefix(ADDRESS).unwrap();
        tokio::time::sleep(Duration::from_millis(self.dice.between(1, 30))).await;
        let day = self.began.elapsed().as_secs() / 86_400;
        *self.days.lock().unwrap().entry(day).or_default() += 1;
        let before = self.twin.applied_so_far();
        let reply = self.twin.handle(&request.method, path, &request.headers, &request.whole_body());
        self.note(before, &request);
        tokio::time::sleep(reply.after + Duration::from_millis(self.dice.between(1, 30))).await;
        match reply.outcome {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
            }
            Err(Broken::Reset | Broken::AnswerLost | Broken::Truncated { .. }) => Err(broken(Sent::Maybe)),
        }
    }
}

impl Transport for Destination {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        if self.is_deadly(&request) {
            return Box::pin(die());
        }
        // What was sent arrives, also if its sender dies at this moment.
        let received = tokio::spawn(self.clone().receive(request));
        Box::pin(async move { received.await.unwrap() })
    }
}
