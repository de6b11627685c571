//! The first documents of an order, as of now or as of an earlier version: what live windows keep.

use std::collections::HashMap;
use std::sync::Arc;

use tidemark_protocol::model::{DocumentPath, Matcher};

use super::context::View;
use super::execute::{Rows, Wanted};
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;

/// Documents as they were at an earlier version, by path: what is needed to answer a query as of
/// then from a later snapshot.
pub(in crate::engine) type Undo = HashMap<DocumentPath, Option<Arc<Stored>>>;

/// The first `take` documents of a query in its order, as they were with `undo` undone.
pub(in crate::engine) async fn top(
    view: View<'_>,
    matcher: &Matcher,
    take: usize,
    undo: &Undo,
) -> Result<Vec<Arc<Stored>>, EngineError> {
    // Those undone may be among the first, and are left out.
    let mut found = Rows::new(view, matcher, Wanted::first(take.saturating_add(undo.len())));
    let mut rows: Vec<Arc<Stored>> = Vec::new();
    while let Some(chunk) = found.next().await? {
        rows.extend(chunk.into_iter().filter(|row| !undo.contains_key(&row.document.path)));
    }
    if !undo.is_empty() {
        let undone = undo.values().flatten();
        rows.extend(undone.filter(|row| matcher.matches(&row.document)).cloned());
        rows.sort_by(|a, b| matcher.compare(&a.document, &b.document));
    }
    rows.truncate(take);
    Ok(rows)
}
