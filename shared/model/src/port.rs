//! What the outside provides, as traits: clock, randomness, objects, executions and secrets.
//!
//! Futures are boxed and come from `std`, so that this crate needs no runtime.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::FailureName;
use crate::time::Timestamp;
use crate::warehouse::{Statement, StatementState};
use crate::work::Requests;

/// A boxed future that may move between threads.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The time, and waiting for it.
pub trait Clock: Send + Sync + Debug {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> Boxed<'_, ()>;
}

/// Randomness for names, nonces and jitter; seeded in tests.
pub trait Random: Send + Sync + Debug {
    /// The next 64 random bits.
    fn next(&self) -> u64;
}

/// What identifies one version of an object's content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ETag(pub String);

/// An object's name, size and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The key below the store's root.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The version.
    pub etag: ETag,
    /// When it was written.
    pub modified: Timestamp,
}

/// When a write may take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// Only if no object has this key.
    IfAbsent,
    /// Only if the object still has this version.
    IfMatch(ETag),
}

/// What a conditional write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Written; the new version.
    Written(ETag),
    /// The condition did not hold (S3 answers 412).
    Refused,
}

/// An object store's error. `Debug` and `Display` name the key and the kind of failure only.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object was there and is not any more, or never was.
    #[error("object {key} does not exist")]
    Missing {
        /// The key.
        key: String,
    },
    /// The object has another version than the one asked for.
    #[error("object {key} has changed since it was listed")]
    Changed {
        /// The key.
        key: String,
    },
    /// A permission is missing.
    #[error("object {key} may not be {action}: {help}")]
    Denied {
        /// The key or prefix.
        key: String,
        /// What was tried, as in `Unavailable`.
        action: &'static str,
        /// Which permission to grant.
        help: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store could not be reached, or refused.
    #[error("object {key} could not be {action}")]
    Unavailable {
        /// The key or prefix.
        key: String,
        /// What was tried, as a participle: `read`, `written`, `listed`, `deleted`.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ObjectError {
    /// The failure's name, where what is missing or has changed is nothing worse than what can't be reached.
    #[must_use]
    pub const fn name(&self) -> FailureName {
        match self {
            Self::Denied { .. } => FailureName::AccessDenied,
            Self::Missing { .. } | Self::Changed { .. } | Self::Unavailable { .. } => {
                FailureName::StorageUnavailable
            }
        }
    }
}

/// An object store, or a part of one: keys are relative to its root.
pub trait Objects: Send + Sync + Debug {
    /// The whole object and its version; `None` if there is none.
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>>;

    /// A range of bytes, of this version if one is given. Where the object ends before the range, so do the bytes.
    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>>;

    /// Size and version; `None` if there is no such object.
    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>>;

    /// Writes an object whole, under a condition. Never leaves half an object.
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>>;

    /// Every object whose key begins with `prefix`, in order of keys.
    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>>;

    /// The names of folders below `prefix`, which ends with a slash: what stands between it and the next slash in the
    /// keys of objects. In order, each once; a folder whose objects have all been removed may be among them.
    /// Costs what the folders cost and not what lies in them, where the store can tell.
    fn folders<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<String>, ObjectError>> {
        Box::pin(async move {
            let mut names = std::collections::BTreeSet::new();
            for object in self.list(prefix).await? {
                let below = object.key.strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
                names.extend(below.map(|(name, _)| name.to_owned()));
            }
            Ok(names.into_iter().collect())
        })
    }

    /// Removes an object; nothing happens if there is none.
    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>>;

    /// Requests sent so far by the client of this store, whichever store they went to. None where none are charged for.
    fn requests(&self) -> Requests {
        Requests::default()
    }

    /// The bucket's name, or the folder, for people and for the state machine's `ItemReader`.
    fn bucket(&self) -> &str;
}

/// Opens the place where an unload lies: `s3://bucket` or a local folder.
pub trait OpenObjects: Send + Sync + Debug {
    /// The objects below this root.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] if the root is of a kind that can't be opened here.
    fn open(&self, root: &str) -> Result<Arc<dyn Objects>, ObjectError>;
}

/// How an execution of the state machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// It runs, or waits.
    Running,
    /// It has ended: succeeded, failed, timed out or aborted; nothing of it runs any more.
    Ended,
}

/// What the platform knows of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// How it stands.
    pub status: ExecutionStatus,
    /// When it was last redriven, if ever.
    pub redriven_at: Option<Timestamp>,
}

/// An execution could not be looked up or started. Holds no payload.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionsUnavailable {
    /// The platform could not be reached, or has too much to do.
    #[error("the state machine could not be {action}")]
    Away {
        /// What was tried, as a participle.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A permission is missing.
    #[error("the state machine may not be {action}: grant {permission} to the function's role")]
    Denied {
        /// What was tried, as a participle.
        action: &'static str,
        /// Which permission, as IAM names it.
        permission: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ExecutionsUnavailable {
    /// The failure's name.
    #[must_use]
    pub const fn name(&self) -> FailureName {
        match self {
            Self::Away { .. } => FailureName::StorageUnavailable,
            Self::Denied { .. } => FailureName::AccessDenied,
        }
    }
}

/// The state machine's executions: Step Functions, or the local engine.
pub trait Executions: Send + Sync + Debug {
    /// How an execution stands; `None` if the platform no longer knows it.
    fn describe<'a>(
        &'a self,
        execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>>;

    /// Starts an execution by name. False if one of this name exists already.
    fn start<'a>(&'a self, name: &'a str, input: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>>;
}

/// Why a warehouse did not take a statement, or did not tell of one. Holds no row.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// It refuses the request: wrong names, or rights that are missing.
    #[error("the warehouse refused the request")]
    Refused {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It can't be reached, or has too much to do.
    #[error("the warehouse could not be reached")]
    Unavailable {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A warehouse that runs statements by itself once they are submitted: Redshift, with room for others.
pub trait Warehouse: Send + Sync + Debug {
    /// Submits a statement and gives its id. With the same token it is submitted once.
    fn submit<'a>(&'a self, statement: &'a Statement) -> Boxed<'a, Result<String, WarehouseError>>;

    /// How a statement stands.
    fn look<'a>(&'a self, id: &'a str) -> Boxed<'a, Result<StatementState, WarehouseError>>;
}

/// A credential. Its Debug form is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential as it was stored.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The credential itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret can't be had. Names the reference, never the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such secret.
    #[error("there is no secret {reference}: {help}")]
    Missing {
        /// The reference as in the definition.
        reference: String,
        /// Where it was looked for.
        help: String,
    },
    /// A permission is missing, for the secret or for the key that it is encrypted with.
    #[error("secret {reference} may not be {action}: {help}")]
    Denied {
        /// The reference as in the definition.
        reference: String,
        /// What was tried, as a participle: `read`, `replaced`.
        action: &'static str,
        /// Which permission to grant.
        help: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The secret store could not be asked.
    #[error("secret {reference} could not be fetched")]
    Unavailable {
        /// The reference as in the definition.
        reference: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The secret is kept where nothing can be written.
    #[error("secret {reference} can't be written: {help}")]
    ReadOnly {
        /// The reference as in the definition.
        reference: String,
        /// What to do.
        help: String,
    },
}

impl SecretError {
    /// The failure's name, where a destination needs the secret.
    #[must_use]
    pub const fn name(&self) -> FailureName {
        match self {
            Self::Missing { .. } => FailureName::DestinationUnauthorized,
            Self::Denied { .. } => FailureName::AccessDenied,
            Self::Unavailable { .. } | Self::ReadOnly { .. } => FailureName::SecretsUnavailable,
        }
    }
}

/// Where credentials are kept.
pub trait Secrets: Send + Sync + Debug {
    /// The secret as stored now. With `fresh`, whatever is cached is passed over.
    fn fetch<'a>(
        &'a self,
        reference: &'a crate::definition::SecretRef,
        freshness: Freshness,
    ) -> Boxed<'a, Result<Secret, SecretError>>;

    /// Puts another secret in the place of the stored one: a refresh token that the destination has replaced. Durable when
    /// the future completes. Where nothing can be written it fails as [`SecretError::ReadOnly`].
    fn store<'a>(
        &'a self,
        reference: &'a crate::definition::SecretRef,
        _secret: Secret,
    ) -> Boxed<'a, Result<(), SecretError>> {
        let help = "keep it where Penstock may write: a file, or Secrets Manager".to_owned();
        let failed = SecretError::ReadOnly { reference: reference.describe(), help };
        Box::pin(std::future::ready(Err(failed)))
    }
}

/// Whether a cached secret will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A cached one will do.
    Cached,
    /// The destination has refused the cached one: ask the store.
    Fresh,
}
