//! One file per command. `run` hands each its arguments and gives the exit code.

mod chat;
mod delete;
mod export;
mod get;
mod import;
mod indexes;
mod query;
mod serve;
mod set;
mod update;
mod watch;

use tidemark_core::WriteResult;
use tidemark_core::{Committed, PendingWrite};

use serde_json::json;

use crate::args::Command;
use crate::connection::Connection;
use crate::failure::Outcome;
use crate::output::{self, Output};

/// Runs a command; the exit code when it did not fail altogether.
pub(crate) async fn run(command: Command) -> Outcome<u8> {
    match command {
        Command::Serve(flags) => serve::run(&flags).await,
        Command::Get(command) => get::run(&command.client, &command.args).await,
        Command::Set(command) => set::run(&command.client, &command.args).await,
        Command::Update(command) => update::run(&command.client, &command.args).await,
        Command::Delete(command) => delete::run(&command.client, &command.args).await,
        Command::Query(command) => query::run(&command.client, &command.args).await,
        Command::Indexes(command) => indexes::run(&command.command).await,
        Command::Watch(command) => watch::run(&command.client, &command.args).await,
        Command::Import(command) => import::run(&command.client, &command.args).await,
        Command::Export(command) => export::run(&command.client, &command.args).await,
        Command::Chat(command) => chat::run(&command.client, &command.args).await,
    }
}

/// Waits for the server's word on a write and reports it: a note for people, a line with `--json`.
async fn finish_write(
    connection: &Connection,
    out: &mut Output,
    verb: &str,
    path: &str,
    write: PendingWrite,
) -> Outcome<Vec<WriteResult>> {
    let committed = connection.wait(write).await.map_err(|failure| failure.at(path))?;
    let Committed { version, results } = committed;
    if out.is_json() {
        let line = json!({"path": path, "version": version.0, "time": output::time(version)});
        out.line(line)?;
    } else {
        output::note(format_args!("{verb} {path} at {}", output::time(version)));
    }
    Ok(results)
}
