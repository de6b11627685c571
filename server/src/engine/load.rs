//! Reading from the store what a group keeps of its result: when it is new, and when the slack of a
//! window is spent.

use std::sync::Arc;

use tidemark_protocol::model::{AggregateState, Aggregation, Matcher};

use super::commit::Stored;
use super::error::EngineError;
use super::index::IndexSet;
use super::keys::Keys;
use super::query::{Rows, Undo, View, Wanted, top};
use super::source::{Source, Span};
use super::window::Window;
use crate::store::Snapshot;

/// What results are read from: a state of the database and the indexes that belong to it.
#[derive(Clone)]
pub(super) struct Basis {
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) indexes: Arc<IndexSet>,
    pub(super) keys: Keys,
}

impl Basis {
    pub(super) fn view(&self) -> View<'_> {
        View { snapshot: &*self.snapshot, keys: self.keys, indexes: &self.indexes }
    }
}

/// What has been read for a group.
pub(super) enum Loaded {
    /// The first documents of an order, as many as a window has.
    Rows(Vec<Arc<Stored>>),
    /// The aggregate of all documents.
    State(AggregateState),
}

/// Reads what the group of a source keeps; nothing for one that keeps nothing.
pub(super) async fn load(basis: &Basis, source: &Source) -> Result<Option<Loaded>, EngineError> {
    match source {
        Source::Query { .. } | Source::Documents(_) => Ok(None),
        Source::Window { matcher, span, .. }
        | Source::Aggregate { matcher, span: Some(span), .. } => {
            let capacity = Window::capacity(*span);
            let rows = top(basis.view(), matcher, capacity, &Undo::new()).await?;
            Ok(Some(Loaded::Rows(rows)))
        }
        Source::Aggregate { matcher, span: None, aggregations } => {
            Ok(Some(Loaded::State(aggregate(basis, matcher, aggregations).await?)))
        }
    }
}

/// Reads a window as of `undo` undone.
pub(super) async fn read_window(
    basis: &Basis,
    matcher: &Matcher,
    span: Span,
    undo: &Undo,
) -> Result<Window, EngineError> {
    let rows = top(basis.view(), matcher, Window::capacity(span), undo).await?;
    Ok(Window::new(span, rows))
}

async fn aggregate(
    basis: &Basis,
    matcher: &Matcher,
    aggregations: &[Aggregation],
) -> Result<AggregateState, EngineError> {
    let mut state = AggregateState::new(aggregations);
    let mut rows = Rows::new(basis.view(), matcher, Wanted::all_in_any_order());
    if aggregations.iter().all(|it| it.kind.field().is_none()) {
        state.add_count(rows.count().await?);
        return Ok(state);
    }
    while let Some(rows) = rows.next().await? {
        rows.iter().for_each(|row| state.add(&row.document));
    }
    Ok(state)
}
