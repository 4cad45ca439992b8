use aws_sdk_sfn::Client;
use aws_sdk_sfn::config::http::HttpResponse;
use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionError;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_sfn::types::ExecutionStatus as Status;
use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Execution, ExecutionStatus, Executions, ExecutionsUnavailable};

use crate::aws_error::AwsError;

/// Executions of one Step Functions state machine (of type STANDARD).
#[derive(Debug, Clone)]
pub struct StepFunctions {
    client: Client,
    state_machine_arn: String,
}

impl StepFunctions {
    /// The executions of this state machine.
    #[must_use]
    pub fn new(client: Client, state_machine_arn: impl Into<String>) -> Self {
        Self { client, state_machine_arn: state_machine_arn.into() }
    }
}

impl Executions for StepFunctions {
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        Box::pin(async move {
            let answer = match self.client.describe_execution().execution_arn(execution).send().await {
                Ok(answer) => answer,
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(DescribeExecutionError::is_execution_does_not_exist) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(unavailable("asked", "states:DescribeExecution", &error)),
            };
            // A status that this version does not know is taken for one that may still send.
            let ended = matches!(
                answer.status(),
                Status::Succeeded | Status::Failed | Status::TimedOut | Status::Aborted
            );
            let redriven_at = answer.redrive_date().and_then(|date| date.to_millis().ok()).map(Timestamp);
            let status = if ended { ExecutionStatus::Ended } else { ExecutionStatus::Running };
            Ok(Some(Execution { status, redriven_at }))
        })
    }

    /// While an execution of the same name and input runs, Step Functions answers as if it had started it: true.
    /// Nothing is started twice either way.
    fn start<'a>(&'a self, name: &'a str, input: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        Box::pin(async move {
            let request = self.client.start_execution().state_machine_arn(&self.state_machine_arn);
            match request.name(name).input(input).send().await {
                Ok(_) => Ok(true),
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(StartExecutionError::is_execution_already_exists) =>
                {
                    Ok(false)
                }
                Err(error) => Err(unavailable("started", "states:StartExecution", &error)),
            }
        })
    }
}

fn unavailable<E: ProvideErrorMetadata>(
    action: &'static str,
    permission: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> ExecutionsUnavailable {
    let source = Box::new(AwsError::of(error));
    if AwsError::is_denied(error) {
        ExecutionsUnavailable::Denied { action, permission, source }
    } else {
        ExecutionsUnavailable::Away { action, source }
    }
}
