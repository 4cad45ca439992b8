//! The penstock binary: local engine, demo, check, preview, run, dead letters, redrive and replay.

pub mod args;
pub mod commands;
pub mod complaints;
pub mod definitions;
pub mod engine;
pub mod forecast;
pub mod local;
pub mod progress;
pub mod show;
