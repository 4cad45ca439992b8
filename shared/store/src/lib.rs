//! Objects, lease, receipts, secrets and executions: everything that outlives an invocation.
//!
//! The only crate that knows the AWS SDK. What the domain asks for stands as traits in
//! [`penstock_model::port`]; here are the implementations for S3, for a folder and for memory, and what is
//! built on them: JSON objects, JSON lines, the lease and what pushes have witnessed.

pub mod attempts;
pub mod aws;
mod aws_error;
pub mod budget;
mod counted;
pub mod deployed;
mod executions;
mod failure;
mod folder;
pub mod jobs;
pub mod json;
pub mod lease;
pub mod line_stream;
pub mod lines;
mod memory;
mod opener;
pub mod operations;
pub mod plans;
pub mod receipts;
mod redshift;
pub mod reports;
mod roots;
mod s3;
mod secrets;
pub mod stack;
pub mod successes;
pub mod traces;
pub mod unloads;
pub mod usage;
mod version;
pub mod work;

pub use executions::StepFunctions;
pub use failure::{executions_failure, storage_failure};
pub use folder::FolderObjects;
pub use memory::MemoryObjects;
pub use opener::Opener;
pub use redshift::RedshiftData;
pub use s3::S3Objects;
pub use secrets::{AwsSecrets, LocalSecrets};
pub use version::fingerprint_of;
