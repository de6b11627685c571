//! Streams of documents that are each in a query's order, as one: each document once.

use std::ops::ControlFlow;
use std::sync::Arc;

use tidemark_protocol::model::{Document, Matcher};

use super::CacheError;

/// Documents in a query's order; some of them may not be in its result.
pub(super) type Stream<'a> = Box<dyn Iterator<Item = Result<Arc<Document>, CacheError>> + 'a>;

/// Hands out the documents of all streams that are in the result, until `each` breaks.
pub(super) fn merge(
    matcher: &Matcher,
    mut streams: Vec<Stream<'_>>,
    each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
) -> Result<(), CacheError> {
    let next = |stream: &mut Stream<'_>| {
        stream.find(|it| it.as_ref().map_or(true, |document| matcher.matches(document))).transpose()
    };
    let mut heads: Vec<Option<Arc<Document>>> =
        streams.iter_mut().map(next).collect::<Result<_, _>>()?;
    loop {
        let least = heads.iter().flatten().min_by(|a, b| matcher.compare(a, b)).cloned();
        let Some(least) = least else { return Ok(()) };
        if each(least.clone()).is_break() {
            return Ok(());
        }
        for (head, stream) in heads.iter_mut().zip(&mut streams) {
            let is_least = head.as_ref().is_some_and(|head| matcher.compare(head, &least).is_eq());
            if is_least {
                *head = next(stream)?;
            }
        }
    }
}

/// A stream of documents that come in any order.
pub(super) fn sorted<'a>(matcher: &Matcher, mut documents: Vec<Arc<Document>>) -> Stream<'a> {
    documents.retain(|document| matcher.matches(document));
    documents.sort_by(|a, b| matcher.compare(a, b));
    Box::new(documents.into_iter().map(Ok))
}
