use std::error::Error;
use std::fmt::Write as _;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// What S3 ("Error responses", also for the KMS key of an object), Secrets Manager ("GetSecretValue") and Step Functions ("Common
/// errors") answer where a permission is missing or a key is switched off.
const DENIED: [&str; 7] = [
    "AccessDenied",
    "AccessDeniedException",
    "DecryptionFailure",
    "EncryptionFailure",
    "KMS.DisabledException",
    "KMS.KMSInvalidStateException",
    "KMS.NotFoundException",
];

/// What AWS, or the way there, answered: error code and message. The SDK's own error is not kept, since its Debug form
/// shows the response's body.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AwsError(String);

impl AwsError {
    pub(crate) fn of<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Self {
        Self(match error {
            SdkError::ConstructionFailure(_) => "the request could not be built".to_owned(),
            SdkError::TimeoutError(_) => "no answer in time".to_owned(),
            SdkError::DispatchFailure(failure) => failure
                .as_connector_error()
                .map_or_else(|| "the request could not be sent".to_owned(), |error| chain(error)),
            SdkError::ResponseError(_) => "the answer could not be read".to_owned(),
            SdkError::ServiceError(refusal) => {
                let refusal = refusal.err();
                let mut text = refusal.code().unwrap_or("an error without a code").to_owned();
                if let Some(message) = refusal.message() {
                    // Writing to a String can't fail.
                    write!(text, ": {message}").unwrap_or_default();
                }
                text
            }
            _ => "the request failed".to_owned(),
        })
    }

    /// Whether AWS refuses because a permission is missing, or a key can't be used: to ask again would not help.
    pub(crate) fn is_denied<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some(code) => DENIED.contains(&code),
            // The answer to a HEAD has no body, and so no code.
            None => status == Some(403),
        }
    }

    /// For a body that broke off on its way.
    pub(crate) fn while_reading(error: &dyn Error) -> Self {
        Self(chain(error))
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap_or_default();
        source = error.source();
    }
    text
}
