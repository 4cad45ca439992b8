//! The one place that sends: several requests in flight, paced, retried as far as is safe, ended in time.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};
use penstock_model::outcome::ReceiptLine;
use penstock_model::{Failure, FailureName, Timestamp};

use super::HttpDestination;
use super::attempt::{Delivery, Report, Signal};
use super::batch::{Batch, Gatherer, Queue};
use super::cursor::Cursor;
use super::retry::{ATTEMPTS, backoff, calm_down};
use super::way::{Asked, Learnt, Next, Step, Ways};
use crate::destination::{Rest, Work};

/// Before the end nothing is sent any more, for an answer takes its time.
const RESERVE: Duration = Duration::from_secs(3);
/// From here on waiting is the state machine's, where it costs nothing; it waits for half a minute at least.
const LONG_WAIT: Duration = Duration::from_secs(20);

/// Delivers a push's operations. `parents` holds, for each of them, what it must not share with a request that is under way at the
/// same time; operations beyond its end share nothing.
pub(super) async fn deliver(
    destination: &HttpDestination,
    work: Work<'_>,
    parents: &[Vec<u64>],
) -> Result<Rest, Failure> {
    if work.operations.is_empty() {
        return Ok(Rest::Nothing);
    }
    let reserve = RESERVE.min(destination.answer_timeout);
    let asked = Asked::of(destination, &work.operations);
    let delivery = Delivery {
        destination,
        operations: &work.operations,
        parents,
        asked: &asked,
        witness: work.witness,
        last_send: Timestamp(
            work.until.0.saturating_sub(i64::try_from(reserve.as_millis()).unwrap_or(i64::MAX)),
        ),
        until: work.until,
    };
    if destination.parts.clock.now() >= delivery.last_send {
        return Ok(Rest::Paused { cursor: work.cursor, resume_after: Duration::ZERO });
    }
    let cursor = Cursor::read(work.cursor.as_deref());
    destination.pace().begin(destination.parts.clock.now(), &cursor.pace);
    let (queue, unsendable) = gather(&delivery, &cursor)?;
    let ways = Ways::new(destination, &asked, &work.operations);
    let mut course = Course {
        delivery,
        queue,
        gatherer: Gatherer::default(),
        ways,
        unrecorded: unsendable,
        settled: 0,
        set_aside: Vec::new(),
        failure: None,
        answers: 0,
        unavailable_rounds: 0,
        last_unavailable: Timestamp(i64::MIN),
        asked_to_wait: false,
        probe: cursor.probe,
    };
    course.ask()?;
    if !course.unrecorded.is_empty() {
        work.witness.may_send().await?;
        course.record().await?;
    }
    course.run().await
}

/// Batches of all operations that ask nothing, and the outcomes of those that can't be sent at all.
fn gather(delivery: &Delivery<'_>, cursor: &Cursor) -> Result<(Queue, Vec<ReceiptLine>), Failure> {
    let mut gatherer = Gatherer::default();
    let mut unsendable = Vec::new();
    for (position, operation) in delivery.operations.iter().enumerate() {
        if delivery.asks(operation) {
            continue;
        }
        let step = Step::Write(operation.kind);
        let compiled = delivery.destination.operation(step)?;
        if let Some(outcome) = compiled.unsendable(operation) {
            unsendable.push(ReceiptLine { n: operation.n, outcome });
            continue;
        }
        match cursor.part_of(operation.n) {
            Some(part) => gatherer.add_apart(step, position, part, compiled.size_of(operation)),
            None => gatherer.add(step, position, operation, compiled),
        }
    }
    Ok((Queue::new(gatherer.finish()), unsendable))
}

/// How a delivery stands.
struct Course<'a> {
    delivery: Delivery<'a>,
    queue: Queue,
    /// Rows that are not yet in a batch that is full.
    gatherer: Gatherer,
    /// How the operations stand that ask something.
    ways: Ways<'a>,
    /// Outcomes that the witness has not been told.
    unrecorded: Vec<ReceiptLine>,
    /// Operations with an outcome.
    settled: usize,
    /// Batches that always failed while others were taken.
    set_aside: Vec<Batch>,
    /// Why nothing more is sent. What is under way is waited for all the same: its answers are outcomes.
    failure: Option<Failure>,
    /// Requests that the destination answered.
    answers: u64,
    /// How often in a row it could not; requests that were under way together count once.
    unavailable_rounds: u32,
    last_unavailable: Timestamp,
    /// Whether it said itself when to come back.
    asked_to_wait: bool,
    /// Whether the quota was used up when it was last asked: one request at a time until it answers.
    probe: bool,
}

impl<'a> Course<'a> {
    async fn run(mut self) -> Result<Rest, Failure> {
        let delivery = self.delivery;
        let clock = &delivery.destination.parts.clock;
        let mut in_flight = FuturesUnordered::new();
        // The parents of rows in flight: no two batches in flight have one in common.
        let mut busy = HashSet::new();
        loop {
            if let Err(failure) = self.record().await {
                self.fail(failure);
            }
            self.queue.put_first(self.gatherer.full());
            if self.queue.only_waits() && in_flight.is_empty() {
                // Nothing will join what is left.
                self.queue.put_first(self.gatherer.finish());
            }
            let now = clock.now();
            let mut wake = None;
            let most = if self.probe { 1 } else { delivery.destination.requests_in_flight };
            while self.failure.is_none() && now < delivery.last_send && in_flight.len() < most {
                let may_travel = |batch: &Batch| delivery.may_travel(batch, &busy);
                let Some(batch) = self.queue.pop(now, may_travel) else {
                    wake = self.queue.next_due(now);
                    break;
                };
                let place = delivery.destination.pace().take(now);
                match place {
                    Ok(()) => {
                        let parents = delivery.parents_of(&batch);
                        busy.extend(&parents);
                        in_flight.push(async move { (parents, delivery.attempt(batch).await) });
                    }
                    Err(free) => {
                        self.queue.put_back(batch);
                        wake = Some(free);
                        break;
                    }
                }
            }
            let wake = wake.filter(|_| self.failure.is_none());
            let finished = if in_flight.is_empty() {
                match wake {
                    // What takes longer is the state machine's to wait for.
                    Some(wake) if wake < delivery.last_send && now.until(wake) < LONG_WAIT => {
                        clock.sleep(now.until(wake)).await;
                        None
                    }
                    Some(_) | None => return self.end(now, wake).await,
                }
            } else {
                match wake.filter(|wake| *wake < delivery.last_send) {
                    None => in_flight.next().await,
                    Some(wake) => match select(in_flight.next(), clock.sleep(now.until(wake))).await {
                        Either::Left((finished, _)) => finished,
                        Either::Right(((), _)) => None,
                    },
                }
            };
            let Some((parents, finished)) = finished else { continue };
            for parent in parents {
                busy.remove(&parent);
            }
            match finished {
                Ok(report) => self.take(report)?,
                Err(failure) => self.fail(failure),
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        // The first failure is the cause; later ones tend to follow from it.
        self.failure.get_or_insert(failure);
    }

    /// Begins with the operations that ask something.
    fn ask(&mut self) -> Result<(), Failure> {
        for (number, key) in self.ways.all_keys() {
            self.send(Step::LookUp(number), key)?;
        }
        for (position, operation) in self.delivery.operations.iter().enumerate() {
            if self.delivery.asks(operation) {
                self.go_on(position)?;
            }
        }
        self.queue.put_first(self.gatherer.finish());
        Ok(())
    }

    /// Sees to the next step of an operation that asks something.
    fn go_on(&mut self, position: usize) -> Result<(), Failure> {
        match self.ways.next(position) {
            Next::Wait => Ok(()),
            Next::Send(step, row) => self.send(step, row),
            Next::Done(outcome) => {
                let n = self.delivery.operations.get(position).map(|operation| operation.n);
                self.unrecorded.extend(n.map(|n| ReceiptLine { n, outcome }));
                Ok(())
            }
        }
    }

    /// Puts a row among those to be sent; one that can't be goes no further.
    fn send(&mut self, step: Step, row: usize) -> Result<(), Failure> {
        let compiled = self.delivery.destination.operation(step)?;
        let Some(operation) = self.delivery.row(step, row) else { return Ok(()) };
        match compiled.unsendable(operation) {
            None => self.gatherer.add(step, row, operation, compiled),
            Some(outcome) => self.learn(step, row, Learnt::Refused(outcome))?,
        }
        Ok(())
    }

    fn learn(&mut self, step: Step, row: usize, learnt: Learnt) -> Result<(), Failure> {
        for position in self.ways.learn(step, row, learnt) {
            self.go_on(position)?;
        }
        Ok(())
    }

    /// Tells the witness of outcomes that no single request has led to.
    async fn record(&mut self) -> Result<(), Failure> {
        let lines = std::mem::take(&mut self.unrecorded);
        if !lines.is_empty() {
            self.settled += lines.len();
            self.delivery.witness.record(lines).await?;
        }
        Ok(())
    }

    fn take(&mut self, report: Report) -> Result<(), Failure> {
        let Report { settled, learnt, step, again, signal, sent_at } = report;
        let destination = self.delivery.destination;
        self.settled += settled;
        for (row, learnt) in learnt {
            self.learn(step, row, learnt)?;
        }
        let answers = self.answers;
        for mut batch in again {
            batch.successes_before.get_or_insert(answers);
            let compiled = destination.operation(batch.step)?;
            self.queue.again(batch, compiled);
        }
        let parts = &destination.parts;
        let now = parts.clock.now();
        match signal {
            Signal::NotSent | Signal::RefusedCredential => {}
            Signal::Fails(failure) => self.fail(failure),
            Signal::Answers { hold, until } => {
                self.answers += 1;
                self.unavailable_rounds = 0;
                self.probe = until.is_some();
                let mut pace = destination.pace();
                pace.succeeded(sent_at);
                if let Some(hold) = hold {
                    pace.hold_until(now.plus(hold));
                }
                if let Some(until) = until {
                    self.asked_to_wait = true;
                    pace.hold_until(until);
                }
            }
            Signal::OutOfQuota { until } => {
                self.unavailable_rounds = 0;
                self.probe = true;
                self.asked_to_wait = true;
                destination.pace().hold_until(until);
            }
            Signal::Throttles { after, reset } => {
                self.unavailable_rounds = 0;
                self.asked_to_wait = true;
                let mut pace = destination.pace();
                let throttles = pace.throttled(now, sent_at);
                let wait = after
                    .unwrap_or_else(|| calm_down(throttles, &*parts.random).max(reset.unwrap_or_default()));
                pace.hold_until(now.plus(wait));
            }
            Signal::Unavailable { after, why, lost, exhausted } => {
                if sent_at >= self.last_unavailable {
                    self.unavailable_rounds += 1;
                    self.last_unavailable = now;
                }
                if let Some(after) = after {
                    self.asked_to_wait = true;
                    destination.pace().hold_until(now.plus(after));
                } else if lost || self.unavailable_rounds > 1 {
                    // More of the same would be lost, or in vain.
                    let wait = backoff(self.unavailable_rounds, &*parts.random);
                    destination.pace().hold_until(now.plus(wait));
                }
                if let Some(batch) = exhausted {
                    if batch.successes_before.is_some_and(|before| before < self.answers) {
                        self.set_aside.push(batch);
                    } else {
                        self.fail(unavailable(destination, &why));
                    }
                } else if self.unavailable_rounds >= ATTEMPTS && lost {
                    self.fail(unavailable(destination, &why));
                }
            }
        }
        Ok(())
    }

    /// What the next push needs to know.
    fn cursor(&self) -> Cursor {
        let written = |batch: &&Batch| matches!(batch.step, Step::Write(_));
        let apart = self.queue.batches().filter(written).filter(|batch| batch.apart).filter_map(|batch| {
            let ordinals =
                || batch.rows.iter().filter_map(|row| self.delivery.operations.get(*row)).map(|it| it.n);
            ordinals().min().zip(ordinals().max())
        });
        Cursor::new(self.delivery.destination.pace().kept(), apart.collect(), self.probe)
    }

    /// Nothing is under way, and nothing more can be sent now.
    async fn end(self, now: Timestamp, wake: Option<Timestamp>) -> Result<Rest, Failure> {
        let destination = self.delivery.destination;
        // What waits and can't be repeated was surely not carried out, else it would be unknown by now; but for requests
        // that wait to be repeated with their idempotency key.
        let operations = self.delivery.operations;
        let intended: Vec<u32> = self
            .queue
            .batches()
            .filter(|batch| batch.intended && !batch.doubtful)
            .flat_map(|batch| batch.rows.iter().filter_map(|position| operations.get(*position)))
            .map(|operation| operation.n)
            .collect();
        if !intended.is_empty() {
            let withdrawn = self.delivery.witness.withdraw(&intended).await;
            if self.failure.is_none() {
                withdrawn?;
            }
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if !self.queue.is_empty() {
            if self.unavailable_rounds > 0 && self.answers == 0 && !self.asked_to_wait {
                return Err(unavailable(destination, "no answer until the time was up"));
            }
            let resume_after = wake.map_or(Duration::ZERO, |wake| now.until(wake));
            return Ok(Rest::Paused { cursor: self.cursor().write(), resume_after });
        }
        if !self.set_aside.is_empty() {
            let rows: usize = self.set_aside.iter().map(|batch| batch.rows.len()).sum();
            return Err(Failure::new(
                FailureName::DestinationUnavailable,
                format!(
                    "{} took all operations but {rows}, on which it failed {ATTEMPTS} times",
                    destination.name
                ),
            ));
        }
        if self.settled != self.delivery.operations.len() {
            return Err(Failure::new(
                FailureName::InvariantBroken,
                format!("{} outcomes for {} operations", self.settled, self.delivery.operations.len()),
            ));
        }
        Ok(Rest::Nothing)
    }
}

fn unavailable(destination: &HttpDestination, why: &str) -> Failure {
    Failure::new(
        FailureName::DestinationUnavailable,
        format!("{} does not answer, or answers with server errors only (last: {why})", destination.name),
    )
}
