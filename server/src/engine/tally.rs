//! The values of a live aggregate, kept current by the documents that enter and leave. Pure; its
//! group drives it.

use std::sync::Arc;

use tidemark_protocol::model::{AggregateState, Aggregation, Matcher, Value};

use super::commit::{Change, Stored};
use super::window::{Moves, Window};

/// An aggregate as of one version.
#[derive(Debug)]
pub(super) struct Tally {
    state: AggregateState,
    /// The documents, if the aggregate is over a part of an order.
    window: Option<Window>,
    /// The values as told last.
    told: Vec<Value>,
}

impl Tally {
    /// Of all documents of a query.
    pub(super) fn of_state(state: AggregateState) -> Tally {
        let told = state.values();
        Tally { state, window: None, told }
    }

    /// Of a part of the order.
    pub(super) fn of_window(aggregations: &[Aggregation], window: Window) -> Tally {
        let mut state = AggregateState::new(aggregations);
        window.visible().iter().for_each(|row| state.add(&row.document));
        Tally { told: state.values(), state, window: Some(window) }
    }

    /// The values as of the last commit.
    pub(super) fn values(&self) -> &[Value] {
        &self.told
    }

    /// The window, if there is one that has to be filled again.
    pub(super) fn needs_refill(&self) -> bool {
        self.window.as_ref().is_some_and(Window::needs_refill)
    }

    /// Brings the tally past a change. What happens to the documents of a window is noted and has
    /// to be [`settle`](Tally::settle)d.
    pub(super) fn apply(&mut self, matcher: &Matcher, change: &Change, moves: &mut Moves) {
        if let Some(window) = &mut self.window {
            return window.apply(matcher, change, moves);
        }
        let matching = |stored: &Option<Arc<Stored>>| {
            stored.as_ref().filter(|it| matcher.matches(&it.document)).cloned()
        };
        if let Some(before) = matching(&change.before) {
            self.state.remove(&before.document);
        }
        if let Some(after) = matching(&change.after) {
            self.state.add(&after.document);
        }
    }

    /// Fills the window again.
    pub(super) fn replace(&mut self, window: Window, moves: &mut Moves) {
        if let Some(former) = &mut self.window {
            former.replace(window, moves);
        }
    }

    /// Takes the moves of a window into account. The values, if they are others than those told.
    pub(super) fn settle(&mut self, moves: Moves) -> Option<Vec<Value>> {
        for it in moves.changed() {
            if let Some(before) = &it.before {
                self.state.remove(&before.document);
            }
            if let Some(after) = &it.after {
                self.state.add(&after.document);
            }
        }
        let values = self.state.values();
        if values == self.told {
            return None;
        }
        self.told.clone_from(&values);
        Some(values)
    }
}
