//! What one commit changed in one group: encoded once, shared by all its connections.

use std::sync::OnceLock;

use bytes::Bytes;
use tidemark_protocol::model::{DocumentPath, Value, Version};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{Aggregated, Changes, Removal, ServerMessage};

/// Names a group on the wire, for the life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u32);

/// The new state of one document in a group.
#[derive(Clone, Debug)]
pub(super) enum DocumentChange {
    /// It is in the result, as these bytes.
    Present(Bytes),
    /// It left the result.
    Removed { deleted: bool },
}

/// What is told of a group.
#[derive(Debug)]
pub(super) enum Body {
    /// The documents that changed.
    Changes(Vec<(DocumentPath, DocumentChange)>),
    /// All values of an aggregate.
    Values(Vec<Value>),
}

/// The news of one group at one version.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) group: GroupId,
    pub(super) version: Version,
    pub(super) body: Body,
    frame: OnceLock<Bytes>,
    /// The same with `partial`, for connections that another group of the commit also goes to.
    partial_frame: OnceLock<Bytes>,
}

impl Delta {
    pub(super) fn new(group: GroupId, version: Version, body: Body) -> Delta {
        let (frame, partial_frame) = (OnceLock::new(), OnceLock::new());
        Delta { group, version, body, frame, partial_frame }
    }

    /// The frame, made when first asked for.
    pub(super) fn frame(&self, partial: bool) -> Bytes {
        let cell = if partial { &self.partial_frame } else { &self.frame };
        cell.get_or_init(|| self.encode(partial)).clone()
    }

    fn encode(&self, partial: bool) -> Bytes {
        let (group, version) = (self.group.0, self.version);
        let message = match &self.body {
            Body::Changes(changes) => {
                ServerMessage::Changes(changes_message(self, changes, partial))
            }
            Body::Values(values) => {
                let values = values.clone();
                ServerMessage::Aggregated(Aggregated { group, version, values, partial })
            }
        };
        codec::encode_server(&message)
    }
}

fn changes_message(
    delta: &Delta,
    changes: &[(DocumentPath, DocumentChange)],
    partial: bool,
) -> Changes {
    let (group, version) = (delta.group.0, delta.version);
    let mut message = Changes { group, version, partial, ..Changes::default() };
    for (path, change) in changes {
        match change {
            DocumentChange::Present(bytes) => message.documents.push(bytes.clone()),
            DocumentChange::Removed { deleted } => {
                message.removals.push(Removal { path: path.clone(), deleted: *deleted });
            }
        }
    }
    message
}
