//! One push: what is there is asked for, what is many goes as a job, the rest through the engine.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use penstock_model::operation::Operation;
use penstock_model::outcome::ReceiptLine;
use penstock_model::port::Boxed;
use penstock_model::report::ApiUsage;
use penstock_model::{Failure, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SalesforceDestination;
use super::batch::waves;
use super::bulk;
use super::connect::{Course, Halt};
use super::errors::is_gone;
use super::resolve::resolve;
use super::table::table;
use super::values::{Row, read};
use crate::destination::{JobMaker, Rest, Spending, Witness, Work};
use crate::http::HttpDestination;

/// Before the end nothing is sent any more, for an answer takes its time.
const RESERVE: Duration = Duration::from_secs(3);

/// What a push tells the next one. A hint, which may get lost.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// The engine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    engine: Option<Box<RawValue>>,
    /// How often the job under way was found to be under way.
    #[serde(default)]
    pub(super) polls: u32,
    /// How many jobs have ended without settling all of their rows.
    #[serde(default)]
    pub(super) jobs: u32,
}

impl Cursor {
    fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn engine(&self) -> Option<String> {
        self.engine.as_ref().map(|json| json.get().to_owned())
    }
}

/// Delivers a push's operations.
pub(super) async fn deliver(to: &SalesforceDestination, work: Work<'_>) -> Result<Rest, Failure> {
    if work.operations.is_empty() && work.jobs.iter().all(|noted| noted.in_doubt.is_empty()) {
        return Ok(Rest::Nothing);
    }
    let reserve = i64::try_from(RESERVE.as_millis()).unwrap_or(i64::MAX);
    let last_send = Timestamp(work.until.0.saturating_sub(reserve));
    if to.parts.clock.now() >= last_send {
        return Ok(Rest::Paused { cursor: work.cursor, resume_after: Duration::ZERO });
    }
    let mut cursor = Cursor::read(work.cursor.as_deref());
    match push(to, work, last_send, &mut cursor).await {
        Ok(()) => Ok(Rest::Nothing),
        Err(Halt::Later(resume_after)) => {
            Ok(Rest::Paused { cursor: serde_json::to_string(&cursor).ok(), resume_after })
        }
        Err(Halt::Failed(failure)) => Err(failure),
    }
}

async fn push(
    to: &SalesforceDestination,
    work: Work<'_>,
    last_send: Timestamp,
    cursor: &mut Cursor,
) -> Result<(), Halt> {
    work.witness.may_send().await?;
    let definition = to.door.definition(&to.definition, &to.parts).await?;
    let engine = HttpDestination::open(&definition, &to.connector, to.parts.clone(), to.width)?;
    let course = Course {
        door: &to.door,
        parts: &to.parts,
        witness: work.witness,
        engine: &engine,
        last_send,
        until: work.until,
    };
    let table = table(&course, &to.definition).await?;
    let read = |operation: &Operation| read(operation, &to.definition.sync, &table, to.matched.as_deref());
    let mut rows = Vec::with_capacity(work.operations.len());
    let mut unready = Vec::new();
    // Each is dropped once it is read: a chunk may be large.
    for operation in work.operations {
        match read(&operation) {
            Ok(row) => rows.push(row),
            Err(it) => unready.push(ReceiptLine { n: it.n, outcome: it.outcome }),
        }
    }
    if !unready.is_empty() {
        work.witness.record(unready).await?;
    }
    let jobs = bulk::Jobs { course: &course, object: &to.definition.sync.object };
    let (ours, others): (Vec<_>, Vec<_>) =
        work.jobs.into_iter().partition(|noted| noted.maker == JobMaker::ThisChunk);
    for noted in others {
        jobs.end(&noted.job).await?;
    }
    for noted in ours {
        rows.extend(noted.in_doubt.iter().filter_map(|operation| read(operation).ok()));
        rows.sort_by_key(|row| row.n);
        rows = jobs.take_up(&noted.job, &noted.once, rows, cursor).await?;
    }
    loop {
        rows = resolve(&course, jobs.object, &table, rows).await?;
        match bulk::choose(to.api, rows, cursor.jobs, &table) {
            bulk::Choice::Job { verb, rows: chosen, rest } => {
                let left = jobs.send(verb, chosen, cursor).await?;
                rows = left.into_iter().chain(rest).collect();
                // Their order is that of their changes.
                rows.sort_by_key(|row| row.n);
            }
            bulk::Choice::Collections(rest) => return collections(&course, rest, cursor).await,
        }
    }
}

/// Sends rows through the engine, wave by wave.
async fn collections(course: &Course<'_>, rows: Vec<Row>, cursor: &mut Cursor) -> Result<(), Halt> {
    for wave in waves(rows) {
        let gone = wave_of(course, &wave, cursor).await?;
        if gone.is_empty() {
            continue;
        }
        // The remembered record is not there any more: then the row is one as any other.
        let again: Vec<Row> = wave
            .into_iter()
            .filter(|row| gone.contains(&row.n))
            .map(|row| Row { id: None, moved: false, ..row })
            .collect();
        wave_of(course, &again, cursor).await?;
    }
    Ok(())
}

/// Sends one wave; gives the rows whose remembered record is gone, which have no outcome yet.
async fn wave_of(course: &Course<'_>, wave: &[Row], cursor: &mut Cursor) -> Result<HashSet<u32>, Halt> {
    let moved = wave.iter().filter(|row| row.moved).map(|row| row.n).collect();
    let witness = Sieve { inner: course.witness, moved, gone: Mutex::default() };
    let operations = wave.iter().map(Row::operation).collect();
    let parents: Vec<Vec<u64>> = wave.iter().map(|row| row.parents.clone()).collect();
    let work = Work {
        operations,
        cursor: cursor.engine(),
        jobs: Vec::new(),
        until: course.until,
        witness: &witness,
    };
    match course.engine.deliver_apart(work, &parents).await? {
        Rest::Nothing => Ok(witness.gone.into_inner().unwrap_or_else(PoisonError::into_inner)),
        Rest::Paused { cursor: engine, resume_after } => {
            cursor.engine = engine.and_then(|text| RawValue::from_string(text).ok());
            Err(Halt::Later(resume_after))
        }
    }
}

/// Holds back what is said of records that are gone, and hands all else on.
#[derive(Debug)]
struct Sieve<'a> {
    inner: &'a dyn Witness,
    moved: HashSet<u32>,
    gone: Mutex<HashSet<u32>>,
}

impl Witness for Sieve<'_> {
    fn may_send(&self) -> Boxed<'_, Result<(), Failure>> {
        self.inner.may_send()
    }

    fn spend(&self) -> Boxed<'_, Result<Spending, Failure>> {
        self.inner.spend()
    }

    fn intend<'a>(&'a self, ordinals: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        self.inner.intend(ordinals)
    }

    fn withdraw<'a>(&'a self, ordinals: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        self.inner.withdraw(ordinals)
    }

    fn record(&self, lines: Vec<ReceiptLine>) -> Boxed<'_, Result<(), Failure>> {
        let is_held = |line: &ReceiptLine| self.moved.contains(&line.n) && is_gone(&line.outcome);
        let (held, told): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_held);
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(held.iter().map(|line| line.n));
        self.inner.record(told)
    }

    fn note_job<'a>(&'a self, job: &'a str, once: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        self.inner.note_job(job, once)
    }

    fn forget_job<'a>(&'a self, job: &'a str) -> Boxed<'a, Result<(), Failure>> {
        self.inner.forget_job(job)
    }

    fn count(&self, usage: ApiUsage) {
        self.inner.count(usage);
    }
}
