//! What is known of a room: messages in the order that is the same for all, own messages that wait,
//! and the state of the connection. Pure; fed by `feed`, shown by the front ends.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use tidemark_core::{Fields, Value};
use tidemark_protocol::model::Timestamp;

/// A message that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The document's id.
    pub(super) id: String,
    /// Who wrote it.
    pub(super) from: String,
    /// What it says.
    pub(super) text: String,
    /// When the server committed it.
    pub(super) at: Timestamp,
}

impl Message {
    /// From a document's fields; none if it is no message.
    pub(super) fn read(id: &str, fields: &Fields) -> Option<Message> {
        let text_of = |name: &str| match fields.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        let Some(Value::Timestamp(at)) = fields.get("at") else { return None };
        let from = text_of("from").unwrap_or_else(|| "?".to_owned());
        Some(Message { id: id.to_owned(), from, text: text_of("text")?, at: *at })
    }
}

/// An own message that is not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// The id its document has or will have.
    pub(super) id: String,
    /// What it says.
    pub(super) text: String,
    /// When it was typed, in milliseconds since the Unix epoch.
    pub(super) sent_at: i64,
    /// Why the server refused it, once it has.
    pub(super) rejected: Option<String>,
}

/// What became of a message that the server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It was not there before.
    First,
    /// Its text is another.
    Edited,
    /// It is as it was.
    Again,
}

/// The connection, for the banner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Not yet.
    Connecting,
    /// Not any more, for a moment.
    Reconnecting,
    /// Messages come and go.
    Online,
    /// And why.
    Offline(String),
}

/// One line of the conversation, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// The server has it.
    Committed {
        /// The message.
        message: &'a Message,
        /// Whether it was written here.
        own: bool,
    },
    /// It waits, or was refused.
    Outgoing(&'a Outgoing),
}

/// The model.
pub(super) struct Room {
    title: String,
    name: String,
    /// In the order for all: the commit's time, then the id.
    messages: BTreeMap<(Timestamp, String), Message>,
    /// Where a message is in `messages`.
    times: HashMap<String, Timestamp>,
    /// Own messages of this session, also after they were committed.
    own: HashSet<String>,
    /// All messages that the listener has shown, with the text that was told last.
    listed: HashMap<String, String>,
    /// How many edits and deletions of own messages are not committed.
    changing: usize,
    /// Own messages that are not committed, in the order typed.
    outgoing: VecDeque<Outgoing>,
    link: Link,
    /// Whether there ever was a connection. Set by `set_link`.
    reached: bool,
}

impl Room {
    /// An empty room.
    pub(super) fn new(title: &str, name: &str) -> Room {
        Room {
            title: title.to_owned(),
            name: name.to_owned(),
            messages: BTreeMap::new(),
            times: HashMap::new(),
            own: HashSet::new(),
            listed: HashMap::new(),
            changing: 0,
            outgoing: VecDeque::new(),
            link: Link::Connecting,
            reached: false,
        }
    }

    /// The room's name.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// The user's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How the connection is.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The connection has changed.
    pub(super) fn set_link(&mut self, link: Link) {
        self.reached |= link == Link::Online;
        self.link = match link {
            Link::Connecting if self.reached => Link::Reconnecting,
            other => other,
        };
    }

    /// Whether a message was written in this session.
    pub(super) fn is_own(&self, id: &str) -> bool {
        self.own.contains(id)
    }

    /// Notes that the listener shows a message.
    pub(super) fn list(&mut self, message: &Message) -> Shown {
        match self.listed.insert(message.id.clone(), message.text.clone()) {
            None => Shown::First,
            Some(before) if before != message.text => Shown::Edited,
            Some(_) => Shown::Again,
        }
    }

    /// Notes that the listener shows a message no more; whether it did.
    pub(super) fn unlist(&mut self, id: &str) -> bool {
        self.listed.remove(id).is_some()
    }

    /// The user has said something.
    pub(super) fn say(&mut self, id: &str, text: &str, sent_at: i64) {
        self.own.insert(id.to_owned());
        let (id, text) = (id.to_owned(), text.to_owned());
        self.outgoing.push_back(Outgoing { id, text, sent_at, rejected: None });
    }

    /// A message that an earlier run has said, and that waits; whether it is news.
    pub(super) fn recall(&mut self, id: &str, text: &str) -> bool {
        if let Some(known) = self.outgoing.iter_mut().find(|message| message.id == id) {
            text.clone_into(&mut known.text);
            return false;
        }
        let new = !self.times.contains_key(id);
        if new {
            self.say(id, text, 0);
        }
        new
    }

    /// Whether a message is in the room already.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.times.contains_key(id) || self.outgoing.iter().any(|message| message.id == id)
    }

    /// The last own message, committed or not, that was not refused.
    pub(super) fn last_own(&self) -> Option<String> {
        let waiting = self.outgoing.iter().rev().find(|message| message.rejected.is_none());
        let of_name = |message: &&Message| message.from == self.name;
        let committed = || self.messages.values().rev().find(of_name).map(|it| it.id.clone());
        waiting.map(|message| message.id.clone()).or_else(committed)
    }

    /// The text of a message is to be another.
    pub(super) fn edit(&mut self, id: &str, text: &str) {
        let at = self.times.get(id).copied();
        let committed = at.and_then(|at| self.messages.get_mut(&(at, id.to_owned())));
        let waiting = self.outgoing.iter_mut().find(|message| message.id == id);
        let texts = [committed.map(|it| &mut it.text), waiting.map(|it| &mut it.text)];
        texts.into_iter().flatten().for_each(|old| text.clone_into(old));
    }

    /// An edit or a deletion has been made.
    pub(super) fn change_began(&mut self) {
        self.changing += 1;
    }

    /// The server has decided on one.
    pub(super) fn change_decided(&mut self) {
        self.changing = self.changing.saturating_sub(1);
    }

    /// How many own messages, edits and deletions wait.
    pub(super) fn waiting(&self) -> usize {
        let messages = self.outgoing.iter().filter(|message| message.rejected.is_none());
        messages.count() + self.changing
    }

    /// The server has committed an own message, perhaps before the listener tells.
    pub(super) fn committed(&mut self, id: &str, at: Timestamp) {
        let Some(index) = self.outgoing.iter().position(|message| message.id == id) else { return };
        if let Some(Outgoing { id, text, .. }) = self.outgoing.remove(index)
            && !self.times.contains_key(&id)
        {
            self.put(Message { id, from: self.name.clone(), text, at });
        }
    }

    /// The server has refused an own message.
    pub(super) fn rejected(&mut self, id: &str, reason: &str) {
        if let Some(message) = self.outgoing.iter_mut().find(|message| message.id == id) {
            message.rejected = Some(reason.to_owned());
        }
    }

    /// A message that was refused is sent again; gives its text.
    pub(super) fn send_again(&mut self, id: &str) -> Option<String> {
        let message = self.outgoing.iter_mut().find(|message| message.id == id)?;
        message.rejected.take().map(|_| message.text.clone())
    }

    /// Refused messages are given up.
    pub(super) fn forget_refused(&mut self) {
        self.outgoing.retain(|message| message.rejected.is_none());
    }

    /// The server shows a message.
    pub(super) fn show(&mut self, message: Message) {
        self.outgoing.retain(|outgoing| outgoing.id != message.id);
        self.put(message);
    }

    /// The server no longer shows a message.
    pub(super) fn hide(&mut self, id: &str) {
        self.outgoing.retain(|message| message.id != id);
        if let Some(at) = self.times.remove(id) {
            self.messages.remove(&(at, id.to_owned()));
        }
    }

    fn put(&mut self, message: Message) {
        self.hide(&message.id);
        self.times.insert(message.id.clone(), message.at);
        self.messages.insert((message.at, message.id.clone()), message);
    }

    /// The conversation: what the server has, in the order for all, then what waits.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = Entry<'_>> {
        let committed = self.messages.values();
        let committed =
            committed.map(|message| Entry::Committed { message, own: self.is_own(&message.id) });
        committed.chain(self.outgoing.iter().map(Entry::Outgoing))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(id: &str, at: i64) -> Message {
        let at = Timestamp::from_micros(at).unwrap();
        Message { id: id.to_owned(), from: "bob".to_owned(), text: id.to_owned(), at }
    }

    fn shown(room: &Room) -> String {
        let line = |entry: Entry<'_>| match entry {
            Entry::Committed { message, own: true } => format!("{}✓", message.text),
            Entry::Committed { message, own: false } => message.text.clone(),
            Entry::Outgoing(Outgoing { text, rejected: None, .. }) => format!("{text}…"),
            Entry::Outgoing(Outgoing { text, rejected: Some(why), .. }) => format!("{text}✗{why}"),
        };
        room.entries().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn time_then_id_is_the_order_for_all() {
        let mut room = Room::new("r", "ann");
        for (id, at) in [("c", 2), ("b", 1), ("a", 2)] {
            room.show(message(id, at));
        }
        assert_eq!(shown(&room), "b a c");
    }

    #[test]
    fn an_own_message_waits_last_then_takes_its_place() {
        let mut room = Room::new("r", "ann");
        room.show(message("b", 1));
        room.say("x", "hi", 0);
        room.show(message("c", 3));
        assert_eq!(shown(&room), "b c hi…");
        assert_eq!(room.waiting(), 1);
        room.committed("x", Timestamp::from_micros(2).unwrap());
        assert_eq!(shown(&room), "b hi✓ c");
        assert_eq!(room.waiting(), 0);
    }

    #[test]
    fn the_listener_may_tell_before_or_after_the_acknowledgement() {
        let mut before = Room::new("r", "ann");
        before.say("x", "x", 0);
        before.show(message("x", 5));
        before.committed("x", Timestamp::from_micros(5).unwrap());
        assert_eq!(shown(&before), "x✓");
        let mut after = Room::new("r", "ann");
        after.say("x", "x", 0);
        after.committed("x", Timestamp::from_micros(5).unwrap());
        after.show(message("x", 5));
        assert_eq!(shown(&after), "x✓");
    }

    #[test]
    fn a_refused_message_stays_with_its_reason_and_is_not_waited_for() {
        let mut room = Room::new("r", "ann");
        room.say("x", "one", 0);
        room.say("y", "two", 0);
        room.rejected("x", "no");
        assert_eq!(shown(&room), "one✗no two…");
        assert_eq!(room.waiting(), 1);
        assert_eq!(room.last_own().as_deref(), Some("y"));
        assert_eq!(room.send_again("x").as_deref(), Some("one"));
        assert_eq!((room.send_again("x"), room.send_again("never said")), (None, None));
        assert_eq!(shown(&room), "one… two…");
        room.rejected("y", "no");
        room.forget_refused();
        assert_eq!(shown(&room), "one…");
    }

    #[test]
    fn what_an_earlier_run_said_waits_once() {
        let mut room = Room::new("r", "ann");
        assert!(room.recall("x", "one"));
        assert!(!room.recall("x", "one, edited"));
        assert_eq!(shown(&room), "one, edited…");
        room.show(message("x", 5));
        assert!(!room.recall("x", "x"));
        assert_eq!(shown(&room), "x✓");
    }

    #[test]
    fn edits_show_at_once_and_are_told_when_the_listener_shows_them() {
        let mut room = Room::new("r", "bob");
        assert_eq!(room.list(&message("a", 1)), Shown::First);
        room.show(message("a", 1));
        assert_eq!(room.last_own().as_deref(), Some("a"));
        room.edit("a", "b");
        room.change_began();
        assert_eq!((shown(&room), room.waiting()), ("b".to_owned(), 1));
        let edited = Message { text: "b".to_owned(), ..message("a", 1) };
        assert_eq!(room.list(&edited), Shown::Edited);
        assert_eq!(room.list(&edited), Shown::Again);
        room.change_decided();
        assert_eq!(room.waiting(), 0);
        assert!(room.unlist("a") && !room.unlist("a"));
    }

    #[test]
    fn a_lost_connection_is_told_from_one_that_never_was() {
        let mut room = Room::new("r", "ann");
        room.set_link(Link::Connecting);
        assert_eq!(*room.link(), Link::Connecting);
        room.set_link(Link::Online);
        room.set_link(Link::Connecting);
        assert_eq!(*room.link(), Link::Reconnecting);
    }

    #[test]
    fn deleted_messages_go() {
        let mut room = Room::new("r", "ann");
        room.show(message("a", 1));
        room.hide("a");
        room.hide("never seen");
        assert_eq!(shown(&room), "");
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        let fields = |json| crate::value::read_document(json).unwrap();
        assert_eq!(Message::read("a", &fields(r#"{"text":"x"}"#)), None);
        let at = r#"{"at":{"$timestamp":"2026-01-02T03:04:05Z"}}"#;
        assert_eq!(Message::read("a", &fields(at)), None);
        let nameless = r#"{"text":"x","at":{"$timestamp":"2026-01-02T03:04:05Z"}}"#;
        assert_eq!(Message::read("a", &fields(nameless)).unwrap().from, "?");
    }
}
