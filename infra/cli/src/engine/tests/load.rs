//! What is refused when a definition is loaded.

use std::error::Error;

use serde_json::{Value, json};

use super::super::StateMachine;
use super::super::testing::{machine, map, task};

/// The error's text and those of its sources.
fn refused(text: &str) -> String {
    let error = StateMachine::parse(text).expect_err("should be refused");
    let mut all = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        all = format!("{all}: {error}");
        source = error.source();
    }
    all
}

fn check(states: Value, says: &str) {
    let reason = refused(&machine(states).to_string());
    assert!(reason.starts_with(says), "{reason}\n  should start with\n{says}");
}

#[test]
fn what_is_no_state_machine_is_refused() {
    for (text, says) in [
        ("{", "the state machine could not be read: EOF"),
        ("{}", "the state machine could not be read: missing field `StartAt`"),
        (r#"{"StartAt": "A", "States": {}}"#, "StartAt: there is no state A"),
        (
            r#"{"StartAt": "A", "States": {}, "Version": "1.0"}"#,
            "the state machine could not be read: unknown field `Version`",
        ),
        (
            r#"{"StartAt": "A", "TimeoutSeconds": 0, "States": {"A": {"Type": "Succeed"}}}"#,
            "TimeoutSeconds: must be at least 1",
        ),
        (
            r#"{"StartAt": "A", "States": {"A": {"Type": "Succeed"}, "A": {"Type": "Succeed"}}}"#,
            "the state machine could not be read: `A` is given twice",
        ),
        (
            r#"{"StartAt": "A", "States": {"A": {"Type": "Succeed", "Comment": "x", "Comment": "y"}}}"#,
            "the state machine could not be read: `Comment` is given twice",
        ),
    ] {
        let reason = refused(text);
        assert!(reason.starts_with(says), "{reason}");
    }
}

#[test]
fn states_that_do_not_hang_together_are_refused() {
    check(json!({"A": task(json!({"Next": "B"}))}), "state A, Next: there is no state B");
    check(
        json!({"A": task(json!({"Catch": [{"ErrorEquals": ["E"], "Next": "B"}]}))}),
        "state A, Catch: there is no state B",
    );
    check(
        json!({"A": {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsPresent": true, "Next": "A"}], "Default": "B"}}),
        "state A, Default: there is no state B",
    );
    check(
        json!({"A": {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsPresent": true, "Next": "B"}]}}),
        "state A, Choices: there is no state B",
    );
    check(json!({"A": {"Type": "Succeed"}, "B": {"Type": "Succeed"}}), "state B: can't be reached");
    check(
        json!({"A": map(json!({"C": {"Type": "Succeed"}, "D": {"Type": "Succeed"}}), json!({}))}),
        "state D: can't be reached",
    );
    check(
        json!({"A": map(json!({"C": task(json!({"Next": "A"}))}), json!({}))}),
        "state C, Next: there is no state A",
    );
    check(
        json!({"A": map(json!({"C": {"Type": "Succeed"}}), json!({"Next": "C"})), "C": {"Type": "Succeed"}}),
        "state C: another state has this name",
    );
}

#[test]
fn fields_and_types_that_are_not_known_are_refused_by_name() {
    check(json!({"A": {"End": true}}), "state A: missing field `Type`");
    check(json!({"A": {"Type": "Parallel"}}), "state A, Type: `Parallel` is not a type");
    check(json!({"A": {"Type": "Pass", "End": true}}), "state A, Type: `Pass` is not a type");
    check(json!({"A": task(json!({"InputPath": "$.a"}))}), "state A: unknown field `InputPath`");
    check(json!({"A": task(json!({"HeartbeatSeconds": 5}))}), "state A: unknown field `HeartbeatSeconds`");
    check(json!({"A": {"Type": "Task", "End": true}}), "state A: missing field `Resource`");
    check(json!({"A": {"Type": "Succeed", "Next": "A"}}), "state A: unknown field `Next`");
    check(
        json!({"A": {"Type": "Choice", "Choices": [{"Variable": "$.a", "StringMatches": "*", "Next": "A"}]}}),
        "state A: unknown field `StringMatches`",
    );
    check(
        json!({"A": map(json!({"C": {"Type": "Succeed"}}), json!({"ItemBatcher": {}}))}),
        "state A: unknown field `ItemBatcher`",
    );
    let mut untimed = task(json!({}));
    untimed.as_object_mut().unwrap().remove("TimeoutSeconds");
    check(json!({"A": untimed}), "state A: missing field `TimeoutSeconds`");
}

#[test]
fn values_that_would_not_be_honoured_are_refused_by_field() {
    let parameters = |function: &str, payload: Value| json!({"Parameters": {"FunctionName": function, "Payload": payload}});
    let retry = |retrier: Value| json!({"Retry": [retrier]});
    for (more, says) in [
        (json!({"Resource": "arn:aws:states:::sqs:sendMessage"}), "state A, Resource: `arn:aws:states:::sqs"),
        (parameters("plan", json!({})), "state A, FunctionName: must be a placeholder"),
        (parameters("${F}", json!({"a.$": "States.UUID()"})), "state A, Payload: a.$: `States.UUID()`"),
        (parameters("${F}", json!({"a.$": "$.b[0]"})), "state A, Payload: a.$: `$.b[0]`"),
        (
            parameters("${F}", json!({"a.$": "$$.Task.Token"})),
            "state A, Payload: `$$.Task.Token` is not known",
        ),
        (parameters("${F}", json!({"a.$": "$$.Map.Item.Index"})), "state A, Payload: `$$.Map.Item.Index`"),
        (json!({"ResultSelector": {"a.$": "$..b"}}), "state A, ResultSelector: a.$: `$..b`"),
        (json!({"ResultPath": "$$.a"}), "state A, ResultPath: `$$.a` points into the context"),
        (json!({"TimeoutSeconds": 0}), "state A, TimeoutSeconds: seconds must be from 1"),
        (json!({"End": false}), "state A, Next: there must be either"),
        (retry(json!({"ErrorEquals": []})), "state A, Retry: ErrorEquals must hold a name"),
        (retry(json!({"ErrorEquals": ["E", "States.ALL"]})), "state A, Retry: States.ALL must stand alone"),
        (
            retry(json!({"ErrorEquals": ["States.Runtime"]})),
            "state A, Retry: `States.Runtime` is never matched",
        ),
        (retry(json!({"ErrorEquals": ["E"], "BackoffRate": 0.5})), "state A, Retry: BackoffRate"),
        (retry(json!({"ErrorEquals": ["E"], "IntervalSeconds": 0})), "state A, Retry: seconds must be"),
        (
            retry(json!({"ErrorEquals": ["E"], "IntervalSeconds": 9, "MaxDelaySeconds": 5})),
            "state A, Retry: MaxDelaySeconds",
        ),
        (retry(json!({"ErrorEquals": ["E"], "JitterStrategy": "HALF"})), "state A: unknown variant `HALF`"),
        (
            json!({"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "A"}, {"ErrorEquals": ["E"], "Next": "A"}]}),
            "state A, Catch: States.ALL must stand alone and last",
        ),
    ] {
        check(json!({"A": task(more)}), says);
    }
    for (state, says) in [
        (
            json!({"Type": "Wait", "Seconds": 1, "Next": "A", "End": true}),
            "state A, Next: there must be either",
        ),
        (json!({"Type": "Wait", "End": true}), "state A, Seconds: there must be either"),
        (
            json!({"Type": "Wait", "Seconds": 1, "SecondsPath": "$.s", "End": true}),
            "state A, Seconds: there must",
        ),
        (json!({"Type": "Choice", "Choices": []}), "state A, Choices: must hold a rule"),
        (
            json!({"Type": "Choice", "Choices": [{"Variable": "$.a", "IsPresent": true}]}),
            "state A, Choices: a rule lacks",
        ),
        (
            json!({"Type": "Choice", "Choices": [
                {"Variable": "$.a", "IsPresent": true, "StringEquals": "b", "Next": "A"}]}),
            "state A, Choices: a rule must be",
        ),
        (
            json!({"Type": "Choice", "Choices": [{"And": [{"Variable": "$.a", "IsPresent": true, "Next": "A"}], "Next": "A"}]}),
            "state A, Choices: only an outermost rule",
        ),
        (json!({"Type": "Fail", "Error": "a", "ErrorPath": "$.b"}), "state A, ErrorPath: stands beside"),
    ] {
        check(json!({"A": state}), says);
    }
}

#[test]
fn maps_that_would_not_be_honoured_are_refused_by_field() {
    let child = || json!({"C": task(json!({}))});
    let reader = |resource: &str, kind: &str| {
        json!({"ItemReader": {"Resource": resource, "ReaderConfig": {"InputType": kind},
            "Parameters": {"Bucket.$": "$.bucket", "Key.$": "$.key"}}})
    };
    let processor = |mode: &str, kind: &str| {
        json!({"ItemProcessor": {"ProcessorConfig": {"Mode": mode, "ExecutionType": kind},
            "StartAt": "C", "States": child()}})
    };
    for (more, says) in [
        (reader("arn:aws:states:::s3:listObjectsV2", "JSON"), "state A, ItemReader.Resource"),
        (reader("arn:aws:states:::s3:getObject", "CSV"), "state A, ItemReader.ReaderConfig.InputType: `CSV`"),
        (processor("INLINE", "STANDARD"), "state A, ItemProcessor.ProcessorConfig.Mode: `INLINE`"),
        (
            processor("DISTRIBUTED", "EXPRESS"),
            "state A, ItemProcessor.ProcessorConfig.ExecutionType: `EXPRESS`",
        ),
        (json!({"ResultPath": "$.a"}), "state A, ResultPath: must be null"),
        (json!({"MaxConcurrency": 1, "MaxConcurrencyPath": "$.a"}), "state A, MaxConcurrency: stands beside"),
        (json!({"ToleratedFailurePercentage": 101}), "state A, ToleratedFailurePercentage: must be from 0"),
        (json!({"ItemSelector": {"a.$": "$$.Map.Item.Key"}}), "state A, ItemSelector: `$$.Map.Item.Key`"),
    ] {
        check(json!({"A": map(child(), more)}), says);
    }
    check(
        json!({"A": map(json!({"C": map(json!({"D": {"Type": "Succeed"}}), json!({}))}), json!({}))}),
        "state C, Type: a Map inside a Map",
    );
    let asks_for_the_run =
        task(json!({"Parameters": {"FunctionName": "${F}", "Payload": {"run.$": "$$.Execution.Name"}}}));
    check(
        json!({"A": map(json!({"C": asks_for_the_run}), json!({}))}),
        "state C, Payload: `$$.Execution.Name` is not known here",
    );
}
