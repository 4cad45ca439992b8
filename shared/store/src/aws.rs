//! Clients for AWS: one HTTP client, one TLS provider, one configuration.

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use penstock_model::port::{Executions, Objects, OpenObjects, Secrets, Warehouse};

use crate::counted::Counted;
use crate::roots::Roots;
use crate::{AwsSecrets, Opener, RedshiftData, S3Objects, StepFunctions};

/// S3 answers `SlowDown` while it makes room for many writers at once; the default of three attempts is too few.
const ATTEMPTS: u32 = 6;
/// An attempt that has no answer by then is repeated; long enough for a large object over a slow line.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);

/// Clients for the AWS services that Penstock uses, sharing connections and credentials.
#[derive(Debug, Clone)]
pub struct Clients {
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// Secrets Manager.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Step Functions.
    pub step_functions: aws_sdk_sfn::Client,
    /// Redshift's Data API.
    pub redshift: aws_sdk_redshiftdata::Client,
    /// What was sent to S3.
    counted: Counted,
}

impl Clients {
    /// Builds the clients from what every AWS SDK reads: region, credentials, `AWS_ENDPOINT_URL`. To be called once
    /// in a process. With an endpoint of one's own (an emulator), S3 is addressed by path. A function on Lambda trusts
    /// Amazon's certificates only, everybody else the system's.
    pub async fn from_environment() -> Self {
        #[expect(clippy::disallowed_methods, reason = "as the SDK itself, which reads the rest of it here")]
        let roots = Roots::of(|name| std::env::var_os(name));
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::rustls(CryptoMode::Ring));
        let http = match roots.context() {
            Some(context) => http.tls_context(context).build_https(),
            None => http.build_https(),
        };
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build())
            .load()
            .await;
        let counted = Counted::default();
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(config.endpoint_url().is_some())
            .interceptor(counted.clone());
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            step_functions: aws_sdk_sfn::Client::new(&config),
            redshift: aws_sdk_redshiftdata::Client::new(&config),
            counted,
        }
    }

    /// The objects of a bucket.
    #[must_use]
    pub fn objects(&self, bucket: impl Into<String>) -> Arc<dyn Objects> {
        Arc::new(S3Objects::counted(self.s3.clone(), bucket, self.counted.clone()))
    }

    /// Opens buckets, for unloads.
    #[must_use]
    pub fn opener(&self) -> Arc<dyn OpenObjects> {
        Arc::new(Opener::new(self.s3.clone()))
    }

    /// The secrets whose ids begin with this prefix.
    #[must_use]
    pub fn secrets(&self, prefix: impl Into<String>) -> Arc<dyn Secrets> {
        Arc::new(AwsSecrets::new(self.secrets.clone(), prefix))
    }

    /// Redshift, with the secrets whose names begin with this prefix.
    #[must_use]
    pub fn redshift(&self, secret_prefix: impl Into<String>) -> Arc<dyn Warehouse> {
        Arc::new(RedshiftData::new(self.redshift.clone(), secret_prefix))
    }

    /// The executions of a state machine.
    #[must_use]
    pub fn executions(&self, state_machine_arn: impl Into<String>) -> Arc<dyn Executions> {
        Arc::new(StepFunctions::new(self.step_functions.clone(), state_machine_arn))
    }
}

/// [`Clients::from_environment`].
pub async fn clients() -> Clients {
    Clients::from_environment().await
}
