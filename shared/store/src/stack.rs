//! A deployed stack by its name.

use serde_json::Value;

use crate::aws::Clients;
use crate::aws_error::AwsError;

/// What a deployed stack has that others need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The state bucket.
    pub bucket: String,
    /// The state machine.
    pub state_machine_arn: String,
}

/// A stack could not be found.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// There is no state machine of this name in the account and region.
    #[error("there is no state machine {name} in this account and region")]
    Missing {
        /// The name.
        name: String,
    },
    /// The state machine is none of Penstock's.
    #[error("state machine {name} names no state bucket: it is none of Penstock's")]
    Foreign {
        /// The name.
        name: String,
    },
    /// Step Functions could not be asked.
    #[error("Step Functions could not be asked for state machine {name}")]
    Unavailable {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Finds a stack: its state machine has its name, and says in its definition which bucket its Maps write to.
///
/// # Errors
/// [`StackError`].
pub async fn find(clients: &Clients, name: &str) -> Result<Stack, StackError> {
    let unavailable =
        |error: AwsError| StackError::Unavailable { name: name.to_owned(), source: Box::new(error) };
    let client = clients.step_functions();
    let mut pages = client.list_state_machines().into_paginator().items().send();
    let arn = loop {
        match pages.next().await {
            Some(Ok(machine)) if machine.name() == name => break machine.state_machine_arn().to_owned(),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(unavailable(AwsError::of(&error))),
            None => return Err(StackError::Missing { name: name.to_owned() }),
        }
    };
    let machine = client.describe_state_machine().state_machine_arn(&arn).send().await;
    let machine = machine.map_err(|error| unavailable(AwsError::of(&error)))?;
    match bucket_of(machine.definition()) {
        Some(bucket) => Ok(Stack { bucket, state_machine_arn: arn }),
        None => Err(StackError::Foreign { name: name.to_owned() }),
    }
}

fn bucket_of(definition: &str) -> Option<String> {
    let definition: Value = serde_json::from_str(definition).ok()?;
    let bucket = definition.pointer("/States/Deliver/ResultWriter/Parameters/Bucket")?;
    bucket.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_machine_names_the_bucket() {
        let definition = include_str!("../../../infra/sync.asl.json").replace("${Bucket}", "acme-state");
        assert_eq!(bucket_of(&definition).as_deref(), Some("acme-state"));
        assert_eq!(bucket_of("{}"), None);
        assert_eq!(bucket_of("no JSON"), None);
    }
}
