//! One connection of a push: statements out, outcomes to the witness.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{join, join3};
use penstock_model::operation::OperationKind;
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::report::ApiUsage;
use penstock_model::{Failure, FailureName};
use tokio_postgres::types::{ToSql, Type};

use super::batch::Batch;
use super::connect::Link;
use super::deliver::{Halt, Push, RESERVE, unavailable};
use super::errors::{Fault, Trouble, classify};
use super::statement::{self, Shape};
use super::table::Table;
use super::values::Row;

/// The database cancels a statement this long before the time is up, so that its answer still arrives.
const MARGIN: Duration = Duration::from_millis(250);
/// Tries in a row without a success, connecting included, before the database counts as unavailable.
const TRIES: u32 = 10;
/// The first pause after a failed try; each further one may last twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What became of a part of a batch.
enum Sent {
    /// Every row has an outcome.
    Done,
    /// One of several rows is at fault.
    Split,
}

/// What an append's transaction came to.
enum Appended {
    /// All rows are in.
    Committed,
    /// Nothing is known.
    Unknown,
}

/// One connection and what it is told.
pub(super) struct Lane<'p, 'a> {
    push: &'p Push<'a>,
    link: Option<Link>,
    failures: u32,
}

impl<'p, 'a> Lane<'p, 'a> {
    /// A lane that is not connected yet.
    pub(super) fn new(push: &'p Push<'a>) -> Self {
        Self { push, link: None, failures: 0 }
    }

    /// Closes the connection.
    pub(super) async fn close(self) {
        if let Some(link) = self.link {
            link.close(&*self.push.to.clock).await;
        }
    }

    /// Asks the database what the table is like.
    pub(super) async fn table(&mut self) -> Result<Table, Halt> {
        loop {
            let push = self.push;
            self.connect().await?;
            let Some(link) = &self.link else { continue };
            let trouble = match push
                .within(Table::read(&link.client, &push.to.table, &push.to.mapped.if_empty))
                .await
            {
                Some(Ok(table)) => return Ok(table),
                Some(Err(trouble)) => trouble,
                None => Trouble::Lost(Fault::Silent),
            };
            self.recover(trouble).await?;
        }
    }

    /// Takes batches until there are none.
    pub(super) async fn drain(
        &mut self,
        table: &Table,
        queue: &Mutex<VecDeque<Batch<'_>>>,
    ) -> Result<(), Halt> {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(batch) = next else { return Ok(()) };
            let end = self.batch(table, &batch).await;
            if end.is_err() {
                if let Err(Halt::Failed(_)) = end {
                    self.push.stopped.store(true, Ordering::Relaxed);
                }
                return end;
            }
        }
    }

    /// Sends a batch, in halves and halves of halves if need be, in order.
    async fn batch(&mut self, table: &Table, batch: &Batch<'_>) -> Result<(), Halt> {
        let sql = statement::sql(table, &batch.shape);
        let mut parts = vec![batch.rows.as_slice()];
        while let Some(rows) = parts.pop() {
            match self.part(&sql, &batch.shape, rows).await? {
                Sent::Done => {}
                Sent::Split => {
                    let (front, back) = rows.split_at(rows.len() / 2);
                    parts.extend([back, front]);
                }
            }
        }
        Ok(())
    }

    async fn part(&mut self, sql: &str, shape: &Shape<'_>, rows: &[&Row<'_>]) -> Result<Sent, Halt> {
        let parameters = parameters(shape, rows);
        let mut usage = ApiUsage { requests: 1, ..ApiUsage::default() };
        let mut in_doubt = false;
        loop {
            let timeout = self.may_start().await?;
            self.push.witness.count(usage);
            let answer = match shape.kind {
                OperationKind::Append => match self.append(sql, &parameters, rows, timeout).await? {
                    Ok(Appended::Committed) => Ok(HashSet::new()),
                    Ok(Appended::Unknown) => {
                        self.record(rows, |_| Outcome::Unknown {
                            why: "the connection was lost while the rows were being committed".to_owned(),
                        })
                        .await?;
                        return Ok(Sent::Done);
                    }
                    Err(trouble) => Err(trouble),
                },
                OperationKind::Upsert
                | OperationKind::Create
                | OperationKind::Update
                | OperationKind::Delete
                | OperationKind::Archive
                | OperationKind::Clear => self.execute(sql, &parameters, timeout).await,
            };
            let trouble = match answer {
                Ok(came_back) => {
                    self.failures = 0;
                    self.push.succeeded.store(true, Ordering::Relaxed);
                    self.record(rows, |place| {
                        statement::answer(shape.kind, came_back.contains(&place), in_doubt)
                    })
                    .await?;
                    return Ok(Sent::Done);
                }
                Err(trouble) => trouble,
            };
            usage = ApiUsage { requests: 1, retried: 1, ..ApiUsage::default() };
            match trouble {
                Trouble::Row(refusal) => {
                    self.failures = 0;
                    self.push.succeeded.store(true, Ordering::Relaxed);
                    if rows.len() > 1 {
                        return Ok(Sent::Split);
                    }
                    let outcome = refusal.outcome();
                    self.record(rows, |_| outcome.clone()).await?;
                    return Ok(Sent::Done);
                }
                Trouble::TimedOut if self.push.left() < RESERVE => return Err(self.push.late(None)),
                Trouble::Lost(_) if self.push.left() < RESERVE => return Err(self.push.late(None)),
                Trouble::Lost(fault) => {
                    in_doubt = true;
                    self.recover(Trouble::Lost(fault)).await?;
                }
                Trouble::TimedOut | Trouble::Again { .. } | Trouble::Login(_) | Trouble::Fatal(_) => {
                    self.recover(trouble).await?;
                }
            }
        }
    }

    /// Waits until a statement may start, and says how long it may take.
    async fn may_start(&mut self) -> Result<Duration, Halt> {
        let push = self.push;
        self.connect().await?;
        match push.to.pace.take(push.to.clock.now(), push.left().saturating_sub(RESERVE)) {
            Ok(Duration::ZERO) => {}
            Ok(wait) => push.to.clock.sleep(wait).await,
            Err(wait) => return Err(Halt::Later(wait)),
        }
        push.witness.may_send().await?;
        if push.stopped.load(Ordering::Relaxed) {
            return Err(Halt::Stopped);
        }
        let left = push.left();
        if left < RESERVE {
            return Err(push.late(None));
        }
        let until_end = left.saturating_sub(MARGIN);
        Ok(push.to.answer_timeout.map_or(until_end, |timeout| timeout.min(until_end)))
    }

    /// Opens a connection unless one is open.
    async fn connect(&mut self) -> Result<(), Halt> {
        let push = self.push;
        let mut refused = None;
        loop {
            if self.link.as_ref().is_some_and(|link| !link.client.is_closed()) {
                return Ok(());
            }
            if push.stopped.load(Ordering::Relaxed) {
                return Err(Halt::Stopped);
            }
            if push.left() < RESERVE {
                return Err(push.late(None));
            }
            let login = push.login(refused.take()).await?;
            match push.within(push.to.door.open(&login, &push.to.table)).await {
                Some(Ok(link)) => self.link = Some(link),
                Some(Err(Trouble::Login(fault))) => refused = Some((login.freshness, fault)),
                Some(Err(trouble)) => self.recover(trouble).await?,
                None => return Err(push.late(Some(Fault::Silent))),
            }
        }
    }

    /// After a failed try: drops the connection if need be and waits, or gives up.
    async fn recover(&mut self, trouble: Trouble) -> Result<(), Halt> {
        let (fault, throttled, reconnect) = match trouble {
            Trouble::Again { fault, throttled, reconnect } => (fault, throttled, reconnect),
            Trouble::TimedOut => (Fault::Silent, false, false),
            Trouble::Lost(fault) | Trouble::Login(fault) => (fault, false, true),
            Trouble::Fatal(failure) => return Err(failure.into()),
            Trouble::Row(_) => {
                return Err(Failure::new(
                    FailureName::DestinationRefused,
                    "the database refused a question about its catalog",
                )
                .into());
            }
        };
        if reconnect {
            self.abandon();
        }
        if throttled {
            self.push.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
        }
        self.failures += 1;
        if self.failures >= TRIES {
            return Err(unavailable(fault).into());
        }
        let most = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1)).min(LONGEST_PAUSE);
        let pause = jittered(most, self.push.to.random.next());
        if self.push.left() < RESERVE + pause {
            return Err(self.push.late(Some(fault)));
        }
        tracing::warn!(
            sqlstate = fault.code(),
            attempt = self.failures,
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "the database could not go on, trying again"
        );
        self.push.to.clock.sleep(pause).await;
        Ok(())
    }

    /// Sends a statement that may be repeated, as a transaction in one round trip. Gives the places, from 0, of the
    /// rows that came back.
    async fn execute(
        &mut self,
        sql: &str,
        parameters: &[Vec<Option<&str>>],
        timeout: Duration,
    ) -> Result<HashSet<usize>, Trouble> {
        let push = self.push;
        let Some(link) = &self.link else { return Err(Trouble::Lost(Fault::Silent)) };
        let (begin, typed) = (begin(timeout), typed(parameters));
        // In order: each is sent when it is first polled. If the statement fails, the commit rolls back.
        let sent = join3(
            link.client.batch_execute(&begin),
            link.client.query_typed(sql, &typed),
            link.client.batch_execute("COMMIT"),
        );
        let Some((begun, lines, committed)) = push.at_most(timeout + MARGIN, sent).await else {
            self.abandon();
            return Err(Trouble::Lost(Fault::Silent));
        };
        let failed = |error| classify(error, &push.to.table);
        begun.map_err(failed)?;
        let lines = lines.map_err(failed)?;
        committed.map_err(failed)?;
        let mut places = HashSet::with_capacity(lines.len());
        for line in lines {
            let ordinal: i64 = line.try_get(0).map_err(failed)?;
            places.extend(usize::try_from(ordinal - 1));
        }
        Ok(places)
    }

    /// Sends an append: the rows are announced when the database has taken them all and before they are committed, so
    /// that a row it refuses, or a statement it must see again, is never announced in vain.
    async fn append(
        &mut self,
        sql: &str,
        parameters: &[Vec<Option<&str>>],
        rows: &[&Row<'_>],
        timeout: Duration,
    ) -> Result<Result<Appended, Trouble>, Halt> {
        let push = self.push;
        let Some(link) = &self.link else { return Ok(Err(Trouble::Lost(Fault::Silent))) };
        let failed = |error| classify(error, &push.to.table);
        let (begin, typed) = (begin(timeout), typed(parameters));
        let sent = join(link.client.batch_execute(&begin), link.client.query_typed(sql, &typed));
        let trouble = match push.at_most(timeout + MARGIN, sent).await {
            None => Some(Trouble::TimedOut),
            Some((Err(error), _) | (Ok(()), Err(error))) => Some(failed(error)),
            Some((Ok(()), Ok(_))) if push.left() < RESERVE => Some(Trouble::TimedOut),
            Some((Ok(()), Ok(_))) => None,
        };
        if let Some(trouble) = trouble {
            // Nothing was committed: leaving the transaction undoes it.
            let undone = push.at_most(RESERVE, link.client.batch_execute("ROLLBACK")).await;
            if !matches!(undone, Some(Ok(()))) {
                self.abandon();
            }
            return Ok(Err(trouble));
        }
        let ordinals: Vec<u32> = rows.iter().map(|row| row.n).collect();
        if let Err(failure) = push.witness.intend(&ordinals).await {
            self.abandon();
            return Err(failure.into());
        }
        if push.left().is_zero() {
            self.abandon();
            push.witness.withdraw(&ordinals).await?;
            return Ok(Err(Trouble::TimedOut));
        }
        let trouble = match push.within(link.client.batch_execute("COMMIT")).await {
            Some(Ok(())) => return Ok(Ok(Appended::Committed)),
            Some(Err(error)) => Some(failed(error)),
            None => None,
        };
        match trouble {
            // The commit itself was refused, by a deferred constraint, or for another transaction.
            Some(trouble @ (Trouble::Row(_) | Trouble::Again { reconnect: false, .. })) => {
                push.witness.withdraw(&ordinals).await?;
                Ok(Err(trouble))
            }
            Some(
                Trouble::Again { .. }
                | Trouble::TimedOut
                | Trouble::Lost(_)
                | Trouble::Login(_)
                | Trouble::Fatal(_),
            )
            | None => {
                self.abandon();
                Ok(Ok(Appended::Unknown))
            }
        }
    }

    /// Drops the connection at once; what is not committed is undone.
    fn abandon(&mut self) {
        if let Some(link) = self.link.take() {
            link.abandon();
        }
    }

    async fn record(&self, rows: &[&Row<'_>], outcome: impl Fn(usize) -> Outcome) -> Result<(), Failure> {
        let lines =
            rows.iter().enumerate().map(|(place, row)| ReceiptLine { n: row.n, outcome: outcome(place) });
        self.push.witness.record(lines.collect()).await
    }
}

/// A transaction whose statement the database cancels after `timeout`, and in which a timestamp without a zone is UTC.
/// The settings end with it, as a pooler between here and the database wants it.
fn begin(timeout: Duration) -> String {
    let ms = timeout.as_millis().clamp(1, 2_000_000_000);
    format!("BEGIN; SET LOCAL statement_timeout = {ms}; SET LOCAL TimeZone = 'UTC'")
}

/// The columns of the rows, in the order of the statement's parameters.
fn parameters<'r>(shape: &Shape<'_>, rows: &[&'r Row<'_>]) -> Vec<Vec<Option<&'r str>>> {
    let matched = (0..shape.matched.len())
        .map(|place| rows.iter().map(|row| row.matched.get(place).map(|(_, text)| &**text)).collect());
    let fields = shape.fields.iter().map(|slot| rows.iter().map(|row| row.field(slot.column)).collect());
    matched.chain(fields).collect()
}

fn typed<'p>(parameters: &'p [Vec<Option<&str>>]) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|texts| (texts as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect()
}

/// Somewhere between nothing and `most` ("full jitter").
fn jittered(most: Duration, random: u64) -> Duration {
    let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % most_ms.saturating_add(1))
}
