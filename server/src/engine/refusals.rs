//! What the lane has refused for now, by client. Each client has one connection that may commit.

use std::collections::HashMap;

use tidemark_protocol::model::{ClientId, WriteId};
use tidemark_protocol::wire::server::{ServerMessage, Status};

use super::connection::ConnectionId;
use super::shared::Shared;
use crate::refusals::Refusals;

/// What was refused for now on the newest connection of each client; most have nothing.
#[derive(Debug, Default)]
pub(super) struct ClientRefusals {
    clients: HashMap<ClientId, (ConnectionId, Refusals)>,
}

impl ClientRefusals {
    /// Why a commit that follows another on the connection must be refused as well, if so.
    pub(super) fn of_follower(
        &self,
        client: ClientId,
        connection: ConnectionId,
        follows: Option<WriteId>,
    ) -> Option<Status> {
        let (_, refusals) = self.clients.get(&client).filter(|(on, _)| *on == connection)?;
        refusals.of_follower(follows)
    }

    /// Records the answer to a commit.
    pub(super) fn answered(
        &mut self,
        client: ClientId,
        connection: ConnectionId,
        answer: &ServerMessage,
    ) {
        let (write_id, code) = if let ServerMessage::Rejected { write_id, status } = answer {
            (*write_id, Some(status.code))
        } else if let ServerMessage::Committed { write_id, .. } = answer
            && self.clients.contains_key(&client)
        {
            (*write_id, None)
        } else {
            return;
        };
        let (on, refusals) =
            self.clients.entry(client).or_insert_with(|| (connection, Refusals::default()));
        if *on != connection {
            (*on, *refusals) = (connection, Refusals::default());
        }
        refusals.answered(write_id, code);
    }

    /// A connection of the client has ended; it may have another by now.
    pub(super) fn forget(&mut self, client: ClientId, shared: &Shared) {
        let refused = self.clients.get(&client);
        if refused.is_some_and(|(on, _)| !shared.is_current(client, *on)) {
            self.clients.remove(&client);
        }
    }
}
