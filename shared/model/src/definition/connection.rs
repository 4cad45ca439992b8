use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An account at a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Its name; the file's name without `.yaml` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A built-in connector (`amplitude`, `braze`, `customerio`, `hubspot`, `iterable`, `mailchimp`, `mixpanel`, `postgres`, `salesforce`) or the path of a connector file (`./my-crm.yaml`, relative to this file).
    pub connector: String,
    /// The account's address, if it is the same everywhere: a URL such as `https://api.example.com` or `postgres://user@host:5432/database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The address per environment; `--env` chooses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Environment>,
    /// Let the address be private, loopback or link-local on AWS, as a database's is in a network of yours. Without it a
    /// function on AWS connects to public addresses only; a laptop always connects to any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// How to sign in. Secrets are referred to, never written here.
    #[serde(default)]
    pub auth: Auth,
    /// What the account allows; what is left out is taken from the connector.
    #[serde(default)]
    pub limits: Limits,
    /// Values for the settings that the connector names, such as an API version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// One environment of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The account's address there.
    pub address: String,
    /// Another secret for this environment, in place of the one under `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
}

/// A reference to a credential: a name, or where it lies on a laptop. Exactly one of the three forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretRef {
    /// A name. On AWS: the secret of this name under the stack's prefix in Secrets Manager. On a laptop: the environment
    /// variable `PENSTOCK_SECRET_<NAME>` (upper case, `-` as `_`), else the file `secrets/<name>` beside the definitions.
    Named(String),
    /// An environment variable (laptop only).
    Variable {
        /// The variable's name.
        env: String,
    },
    /// A file (laptop only).
    File {
        /// The file's path, relative to the definitions.
        file: String,
    },
}

impl SecretRef {
    /// The reference in words, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Variable { env } => format!("env {env}"),
            Self::File { file } => format!("file {file}"),
        }
    }
}

/// How to sign in at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// No credential.
    #[default]
    None,
    /// `Authorization: Bearer <token>`. The secret is the token, or JSON with a member `token`.
    Bearer(Credential),
    /// HTTP basic. The secret is JSON with `username` and `password`, or `username:password`.
    Basic(Credential),
    /// A header of its own. The secret is the header's value, or JSON with a member `token`.
    Header(HeaderAuth),
    /// In the body of requests, where the connector file says `$secret`. The secret is the token, or JSON with a member `token`.
    Body(Credential),
    /// A database password. The secret is the password, or JSON with `password` (and `username`), as RDS keeps it.
    Password(Credential),
    /// OAuth 2.0 client credentials (RFC 6749 section 4.4). The secret is JSON with `client_id` and `client_secret`.
    ClientCredentials(OAuth),
    /// OAuth 2.0 with a signed assertion (RFC 7523 section 2.1). The secret is JSON with `client_id`, `username` and `private_key`: an RSA key as
    /// PEM, its line ends written as `\n`.
    JwtBearer(OAuth),
    /// OAuth 2.0 with a refresh token (RFC 6749 section 6). The secret is JSON with `refresh_token`, `client_id` and, unless the app has none,
    /// `client_secret`. If the destination replaces the refresh token, the new one is written into the secret before it is used:
    /// the secret must be one that Penstock may write (on a laptop a file, no environment variable).
    RefreshToken(OAuth),
}

/// A credential by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Where the secret is.
    pub secret: SecretRef,
}

/// A credential that travels in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderAuth {
    /// The header's name.
    pub name: String,
    /// Where the secret is.
    pub secret: SecretRef,
}

/// Where access tokens are had, and with which credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// Where the secret is.
    pub secret: SecretRef,
    /// The URL that gives tokens, if the connector does not know it or this account has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// For whom the token is meant: the claim `aud` of an assertion, and otherwise the parameter `audience`. Left out, an assertion names what the
    /// connector says, or the token's URL; other grants name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The scopes to ask for, with spaces between. Left out, the destination decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Auth {
    /// The reference, if there is a credential.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::None => None,
            Self::Bearer(credential)
            | Self::Basic(credential)
            | Self::Body(credential)
            | Self::Password(credential) => Some(&credential.secret),
            Self::Header(header) => Some(&header.secret),
            Self::ClientCredentials(oauth) | Self::JwtBearer(oauth) | Self::RefreshToken(oauth) => {
                Some(&oauth.secret)
            }
        }
    }

    /// What is said of access tokens, if they are how to sign in.
    #[must_use]
    pub fn oauth(&self) -> Option<&OAuth> {
        match self {
            Self::None
            | Self::Bearer(_)
            | Self::Basic(_)
            | Self::Header(_)
            | Self::Body(_)
            | Self::Password(_) => None,
            Self::ClientCredentials(oauth) | Self::JwtBearer(oauth) | Self::RefreshToken(oauth) => {
                Some(oauth)
            }
        }
    }

    /// Whether signing in may change the secret: a refresh token that is used may be replaced by another.
    #[must_use]
    pub fn changes_secret(&self) -> bool {
        match self {
            Self::RefreshToken(_) => true,
            Self::None
            | Self::Bearer(_)
            | Self::Basic(_)
            | Self::Header(_)
            | Self::Body(_)
            | Self::Password(_)
            | Self::ClientCredentials(_)
            | Self::JwtBearer(_) => false,
        }
    }

    /// The same way to sign in, with another secret.
    #[must_use]
    pub fn with_secret(&self, secret: SecretRef) -> Self {
        match self {
            Self::None => Self::None,
            Self::Bearer(_) => Self::Bearer(Credential { secret }),
            Self::Basic(_) => Self::Basic(Credential { secret }),
            Self::Body(_) => Self::Body(Credential { secret }),
            Self::Password(_) => Self::Password(Credential { secret }),
            Self::Header(header) => Self::Header(HeaderAuth { name: header.name.clone(), secret }),
            Self::ClientCredentials(oauth) => Self::ClientCredentials(OAuth { secret, ..oauth.clone() }),
            Self::JwtBearer(oauth) => Self::JwtBearer(OAuth { secret, ..oauth.clone() }),
            Self::RefreshToken(oauth) => Self::RefreshToken(OAuth { secret, ..oauth.clone() }),
        }
    }
}

/// What the account allows. The whole run keeps to it: every chunk under way gets its share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Chunks delivered at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: Option<u32>,
    /// Requests in flight per chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub requests_in_flight: Option<u32>,
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u32>,
    /// Requests per ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_10_seconds: Option<u32>,
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// Requests per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_day: Option<u32>,
    /// Rows per request, if fewer than the connector's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows_per_request: Option<u32>,
    /// Seconds to wait for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub answer_timeout_s: Option<u32>,
}

impl Limits {
    /// These limits, and `others` where these say nothing: a connection's before its connector's.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self {
            concurrency: self.concurrency.or(others.concurrency),
            requests_in_flight: self.requests_in_flight.or(others.requests_in_flight),
            requests_per_second: self.requests_per_second.or(others.requests_per_second),
            requests_per_10_seconds: self.requests_per_10_seconds.or(others.requests_per_10_seconds),
            requests_per_minute: self.requests_per_minute.or(others.requests_per_minute),
            requests_per_day: self.requests_per_day.or(others.requests_per_day),
            rows_per_request: self.rows_per_request.or(others.rows_per_request),
            answer_timeout_s: self.answer_timeout_s.or(others.answer_timeout_s),
        }
    }
}
