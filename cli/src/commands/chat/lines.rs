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
    while open || !feed.is_current() || room.waiting() > 0 || talk.unseen > 0 {
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
                Some(Typed::Nothing) => {}
                Some(Typed::Help) => note("a line is a message; /quit or the end of input leaves"),
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
        note(format_args!("{} message(s) may not have been sent", room.waiting()));
    }
    Ok(u8::from(talk.refused > 0 || room.waiting() > 0))
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
