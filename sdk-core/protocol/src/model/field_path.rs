//! Field paths, valid by construction, and their canonical text.

use std::fmt;
use std::str::FromStr;

use super::error::{ModelError, excerpt};
use super::limits;
use super::path::is_reserved;

/// `a.b`, with segments that are no simple names in backticks; or the document's name (`__name__`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<String>);

const DOCUMENT_ID: &str = "__name__";

impl FieldPath {
    /// Parses the canonical form: simple names, or names in backticks with `\` escapes, joined by dots.
    pub fn parse(path: &str) -> Result<FieldPath, ModelError> {
        let malformed = || {
            ModelError::invalid(format!(
                "{} is no field path: names of letters, digits and underscores, or in backticks, joined by dots",
                excerpt(path)
            ))
        };
        let mut segments = Vec::new();
        let mut rest = path;
        loop {
            let (segment, after) = parse_segment(rest).ok_or_else(malformed)?;
            segments.push(segment);
            if after.is_empty() {
                return FieldPath::from_segments(segments);
            }
            rest = after.strip_prefix('.').ok_or_else(malformed)?;
        }
    }

    /// From plain segments.
    pub fn from_segments<S: Into<String>>(
        segments: impl IntoIterator<Item = S>,
    ) -> Result<FieldPath, ModelError> {
        let segments: Vec<String> = segments.into_iter().map(Into::into).collect();
        if segments.is_empty() {
            return Err(ModelError::invalid("a field path has at least one segment"));
        }
        if segments.len() > limits::DEPTH + 1 {
            return Err(ModelError::invalid(format!(
                "the field path has {} segments; fields are nested at most {} deep",
                segments.len(),
                limits::DEPTH
            )));
        }
        if segments != [DOCUMENT_ID] {
            segments.iter().try_for_each(|segment| validate_field_name(segment))?;
        }
        Ok(FieldPath(segments))
    }

    /// `__name__`: the document's own path.
    pub fn document_id() -> FieldPath {
        FieldPath(vec![DOCUMENT_ID.to_owned()])
    }

    /// Whether this is `__name__`.
    pub fn is_document_id(&self) -> bool {
        self.0 == [DOCUMENT_ID]
    }

    /// The segments in order.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// Appends a segment to a canonical text, as [`fmt::Display`] does.
    pub fn push_segment(text: &mut String, segment: &str) {
        if !text.is_empty() {
            text.push('.');
        }
        if is_simple(segment) {
            text.push_str(segment);
            return;
        }
        text.push('`');
        for char in segment.chars() {
            if matches!(char, '\\' | '`') {
                text.push('\\');
            }
            text.push(char);
        }
        text.push('`');
    }

    /// Whether `other` is this path or under it.
    pub fn is_prefix_of(&self, other: &FieldPath) -> bool {
        other.0.starts_with(&self.0)
    }
}

/// Checks the name of a field, in a document or in a map.
pub(crate) fn validate_field_name(name: &str) -> Result<(), ModelError> {
    let problem = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > limits::ID_BYTES {
        format!("it has {} bytes; the limit is {}", name.len(), limits::ID_BYTES)
    } else if is_reserved(name) {
        "names that begin and end with `__` are reserved".to_owned()
    } else {
        return Ok(());
    };
    Err(ModelError::invalid(format!("the field name {} is not valid: {problem}", excerpt(name))))
}

/// The first segment and what follows it.
fn parse_segment(path: &str) -> Option<(String, &str)> {
    if let Some(quoted) = path.strip_prefix('`') {
        return parse_quoted(quoted);
    }
    let end = path.find('.').unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    is_simple(name).then(|| (name.to_owned(), rest))
}

fn parse_quoted(quoted: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '`' => return Some((name, chars.as_str())),
            '\\' => name.push(chars.next()?),
            other => name.push(other),
        }
    }
}

fn is_simple(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The canonical form, which [`FieldPath::parse`] reads.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.iter().for_each(|segment| FieldPath::push_segment(&mut text, segment));
        f.write_str(&text)
    }
}

impl FromStr for FieldPath {
    type Err = ModelError;

    fn from_str(path: &str) -> Result<FieldPath, ModelError> {
        FieldPath::parse(path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_text() {
        for (text, segments) in [
            ("a", vec!["a"]),
            ("a.b_1._c", vec!["a", "b_1", "_c"]),
            ("`a.b`.c", vec!["a.b", "c"]),
            ("`0`", vec!["0"]),
            ("`a\\`\\\\b`.`é`", vec!["a`\\b", "é"]),
        ] {
            let path = FieldPath::parse(text).unwrap();
            assert_eq!(path.segments(), segments);
            assert_eq!(path.to_string(), text);
        }
        assert_eq!(FieldPath::parse("`abc`").unwrap().to_string(), "abc");
    }

    #[test]
    fn bad_field_paths_are_refused() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a-b",
            "0a",
            "é",
            "`a",
            "a`",
            "`a`b",
            "``",
            "`a\\",
            "a b",
            "__a__",
            "a.__b__",
            "__name__.a",
            "a.__name__",
        ] {
            assert!(FieldPath::parse(text).is_err(), "{text}");
        }
        assert!(FieldPath::from_segments(Vec::<String>::new()).is_err());
        assert!(FieldPath::parse("__name__").unwrap().is_document_id());
    }

    #[test]
    fn limits_are_stated() {
        let name = "x".repeat(limits::ID_BYTES);
        assert!(FieldPath::parse(&name).is_ok());
        let error = FieldPath::parse(&format!("{name}x")).unwrap_err();
        assert!(error.message.contains("1501 bytes; the limit is 1500"), "{error}");
        let deep = vec!["a"; limits::DEPTH + 2].join(".");
        let error = FieldPath::parse(&deep).unwrap_err();
        assert!(error.message.contains("at most 20 deep"), "{error}");
    }

    #[test]
    fn prefixes_are_by_segment() {
        let path = |text: &str| FieldPath::parse(text).unwrap();
        assert!(path("a").is_prefix_of(&path("a.b")));
        assert!(path("a.b").is_prefix_of(&path("a.b")));
        assert!(!path("a").is_prefix_of(&path("ab")));
        assert!(!path("a.b").is_prefix_of(&path("a")));
    }

    proptest! {
        #[test]
        fn text_goes_round(segments in proptest::collection::vec("[a`\\\\.0é_]{1,4}|\\PC{1,6}", 1..5)) {
            if let Ok(path) = FieldPath::from_segments(segments) {
                prop_assert_eq!(FieldPath::parse(&path.to_string()).unwrap(), path);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,30}|[a`\\\\.]{0,12}") {
            if let Ok(path) = FieldPath::parse(&text) {
                prop_assert_eq!(FieldPath::parse(&path.to_string()).unwrap(), path);
            }
        }
    }
}
