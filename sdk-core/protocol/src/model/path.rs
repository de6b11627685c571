//! Paths of documents and collections, valid by construction.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::clocks::COLLABORATIVE_ID;
use super::error::{ModelError, excerpt};
use super::limits;

/// `rooms/a/messages/1`: an even number of valid segments. Ordered segment by segment, by bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentPath(Arc<str>);

/// `rooms/a/messages`: an odd number of valid segments. Ordered segment by segment, by bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CollectionPath(Arc<str>);

impl DocumentPath {
    /// Parses and validates.
    pub fn parse(path: &str) -> Result<DocumentPath, ModelError> {
        if validate(path)? % 2 == 0 {
            Ok(DocumentPath(path.into()))
        } else {
            Err(ModelError::invalid(format!(
                "{} is the path of a collection; a document's has an even number of segments",
                excerpt(path)
            )))
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The collection the document is in.
    pub fn parent(&self) -> CollectionPath {
        CollectionPath(self.split().0.into())
    }

    /// The last segment.
    pub fn id(&self) -> &str {
        self.split().1
    }

    /// The id of the collection the document is in.
    pub fn collection_id(&self) -> &str {
        last_segment(self.split().0)
    }

    /// A collection under the document.
    pub fn collection(&self, id: &str) -> Result<CollectionPath, ModelError> {
        validate_id(id)?;
        CollectionPath::parse(&format!("{self}/{id}"))
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether the document is somewhere under another path, of a document or of a collection.
    pub fn is_below(&self, above: &str) -> bool {
        is_below(&self.0, above)
    }

    /// The collection, and the id within it.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').expect("a document path has at least two segments")
    }
}

impl CollectionPath {
    /// Parses and validates.
    pub fn parse(path: &str) -> Result<CollectionPath, ModelError> {
        if validate(path)? % 2 == 1 {
            Ok(CollectionPath(path.into()))
        } else {
            Err(ModelError::invalid(format!(
                "{} is the path of a document; a collection's has an odd number of segments",
                excerpt(path)
            )))
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn id(&self) -> &str {
        last_segment(&self.0)
    }

    /// The document the collection is under; none at the root.
    pub fn parent(&self) -> Option<DocumentPath> {
        self.0.rsplit_once('/').map(|(parent, _)| DocumentPath(parent.into()))
    }

    /// A document in the collection.
    pub fn doc(&self, id: &str) -> Result<DocumentPath, ModelError> {
        validate_id(id)?;
        DocumentPath::parse(&format!("{self}/{id}"))
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether the document is directly in this collection.
    pub fn contains(&self, path: &DocumentPath) -> bool {
        path.split().0 == &*self.0
    }
}

pub(crate) fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Checks a path; the number of its segments.
fn validate(path: &str) -> Result<usize, ModelError> {
    if path.len() > limits::PATH_BYTES {
        return Err(ModelError::invalid(format!(
            "the path {} has {} bytes; the limit is {}",
            excerpt(path),
            path.len(),
            limits::PATH_BYTES
        )));
    }
    let mut count = 0;
    for segment in path.split('/') {
        validate_id(segment).map_err(|error| {
            ModelError::new(error.code, format!("in the path {}: {}", excerpt(path), error.message))
        })?;
        count += 1;
    }
    if count > limits::PATH_SEGMENTS {
        return Err(ModelError::invalid(format!(
            "the path {} has {count} segments; the limit is {}",
            excerpt(path),
            limits::PATH_SEGMENTS
        )));
    }
    Ok(count)
}

/// Checks the id of a document or a collection.
pub(crate) fn validate_id(id: &str) -> Result<(), ModelError> {
    let problem = if id.is_empty() {
        "it is empty".to_owned()
    } else if id.len() > limits::ID_BYTES {
        format!("it has {} bytes; the limit is {}", id.len(), limits::ID_BYTES)
    } else if id == "." || id == ".." {
        "`.` and `..` are reserved".to_owned()
    } else if is_reserved(id) && id != COLLABORATIVE_ID {
        "ids that begin and end with `__` are reserved".to_owned()
    } else if id.contains('/') {
        "it contains a slash".to_owned()
    } else {
        return Ok(());
    };
    Err(ModelError::invalid(format!("the id {} is not valid: {problem}", excerpt(id))))
}

/// Whether a name is of the form `__x__`, which Firestore keeps for itself (`____` is free).
pub(crate) fn is_reserved(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

fn last_segment(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// Segment by segment: the end of a segment comes before any character, so a slash sorts below
/// every other byte.
fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    match (a.get(common), b.get(common)) {
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (a, b) => a.cmp(&b),
    }
}

macro_rules! path_traits {
    ($path:ident) => {
        impl PartialOrd for $path {
            fn partial_cmp(&self, other: &$path) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $path {
            fn cmp(&self, other: &$path) -> Ordering {
                compare(&self.0, &other.0)
            }
        }

        impl fmt::Display for $path {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $path {
            type Err = ModelError;

            fn from_str(path: &str) -> Result<$path, ModelError> {
                $path::parse(path)
            }
        }
    };
}

path_traits!(DocumentPath);
path_traits!(CollectionPath);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_of_a_path() {
        let path = DocumentPath::parse("rooms/a/messages/1").unwrap();
        assert_eq!(path.id(), "1");
        assert_eq!(path.collection_id(), "messages");
        assert_eq!(path.parent().as_str(), "rooms/a/messages");
        assert_eq!(path.parent().id(), "messages");
        assert_eq!(path.parent().parent().unwrap().as_str(), "rooms/a");
        assert_eq!(path.parent().doc("1").unwrap(), path);
        assert!(path.parent().contains(&path));
        let rooms = CollectionPath::parse("rooms").unwrap();
        assert_eq!(rooms.id(), "rooms");
        assert_eq!(rooms.parent(), None);
        assert!(!rooms.contains(&path));
        assert_eq!(rooms.doc("a").unwrap().collection("messages").unwrap(), path.parent());
        assert_eq!(path.segments().collect::<Vec<_>>(), ["rooms", "a", "messages", "1"]);
    }

    #[test]
    fn bad_paths_are_refused() {
        for path in ["", "a", "a/b/c", "a//b", "/a", "a/", "a/.", "a/..", "a/__b__"] {
            assert!(DocumentPath::parse(path).is_err(), "{path}");
        }
        assert!(CollectionPath::parse("").is_err());
        assert!(CollectionPath::parse("a/b").is_err());
        for path in ["a/____", "a/__", "a/___", "a/__b", "a/...", "a/ ", "ä/\u{0}"] {
            assert!(DocumentPath::parse(path).is_ok(), "{path}");
        }
        let rooms = CollectionPath::parse("rooms").unwrap();
        assert!(rooms.doc("a/b/c").is_err());
        assert!(rooms.doc("a").unwrap().collection("b/c/d").is_err());
    }

    #[test]
    fn limits_are_stated() {
        let id = "x".repeat(limits::ID_BYTES);
        assert!(DocumentPath::parse(&format!("a/{id}")).is_ok());
        let error = DocumentPath::parse(&format!("a/{id}x")).unwrap_err();
        assert!(error.message.contains("1501 bytes; the limit is 1500"), "{error}");

        let long = [id.as_str(); 4].join("/");
        let room = limits::PATH_BYTES - long.len() - "/a/".len();
        assert!(DocumentPath::parse(&format!("{long}/a/{}", "x".repeat(room))).is_ok());
        let error = DocumentPath::parse(&format!("{long}/a/{}", "x".repeat(room + 1))).unwrap_err();
        assert!(error.message.contains("6145 bytes; the limit is 6144"), "{error}");

        let deep = vec!["a"; limits::PATH_SEGMENTS].join("/");
        assert!(DocumentPath::parse(&deep).is_ok());
        let error = CollectionPath::parse(&format!("{deep}/a")).unwrap_err();
        assert!(error.message.contains("201 segments; the limit is 200"), "{error}");
    }

    proptest! {
        #[test]
        fn order_is_by_segments(
            a in proptest::collection::vec("[-a0/é]{1,3}", 1..5),
            b in proptest::collection::vec("[-a0/é]{1,3}", 1..5),
        ) {
            let (a, b) = (a.join("/").replace("//", "/x/"), b.join("/").replace("//", "/x/"));
            let expected = a.split('/').map(str::as_bytes).cmp(b.split('/').map(str::as_bytes));
            if let (Ok(a), Ok(b)) = (DocumentPath::parse(&a), DocumentPath::parse(&b)) {
                prop_assert_eq!(a.cmp(&b), expected);
            }
            if let (Ok(a), Ok(b)) = (CollectionPath::parse(&a), CollectionPath::parse(&b)) {
                prop_assert_eq!(a.cmp(&b), expected);
            }
        }
    }
}
