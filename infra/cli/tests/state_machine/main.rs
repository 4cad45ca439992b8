//! `infra/sync.asl.json`: every failure is handled as `FailureName` says, every payload is a contract, and a run
//! takes the way that the design draws.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod handling;
mod payloads;
mod runs;

use penstock_cli::engine::StateMachine;

const SOURCE: &str = include_str!("../../../sync.asl.json");

/// How a function ends that its input, or its size, kills.
const CRASH: [&str; 4] = ["Runtime.ExitError", "Sandbox.Timedout", "Lambda.Unknown", "States.Timeout"];

fn machine() -> StateMachine {
    StateMachine::parse(SOURCE).unwrap()
}
