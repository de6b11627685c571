//! Reading from the store what a group keeps of its result: when it is new, and when the slack of a
//! window is spent.

use std::sync::Arc;

use tidemark_protocol::model::{AggregateState, Aggregation, Matcher};

use super::commit::Stored;
use super::error::EngineError;
use super::index::IndexSet;
use super::keys::Keys;
use super::source::{Source, Span};
use super::view::{Scan, Undo, top};
use super::window::Window;
use crate::store::Snapshot;

/// A state of the database and the indexes that belong to it.
#[derive(Clone)]
pub(super) struct View {
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) indexes: Arc<IndexSet>,
    pub(super) keys: Keys,
}

/// What has been read for a group.
pub(super) enum Loaded {
    /// The first documents of an order, as many as a window has.
    Rows(Vec<Arc<Stored>>),
    /// The aggregate of all documents.
    State(AggregateState),
}

/// Reads what the group of a source keeps; nothing for one that keeps nothing.
pub(super) async fn load(view: &View, source: &Source) -> Result<Option<Loaded>, EngineError> {
    match source {
        Source::Query { .. } | Source::Documents(_) => Ok(None),
        Source::Window { matcher, span, .. }
        | Source::Aggregate { matcher, span: Some(span), .. } => {
            let capacity = Window::capacity(*span);
            let rows = first_rows(view, matcher, capacity, &Undo::new()).await?;
            Ok(Some(Loaded::Rows(rows)))
        }
        Source::Aggregate { matcher, span: None, aggregations } => {
            Ok(Some(Loaded::State(aggregate(view, matcher, aggregations).await?)))
        }
    }
}

/// Reads a window as of `undo` undone.
pub(super) async fn read_window(
    view: &View,
    matcher: &Matcher,
    span: Span,
    undo: &Undo,
) -> Result<Window, EngineError> {
    let rows = first_rows(view, matcher, Window::capacity(span), undo).await?;
    Ok(Window::new(span, rows))
}

/// The first documents of an order, as of `undo` undone.
pub(super) async fn first_rows(
    view: &View,
    matcher: &Matcher,
    take: usize,
    undo: &Undo,
) -> Result<Vec<Arc<Stored>>, EngineError> {
    top(&*view.snapshot, view.keys, matcher, take, undo).await
}

async fn aggregate(
    view: &View,
    matcher: &Matcher,
    aggregations: &[Aggregation],
) -> Result<AggregateState, EngineError> {
    let mut state = AggregateState::new(aggregations);
    let mut scan = Scan::new(&*view.snapshot, view.keys, matcher);
    while let Some(rows) = scan.next_bytes().await? {
        for bytes in rows {
            state.add(&Stored::decode(bytes)?.document);
        }
    }
    Ok(state)
}
