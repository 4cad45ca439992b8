//! The parts of the `penstock` binary.

pub mod engine;
