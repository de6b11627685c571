//! Queries answered from documents at hand, without indexes: what a client does with its cache, and
//! what every faster way is tested against.

use super::aggregate::{AggregateQuery, AggregateState};
use super::document::{Document, set_field};
use super::matching::Matcher;
use super::query::Query;
use super::value::Value;

/// The documents that a query finds among these, in its order. Its projection is not applied: see
/// [`Query::result`]. Of a query that [`validate`](Query::validate)s.
pub fn evaluate<'a>(
    query: &Query,
    documents: impl IntoIterator<Item = &'a Document>,
) -> Vec<&'a Document> {
    let matcher = Matcher::new(query.forward());
    let mut found: Vec<&Document> =
        documents.into_iter().filter(|document| matcher.matches(document)).collect();
    found.sort_by(|a, b| matcher.compare(a, b));
    if let Some(nearest) = &query.nearest {
        return nearest.select(found);
    }
    let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut found: Vec<&Document> =
        found.into_iter().skip(query.offset as usize).take(limit).collect();
    if query.limit_to_last {
        found.reverse();
    }
    found
}

/// The values of aggregations over these documents, of a query that
/// [`validate`](AggregateQuery::validate)s.
pub fn aggregate<'a>(
    query: &AggregateQuery,
    documents: impl IntoIterator<Item = &'a Document>,
) -> Vec<Value> {
    let mut state = AggregateState::new(&query.aggregations);
    for document in evaluate(&query.matched(), documents) {
        state.add(document);
    }
    state.values()
}

impl Query {
    /// A document as the query gives it: with the distance, if it asks for one, and the fields of
    /// its projection only.
    pub fn result(&self, document: &Document) -> Document {
        let mut result = document.clone();
        if let Some((field, distance)) = self.nearest.as_ref().and_then(|nearest| {
            Some((nearest.distance_field.as_ref()?, nearest.distance(document)?))
        }) {
            set_field(&mut result.fields, field.segments(), Value::Double(distance));
        }
        match &self.projection {
            Some(fields) => result.projected(fields),
            None => result,
        }
    }
}
