//! The port: who may connect, and one resource per file. Driven by [`crate::server`]; a connection
//! that upgrades to the sync protocol is handed to [`crate::session`].

pub(crate) mod accept;
mod error;
mod health;
mod index;
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
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(host)
}
