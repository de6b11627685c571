//! The window of a limit query: the first documents of its order and some slack behind them, so
//! that a removal needs the store only when the slack is spent.

use std::collections::HashMap;
use std::sync::Arc;

use tidemark_protocol::model::{DocumentPath, Matcher};

use super::commit::{Change, Stored};
use super::delta::DocumentChange;

/// A limit query's documents as of one version.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    /// In the query's order; the first `limit` are the result.
    rows: Vec<Arc<Stored>>,
    /// No document of the query is missing from `rows`.
    complete: bool,
}

impl Window {
    /// How many documents a full window has.
    pub(super) fn capacity(limit: usize) -> usize {
        limit.saturating_add((limit / 2).clamp(8, 256))
    }

    /// A window from the first `capacity` documents.
    pub(super) fn new(limit: usize, rows: Vec<Arc<Stored>>) -> Window {
        let complete = rows.len() < Window::capacity(limit);
        Window { limit, rows, complete }
    }

    /// The result.
    pub(super) fn visible(&self) -> &[Arc<Stored>] {
        &self.rows[..self.limit.min(self.rows.len())]
    }

    /// Whether documents of the result may be missing.
    pub(super) fn needs_refill(&self) -> bool {
        self.rows.len() < self.limit && !self.complete
    }

    /// Brings the window past a change.
    pub(super) fn apply(&mut self, matcher: &Matcher, change: &Change) {
        if change.before.is_some()
            && let Some(at) = self.rows.iter().position(|row| row.document.path == change.path)
        {
            self.rows.remove(at);
        }
        let Some(after) = &change.after else { return };
        if !matcher.matches(&after.document) {
            return;
        }
        let before = |row: &Arc<Stored>| matcher.compare(&row.document, &after.document).is_lt();
        let at = self.rows.partition_point(before);
        // Behind the last row there may be others that are not in the window.
        if at < self.rows.len() || self.complete {
            self.rows.insert(at, Arc::clone(after));
        }
        if self.rows.len() > Window::capacity(self.limit) {
            self.rows.truncate(Window::capacity(self.limit));
            self.complete = false;
        }
    }
}

/// What leads from one result to another. `deleted` tells of a document that left whether it does
/// not exist any more.
pub(super) fn diff(
    before: &[Arc<Stored>],
    after: &[Arc<Stored>],
    deleted: impl Fn(&DocumentPath) -> bool,
) -> Vec<(DocumentPath, DocumentChange)> {
    let paths = |rows: &[Arc<Stored>]| -> HashMap<DocumentPath, Arc<Stored>> {
        rows.iter().map(|row| (row.document.path.clone(), Arc::clone(row))).collect()
    };
    let (old, new) = (paths(before), paths(after));
    let mut changes = Vec::new();
    for row in before {
        let path = &row.document.path;
        if !new.contains_key(path) {
            changes.push((path.clone(), DocumentChange::Removed { deleted: deleted(path) }));
        }
    }
    for row in after {
        let path = &row.document.path;
        let unchanged = old
            .get(path)
            .is_some_and(|it| it.document.update_version == row.document.update_version);
        if !unchanged {
            changes.push((path.clone(), DocumentChange::Present(row.bytes.clone())));
        }
    }
    changes
}
