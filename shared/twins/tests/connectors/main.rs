//! The twin of a connector file, driven by the real HTTP destination: what Penstock reads out of its answers is what it did.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test support; a test fails by panicking")]

mod bench;
mod faults;
mod outcomes;
mod strict;
