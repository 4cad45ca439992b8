//! A deployed stack's executions, as a person at a terminal asks for them.

use penstock_model::Timestamp;
use penstock_model::contract::StartRequest;
use penstock_model::decode::decode_text;

use crate::aws::Clients;
use crate::aws_error::AwsError;

/// So many executions, newest first, are looked through.
const NEWEST: i32 = 100;

/// How an execution of a deployed state machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It runs, or waits.
    Running,
    /// It has succeeded.
    Succeeded,
    /// It has failed, by this name.
    Failed(String),
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedExecution {
    /// Its name: the run.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Step Functions refused a request, or can't be reached.
#[derive(Debug, thiserror::Error)]
#[error("Step Functions could not be asked to {what}")]
pub struct DeployedError {
    what: &'static str,
    #[source]
    source: AwsError,
}

/// The executions of a deployed state machine.
#[derive(Debug, Clone)]
pub struct Deployed {
    client: aws_sdk_sfn::Client,
    state_machine_arn: String,
}

impl Deployed {
    /// The executions of this state machine.
    #[must_use]
    pub fn new(clients: &Clients, state_machine_arn: impl Into<String>) -> Self {
        Self { client: clients.step_functions(), state_machine_arn: state_machine_arn.into() }
    }

    /// The ARN of an execution by its name.
    #[must_use]
    pub fn arn(&self, name: &str) -> String {
        format!("{}:{name}", self.state_machine_arn.replace(":stateMachine:", ":execution:"))
    }

    /// The executions of a sync among the newest of the stack, newest first.
    ///
    /// # Errors
    /// [`DeployedError`].
    pub async fn of_sync(&self, sync: &str) -> Result<Vec<DeployedExecution>, DeployedError> {
        let failed = |source| DeployedError { what: "list executions", source };
        let listed = self
            .client
            .list_executions()
            .state_machine_arn(&self.state_machine_arn)
            .max_results(NEWEST)
            .send()
            .await
            .map_err(|error| failed(AwsError::of(&error)))?;
        let mut found = Vec::new();
        for execution in listed.executions() {
            // Only the execution itself says which sync it is of.
            if let Some(known) = self.look(execution.name()).await?
                && known.0 == sync
            {
                found.push(known.1);
            }
        }
        Ok(found)
    }

    /// An execution by its name, with its sync; none if there is none, or if its input says no sync.
    async fn look(&self, name: &str) -> Result<Option<(String, DeployedExecution)>, DeployedError> {
        let answer = match self.client.describe_execution().execution_arn(self.arn(name)).send().await {
            Ok(answer) => answer,
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_execution_does_not_exist()) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(DeployedError { what: "describe an execution", source: AwsError::of(&error) });
            }
        };
        let request = answer.input().and_then(|input| decode_text::<StartRequest>(input).ok());
        let Some(request) = request else { return Ok(None) };
        let moment = |date: &aws_sdk_sfn::primitives::DateTime| date.to_millis().ok().map(Timestamp);
        let failed = |name: &str| Standing::Failed(name.to_owned());
        let standing = match answer.status().as_str() {
            "SUCCEEDED" => Standing::Succeeded,
            "FAILED" => failed(answer.error().unwrap_or("an error without a name")),
            "TIMED_OUT" => failed("States.Timeout"),
            "ABORTED" => failed("stopped"),
            // Pending a redrive, or a status that this version does not know.
            _ => Standing::Running,
        };
        let execution = DeployedExecution {
            name: name.to_owned(),
            standing,
            started_at: moment(answer.start_date()),
            ended_at: answer.stop_date().and_then(moment),
        };
        Ok(Some((request.sync, execution)))
    }

    /// Starts an execution of this name.
    ///
    /// # Errors
    /// [`DeployedError`].
    pub async fn start(&self, name: &str, input: String) -> Result<(), DeployedError> {
        let request = self.client.start_execution().state_machine_arn(&self.state_machine_arn);
        let sent = request.name(name).input(input).send().await;
        sent.map(drop)
            .map_err(|error| DeployedError { what: "start an execution", source: AwsError::of(&error) })
    }

    /// Redrives an execution that failed.
    ///
    /// # Errors
    /// [`DeployedError`], also if it can't be redriven.
    pub async fn redrive(&self, name: &str) -> Result<(), DeployedError> {
        let sent = self.client.redrive_execution().execution_arn(self.arn(name)).send().await;
        sent.map(drop)
            .map_err(|error| DeployedError { what: "redrive the execution", source: AwsError::of(&error) })
    }
}
