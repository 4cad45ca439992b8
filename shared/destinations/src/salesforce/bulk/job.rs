//! One job: made, noted, given its rows, waited for, read, deleted, forgotten.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_model::operation::OperationKind;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::{Failure, FailureName};
use serde::Deserialize;
use serde_json::json;

use super::super::ID;
use super::super::connect::{Call, Course, Halt};
use super::super::deliver::Cursor;
use super::super::errors::{RowError, is_gone};
use super::super::values::Row;
use super::csv::{self, Results, Sheet, Told, ToldBy};
use super::{MOST_JOBS, Verb};
use crate::http::decode::Verdict;
use crate::http::transport::Method;

/// A small job is done in seconds: it is looked at after these many, and after that by the state machine.
const FIRST_LOOKS_S: [u64; 4] = [1, 2, 4, 8];
/// Between two looks of the state machine: from this many seconds upwards, to ten times as many.
const LOOK_S: u64 = 30;
/// Outcomes that are recorded together.
const LINES: usize = 2_000;

/// The jobs of one push.
pub(crate) struct Jobs<'a> {
    pub(crate) course: &'a Course<'a>,
    pub(crate) object: &'a str,
}

/// How a job stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    id: String,
    state: String,
    operation: String,
    #[serde(default)]
    number_records_processed: u64,
    #[serde(default)]
    number_records_failed: u64,
}

impl Standing {
    fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "JobComplete" | "Failed" | "Aborted")
    }

    /// Whether not one of its rows was carried out, nor will be.
    fn has_done_nothing(&self) -> bool {
        self.state == "Aborted" && self.number_records_processed == 0
    }
}

/// What is left of rows once their job has ended.
struct Ended {
    /// Those without an outcome. They may be sent.
    left: Vec<Row>,
    /// Those of them that were announced, and surely not carried out.
    released: Vec<u32>,
}

impl Jobs<'_> {
    fn path(&self, job: &str, rest: &str) -> String {
        format!("{}/jobs/ingest/{job}{rest}", self.course.door.base)
    }

    /// Sends rows as a job. Gives those that have no outcome yet once it has ended.
    pub(crate) async fn send(
        &self,
        verb: Verb,
        rows: Vec<Row>,
        cursor: &mut Cursor,
    ) -> Result<Vec<Row>, Halt> {
        let mut job = json!({
            "object": self.object, "operation": verb.name(), "contentType": "CSV", "lineEnding": "LF",
            "columnDelimiter": "COMMA",
        });
        if let (Verb::Upsert, Some(row), Some(members)) = (verb, rows.first(), job.as_object_mut())
            && let Some((field, _)) = &row.matched
        {
            members.insert("externalIdFieldName".to_owned(), json!(field));
        }
        let path = format!("{}/jobs/ingest", self.course.door.base);
        let answer = self.course.call(&Call::json(Method::POST, path, &job)).await?;
        if !(200..300).contains(&answer.status) {
            return Err(self.course.refused("to make a bulk job", &answer).into());
        }
        let Standing { id: job, .. } = read_standing(&answer.body)?;
        let once: Vec<u32> =
            if verb.is_unsafe() { rows.iter().map(|row| row.n).collect() } else { Vec::new() };
        // From here on whoever comes next finds it.
        self.course.witness.note_job(&job, &once).await?;
        cursor.polls = 0;
        let rows = Arc::new(rows);
        let upload = Call {
            method: Method::PUT,
            path: self.path(&job, "/batches"),
            content_type: Some("text/csv"),
            body: Bytes::new(),
            pieces: Some(Arc::new(Sheet::new(Arc::clone(&rows), verb))),
        };
        // One that is refused may be the repetition of one whose answer was lost: the job's state tells.
        self.course.call(&upload).await?;
        drop(upload);
        if !once.is_empty() {
            // A job without this call never begins.
            self.course.witness.intend(&once).await?;
        }
        let close = json!({ "state": "UploadComplete" });
        self.course.call(&Call::json(Method::PATCH, self.path(&job, ""), &close)).await?;
        let rows = Arc::try_unwrap(rows).unwrap_or_else(|shared| shared.to_vec());
        self.take_up(&job, &once, rows, cursor).await
    }

    /// Takes up a job of this chunk, as it is found. `once` are those of its rows that may not be sent again unless they were surely not
    /// carried out. Gives the rows that have no outcome yet once it has ended.
    pub(crate) async fn take_up(
        &self,
        job: &str,
        once: &[u32],
        rows: Vec<Row>,
        cursor: &mut Cursor,
    ) -> Result<Vec<Row>, Halt> {
        let once: BTreeSet<u32> = once.iter().copied().collect();
        for look in 0.. {
            let Some(standing) = self.look(job).await? else {
                // It is gone, with whatever came of it.
                let left = self.give_up(&once, rows).await?;
                self.course.witness.forget_job(job).await?;
                return Ok(left);
            };
            if standing.state == "Open" {
                // It never got all of its rows, or was not told that it has.
                self.abort(job).await?;
                if once.is_empty() {
                    self.delete(job).await?;
                    cursor.jobs += 1;
                    return Ok(rows);
                }
                // It may have begun at the last moment: what it has done is told once it has ended.
                if look == 0 {
                    continue;
                }
            }
            if standing.has_ended() {
                let Ended { left, released } = if standing.has_done_nothing() {
                    let released = rows.iter().map(|row| row.n).filter(|n| once.contains(n)).collect();
                    Ended { left: rows, released }
                } else {
                    self.read(&standing, &once, rows).await?
                };
                if !released.is_empty() {
                    self.course.witness.withdraw(&released).await?;
                }
                self.delete(job).await?;
                cursor.polls = 0;
                if standing.number_records_processed == 0 && !left.is_empty() && standing.state != "Aborted" {
                    tracing::warn!(
                        object = self.object,
                        state = standing.state,
                        "a bulk job took no row; they go by collections"
                    );
                    cursor.jobs = MOST_JOBS;
                } else if !left.is_empty() {
                    cursor.jobs += 1;
                }
                // What was taken back is announced anew by the push that sends it.
                return if released.is_empty() { Ok(left) } else { Err(Halt::Later(Duration::ZERO)) };
            }
            let wait = FIRST_LOOKS_S.get(look).filter(|_| cursor.polls == 0).copied();
            match wait {
                Some(seconds) => self.course.wait(Duration::from_secs(seconds)).await?,
                None => {
                    cursor.polls += 1;
                    let times = u64::from(cursor.polls.min(10));
                    return Err(Halt::Later(Duration::from_secs(LOOK_S * times)));
                }
            }
        }
        Ok(rows)
    }

    /// Sees to it that a job of an earlier run has ended.
    pub(crate) async fn end(&self, job: &str) -> Result<(), Halt> {
        for look in 0.. {
            match self.look(job).await? {
                None => {
                    self.course.witness.forget_job(job).await?;
                    return Ok(());
                }
                Some(standing) if standing.has_ended() => return self.delete(job).await,
                Some(_) if look == 0 => self.abort(job).await?,
                Some(_) => match FIRST_LOOKS_S.get(look) {
                    Some(seconds) => self.course.wait(Duration::from_secs(*seconds)).await?,
                    None => return Err(Halt::Later(Duration::from_secs(LOOK_S))),
                },
            }
        }
        Ok(())
    }

    async fn look(&self, job: &str) -> Result<Option<Standing>, Halt> {
        let answer = self.course.call(&Call::get(self.path(job, ""))).await?;
        match answer.status {
            404 => Ok(None),
            200..=299 => Ok(Some(read_standing(&answer.body)?)),
            _ => Err(self.course.refused("to tell of a bulk job", &answer).into()),
        }
    }

    async fn abort(&self, job: &str) -> Result<(), Halt> {
        // Where it is refused, the job has just ended.
        let state = json!({ "state": "Aborted" });
        self.course.call(&Call::json(Method::PATCH, self.path(job, ""), &state)).await?;
        Ok(())
    }

    /// Deletes a job that has ended, and forgets it. One that is not deleted vanishes after a week.
    async fn delete(&self, job: &str) -> Result<(), Halt> {
        let call = Call { method: Method::DELETE, ..Call::get(self.path(job, "")) };
        self.course.call(&call).await?;
        self.course.witness.forget_job(job).await?;
        Ok(())
    }

    /// Records that nobody knows what became of rows that may not be sent again; gives the others.
    async fn give_up(&self, once: &BTreeSet<u32>, rows: Vec<Row>) -> Result<Vec<Row>, Halt> {
        // A record that is only to be created is looked for before it is sent again.
        let is_lost = |row: &Row| row.kind == OperationKind::Append && once.contains(&row.n);
        let (lost, left): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_lost);
        if !lost.is_empty() {
            let why = "what became of the row's bulk job can't be found out any more";
            let line = |row: Row| ReceiptLine { n: row.n, outcome: Outcome::Unknown { why: why.to_owned() } };
            self.course.witness.record(lost.into_iter().map(line).collect()).await?;
        }
        Ok(left)
    }

    /// Records what came of a job's rows. Leaves those that have no outcome: they were not looked at, or may work later.
    async fn read(&self, standing: &Standing, once: &BTreeSet<u32>, rows: Vec<Row>) -> Result<Ended, Halt> {
        let Some(verb) = Verb::named(&standing.operation) else {
            return Ok(Ended { left: rows, released: Vec::new() });
        };
        let (by, mut open, mut left) = told_by(verb, once, rows);
        let sent = open.values().flatten().next();
        let first = csv::columns(sent.into_iter(), verb).into_iter().next().unwrap_or_default();
        let mut lines = Vec::new();
        let mut released = Vec::new();
        for told in self.results(&standing.id, "successfulResults", &by, "sf__Id").await? {
            let Some(row) = take(&mut open, &told) else { continue };
            let created = match verb {
                Verb::Insert => Some(true),
                Verb::Upsert => Some(told.created.eq_ignore_ascii_case("true")),
                Verb::Update => Some(false),
                Verb::Delete => None,
            };
            let id = (!told.id.is_empty()).then_some(told.id);
            lines.push(ReceiptLine { n: row.n, outcome: Outcome::Accepted { id, created } });
        }
        let mut back = |row: Row, left: &mut Vec<Row>| {
            released.extend(once.contains(&row.n).then_some(row.n));
            left.push(row);
        };
        if standing.number_records_failed > 0 || standing.state == "Failed" {
            for told in self.results(&standing.id, "failedResults", &by, "sf__Error").await? {
                let Some(row) = take(&mut open, &told) else { continue };
                let error = RowError::read(&told.error);
                let kind = row.operation().kind;
                match self.course.engine.verdict(kind, error.code, error.message, error.field)? {
                    Verdict::Done(outcome) if row.moved && is_gone(&outcome) => {
                        left.push(Row { id: None, moved: false, ..row });
                    }
                    Verdict::Done(outcome) => lines.push(ReceiptLine { n: row.n, outcome }),
                    Verdict::Found(_) | Verdict::Again(_) | Verdict::Resend | Verdict::Lost(_) => {
                        back(row, &mut left);
                    }
                }
            }
        }
        let is_open = open.values().any(|rows| !rows.is_empty());
        if verb.is_unsafe() && is_open {
            for told in self.results(&standing.id, "unprocessedrecords", &by, &first).await? {
                if let Some(row) = take(&mut open, &told) {
                    back(row, &mut left);
                }
            }
        }
        // What no list names of what may be said twice was not looked at.
        let unnamed: Vec<Row> = open.into_values().flatten().collect();
        left.extend(self.give_up(once, unnamed).await?);
        left.sort_by_key(|row| row.n);
        for lines in lines.chunks(LINES) {
            self.course.witness.record(lines.to_vec()).await?;
        }
        Ok(Ended { left, released })
    }

    async fn results(&self, job: &str, which: &str, by: &ToldBy, needs: &str) -> Result<Vec<Told>, Halt> {
        let mut results = Results::new(by.clone(), needs);
        let call = Call::get(self.path(job, &format!("/{which}")));
        let answer = self.course.call_into(&call, Some(&mut results)).await?;
        if !(200..300).contains(&answer.status) {
            return Err(self.course.refused("to give a bulk job's results", &answer).into());
        }
        Ok(results.finish()?)
    }
}

/// The rows of a job that has ended, by what its results tell them by; and those that were not in it.
fn told_by(
    verb: Verb,
    once: &BTreeSet<u32>,
    rows: Vec<Row>,
) -> (ToldBy, HashMap<String, VecDeque<Row>>, Vec<Row>) {
    let field = match verb {
        Verb::Delete | Verb::Insert => None,
        Verb::Upsert | Verb::Update => {
            rows.iter().find_map(|row| row.matched.as_ref().map(|(name, _)| name.clone()))
        }
    };
    let by = match (verb, &field) {
        (Verb::Insert, _) => ToldBy::Content,
        (_, field) => ToldBy::Column(field.clone().unwrap_or_else(|| ID.to_owned())),
    };
    let told = |row: &Row| match (verb, &row.matched, &field) {
        (Verb::Insert, ..) => Some(csv::content(row, verb)).filter(|_| once.contains(&row.n)),
        (_, Some((_, cell)), Some(_)) => Some(cell.plain()),
        (..) => row.id.clone(),
    };
    let mut open: HashMap<String, VecDeque<Row>> = HashMap::new();
    let mut left = Vec::new();
    for row in rows {
        match told(&row).filter(|_| Verb::of(&row) == verb) {
            // Of rows with the same key only the first was in the job; of rows that say the same all were.
            Some(key) if verb == Verb::Insert || !open.contains_key(&key) => {
                open.entry(key).or_default().push_back(row);
            }
            Some(_) | None => left.push(row),
        }
    }
    (by, open, left)
}

/// The row that a line tells of.
fn take(open: &mut HashMap<String, VecDeque<Row>>, told: &Told) -> Option<Row> {
    open.get_mut(&told.key)?.pop_front()
}

fn read_standing(body: &[u8]) -> Result<Standing, Failure> {
    serde_json::from_slice(body).map_err(|_| {
        let message = "Salesforce tells of a bulk job in a form that can't be read";
        Failure::new(FailureName::DestinationUnavailable, message)
    })
}
