//! What one commit changed in one group: encoded once, shared by all its connections.

use std::sync::OnceLock;

use bytes::Bytes;
use tidemark_protocol::model::{DocumentPath, Version};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{Changes, Removal, ServerMessage};

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

/// The changes of one group at one version.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) group: GroupId,
    pub(super) version: Version,
    pub(super) changes: Vec<(DocumentPath, DocumentChange)>,
    frame: OnceLock<Bytes>,
    /// The same with `partial`, for connections that another group of the commit also goes to.
    partial_frame: OnceLock<Bytes>,
}

impl Delta {
    pub(super) fn new(
        group: GroupId,
        version: Version,
        changes: Vec<(DocumentPath, DocumentChange)>,
    ) -> Delta {
        let (frame, partial_frame) = (OnceLock::new(), OnceLock::new());
        Delta { group, version, changes, frame, partial_frame }
    }

    /// The frame, made when first asked for.
    pub(super) fn frame(&self, partial: bool) -> Bytes {
        let cell = if partial { &self.partial_frame } else { &self.frame };
        cell.get_or_init(|| encode_changes(self.group, self.version, &self.changes, partial))
            .clone()
    }
}

/// Encodes changes of a group.
fn encode_changes(
    group: GroupId,
    version: Version,
    changes: &[(DocumentPath, DocumentChange)],
    partial: bool,
) -> Bytes {
    let mut message = Changes { group: group.0, version, partial, ..Changes::default() };
    for (path, change) in changes {
        match change {
            DocumentChange::Present(bytes) => message.documents.push(bytes.clone()),
            DocumentChange::Removed { deleted } => {
                message.removals.push(Removal { path: path.clone(), deleted: *deleted });
            }
        }
    }
    codec::encode_server(&ServerMessage::Changes(message))
}
