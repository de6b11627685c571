//! The line-based front end, for pipes and scripts: a line in is a message, a message is a line out.
//! Each message is printed once, in the order that is the same for all.

use std::io::BufRead;

use serde_json::json;
use tokio::sync::mpsc;

use super::TEXT_LIMIT;
use super::feed::{Feed, News};
use super::render::local_time;
use super::room::{Link, Message, Room};
use super::terminal::Typed;
use crate::commands::watch::stop_signal;
use crate::failure::Outcome;
use crate::output::{Output, note, printable};

/// Talks until stdin ends and everything said was decided on.
pub(super) async fn run(mut feed: Feed, mut room: Room, json: bool) -> Outcome<u8> {
    let mut talk = Talk { out: Output::new(json), link: Link::Connecting, refused: 0, unseen: 0 };
    let mut input = read_stdin();
    let mut open = true;
    let stop = stop_signal();
    tokio::pin!(stop);
    while open || !feed.may_leave(&room) || (feed.is_online(&room) && talk.unseen > 0) {
        tokio::select! {
            () = &mut stop => break,
            line = input.recv(), if open => match line.as_deref().map(Typed::read) {
                Some(Typed::Text(text)) if text.len() > TEXT_LIMIT => {
                    note(format_args!("too long: a message has at most {TEXT_LIMIT} bytes"));
                    talk.refused += 1;
                }
                Some(Typed::Text(text)) => {
                    feed.say(&mut room, text);
                    talk.unseen += 1;
                }
                Some(Typed::Edit(text)) => talk.changed(feed.edit(&mut room, text)?),
                Some(Typed::Delete) => talk.changed(feed.delete(&mut room)?),
                Some(Typed::Retry) => {
                    note(format_args!("{} sent again", feed.retry(&mut room).await?));
                }
                Some(Typed::Discard) => {
                    note(format_args!("{} given up", feed.discard(&mut room).await?));
                }
                Some(Typed::Nothing) => {}
                Some(Typed::Help) => note(
                    "a line is a message; /edit TEXT changes your last one, /delete deletes it, \
                     /retry sends again what was refused, /discard gives it up, /quit or the end of input leaves",
                ),
                Some(Typed::Unknown(command)) => note(format_args!("there is no {command}")),
                Some(Typed::Quit) | None => open = false,
            },
            news = feed.next(&mut room) => {
                for news in news? {
                    talk.tell(&room, &news)?;
                }
                talk.out.flush()?;
            }
        }
    }
    if room.waiting() > 0 {
        feed.note_waiting(&room);
    }
    Ok(u8::from(talk.refused > 0 || (room.waiting() > 0 && !feed.is_durable())))
}

/// Lines of stdin, read on a thread because reading cannot be interrupted.
fn read_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Talk {
    out: Output,
    /// The state that was last told. Set by `connection`.
    link: Link,
    /// How many own messages were refused.
    refused: usize,
    /// How many own messages are neither shown by the server nor refused.
    unseen: usize,
}

impl Talk {
    fn tell(&mut self, room: &Room, news: &News) -> Outcome<()> {
        match news {
            News::Message(message) => self.message(room, message),
            News::Edited(message) => self.edited(message),
            News::Deleted { id } => self.deleted(id),
            News::Superseded { id } => self.superseded(id),
            News::Local { id, text } => self.local(id, text),
            News::Rejected { id, error } => {
                self.refused += 1;
                self.unseen = self.unseen.saturating_sub(1);
                let (code, reason) = (error.code(), error.message());
                note(format_args!("not sent: error[{code}]: {reason}"));
                if self.out.is_json() {
                    let code = code.name();
                    self.out.line(
                        json!({"type": "rejected", "id": id, "code": code, "message": reason}),
                    )?;
                }
                Ok(())
            }
            News::Link => {
                self.connection(room.link());
                Ok(())
            }
            News::Progress => Ok(()),
        }
    }

    fn message(&mut self, room: &Room, message: &Message) -> Outcome<()> {
        let own = room.is_own(&message.id);
        if own {
            self.unseen = self.unseen.saturating_sub(1);
        }
        if self.out.is_json() {
            return self.out.line(json!({
                "type": "message",
                "id": message.id,
                "from": message.from,
                "text": message.text,
                "at": message.at.to_string(),
                "own": own,
            }));
        }
        let time = local_time(message.at).format("%H:%M");
        let text = message.text.lines().map(printable).collect::<Vec<_>>().join("\n    ");
        self.out.line(format_args!("[{time}] {}: {text}", printable(&message.from)))
    }

    fn edited(&mut self, message: &Message) -> Outcome<()> {
        let Message { id, from, text, .. } = message;
        if self.out.is_json() {
            return self.out.line(json!({"type": "edited", "id": id, "from": from, "text": text}));
        }
        self.out.line(format_args!("* {} changed a message: {}", printable(from), printable(text)))
    }

    fn deleted(&mut self, id: &str) -> Outcome<()> {
        if self.out.is_json() {
            return self.out.line(json!({"type": "deleted", "id": id}));
        }
        self.out.line("* a message was deleted")
    }

    fn superseded(&mut self, id: &str) -> Outcome<()> {
        note("a later edit of your message holds");
        if !self.out.is_json() {
            return Ok(());
        }
        self.out.line(json!({"type": "superseded", "id": id}))
    }

    /// People see what they have typed; scripts are told that it is kept.
    fn local(&mut self, id: &str, text: &str) -> Outcome<()> {
        if !self.out.is_json() {
            return Ok(());
        }
        self.out.line(json!({"type": "local", "id": id, "text": text}))
    }

    fn changed(&mut self, found: bool) {
        if !found {
            note("you have said nothing yet");
            self.refused += 1;
        }
    }

    fn connection(&mut self, link: &Link) {
        if *link == self.link {
            return;
        }
        match link {
            Link::Online => note("-- online"),
            Link::Connecting => note("-- connecting"),
            Link::Reconnecting => note("-- reconnecting"),
            Link::Offline(reason) => note(format_args!("-- offline: {reason}")),
        }
        self.link = link.clone();
    }
}
