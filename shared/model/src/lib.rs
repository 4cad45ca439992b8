//! Penstock's domain: what travels between the functions, and the pure decisions about it.
//!
//! No IO, no runtime, no Arrow, no HTTP. What the outside has to provide (clock, randomness,
//! objects, executions, secrets) stands here as traits in [`port`]; who provides it is decided where a
//! `Context` is built.

pub mod change;
pub mod complaint;
pub mod connector;
pub mod contract;
pub mod cost;
pub mod dead_letter;
pub mod decode;
pub mod definition;
pub mod failure;
pub mod guard;
pub mod json;
pub mod key;
pub mod layout;
pub mod lease;
pub mod mapping_change;
pub mod operation;
pub mod outcome;
pub mod port;
pub mod report;
pub mod run_plan;
pub mod settle;
pub mod settled;
pub mod snapshot;
pub mod time;
pub mod unload;
pub mod warehouse;
pub mod work;

pub use failure::{Failure, FailureName};
pub use key::Key;
pub use time::Timestamp;
