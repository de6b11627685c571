//! Answers queries from a snapshot and its indexes.
//!
//! [`conjunction`] writes the filter as an `or` of `and`s; [`fit`] tells what one index can do for one
//! of them, in terms of [`span`]s; [`planner`] chooses, which gives a [`plan`]; all of that is pure.
//! [`execute`] runs it: a [`stream`] for each conjunction in each collection ([`sites`]), which reads
//! an index through a [`feed`] or several by [`intersect`], merged in order. Every document found is
//! checked by the matcher. Driven by the one-shot reads and by the live groups; keeps nothing between
//! queries and writes nothing.

mod conjunction;
mod context;
mod count;
mod execute;
mod feed;
mod fit;
mod intersect;
mod nearest;
mod plan;
mod planner;
mod sites;
mod sort;
mod span;
mod stream;
mod top;

pub(super) use context::View;
pub(super) use execute::{Rows, Wanted};
pub(super) use nearest::nearest;
pub(super) use top::{Undo, top};
