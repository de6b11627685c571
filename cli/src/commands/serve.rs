//! `serve`: the server; its flags, environment and file are the server's own business.

use tidemark_server::config::{Config, Flags};
use tidemark_server::server;

use crate::failure::{Failure, Kind, Outcome};

/// Serves until told to stop.
pub(crate) async fn run(flags: &Flags) -> Outcome<u8> {
    let config = Config::load(flags).map_err(|error| Failure::usage(error.to_string()))?;
    let stopped = server::run(config).await;
    stopped.map_err(|error| Failure::new(Kind::Server, error.to_string()))?;
    Ok(0)
}
