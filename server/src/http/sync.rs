//! `/v1/sync`: the upgrade to the sync protocol.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::Response;
use tidemark_protocol::model::Code;
use tidemark_protocol::wire::SUBPROTOCOL;

use super::error::HttpError;
use super::link::Link;
use crate::session::{self, Host};

/// The buffer each socket holds while it is idle; larger frames get a larger one while they are
/// read.
const READ_BUFFER: usize = 4 * 1024;
/// Frames are gathered up to this many bytes before they are written.
const WRITE_BUFFER: usize = 16 * 1024;

pub(super) async fn upgrade(
    State(host): State<Arc<Host>>,
    Extension(link): Extension<Arc<Link>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    let database = match host.database() {
        Ok(database) => database.clone(),
        Err(unready) => return Err(HttpError::new(Code::Unavailable, unready.to_string())),
    };
    let upgrade = upgrade.map_err(|rejection| {
        let message = format!("this is a WebSocket, subprotocol {SUBPROTOCOL}: {rejection}");
        HttpError::new(Code::InvalidArgument, message)
    })?;
    let limit = usize::try_from(host.rules.limits.frame_bytes).unwrap_or(usize::MAX);
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(limit)
        .max_frame_size(limit);
    if upgrade.selected_protocol().is_none() {
        let message = format!("the WebSocket subprotocol must be {SUBPROTOCOL}");
        return Err(HttpError::new(Code::InvalidArgument, message));
    }
    Ok(upgrade.on_upgrade(|socket: WebSocket| async move {
        // A task of our own: it is supervised, and holds nothing of the upgrade.
        let tasks = host.session_tasks.clone();
        tasks.spawn("session", session::run(socket, link, database, host));
    }))
}
