//! The port: who may connect, and one resource per file. Driven by [`crate::server`]; a connection
//! that upgrades to the sync protocol is handed to [`crate::session`].

pub(crate) mod accept;
mod error;
mod health;
mod index;
mod indexes;
pub(crate) mod link;
mod metrics;
mod sync;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};

use crate::session::Host;

pub(crate) fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/", get(index::page))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::page))
        .route("/v1/sync", any(sync::upgrade))
        .merge(indexes::routes())
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::accept::Acceptor;
    use super::*;
    use crate::clock::{ManualClock, Seed};
    use crate::config::Config;
    use crate::tasks::Tasks;

    async fn status(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_server_that_opens_or_stops_lives_but_is_not_ready() {
        let tasks = Tasks::default();
        let clock = Arc::new(ManualClock::default());
        let host = Host::new(&Config::default(), clock, Seed::new(1), tasks.spawner());
        let host = Arc::new(host);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Acceptor {
            listener,
            router: router(Arc::clone(&host)),
            metrics: Arc::clone(&host.metrics),
            spawner: tasks.spawner(),
            connections: 10,
            head_timeout: Duration::from_secs(10),
        };
        tasks.spawn("acceptor", acceptor.run());
        for why in ["opening", "stopping"] {
            assert!(status(address, "/healthz").await.starts_with("HTTP/1.1 200"));
            assert!(status(address, "/metrics").await.contains("tidemark_sessions 0"));
            for path in ["/readyz", "/v1/sync"] {
                let answer = status(address, path).await;
                assert!(answer.starts_with("HTTP/1.1 503"), "{path} {answer}");
                assert!(answer.contains("UNAVAILABLE") && answer.contains(why), "{path} {answer}");
            }
            host.stop();
        }
    }
}
