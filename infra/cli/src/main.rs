//! The `penstock` binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> anyhow::Result<ExitCode> {
    let cli = penstock_cli::args::Cli::parse();
    penstock_cli::commands::runtime(&cli)?.block_on(penstock_cli::commands::dispatch(cli))
}
