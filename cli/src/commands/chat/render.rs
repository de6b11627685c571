//! How the chat looks: rows of a screen from the room, the input line and the scroll position.
//! Pure; the terminal prints what comes out.

use chrono::{DateTime, FixedOffset, Local, TimeZone};
use tidemark_protocol::model::Timestamp;
use unicode_segmentation::UnicodeSegmentation;

use super::editor::Editor;
use super::room::{Entry, Link, Room};
use crate::output::{Colour, display_width, printable};

/// What a screen shows.
pub(super) struct Frame {
    /// From top to bottom; none is wider than the screen.
    pub(super) rows: Vec<String>,
    /// Column and row of the cursor.
    pub(super) cursor: (u16, u16),
    /// The scroll position, kept within what there is.
    pub(super) scroll: usize,
}

/// What is shown and how.
pub(super) struct View<'a> {
    /// The conversation.
    pub(super) room: &'a Room,
    /// The input line.
    pub(super) editor: &'a Editor,
    /// Lines of the program itself, like help.
    pub(super) notice: &'a [String],
    /// How many rows the conversation is scrolled up.
    pub(super) scroll: usize,
    /// Colours or not.
    pub(super) colour: Colour,
    /// Columns and rows.
    pub(super) size: (u16, u16),
}

/// Names: colours that can be read on dark and on light.
const NAME_COLOURS: [&str; 6] = ["31", "32", "33", "34", "35", "36"];

/// The whole screen: conversation, notice, banner, input line.
pub(super) fn frame(view: &View<'_>, local: impl Fn(Timestamp) -> DateTime<FixedOffset>) -> Frame {
    let (columns, height) = (usize::from(view.size.0), usize::from(view.size.1));
    let notice: Vec<String> = view.notice.iter().flat_map(|line| wrap(line, columns)).collect();
    let space = height.saturating_sub(2 + notice.len());
    let lines = conversation(view, columns, &local);
    let scroll = view.scroll.min(lines.len().saturating_sub(space));
    let end = lines.len() - scroll;
    let start = end.saturating_sub(space);
    let mut rows = vec![String::new(); space.saturating_sub(end - start)];
    rows.extend_from_slice(&lines[start..end]);
    rows.extend(notice.iter().map(|line| view.colour.paint("2", line)));
    rows.push(banner(view, columns, scroll));
    let prompt = clip(&format!("{}> ", printable(view.room.name())), columns / 2);
    let prompt_width = display_width(&prompt);
    let (input, cursor) = view.editor.view(columns.saturating_sub(prompt_width));
    rows.push(format!("{}{}", view.colour.paint("1", &prompt), printable(input)));
    // A screen of one row is all input line.
    let rows = rows.split_off(rows.len().saturating_sub(height));
    let column = u16::try_from(prompt_width + cursor).unwrap_or(u16::MAX);
    Frame { cursor: (column, view.size.1.saturating_sub(1)), rows, scroll }
}

/// Local time, for people.
pub(super) fn local_time(at: Timestamp) -> DateTime<FixedOffset> {
    let utc = DateTime::from_timestamp_micros(at.as_micros()).unwrap_or_default();
    Local.from_utc_datetime(&utc.naive_utc()).fixed_offset()
}

fn conversation(
    view: &View<'_>,
    columns: usize,
    local: &impl Fn(Timestamp) -> DateTime<FixedOffset>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut day = None;
    for entry in view.room.entries() {
        match entry {
            Entry::Committed { message, own } => {
                let at = local(message.at);
                if day.replace(at.date_naive()) != Some(at.date_naive()) {
                    let date = at.format("── %A, %-d %B %Y ──").to_string();
                    lines.push(view.colour.paint("2", &clip(&date, columns)));
                }
                let time = at.format("%H:%M").to_string();
                let mark = if own { " ✓" } else { "" };
                lines.extend(message_lines(view, &time, &message.from, &message.text, mark));
            }
            Entry::Outgoing(message) => {
                let mark = match &message.rejected {
                    None => " …".to_owned(),
                    Some(reason) => format!(" ✗ not sent: {reason}"),
                };
                lines.extend(message_lines(view, "     ", view.room.name(), &message.text, &mark));
            }
        }
    }
    lines
}

fn message_lines(view: &View<'_>, time: &str, from: &str, text: &str, mark: &str) -> Vec<String> {
    let columns = usize::from(view.size.0);
    let from = clip(&printable(from), columns / 3);
    let head = display_width(time) + 2 + display_width(&from);
    let indent = if head + 10 > columns { 2 } else { head + 1 };
    let body = format!("{}{mark}", text.trim_end());
    let first = columns.saturating_sub(head + 1).max(1);
    let mut lines = Vec::new();
    for (index, line) in wrap_from(&body, first, columns.saturating_sub(indent)).iter().enumerate()
    {
        if index == 0 {
            let name = view.colour.paint(name_colour(&from), &from);
            lines.push(format!("{} {name}: {line}", view.colour.paint("2", time)));
        } else {
            lines.push(format!("{}{line}", " ".repeat(indent)));
        }
    }
    lines
}

fn banner(view: &View<'_>, columns: usize, scroll: usize) -> String {
    let (state, sgr) = match view.room.link() {
        Link::Online => ("online".to_owned(), "7"),
        Link::Connecting => ("connecting…".to_owned(), "7;33"),
        Link::Reconnecting => ("reconnecting…".to_owned(), "7;33"),
        Link::Offline(reason) => (format!("offline, trying again: {reason}"), "7;31"),
    };
    let mut text = format!(" {} · {state}", view.room.title());
    match view.room.waiting() {
        0 => {}
        1 => text.push_str(" · 1 message waits"),
        count => text.push_str(&format!(" · {count} messages wait")),
    }
    if scroll > 0 {
        text.push_str(&format!(" · {scroll} lines below (PageDown)"));
    }
    let text = clip(&printable(&text), columns);
    let padding = " ".repeat(columns.saturating_sub(display_width(&text)));
    view.colour.paint(sgr, &format!("{text}{padding}"))
}

fn name_colour(name: &str) -> &'static str {
    let hash = name.bytes().fold(5381usize, |hash, byte| hash.wrapping_mul(33) ^ usize::from(byte));
    NAME_COLOURS[hash % NAME_COLOURS.len()]
}

/// The start of a text that fits into so many columns.
fn clip(text: &str, columns: usize) -> String {
    let mut clipped = String::new();
    let mut width = 0;
    for grapheme in text.graphemes(true) {
        width += display_width(grapheme);
        if width > columns {
            break;
        }
        clipped.push_str(grapheme);
    }
    clipped
}

fn wrap(text: &str, columns: usize) -> Vec<String> {
    wrap_from(text, columns, columns)
}

/// Breaks a text at blanks, or within words that are too long; the first line has its own width.
fn wrap_from(text: &str, first: usize, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let paragraph = printable(paragraph.trim_end_matches('\r'));
        let mut line = String::new();
        let mut width = 0;
        for word in paragraph.split_word_bounds() {
            let word_width = display_width(word);
            let limit = if lines.is_empty() { first } else { columns }.max(1);
            if width + word_width > limit && width > 0 {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
                width = 0;
            }
            if width == 0 && word.trim().is_empty() && !lines.is_empty() {
                continue;
            }
            let limit = if lines.is_empty() { first } else { columns }.max(1);
            if word_width <= limit {
                line.push_str(word);
                width += word_width;
                continue;
            }
            for grapheme in word.graphemes(true) {
                let grapheme_width = display_width(grapheme);
                let limit = if lines.is_empty() { first } else { columns }.max(1);
                if width + grapheme_width > limit && width > 0 {
                    lines.push(std::mem::take(&mut line));
                    width = 0;
                }
                line.push_str(grapheme);
                width += grapheme_width;
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::room::Message;
    use super::*;

    fn utc(at: Timestamp) -> DateTime<FixedOffset> {
        DateTime::from_timestamp_micros(at.as_micros()).unwrap().fixed_offset()
    }

    fn draw(room: &Room, size: (u16, u16), scroll: usize) -> Vec<String> {
        let editor = Editor::default();
        let view = View { room, editor: &editor, notice: &[], scroll, colour: Colour::Off, size };
        frame(&view, utc).rows.iter().map(|row| row.trim_end().to_owned()).collect()
    }

    fn talk() -> Room {
        let mut room = Room::new("hall", "ann");
        room.set_link(Link::Online);
        let texts = ["hello there", "日本語のとても長い文です", "a\x1b[2Jb"];
        for (index, text) in texts.iter().enumerate() {
            let at = Timestamp::from_micros(1_767_322_800_000_000 + index as i64).unwrap();
            let (id, from) = (index.to_string(), "bob".to_owned());
            room.show(Message { id, from, text: (*text).to_owned(), at });
        }
        room
    }

    #[test]
    fn a_screen_has_conversation_banner_and_input() {
        let mut room = talk();
        room.say("x", "mine", 0);
        let rows = draw(&room, (24, 9), 0);
        let expected = [
            "── Friday, 2 January 202",
            "03:00 bob: hello there",
            "03:00 bob: 日本語のとて",
            "           も長い文です",
            "03:00 bob: a\u{fffd}[2Jb",
            "      ann: mine …",
            " hall · online · 1 messa",
            "ann>",
        ];
        assert_eq!(rows.len(), 9);
        assert_eq!(rows[1..], expected);
    }

    #[test]
    fn marks_follow_what_the_server_says() {
        let mut room = Room::new("hall", "ann");
        room.say("x", "one", 0);
        room.say("y", "two", 0);
        room.committed("x", Timestamp::from_micros(0).unwrap());
        room.rejected("y", "permission-denied: no");
        let rows = draw(&room, (60, 6), 0);
        assert_eq!(rows[2], "00:00 ann: one ✓");
        assert_eq!(rows[3], "      ann: two ✗ not sent: permission-denied: no");
    }

    #[test]
    fn the_banner_says_why_there_is_no_connection() {
        let mut room = talk();
        room.set_link(Link::Offline("connection refused".to_owned()));
        let rows = draw(&room, (60, 4), 0);
        assert_eq!(rows[2], " hall · offline, trying again: connection refused");
    }

    #[test]
    fn scrolling_stops_at_the_beginning() {
        let room = talk();
        assert_eq!(draw(&room, (24, 4), 2), draw(&room, (24, 4), 2));
        let rows = draw(&room, (24, 4), 999);
        assert_eq!(rows[0], "── Friday, 2 January 202");
        assert_eq!(rows[1], "03:00 bob: hello there");
    }

    #[test]
    fn no_row_is_wider_than_the_screen_and_no_size_is_too_small() {
        let mut room = talk();
        room.say("x", &"wide日本".repeat(20), 0);
        for columns in 0..40u16 {
            for height in 0..6u16 {
                let rows = draw(&room, (columns, height), 0);
                assert!(rows.len() <= usize::from(height));
                if columns >= 14 {
                    for row in rows {
                        assert!(display_width(&row) <= usize::from(columns), "{columns}: {row:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn words_are_kept_whole_when_they_fit() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
