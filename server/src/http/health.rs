//! `/healthz`: the process answers. `/readyz`: it takes connections.

use std::sync::Arc;

use axum::extract::State;
use tidemark_protocol::model::Code;

use super::error::HttpError;
use crate::session::Host;

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(host): State<Arc<Host>>) -> Result<&'static str, HttpError> {
    match host.database() {
        Ok(_) => Ok("ready\n"),
        Err(unready) => Err(HttpError::new(Code::Unavailable, unready.to_string())),
    }
}
