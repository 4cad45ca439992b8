//! The simulation: stories made up from a seed, told by the real functions under the real state machine, in virtual
//! time, against a destination in this process; and the laws that must hold whatever happens in them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on must fail"
)]

mod destination;
mod found;
mod laws;
mod platform;
mod rules;
mod seeds;
mod setting;
mod storage;
mod story;
mod table;
mod world;
