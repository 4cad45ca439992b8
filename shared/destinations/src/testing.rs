//! What tests of destinations share: a clock that follows tokio's, randomness without long pauses, secrets that
//! rotate, and a witness that remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_model::definition::SecretRef;
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Boxed, Clock, Freshness, Random, Secret, SecretError, Secrets};
use penstock_model::report::ApiUsage;
use penstock_model::{Failure, FailureName, Timestamp};
use penstock_twins::{Broken, Twin};
use serde_json::Value;

use crate::Transport;
use crate::destination::{Spending, Witness};
use crate::http::transport::{Request, Response, Sent, TransportError, TransportErrorKind};
use crate::reach::Resolver;

/// Goes along with tokio's clock, which a test may pause.
#[derive(Debug)]
pub(crate) struct TokioClock {
    started: tokio::time::Instant,
    base: i64,
}

impl TokioClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { started: tokio::time::Instant::now(), base: jiff::Timestamp::now().as_millisecond() })
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.base).plus(self.started.elapsed())
    }

    fn sleep(&self, duration: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Numbers from nought upwards: jitter is short, and none comes twice.
#[derive(Debug, Default)]
pub(crate) struct Short(AtomicU64);

impl Random for Short {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A twin in the same process: no socket, so that time can be paused.
pub(crate) struct InProcess<T>(pub(crate) T);

impl<T> std::fmt::Debug for InProcess<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

impl<T: Twin> Transport for InProcess<T> {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let path = request.url.strip_prefix("http://twin").unwrap().to_owned();
            // A round trip takes a moment, so that requests are in flight together.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let reply = self.0.handle(&request.method, &path, &request.headers, &request.whole_body());
            tokio::time::sleep(reply.after).await;
            match reply.outcome {
                Ok(answer) => {
                    let (parts, body) = answer.into_parts();
                    Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
                }
                Err(Broken::Reset | Broken::AnswerLost | Broken::Truncated { .. }) => {
                    Err(TransportError { sent: Sent::Maybe, kind: TransportErrorKind::Broken, source: None })
                }
            }
        })
    }
}

/// A secret whose cached form may be out of date.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) cached: Mutex<String>,
    pub(crate) fresh: Mutex<String>,
    pub(crate) fetched: Mutex<Vec<Freshness>>,
}

impl Kept {
    pub(crate) fn new(cached: &str, fresh: &str) -> Arc<Self> {
        Arc::new(Self {
            cached: Mutex::new(cached.to_owned()),
            fresh: Mutex::new(fresh.to_owned()),
            fetched: Mutex::default(),
        })
    }
}

impl Secrets for Kept {
    fn fetch<'a>(&'a self, _: &'a SecretRef, freshness: Freshness) -> Boxed<'a, Result<Secret, SecretError>> {
        self.fetched.lock().unwrap().push(freshness);
        let text = match freshness {
            Freshness::Cached => &self.cached,
            Freshness::Fresh => &self.fresh,
        };
        Box::pin(std::future::ready(Ok(Secret::new(text.lock().unwrap().clone()))))
    }
}

/// Remembers what it is told.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    lines: Mutex<Vec<ReceiptLine>>,
    pub(crate) intents: Mutex<Vec<u32>>,
    pub(crate) withdrawn: Mutex<Vec<u32>>,
    /// Jobs that were noted and not forgotten, each with those of its operations that can't be sent twice.
    pub(crate) jobs: Mutex<BTreeMap<String, Vec<u32>>>,
    /// What was announced since it was last taken back, or recorded.
    doubtful: Mutex<BTreeSet<u32>>,
    usage: Mutex<ApiUsage>,
    asked: AtomicU64,
    /// From this question on, sending is not allowed any more; 0 allows always.
    fence: u64,
}

impl Memory {
    pub(crate) fn fenced_after(questions: u64) -> Self {
        Self { fence: questions + 1, ..Self::default() }
    }

    /// The outcomes by ordinal; panics if one operation has two.
    pub(crate) fn outcomes(&self) -> BTreeMap<u32, Outcome> {
        let mut outcomes = BTreeMap::new();
        for line in self.lines.lock().unwrap().iter() {
            assert!(outcomes.insert(line.n, line.outcome.clone()).is_none(), "two outcomes for {}", line.n);
        }
        outcomes
    }

    /// The outcomes in words, which their Debug form hides, with how many there are of each.
    pub(crate) fn tally(&self) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for outcome in self.outcomes().values() {
            *tally.entry(word(outcome)).or_default() += 1;
        }
        tally
    }

    /// What was announced and has no outcome.
    pub(crate) fn doubtful(&self) -> BTreeSet<u32> {
        self.doubtful.lock().unwrap().clone()
    }

    /// Takes over what another one remembers: a later push's, whose jobs are all that there are.
    pub(crate) fn absorb(&self, later: Self) {
        {
            let (withdrawn, outcomes) = (later.withdrawn.lock().unwrap(), later.outcomes());
            let mut doubtful = self.doubtful.lock().unwrap();
            doubtful.retain(|n| !withdrawn.contains(n) && !outcomes.contains_key(n));
            doubtful.extend(later.doubtful());
        }
        self.lines.lock().unwrap().extend(later.lines.into_inner().unwrap());
        self.intents.lock().unwrap().extend(later.intents.into_inner().unwrap());
        self.withdrawn.lock().unwrap().extend(later.withdrawn.into_inner().unwrap());
        *self.jobs.lock().unwrap() = later.jobs.into_inner().unwrap();
        *self.usage.lock().unwrap() += later.usage.into_inner().unwrap();
    }

    pub(crate) fn usage(&self) -> ApiUsage {
        *self.usage.lock().unwrap()
    }
}

impl Witness for Memory {
    fn may_send(&self) -> Boxed<'_, Result<(), Failure>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let fenced = self.fence > 0 && asked >= self.fence;
        Box::pin(std::future::ready(if fenced {
            Err(Failure::new(FailureName::Superseded, "another run goes on"))
        } else {
            Ok(())
        }))
    }

    fn spend(&self) -> Boxed<'_, Result<Spending, Failure>> {
        Box::pin(std::future::ready(Ok(Spending::Granted)))
    }

    fn intend<'a>(&'a self, ordinals: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        self.intents.lock().unwrap().extend(ordinals);
        self.doubtful.lock().unwrap().extend(ordinals);
        Box::pin(std::future::ready(Ok(())))
    }

    fn withdraw<'a>(&'a self, ordinals: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        self.withdrawn.lock().unwrap().extend(ordinals);
        self.doubtful.lock().unwrap().retain(|n| !ordinals.contains(n));
        Box::pin(std::future::ready(Ok(())))
    }

    fn record(&self, lines: Vec<ReceiptLine>) -> Boxed<'_, Result<(), Failure>> {
        self.doubtful.lock().unwrap().retain(|n| lines.iter().all(|line| line.n != *n));
        self.lines.lock().unwrap().extend(lines);
        Box::pin(std::future::ready(Ok(())))
    }

    fn note_job<'a>(&'a self, job: &'a str, once: &'a [u32]) -> Boxed<'a, Result<(), Failure>> {
        self.jobs.lock().unwrap().insert(job.to_owned(), once.to_vec());
        Box::pin(std::future::ready(Ok(())))
    }

    fn forget_job<'a>(&'a self, job: &'a str) -> Boxed<'a, Result<(), Failure>> {
        self.jobs.lock().unwrap().remove(job);
        Box::pin(std::future::ready(Ok(())))
    }

    fn count(&self, usage: ApiUsage) {
        *self.usage.lock().unwrap() += usage;
    }
}

pub(crate) fn operation(n: u32, kind: OperationKind, matched: &Value, fields: &Value) -> Operation {
    let raw = |value| Json::of(value).unwrap();
    Operation { n, kind, key: raw(matched), matched: raw(matched), id: None, fields: raw(fields), asks: None }
}

/// An outcome in a word or two.
pub(crate) fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { created: Some(true), .. } => "created".into(),
        Outcome::Accepted { created: Some(false), .. } => "updated".into(),
        Outcome::Accepted { created: None, .. } => "accepted".into(),
        Outcome::Skipped { why } => format!("skipped {why:?}"),
        Outcome::Unknown { .. } => "unknown".into(),
        Outcome::Rejected { code, .. } => format!("rejected {code}"),
        Outcome::DeadLettered { .. } => "dead".into(),
    }
}

/// Names with one answer after another; the last stays.
#[derive(Debug)]
pub(crate) struct Names(Mutex<Vec<Vec<IpAddr>>>);

impl Names {
    pub(crate) fn answering(answers: &[&[&str]]) -> Arc<Self> {
        let read = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().rev().map(read).collect())))
    }
}

impl Resolver for Names {
    fn resolve(&self, _: String) -> Boxed<'_, io::Result<Vec<IpAddr>>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        Box::pin(std::future::ready(Ok(answer.unwrap())))
    }
}
