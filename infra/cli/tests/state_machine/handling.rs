//! How each task handles each failure. That a task waits longer than its function can run is checked by
//! `infra/lint/template.py`, which reads both files.

use std::collections::BTreeSet;
use std::time::Duration;

use penstock_cli::engine::{Jitter, ResultPath, Retrier, State, Task, Workflow};
use penstock_model::FailureName;
use penstock_model::failure::Handling;

use super::{CRASH, machine};

/// What Lambda answers when it, and not the function, is in trouble.
const SERVICE: [&str; 5] = [
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
];

fn tasks_of<'a>(workflow: &'a Workflow, found: &mut Vec<(&'a str, &'a Task)>) {
    for (name, state) in &workflow.states {
        match state {
            State::Task(task) => found.push((name, task)),
            State::Map(map) => tasks_of(&map.workflow, found),
            State::Choice(_) | State::Wait(_) | State::Succeed | State::Fail(_) => {}
        }
    }
}

fn each_task(mut check: impl FnMut(&str, &Task)) {
    let machine = machine();
    let mut tasks = Vec::new();
    tasks_of(&machine.workflow, &mut tasks);
    assert_eq!(tasks.len(), 10, "one task for each function, and two for dead-letter");
    for (name, task) in tasks {
        check(name, task);
    }
}

/// Whether a task works on one chunk, whose failure need not be the run's.
fn works_on_a_chunk(task: &Task) -> bool {
    matches!(task.function.as_str(), "TransformFunction" | "PushFunction")
}

fn retrier<'a>(task: &'a Task, error: &str) -> Option<&'a Retrier> {
    task.retry.iter().find(|retrier| retrier.error_equals.iter().any(|name| name == error))
}

fn catcher<'a>(task: &'a Task, error: &str) -> Option<&'a str> {
    let catcher = task.catch.iter().find(|catcher| catcher.error_equals.iter().any(|name| name == error))?;
    assert_eq!(catcher.result_path, ResultPath::Place(vec!["failure".to_owned()]));
    Some(&catcher.next)
}

fn grows_with_jitter(retrier: &Retrier) -> bool {
    retrier.jitter == Jitter::Full && retrier.backoff_rate > 1.0 && retrier.max_delay.is_some()
}

#[test]
fn every_failure_is_handled_on_every_task_as_its_name_says() {
    each_task(|state, task| {
        for name in FailureName::ALL {
            let (retried, caught) = (retrier(task, name.as_str()), catcher(task, name.as_str()));
            let letter = works_on_a_chunk(task).then_some("DeadLetter");
            let right = match name.handling() {
                Handling::Retry => {
                    retried.is_some_and(|r| grows_with_jitter(r) && r.max_attempts >= 3) && caught.is_none()
                }
                Handling::DeadLetterChunk => retried.is_none() && caught == letter,
                Handling::WaitForOtherRun if task.function == "PlanFunction" => {
                    let steady = |r: &Retrier| {
                        r.interval == Duration::from_secs(10)
                            && r.backoff_rate <= 1.0
                            && r.max_attempts == 720
                    };
                    retried.is_some_and(steady) && caught.is_none()
                }
                Handling::WaitForOtherRun
                | Handling::Abort
                | Handling::AbortBeforeSending
                | Handling::Stop
                | Handling::FailAfterCommit => retried.is_none() && caught.is_none(),
            };
            assert!(right, "{state}: {name} is {:?}, but {retried:?}, caught by {caught:?}", name.handling());
        }
    });
}

#[test]
fn the_platform_is_given_time_and_a_chunk_that_kills_its_function_becomes_dead_letters() {
    each_task(|state, task| {
        for name in SERVICE {
            let long = retrier(task, name).is_some_and(|r| grows_with_jitter(r) && r.max_attempts >= 20);
            assert!(long && catcher(task, name).is_none(), "{state}: {name}");
        }
        for name in CRASH {
            let few = retrier(task, name).is_some_and(|r| grows_with_jitter(r) && r.max_attempts == 2);
            let letter = works_on_a_chunk(task).then_some("DeadLetter");
            assert!(few && catcher(task, name) == letter, "{state}: {name}");
        }
    });
}

/// What fails the run at once, to be redriven when its cause is mended: no wait would. Named by Step Functions ("Handling errors
/// in Step Functions workflows") and Lambda.
const MENDED_BY_A_PERSON: [&str; 14] = [
    "States.DataLimitExceeded",
    "States.ExceedToleratedFailureThreshold",
    "States.ItemReaderFailed",
    "States.NoChoiceMatched",
    "States.ParameterPathFailure",
    "States.Permissions",
    "States.ResultPathMatchFailure",
    "States.ResultWriterFailed",
    "States.Runtime",
    "Function.ResponseSizeTooLarge",
    "Lambda.AccessDeniedException",
    "Lambda.ResourceNotFoundException",
    "Runtime.InvalidEntrypoint",
    "Extension.Crash",
];

#[test]
fn what_only_a_person_can_mend_fails_the_run_at_once() {
    each_task(|state, task| {
        for name in MENDED_BY_A_PERSON.into_iter().chain(["States.ALL", "States.TaskFailed"]) {
            assert!(retrier(task, name).is_none() && catcher(task, name).is_none(), "{state}: {name}");
        }
    });
}

#[test]
fn no_other_name_is_retried_or_caught_and_none_twice() {
    let known: BTreeSet<&str> =
        FailureName::ALL.iter().map(|name| name.as_str()).chain(SERVICE).chain(CRASH).collect();
    each_task(|state, task| {
        let lists = [
            task.retry.iter().flat_map(|retrier| &retrier.error_equals).collect::<Vec<_>>(),
            task.catch.iter().flat_map(|catcher| &catcher.error_equals).collect(),
        ];
        for names in lists {
            let unique: BTreeSet<&str> = names.iter().map(|name| name.as_str()).collect();
            assert_eq!(unique.len(), names.len(), "{state}: a name is listed twice");
            assert!(unique.is_subset(&known), "{state}: {:?}", unique.difference(&known));
        }
    });
    for state in machine().workflow.states.values() {
        let State::Map(map) = state else { continue };
        // A Map that was retried or left could not be redriven.
        assert!(map.retry.is_empty() && map.catch.is_empty(), "{}", map.label);
        assert_eq!((map.tolerated_count, map.tolerated_percentage), (Some(0), None), "{}", map.label);
    }
}
