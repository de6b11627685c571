//! The acceptor: takes connections, refuses those beyond the limit, and serves HTTP on the rest.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::link::{LinkedStream, linger};
use crate::session::SessionMetrics;
use crate::tasks::Spawner;

/// How many connections may be told at once that there are too many.
const REFUSALS: usize = 64;

/// After a failed accept (out of file descriptors), so that trying again does not burn a core.
const RETRY: Duration = Duration::from_millis(100);

const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 97\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    {\"error\":{\"code\":503,\"message\":\"the server has no room for a connection\",\"status\":\"UNAVAILABLE\"}}";

/// What the acceptor needs.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    pub(crate) metrics: Arc<SessionMetrics>,
    pub(crate) spawner: Spawner,
    /// How many connections there may be.
    pub(crate) connections: usize,
    /// How long a client may take to send the head of a request.
    pub(crate) head_timeout: Duration,
}

impl Acceptor {
    /// Takes connections until it is cancelled.
    pub(crate) async fn run(self) {
        let places = Arc::new(Semaphore::new(self.connections.min(Semaphore::MAX_PERMITS)));
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (metrics, spawner) = (Arc::clone(&self.metrics), self.spawner.clone());
                    self.serve(LinkedStream::new(stream, place, metrics, spawner));
                }
                Err(_) => {
                    self.metrics.connections_refused.increment();
                    if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned() {
                        self.spawner.spawn("refusal", async move {
                            refuse(stream).await;
                            drop(turn);
                        });
                    }
                }
            }
        }
    }

    fn serve(&self, stream: LinkedStream) {
        // Frames are small and each is waited for.
        if let Err(error) = stream.set_nodelay() {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let router = self.router.clone().layer(Extension(stream.link()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .with_upgrades();
        self.spawner.spawn("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection failed");
            }
        });
    }
}

async fn refuse(mut stream: TcpStream) {
    if stream.write_all(REFUSAL.as_bytes()).await.is_ok() {
        linger(stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_has_the_length_it_states() {
        let (head, body) = REFUSAL.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
