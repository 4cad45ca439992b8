//! End-to-end scenarios: the real binary, real Parquet files, a real PostgreSQL and a real HTTP server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on must fail"
)]

mod append;
mod careful;
mod complaints;
mod cost;
mod crash;
mod definitions;
mod guards;
mod harness;
mod hubspot;
mod postgres;
mod publish;
mod redrive;
mod rejections;
mod runs;
mod salesforce;
mod schemas;
mod twin;
mod unloads;
mod warehouse;
