//! The steps from one list of documents to another. Pure; used where a result changed in ways that
//! cannot be told one by one: a limit's window, and snapshots merged for a slow app.

use std::collections::HashMap;

use tidemark_protocol::model::DocumentPath;

use crate::snapshot::{ChangeKind, DocumentChange, DocumentSnapshot};

/// The steps that lead from `base` to `last`: removals, then those that `modified` (before, after)
/// tells, then additions. Those not modified must be in the same order in both.
pub(crate) fn steps(
    base: &[DocumentSnapshot],
    last: &[DocumentSnapshot],
    modified: impl Fn(&DocumentSnapshot, &DocumentSnapshot) -> bool,
) -> Vec<DocumentChange> {
    let places: HashMap<&DocumentPath, usize> =
        last.iter().enumerate().map(|(place, document)| (document.path(), place)).collect();
    let mut steps = Vec::new();
    // What is left of the base, as places in `last`.
    let mut working: Vec<usize> = Vec::with_capacity(base.len());
    let mut origin: Vec<Option<usize>> = vec![None; last.len()];
    for (index, document) in base.iter().enumerate() {
        if let Some(place) = places.get(document.path()) {
            working.push(*place);
            origin[*place] = Some(index);
        }
    }
    let gone = |(_, document): &(usize, &DocumentSnapshot)| !places.contains_key(document.path());
    for (index, document) in base.iter().enumerate().rev().filter(gone) {
        steps.push(DocumentChange {
            kind: ChangeKind::Removed,
            document: document.clone(),
            old_index: Some(index),
            new_index: None,
        });
    }
    let mut predecessor = None;
    for (place, document) in last.iter().enumerate() {
        let Some(from) = origin[place] else { continue };
        if modified(&base[from], document) {
            let old_index = position(&working, place);
            working.remove(old_index);
            let new_index = predecessor.map_or(0, |before| position(&working, before) + 1);
            working.insert(new_index, place);
            steps.push(DocumentChange {
                kind: ChangeKind::Modified,
                document: document.clone(),
                old_index: Some(old_index),
                new_index: Some(new_index),
            });
        }
        predecessor = Some(place);
    }
    for (place, document) in last.iter().enumerate().filter(|(place, _)| origin[*place].is_none()) {
        steps.push(DocumentChange {
            kind: ChangeKind::Added,
            document: document.clone(),
            old_index: None,
            new_index: Some(place),
        });
    }
    steps
}

fn position(working: &[usize], place: usize) -> usize {
    working.iter().position(|other| *other == place).expect("what has an origin is in the list")
}
