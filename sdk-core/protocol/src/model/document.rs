//! A document: its path, its fields, and the versions that made it.

use std::collections::BTreeMap;

use super::clocks::MergeState;
use super::error::{ModelError, excerpt};
use super::field_path::FieldPath;
use super::ids::Version;
use super::limits;
use super::path::DocumentPath;
use super::size::{document_size, validate_fields};
use super::value::Value;

/// The fields of a document or a map.
pub type Fields = BTreeMap<String, Value>;

/// A document that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it is.
    pub path: DocumentPath,
    /// What it holds.
    pub fields: Fields,
    /// The commit that created it.
    pub create_version: Version,
    /// The commit that last changed it.
    pub update_version: Version,
    /// What merging remembers of it.
    pub merge: MergeState,
}

impl Document {
    /// The value at a field path; `__name__` gives none (use `path`).
    pub fn get(&self, field: &FieldPath) -> Option<&Value> {
        get_field(&self.fields, field.segments())
    }

    /// The document with these fields only; `__name__` is none of them.
    #[must_use]
    pub fn projected(&self, fields: &[FieldPath]) -> Document {
        let mut kept = Fields::new();
        for field in fields {
            if let Some(value) = self.get(field) {
                set_field(&mut kept, field.segments(), value.clone());
            }
        }
        Document { path: self.path.clone(), fields: kept, merge: MergeState::default(), ..*self }
    }

    /// Checks the limits of size, depth, field names; the error states the limit and what was found.
    pub fn validate(path: &DocumentPath, fields: &Fields) -> Result<(), ModelError> {
        validate_fields(fields, 0)?;
        let size = document_size(path, fields);
        if size > limits::DOCUMENT_BYTES {
            return Err(ModelError::invalid(format!(
                "the document {} has {size} bytes; the limit is {}",
                excerpt(path.as_str()),
                limits::DOCUMENT_BYTES
            )));
        }
        Ok(())
    }
}

/// The value at a path into fields.
pub(crate) fn get_field<'a>(fields: &'a Fields, segments: &[String]) -> Option<&'a Value> {
    let (first, rest) = segments.split_first()?;
    rest.iter().try_fold(fields.get(first)?, |value, segment| match value {
        Value::Map(fields) => fields.get(segment),
        _ => None,
    })
}

/// Sets the value at a path into fields; what is no map on the way becomes one.
pub(crate) fn set_field(fields: &mut Fields, segments: &[String], value: Value) {
    match segments {
        [] => {}
        [last] => {
            fields.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let mut inner = match fields.remove(first) {
                Some(Value::Map(inner)) => inner,
                _ => Fields::new(),
            };
            set_field(&mut inner, rest, value);
            fields.insert(first.clone(), Value::Map(inner));
        }
    }
}

/// Deletes the value at a path into fields, if it is there.
pub(crate) fn delete_field(fields: &mut Fields, segments: &[String]) {
    match segments {
        [] => {}
        [last] => {
            fields.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Map(inner)) = fields.get_mut(first) {
                delete_field(inner, rest);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(entries: &[(&str, Value)]) -> Fields {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::from([("m", inner)]))
    }

    fn check(fields: &Fields) -> Result<(), ModelError> {
        Document::validate(&DocumentPath::parse("c/d").unwrap(), fields)
    }

    #[test]
    fn values_are_found_through_maps_only() {
        let document = Document {
            path: DocumentPath::parse("c/d").unwrap(),
            fields: fields(&[("a", Value::from([("b", 1)])), ("x", Value::from(2))]),
            create_version: Version(1),
            update_version: Version(1),
            merge: Default::default(),
        };
        let get = |path: &str| document.get(&FieldPath::parse(path).unwrap());
        assert_eq!(get("a.b"), Some(&Value::Integer(1)));
        assert_eq!(get("x"), Some(&Value::Integer(2)));
        assert_eq!(get("x.y"), None);
        assert_eq!(get("a.c"), None);
        assert_eq!(get("__name__"), None);
    }

    #[test]
    fn a_projection_keeps_what_it_names() {
        let inner = Value::from([("b", 1), ("c", 2)]);
        let document = Document {
            path: DocumentPath::parse("c/d").unwrap(),
            fields: fields(&[("a", inner.clone()), ("x", Value::from(3)), ("y", Value::Null)]),
            create_version: Version(1),
            update_version: Version(2),
            merge: Default::default(),
        };
        let keep = |paths: &[&str]| {
            let paths: Vec<FieldPath> =
                paths.iter().map(|path| FieldPath::parse(path).unwrap()).collect();
            let kept = document.projected(&paths);
            assert_eq!((kept.path, kept.update_version), (document.path.clone(), Version(2)));
            kept.fields
        };
        assert_eq!(
            keep(&["a.b", "y"]),
            fields(&[("a", Value::from([("b", 1)])), ("y", Value::Null)])
        );
        assert_eq!(keep(&["a.b", "a.c"]), fields(&[("a", inner.clone())]));
        assert_eq!(keep(&["a", "a.b"]), fields(&[("a", inner)]));
        assert_eq!(keep(&["z", "x.y", "__name__"]), Fields::new());
    }

    #[test]
    fn the_documented_example_has_the_documented_size() {
        let path = DocumentPath::parse("users/jeff/tasks/my_task_id").unwrap();
        let task = fields(&[
            ("type", Value::from("Personal")),
            ("done", Value::from(false)),
            ("priority", Value::from(1)),
            ("description", Value::from("Learn Cloud Firestore")),
        ]);
        assert_eq!(Value::Reference(path.clone()).size(), 44);
        assert_eq!(document_size(&path, &task), 147);
    }

    #[test]
    fn limits_are_stated() {
        assert!(check(&fields(&[("a", nested(limits::DEPTH))])).is_ok());
        let error = check(&fields(&[("a", nested(limits::DEPTH + 1))])).unwrap_err();
        assert!(error.message.contains("more than 20 deep"), "{error}");

        let text = "x".repeat(limits::FIELD_VALUE_BYTES);
        assert!(check(&fields(&[("a", Value::from(text.as_str()))])).is_ok());
        let error = check(&fields(&[("a", Value::from(text + "x"))])).unwrap_err();
        assert!(error.message.contains("1048488 bytes; the limit is 1048487"), "{error}");

        let overhead = 32 + (2 + 2 + 16) + 2 * (2 + 1);
        let half = Value::from("x".repeat(limits::DOCUMENT_BYTES / 2 - overhead));
        let rest = "x".repeat(limits::DOCUMENT_BYTES / 2);
        assert!(check(&fields(&[("a", half.clone()), ("b", Value::from(rest.as_str()))])).is_ok());
        let error = check(&fields(&[("a", half), ("b", Value::from(rest + "x"))])).unwrap_err();
        assert!(error.message.contains("1048577 bytes; the limit is 1048576"), "{error}");

        let error = check(&fields(&[("a", Value::Vector(vec![0.0; 2049]))])).unwrap_err();
        assert!(error.message.contains("2049 dimensions; it must have 1 to 2048"), "{error}");
        let name = "n".repeat(limits::ID_BYTES + 1);
        for fields in
            [fields(&[(&name, Value::Null)]), fields(&[("m", Value::from([(name.as_str(), 1)]))])]
        {
            let error = check(&fields).unwrap_err();
            assert!(error.message.contains("1501 bytes; the limit is 1500"), "{error}");
        }
    }

    #[test]
    fn reserved_names_and_nested_arrays_are_refused() {
        for bad in [
            fields(&[("", Value::Null)]),
            fields(&[("__a__", Value::Null)]),
            fields(&[("m", Value::from([("__type__", "x")]))]),
            fields(&[("a", Value::from(vec![Value::from(vec![1])]))]),
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
        let array_in_map_in_array = Value::from(vec![Value::from([("a", vec![1])])]);
        assert!(check(&fields(&[("a", array_in_map_in_array)])).is_ok());
    }

    #[test]
    fn setting_makes_maps_and_deleting_does_not() {
        let path = |text: &str| FieldPath::parse(text).unwrap().segments().to_vec();
        let mut f = fields(&[("a", Value::from(1))]);
        delete_field(&mut f, &path("a.b"));
        delete_field(&mut f, &path("x.y"));
        assert_eq!(f, fields(&[("a", Value::from(1))]));
        set_field(&mut f, &path("a.b.c"), Value::from(2));
        assert_eq!(f, fields(&[("a", Value::from([("b", Value::from([("c", 2)]))]))]));
        set_field(&mut f, &path("a.x"), Value::from(3));
        delete_field(&mut f, &path("a.b.c"));
        assert_eq!(
            f,
            fields(&[(
                "a",
                Value::from([("b", Value::Map(Fields::new())), ("x", Value::from(3))])
            )])
        );
    }
}
