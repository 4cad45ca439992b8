//! The lease, as runs that overlap, die and come late see it.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use penstock_model::contract::RunRef;
use penstock_model::port::{
    Boxed, Condition, ETag, Execution, ExecutionStatus, Executions, ExecutionsUnavailable, ObjectError,
    ObjectMeta, Objects, Put, Random,
};
use penstock_model::{Failure, FailureName};
use penstock_store::lease::{self, Held, Ports};
use penstock_store::{FolderObjects, MemoryObjects};

/// A table of executions; what is not in it is not known.
#[derive(Debug, Default)]
struct Table(Mutex<HashMap<String, ExecutionStatus>>);

impl Table {
    fn set(&self, execution: &str, status: ExecutionStatus) {
        self.0.lock().unwrap().insert(execution.to_owned(), status);
    }
}

impl Executions for Table {
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        let status = self.0.lock().unwrap().get(execution).copied();
        Box::pin(async move { Ok(status.map(|status| Execution { status, redriven_at: None })) })
    }

    fn start<'a>(&'a self, _: &'a str, _: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        Box::pin(async { Ok(false) })
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Sends every write twice and hands on the second answer, as a client does whose first answer was lost.
#[derive(Debug)]
struct Repeating(MemoryObjects);

impl Objects for Repeating {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        self.0.get(key)
    }
    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        self.0.get_range(key, range, version)
    }
    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        self.0.head(key)
    }
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            self.0.put(key, body.clone(), condition.clone()).await?;
            self.0.put(key, body, condition).await
        })
    }
    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        self.0.list(prefix)
    }
    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        self.0.delete(key)
    }
    fn bucket(&self) -> &str {
        self.0.bucket()
    }
}

struct House {
    objects: Arc<dyn Objects>,
    executions: Table,
    random: Counting,
}

impl House {
    fn new(objects: impl Objects + 'static) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::new(objects),
            executions: Table::default(),
            random: Counting::default(),
        })
    }

    async fn take(&self, run: &str) -> Result<Held, Failure> {
        let ports = Ports { objects: &*self.objects, executions: &self.executions, random: &self.random };
        lease::take(ports, "s", run, &format!("arn:{run}")).await
    }

    async fn release(&self, held: &Held) -> Result<(), Failure> {
        lease::release(&*self.objects, &self.random, &run_ref(held)).await
    }
}

fn run_ref(held: &Held) -> RunRef {
    RunRef { sync: "s".to_owned(), run: held.lease.run.clone(), fence: held.lease.fence }
}

fn name<T: std::fmt::Debug>(result: Result<T, Failure>) -> FailureName {
    result.unwrap_err().name
}

#[tokio::test]
async fn a_run_takes_the_lease_and_gives_it_back() {
    let house = House::new(MemoryObjects::new());
    let first = house.take("one").await.unwrap();
    assert_eq!((first.lease.fence, first.lease.released), (1, false));
    assert_eq!(house.take("one").await.unwrap(), first, "a function that runs twice");
    lease::verify(&*house.objects, &run_ref(&first)).await.unwrap();
    house.release(&first).await.unwrap();
    house.release(&first).await.unwrap();

    let second = house.take("two").await.unwrap();
    assert_eq!(second.lease.fence, 2);
    assert_eq!(second.lease.unfinished, [""; 0], "who gave it back left nothing unfinished");
    let late = lease::verify(&*house.objects, &run_ref(&first)).await.unwrap_err();
    assert_eq!(late.name, FailureName::Superseded);
    assert!(late.message.contains("run two"), "{}", late.message);
    assert_eq!(name(house.release(&first).await), FailureName::Superseded);
}

#[tokio::test]
async fn a_running_holder_is_waited_for_and_a_dead_one_is_fenced_off() {
    let house = House::new(MemoryObjects::new());
    let one = house.take("one").await.unwrap();
    house.executions.set("arn:one", ExecutionStatus::Running);
    let waiting = house.take("two").await.unwrap_err();
    assert_eq!(waiting.name, FailureName::RunInProgress);
    assert!(waiting.message.contains("run one"), "{}", waiting.message);
    lease::verify(&*house.objects, &run_ref(&one)).await.unwrap();

    house.executions.set("arn:one", ExecutionStatus::Ended);
    let two = house.take("two").await.unwrap();
    assert_eq!((two.lease.fence, two.lease.unfinished.clone()), (2, vec!["one".to_owned()]));
    assert_eq!(name(lease::verify(&*house.objects, &run_ref(&one)).await), FailureName::Superseded);

    // The platform has forgotten run two.
    let three = house.take("three").await.unwrap();
    assert_eq!(three.lease.unfinished, ["one", "two"], "oldest first");
    for dead in ["one", "one"] {
        lease::folded(&*house.objects, &house.random, &run_ref(&three), dead).await.unwrap();
    }
    house.release(&three).await.unwrap();
    assert_eq!(house.take("four").await.unwrap().lease.unfinished, ["two"]);
}

#[tokio::test]
async fn unfinished_work_stays_listed_when_the_lease_is_given_back() {
    let house = House::new(MemoryObjects::new());
    house.take("one").await.unwrap();
    let two = house.take("two").await.unwrap();
    house.release(&two).await.unwrap();
    assert_eq!(house.take("three").await.unwrap().lease.unfinished, ["one"]);
}

#[tokio::test]
async fn of_many_runs_at_once_one_gets_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::new(FolderObjects::new(folder.path()));
    let runs: Vec<_> = (0..8).map(|n| format!("run-{n}")).collect();
    for run in &runs {
        house.executions.set(&format!("arn:{run}"), ExecutionStatus::Running);
    }
    let racers: Vec<_> = runs
        .iter()
        .map(|run| {
            let (house, run) = (Arc::clone(&house), run.clone());
            tokio::spawn(async move { house.take(&run).await })
        })
        .collect();
    let mut holders = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            Ok(held) => holders.push(held),
            Err(failure) => assert_eq!(failure.name, FailureName::RunInProgress),
        }
    }
    assert_eq!(holders.len(), 1);
    lease::verify(&*house.objects, &run_ref(&holders[0])).await.unwrap();
}

#[tokio::test]
async fn a_swap_that_refused_its_own_success_is_a_success() {
    let house = House::new(Repeating(MemoryObjects::new()));
    let one = house.take("one").await.unwrap();
    assert_eq!(one.lease.fence, 1);
    house.release(&one).await.unwrap();
    let two = house.take("two").await.unwrap();
    assert_eq!((two.lease.fence, two.lease.unfinished.len()), (2, 0));
}

#[tokio::test]
async fn a_lease_of_a_later_version_is_left_alone() {
    let house = House::new(MemoryObjects::new());
    for lease in [r#"{"version":1,"new":true}"#.to_owned(), {
        let held = house.take("one").await.unwrap();
        serde_json::to_string(&held.lease).unwrap().replace(r#""version":1"#, r#""version":2"#)
    }] {
        house.objects.put("state/s/lease.json", Bytes::from(lease), Condition::Always).await.unwrap();
        assert_eq!(name(house.take("two").await), FailureName::ContractMismatch);
    }
}
