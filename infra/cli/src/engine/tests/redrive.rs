//! Redrive: an execution goes on where it stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::testing::{Bench, at_items, machine, map, task};
use super::super::{NotRedrivable, Progress, Status};

fn succeeded(progress: &Progress) -> bool {
    matches!(progress.status, Status::Succeeded { .. })
}

/// A Task `${name}` whose payload is the item's number.
fn step(name: &str, more: Value) -> Value {
    let mut fields = json!({
        "Parameters": {"FunctionName": format!("${{{name}}}"), "Payload": {"n.$": "$.n"}}, "ResultPath": null});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task(fields)
}

/// First, then a Map whose children run Transform, Push, then Last.
fn pipeline() -> Value {
    let children = json!({
        "C": step("Transform", json!({"Next": "Push"})),
        "Push": step("Push", json!({"Next": "Pause"})),
        "Pause": {"Type": "Wait", "Seconds": 20, "Next": "Commit"},
        "Commit": step("Commit", json!({})),
    });
    machine(json!({
        "A": step("First", json!({"Next": "M"})),
        "M": map(children, json!({"MaxConcurrency": 3, "Next": "Last"})),
        "Last": step("Last", json!({})),
    }))
}

fn input() -> Value {
    let mut input = at_items();
    input["n"] = json!("run");
    input
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_runs_again_with_its_input_and_its_retries() {
    let states = json!({
        "A": task(json!({"Next": "B"})),
        "B": task(json!({"Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 2}]})),
    });
    let bench = Bench::new(machine(states), |call| {
        let is_b = call.payload["in"].get("result").is_some();
        // The redrive's own retries are needed to come through.
        (0, if is_b && call.nth <= 5 { Err("Busy") } else { Ok(json!(call.nth)) })
    });
    let progress = bench.start(json!({})).await;
    assert_eq!(progress.root_failure().unwrap().error, "Busy");
    assert_eq!(progress.position.input, json!({"result": {"out": 1}}));
    bench.events();
    let progress = bench.redrive(&progress).await;
    assert!(succeeded(&progress));
    assert_eq!((progress.redrives, progress.redriven_at.is_some()), (1, true));
    assert_eq!(bench.events(), ["3 enter B", "3 retry B Busy in 1", "4 retry B Busy in 2", "6 exit B"]);
    let first = bench.functions.completed().iter().filter(|call| *call == r#"F {"in":{}}"#).count();
    assert_eq!(first, 1, "a state that was left is not run again");
}

#[tokio::test(start_paused = true)]
async fn children_go_on_from_the_state_where_each_stopped() {
    let mended = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&mended);
    let bench = Bench::new(pipeline(), move |call| {
        let down = call.function == "Commit" && call.payload["n"] == 1 && !up.load(Ordering::SeqCst);
        // Child 2 is a second behind: it still waits when child 1 fails. Child 3 starts when child 0 is done.
        let seconds = if call.function == "Transform" { 1 + call.payload["n"].as_u64().unwrap() } else { 0 };
        (seconds, if down { Err("Unauthorized") } else { Ok(json!(1)) })
    })
    .with_items(5);
    let progress = bench.start(input()).await;
    assert_eq!(progress.root_failure().unwrap().error, "Unauthorized");
    let map = progress.map.as_ref().unwrap();
    let stopped: BTreeMap<u32, &str> =
        map.children.iter().map(|(n, child)| (*n, child.state.as_str())).collect();
    assert_eq!(stopped, BTreeMap::from([(1, "Commit"), (2, "Pause"), (3, "C")]));

    mended.store(true, Ordering::SeqCst);
    bench.events();
    let progress = bench.redrive(&progress).await;
    assert!(succeeded(&progress), "{:?}", progress.status);
    let events = bench.events();
    assert_eq!(events[..2], ["22 enter M", "22 map M 4 of 5"]);
    let mut expected: Vec<String> =
        ["First", "Last"].iter().map(|f| format!(r#"{f} {{"n":"run"}}"#)).collect();
    for function in ["Transform", "Push", "Commit"] {
        expected.extend((0..5).map(|n| format!(r#"{function} {{"n":{n}}}"#)));
    }
    expected.sort();
    assert_eq!(bench.functions.completed(), expected, "each function has answered once for each child");
    assert!(
        events.contains(&"22 enter 2:Pause".to_owned()) && events.contains(&"42 exit 2:Pause".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_map_whose_items_could_not_be_read_is_started_by_the_redrive() {
    let bench = Bench::new(pipeline(), |_| (0, Ok(json!(1))));
    let progress = bench.start(input()).await;
    assert_eq!(progress.root_failure().unwrap().error, "States.ItemReaderFailed");
    let bench = bench.with_items(2);
    assert!(succeeded(&bench.redrive(&progress).await));
}

#[tokio::test(start_paused = true)]
async fn a_redrive_finds_the_same_items_or_stops() {
    let bench = Bench::new(pipeline(), |call| match call.function.as_str() {
        "Push" => (0, Err("Broken")),
        _ => (0, Ok(json!(1))),
    })
    .with_items(2);
    let progress = bench.start(input()).await;
    let bench = bench.with_items(3);
    let progress = bench.redrive(&progress).await;
    let failure = progress.root_failure().unwrap();
    assert_eq!(failure.error, "States.ItemReaderFailed");
    assert_eq!(failure.cause, "there are 3 items, and there were 2 before the redrive");
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_has_succeeded_or_does_not_fit_is_not_redriven() {
    let bench = Bench::new(pipeline(), |call| {
        (0, if call.function == "Push" && call.nth == 1 { Err("Broken") } else { Ok(json!(1)) })
    })
    .with_items(1);
    let failed = bench.start(input()).await;
    let refused = async |change: &dyn Fn(&mut Progress)| {
        let mut progress = failed.clone();
        change(&mut progress);
        bench.engine.redrive(progress, &bench.recorder).await.unwrap_err()
    };
    let unknown = |state: &str| NotRedrivable::UnknownState(state.to_owned());
    assert_eq!(refused(&|p| p.position.state = "Old".into()).await, unknown("Old"));
    assert_eq!(refused(&|p| p.position.state = "A".into()).await, unknown("M"));
    let old_child =
        |p: &mut Progress| p.map.as_mut().unwrap().children.get_mut(&0).unwrap().state = "Old".into();
    assert_eq!(refused(&old_child).await, unknown("Old"));
    let mut other: Value = serde_json::to_value(&failed).unwrap();
    other["version"] = json!(9);
    let other = serde_json::from_value(other).unwrap();
    assert_eq!(bench.engine.redrive(other, &bench.recorder).await.unwrap_err(), NotRedrivable::Version(9));

    let done = bench.redrive(&failed).await;
    assert!(succeeded(&done));
    assert_eq!(bench.engine.redrive(done, &bench.recorder).await.unwrap_err(), NotRedrivable::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn whatever_the_observer_was_given_last_can_be_redriven() {
    let bench = Bench::new(pipeline(), |_| (1, Ok(json!(1)))).with_items(4);
    bench.start(input()).await;
    let steps = std::mem::take(&mut *bench.recorder.progress.lock().unwrap());
    assert!(steps.len() > 4 * 8, "after each state of each child");
    for progress in steps.iter().filter(|progress| progress.status == Status::Running) {
        let children = progress.map.as_ref().map_or(0, |map| map.succeeded.len());
        let bench = Bench::new(pipeline(), |_| (0, Ok(json!(1)))).with_items(4);
        let end = bench.redrive(progress).await;
        assert!(succeeded(&end));
        let commits = bench.functions.completed().iter().filter(|call| call.starts_with("Commit")).count();
        let passed = progress.exited.iter().any(|exited| exited.state == "M");
        assert_eq!(commits, if passed { 0 } else { 4 - children });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often which calls fail, redriving until it succeeds has each function answer once for each child.
    #[test]
    fn redriving_until_it_succeeds_does_every_step_once(
        failures in prop::collection::btree_map((0..3_usize, 0..6_usize), 1..4_u32, 0..8),
        seconds in prop::collection::vec(0..4_u64, 6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let functions = ["Transform", "Push", "Commit"];
            let bench = Bench::new(pipeline(), move |call| {
                let item = call.payload["n"].as_u64().and_then(|n| usize::try_from(n).ok());
                let Some(n) = item else { return (0, Ok(json!(1))) };
                let at = functions.iter().position(|&f| f == call.function).unwrap();
                let fails = failures.get(&(at, n)).is_some_and(|times| call.nth <= *times);
                (seconds[n], if fails { Err("Down") } else { Ok(json!(1)) })
            })
            .with_items(6);
            let mut progress = bench.start(input()).await;
            for _ in 0..64 {
                if succeeded(&progress) {
                    break;
                }
                progress = bench.redrive(&progress).await;
            }
            assert!(succeeded(&progress));
            assert_eq!(bench.functions.completed().len(), 2 + 3 * 6);
        });
    }
}
