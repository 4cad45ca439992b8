//! From verdicts to what becomes of a batch's rows: an outcome, something learnt for their next step, or another request.

use penstock_model::operation::Operation;
use penstock_model::outcome::{Outcome, ReceiptLine, SkipReason};
use penstock_model::settle::Repeat;

use super::attempt::Delivery;
use super::batch::Batch;
use super::decode::Verdict;
use super::encode::CompiledOperation;
use super::retry::ATTEMPTS;
use super::way::{Learnt, Step};

/// What became of a batch's rows.
pub(super) struct Settled {
    /// Outcomes.
    pub(super) lines: Vec<ReceiptLine>,
    /// What was learnt of rows that have another step before them.
    pub(super) learnt: Vec<(usize, Learnt)>,
    /// What has to be sent again.
    pub(super) again: Vec<Batch>,
}

impl Delivery<'_> {
    /// Sorts out what an answer says of a batch's rows. Nothing is recorded here.
    pub(super) fn settle(
        &self,
        batch: Batch,
        compiled: &CompiledOperation,
        rows: &[&Operation],
        verdicts: Vec<Verdict>,
    ) -> Settled {
        let last = batch.attempts + 1 >= ATTEMPTS;
        // With an idempotency key only the very same request can be repeated.
        let all_lost = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Lost(_)));
        let repeatable = compiled.repeat == Repeat::Safe || (compiled.idempotency_key.is_some() && all_lost);
        let mut lines = Vec::with_capacity(rows.len());
        let (mut learnt, mut again, mut resend) = (Vec::new(), Vec::new(), Vec::new());
        for ((number, row), verdict) in batch.rows.iter().zip(rows).zip(verdicts) {
            let outcome = match verdict {
                Verdict::Done(outcome) => outcome,
                Verdict::Found(record) => {
                    learnt.push((*number, Learnt::Found(record)));
                    continue;
                }
                Verdict::Again(refusal) if last => {
                    Outcome::Rejected { code: refusal.code, message: refusal.message, field: refusal.field }
                }
                Verdict::Lost(why) if last || !repeatable => Outcome::Unknown { why: why.to_owned() },
                Verdict::Again(_) | Verdict::Lost(_) => {
                    again.push(*number);
                    continue;
                }
                Verdict::Resend => {
                    resend.push(*number);
                    continue;
                }
            };
            match self.end_of(batch.step, *number, outcome) {
                Ok(outcome) => lines.push(ReceiptLine { n: row.n, outcome }),
                Err(more) => learnt.push((*number, more)),
            }
        }
        let mut batches = Vec::new();
        if again.len() == batch.rows.len() {
            // The very same request, with the very same key.
            let attempts = batch.attempts + 1;
            let doubtful = batch.doubtful || all_lost;
            batches.push(Batch { attempts, not_before: self.later(None, attempts), doubtful, ..batch });
        } else {
            if !again.is_empty() {
                let mut part = batch.part(again.clone(), self.bytes_of(batch.step, &again, compiled));
                part.attempts += 1;
                part.not_before = self.later(None, part.attempts);
                part.mergeable = true;
                batches.push(part);
            }
            if !resend.is_empty() {
                let bytes = self.bytes_of(batch.step, &resend, compiled);
                batches.push(batch.part(resend, bytes));
            }
        }
        Settled { lines, learnt, again: batches }
    }

    /// Whether what a step came to is the operation's outcome, or has a step after it.
    fn end_of(&self, step: Step, number: usize, outcome: Outcome) -> Result<Outcome, Learnt> {
        match (step, outcome) {
            (Step::Move, Outcome::Accepted { .. }) if self.moves_first(number) => Err(Learnt::Moved),
            (Step::Move, Outcome::Skipped { .. }) => Err(Learnt::Missing),
            (Step::Write(_) | Step::Move, Outcome::Accepted { id, created }) if self.has_links(number) => {
                Err(Learnt::Written { id, created })
            }
            (Step::Write(_) | Step::Move, outcome) => Ok(outcome),
            (Step::LookUp(_) | Step::Read, Outcome::Skipped { .. }) => Err(Learnt::Missing),
            (Step::Link(_), Outcome::Accepted { .. } | Outcome::Skipped { why: SkipReason::Exists }) => {
                Err(Learnt::Linked)
            }
            (Step::Link(_), Outcome::Skipped { .. }) => Err(Learnt::Missing),
            // Nothing was written yet: that it can't be read is a matter of this row.
            (Step::LookUp(_) | Step::Read, Outcome::Unknown { why }) => {
                Err(Learnt::Refused(Outcome::rejected("not_read", why)))
            }
            (
                Step::LookUp(_) | Step::Read | Step::Link(_),
                outcome @ (Outcome::Accepted { .. }
                | Outcome::Rejected { .. }
                | Outcome::Unknown { .. }
                | Outcome::DeadLettered { .. }),
            ) => Err(Learnt::Refused(outcome)),
        }
    }

    fn bytes_of(&self, step: Step, rows: &[usize], compiled: &CompiledOperation) -> usize {
        rows.iter().filter_map(|row| self.row(step, *row)).map(|row| compiled.size_of(row)).sum()
    }
}

/// The two halves of a batch of several rows, each with attempts of its own.
pub(super) fn halves(batch: &Batch, compiled: &CompiledOperation, rows: &[&Operation]) -> Vec<Batch> {
    let middle = batch.rows.len().div_ceil(2);
    let half = |positions: &[usize], rows: &[&Operation]| Batch {
        attempts: 0,
        mergeable: false,
        apart: true,
        ..batch.part(positions.to_vec(), rows.iter().map(|row| compiled.size_of(row)).sum())
    };
    let (first_rows, second_rows) = rows.split_at(middle.min(rows.len()));
    let (first, second) = batch.rows.split_at(middle);
    vec![half(first, first_rows), half(second, second_rows)]
}
