//! Which operations travel together, and which are due.

use std::collections::{BTreeMap, VecDeque};

use penstock_model::Timestamp;
use penstock_model::operation::Operation;

use super::encode::CompiledOperation;
use super::way::Step;

/// Rows that travel in one request.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) step: Step,
    /// The step's rows: positions among the operations of the delivery, of look-ups the numbers of keys.
    pub(super) rows: Vec<usize>,
    /// Bytes of the rows in a body.
    pub(super) bytes: usize,
    /// How often it was sent without an answer that decides.
    pub(super) attempts: u32,
    /// How often its credential was refused.
    pub(super) credentials_refused: u32,
    /// It is not sent again before this moment.
    pub(super) not_before: Timestamp,
    /// Whether it, or what it is a part of, was sent before.
    pub(super) sent_before: bool,
    /// Whether the witness was told that it will be sent.
    pub(super) intended: bool,
    /// Whether it may have been carried out and waits to be repeated with its idempotency key.
    pub(super) doubtful: bool,
    /// The idempotency key of this very request.
    pub(super) key: Option<String>,
    /// How many requests had succeeded when it first failed.
    pub(super) successes_before: Option<u64>,
    /// Whether it may be sent together with others.
    pub(super) mergeable: bool,
    /// Whether it is a part of a batch that was refused as a whole.
    pub(super) apart: bool,
}

impl Batch {
    fn new(step: Step) -> Self {
        Self {
            step,
            rows: Vec::new(),
            bytes: 0,
            attempts: 0,
            credentials_refused: 0,
            not_before: Timestamp(i64::MIN),
            sent_before: false,
            intended: false,
            doubtful: false,
            key: None,
            successes_before: None,
            mergeable: false,
            apart: false,
        }
    }

    /// Some of its rows, of which an answer said that they were not carried out, as a request of its own.
    pub(super) fn part(&self, rows: Vec<usize>, bytes: usize) -> Self {
        Self { rows, bytes, key: None, doubtful: false, ..self.clone() }
    }
}

/// Gathers rows, in their order, into batches of one step that keep to the limits of its operation.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    open: BTreeMap<Step, Batch>,
    apart: BTreeMap<(usize, Step), Batch>,
    full: VecDeque<Batch>,
}

impl Gatherer {
    /// Adds a row that was set apart by the push before, to others of its part.
    pub(super) fn add_apart(&mut self, step: Step, row: usize, part: usize, bytes: usize) {
        let batch =
            self.apart.entry((part, step)).or_insert_with(|| Batch { apart: true, ..Batch::new(step) });
        batch.rows.push(row);
        batch.bytes += bytes;
    }

    /// Adds the row with this number; `operation` is what is sent of it.
    pub(super) fn add(
        &mut self,
        step: Step,
        row: usize,
        operation: &Operation,
        compiled: &CompiledOperation,
    ) {
        let bytes = compiled.size_of(operation);
        let batch = self.open.entry(step).or_insert_with(|| Batch::new(step));
        let fits = batch.rows.len() < compiled.rows
            && batch.bytes + bytes + compiled.size_around() <= compiled.bytes;
        if !fits && !batch.rows.is_empty() {
            self.full.push_back(std::mem::replace(batch, Batch::new(step)));
        }
        batch.rows.push(row);
        batch.bytes += bytes;
    }

    /// The batches that nothing more fits into.
    pub(super) fn full(&mut self) -> VecDeque<Batch> {
        std::mem::take(&mut self.full)
    }

    /// All batches, full or not.
    pub(super) fn finish(&mut self) -> VecDeque<Batch> {
        self.full.extend(std::mem::take(&mut self.apart).into_values());
        self.full.extend(std::mem::take(&mut self.open).into_values().filter(|batch| !batch.rows.is_empty()));
        self.full()
    }
}

/// The batches that are still to be sent.
#[derive(Debug)]
pub(super) struct Queue {
    ready: VecDeque<Batch>,
    waiting: Vec<Batch>,
}

impl Queue {
    pub(super) fn new(ready: VecDeque<Batch>) -> Self {
        Self { ready, waiting: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.ready.iter().chain(&self.waiting)
    }

    /// Whether everything that is left waits for its time.
    pub(super) fn only_waits(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes batches that come before those that are there: what has begun is finished first.
    pub(super) fn put_first(&mut self, batches: VecDeque<Batch>) {
        for batch in batches.into_iter().rev() {
            self.ready.push_front(batch);
        }
    }

    /// The next batch that is due and may travel now; those sent before come first.
    pub(super) fn pop(&mut self, now: Timestamp, may_travel: impl Fn(&Batch) -> bool) -> Option<Batch> {
        let is_due = |batch: &Batch| batch.not_before <= now && may_travel(batch);
        if let Some(due) = self.waiting.iter().position(is_due) {
            return Some(self.waiting.swap_remove(due));
        }
        let next = self.ready.iter().position(&may_travel)?;
        self.ready.remove(next)
    }

    /// When the first batch becomes due that is not yet.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.waiting.iter().map(|batch| batch.not_before).filter(|due| *due > now).min()
    }

    pub(super) fn put_back(&mut self, batch: Batch) {
        self.ready.push_front(batch);
    }

    /// Takes what has to be sent again. Rows that failed by themselves are gathered, so that a few of each batch do not
    /// cost a request each.
    pub(super) fn again(&mut self, batch: Batch, compiled: &CompiledOperation) {
        let together = self.waiting.iter_mut().find(|other| {
            batch.mergeable
                && other.mergeable
                && other.step == batch.step
                && other.attempts == batch.attempts
                && other.intended == batch.intended
                && other.rows.len() + batch.rows.len() <= compiled.rows
                && other.bytes + batch.bytes + compiled.size_around() <= compiled.bytes
        });
        match together {
            Some(other) => {
                other.rows.extend(batch.rows);
                other.bytes += batch.bytes;
                other.not_before = other.not_before.max(batch.not_before);
                other.credentials_refused = other.credentials_refused.max(batch.credentials_refused);
            }
            None => self.waiting.push(batch),
        }
    }
}
