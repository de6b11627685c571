//! Values and documents as they are typed: JSON with the typed forms, from the command line, a file
//! or stdin. Used by every command that takes or prints values; does no networking.

pub(crate) mod assignment;
pub(crate) mod where_clause;

use std::io::Read;

use serde_json::Value as Json;
use tidemark_core::{Fields, Value};

use crate::failure::{Failure, Outcome};

/// The largest document or line that is read: well above the document limit in JSON form.
pub(crate) const INPUT_LIMIT: usize = 16 * 1024 * 1024;

/// Parses one value. `what` names it in the error.
pub(crate) fn parse_value(what: &str, text: &str) -> Outcome<Value> {
    let json = serde_json::from_str(text).map_err(|error| not_json(what, text, &error))?;
    to_value(&json).map_err(|failure| failure.at(what))
}

/// JSON in typed form to a value.
pub(crate) fn to_value(json: &Json) -> Outcome<Value> {
    Ok(tidemark_core::json::from_json(json)?)
}

/// A JSON object in typed form to a document's fields.
pub(crate) fn to_fields(json: &Json) -> Outcome<Fields> {
    match to_value(json)? {
        Value::Map(fields) => Ok(fields),
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Reference(_)
        | Value::GeoPoint(_)
        | Value::Array(_)
        | Value::Vector(_) => Err(Failure::usage("a document is a JSON object: {\"field\":…}")),
    }
}

/// A document's fields as JSON in typed form.
pub(crate) fn fields_to_json(fields: &Fields) -> Json {
    let entries = fields.iter().map(|(name, value)| (name.clone(), to_json(value)));
    Json::Object(entries.collect())
}

/// A value as JSON in typed form.
pub(crate) fn to_json(value: &Value) -> Json {
    tidemark_core::json::to_typed_json(value)
}

/// The document of `set`: JSON, `@FILE`, or `-` for stdin.
pub(crate) fn read_document(argument: &str) -> Outcome<Fields> {
    let (what, text) = match argument.strip_prefix('@') {
        Some(file) => {
            let opened = std::fs::File::open(file).map_err(|error| Failure::io(file, &error))?;
            (file.to_owned(), read_limited(file, opened)?)
        }
        None if argument == "-" => ("stdin".to_owned(), read_limited("stdin", std::io::stdin())?),
        None => ("the document".to_owned(), argument.to_owned()),
    };
    let json = serde_json::from_str(&text).map_err(|error| not_json(&what, &text, &error))?;
    to_fields(&json).map_err(|failure| failure.at(what))
}

fn read_limited(what: &str, source: impl Read) -> Outcome<String> {
    let mut text = String::new();
    let read = source.take(INPUT_LIMIT as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::io(what, &error))?;
    if text.len() > INPUT_LIMIT {
        return Err(Failure::usage(format!("{what} is larger than {INPUT_LIMIT} bytes")));
    }
    Ok(text)
}

fn not_json(what: &str, text: &str, error: &serde_json::Error) -> Failure {
    let failure = Failure::usage(format!("{what} is not JSON: {error}"));
    match text.trim() {
        word if is_bare_word(word) => {
            failure.with_hint(format!("text needs quotes inside the argument: '\"{word}\"'"))
        }
        _ => failure,
    }
}

fn is_bare_word(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(char::is_alphabetic) && !text.contains(['"', '{', '[', '\n'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn typed_forms_round_trip() {
        let text = r#"{"a":[1,1.0,null,true,"x"],"b":{"$bytes":"aGk="},"r":{"$reference":"rooms/a"},
            "t":{"$timestamp":"2026-01-02T03:04:05.000006Z"},"g":{"$geo":[48.2,16.4]},
            "v":{"$vector":[1.0,2.0]},"n":{"$double":"NaN"}}"#;
        let fields = read_document(text).unwrap();
        let again = to_fields(&fields_to_json(&fields)).unwrap();
        assert_eq!(fields, again);
        assert!(matches!(fields["t"], Value::Timestamp(_)));
        assert!(matches!(fields["n"], Value::Double(n) if n.is_nan()));
    }

    #[test]
    fn a_document_must_be_an_object() {
        assert!(read_document("[1]").unwrap_err().message().contains("JSON object"));
    }

    #[test]
    fn a_bare_word_gets_a_hint_about_quotes() {
        let failure = parse_value("title", "Hamlet").unwrap_err();
        assert!(failure.hint().unwrap().contains("'\"Hamlet\"'"));
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = read_document("@/no/such/file.json").unwrap_err();
        assert!(failure.message().contains("/no/such/file.json"));
    }
}
