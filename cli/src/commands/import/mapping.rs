//! From a line to a write: by a path template, or in the form that `export` writes. Driven by the
//! reading thread; pure.

use serde_json::Value as Json;
use tidemark_core::{DocumentPath, Fields};
use tidemark_protocol::model::{Document, Write, WriteOp};

use super::source::Line;
use super::template::Template;
use crate::failure::{Failure, Outcome};
use crate::value::to_fields;

/// How lines become documents.
pub(super) enum Mapping {
    /// Each line is a document's fields.
    Template(Template),
    /// Each line is `{"path":…,"fields":…}`.
    Export,
}

impl Mapping {
    /// By the template argument.
    pub(super) fn new(template: Option<&str>) -> Outcome<Mapping> {
        Ok(match template {
            Some(text) => Mapping::Template(Template::parse(text)?),
            None => Mapping::Export,
        })
    }

    /// The write of a line. Setting the same document again changes nothing, so that a line may be
    /// sent twice.
    pub(super) fn write(&self, line: &Line) -> Outcome<Write> {
        self.convert(&line.bytes).map_err(|failure| {
            Failure::bad_input(format!("line {}: {}", line.number, failure.message()))
        })
    }

    fn convert(&self, line: &[u8]) -> Outcome<Write> {
        let json: Json = serde_json::from_slice(line)
            .map_err(|error| Failure::bad_input(format!("not JSON: {error}")))?;
        let (path, fields) = match self {
            Mapping::Template(template) => {
                let fields = to_fields(&json)?;
                (template.path(&fields)?, fields)
            }
            Mapping::Export => exported(&json)?,
        };
        Document::validate(&path, &fields)?;
        Ok(Write { path, op: WriteOp::Set(fields), transforms: Vec::new(), precondition: None })
    }
}

fn exported(json: &Json) -> Outcome<(DocumentPath, Fields)> {
    let path = json.get("path").and_then(Json::as_str);
    let (Some(path), Some(fields)) = (path, json.get("fields")) else {
        let message = "expected {\"path\":…,\"fields\":…}; other lines need a path template";
        return Err(Failure::bad_input(message));
    };
    Ok((DocumentPath::parse(path)?, to_fields(fields)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write(template: Option<&str>, text: impl AsRef<[u8]>) -> Outcome<Write> {
        let line = Line { number: 12, bytes: text.as_ref().to_owned() };
        Mapping::new(template).unwrap().write(&line)
    }

    #[test]
    fn the_export_form_needs_no_template() {
        let write = write(None, r#"{"path":"rooms/a","fields":{"n":1}}"#).unwrap();
        assert_eq!(write.path.as_str(), "rooms/a");
        assert!(matches!(write.op, WriteOp::Set(fields) if fields.len() == 1));
    }

    #[test]
    fn failures_name_the_line() {
        for (template, text, part) in [
            (Some("r/{a}"), "{", "line 12: not JSON"),
            (Some("r/{a}"), "[1]", "line 12: a document is a JSON object"),
            (Some("r/{a}"), "{}", "line 12: field `a` is missing"),
            (Some("r/{a}"), r#"{"a":"x","__b__":1}"#, "line 12:"),
            (None, r#"{"a":1}"#, "line 12: expected"),
            (None, r#"{"path":"rooms","fields":{}}"#, "line 12:"),
        ] {
            let failure = write(template, text).unwrap_err();
            assert_eq!(failure.exit_code(), 7);
            assert!(failure.message().contains(part), "{text}: {failure}");
        }
        let failure = write(Some("r/{a}"), b"{\"a\":\"\xff\"}").unwrap_err();
        assert!(failure.message().contains("line 12: not JSON"), "{failure}");
    }
}
