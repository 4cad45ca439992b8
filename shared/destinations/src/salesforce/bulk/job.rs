//! One job: made, noted, given its rows, waited for, read, deleted, forgotten.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::{Failure, FailureName};
use serde::Deserialize;
use serde_json::json;

use super::super::ID;
use super::super::connect::{Call, Course, Halt};
use super::super::deliver::Cursor;
use super::super::errors::{RowError, is_gone};
use super::super::values::Row;
use super::{MOST_JOBS, Verb, csv};
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
        let body = csv::write(&rows, verb)?;
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
        // From here on whoever comes next finds it.
        self.course.witness.note_job(&job).await?;
        cursor.polls = 0;
        let upload = Call {
            method: Method::PUT,
            path: self.path(&job, "/batches"),
            content_type: Some("text/csv"),
            body: Bytes::from(body),
        };
        // One that is refused may be the repetition of one whose answer was lost: the job's state tells.
        self.course.call(&upload).await?;
        let close = json!({ "state": "UploadComplete" });
        self.course.call(&Call::json(Method::PATCH, self.path(&job, ""), &close)).await?;
        self.take_up(&job, rows, cursor).await
    }

    /// Takes up a job of this chunk, as it is found. Gives the rows that have no outcome yet once it has ended.
    pub(crate) async fn take_up(
        &self,
        job: &str,
        rows: Vec<Row>,
        cursor: &mut Cursor,
    ) -> Result<Vec<Row>, Halt> {
        for look in 0.. {
            let Some(standing) = self.look(job).await? else {
                // It is gone, with whatever came of it.
                self.course.witness.forget_job(job).await?;
                return Ok(rows);
            };
            if standing.state == "Open" {
                // It never got all of its rows, or was not told that it has.
                self.abort(job).await?;
                self.delete(job).await?;
                cursor.jobs += 1;
                return Ok(rows);
            }
            if standing.has_ended() {
                let left = self.read(&standing, rows).await?;
                self.delete(job).await?;
                cursor.polls = 0;
                if standing.number_records_processed == 0 && !left.is_empty() {
                    tracing::warn!(
                        object = self.object,
                        state = standing.state,
                        "a bulk job took no row; they go by collections"
                    );
                    cursor.jobs = MOST_JOBS;
                } else if !left.is_empty() {
                    cursor.jobs += 1;
                }
                return Ok(left);
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

    /// Records what came of a job's rows. Gives those that have no outcome: they were not looked at, or may work later.
    async fn read(&self, standing: &Standing, rows: Vec<Row>) -> Result<Vec<Row>, Halt> {
        let Some(verb) = Verb::named(&standing.operation) else { return Ok(rows) };
        // What tells a row: the columns that were sent come back.
        let field = match verb {
            Verb::Delete => None,
            Verb::Upsert | Verb::Update => {
                rows.iter().find_map(|row| row.matched.as_ref().map(|(name, _)| name.clone()))
            }
        };
        let told = |row: &Row| match (&row.matched, &field) {
            (Some((_, cell)), Some(_)) => Some(cell.plain()),
            (_, _) => row.id.clone(),
        };
        let column = field.as_deref().unwrap_or(ID);
        let mut open: HashMap<String, Row> = HashMap::new();
        let mut left = Vec::new();
        for row in rows {
            match told(&row) {
                // Of rows with the same key only the first was in the job.
                Some(key) if Verb::of(&row) == Some(verb) && !open.contains_key(&key) => {
                    drop(open.insert(key, row));
                }
                Some(_) | None => left.push(row),
            }
        }
        let mut lines = Vec::new();
        let accepted = self.results(&standing.id, "successfulResults").await?;
        csv::read(&accepted, &[column, "sf__Id", "sf__Created"], |cells| {
            let [key, id, created] = cells else { return };
            let Some(row) = open.remove(*key) else { return };
            let created = match verb {
                Verb::Upsert => Some(created.eq_ignore_ascii_case("true")),
                Verb::Update => Some(false),
                Verb::Delete => None,
            };
            let id = (!id.is_empty()).then(|| (*id).to_owned());
            lines.push(ReceiptLine { n: row.n, outcome: Outcome::Accepted { id, created } });
        })?;
        drop(accepted);
        if standing.number_records_failed > 0 || standing.state == "Failed" {
            let failed = self.results(&standing.id, "failedResults").await?;
            let mut refused: Vec<(Row, Verdict)> = Vec::new();
            let engine = self.course.engine;
            let mut broken = None;
            csv::read(&failed, &[column, "sf__Error"], |cells| {
                let [key, error] = cells else { return };
                let Some(row) = open.remove(*key) else { return };
                let error = RowError::read(error);
                match engine.verdict(row.operation().kind, error.code, error.message, error.field) {
                    Ok(verdict) => refused.push((row, verdict)),
                    Err(failure) => broken = Some(failure),
                }
            })?;
            if let Some(failure) = broken {
                return Err(failure.into());
            }
            for (row, verdict) in refused {
                match verdict {
                    Verdict::Done(outcome) if row.moved && is_gone(&outcome) => {
                        left.push(Row { id: None, moved: false, ..row });
                    }
                    Verdict::Done(outcome) => lines.push(ReceiptLine { n: row.n, outcome }),
                    Verdict::Found(_) | Verdict::Again(_) | Verdict::Resend | Verdict::Lost(_) => {
                        left.push(row);
                    }
                }
            }
        }
        left.extend(open.into_values());
        left.sort_by_key(|row| row.n);
        for lines in lines.chunks(LINES) {
            self.course.witness.record(lines.to_vec()).await?;
        }
        Ok(left)
    }

    async fn results(&self, job: &str, which: &str) -> Result<Bytes, Halt> {
        let answer = self.course.call(&Call::get(self.path(job, &format!("/{which}")))).await?;
        if !(200..300).contains(&answer.status) {
            return Err(self.course.refused("to give a bulk job's results", &answer).into());
        }
        Ok(answer.body)
    }
}

fn read_standing(body: &[u8]) -> Result<Standing, Failure> {
    serde_json::from_slice(body).map_err(|_| {
        let message = "Salesforce tells of a bulk job in a form that can't be read";
        Failure::new(FailureName::DestinationUnavailable, message)
    })
}
