//! Clients for AWS: one HTTP client, one TLS provider, one configuration.

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use penstock_model::port::{Executions, Objects, OpenObjects, Secrets, Warehouse};

use crate::counted::Counted;
use crate::roots::Roots;
use crate::{AwsSecrets, Opener, RedshiftData, S3Objects, StepFunctions};

/// S3 answers `SlowDown` while it makes room for many writers at once; the default of three attempts is too few.
const ATTEMPTS: u32 = 6;
/// An attempt that has no answer by then is repeated; long enough for a large object over a slow line.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);

/// Clients for the AWS services that Penstock uses, sharing connections and credentials. Each is made when it is asked for, so
/// that a function holds only those that it uses.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
    /// What was sent to S3.
    counted: Counted,
}

impl Clients {
    /// For a function: region, credentials and `AWS_ENDPOINT_URL` from the variables in which Lambda gives them. The other places
    /// where an SDK looks (profiles, containers, instances, roles to assume) are never asked there, and would be in each zip.
    /// It trusts Amazon's certificates only. To be called once in a process.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(variable("AWS_REGION").map(Region::new))
            .credentials_provider(SharedCredentialsProvider::new(
                EnvironmentVariableCredentialsProvider::new(),
            ))
            .http_client(http_client())
            .retry_config(retries())
            .timeout_config(timeouts());
        config.set_endpoint_url(variable("AWS_ENDPOINT_URL"));
        config
            .set_use_fips(variable("AWS_USE_FIPS_ENDPOINT").map(|value| value.eq_ignore_ascii_case("true")));
        Self { config: config.build(), counted: Counted::default() }
    }

    /// For a person's machine: region, credentials and endpoint from all places in which AWS's own tools look, and the
    /// certificates that the system trusts. To be called once in a process.
    pub async fn from_profile() -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            .retry_config(retries())
            .timeout_config(timeouts())
            .load()
            .await;
        Self { config, counted: Counted::default() }
    }

    /// S3. With an endpoint of one's own (an emulator) it is addressed by path.
    #[must_use]
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config)
            .force_path_style(self.config.endpoint_url().is_some())
            .interceptor(self.counted.clone());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Secrets Manager.
    #[must_use]
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// Step Functions.
    #[must_use]
    pub fn step_functions(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&self.config)
    }

    /// The objects of a bucket.
    #[must_use]
    pub fn objects(&self, bucket: impl Into<String>) -> Arc<dyn Objects> {
        Arc::new(S3Objects::counted(self.s3(), bucket, self.counted.clone()))
    }

    /// Opens buckets, for unloads.
    #[must_use]
    pub fn opener(&self) -> Arc<dyn OpenObjects> {
        Arc::new(Opener::new(self.s3()))
    }

    /// The secrets whose ids begin with this prefix.
    #[must_use]
    pub fn secrets(&self, prefix: impl Into<String>) -> Arc<dyn Secrets> {
        Arc::new(AwsSecrets::new(self.secrets_manager(), prefix))
    }

    /// Redshift, with the secrets whose names begin with this prefix.
    #[must_use]
    pub fn redshift(&self, secret_prefix: impl Into<String>) -> Arc<dyn Warehouse> {
        Arc::new(RedshiftData::new(aws_sdk_redshiftdata::Client::new(&self.config), secret_prefix))
    }

    /// The executions of a state machine.
    #[must_use]
    pub fn executions(&self, state_machine_arn: impl Into<String>) -> Arc<dyn Executions> {
        Arc::new(StepFunctions::new(self.step_functions(), state_machine_arn))
    }
}

fn http_client() -> SharedHttpClient {
    #[expect(clippy::disallowed_methods, reason = "as the SDK itself, which reads the rest of it here")]
    let roots = Roots::of(|name| std::env::var_os(name));
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::rustls(CryptoMode::Ring));
    match roots.context() {
        Some(context) => http.tls_context(context).build_https(),
        None => http.build_https(),
    }
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build()
}

/// What a variable says; nothing if it is empty.
fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "in place of the SDK, which would read it here")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
