//! The network side of a chat: history, live messages, and what the user says, edits and deletes. The
//! front ends call `next` in their loop; it updates the room and says what is new.

use std::collections::HashSet;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tidemark_core::{
    ChangeKind, Client, Code, CollectionRef, Committed, ConnectionState, ConnectionStates,
    Direction, DocumentPath, DocumentSnapshot, Error, FieldValue, ListenOptions, Operator,
    PendingWrite, QueryListener, QuerySnapshot, RejectedWrite, Value,
};
use tidemark_protocol::model::{Timestamp, WriteOp};

use super::room::{Link, Message, Room, Shown};
use crate::clock;
use crate::connection::is_final;
use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

/// How many messages are shown at first.
const HISTORY: u32 = 50;
/// In microseconds.
const DAY: i64 = 24 * 3600 * 1_000_000;

/// What is new.
#[derive(Debug)]
pub(super) enum News {
    /// The server shows a message for the first time; in the order for all.
    Message(Message),
    /// The server shows a message with another text than before.
    Edited(Message),
    /// The server shows a message no more.
    Deleted {
        /// Which.
        id: String,
    },
    /// An own message waits in the outbox: with a cache, it survives this process.
    Local {
        /// Which.
        id: String,
        /// What it says.
        text: String,
    },
    /// A later edit of an own message had been made by someone else when this one arrived: it holds.
    Superseded {
        /// Which message.
        id: String,
    },
    /// The server refused an own message, an edit, or a deletion.
    Rejected {
        /// Of which message.
        id: String,
        /// Why.
        error: Error,
    },
    /// The connection has changed.
    Link,
    /// The server has said what there is, or an own write was committed.
    Progress,
}

/// What the server is to decide on.
enum Wish {
    /// By its id, with its text.
    Message(String, String),
    Change(String),
}

/// How far a wish has come.
enum Stage {
    /// It is kept, and sent when that is possible.
    Kept(PendingWrite),
    /// The server's word.
    Decided(Result<Committed, Error>),
}

type Waiting = BoxFuture<'static, (Wish, Stage)>;

/// The connection to a room's messages.
pub(super) struct Feed {
    client: Client,
    messages: CollectionRef,
    name: String,
    /// Whether what is said survives this process, and what is known is known to the next one.
    durable: bool,
    /// The messages that an earlier run has said and that wait.
    earlier: HashSet<DocumentPath>,
    /// Where the history begins; asked once. Cleared when answered.
    beginning: Option<BoxFuture<'static, Result<QuerySnapshot, Error>>>,
    /// Set when the beginning is known.
    listener: Option<QueryListener>,
    states: ConnectionStates,
    /// What the server has not decided on. Filled by `say`, `edit` and `delete`.
    undecided: FuturesUnordered<Waiting>,
    /// Whether the server has said what there is. Set by `next`.
    current: bool,
}

impl Feed {
    /// Follows a room; does not wait for the network.
    pub(super) async fn open(
        client: &Client,
        messages: CollectionRef,
        room: &mut Room,
        durable: bool,
    ) -> Outcome<Feed> {
        let waiting = client.pending_writes().await?;
        let made = waiting.iter().flat_map(|pending| pending.writes.iter());
        let made = made.filter(|write| matches!(write.op, WriteOp::Set(_)));
        let earlier = made.map(|write| write.path.clone()).collect();
        let rejected = client.rejected_writes().await?;
        for (id, text, reason) in rejected.iter().filter_map(|it| refused(&messages, it)) {
            room.say(&id, &text, 0);
            room.rejected(&id, &reason);
        }
        let last = messages.order_by("at", Direction::Descending).limit(HISTORY);
        Ok(Feed {
            client: client.clone(),
            messages,
            name: room.name().to_owned(),
            durable,
            earlier,
            beginning: Some(Box::pin(async move { last.get().await })),
            listener: None,
            states: client.connection(),
            undecided: FuturesUnordered::new(),
            current: false,
        })
    }

    /// Whether what waits is sent by a later run.
    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether the server is expected to say something.
    pub(super) fn is_online(&self, room: &Room) -> bool {
        match room.link() {
            Link::Offline(_) => false,
            Link::Connecting | Link::Reconnecting | Link::Online => true,
        }
    }

    /// Says what becomes of what is not sent.
    pub(super) fn note_waiting(&self, room: &Room) {
        let count = room.waiting();
        if self.durable {
            note(format_args!("{count} message(s) wait in the cache: the next chat sends them"));
        } else {
            note(format_args!("{count} message(s) may not have been sent"));
        }
    }

    /// Whether nothing is lost by leaving now: all is said, or it will be said another time.
    pub(super) fn may_leave(&self, room: &Room) -> bool {
        (self.durable && !self.is_online(room)) || (self.current && room.waiting() == 0)
    }

    /// Says something: it is in the room and in the outbox at once.
    pub(super) fn say(&mut self, room: &mut Room, text: &str) {
        let document = self.messages.new_doc();
        let sent_at = clock::unix_millis();
        let write = document.set_fields([
            ("from", FieldValue::from(self.name.as_str())),
            ("text", FieldValue::from(text)),
            ("at", FieldValue::server_timestamp()),
            ("sentAt", FieldValue::from(sent_at)),
        ]);
        let id = document.id().to_owned();
        room.say(&id, text, sent_at);
        self.await_decision(Wish::Message(id, text.to_owned()), write);
    }

    /// Changes the user's last message; whether there is one.
    pub(super) fn edit(&mut self, room: &mut Room, text: &str) -> Outcome<bool> {
        let Some(id) = room.last_own() else { return Ok(false) };
        let write = self.messages.doc(&id)?.update([("text", FieldValue::from(text))]);
        room.edit(&id, text);
        room.change_began();
        self.await_decision(Wish::Change(id), write);
        Ok(true)
    }

    /// Deletes the user's last message; whether there is one.
    pub(super) fn delete(&mut self, room: &mut Room) -> Outcome<bool> {
        let Some(id) = room.last_own() else { return Ok(false) };
        let write = self.messages.doc(&id)?.delete();
        room.hide(&id);
        room.change_began();
        self.await_decision(Wish::Change(id), write);
        Ok(true)
    }

    /// Sends again what was refused; how many.
    pub(super) async fn retry(&mut self, room: &mut Room) -> Outcome<usize> {
        let refused = self.refused().await?;
        for RejectedWrite { id, writes, .. } in &refused {
            let Some(write) = writes.first() else { continue };
            let message = write.path.id().to_owned();
            let wish = match room.send_again(&message) {
                Some(text) => Wish::Message(message, text),
                None => {
                    room.change_began();
                    Wish::Change(message)
                }
            };
            self.await_decision(wish, self.client.retry(*id));
        }
        Ok(refused.len())
    }

    /// Forgets what was refused; how many.
    pub(super) async fn discard(&mut self, room: &mut Room) -> Outcome<usize> {
        let refused = self.refused().await?;
        for write in &refused {
            self.client.discard(write.id).await?;
        }
        room.forget_refused();
        Ok(refused.len())
    }

    /// What was refused in this room, by this run and by earlier ones.
    async fn refused(&self) -> Outcome<Vec<RejectedWrite>> {
        let mut refused = self.client.rejected_writes().await?;
        let room = self.messages.path();
        refused.retain(|it| it.writes.iter().all(|write| room.contains(&write.path)));
        Ok(refused)
    }

    fn await_decision(&self, wish: Wish, mut write: PendingWrite) {
        self.undecided.push(Box::pin(async move {
            match write.local().await {
                Ok(_) => (wish, Stage::Kept(write)),
                Err(error) => (wish, Stage::Decided(Err(error))),
            }
        }));
    }

    fn came_to(&self, room: &mut Room, wish: Wish, stage: Stage) -> News {
        let write = match stage {
            Stage::Kept(write) => write,
            Stage::Decided(outcome) => return decided(room, wish, outcome),
        };
        let news = match &wish {
            Wish::Message(id, text) => News::Local { id: id.clone(), text: text.clone() },
            Wish::Change(_) => News::Progress,
        };
        self.undecided.push(Box::pin(async move { (wish, Stage::Decided(write.await)) }));
        news
    }

    /// Waits for the next event. May be dropped and called again.
    pub(super) async fn next(&mut self, room: &mut Room) -> Outcome<Vec<News>> {
        tokio::select! {
            Some((wish, stage)) = self.undecided.next(), if !self.undecided.is_empty() => {
                Ok(vec![self.came_to(room, wish, stage)])
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

    /// From the oldest message shown on: unlike a limit, this leaves no gap after an outage.
    fn listen(&self, history: &QuerySnapshot) -> QueryListener {
        let query = self.messages.order_by("at", Direction::Ascending);
        let oldest = history.documents().iter().rev().find_map(|document| document.get("at"));
        let query = match oldest {
            Some(Value::Timestamp(at)) => {
                query.filter("at", Operator::GreaterThanOrEqual, self.begin(*at))
            }
            _ => query,
        };
        query.listen_with(ListenOptions { include_metadata_changes: true })
    }

    /// With a cache, the history begins with a day: the next run asks for the same, and is sent only
    /// what it does not have.
    fn begin(&self, oldest: Timestamp) -> Value {
        let micros = oldest.as_micros();
        let day = Timestamp::from_micros(micros - micros.rem_euclid(DAY)).unwrap_or(oldest);
        Value::Timestamp(if self.durable { day } else { oldest })
    }

    fn apply(&mut self, room: &mut Room, snapshot: &QuerySnapshot) -> Vec<News> {
        let (mut fresh, mut news) = (Vec::new(), Vec::new());
        for change in snapshot.changes() {
            let document = &change.document;
            match change.kind {
                ChangeKind::Removed => {
                    room.hide(document.id());
                    if room.unlist(document.id()) {
                        news.push(News::Deleted { id: document.id().to_owned() });
                    }
                }
                ChangeKind::Added | ChangeKind::Modified => {
                    let fields = document.fields();
                    let message = fields.and_then(|fields| Message::read(document.id(), fields));
                    let Some(message) = message else { continue };
                    if document.metadata().has_pending_writes {
                        news.extend(self.pending(room, document, message));
                        continue;
                    }
                    match room.list(&message) {
                        Shown::First => fresh.push(message.clone()),
                        Shown::Edited => news.push(News::Edited(message.clone())),
                        Shown::Again => {}
                    }
                    room.show(message);
                }
            }
        }
        self.current |= !snapshot.metadata().from_cache;
        fresh.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        let mut all: Vec<News> = fresh.into_iter().map(News::Message).collect();
        all.append(&mut news);
        all.push(News::Progress);
        all
    }

    /// A document with writes that wait: this run has put them into the room, an earlier one has not.
    fn pending(
        &self,
        room: &mut Room,
        document: &DocumentSnapshot,
        message: Message,
    ) -> Option<News> {
        let Message { id, from, text, .. } = message;
        if !room.knows(&id) && from == self.name && self.earlier.contains(document.path()) {
            return room.recall(&id, &text).then_some(News::Local { id, text });
        }
        room.edit(&id, &text);
        None
    }
}

/// A message that was refused in a room: its id, its text and the reason.
fn refused(room: &CollectionRef, rejected: &RejectedWrite) -> Option<(String, String, String)> {
    let write = rejected.writes.first().filter(|write| room.path().contains(&write.path))?;
    let WriteOp::Set(fields) = &write.op else { return None };
    let Some(Value::String(text)) = fields.get("text") else { return None };
    let reason = format!("{}: {}", rejected.code, rejected.message);
    Some((write.path.id().to_owned(), text.clone(), reason))
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

fn decided(room: &mut Room, wish: Wish, outcome: Result<Committed, Error>) -> News {
    match (wish, outcome) {
        (Wish::Message(id, _), Ok(committed)) => {
            room.committed(&id, Timestamp::from(committed.version));
            News::Progress
        }
        (Wish::Message(id, _), Err(error)) => {
            room.rejected(&id, &format!("{}: {}", error.code(), error.message()));
            News::Rejected { id, error }
        }
        (Wish::Change(id), Ok(committed)) => {
            room.change_decided();
            if committed.is_whole() { News::Progress } else { News::Superseded { id } }
        }
        (Wish::Change(id), Err(error)) => {
            room.change_decided();
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
