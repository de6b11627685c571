//! Path templates: `rooms/{room}/messages/{room}-{seq}` and the path they make of a document.
//! Driven by `mapping`; pure.

use tidemark_core::{DocumentPath, FieldPath, Fields, Value};

use crate::failure::{Failure, Outcome};

/// A parsed template with at least one placeholder.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Field(FieldPath),
}

impl Template {
    /// Parses; `{{` and `}}` are braces.
    pub(super) fn parse(text: &str) -> Outcome<Template> {
        let template = Template { parts: parts(text)? };
        if !template.parts.iter().any(|part| matches!(part, Part::Field(_))) {
            let message = format!("the template `{text}` has no {{field}}: one path for all lines");
            return Err(Failure::usage(message));
        }
        let sample = template.expand(|_| Ok("x".to_owned()))?;
        DocumentPath::parse(&sample).map_err(|error| {
            Failure::usage(format!(
                "the template `{text}` makes no document path: {}",
                error.message
            ))
            .with_hint("collection/document pairs, like rooms/{room}/messages/{id}")
        })?;
        Ok(template)
    }

    /// The path of a document with these fields.
    pub(super) fn path(&self, fields: &Fields) -> Outcome<DocumentPath> {
        let path = self.expand(|field| segment_text(field, fields))?;
        DocumentPath::parse(&path)
            .map_err(|error| Failure::bad_input(format!("path `{path}`: {}", error.message)))
    }

    fn expand(&self, text_of: impl Fn(&FieldPath) -> Outcome<String>) -> Outcome<String> {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Field(field) => path.push_str(&text_of(field)?),
            }
        }
        Ok(path)
    }
}

fn parts(text: &str) -> Outcome<Vec<Part>> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{");
        let Some(end) = end else {
            return Err(Failure::usage(format!("unmatched `{brace}` in the template `{text}`"))
                .with_hint("a brace itself is written twice: {{ or }}"));
        };
        parts.push(Part::Text(std::mem::take(&mut literal)));
        let field = FieldPath::parse(&rest[..end])
            .map_err(|error| Failure::usage(format!("template `{text}`: {}", error.message)))?;
        parts.push(Part::Field(field));
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    parts.push(Part::Text(literal));
    Ok(parts)
}

fn segment_text(field: &FieldPath, fields: &Fields) -> Outcome<String> {
    let Some(value) = lookup(field, fields) else {
        return Err(Failure::bad_input(format!("field `{field}` is missing")));
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Double(number) if number.is_finite() => number.to_string(),
        other => {
            let message = format!("field `{field}` is {}, which is no part of a path", kind(other));
            return Err(Failure::bad_input(message));
        }
    };
    if text.is_empty() {
        return Err(Failure::bad_input(format!("field `{field}` is empty")));
    }
    if text.contains('/') {
        return Err(Failure::bad_input(format!("field `{field}` contains `/`: {text:?}")));
    }
    Ok(text)
}

fn lookup<'a>(field: &FieldPath, fields: &'a Fields) -> Option<&'a Value> {
    let (last, parents) = field.segments().split_last()?;
    let mut fields = fields;
    for name in parents {
        match fields.get(name) {
            Some(Value::Map(inner)) => fields = inner,
            _ => return None,
        }
    }
    fields.get(last)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) => "an integer",
        Value::Double(_) => "not a finite number",
        Value::Timestamp(_) => "a timestamp",
        Value::String(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::Reference(_) => "a reference",
        Value::GeoPoint(_) => "a place",
        Value::Array(_) => "an array",
        Value::Vector(_) => "a vector",
        Value::Map(_) => "a map",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::value::read_document;

    fn path(template: &str, document: &str) -> Outcome<String> {
        let fields = read_document(document).unwrap();
        Ok(Template::parse(template)?.path(&fields)?.to_string())
    }

    fn refused(template: &str, document: &str) -> String {
        path(template, document).unwrap_err().message().to_owned()
    }

    #[test]
    fn placeholders_are_field_paths() {
        let document = r#"{"room":"a-1","seq":7,"meta":{"x y":true},"d":1.5}"#;
        let expanded = path("rooms/{room}/messages/{room}-{seq}", document);
        assert_eq!(expanded.unwrap(), "rooms/a-1/messages/a-1-7");
        assert_eq!(path("r/{meta.`x y`}-{d}", document).unwrap(), "r/true-1.5");
        assert_eq!(path("r/{{{room}}}", document).unwrap(), "r/{a-1}");
    }

    #[test]
    fn what_cannot_be_part_of_a_path_names_the_field() {
        assert!(refused("r/{a.b}", r#"{"a":{}}"#).contains("`a.b` is missing"));
        assert!(refused("r/{a.b}", r#"{"a":1}"#).contains("`a.b` is missing"));
        assert!(refused("r/{a}", r#"{"a":[1]}"#).contains("`a` is an array"));
        assert!(refused("r/{a}", r#"{"a":null}"#).contains("`a` is null"));
        assert!(refused("r/{a}", r#"{"a":"x/y"}"#).contains("`a` contains `/`"));
        assert!(refused("r/{a}", r#"{"a":""}"#).contains("`a` is empty"));
        assert!(refused("r/{a}", r#"{"a":".."}"#).contains("`r/..`"));
        assert!(refused("r/{a}", r#"{"a":{"$double":"NaN"}}"#).contains("finite"));
    }

    #[test]
    fn bad_input_and_bad_templates_have_their_own_exit_codes() {
        assert_eq!(path("r/{a}", "{}").unwrap_err().exit_code(), 7);
        for template in ["r/x", "r/{a", "r/a}", "{a}", "r/{a}/x", "r/{}", "/{a}"] {
            assert_eq!(Template::parse(template).unwrap_err().exit_code(), 2, "{template}");
        }
    }
}
