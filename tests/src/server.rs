//! The server inside the test: quick to start, with the options that a test varies.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidemark_core::Client;
use tidemark_protocol::model::ClientId;
use tidemark_server::config::{Config, Flags};
use tidemark_server::engine::EngineMetrics;
use tidemark_server::server::{RunningServer, Server};

use crate::net::Net;

/// What tests vary. `None` is the server's own default.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// The store's URL; none: memory for [`TestServer`], `data` for a process.
    pub store: Option<String>,
    /// The data folder; none: a new one for a process.
    pub data: Option<PathBuf>,
    /// How long the change log is kept.
    pub log_retention: Option<Duration>,
    /// How many bytes of it are kept.
    pub log_bytes: Option<u64>,
    /// How many bytes may wait for one connection.
    pub outbox_bytes: Option<usize>,
    /// The heartbeat.
    pub heartbeat: Option<Duration>,
}

/// A client through the link of this name.
pub(crate) fn client(net: &Net, name: &str) -> Client {
    Client::builder(format!("ws://{}", net.address(name))).build().expect("a valid address")
}

/// A client id out of a number, for connections written by hand.
pub fn client_id(number: u8) -> ClientId {
    ClientId([number; 16])
}

impl ServerOptions {
    /// As the server's own environment variables, which its settings are read from.
    pub(crate) fn environment(&self, listen: SocketAddr) -> HashMap<&'static str, String> {
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        let set = [
            ("TIDEMARK_LISTEN", Some(listen.to_string())),
            ("TIDEMARK_STORE", self.store.clone()),
            ("TIDEMARK_DATA", self.data.as_ref().map(|path| path.display().to_string())),
            ("TIDEMARK_LOG_RETENTION", self.log_retention.map(millis)),
            ("TIDEMARK_LOG_BYTES", self.log_bytes.map(|bytes| bytes.to_string())),
            ("TIDEMARK_OUTBOX_BYTES", self.outbox_bytes.map(|bytes| bytes.to_string())),
            ("TIDEMARK_HEARTBEAT", self.heartbeat.map(millis)),
            ("TIDEMARK_LOG_LEVEL", Some("warn".to_owned())),
        ];
        set.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
    }
}

/// A server inside the test, with a network in front of it. Its data is gone when the test ends.
pub struct TestServer {
    /// The network between the clients and the server.
    pub net: Net,
    running: RunningServer,
}

impl TestServer {
    /// Starts with the defaults, in memory.
    pub async fn start() -> TestServer {
        TestServer::with(ServerOptions::default()).await
    }

    /// Starts with these options.
    pub async fn with(mut options: ServerOptions) -> TestServer {
        options.store.get_or_insert_with(|| "mem:".to_owned());
        let environment = options.environment(SocketAddr::from(([127, 0, 0, 1], 0)));
        let config =
            Config::resolve(&Flags::default(), |name| environment.get(name).cloned(), None);
        let config = config.expect("a test's options are valid");
        let running = Server::start(config).await.expect("the server starts");
        TestServer { net: Net::new(running.addr()), running }
    }

    /// Where the server itself listens, without the network in between.
    pub fn address(&self) -> SocketAddr {
        self.running.addr()
    }

    /// A client that reaches the server through the link of this name.
    pub fn client(&self, name: &str) -> Client {
        client(&self.net, name)
    }

    /// What the engine counted.
    pub fn metrics(&self) -> &EngineMetrics {
        self.running.database().metrics()
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.running.shutdown().await.expect("the server stops in order");
    }
}
