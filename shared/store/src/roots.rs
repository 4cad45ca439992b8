//! Whose certificates the clients for AWS trust.

use std::ffi::OsString;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};

/// Amazon's five, which are checked in 0.1 ms; the system's hundred and fifty take 2 ms of each start.
const AMAZON: &str = include_str!("amazon_roots.pem");

/// Where AWS's services have certificates of other authorities, or may have: China, the government's and the sovereign
/// regions.
const OTHERS: [&str; 5] = ["cn-", "us-gov-", "us-iso", "eu-iso", "eusc-"];

/// Variables that name roots or services of somebody's own.
const OWN: [&str; 4] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"];

/// Whose certificates are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Amazon's, which are part of this build.
    Amazon,
    /// The system's, and so a company's own.
    System,
}

impl Roots {
    /// Amazon's for a function on Lambda, in a commercial region and without roots of its own; the system's for everybody
    /// else: between a laptop and AWS there may be a proxy that a company trusts.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let is_set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
        let region = variable("AWS_REGION").and_then(|region| region.into_string().ok());
        let is_commercial =
            region.is_some_and(|region| !OTHERS.iter().any(|prefix| region.starts_with(prefix)));
        if is_set(&"AWS_LAMBDA_FUNCTION_NAME") && is_commercial && !OWN.iter().any(is_set) {
            Self::Amazon
        } else {
            Self::System
        }
    }

    /// What the HTTP client is given; none for its default.
    pub(crate) fn context(self) -> Option<TlsContext> {
        match self {
            Self::Amazon => {
                let store = TrustStore::empty().with_pem_certificate(AMAZON);
                TlsContext::builder().with_trust_store(store).build().ok()
            }
            Self::System => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

    use super::*;

    #[test]
    fn a_function_trusts_amazon_and_a_laptop_its_system() {
        const LAMBDA: (&str, &str) = ("AWS_LAMBDA_FUNCTION_NAME", "penstock-route");
        let cases: [(&[(&str, &str)], Roots); 9] = [
            (&[LAMBDA, ("AWS_REGION", "eu-west-1")], Roots::Amazon),
            (&[LAMBDA, ("AWS_REGION", "us-east-1"), ("SSL_CERT_FILE", "")], Roots::Amazon),
            (&[("AWS_REGION", "eu-west-1")], Roots::System),
            (&[LAMBDA], Roots::System),
            (&[LAMBDA, ("AWS_REGION", "cn-north-1")], Roots::System),
            (&[LAMBDA, ("AWS_REGION", "us-gov-west-1")], Roots::System),
            (&[LAMBDA, ("AWS_REGION", "eusc-de-east-1")], Roots::System),
            (&[LAMBDA, ("AWS_REGION", "eu-west-1"), ("SSL_CERT_FILE", "/var/task/ca.pem")], Roots::System),
            (&[LAMBDA, ("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", "https://acme")], Roots::System),
        ];
        for (variables, expected) in cases {
            let variable =
                |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
            assert_eq!(Roots::of(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn amazons_roots_are_five_and_a_client_can_be_built_with_them() {
        assert_eq!(AMAZON.matches("-----BEGIN CERTIFICATE-----").count(), 5);
        let context = Roots::Amazon.context().unwrap();
        // It reads each of them here, and takes none that can't be read.
        let client = aws_smithy_http_client::Connector::builder()
            .tls_provider(Provider::rustls(CryptoMode::Ring))
            .tls_context(context)
            .build();
        drop(client);
    }
}
