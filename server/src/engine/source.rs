//! What a group of identical targets listens to, compiled from its target.

use bytes::Bytes;
use tidemark_protocol::model::{
    Aggregation, Document, DocumentPath, FieldPath, Matcher, Query, Target,
};
use tidemark_protocol::wire::codec;

use super::commit::Stored;
use super::error::EngineError;

/// What a group of identical targets listens to. The matchers are of the documents without limit,
/// offset and projection; where the last documents are asked for, in the reversed order.
#[derive(Debug)]
pub(super) enum Source {
    /// A query whose result every document is in or out of by itself.
    Query { matcher: Matcher, shape: Shape },
    /// A query for a part of an order.
    Window { matcher: Matcher, span: Span, shape: Shape },
    /// Values computed over the documents of a query, or over a part of their order.
    Aggregate { matcher: Matcher, span: Option<Span>, aggregations: Vec<Aggregation> },
    /// These documents, sorted by their path as text.
    Documents(Vec<DocumentPath>),
}

/// The part of an ordered result that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// How many documents come before it.
    pub(super) skip: usize,
    /// How many it has at most.
    pub(super) take: Option<usize>,
}

/// What is sent of a document.
#[derive(Debug)]
pub(super) struct Shape {
    /// None: all of it.
    projection: Option<Vec<FieldPath>>,
}

impl Span {
    fn of(query: &Query) -> Option<Span> {
        let take = query.limit.map(|limit| limit as usize);
        let skip = query.offset as usize;
        (skip > 0 || take.is_some()).then_some(Span { skip, take })
    }

    /// How many documents of the order are needed to know it.
    pub(super) fn end(self) -> usize {
        self.take.map_or(usize::MAX, |take| self.skip.saturating_add(take))
    }

    /// The part of the order's first documents.
    pub(super) fn within<T>(self, rows: &[T]) -> &[T] {
        let end = self.end().min(rows.len());
        &rows[self.skip.min(end)..end]
    }
}

impl Shape {
    fn of(query: &Query) -> Shape {
        Shape { projection: query.projection.clone() }
    }

    /// Whether stored documents are sent as they are.
    pub(super) fn is_whole(&self) -> bool {
        self.projection.is_none()
    }

    /// A document as it is sent.
    pub(super) fn encode(&self, stored: &Stored) -> Bytes {
        self.projected(&stored.document).unwrap_or_else(|| stored.bytes.clone())
    }

    /// Stored bytes as they are sent.
    pub(super) fn encode_bytes(&self, bytes: Bytes) -> Result<Bytes, EngineError> {
        if self.is_whole() {
            return Ok(bytes);
        }
        let document = codec::decode_document(&bytes).map_err(EngineError::corrupt)?;
        Ok(self.projected(&document).unwrap_or(bytes))
    }

    fn projected(&self, document: &Document) -> Option<Bytes> {
        let fields = self.projection.as_ref()?;
        Some(codec::encode_document(&document.projected(fields)))
    }
}

impl Source {
    pub(super) fn new(target: &Target) -> Source {
        match target {
            Target::Query(query) => {
                let (matcher, shape) = (matcher(query), Shape::of(query));
                match Span::of(query) {
                    Some(span) => Source::Window { matcher, span, shape },
                    None => Source::Query { matcher, shape },
                }
            }
            Target::Aggregate(aggregate) => {
                let query = aggregate.matched();
                Source::Aggregate {
                    matcher: matcher(&query),
                    span: Span::of(&query),
                    aggregations: aggregate.aggregations.clone(),
                }
            }
            Target::Documents(paths) => {
                let mut paths = paths.clone();
                paths.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                Source::Documents(paths)
            }
        }
    }

    /// The documents that it is about, unless they are named.
    pub(super) fn matcher(&self) -> Option<&Matcher> {
        match self {
            Source::Query { matcher, .. }
            | Source::Window { matcher, .. }
            | Source::Aggregate { matcher, .. } => Some(matcher),
            Source::Documents(_) => None,
        }
    }

    /// Whether a document of this path could be in the source, going by its path alone.
    pub(super) fn may_contain(&self, path: &str) -> bool {
        match self {
            Source::Query { matcher, .. }
            | Source::Window { matcher, .. }
            | Source::Aggregate { matcher, .. } => matcher.query().is_over(path),
            Source::Documents(paths) => paths.binary_search_by(|it| it.as_str().cmp(path)).is_ok(),
        }
    }
}

/// Compiles the query for all documents, those first that the span is counted from.
fn matcher(query: &Query) -> Matcher {
    Matcher::new(Query {
        offset: 0,
        limit: None,
        limit_to_last: false,
        projection: None,
        nearest: None,
        ..query.forward()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_part_of_the_rows_there_are() {
        let rows = [1, 2, 3, 4];
        let span = |skip, take| Span { skip, take };
        assert_eq!(span(1, Some(2)).within(&rows), [2, 3]);
        assert_eq!(span(3, Some(2)).within(&rows), [4]);
        assert_eq!(span(5, Some(2)).within(&rows), [0; 0]);
        assert_eq!(span(2, None).within(&rows), [3, 4]);
    }
}
