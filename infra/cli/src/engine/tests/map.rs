//! Distributed Maps.

use serde_json::{Value, json};

use super::super::testing::{Bench, at_items, machine, map, task};
use super::super::{Progress, StateFailure, Status};

/// A child that invokes `${F}` with its item's number.
fn child() -> Value {
    json!({"C": task(json!({
        "Parameters": {"FunctionName": "${F}", "Payload": {"n.$": "$.n"}}, "ResultPath": null}))})
}

fn succeeded(progress: &Progress) -> bool {
    matches!(progress.status, Status::Succeeded { .. })
}

#[tokio::test(start_paused = true)]
async fn children_run_as_wide_as_said() {
    for (more, widest, seconds) in [
        (json!({"MaxConcurrency": 3}), 3, 40),
        (json!({"MaxConcurrencyPath": "$.width"}), 2, 50),
        (json!({"MaxConcurrency": 0}), 10, 10),
        (json!({}), 10, 10),
    ] {
        let states = json!({"A": map(child(), more)});
        let bench = Bench::new(machine(states), |_| (10, Ok(json!(1)))).with_items(10);
        let started = tokio::time::Instant::now();
        let input = json!({"bucket": "b", "key": "k", "width": 2});
        let progress = bench.start(input.clone()).await;
        assert_eq!(progress.status, Status::Succeeded { output: input });
        assert_eq!((bench.functions.widest(), started.elapsed().as_secs()), (widest, seconds));
        assert_eq!(bench.functions.completed().len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_gets_what_the_item_selector_takes_from_input_context_and_item() {
    let selector = json!({"run.$": "$.plan.run", "name.$": "$$.Execution.Name", "n.$": "$$.Map.Item.Value.n",
        "item.$": "$$.Map.Item.Value", "index.$": "$$.Map.Item.Index"});
    let states = json!({"A": map(json!({"C": task(json!({}))}), json!({"ItemSelector": selector}))});
    let bench = Bench::new(machine(states), |_| (0, Ok(json!(1)))).with_items(1);
    let mut input = at_items();
    input["plan"] = json!({"run": "r"});
    assert!(succeeded(&bench.start(input).await));
    let child = json!({"run": "r", "name": "run-1", "n": 0, "item": {"n": 0}, "index": 0});
    assert_eq!(bench.functions.completed(), [format!("F {}", json!({"in": child}))]);
}

#[tokio::test(start_paused = true)]
async fn a_map_without_items_succeeds() {
    let bench = Bench::new(machine(json!({"A": map(child(), json!({}))})), |_| unreachable!()).with_items(0);
    assert!(succeeded(&bench.start(at_items()).await));
    assert_eq!(bench.events(), ["0 enter A", "0 map A 0 of 0", "0 exit A"]);
}

#[tokio::test(start_paused = true)]
async fn more_failed_children_than_tolerated_fail_the_map() {
    for (more, failing, fails) in [
        (json!({}), 0, false),
        (json!({}), 1, true),
        (json!({"ToleratedFailureCount": 2}), 2, false),
        (json!({"ToleratedFailureCount": 2}), 3, true),
        (json!({"ToleratedFailurePercentage": 30}), 3, false),
        (json!({"ToleratedFailurePercentage": 30}), 4, true),
        (json!({"ToleratedFailurePercentage": 100}), 10, false),
        (json!({"ToleratedFailureCount": 5, "ToleratedFailurePercentage": 10}), 2, true),
        (json!({"ToleratedFailureCount": 1, "ToleratedFailurePercentage": 90}), 2, true),
    ] {
        let states = json!({"A": map(child(), more.clone())});
        let bench = Bench::new(machine(states), move |call| {
            let broken = call.payload["n"].as_u64().unwrap() < failing;
            (1, if broken { Err("Broken") } else { Ok(json!(1)) })
        })
        .with_items(10);
        let progress = bench.start(at_items()).await;
        assert_eq!(!succeeded(&progress), fails, "{more} {failing}");
        if let Status::Failed(failure) = &progress.status {
            assert_eq!(failure.error, "States.ExceedToleratedFailureThreshold");
            assert_eq!(progress.root_failure().unwrap().error, "Broken");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_map_drops_the_children_that_still_run() {
    let states = json!({"A": map(child(), json!({"MaxConcurrency": 3}))});
    let bench = Bench::new(machine(states), |call| match call.payload["n"].as_u64().unwrap() {
        0 => (1, Ok(json!(1))),
        1 => (5, Err("Broken")),
        _ => (10, Ok(json!(1))),
    })
    .with_items(6);
    let started = tokio::time::Instant::now();
    let progress = bench.start(at_items()).await;
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(bench.functions.completed(), [r#"F {"n":0}"#]);
    let map = progress.map.unwrap();
    assert_eq!((map.items, map.succeeded.into_iter().collect::<Vec<_>>()), (6, vec![0]));
    let stopped: Vec<_> = map
        .children
        .iter()
        .map(|(index, child)| {
            (*index, child.state.as_str(), child.failure.as_ref().map(|f| f.error.as_str()))
        })
        .collect();
    assert_eq!(stopped, [(1, "C", Some("Broken")), (2, "C", None), (3, "C", None)]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_map_can_be_caught_or_run_anew() {
    let more = json!({
        "Retry": [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "IntervalSeconds": 1, "MaxAttempts": 1}],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Z"}], "Next": "Z"});
    let states = json!({"A": map(child(), more), "Z": {"Type": "Succeed"}});
    let bench = Bench::new(machine(states), |call| {
        let broken = call.payload["n"] == 1 && call.nth <= 2;
        (1, if broken { Err("Broken") } else { Ok(json!(1)) })
    })
    .with_items(2);
    let progress = bench.start(at_items()).await;
    let Status::Succeeded { output } = &progress.status else { panic!("{:?}", progress.status) };
    assert_eq!(output["failure"]["Error"], "States.ExceedToleratedFailureThreshold");
    assert_eq!(progress.map, None);
    let again = bench.start(at_items()).await;
    let Status::Succeeded { output } = &again.status else { panic!("{:?}", again.status) };
    assert_eq!(output, &at_items());
    let zero = bench.functions.completed().iter().filter(|call| *call == r#"F {"n":0}"#).count();
    assert_eq!(zero, 3, "a Map that is retried runs every child anew");
}

#[tokio::test(start_paused = true)]
async fn items_that_can_not_be_read_fail_the_map_by_name() {
    let bench = Bench::new(machine(json!({"A": map(child(), json!({}))})), |_| unreachable!());
    let progress = bench.start(at_items()).await;
    let failure =
        StateFailure { error: "States.ItemReaderFailed".into(), cause: "b/k: no such object".into() };
    assert_eq!(progress.status, Status::Failed(failure));
    let progress = bench.start(json!({"bucket": "b"})).await;
    assert_eq!(progress.root_failure().unwrap().error, "States.Runtime");
}

#[tokio::test(start_paused = true)]
async fn children_wait_catch_and_retry_on_their_own() {
    let states = json!({
        "C": task(json!({
            "ResultPath": "$.progress",
            "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 4, "MaxAttempts": 1}],
            "Catch": [{"ErrorEquals": ["Poison"], "ResultPath": "$.failure", "Next": "Letter"}],
            "Parameters": {"FunctionName": "${F}", "Payload": {"n.$": "$.n"}},
            "ResultSelector": {"wait.$": "$.Payload.wait"}, "Next": "More"})),
        "More": {"Type": "Choice", "Choices": [
            {"Variable": "$.progress.wait", "NumericEquals": 0, "Next": "Done"}], "Default": "Pause"},
        "Pause": {"Type": "Wait", "SecondsPath": "$.progress.wait", "Next": "C"},
        "Letter": task(json!({"Parameters": {"FunctionName": "${L}", "Payload": {"n.$": "$.n", "failure.$": "$.failure"}},
            "ResultPath": null, "Next": "Done"})),
        "Done": {"Type": "Succeed"},
    });
    let bench = Bench::new(machine(json!({"A": map(states, json!({}))})), |call| {
        match (call.function.as_str(), call.payload["n"].as_u64().unwrap(), call.nth) {
            ("F", 0, 1) => (0, Ok(json!({"wait": 30}))),
            ("F", 1, 1) => (0, Err("Busy")),
            ("F", 2, _) => (0, Err("Poison")),
            _ => (0, Ok(json!({"wait": 0}))),
        }
    })
    .with_items(3);
    assert!(succeeded(&bench.start(at_items()).await));
    let events = bench.events();
    for expected in [
        "0 wait 0:Pause 30",
        "30 child A 0",
        "0 retry 1:C Busy in 4",
        "4 child A 1",
        "0 catch 2:C Poison to Letter",
        "0 child A 2",
    ] {
        assert!(events.iter().any(|event| event == expected), "{expected} in {events:#?}");
    }
    let letter = r#"L {"failure":{"Cause":"F said so","Error":"Poison"},"n":2}"#;
    assert!(bench.functions.completed().iter().any(|call| call == letter));
}
