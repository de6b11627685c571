//! Which index entries a document has, and which of them a change of it removes and adds. On the
//! way of every write: what did not change is neither encoded nor written.

use tidemark_protocol::model::{
    Document, DocumentPath, FieldPath, Fields, IndexMode, IndexScope, ModelError, Value, key,
    limits,
};

use super::entries::{self, Entry, EntryKind, append_indexed, invert};
use super::list::{EntryList, KeyWrite, difference};
use super::set::{CollectionIndexes, Composite, FieldSetting, IndexSet, governing};
use crate::engine::collab::is_history;
use crate::engine::keys::Keys;
use crate::store::Key;

static NO_FIELDS: Fields = Fields::new();

/// No entry takes fewer bytes of its encoded document than this.
const LEAST_BYTES_PER_ENTRY: usize = 2;

/// More entries than one commit may write.
#[derive(Debug)]
pub(in crate::engine) struct TooManyBytes;

impl IndexSet {
    /// What a change of a document writes to the indexes; fails if that is more than `limit` bytes
    /// on one side.
    pub(in crate::engine) fn change(
        &self,
        keys: Keys,
        path: &DocumentPath,
        before: Option<&Document>,
        after: Option<&Document>,
        limit: usize,
        out: &mut Vec<KeyWrite>,
    ) -> Result<(), TooManyBytes> {
        if is_history(path) {
            return Ok(());
        }
        let collection = self.collections.get(path.collection_id());
        let mut walk = Walk::new(keys, path, collection, limit);
        walk.fields(
            before.map_or(&NO_FIELDS, |it| &it.fields),
            after.map_or(&NO_FIELDS, |it| &it.fields),
        );
        let Walk { mut removed, mut added, .. } = walk;
        for composite in collection.into_iter().flat_map(CollectionIndexes::maintained) {
            let is_same = |(before, after): (&Document, &Document)| {
                let fields = &composite.definition.fields;
                fields.iter().all(|it| before.get(&it.field) == after.get(&it.field))
            };
            if before.zip(after).is_some_and(is_same) {
                continue;
            }
            if let Some(before) = before {
                composite.entries(keys, before, &mut removed);
            }
            if let Some(after) = after {
                composite.entries(keys, after, &mut added);
            }
        }
        removed.tidy();
        added.tidy();
        if removed.overflowed || added.overflowed {
            return Err(TooManyBytes);
        }
        difference(removed.entries, added.entries, out);
        Ok(())
    }

    /// Refuses a document that has more entries than one may have.
    pub(in crate::engine) fn check(
        &self,
        keys: Keys,
        document: &Document,
        encoded_bytes: usize,
    ) -> Result<(), ModelError> {
        if is_history(&document.path) {
            return Ok(());
        }
        let collection = self.collections.get(document.path.collection_id());
        let indexes = 1 + collection.map_or(0, |it| it.maintained().count());
        if encoded_bytes / LEAST_BYTES_PER_ENTRY * indexes <= limits::INDEX_ENTRIES {
            return Ok(());
        }
        let mut walk = Walk::new(keys, &document.path, collection, 0);
        // The same for all: only what differs counts.
        walk.prefix.clear();
        walk.name.clear();
        walk.added = EntryList::counting();
        walk.fields(&NO_FIELDS, &document.fields);
        let mut list = walk.added;
        for composite in collection.into_iter().flat_map(CollectionIndexes::maintained) {
            composite.entries(keys, document, &mut list);
        }
        if !list.overflowed {
            return Ok(());
        }
        Err(ModelError::invalid(format!(
            "the document {} has more than {} index entries: exempt large arrays or maps from \
             indexing",
            document.path,
            limits::INDEX_ENTRIES
        )))
    }

    /// All automatic entries of a document.
    pub(super) fn automatic_entries(
        &self,
        keys: Keys,
        document: &Document,
        limit: usize,
    ) -> EntryList {
        let collection = self.collections.get(document.path.collection_id());
        let mut walk = Walk::new(keys, &document.path, collection, limit);
        if !is_history(&document.path) {
            walk.fields(&NO_FIELDS, &document.fields);
        }
        walk.added
    }

    /// The automatic entries of a document's fields that one setting governs.
    pub(super) fn entries_governed(
        &self,
        keys: Keys,
        document: &Document,
        prefix: Option<&FieldPath>,
        limit: usize,
    ) -> EntryList {
        let collection = self.collections.get(document.path.collection_id());
        let mut walk = Walk::new(keys, &document.path, collection, limit);
        walk.only = Some(prefix);
        walk.fields(&NO_FIELDS, &document.fields);
        walk.added
    }
}

/// Goes through the fields of a document as it was and as it is.
struct Walk<'a> {
    settings: &'a [FieldSetting],
    /// Only what this setting governs.
    only: Option<Option<&'a FieldPath>>,
    /// Of the collection's automatic indexes; while a field is dealt with, also its path.
    prefix: Key,
    name: Vec<u8>,
    /// The canonical path of the field.
    text: String,
    segments: Vec<&'a str>,
    removed: EntryList,
    added: EntryList,
}

#[derive(Clone, Copy)]
enum Side {
    Removed,
    Added,
}

impl<'a> Walk<'a> {
    fn new(
        keys: Keys,
        path: &DocumentPath,
        collection: Option<&'a CollectionIndexes>,
        limit: usize,
    ) -> Walk<'a> {
        let mut name = Vec::with_capacity(path.id().len() + 2);
        key::encode_bytes(path.id().as_bytes(), &mut name);
        Walk {
            settings: collection.map_or(&[], |it| &it.settings),
            only: None,
            prefix: keys.field_indexes(&path.parent()),
            name,
            text: String::new(),
            segments: Vec::new(),
            removed: EntryList::new(limit),
            added: EntryList::new(limit),
        }
    }

    fn fields(&mut self, before: &'a Fields, after: &'a Fields) {
        for (name, old) in before {
            self.field(name, Some(old), after.get(name));
        }
        for (name, new) in after {
            if !before.contains_key(name) {
                self.field(name, None, Some(new));
            }
        }
    }

    fn field(&mut self, name: &'a str, before: Option<&'a Value>, after: Option<&'a Value>) {
        if before == after {
            return;
        }
        let length = self.text.len();
        FieldPath::push_segment(&mut self.text, name);
        self.segments.push(name);
        if entries::fits(&self.text) {
            if self.is_indexed() {
                let prefix = self.prefix.len();
                key::encode_bytes(self.text.as_bytes(), &mut self.prefix);
                before.into_iter().for_each(|value| self.value(value, Side::Removed));
                after.into_iter().for_each(|value| self.value(value, Side::Added));
                self.prefix.truncate(prefix);
            }
            if let (Some(Value::Map(_)), _) | (_, Some(Value::Map(_))) = (before, after) {
                let fields = |value: Option<&'a Value>| match value {
                    Some(Value::Map(fields)) => fields,
                    Some(_) | None => &NO_FIELDS,
                };
                self.fields(fields(before), fields(after));
            }
        }
        self.segments.pop();
        self.text.truncate(length);
    }

    fn is_indexed(&self) -> bool {
        if self.settings.is_empty() {
            return self.only.is_none();
        }
        let setting = governing(self.settings, &self.segments);
        let is_meant = self
            .only
            .is_none_or(|only| setting.is_some_and(|setting| setting.prefix.as_ref() == only));
        is_meant && setting.is_none_or(|setting| setting.on)
    }

    fn value(&mut self, value: &Value, side: Side) {
        self.entry(EntryKind::Value, value, side);
        if let Value::Array(elements) = value {
            elements.iter().for_each(|element| self.entry(EntryKind::Element, element, side));
        }
    }

    fn entry(&mut self, kind: EntryKind, value: &Value, side: Side) {
        let mut key = Vec::with_capacity(self.prefix.len() + self.name.len() + 32);
        key.extend_from_slice(&self.prefix);
        key.push(kind.byte());
        let truncated = append_indexed(value, false, &mut key);
        key.extend_from_slice(&self.name);
        let entry = Entry::new(key, self.name.len(), truncated);
        match side {
            Side::Removed => self.removed.push(entry),
            Side::Added => self.added.push(entry),
        }
    }
}

impl Composite {
    /// Adds the entries that a document has in this index: none if it lacks one of the fields.
    pub(super) fn entries(&self, keys: Keys, document: &Document, out: &mut EntryList) {
        let fields = &self.definition.fields;
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            match (field.mode, document.get(&field.field)) {
                (IndexMode::Ascending | IndexMode::Descending, Some(value)) => values.push(value),
                (IndexMode::Contains, Some(array @ Value::Array(_))) => values.push(array),
                (IndexMode::Contains, Some(_)) | (_, None) => return,
            }
        }
        let contains = fields.iter().position(|field| field.mode == IndexMode::Contains);
        let name = self.name_of(&document.path);
        let prefix = self.prefix(keys, &document.path.parent());
        let Some(contains) = contains else {
            out.push(self.entry(prefix, &values, &name));
            return;
        };
        let Value::Array(elements) = values[contains] else { return };
        for element in elements {
            values[contains] = element;
            out.push(self.entry(prefix.clone(), &values, &name));
        }
    }

    fn entry(&self, mut key: Key, values: &[&Value], name: &[u8]) -> Entry {
        let mut truncated = false;
        for (position, value) in values.iter().enumerate() {
            truncated |= self.append_value(position, value, &mut key);
        }
        key.extend_from_slice(name);
        Entry::new(key, name.len(), truncated)
    }

    fn name_of(&self, path: &DocumentPath) -> Vec<u8> {
        let mut name = Vec::new();
        match self.definition.scope {
            IndexScope::Collection => key::encode_bytes(path.id().as_bytes(), &mut name),
            IndexScope::Group => {
                key::encode_value(&Value::Reference(path.clone()), &mut name);
                // The tag says nothing: all names are references.
                name = name.split_off(1);
            }
        }
        if self.has_inverted_names() {
            invert(&mut name);
        }
        name
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tidemark_protocol::model::{IndexDefinition, IndexField, Version};

    use crate::engine::index::entries::entry_name;
    use crate::store::PER_WRITE;

    const KEYS: Keys = Keys::new(1);

    fn document(fields: Value) -> Document {
        let Value::Map(fields) = fields else { panic!("fields are a map") };
        let path = DocumentPath::parse("c/d").unwrap();
        Document {
            path,
            fields,
            create_version: Version(1),
            update_version: Version(1),
            merge: Default::default(),
        }
    }

    fn changes(set: &IndexSet, before: Option<&Document>, after: Option<&Document>) -> Vec<String> {
        let mut writes = Vec::new();
        let path = DocumentPath::parse("c/d").unwrap();
        set.change(KEYS, &path, before, after, usize::MAX, &mut writes).unwrap();
        let mut lines: Vec<_> = writes.iter().map(line).collect();
        lines.sort();
        lines
    }

    /// `+` or `-`, then the key without the database's number, which is 1.
    fn line((key, value): &KeyWrite) -> String {
        let sign = if value.is_some() { '+' } else { '-' };
        let text = key[4..].escape_ascii().to_string();
        format!("{sign}{}", text.replace("\\x00\\x01", ";").replace("\\x00\\x00", "|"))
    }

    fn with_composite(scope: IndexScope, fields: &[(&str, IndexMode)]) -> IndexSet {
        let field = |(path, mode): &(&str, IndexMode)| IndexField {
            field: FieldPath::parse(path).unwrap(),
            mode: *mode,
        };
        let fields = fields.iter().map(field).collect();
        let definition = IndexDefinition { collection_id: "c".into(), scope, fields };
        let mut set = IndexSet::default();
        let composites = vec![Arc::new(Composite { id: 7, definition, work: None })];
        let collection = CollectionIndexes { composites, ..CollectionIndexes::default() };
        set.collections.insert("c".into(), collection);
        set
    }

    #[test]
    fn every_field_has_an_entry_and_arrays_one_for_each_element() {
        let document = document(Value::from([
            ("a b", Value::Null),
            ("l", Value::from(vec!["x", "y", "x"])),
            ("m", [("k", true)].into()),
        ]));
        let expected = [
            "+xc;|`a b`;v\\x10d;",
            "+xc;|l;e0x;d;",
            "+xc;|l;e0y;d;",
            "+xc;|l;vP0x;0y;0x;\\x00d;",
            "+xc;|m.k;v\\x19d;",
            "+xc;|m;v`k;\\x19|d;",
        ];
        assert_eq!(changes(&IndexSet::default(), None, Some(&document)), expected);
        let removed = expected.map(|line| line.replacen('+', "-", 1));
        assert_eq!(changes(&IndexSet::default(), Some(&document), None), removed);
    }

    #[test]
    fn a_change_writes_what_is_different() {
        let before = document(Value::from([
            ("l", Value::from(vec!["x", "y"])),
            ("m", [("k", true), ("o", true)].into()),
            ("n", Value::from(1)),
        ]));
        let after = document(Value::from([
            ("l", Value::from(vec!["y", "z"])),
            ("m", [("k", false), ("o", true)].into()),
            ("n", Value::from(1.0)),
        ]));
        let expected = [
            "+xc;|l;e0z;d;",
            "+xc;|l;vP0y;0z;\\x00d;",
            "+xc;|m.k;v\\x18d;",
            "+xc;|m;v`k;\\x18o;\\x19|d;",
            "-xc;|l;e0x;d;",
            "-xc;|l;vP0x;0y;\\x00d;",
            "-xc;|m.k;v\\x19d;",
            "-xc;|m;v`k;\\x19o;\\x19|d;",
        ];
        assert_eq!(changes(&IndexSet::default(), Some(&before), Some(&after)), expected);
        assert_eq!(changes(&IndexSet::default(), Some(&after), Some(&after)), [""; 0]);
    }

    #[test]
    fn a_declared_index_has_documents_with_all_of_its_fields() {
        let set = with_composite(
            IndexScope::Collection,
            &[("a", IndexMode::Ascending), ("l", IndexMode::Contains)],
        );
        let composite = |document: &Document| {
            let mut lines = changes(&set, None, Some(document));
            lines.retain(|line| line.starts_with("+y"));
            lines
        };
        let list = Value::from(vec!["x", "y", "x"]);
        let whole = document(Value::from([("a", Value::Null), ("l", list.clone())]));
        // The zeros of the number look like an end of segments.
        let id = "+y|\\x00\\x07c;|";
        assert_eq!(composite(&whole), [format!("{id}\\x100x;d;"), format!("{id}\\x100y;d;")]);
        for lacking in [[("a", Value::Null)], [("l", list)]] {
            assert_eq!(composite(&document(Value::from(lacking))), [""; 0]);
        }
        let no_array = document(Value::from([("a", 1), ("l", 2)]));
        assert_eq!(composite(&no_array), [""; 0]);
    }

    #[test]
    fn descending_values_and_the_names_after_them_are_inverted() {
        let set = with_composite(IndexScope::Group, &[("a", IndexMode::Descending)]);
        let document = document(Value::from([("a", true)]));
        let mut writes = Vec::new();
        set.change(KEYS, &document.path, None, Some(&document), usize::MAX, &mut writes).unwrap();
        let (key, value) = writes.iter().find(|(key, _)| key[4] == b'y').unwrap();
        assert_eq!(key[9], !0x19);
        let name = entry_name(key, value.as_ref().unwrap()).unwrap();
        assert_eq!(name.before, &key[..10]);
        assert!(!name.truncated);
        assert_eq!(name.group_document(true).unwrap(), document.path);
    }

    #[test]
    fn long_values_are_cut_and_marked() {
        for (length, truncated) in [(1_497, false), (1_498, true)] {
            // A tag before the text, and two bytes after it.
            let document = document(Value::from([("t", "x".repeat(length))]));
            let mut writes = Vec::new();
            let set = IndexSet::default();
            set.change(KEYS, &document.path, None, Some(&document), usize::MAX, &mut writes)
                .unwrap();
            let [(key, Some(value))] = &writes[..] else { panic!("one entry") };
            let name = entry_name(key, value).unwrap();
            assert_eq!(name.truncated, truncated, "{length}");
            assert_eq!(name.encoded, b"d\0\x01");
            let collection = document.path.parent();
            assert_eq!(name.document_key(KEYS, &collection, false), KEYS.document(&document.path));
            let field = FieldPath::parse("t").unwrap();
            let prefix = KEYS.field_index(&collection, &field, EntryKind::Value);
            assert_eq!(name.before.len() - prefix.len(), 1_500);
        }
    }

    #[test]
    fn more_than_a_commit_may_write_is_refused() {
        let document = document(Value::from([("a", 1), ("b", 2)]));
        let mut writes = Vec::new();
        let limit = 2 * (PER_WRITE + 20);
        let mut change = |limit| {
            IndexSet::default().change(
                KEYS,
                &document.path,
                None,
                Some(&document),
                limit,
                &mut writes,
            )
        };
        assert!(change(limit).is_err());
        assert!(change(2 * limit).is_ok());
    }
}
