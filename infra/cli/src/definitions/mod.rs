//! What users write: read with positions, checked against the schemas, and resolved.

pub mod check;
pub mod project;
pub mod published;
pub mod schema;
pub mod yaml;

pub use project::{Mistake, Project, Sourced};
pub use schema::Kind;
