//! The full-screen front end: keys in, frames out. The terminal is put back as it was however the
//! chat ends.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, KeyCode, KeyEvent,
    KeyEventKind, KeyModifiers,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue, style};
use futures::StreamExt;

use super::TEXT_LIMIT;
use super::editor::Editor;
use super::feed::{Feed, News};
use super::render::{View, frame, local_time};
use super::room::Room;
use crate::commands::watch::stop_signal;
use crate::failure::{Failure, Outcome};
use crate::output::Colour;

const HELP: &[&str] = &[
    "/edit TEXT changes your last message, /delete deletes it; a message that starts with / is written //",
    "/retry sends again what was refused, /discard gives it up; /quit or Ctrl-D leaves, /help shows this",
    "PageUp and PageDown scroll, Up and Down recall what you typed",
    "… waits for the server   ✓ the server has it   ✗ the server refused it",
];

/// How long leaving waits for messages that are not sent.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Talks until the user leaves.
pub(super) async fn run(mut feed: Feed, mut room: Room) -> Outcome<u8> {
    let guard = TerminalGuard::enter().map_err(|error| Failure::io("the terminal", &error))?;
    let mut screen = Screen::default();
    let outcome = talk(&mut feed, &mut room, &mut screen).await;
    if outcome.is_ok() && !feed.may_leave(&room) && room.waiting() > 0 {
        screen.notice = vec!["sending what waits; Ctrl-C leaves at once".to_owned()];
        screen.draw(&room).map_err(|error| Failure::io("the terminal", &error))?;
        last_words(&mut feed, &mut room).await;
    }
    drop(guard);
    outcome?;
    if room.waiting() == 0 {
        return Ok(0);
    }
    feed.note_waiting(&room);
    Ok(u8::from(!feed.is_durable()))
}

async fn talk(feed: &mut Feed, room: &mut Room, screen: &mut Screen) -> Outcome<()> {
    let mut keys = EventStream::new();
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        screen.draw(room).map_err(|error| Failure::io("the terminal", &error))?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = keys.next() => match event {
                Some(Ok(event)) => match screen.handle(&event) {
                    Request::Nothing => {}
                    Request::Say(text) => feed.say(room, &text),
                    Request::Edit(text) => screen.changed(feed.edit(room, &text)?),
                    Request::Delete => screen.changed(feed.delete(room)?),
                    Request::Retry => drop(feed.retry(room).await?),
                    Request::Discard => drop(feed.discard(room).await?),
                    Request::Quit => return Ok(()),
                },
                Some(Err(error)) => return Err(Failure::io("the terminal", &error)),
                None => return Ok(()),
            },
            news = feed.next(room) => {
                let superseded = |news: &News| matches!(news, News::Superseded { .. });
                if news?.iter().any(superseded) {
                    screen.notice = vec!["a later edit of your message holds".to_owned()];
                }
            }
        }
    }
}

/// Gives the messages that wait a last chance.
async fn last_words(feed: &mut Feed, room: &mut Room) {
    let mut keys = EventStream::new();
    let limit = tokio::time::sleep(LAST_WORDS);
    tokio::pin!(limit);
    while room.waiting() > 0 && !feed.may_leave(room) {
        tokio::select! {
            () = &mut limit => return,
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if is_control(&key, 'c') => return,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            news = feed.next(room) => if news.is_err() { return },
        }
    }
}

/// What the user wants.
enum Request {
    Nothing,
    Say(String),
    Edit(String),
    Delete,
    Retry,
    Discard,
    Quit,
}

#[derive(Default)]
struct Screen {
    editor: Editor,
    notice: Vec<String>,
    scroll: usize,
}

impl Screen {
    fn handle(&mut self, event: &Event) -> Request {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            Event::Paste(text) => {
                self.editor.insert(text);
                Request::Nothing
            }
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_) => Request::Nothing,
        }
    }

    fn key(&mut self, key: &KeyEvent) -> Request {
        if is_control(key, 'c') || is_control(key, 'd') && self.editor.text().is_empty() {
            return Request::Quit;
        }
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            self.edit_with_modifier(key.code);
            return Request::Nothing;
        }
        match key.code {
            KeyCode::Enter => return self.enter(),
            KeyCode::Char(c) => self.editor.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => self.editor.backspace(),
            KeyCode::Delete => self.editor.delete(),
            KeyCode::Left => self.editor.left(),
            KeyCode::Right => self.editor.right(),
            KeyCode::Home => self.editor.home(),
            KeyCode::End => self.editor.end(),
            KeyCode::Up => self.editor.previous(),
            KeyCode::Down => self.editor.next(),
            KeyCode::PageUp => self.scroll += self.page(),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(self.page()),
            KeyCode::Esc => self.notice.clear(),
            _ => {}
        }
        Request::Nothing
    }

    fn edit_with_modifier(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('a') => self.editor.home(),
            KeyCode::Char('e') => self.editor.end(),
            KeyCode::Char('d') => self.editor.delete(),
            KeyCode::Char('h') => self.editor.backspace(),
            KeyCode::Char('k') => self.editor.delete_to_end(),
            KeyCode::Char('u') => self.editor.delete_to_start(),
            KeyCode::Char('w') | KeyCode::Backspace => self.editor.delete_word(),
            KeyCode::Char('b') | KeyCode::Left => self.editor.word_left(),
            KeyCode::Char('f') | KeyCode::Right => self.editor.word_right(),
            KeyCode::Char('p') => self.editor.previous(),
            KeyCode::Char('n') => self.editor.next(),
            _ => {}
        }
    }

    fn enter(&mut self) -> Request {
        if self.editor.text().len() > TEXT_LIMIT {
            self.notice = vec![format!("too long: a message has at most {TEXT_LIMIT} bytes")];
            return Request::Nothing;
        }
        let text = self.editor.enter();
        self.notice.clear();
        self.scroll = 0;
        match Typed::read(&text) {
            Typed::Nothing => Request::Nothing,
            Typed::Text(text) => Request::Say(text.to_owned()),
            Typed::Edit(text) => Request::Edit(text.to_owned()),
            Typed::Delete => Request::Delete,
            Typed::Retry => Request::Retry,
            Typed::Discard => Request::Discard,
            Typed::Quit => Request::Quit,
            Typed::Help => {
                self.notice = HELP.iter().map(|line| (*line).to_owned()).collect();
                Request::Nothing
            }
            Typed::Unknown(command) => {
                self.notice = vec![format!("there is no {command}; /help says what there is")];
                Request::Nothing
            }
        }
    }

    fn changed(&mut self, found: bool) {
        if !found {
            self.notice = vec!["you have said nothing yet".to_owned()];
        }
    }

    fn page(&self) -> usize {
        let (_, height) = crossterm::terminal::size().unwrap_or((80, 24));
        usize::from(height).saturating_sub(4).max(1)
    }

    fn draw(&mut self, room: &Room) -> io::Result<()> {
        let view = View {
            room,
            editor: &self.editor,
            notice: &self.notice,
            scroll: self.scroll,
            colour: Colour::for_stdout(),
            size: crossterm::terminal::size()?,
        };
        let frame = frame(&view, local_time);
        self.scroll = frame.scroll;
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate, cursor::Hide)?;
        for (index, row) in frame.rows.iter().enumerate() {
            let line = u16::try_from(index).unwrap_or(u16::MAX);
            queue!(out, cursor::MoveTo(0, line), Clear(ClearType::CurrentLine), style::Print(row))?;
        }
        let (column, line) = frame.cursor;
        queue!(out, cursor::MoveTo(column, line), cursor::Show, EndSynchronizedUpdate)?;
        out.flush()
    }
}

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed<'a> {
    /// Blank.
    Nothing,
    /// A message.
    Text(&'a str),
    /// `/edit TEXT`
    Edit(&'a str),
    /// `/delete`
    Delete,
    /// `/retry`
    Retry,
    /// `/discard`
    Discard,
    /// `/quit`
    Quit,
    /// `/help`
    Help,
    /// Another command.
    Unknown(&'a str),
}

impl Typed<'_> {
    /// Commands begin with `/`, messages that do with `//`.
    pub(super) fn read(line: &str) -> Typed<'_> {
        let text = line.trim();
        match text {
            "" => Typed::Nothing,
            "/quit" | "/exit" | "/q" => Typed::Quit,
            "/help" | "/?" => Typed::Help,
            "/delete" => Typed::Delete,
            "/retry" => Typed::Retry,
            "/discard" => Typed::Discard,
            _ if text.starts_with("//") => Typed::Text(&text[1..]),
            _ if text.starts_with("/edit ") => Typed::Edit(text["/edit ".len()..].trim_start()),
            _ if text.starts_with('/') => {
                Typed::Unknown(text.split_whitespace().next().unwrap_or(text))
            }
            _ => Typed::Text(text),
        }
    }
}

fn is_control(key: &KeyEvent, letter: char) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char(letter)
}

/// Puts the terminal back when dropped, also by a panic.
struct TerminalGuard;

impl TerminalGuard {
    fn enter() -> io::Result<TerminalGuard> {
        enable_raw_mode()?;
        let guard = TerminalGuard;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        Ok(guard)
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        // There is nothing better to do with a terminal that refuses.
        let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, code: KeyCode, modifiers: KeyModifiers) -> Request {
        screen.handle(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(Typed::read("  hi "), Typed::Text("hi"));
        assert_eq!(Typed::read("//etc/hosts"), Typed::Text("/etc/hosts"));
        assert_eq!(Typed::read("/quit"), Typed::Quit);
        assert_eq!(Typed::read("/dance now"), Typed::Unknown("/dance"));
        assert_eq!(Typed::read("/edit  better words"), Typed::Edit("better words"));
        assert_eq!(Typed::read("/edit"), Typed::Unknown("/edit"));
        assert_eq!(Typed::read("/delete"), Typed::Delete);
        assert_eq!(Typed::read("   "), Typed::Nothing);
    }

    #[test]
    fn keys_type_and_enter_says() {
        let mut screen = Screen::default();
        for c in "hé".chars() {
            press(&mut screen, KeyCode::Char(c), KeyModifiers::NONE);
        }
        let request = press(&mut screen, KeyCode::Enter, KeyModifiers::NONE);
        assert!(matches!(request, Request::Say(text) if text == "hé"));
        assert_eq!(screen.editor.text(), "");
    }

    #[test]
    fn control_d_leaves_only_an_empty_line() {
        let mut screen = Screen::default();
        screen.editor.insert("x");
        let request = press(&mut screen, KeyCode::Char('d'), KeyModifiers::CONTROL);
        assert!(matches!(request, Request::Nothing));
        press(&mut screen, KeyCode::Char('u'), KeyModifiers::CONTROL);
        let request = press(&mut screen, KeyCode::Char('d'), KeyModifiers::CONTROL);
        assert!(matches!(request, Request::Quit));
    }

    #[test]
    fn help_and_unknown_commands_are_notices() {
        let mut screen = Screen::default();
        screen.editor.insert("/help");
        press(&mut screen, KeyCode::Enter, KeyModifiers::NONE);
        assert!(screen.notice.iter().any(|line| line.contains("/quit")));
        screen.editor.insert("/dance");
        press(&mut screen, KeyCode::Enter, KeyModifiers::NONE);
        assert!(screen.notice[0].contains("/dance"));
    }
}
