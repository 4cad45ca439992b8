//! The push's witness: receipts, intents and usage, written under the attempt's own keys.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use penstock_destinations::{Spending, Witness};
use penstock_model::layout;
use penstock_model::operation::ChunkId;
use penstock_model::outcome::ReceiptLine;
use penstock_model::port::{Boxed, Condition};
use penstock_model::report::ApiUsage;
use penstock_model::run_plan::RunPlan;
use penstock_model::{Failure, Timestamp};
use penstock_store::budget::{self, Taken};
use penstock_store::jobs::{self, Noted};
use penstock_store::{json, lease, lines};

use crate::Context;

/// The fence and the abort marker are looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// So many times a push goes for requests at most if it spends a whole day's.
const PURSES_A_DAY: u32 = 200;
/// Outcomes are gathered for so long at most.
const GATHER: Duration = Duration::from_secs(1);
/// Outcomes are gathered up to so many.
const MOST_LINES: usize = 5_000;

/// Writes what one attempt at a chunk sees.
#[derive(Debug)]
pub(crate) struct Receipts<'a> {
    context: &'a Context,
    plan: &'a RunPlan,
    chunk: ChunkId,
    attempt: String,
    /// The jobs that were noted when the push began; what it makes itself is its chunk's.
    jobs: Vec<Noted>,
    next_receipt: AtomicU32,
    next_intent: AtomicU32,
    next_withdrawal: AtomicU32,
    gathered: Mutex<Gathered>,
    purse: tokio::sync::Mutex<Purse>,
}

/// Requests taken out of the day's budget and not spent yet.
#[derive(Debug)]
struct Purse {
    left: u32,
    until: Timestamp,
}

#[derive(Debug)]
struct Gathered {
    lines: Vec<ReceiptLine>,
    since: Timestamp,
    looked_at: Timestamp,
    usage: ApiUsage,
}

impl<'a> Receipts<'a> {
    pub(crate) fn new(
        context: &'a Context,
        plan: &'a RunPlan,
        chunk: ChunkId,
        attempt: String,
        jobs: Vec<Noted>,
    ) -> Self {
        let now = context.parts.clock.now();
        let gathered = Gathered { lines: Vec::new(), since: now, looked_at: now, usage: ApiUsage::default() };
        Self {
            context,
            plan,
            chunk,
            attempt,
            jobs,
            next_receipt: AtomicU32::new(0),
            next_intent: AtomicU32::new(0),
            next_withdrawal: AtomicU32::new(0),
            gathered: Mutex::new(gathered),
            purse: tokio::sync::Mutex::new(Purse { left: 0, until: now }),
        }
    }

    fn budget(&self) -> budget::Ports<'_> {
        let parts = &self.context.parts;
        budget::Ports {
            objects: self.context.state.as_ref(),
            clock: parts.clock.as_ref(),
            random: parts.random.as_ref(),
        }
    }

    fn budget_key(&self) -> String {
        let definition = &self.plan.definition;
        layout::budget(&definition.sync.connection, definition.environment.as_deref())
    }

    async fn take_one(&self, per_day: u32) -> Result<Spending, Failure> {
        let mut purse = self.purse.lock().await;
        if purse.left == 0 || purse.until <= self.context.parts.clock.now() {
            let wanted = (per_day / PURSES_A_DAY).max(1);
            match budget::take(self.budget(), &self.budget_key(), per_day, wanted).await? {
                Taken::Requests { count, until } => *purse = Purse { left: count, until },
                Taken::Nothing { until } => return Ok(Spending::OverBudget { until }),
            }
        }
        purse.left = purse.left.saturating_sub(1);
        Ok(Spending::Granted)
    }

    /// What was taken and not spent goes back on the same day. If that can't be done, it is lost: the day's requests
    /// end a little sooner.
    async fn empty_purse(&self) {
        let mut purse = self.purse.lock().await;
        if purse.left == 0 || purse.until <= self.context.parts.clock.now() {
            return;
        }
        if let Err(failure) = budget::give_back(self.budget(), &self.budget_key(), purse.left).await {
            tracing::warn!(
                requests = purse.left,
                reason = failure.full_message(),
                "lost requests of the day's budget"
            );
        }
        purse.left = 0;
    }

    /// Writes what is still gathered, and the usage. Whether nothing was sent.
    pub(crate) async fn close(&self) -> Result<bool, Failure> {
        self.empty_purse().await;
        let (lines, usage) = {
            let mut gathered = self.gathered();
            (std::mem::take(&mut gathered.lines), gathered.usage)
        };
        self.write(lines).await?;
        let key = self.plan.run.keys().api_usage(self.chunk, &self.attempt);
        json::put_json(self.context.state.as_ref(), &key, &usage, Condition::Always).await?;
        Ok(usage.requests == 0)
    }

    fn gathered(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, receipt: Vec<ReceiptLine>) -> Result<(), Failure> {
        if receipt.is_empty() {
            return Ok(());
        }
        let sequence = self.next_receipt.fetch_add(1, Ordering::Relaxed);
        let key = self.plan.run.keys().receipt(self.chunk, &self.attempt, sequence);
        lines::put_lines(self.context.state.as_ref(), &key, &receipt, Condition::Always).await
    }
}

impl Witness for Receipts<'_> {
    fn may_send(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async move {
            let now = self.context.parts.clock.now();
            {
                let mut gathered = self.gathered();
                if gathered.looked_at.until(now) < LOOK_AGAIN {
                    return Ok(());
                }
                gathered.looked_at = now;
            }
            lease::verify(self.context.state.as_ref(), &self.plan.run).await?;
            crate::check_abort(self.context, self.plan).await
        })
    }

    fn spend(&self) -> Boxed<'_, Result<Spending, Failure>> {
        Box::pin(async move {
            match self.plan.definition.requests_per_day() {
                Some(per_day) => self.take_one(per_day).await,
                None => Ok(Spending::Granted),
            }
        })
    }

    fn intend<'b>(&'b self, ordinals: &'b [u32]) -> Boxed<'b, Result<(), Failure>> {
        Box::pin(async move {
            let sequence = self.next_intent.fetch_add(1, Ordering::Relaxed);
            let key = self.plan.run.keys().intent(self.chunk, &self.attempt, sequence);
            json::put_json(self.context.state.as_ref(), &key, &ordinals, Condition::Always).await?;
            Ok(())
        })
    }

    fn withdraw<'b>(&'b self, ordinals: &'b [u32]) -> Boxed<'b, Result<(), Failure>> {
        Box::pin(async move {
            let sequence = self.next_withdrawal.fetch_add(1, Ordering::Relaxed);
            let key = self.plan.run.keys().withdrawal(self.chunk, &self.attempt, sequence);
            json::put_json(self.context.state.as_ref(), &key, &ordinals, Condition::Always).await?;
            Ok(())
        })
    }

    fn record(&self, new: Vec<ReceiptLine>) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async move {
            let now = self.context.parts.clock.now();
            let due = {
                let mut gathered = self.gathered();
                gathered.lines.extend(new);
                if gathered.since.until(now) < GATHER && gathered.lines.len() < MOST_LINES {
                    return Ok(());
                }
                gathered.since = now;
                std::mem::take(&mut gathered.lines)
            };
            self.write(due).await
        })
    }

    fn note_job<'b>(&'b self, job: &'b str, once: &'b [u32]) -> Boxed<'b, Result<(), Failure>> {
        Box::pin(jobs::note(self.context.state.as_ref(), &self.plan.run, self.chunk, job, once))
    }

    fn forget_job<'b>(&'b self, job: &'b str) -> Boxed<'b, Result<(), Failure>> {
        Box::pin(async move {
            // What came of it must not be lost with it.
            let lines = std::mem::take(&mut self.gathered().lines);
            self.write(lines).await?;
            let own = || Noted { job: job.to_owned(), run: self.plan.run.run.clone(), chunk: self.chunk };
            let noted = self.jobs.iter().find(|noted| noted.job == job).cloned().unwrap_or_else(own);
            jobs::forget(self.context.state.as_ref(), &self.plan.run, &noted).await
        })
    }

    fn count(&self, usage: ApiUsage) {
        self.gathered().usage += usage;
    }
}
