//! Answering a query from a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Cursor, Direction, DocumentPath, Matcher, Operator, Value};
use tidemark_protocol::wire::codec;

use super::commit::Stored;
use super::error::EngineError;
use super::keys::Keys;
use crate::store::{KeyRange, ScanDirection, Snapshot};

/// Documents read from the store at a time.
const SCAN_ROWS: usize = 1_024;

/// Documents as they were at an earlier version, by path: what is needed to answer a query as of
/// then from a later snapshot.
pub(super) type Undo = HashMap<DocumentPath, Option<Arc<Stored>>>;

/// The documents of a query in the order of the store, limit aside.
pub(super) struct Scan<'a> {
    snapshot: &'a dyn Snapshot,
    matcher: &'a Matcher,
    range: KeyRange,
    direction: ScanDirection,
    /// Every document of the range is in the result: no need to decode it.
    everything: bool,
    done: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(snapshot: &'a dyn Snapshot, keys: Keys, matcher: &'a Matcher) -> Scan<'a> {
        let query = matcher.query();
        let everything = query.filter.is_none()
            && query.start.is_none()
            && query.end.is_none()
            && natural_order(matcher).is_some();
        Scan {
            snapshot,
            matcher,
            range: name_range(keys, matcher),
            direction: natural_order(matcher).unwrap_or(ScanDirection::Forward),
            everything,
            done: false,
        }
    }

    async fn rows(&mut self) -> Result<Option<Vec<Bytes>>, EngineError> {
        if self.done {
            return Ok(None);
        }
        let range = KeyRange { start: self.range.start.clone(), end: self.range.end.clone() };
        let rows = self.snapshot.scan(range, self.direction, SCAN_ROWS).await?;
        self.done = rows.len() < SCAN_ROWS;
        if let Some((last, _)) = rows.last() {
            match self.direction {
                ScanDirection::Forward => {
                    self.range.start.clone_from(last);
                    self.range.start.push(0);
                }
                ScanDirection::Backward => self.range.end.clone_from(last),
            }
        }
        Ok(Some(rows.into_iter().map(|(_, value)| value).collect()))
    }

    /// The next documents as they are stored; none at the end.
    pub(super) async fn next_bytes(&mut self) -> Result<Option<Vec<Bytes>>, EngineError> {
        let Some(rows) = self.rows().await? else { return Ok(None) };
        if self.everything {
            return Ok(Some(rows));
        }
        let mut matching = Vec::new();
        for bytes in rows {
            let document = codec::decode_document(&bytes).map_err(EngineError::corrupt)?;
            if self.matcher.matches(&document) {
                matching.push(bytes);
            }
        }
        Ok(Some(matching))
    }

    /// The next documents, decoded; none at the end.
    async fn next(&mut self) -> Result<Option<Vec<Arc<Stored>>>, EngineError> {
        let Some(rows) = self.rows().await? else { return Ok(None) };
        let mut matching = Vec::new();
        for bytes in rows {
            let stored = Stored::decode(bytes)?;
            if self.everything || self.matcher.matches(&stored.document) {
                matching.push(stored);
            }
        }
        Ok(Some(matching))
    }
}

/// The direction in which the store has the order of the query, if it does.
fn natural_order(matcher: &Matcher) -> Option<ScanDirection> {
    match matcher.order() {
        [order] if order.field.is_document_id() => Some(match order.direction {
            Direction::Ascending => ScanDirection::Forward,
            Direction::Descending => ScanDirection::Backward,
        }),
        _ => None,
    }
}

/// The part of the collection that filters and cursors on the document's name leave.
fn name_range(keys: Keys, matcher: &Matcher) -> KeyRange {
    let query = matcher.query();
    let collection = query.collection_path();
    let mut range = keys.collection(&collection);
    let mut narrow = |bound: Bound, value: &Value, inclusive: bool| {
        let Value::Reference(path) = value else { return };
        // The keys of other collections are in another order.
        if !collection.contains(path) {
            return;
        }
        let mut key = keys.document(path);
        match bound {
            Bound::Start => {
                if !inclusive {
                    key.push(0);
                }
                range.start = key.max(std::mem::take(&mut range.start));
            }
            Bound::End => {
                if inclusive {
                    key.push(0);
                }
                range.end = key.min(std::mem::take(&mut range.end));
            }
        }
    };
    for filter in query.field_filters().filter(|it| it.field.is_document_id()) {
        match filter.operator {
            Operator::Equal => {
                narrow(Bound::Start, &filter.value, true);
                narrow(Bound::End, &filter.value, true);
            }
            Operator::LessThan => narrow(Bound::End, &filter.value, false),
            Operator::LessThanOrEqual => narrow(Bound::End, &filter.value, true),
            Operator::GreaterThan => narrow(Bound::Start, &filter.value, false),
            Operator::GreaterThanOrEqual => narrow(Bound::Start, &filter.value, true),
            Operator::NotEqual
            | Operator::In
            | Operator::NotIn
            | Operator::ArrayContains
            | Operator::ArrayContainsAny => {}
        }
    }
    let (first, last) = match natural_order(matcher) {
        Some(ScanDirection::Forward) => (Bound::Start, Bound::End),
        Some(ScanDirection::Backward) => (Bound::End, Bound::Start),
        None => return range,
    };
    if let Some(Cursor { values, before }) = &query.start
        && let [value] = &values[..]
    {
        narrow(first, value, *before);
    }
    if let Some(Cursor { values, before }) = &query.end
        && let [value] = &values[..]
    {
        narrow(last, value, !before);
    }
    range
}

#[derive(Clone, Copy)]
enum Bound {
    Start,
    End,
}

/// The first `take` documents of a query in its order, as they were with `undo` undone.
pub(super) async fn top(
    snapshot: &dyn Snapshot,
    keys: Keys,
    matcher: &Matcher,
    take: usize,
    undo: &Undo,
) -> Result<Vec<Arc<Stored>>, EngineError> {
    let sorted = natural_order(matcher).is_some();
    let mut scan = Scan::new(snapshot, keys, matcher);
    let mut rows: Vec<Arc<Stored>> = Vec::new();
    while let Some(chunk) = scan.next().await? {
        rows.extend(chunk.into_iter().filter(|row| !undo.contains_key(&row.document.path)));
        if sorted && rows.len() >= take {
            break;
        }
        // What cannot be among the first is let go, so that a small limit needs little memory.
        if rows.len() > take.saturating_mul(2).saturating_add(SCAN_ROWS) {
            sort_and_cut(&mut rows, matcher, take);
        }
    }
    let undone = undo.values().flatten();
    rows.extend(undone.filter(|row| matcher.matches(&row.document)).cloned());
    sort_and_cut(&mut rows, matcher, take);
    Ok(rows)
}

fn sort_and_cut(rows: &mut Vec<Arc<Stored>>, matcher: &Matcher, take: usize) {
    rows.sort_by(|a, b| matcher.compare(&a.document, &b.document));
    rows.truncate(take);
}
