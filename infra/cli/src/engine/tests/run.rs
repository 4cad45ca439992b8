//! States, retries, catchers, timeouts.

use std::time::Duration;

use serde_json::json;

use super::super::testing::{Bench, machine, task};
use super::super::{Progress, StateFailure, Status};

fn output(progress: &Progress) -> &serde_json::Value {
    match &progress.status {
        Status::Succeeded { output } => output,
        other @ (Status::Running | Status::Failed(_) | Status::TimedOut) => panic!("{other:?}"),
    }
}

fn error(progress: &Progress) -> &str {
    match &progress.status {
        Status::Failed(StateFailure { error, .. }) => error,
        other @ (Status::Running | Status::Succeeded { .. } | Status::TimedOut) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_gets_its_payload_and_its_result_is_selected_and_placed() {
    let states = json!({
        "A": task(json!({
            "Parameters": {"FunctionName": "${PlanFunction}", "Payload": {
                "contract": 1, "id.$": "$$.Execution.Id", "name.$": "$$.Execution.Name", "at.$": "$$.Execution.StartTime",
                "sync.$": "$$.Execution.Input.sync", "state.$": "$$.State.Name", "all.$": "$"}},
            "ResultSelector": {"kept.$": "$.Payload.kept", "status.$": "$.StatusCode"},
            "ResultPath": "$.a.b",
            "Next": "B",
        })),
        "B": task(json!({"ResultPath": null, "Next": "Z"})),
        "Z": {"Type": "Succeed"},
    });
    let bench = Bench::new(machine(states), |call| (1, Ok(json!({"kept": call.payload, "dropped": 1}))));
    let progress = bench.start(json!({"sync": "s"})).await;
    let kept = json!({"contract": 1, "id": "arn:run-1", "name": "run-1", "at": "2026-01-01T00:00:00Z", "sync": "s",
        "state": "A", "all": {"sync": "s"}});
    assert_eq!(output(&progress), &json!({"sync": "s", "a": {"b": {"kept": kept, "status": 200}}}));
    let exited: Vec<&str> = progress.exited.iter().map(|exited| exited.state.as_str()).collect();
    assert_eq!(exited, ["A", "B", "Z"]);
    assert_eq!(bench.events(), ["0 enter A", "1 exit A", "1 enter B", "2 exit B", "2 enter Z", "2 exit Z"]);
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_and_are_counted_per_retrier() {
    let states = json!({"A": task(json!({"Retry": [
        {"ErrorEquals": ["Busy"], "IntervalSeconds": 3, "BackoffRate": 2, "MaxAttempts": 4, "MaxDelaySeconds": 10},
        {"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 1},
    ], "Parameters": {"FunctionName": "${F}", "Payload": {"tries.$": "$$.State.RetryCount"}}}))});
    let bench = Bench::new(machine(states), |call| match call.payload["tries"].as_u64().unwrap() {
        0 | 1 | 3 => (0, Err("Busy")),
        2 => (1000, Ok(json!(null))),
        4 => (0, Err("Busy")),
        n => (0, Ok(json!(n))),
    });
    assert_eq!(output(&bench.start(json!({})).await), &json!({"result": {"out": 5}}));
    assert_eq!(
        bench.events(),
        [
            "0 enter A",
            "0 retry A Busy in 3",
            "3 retry A Busy in 6",
            "69 retry A States.Timeout in 1",
            "70 retry A Busy in 10",
            "80 retry A Busy in 10",
            "90 exit A",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn retries_are_counted_anew_when_a_state_is_entered_again() {
    let states = json!({
        "A": task(json!({"Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 1}], "Next": "Again"})),
        "Again": {"Type": "Choice", "Default": "A", "Choices": [
            {"Variable": "$.result.out", "NumericEquals": 3, "Next": "Z"}]},
        "Z": {"Type": "Succeed"},
    });
    let bench = Bench::new(machine(states), |call| {
        let round = call.payload["in"]["result"]["out"].as_u64().unwrap_or(0);
        (0, if call.nth == 1 { Err("Busy") } else { Ok(json!(round + 1)) })
    });
    assert_eq!(output(&bench.start(json!({})).await), &json!({"result": {"out": 3}}));
}

#[tokio::test(start_paused = true)]
async fn full_jitter_waits_less_than_the_delay() {
    let states = json!({"A": task(json!({"Retry": [
        {"ErrorEquals": ["Busy"], "IntervalSeconds": 100, "BackoffRate": 1, "MaxAttempts": 20, "JitterStrategy": "FULL"}]}))});
    let started = tokio::time::Instant::now();
    let bench =
        Bench::new(machine(states), |call| (0, if call.nth <= 20 { Err("Busy") } else { Ok(json!(1)) }));
    output(&bench.start(json!({})).await);
    let waited = started.elapsed();
    assert!(waited > Duration::from_secs(600) && waited < Duration::from_secs(1400), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_retries_do_not_mend_is_caught_with_error_and_cause() {
    let states = json!({
        "A": task(json!({
            "Retry": [{"ErrorEquals": ["Poison"], "IntervalSeconds": 2, "MaxAttempts": 2}],
            "Catch": [
                {"ErrorEquals": ["Other"], "Next": "Wrong"},
                {"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.failure", "Next": "Z"}]})),
        "Wrong": {"Type": "Fail"},
        "Z": {"Type": "Succeed"},
    });
    let bench = Bench::new(machine(states), |_| (0, Err("Poison")));
    let progress = bench.start(json!({"kept": 1})).await;
    assert_eq!(output(&progress), &json!({"kept": 1, "failure": {"Error": "Poison", "Cause": "F said so"}}));
    assert_eq!(
        bench.events(),
        [
            "0 enter A",
            "0 retry A Poison in 2",
            "2 retry A Poison in 4",
            "6 catch A Poison to Z",
            "6 exit A",
            "6 enter Z",
            "6 exit Z",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_neither_retried_nor_caught_fails_the_execution_at_once() {
    let states = json!({
        "A": task(json!({"Retry": [{"ErrorEquals": ["Busy"]}], "Catch": [{"ErrorEquals": ["Poison"], "Next": "Z"}], "Next": "Z"})),
        "Z": {"Type": "Succeed"},
    });
    let bench = Bench::new(machine(states), |_| (0, Err("Unauthorized")));
    let progress = bench.start(json!({"x": 1})).await;
    let failure = StateFailure { error: "Unauthorized".into(), cause: "F said so".into() };
    assert_eq!(progress.status, Status::Failed(failure.clone()));
    assert_eq!(progress.root_failure(), Some(&failure));
    assert_eq!((progress.position.state.as_str(), &progress.position.input), ("A", &json!({"x": 1})));
    assert!(progress.exited.is_empty());
    assert_eq!(bench.events(), ["0 enter A"]);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_error_is_caught_by_nothing() {
    let all = json!({"Retry": [{"ErrorEquals": ["States.ALL"]}], "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Z"}], "Next": "Z"});
    let with = |more: serde_json::Value| {
        let mut fields = all.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        machine(json!({"A": task(fields), "Z": {"Type": "Succeed"}}))
    };
    let missing = json!({"Parameters": {"FunctionName": "${F}", "Payload": {"a.$": "$.missing"}}});
    let bench = Bench::new(with(missing), |_| (0, Ok(json!(1))));
    assert_eq!(error(&bench.start(json!({})).await), "States.Runtime");
    assert!(bench.functions.completed().is_empty());

    let bench =
        Bench::new(with(json!({"ResultSelector": {"a.$": "$.Payload.missing"}})), |_| (0, Ok(json!({}))));
    assert_eq!(error(&bench.start(json!({})).await), "States.Runtime");

    let bench = Bench::new(with(json!({})), |_| (0, Ok(json!("x".repeat(262_144)))));
    assert_eq!(error(&bench.start(json!({})).await), "States.DataLimitExceeded");

    let bench = Bench::new(with(json!({"ResultPath": "$.a.b"})), |_| (0, Ok(json!(1))));
    let progress = bench.start(json!({"a": 1})).await;
    assert_eq!(output(&progress)["Error"], "States.ResultPathMatchFailure", "but this one is caught");
}

#[tokio::test(start_paused = true)]
async fn a_choice_takes_the_first_rule_that_holds() {
    let states = json!({
        "A": {"Type": "Choice", "Choices": [
            {"And": [{"Variable": "$.n", "IsPresent": true}, {"Variable": "$.n", "NumericGreaterThan": 5}], "Next": "Big"},
            {"Variable": "$.n", "NumericEquals": 5, "Next": "Five"},
            {"Variable": "$$.Execution.Name", "StringEquals": "run-2", "Next": "Big"}]},
        "Big": {"Type": "Fail", "Error": "Big", "Cause": "so big"},
        "Five": {"Type": "Fail", "ErrorPath": "$.name", "CausePath": "$.why"},
    });
    let bench = Bench::new(machine(states), |_| unreachable!());
    for (input, expected) in [
        (json!({"n": 6}), "Big: so big"),
        (json!({"n": 5, "name": "Five", "why": "five"}), "Five: five"),
        (json!({"n": 5}), "States.Runtime: state Five: path $.name leads nowhere in its input"),
        (json!({"n": 4}), "States.Runtime: state A: no choice matches, and there is no default"),
        (json!({}), "States.Runtime: state A: path $.n leads nowhere in its input"),
    ] {
        let progress = bench.start(input).await;
        assert_eq!(progress.root_failure().unwrap().to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_waits() {
    let states = json!({
        "A": {"Type": "Wait", "Seconds": 86400, "Next": "B"},
        "B": {"Type": "Wait", "SecondsPath": "$.s", "End": true},
    });
    let bench = Bench::new(machine(states), |_| unreachable!());
    assert_eq!(output(&bench.start(json!({"s": 30})).await), &json!({"s": 30}));
    assert_eq!(
        bench.events(),
        ["0 enter A", "0 wait A 86400", "86400 exit A", "86400 enter B", "86400 wait B 30", "86430 exit B"]
    );
    assert_eq!(error(&bench.start(json!({"s": -1})).await), "States.Runtime");
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_takes_too_long_ends_and_nothing_catches_it() {
    let states = json!({
        "A": task(json!({"TimeoutSeconds": 100, "Next": "B"})),
        "B": task(json!({"TimeoutSeconds": 100, "Retry": [{"ErrorEquals": ["States.ALL"]}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Z"}], "Next": "Z"})),
        "Z": {"Type": "Succeed"},
    });
    let mut machine = machine(states);
    machine["TimeoutSeconds"] = json!(90);
    let bench = Bench::new(machine, |_| (60, Ok(json!(1))));
    let started = tokio::time::Instant::now();
    let progress = bench.start(json!({})).await;
    assert_eq!(progress.status, Status::TimedOut);
    assert_eq!(started.elapsed().as_secs(), 90);
    assert_eq!(progress.position.state, "B");

    let progress = bench.redrive(&progress).await;
    assert!(matches!(progress.status, Status::Succeeded { .. }), "the redrive has a timeout of its own");
    assert_eq!(started.elapsed().as_secs(), 150);
}
