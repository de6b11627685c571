//! The network side of a chat: history, live messages, and sending in the order typed. The front
//! ends call `next` in their loop; it updates the room and says what is new.

use futures::StreamExt;
use futures::future::BoxFuture;
use tidemark_core::{
    ChangeKind, Client, Code, CollectionRef, Committed, ConnectionState, ConnectionStates,
    Direction, Error, FieldValue, ListenOptions, Operator, QueryListener, QuerySnapshot, Value,
};
use tidemark_protocol::model::Timestamp;

use super::room::{Link, Message, Room};
use crate::clock;
use crate::connection::is_final;
use crate::failure::{Failure, Kind, Outcome};

/// How many messages are shown at first.
const HISTORY: u32 = 50;

/// What is new.
#[derive(Debug)]
pub(super) enum News {
    /// The server shows a message for the first time; in the order for all.
    Message(Message),
    /// The server refused an own message.
    Rejected {
        /// Which.
        id: String,
        /// Why.
        error: Error,
    },
    /// The connection has changed.
    Link,
    /// The server has said what there is, or an own message was committed.
    Progress,
}

/// The connection to a room's messages.
pub(super) struct Feed {
    messages: CollectionRef,
    name: String,
    /// Where the history begins; asked once. Cleared when answered.
    beginning: Option<BoxFuture<'static, Result<QuerySnapshot, Error>>>,
    /// Set when the beginning is known.
    listener: Option<QueryListener>,
    states: ConnectionStates,
    /// The own message the server is to decide on: one at a time, so that they arrive in the order
    /// typed. Set and cleared by `next`.
    sending: Option<BoxFuture<'static, (String, Result<Committed, Error>)>>,
    /// Whether the server has said what there is. Set by `next`.
    current: bool,
}

impl Feed {
    /// Follows a room; does not wait for the network.
    pub(super) fn new(client: &Client, messages: CollectionRef, name: &str) -> Feed {
        let last = messages.order_by("at", Direction::Descending).limit(HISTORY);
        Feed {
            messages,
            name: name.to_owned(),
            beginning: Some(Box::pin(async move { last.get().await })),
            listener: None,
            states: client.connection(),
            sending: None,
            current: false,
        }
    }

    /// Whether the room shows what the server has.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }

    /// Says something: it is in the room at once, and sent when its turn comes.
    pub(super) fn say(&self, room: &mut Room, text: &str) {
        room.say(self.messages.new_doc().id(), text, clock::unix_millis());
    }

    /// Waits for the next event. May be dropped and called again.
    pub(super) async fn next(&mut self, room: &mut Room) -> Outcome<Vec<News>> {
        self.send_next(room)?;
        tokio::select! {
            (id, outcome) = wait_for(&mut self.sending) => {
                self.sending = None;
                Ok(vec![decided(room, id, outcome)])
            }
            first = wait_for(&mut self.beginning) => {
                self.beginning = None;
                self.listener = Some(self.listen(&first?));
                Ok(Vec::new())
            }
            snapshot = next_of(&mut self.listener) => match snapshot {
                Some(snapshot) => Ok(self.apply(room, &snapshot?)),
                None => Err(Failure::new(Kind::Status(Code::Cancelled), "the listener has ended")),
            },
            Some(state) = self.states.next() => link(room, state),
        }
    }

    fn send_next(&mut self, room: &Room) -> Outcome<()> {
        if self.sending.is_some() {
            return Ok(());
        }
        if let Some(message) = room.next_to_send() {
            let document = self.messages.doc(&message.id)?;
            let write = document.set_fields([
                ("from", FieldValue::from(self.name.as_str())),
                ("text", FieldValue::from(message.text.as_str())),
                ("at", FieldValue::server_timestamp()),
                ("sentAt", FieldValue::from(message.sent_at)),
            ]);
            let id = message.id.clone();
            self.sending = Some(Box::pin(async move { (id, write.await) }));
        }
        Ok(())
    }

    /// From the oldest message shown on: unlike a limit, this leaves no gap after an outage.
    fn listen(&self, history: &QuerySnapshot) -> QueryListener {
        let query = self.messages.order_by("at", Direction::Ascending);
        let oldest = history.documents().iter().rev().find_map(|document| document.get("at"));
        let query = match oldest {
            Some(at @ Value::Timestamp(_)) => {
                query.filter("at", Operator::GreaterThanOrEqual, at.clone())
            }
            _ => query,
        };
        query.listen_with(ListenOptions { include_metadata_changes: true })
    }

    fn apply(&mut self, room: &mut Room, snapshot: &QuerySnapshot) -> Vec<News> {
        let mut fresh = Vec::new();
        for change in snapshot.changes() {
            let document = &change.document;
            match change.kind {
                ChangeKind::Removed => room.hide(document.id()),
                // An own message that waits is in the room already.
                _ if document.metadata().has_pending_writes => {}
                ChangeKind::Added | ChangeKind::Modified => {
                    let fields = document.fields();
                    let Some(message) =
                        fields.and_then(|fields| Message::read(document.id(), fields))
                    else {
                        continue;
                    };
                    if room.first_listing(&message.id) {
                        fresh.push(message.clone());
                    }
                    room.show(message);
                }
            }
        }
        self.current |= !snapshot.metadata().from_cache;
        fresh.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        let mut news: Vec<News> = fresh.into_iter().map(News::Message).collect();
        news.push(News::Progress);
        news
    }
}

/// A future that may be there.
async fn wait_for<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn next_of(listener: &mut Option<QueryListener>) -> Option<Result<QuerySnapshot, Error>> {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

fn decided(room: &mut Room, id: String, outcome: Result<Committed, Error>) -> News {
    match outcome {
        Ok(committed) => {
            room.committed(&id, Timestamp::from(committed.version));
            News::Progress
        }
        Err(error) => {
            room.rejected(&id, &format!("{}: {}", error.code(), error.message()));
            News::Rejected { id, error }
        }
    }
}

fn link(room: &mut Room, state: ConnectionState) -> Outcome<Vec<News>> {
    room.set_link(match state {
        ConnectionState::Connecting => Link::Connecting,
        ConnectionState::Online => Link::Online,
        ConnectionState::Offline { reason } if is_final(&reason) => return Err(reason.into()),
        ConnectionState::Offline { reason } => Link::Offline(reason.message().to_owned()),
    });
    Ok(vec![News::Link])
}
