//! The twins over real HTTP, seen by a client that notices how a connection ends.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test support; a test fails by panicking")]

mod batch;
mod client;
mod faults;
mod hubspot;
mod jobs;
mod limits;
