//! The `tidemark` binary: the server, and a client over the same core as every SDK.
//!
//! Reading order: `args` (what can be typed), `commands` (one file each), `connection` (waiting for
//! the server), `admin` (its HTTP interface), `value` (JSON to values), `output` (what is printed), `failure` (how it ends).

mod admin;
mod args;
mod clock;
mod commands;
mod connection;
mod failure;
mod output;
mod value;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::failure::{Failure, Kind};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::io("cannot start threads", &error)),
    };
    let outcome = runtime.block_on(commands::run(cli.command));
    // A thread that reads a terminal or a pipe cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    if failure.kind() != Kind::OutputClosed {
        output::note(format_args!("error[{}]: {}", failure.label(), failure.message()));
        if let Some(hint) = failure.hint() {
            output::note(format_args!("  hint: {hint}"));
        }
    }
    ExitCode::from(failure.exit_code())
}
