//! The interest index: which groups a changed document may concern. Pure: the fan-out's groups
//! drive it; it knows queries and documents, no connections and no results.
//!
//! A query is on the shelf of its collection, or of its collection group and the document that is
//! under. There it is found by the terms of its [`cover`]: looking a document up costs as much as
//! the shelf has distinct fields, and the groups found. Every group that the document matches is
//! among them.

mod cover;
mod intervals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use tidemark_protocol::model::{Document, DocumentPath, FieldPath, Matcher, Value};

use self::cover::{Term, cover, encode_into};
use self::intervals::Intervals;
use super::delta::GroupId;

/// All groups by what they are interested in.
#[derive(Default)]
pub(super) struct Interest {
    collections: HashMap<String, Shelf>,
    /// By the id of the collections, then by the document they are under; empty for anywhere.
    collection_groups: HashMap<String, HashMap<String, Shelf>>,
    documents: HashMap<DocumentPath, BTreeSet<GroupId>>,
    /// Where each group was put, for taking it out again.
    places: HashMap<GroupId, Place>,
}

enum Place {
    Shelf(Scope, Vec<Term>),
    Documents(Vec<DocumentPath>),
}

#[derive(Clone)]
enum Scope {
    Collection(String),
    CollectionGroup { id: String, under: String },
}

/// The queries over one collection or collection group.
#[derive(Default)]
struct Shelf {
    fields: HashMap<FieldPath, FieldTerms>,
    /// Found whatever the document is.
    scanned: BTreeSet<GroupId>,
}

/// Who is interested in which values of one field.
#[derive(Default)]
struct FieldTerms {
    equal: HashMap<Vec<u8>, BTreeSet<GroupId>>,
    contains: HashMap<Vec<u8>, BTreeSet<GroupId>>,
    ranges: Intervals,
}

impl Interest {
    /// Puts a group of a query in.
    pub(super) fn add_query(&mut self, group: GroupId, matcher: &Matcher) {
        let query = matcher.query();
        let scope = if query.all_descendants {
            let under = query.parent.as_ref().map_or("", DocumentPath::as_str).to_owned();
            Scope::CollectionGroup { id: query.collection_id.clone(), under }
        } else {
            Scope::Collection(query.collection_path().as_str().to_owned())
        };
        let shelf = self.shelf(scope.clone());
        let terms = cover(query, matcher.order(), shelf);
        for term in &terms {
            shelf.insert(term, group);
        }
        if shelf.is_empty() {
            // Nothing can match the query.
            self.drop_shelf(&scope);
        }
        self.places.insert(group, Place::Shelf(scope, terms));
    }

    /// Puts a group of documents in.
    pub(super) fn add_documents(&mut self, group: GroupId, paths: &[DocumentPath]) {
        for path in paths {
            self.documents.entry(path.clone()).or_default().insert(group);
        }
        self.places.insert(group, Place::Documents(paths.to_vec()));
    }

    /// Takes a group out.
    pub(super) fn remove(&mut self, group: GroupId) {
        match self.places.remove(&group) {
            None => {}
            Some(Place::Documents(paths)) => {
                for path in &paths {
                    remove_from(&mut self.documents, path, group);
                }
            }
            Some(Place::Shelf(scope, terms)) => {
                let shelf = self.shelf(scope.clone());
                for term in &terms {
                    shelf.remove(term, group);
                }
                if shelf.is_empty() {
                    self.drop_shelf(&scope);
                }
            }
        }
    }

    /// The groups that a change of a document may concern, sorted, each once.
    pub(super) fn concerned(
        &self,
        path: &DocumentPath,
        before: Option<&Document>,
        after: Option<&Document>,
    ) -> Vec<GroupId> {
        let mut found = Vec::new();
        if let Some(groups) = self.documents.get(path) {
            found.extend(groups);
        }
        let collection = path.as_str().rsplit_once('/').map_or("", |(collection, _)| collection);
        let states = States { path, before, after };
        if let Some(shelf) = self.collections.get(collection) {
            shelf.concerned(&states, &mut found);
        }
        let id = collection.rsplit_once('/').map_or(collection, |(_, id)| id);
        if let Some(shelves) = self.collection_groups.get(id) {
            for under in documents_above(collection) {
                if let Some(shelf) = shelves.get(under) {
                    shelf.concerned(&states, &mut found);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn shelf(&mut self, scope: Scope) -> &mut Shelf {
        match scope {
            Scope::Collection(path) => self.collections.entry(path).or_default(),
            Scope::CollectionGroup { id, under } => {
                self.collection_groups.entry(id).or_default().entry(under).or_default()
            }
        }
    }

    fn drop_shelf(&mut self, scope: &Scope) {
        match scope {
            Scope::Collection(path) => {
                self.collections.remove(path);
            }
            Scope::CollectionGroup { id, under } => {
                if let Some(shelves) = self.collection_groups.get_mut(id) {
                    shelves.remove(under);
                    if shelves.is_empty() {
                        self.collection_groups.remove(id);
                    }
                }
            }
        }
    }
}

/// Nothing, and each document that a collection is somewhere under.
fn documents_above(collection: &str) -> impl Iterator<Item = &str> {
    let ends = collection.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    // Documents end at every second slash.
    std::iter::once("").chain(ends.skip(1).step_by(2).map(|end| &collection[..end]))
}

fn remove_from<K: std::hash::Hash + Eq>(
    table: &mut HashMap<K, BTreeSet<GroupId>>,
    key: &K,
    group: GroupId,
) {
    if let Some(groups) = table.get_mut(key) {
        groups.remove(&group);
        if groups.is_empty() {
            table.remove(key);
        }
    }
}

/// A changed document.
struct States<'a> {
    path: &'a DocumentPath,
    before: Option<&'a Document>,
    after: Option<&'a Document>,
}

impl Shelf {
    fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.scanned.is_empty()
    }

    /// How many groups an encoded value of a field finds by their intervals; from `most` on, a guess.
    fn intervals_at(&self, field: &FieldPath, value: &[u8], most: usize) -> usize {
        self.fields.get(field).map_or(0, |terms| terms.ranges.count(value, most))
    }

    /// How many groups an equality or a membership finds already.
    fn groups_of(&self, term: &Term) -> usize {
        let (field, value) = match term {
            Term::Equal(field, value) | Term::Contains(field, value) => (field, value),
            Term::Range(..) | Term::Any => return 0,
        };
        let Some(terms) = self.fields.get(field) else { return 0 };
        let table = if let Term::Equal(..) = term { &terms.equal } else { &terms.contains };
        table.get(value).map_or(0, BTreeSet::len)
    }

    fn insert(&mut self, term: &Term, group: GroupId) {
        match term {
            Term::Equal(field, value) => {
                let terms = self.fields.entry(field.clone()).or_default();
                terms.equal.entry(value.clone()).or_default().insert(group);
            }
            Term::Contains(field, value) => {
                let terms = self.fields.entry(field.clone()).or_default();
                terms.contains.entry(value.clone()).or_default().insert(group);
            }
            Term::Range(field, interval) => {
                let terms = self.fields.entry(field.clone()).or_default();
                terms.ranges.insert(interval.clone(), group);
            }
            Term::Any => {
                self.scanned.insert(group);
            }
        }
    }

    fn remove(&mut self, term: &Term, group: GroupId) {
        let field = match term {
            Term::Equal(field, _) | Term::Contains(field, _) | Term::Range(field, _) => field,
            Term::Any => {
                self.scanned.remove(&group);
                return;
            }
        };
        let Some(terms) = self.fields.get_mut(field) else { return };
        match term {
            Term::Equal(_, value) => remove_from(&mut terms.equal, value, group),
            Term::Contains(_, value) => remove_from(&mut terms.contains, value, group),
            Term::Range(_, interval) => terms.ranges.remove(interval, group),
            Term::Any => unreachable!("it has no field"),
        }
        if terms.is_empty() {
            self.fields.remove(field);
        }
    }

    fn concerned(&self, states: &States<'_>, found: &mut Vec<GroupId>) {
        found.extend(&self.scanned);
        for (field, terms) in &self.fields {
            terms.concerned(field, states, found);
        }
    }
}

impl FieldTerms {
    fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.contains.is_empty() && self.ranges.is_empty()
    }

    fn concerned(&self, field: &FieldPath, states: &States<'_>, found: &mut Vec<GroupId>) {
        let mut key = Vec::new();
        if field.is_document_id() {
            return self.look_up(&Value::Reference(states.path.clone()), &mut key, found);
        }
        let before = states.before.and_then(|document| document.get(field));
        let after = states.after.and_then(|document| document.get(field));
        if let Some(after) = after {
            self.look_up(after, &mut key, found);
        }
        if let Some(before) = before
            && after.is_none_or(|after| after.compare(before).is_ne())
        {
            self.look_up(before, &mut key, found);
        }
    }

    fn look_up(&self, value: &Value, key: &mut Vec<u8>, found: &mut Vec<GroupId>) {
        if !self.equal.is_empty() || !self.ranges.is_empty() {
            encode_into(value, key);
            found.extend(self.equal.get(key).into_iter().flatten());
            self.ranges.stab(key, found);
        }
        if let Value::Array(elements) = value
            && !self.contains.is_empty()
        {
            for element in elements {
                encode_into(element, key);
                found.extend(self.contains.get(key).into_iter().flatten());
            }
        }
    }
}
