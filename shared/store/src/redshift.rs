use aws_sdk_redshiftdata::Client;
use aws_sdk_redshiftdata::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_redshiftdata::types::StatusString;
use penstock_model::definition::{Query, RedshiftQuery};
use penstock_model::port::{Boxed, Warehouse, WarehouseError};
use penstock_model::warehouse::{Statement, StatementState};

use crate::aws_error::AwsError;

/// Redshift by its Data API: statements are submitted and asked after, and no connection is held.
#[derive(Debug, Clone)]
pub struct RedshiftData {
    client: Client,
    secret_prefix: String,
}

impl RedshiftData {
    /// Statements by this client; secrets are those whose names begin with the prefix.
    #[must_use]
    pub fn new(client: Client, secret_prefix: impl Into<String>) -> Self {
        Self { client, secret_prefix: secret_prefix.into() }
    }
}

impl Warehouse for RedshiftData {
    fn submit<'a>(&'a self, statement: &'a Statement) -> Boxed<'a, Result<String, WarehouseError>> {
        Box::pin(async move {
            let Query::Redshift(query) = &statement.query;
            let RedshiftQuery { database, workgroup, cluster, secret, .. } = query;
            let answer = self
                .client
                .execute_statement()
                .sql(query.unload(&statement.prefix))
                .database(database)
                .set_workgroup_name(workgroup.clone())
                .set_cluster_identifier(cluster.clone())
                .set_secret_arn(secret.as_ref().map(|name| format!("{}{name}", self.secret_prefix)))
                .statement_name(&statement.name)
                .client_token(&statement.token)
                .send()
                .await
                .map_err(|error| refused(&error))?;
            answer.id().map(str::to_owned).ok_or(WarehouseError::Refused {
                source: Box::new(std::io::Error::other("the answer names no statement")),
            })
        })
    }

    fn look<'a>(&'a self, id: &'a str) -> Boxed<'a, Result<StatementState, WarehouseError>> {
        Box::pin(async move {
            let answer =
                self.client.describe_statement().id(id).send().await.map_err(|error| refused(&error))?;
            // The statement's own words of error may quote a row, and are left where they are.
            Ok(match answer.status() {
                Some(StatusString::Finished) => {
                    // -1 stands for a number that is not known.
                    StatementState::Finished { rows: u64::try_from(answer.result_rows()).ok() }
                }
                Some(StatusString::Failed) => StatementState::Failed,
                Some(StatusString::Aborted) => StatementState::Stopped,
                // A status that this version does not know is taken for one on its way.
                _ => StatementState::Running,
            })
        })
    }
}

/// What AWS answers to a request that is wrong is refused each time; anything else may go better another time.
fn refused<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> WarehouseError {
    const WRONG: [&str; 4] =
        ["ValidationException", "AccessDeniedException", "ResourceNotFoundException", "BadRequestException"];
    let is_wrong = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .is_some_and(|code| WRONG.contains(&code));
    let source = Box::new(AwsError::of(error));
    if is_wrong { WarehouseError::Refused { source } } else { WarehouseError::Unavailable { source } }
}
