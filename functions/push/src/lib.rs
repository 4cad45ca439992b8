//! One chunk of operations → the destination → receipts. Pauses and resumes; never waits long at a cost.

mod witness;

use std::sync::Arc;
use std::time::Duration;

use penstock_destinations::{
    Deferred, Destination, Guard, JobMaker, NotedJob, Parts, Rest, SystemResolver, Work,
};
use penstock_lambda_kit::Invocation;
use penstock_model::Timestamp;
use penstock_model::contract::{CONTRACT, LONGEST_CURSOR, Progress, ProgressStatus, PushRequest};
use penstock_model::failure::{Failure, FailureName, Handling};
use penstock_model::lease::{AbortMarker, Attempt};
use penstock_model::operation::{Operation, Transformed};
use penstock_model::outcome::Outcome;
use penstock_model::port::{Clock, Condition, Executions, Objects, Random, Secrets};
use penstock_model::run_plan::RunPlan;
use penstock_model::settle::Repeat;
use penstock_store::jobs::{self, Noted};
use penstock_store::{attempts, json, lease, operations, plans, receipts};

use witness::Receipts;

/// A wait in the state machine is at least this long, so that a child's history stays short.
const SHORTEST_WAIT: Duration = Duration::from_secs(30);
/// After so many pushes a child ends and the next run carries on: 25,000 history events are the platform's limit.
const MOST_ROUNDS: u32 = 1_000;
/// So many attempts in a row that die without a receipt make a chunk poison.
const DEATHS_OF_POISON: usize = 3;
/// Kept of an attempt's time for the last receipts.
const RESERVE: Duration = Duration::from_secs(5);
/// An attempt sends for so long at most, and then pauses, to be called again at once. It is as long as the next one has to wait
/// if this one is killed: the platform would give it ten minutes.
const STRETCH: Duration = Duration::from_secs(120);

/// What push needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// To ask when the run was last redriven.
    pub executions: Arc<dyn Executions>,
    /// What destinations need: clock, randomness, secrets, transport.
    pub parts: Parts,
    /// On AWS: keeps connections from addresses inside. A laptop may connect to what it likes.
    pub guard: Option<Guard>,
}

impl Context {
    /// The context on AWS. Reads the environment variables named in this function's README.
    ///
    /// # Errors
    /// A message that names the variable that is missing.
    pub async fn from_environment() -> Result<Self, Failure> {
        let settings = penstock_lambda_kit::settings::Settings::from_environment();
        let aws = penstock_store::aws::Clients::from_environment();
        let clock: Arc<dyn Clock> = Arc::new(penstock_lambda_kit::clock::SystemClock::new());
        let random: Arc<dyn Random> = Arc::new(penstock_lambda_kit::random::SystemRandom);
        let secrets: Arc<dyn Secrets> = aws.secrets(settings.required("PENSTOCK_SECRET_PREFIX")?);
        let unbuilt =
            |error| Failure::because(FailureName::InvariantBroken, "the HTTP client can't be built", error);
        let guard = Guard::new(Arc::new(SystemResolver)).map_err(unbuilt)?;
        Ok(Self {
            state: aws.objects(settings.required("PENSTOCK_BUCKET")?),
            executions: aws.executions(settings.required("PENSTOCK_STATE_MACHINE_ARN")?),
            parts: Parts {
                clock,
                random,
                secrets,
                transport: Arc::new(Deferred::default()),
                known: Arc::default(),
            },
            guard: Some(guard),
        })
    }
}

/// Pushes what is left of a chunk.
///
/// # Errors
/// The destination's failures by name; `Superseded` once another run holds the lease; `ChunkUnreadable` if the
/// operations are gone; what an abort marker of this run says.
pub async fn handle(
    request: PushRequest,
    invocation: &Invocation,
    context: &Context,
) -> Result<Progress, Failure> {
    let state = context.state.as_ref();
    let plan = plans::load(state, &request.run).await?;
    let started = context.parts.clock.now();
    let rounds = request.rounds.saturating_add(1);
    let progress = |status, cursor, resume_after_s| Progress {
        contract: CONTRACT,
        status,
        cursor,
        rounds,
        resume_after_s,
    };
    check_abort(context, &plan).await?;

    let keys = plan.run.keys();
    let before = attempts::of_chunk(state, &keys, request.chunk).await?;
    // Another attempt at this chunk may have a request under way until its deadline.
    if let Some(deadline) = attempts::open_until(&before, started) {
        return Ok(progress(ProgressStatus::Paused, request.cursor, wait_seconds(started.until(deadline))));
    }
    check_poison(context, &plan, request.chunk, &before).await?;
    let attempt = attempts::name(started, context.parts.random.next());
    let attempt_key = keys.attempt(request.chunk, &attempt);
    let record = async |deadline, idle| {
        let written = Attempt { deadline, idle };
        json::put_json(state, &attempt_key, &written, Condition::Always).await
    };
    let answer_timeout = plan.definition.answer_timeout().unwrap_or_default();
    let deadline = deadline(started, invocation.deadline, answer_timeout);
    record(Some(deadline), false).await?;
    let Left { operations, jobs, noted } = match begin(context, &plan, request.chunk, &attempt).await {
        Ok(Beginning::Send(left)) => left,
        Ok(Beginning::Yield) => {
            record(None, true).await?;
            return Ok(progress(ProgressStatus::Paused, request.cursor, wait_seconds(SHORTEST_WAIT)));
        }
        Ok(Beginning::Done) => {
            record(None, true).await?;
            return Ok(progress(ProgressStatus::Done, None, 0));
        }
        Err(failure) => {
            record(None, true).await?;
            return Err(failure);
        }
    };

    let until = Timestamp(deadline.0 - i64::try_from(RESERVE.as_millis()).unwrap_or(0));
    let cursor = fresh(request.cursor.as_deref(), &before);
    let witness = Receipts::new(context, &plan, request.chunk, attempt.clone(), noted);
    let work = Work { operations, cursor, jobs, until, witness: &witness };
    let result = deliver(context, &plan, work).await;
    let idle = witness.close().await?;
    // Whatever happened, nothing of this attempt is under way any more: who comes next need not wait.
    record(None, idle).await?;

    match result {
        Ok(Rest::Nothing) => Ok(progress(ProgressStatus::Done, None, 0)),
        Ok(Rest::Paused { cursor, .. }) if rounds >= MOST_ROUNDS => {
            tracing::warn!(
                sync = plan.run.sync,
                run = plan.run.run,
                chunk = request.chunk,
                rounds,
                "gave up a chunk for this run"
            );
            Ok(progress(ProgressStatus::Unfinished, marked(&attempt, cursor), 0))
        }
        Ok(Rest::Paused { cursor, resume_after }) => {
            Ok(progress(ProgressStatus::Paused, marked(&attempt, cursor), wait_seconds(resume_after)))
        }
        Err(failure) => {
            if failure.name.handling() == Handling::Abort {
                abort(state, &plan, &failure, started).await?;
            }
            Err(failure)
        }
    }
}

/// After which moment an attempt sends nothing. A connection whose answers may take long has time for one of them.
fn deadline(started: Timestamp, end: Timestamp, answer_timeout: Duration) -> Timestamp {
    end.min(started.plus(STRETCH + answer_timeout))
}

/// What an attempt finds once it is recorded.
enum Beginning {
    /// This is its to deal with.
    Send(Left),
    /// Another attempt has begun as well.
    Yield,
    /// Nothing is left to send.
    Done,
}

/// Looks around once the attempt is recorded, and not before: whoever would be in its way has left a trace by now, or will
/// find this attempt's.
async fn begin(context: &Context, plan: &RunPlan, chunk: u32, attempt: &str) -> Result<Beginning, Failure> {
    let (state, keys) = (context.state.as_ref(), plan.run.keys());
    // Whoever takes the run over raises the fence, and looks for attempts after that.
    lease::verify(state, &plan.run).await?;
    // Two may have begun at the same moment, neither seeing the other until now. It can't be told what the other has seen:
    // whoever sees one yields, at times both.
    let now = context.parts.clock.now();
    let others = attempts::of_chunk(state, &keys, chunk).await?;
    if others.iter().any(|other| other.name != attempt && other.open_until(now).is_some()) {
        return Ok(Beginning::Yield);
    }
    let Unfinished { operations, mut in_doubt } = unfinished(state, plan, chunk).await?;
    if operations.is_empty() && in_doubt.is_empty() {
        return Ok(Beginning::Done);
    }
    let noted =
        if plan.definition.connector.has_jobs() { noted_jobs(state, plan, chunk).await? } else { Vec::new() };
    let mut jobs = Vec::with_capacity(noted.len());
    for noted in &noted {
        jobs.push(noted_job(state, plan, noted, &mut in_doubt).await?);
    }
    if operations.is_empty() && jobs.iter().all(|noted| noted.in_doubt.is_empty()) {
        return Ok(Beginning::Done);
    }
    Ok(Beginning::Send(Left { operations, jobs, noted }))
}

/// What is left of a chunk for an attempt.
struct Left {
    /// To be sent.
    operations: Vec<Operation>,
    /// Jobs that may be about some of them, and what is in doubt for their sake.
    jobs: Vec<NotedJob>,
    /// The same jobs, as they are noted.
    noted: Vec<Noted>,
}

/// Jobs at the destination that this chunk has to know of: its own, and those of earlier runs.
async fn noted_jobs(state: &dyn Objects, plan: &RunPlan, chunk: u32) -> Result<Vec<Noted>, Failure> {
    let mut noted = jobs::noted(state, &plan.run).await?;
    noted.retain(|noted| noted.run != plan.run.run || noted.chunk == chunk);
    Ok(noted)
}

/// A job as its destination has to know of it. Takes what it can tell of from what is in doubt.
async fn noted_job(
    state: &dyn Objects,
    plan: &RunPlan,
    noted: &Noted,
    in_doubt: &mut Vec<Operation>,
) -> Result<NotedJob, Failure> {
    let job = noted.job.clone();
    if noted.run != plan.run.run {
        let maker = JobMaker::EarlierRun;
        return Ok(NotedJob { job, maker, once: Vec::new(), in_doubt: Vec::new() });
    }
    let once = jobs::once(state, &plan.run, noted).await?;
    let (own, others) = std::mem::take(in_doubt).into_iter().partition(|it| once.contains(&it.n));
    *in_doubt = others;
    Ok(NotedJob { job, maker: JobMaker::ThisChunk, once, in_doubt: own })
}

/// A destination's cursor with the attempt that it comes from. One that is too long for a payload is left out: it is a hint.
fn marked(attempt: &str, cursor: Option<String>) -> Option<String> {
    cursor.map(|cursor| format!("{attempt}.{cursor}")).filter(|cursor| cursor.len() <= LONGEST_CURSOR)
}

/// The destination's cursor, if it comes from the last attempt: a redrive brings an old one.
fn fresh(cursor: Option<&str>, attempts: &[attempts::Recorded]) -> Option<String> {
    let (attempt, cursor) = cursor?.split_once('.')?;
    attempts.last().filter(|last| last.name == attempt).map(|_| cursor.to_owned())
}

/// Whole seconds for the Wait state: none, or at least [`SHORTEST_WAIT`].
fn wait_seconds(wait: Duration) -> u32 {
    if wait.is_zero() {
        return 0;
    }
    let wait = wait.max(SHORTEST_WAIT);
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

async fn deliver(context: &Context, plan: &RunPlan, work: Work<'_>) -> Result<Rest, Failure> {
    let width = plan.definition.concurrency();
    let parts = context.parts.clone();
    let destination: Arc<dyn Destination> =
        penstock_destinations::open_guarded(&plan.definition, parts, context.guard.as_ref(), width)?;
    destination.deliver(work).await
}

/// A chunk's operations without a final outcome.
struct Unfinished {
    /// Those that need sending.
    operations: Vec<Operation>,
    /// Those that may have been carried out and can't be repeated.
    in_doubt: Vec<Operation>,
}

async fn unfinished(state: &dyn Objects, plan: &RunPlan, chunk: u32) -> Result<Unfinished, Failure> {
    let keys = plan.run.keys();
    let known = receipts::answers(state, &keys, chunk).await?;
    let key = keys.operations(chunk);
    let capabilities = plan.definition.capabilities();
    let may_repeat = |operation: &Operation| {
        capabilities
            .operations
            .get(&operation.kind)
            .is_none_or(|capability| capability.repeat == Repeat::Safe)
    };
    let mut unfinished = Unfinished { operations: Vec::new(), in_doubt: Vec::new() };
    let sort = |line: Transformed| {
        let Transformed::Operation(operation) = line else { return };
        match known.outcomes.get(&operation.n) {
            None => unfinished.operations.push(operation),
            Some(Outcome::Unknown { .. }) if may_repeat(&operation) => unfinished.operations.push(operation),
            Some(Outcome::Unknown { .. }) => unfinished.in_doubt.push(operation),
            Some(
                Outcome::Accepted { .. }
                | Outcome::Skipped { .. }
                | Outcome::Rejected { .. }
                | Outcome::DeadLettered { .. },
            ) => {}
        }
    };
    if !operations::read_each(state, &key, sort).await? {
        return Err(Failure::new(FailureName::ChunkUnreadable, format!("object {key} is gone")));
    }
    Ok(unfinished)
}

/// Refuses a chunk over which the last few attempts have died without a single receipt: the state machine only sees
/// that each was followed by one that had to wait.
async fn check_poison(
    context: &Context,
    plan: &RunPlan,
    chunk: u32,
    attempts: &[attempts::Recorded],
) -> Result<(), Failure> {
    let now = context.parts.clock.now();
    if attempts.iter().filter(|attempt| attempt.died(now)).count() < DEATHS_OF_POISON {
        return Ok(());
    }
    let known = receipts::answers(context.state.as_ref(), &plan.run.keys(), chunk).await?;
    let in_vain =
        |attempt: &&attempts::Recorded| attempt.died(now) && !known.attempts.contains(&attempt.name);
    let died: Vec<_> = attempts.iter().rev().take_while(in_vain).take(DEATHS_OF_POISON).collect();
    let Some(first) = died.last().filter(|_| died.len() == DEATHS_OF_POISON) else { return Ok(()) };
    // Whoever redrives a run has mended the cause, or has killed the run himself.
    let redriven_at = plans::redriven_at(context.executions.as_ref(), plan).await?;
    if redriven_at
        .is_some_and(|redriven_at| attempts::began(&first.name).is_none_or(|began| began < redriven_at))
    {
        return Ok(());
    }
    Err(Failure::new(
        FailureName::ChunkPoisoned,
        format!(
            "{DEATHS_OF_POISON} pushes of chunk {chunk} in a row have died without an answer; see the function's log around them"
        ),
    ))
}

/// Repeats the failure that another push has left for all, unless the run was redriven since.
async fn check_abort(context: &Context, plan: &RunPlan) -> Result<(), Failure> {
    let key = plan.run.keys().abort();
    let Some((marker, _)) = json::get_json::<AbortMarker>(context.state.as_ref(), &key).await? else {
        return Ok(());
    };
    let redriven_at = plans::redriven_at(context.executions.as_ref(), plan).await?;
    if redriven_at.is_some_and(|redriven_at| redriven_at > marker.writer_started) {
        return Ok(());
    }
    Err(Failure::new(marker.name, marker.message))
}

/// Leaves the failure for all other pushes of the run. A marker from before a redrive is replaced.
async fn abort(
    state: &dyn Objects,
    plan: &RunPlan,
    failure: &Failure,
    writer_started: Timestamp,
) -> Result<(), Failure> {
    let key = plan.run.keys().abort();
    let marker = AbortMarker { name: failure.name, message: failure.full_message(), writer_started };
    let condition = match json::get_json::<AbortMarker>(state, &key).await? {
        None => Condition::IfAbsent,
        Some((_, etag)) => Condition::IfMatch(etag),
    };
    json::put_json(state, &key, &marker, condition).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_attempt_s_cursor_counts() {
        let attempts: Vec<_> = ["a", "b"]
            .map(|name| attempts::Recorded { name: name.to_owned(), deadline: None, idle: false })
            .to_vec();
        let cursor = |attempt| marked(attempt, Some("7.5".to_owned()));
        assert_eq!(fresh(cursor("b").as_deref(), &attempts).as_deref(), Some("7.5"));
        assert_eq!(fresh(cursor("a").as_deref(), &attempts), None);
        assert_eq!(fresh(cursor("a").as_deref(), &[]), None);
        assert_eq!(fresh(None, &attempts), None);
    }

    #[test]
    fn a_cursor_that_is_too_long_for_a_payload_is_left_out() {
        let marked = |length| marked("a", Some("7".repeat(length))).map(|cursor| cursor.len());
        assert_eq!(marked(LONGEST_CURSOR - 2), Some(LONGEST_CURSOR));
        assert_eq!(marked(LONGEST_CURSOR - 1), None);
    }

    #[test]
    fn an_attempt_sends_for_two_minutes_and_an_answer_and_never_past_the_invocation_s_end() {
        for (end_s, answer_s, expected_s) in [(600, 0, 120), (600, 300, 420), (15, 0, 15), (300, 300, 300)] {
            let [end, expected] = [end_s, expected_s].map(|seconds| Timestamp(7 + seconds * 1_000));
            assert_eq!(deadline(Timestamp(7), end, Duration::from_secs(answer_s)), expected);
        }
    }

    #[test]
    fn a_wait_is_none_or_half_a_minute_and_in_whole_seconds() {
        for (wait_ms, seconds) in [(0, 0), (1, 30), (30_000, 30), (30_001, 31), (3_600_000, 3600)] {
            assert_eq!(wait_seconds(Duration::from_millis(wait_ms)), seconds, "{wait_ms} ms");
        }
    }
}
