//! The server as a whole: binds, opens the database, serves, and stops in order. Driven by the
//! command line ([`run`]) and by tests ([`Server::start`], in their own process).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::{Clock, Seed, SystemClock};
use crate::config::Config;
use crate::engine::{Database, DatabaseName, DatabaseOptions, EngineError};
use crate::http;
use crate::http::accept::Acceptor;
use crate::session::state::DATABASE;
use crate::session::{Host, SessionMetrics};
use crate::store::{self, Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::{self, TelemetryError};

/// Why the server could not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The storage engine cannot be opened or closed.
    #[error("the store {url}: {error}")]
    Store {
        /// As configured.
        url: String,
        /// Why.
        error: StoreError,
    },
    /// The data folder cannot be created.
    #[error("cannot create the data folder {path}: {error}")]
    Data {
        /// As configured.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The database in the store cannot be opened.
    #[error("cannot open the database: {0}")]
    Database(#[from] EngineError),
    /// Logging could not begin.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Signals cannot be received, or standard output cannot be written.
    #[error(transparent)]
    Process(#[from] io::Error),
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that takes connections. Dropping it without [`RunningServer::shutdown`] stops it where
/// it stands, as a crash would.
pub struct RunningServer {
    address: SocketAddr,
    drain_timeout: Duration,
    store_url: String,
    host: Arc<Host>,
    database: Database,
    store: Arc<dyn Store>,
    // Cancelled in this order when dropped.
    port_tasks: Tasks,
    session_tasks: Tasks,
    engine_tasks: Tasks,
}

impl Server {
    /// Binds, opens the database, and returns when connections are taken.
    pub async fn start(config: Config) -> Result<RunningServer, ServeError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let (port_tasks, session_tasks, engine_tasks) =
            (Tasks::default(), Tasks::default(), Tasks::default());
        let host = Arc::new(Host::new(
            &config,
            Arc::clone(&clock),
            Seed::from_system(),
            session_tasks.spawner(),
        ));
        // The port comes first: it answers `/readyz` while the database opens, and two servers on
        // one port find out before they touch the data.
        let address = serve_port(&config, &host, &port_tasks).await?;
        let store = open_store(&config).await?;
        let name = DatabaseName { project: config.project.clone(), database: DATABASE.to_owned() };
        let options = database_options(&config);
        let opening = Database::open(Arc::clone(&store), &name, options, clock, &engine_tasks);
        let database = opening.await?;
        host.opened(database.clone());
        Ok(RunningServer {
            address,
            drain_timeout: config.drain_timeout,
            store_url: config.store_url(),
            host,
            database,
            store,
            port_tasks,
            session_tasks,
            engine_tasks,
        })
    }
}

async fn serve_port(
    config: &Config,
    host: &Arc<Host>,
    tasks: &Tasks,
) -> Result<SocketAddr, ServeError> {
    let listen_error = |error| ServeError::Listen { address: config.listen, error };
    let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let acceptor = Acceptor {
        listener,
        router: http::router(Arc::clone(host)),
        metrics: Arc::clone(&host.metrics),
        spawner: tasks.spawner(),
        connections: usize::try_from(config.connections).unwrap_or(usize::MAX),
        head_timeout: config.handshake_timeout,
    };
    tasks.spawn("acceptor", acceptor.run());
    Ok(address)
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, ServeError> {
    let url = config.store_url();
    if url != "mem:" {
        std::fs::create_dir_all(&config.data)
            .map_err(|error| ServeError::Data { path: config.data.display().to_string(), error })?;
    }
    store::open(&url).await.map_err(|error| ServeError::Store { url, error })
}

fn database_options(config: &Config) -> DatabaseOptions {
    DatabaseOptions {
        log_retention: config.log_retention,
        log_bytes: config.log_bytes.0,
        tombstone_retention: config.tombstone_retention,
        outbox_bytes: config.outbox_bytes.as_usize(),
        heartbeat: config.heartbeat,
        ..DatabaseOptions::default()
    }
}

impl RunningServer {
    /// The address that connections are taken on; the port is known even if 0 was configured.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:7700`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The database served.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Counts of the sessions.
    pub fn metrics(&self) -> &SessionMetrics {
        &self.host.metrics
    }

    /// Stops in order: refuses sessions, tells those that are there to reconnect elsewhere and
    /// gives their commits an outcome, ends the engine, closes the store. Sessions that have not
    /// ended within the drain timeout are dropped; the engine still finishes what it was given.
    pub async fn shutdown(self) -> Result<(), ServeError> {
        self.host.stop();
        let late = self.session_tasks.finish(self.drain_timeout).await;
        if late > 0 {
            tracing::warn!(sessions = late, "sessions were still open after the drain timeout");
        }
        if tokio::time::timeout(self.drain_timeout, self.database.close()).await.is_err() {
            tracing::warn!("commits were still waiting after the drain timeout");
        }
        self.engine_tasks.finish(self.drain_timeout).await;
        let closed = self.store.close().await;
        self.port_tasks.cancel();
        self.port_tasks.finish(Duration::ZERO).await;
        closed.map_err(|error| ServeError::Store { url: self.store_url.clone(), error })
    }
}

/// Serves until SIGTERM or SIGINT, then stops in order. A second signal ends the process at once.
pub async fn run(config: Config) -> Result<(), ServeError> {
    telemetry::install(&config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = config.store_url();
    let server = tokio::select! {
        started = Server::start(config) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    announce(&server.url(), &store)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    tokio::select! {
        stopped = server.shutdown() => stopped,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The one line on standard output: scripts and people wait for it.
fn announce(url: &str, store: &str) -> io::Result<()> {
    use std::io::Write;
    let mut out = io::stdout().lock();
    writeln!(out, "tidemark {} serves {url} (store {store})", env!("CARGO_PKG_VERSION"))?;
    out.flush()
}
