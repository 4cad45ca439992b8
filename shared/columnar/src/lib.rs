//! Unload layouts, canonical values, fingerprints, diff, snapshot and mapping over Arrow and Parquet.
//!
//! This is the only crate that knows Arrow and Parquet. All of its input comes from outside and may be
//! damaged: whatever a decoder does with it, an error or a panic, comes back as a named failure.

pub mod canonical;
pub mod changes;
pub mod diff;
pub mod fingerprint;
mod format;
mod key_order;
pub mod mapping;
pub mod overlay;
pub mod read;
pub mod reading;
pub mod snapshot;
pub mod split;
mod thrift;
pub mod transform;
pub mod unload;

pub use format::FormatError;

#[cfg(test)]
mod testing;
