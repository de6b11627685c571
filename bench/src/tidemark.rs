//! A Tidemark server with its default settings, in this process.

use std::path::Path;

use tidemark_server::config::Config;
use tidemark_server::server::Server;

use crate::child;

/// Serves on a free port until the parent ends. Only the port and the data folder differ from the
/// defaults.
pub(crate) async fn serve(data: &Path) -> anyhow::Result<()> {
    let config =
        Config { listen: ([127, 0, 0, 1], 0).into(), data: data.to_owned(), ..Config::default() };
    let server = Server::start(config).await?;
    println!("{}", server.addr());
    child::parent_gone().await;
    server.shutdown().await?;
    Ok(())
}
