//! Lambda on a bad day: invocations die at any await point, go on although nobody waits for them any more, come twice,
//! come late, or are answered into the void.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use penstock_cli::engine::{TaskError, Tasks};
use penstock_cli::local::Functions;
use penstock_cli::local::time_of;
use penstock_model::port::Boxed;
use serde_json::Value;

use crate::world::Dice;

/// What `infra/sync.asl.json` calls its functions.
const STATE_MACHINE: &str = include_str!("../../../sync.asl.json");

/// The functions of the state machine, by name: `PlanFunction`.
fn known_functions() -> BTreeSet<&'static str> {
    STATE_MACHINE.split("${").filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
}

tokio::task_local! {
    /// Whether the sandbox of this invocation is dying.
    static SANDBOX: Arc<AtomicBool>;
}

/// Kills the sandbox that this is called in: nothing of the invocation goes on.
pub(crate) async fn die<T>() -> T {
    // Invocations that are frozen, or late, have no sandbox of their own.
    SANDBOX.try_with(|dying| dying.store(true, Ordering::Relaxed)).ok();
    std::future::pending().await
}

/// The functions, as the state machine reaches them.
pub(crate) struct Lambda {
    functions: Arc<Functions>,
    dice: Dice,
    /// Of a thousand invocations, how many something happens to.
    mishaps: AtomicU64,
    failures: Failures,
    /// What happens to every invocation of a function, whatever the dice say.
    always: Mutex<BTreeMap<String, Mishap>>,
}

/// The failures that functions gave, by name, each with the first cause.
type Failures = Arc<Mutex<BTreeMap<String, String>>>;

/// What happens to an invocation.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// The sandbox dies at its n-th await.
    Dies(u64),
    /// The platform loses sight of it: the state machine hears of a failure, the function goes on.
    Lost(u64),
    /// It never began.
    Throttled,
    /// It is invoked twice at the same time.
    Twice,
    /// It is invoked again, long after.
    Late(u64),
    /// It was carried out, and its answer was lost.
    Unheard,
    /// It stands still at its n-th await, for so long, and then goes on as if nothing had been: a laptop whose lid was
    /// closed. The state machine has given it up meanwhile.
    Frozen(u64, Duration),
}

impl Lambda {
    pub(crate) fn new(functions: Arc<Functions>, dice: Dice) -> Arc<Self> {
        Arc::new(Self {
            functions,
            dice,
            mishaps: AtomicU64::new(0),
            failures: Failures::default(),
            always: Mutex::default(),
        })
    }

    pub(crate) fn mishaps(&self, per_mille: u64) {
        self.mishaps.store(per_mille, Ordering::Relaxed);
    }

    /// The failures that functions gave so far, by name, each with its first cause.
    pub(crate) fn failures(&self) -> BTreeMap<String, String> {
        self.failures.lock().unwrap().clone()
    }

    /// Every invocation of this function comes twice.
    pub(crate) fn always_twice(&self, function: &str) {
        self.always(function, Mishap::Twice);
    }

    /// Every invocation of this function comes again after so long.
    pub(crate) fn always_late(&self, function: &str, after: Duration) {
        self.always(function, Mishap::Late(u64::try_from(after.as_millis()).unwrap()));
    }

    fn always(&self, function: &str, mishap: Mishap) {
        let known = known_functions();
        assert!(known.contains(function), "there is no function {function}, but {known:?}");
        self.always.lock().unwrap().insert(function.to_owned(), mishap);
    }

    fn mishap(&self, function: &str) -> Option<Mishap> {
        if let Some(mishap) = self.always.lock().unwrap().get(function) {
            return Some(*mishap);
        }
        if !self.dice.per_mille(self.mishaps.load(Ordering::Relaxed)) {
            return None;
        }
        Some(match self.dice.between(0, 10) {
            10 => {
                let after = self.dice.one_of(&[3, 10, 30]) * self.dice.between(1, 10) / 5 + 1;
                Mishap::Frozen(after, Duration::from_millis(self.dice.between(1, 90_000)))
            }
            0..=3 => Mishap::Dies(self.dice.one_of(&[3, 10, 30, 100]) * self.dice.between(1, 10) / 5 + 1),
            4 => Mishap::Lost(self.dice.between(1, 20_000)),
            5 => Mishap::Throttled,
            6 | 7 => Mishap::Twice,
            8 => Mishap::Late(self.dice.between(1, 120_000)),
            _ => Mishap::Unheard,
        })
    }

    /// Begins an invocation that nobody can take back: it goes on also if its caller does not wait for it.
    fn begin(&self, function: &str, payload: Value, dies_after: Option<u64>) -> Invocation {
        let (functions, function) = (self.functions.clone(), function.to_owned());
        let failures = self.failures.clone();
        Invocation(tokio::spawn(SANDBOX.scope(Arc::default(), async move {
            let time = time_of(&function);
            let call = Stopping { inner: functions.invoke(&function, payload), left: dies_after };
            match tokio::time::timeout(time, call).await {
                Ok(Some(answer)) => answer.inspect_err(|error| {
                    failures.lock().unwrap().entry(error.name.clone()).or_insert_with(|| error.cause.clone());
                }),
                Ok(None) => Err(platform("Runtime.ExitError")),
                Err(_) => Err(platform("Sandbox.Timedout")),
            }
        })))
    }

    async fn call(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        match self.mishap(function) {
            None => self.begin(function, payload, None).await,
            Some(Mishap::Dies(after)) => self.begin(function, payload, Some(after)).await,
            Some(Mishap::Lost(after_ms)) => {
                let invocation = self.begin(function, payload, None);
                match tokio::time::timeout(Duration::from_millis(after_ms), invocation).await {
                    Ok(answer) => answer,
                    Err(_) => Err(platform("Lambda.Unknown")),
                }
            }
            Some(Mishap::Throttled) => Err(platform("Lambda.TooManyRequestsException")),
            Some(Mishap::Twice) => {
                let second = self.begin(function, payload.clone(), None);
                let first = self.begin(function, payload, None);
                if self.dice.per_mille(500) { first.await } else { second.await }
            }
            Some(Mishap::Late(after_ms)) => {
                let answer = self.begin(function, payload.clone(), None).await;
                let (functions, function) = (self.functions.clone(), function.to_owned());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    let time = time_of(&function);
                    drop(tokio::time::timeout(time, functions.invoke(&function, payload)).await);
                });
                answer
            }
            Some(Mishap::Frozen(after, length)) => {
                let (functions, name) = (self.functions.clone(), function.to_owned());
                let call = tokio::spawn(async move {
                    let mut call = Stopping { inner: functions.invoke(&name, payload), left: Some(after) };
                    match (&mut call).await {
                        Some(answer) => answer,
                        None => {
                            tokio::time::sleep(length).await;
                            call.inner.await
                        }
                    }
                });
                match tokio::time::timeout(time_of(function), call).await {
                    Ok(answer) => answer.unwrap(),
                    Err(_) => Err(platform("Sandbox.Timedout")),
                }
            }
            Some(Mishap::Unheard) => {
                drop(self.begin(function, payload, None).await);
                Err(platform("Lambda.SdkClientException"))
            }
        }
    }
}

impl Tasks for Lambda {
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>> {
        Box::pin(self.call(function, payload))
    }
}

fn platform(name: &str) -> TaskError {
    TaskError { name: name.to_owned(), cause: "the platform".to_owned() }
}

/// An invocation under way.
struct Invocation(tokio::task::JoinHandle<Result<Value, TaskError>>);

impl Future for Invocation {
    type Output = Result<Value, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Result::unwrap)
    }
}

/// A future that comes to nothing at one of its awaits, if `left` says so; what is left of it is in `inner`.
struct Stopping<'a> {
    inner: Boxed<'a, Result<Value, TaskError>>,
    left: Option<u64>,
}

impl Future for Stopping<'_> {
    type Output = Option<Result<Value, TaskError>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Poll::Ready(None);
            }
            *left -= 1;
        }
        let polled = self.inner.as_mut().poll(context).map(Some);
        if SANDBOX.try_with(|dying| dying.load(Ordering::Relaxed)) == Ok(true) {
            return Poll::Ready(None);
        }
        polled
    }
}
