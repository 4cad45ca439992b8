//! The `penstock` binary.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    penstock_cli::commands::dispatch(penstock_cli::args::Cli::parse()).await
}
