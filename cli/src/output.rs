//! What goes to stdout and how it looks: documents for people or as JSON lines, colours only on a
//! terminal. The only place that knows whether stdout is still read.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::{Value as Json, json};
use tidemark_core::{DocumentSnapshot, Fields, Value, Version};
use tidemark_protocol::model::Timestamp;

use crate::failure::{Failure, Kind, Outcome};
use crate::value::{fields_to_json, to_json};

/// Whether text may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// A terminal whose user did not refuse.
    On,
    /// A pipe, a file, or `NO_COLOR`.
    Off,
}

impl Colour {
    /// For stdout; <https://no-color.org>.
    pub(crate) fn for_stdout() -> Colour {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if !refused && io::stdout().is_terminal() { Colour::On } else { Colour::Off }
    }

    /// Wraps text in an SGR attribute.
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        match self {
            Colour::On => format!("\x1b[{sgr}m{text}\x1b[0m"),
            Colour::Off => text.to_owned(),
        }
    }
}

/// Stdout, buffered; a closed pipe ends the command quietly.
pub(crate) struct Output {
    out: BufWriter<io::Stdout>,
    colour: Colour,
    json: bool,
}

impl Output {
    /// For a command with or without `--json`.
    pub(crate) fn new(json: bool) -> Output {
        Output { out: BufWriter::new(io::stdout()), colour: Colour::for_stdout(), json }
    }

    /// Whether JSON lines are wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The colours in use.
    pub(crate) fn colour(&self) -> Colour {
        self.colour
    }

    /// One line.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Outcome<()> {
        writeln!(self.out, "{text}").map_err(|error| closed(&error))
    }

    /// One document in the wanted form.
    pub(crate) fn document(&mut self, document: &DocumentSnapshot) -> Outcome<()> {
        if self.json {
            return self.line(document_json(document));
        }
        let header = header(self.colour, document);
        self.line(header)?;
        let body = fields_text(self.colour, document.fields());
        write!(self.out, "{body}").map_err(|error| closed(&error))
    }

    /// Hands everything to the reader.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        self.out.flush().map_err(|error| closed(&error))
    }
}

/// A write to stdout failed: a reader that went away is no error.
pub(crate) fn closed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Kind::OutputClosed, "stdout was closed"),
        _ => Failure::io("stdout", error),
    }
}

/// A message for the person at the terminal.
pub(crate) fn note(text: impl std::fmt::Display) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// `{"path",…,"fields"}`; a document that does not exist has `"exists":false` instead.
pub(crate) fn document_json(document: &DocumentSnapshot) -> Json {
    let path = document.path().to_string();
    match document.fields() {
        Some(fields) => json!({
            "path": path,
            "create_version": document.create_version().0,
            "update_version": document.update_version().0,
            "update_time": time(document.update_version()),
            "fields": fields_to_json(fields),
        }),
        None => json!({ "path": path, "exists": false }),
    }
}

fn header(colour: Colour, document: &DocumentSnapshot) -> String {
    let path = colour.paint("1", &document.path().to_string());
    let updated = format!("updated {}", time(document.update_version()));
    format!("{path}  {}", colour.paint("2", &updated))
}

/// One field per line, values aligned.
pub(crate) fn fields_text(colour: Colour, fields: Option<&Fields>) -> String {
    let mut text = String::new();
    match fields {
        None => text.push_str("  (does not exist)\n"),
        Some(fields) if fields.is_empty() => text.push_str("  (no fields)\n"),
        Some(fields) => {
            let width = fields.keys().map(|name| display_width(name)).max().unwrap_or(0).min(32);
            for (name, value) in fields {
                let padding = " ".repeat(width.saturating_sub(display_width(name)));
                let name = colour.paint("36", &printable(name));
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {name}{padding}  {}", value_text(value));
            }
        }
    }
    text
}

/// A value for people: JSON, but times, references and bytes without their wrapping.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::Timestamp(at) => at.to_string(),
        Value::Reference(path) => format!("→ {path}"),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::GeoPoint(point) => format!("({}, {})", point.latitude(), point.longitude()),
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Vector(_)
        | Value::Map(_) => printable(&to_json(value).to_string()),
    }
}

/// A commit version as a time, RFC 3339 in UTC.
pub(crate) fn time(version: Version) -> String {
    Timestamp::from(version).to_string()
}

/// How many columns a text takes.
pub(crate) fn display_width(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// Text whose control characters cannot command the terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() || is_bidi_control(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::value::read_document;

    #[test]
    fn fields_are_aligned_by_columns() {
        let fields = read_document(r#"{"a":1,"名前":"x","long":[true,null]}"#).unwrap();
        let text = fields_text(Colour::Off, Some(&fields));
        assert_eq!(text, "  a     1\n  long  [true,null]\n  名前  \"x\"\n");
    }

    #[test]
    fn empty_and_missing_are_told_apart() {
        assert_eq!(fields_text(Colour::Off, Some(&Fields::new())), "  (no fields)\n");
        assert_eq!(fields_text(Colour::Off, None), "  (does not exist)\n");
    }

    #[test]
    fn special_types_are_readable() {
        let text = r#"{"b":{"$bytes":"aGk="},"r":{"$reference":"rooms/a"},
            "t":{"$timestamp":"2026-01-02T03:04:05.000006Z"}}"#;
        let fields = read_document(text).unwrap();
        let text = fields_text(Colour::Off, Some(&fields));
        assert_eq!(text, "  b  2 bytes\n  r  → rooms/a\n  t  2026-01-02T03:04:05.000006Z\n");
    }

    #[test]
    fn others_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn colours_only_when_on() {
        assert_eq!(Colour::Off.paint("1", "x"), "x");
        assert_eq!(Colour::On.paint("1", "x"), "\x1b[1mx\x1b[0m");
    }
}
