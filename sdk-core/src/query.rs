//! Queries: built clause by clause, then asked once, listened to, explained or aggregated. States
//! requests and hands them to the client.

use std::fmt;

use tidemark_protocol::model::{
    AggregateQuery, Cursor, Direction, DistanceMeasure, FieldPath, Nearest, Operator, Order,
    Query as ModelQuery, Target, Value,
};
use tidemark_protocol::wire::server::Explanation;

use crate::aggregate::{Aggregate, AggregateReference};
use crate::client::Client;
use crate::engine::Source;
use crate::error::Error;
use crate::filter::Filter;
use crate::snapshot::{DocumentSnapshot, QuerySnapshot};
use crate::subscription::{ListenOptions, QueryListener};

/// A query over a collection or a collection group. What is wrong with it is told by
/// [`get`](Query::get) or by the listener.
///
/// # Pending writes
///
/// Results show this client's pending writes: a document that a pending write brings into the result,
/// moves or takes out is shown so at once. A query with a limit is filled up again when the server has
/// the write. Two clauses see less of them. With an [`offset`](Query::offset), which documents are left
/// out is the server's word: a document that only a pending write brings into the result is shown when
/// the server has it. The server's answer to [`find_nearest`](Query::find_nearest) is shown as it is. What
/// the cache answers shows pending writes in all cases.
#[derive(Clone)]
pub struct Query {
    client: Client,
    query: Result<ModelQuery, Error>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Query").field(&self.query).finish()
    }
}

impl Query {
    pub(crate) fn new(client: Client, query: ModelQuery) -> Query {
        Query { client, query: Ok(query) }
    }

    fn refine(mut self, refine: impl FnOnce(&mut ModelQuery) -> Result<(), Error>) -> Query {
        if let Ok(query) = &mut self.query
            && let Err(error) = refine(query)
        {
            self.query = Err(error);
        }
        self
    }

    /// Only documents whose field compares so with the value; filters add up. See [`Filter::field`].
    pub fn filter(self, field: &str, operator: Operator, value: impl Into<Value>) -> Query {
        self.matching(Filter::field(field, operator, value))
    }

    /// Only documents for which the filter holds; filters add up.
    pub fn matching(self, filter: Filter) -> Query {
        self.refine(|query| {
            let filter = filter.into_model()?;
            *query = std::mem::take(query).and(filter);
            Ok(())
        })
    }

    /// Orders by the field, after the orders given before; documents without it are left out.
    pub fn order_by(self, field: &str, direction: Direction) -> Query {
        self.refine(|query| {
            query.order_by.push(Order { field: FieldPath::parse(field)?, direction });
            Ok(())
        })
    }

    /// At most this many documents.
    pub fn limit(self, limit: u32) -> Query {
        self.refine(|query| {
            (query.limit, query.limit_to_last) = (Some(limit), false);
            Ok(())
        })
    }

    /// At most this many documents, the last of the result instead of the first; they still come in
    /// the order of the query, which must have one.
    pub fn limit_to_last(self, limit: u32) -> Query {
        self.refine(|query| {
            (query.limit, query.limit_to_last) = (Some(limit), true);
            Ok(())
        })
    }

    /// Without the first so many documents. The server reads them all the same: a cursor is cheaper.
    pub fn offset(self, offset: u32) -> Query {
        self.refine(|query| {
            query.offset = offset;
            Ok(())
        })
    }

    /// Only these fields of the documents; none of them gives documents without fields.
    pub fn select<F: AsRef<str>>(self, fields: impl IntoIterator<Item = F>) -> Query {
        self.refine(|query| {
            let fields = fields.into_iter().map(|field| FieldPath::parse(field.as_ref()));
            query.projection = Some(fields.collect::<Result<_, _>>()?);
            Ok(())
        })
    }

    /// Of the documents that match, those whose vectors in the field are nearest, the nearest first and
    /// at most so many. They can be asked for once, not listened to.
    pub fn find_nearest(
        self,
        field: &str,
        vector: impl Into<Vec<f64>>,
        measure: DistanceMeasure,
        limit: u32,
    ) -> Query {
        self.refine(|query| {
            query.nearest = Some(Nearest {
                field: FieldPath::parse(field)?,
                vector: vector.into(),
                measure,
                limit,
                threshold: None,
                distance_field: None,
            });
            Ok(())
        })
    }

    /// After [`find_nearest`](Self::find_nearest): none that is farther; for the dot product, none with
    /// less.
    pub fn distance_threshold(self, threshold: f64) -> Query {
        self.refine_nearest(|nearest| {
            nearest.threshold = Some(threshold);
            Ok(())
        })
    }

    /// After [`find_nearest`](Self::find_nearest): this field of each document found tells its distance.
    pub fn distance_field(self, field: &str) -> Query {
        self.refine_nearest(|nearest| {
            nearest.distance_field = Some(FieldPath::parse(field)?);
            Ok(())
        })
    }

    fn refine_nearest(self, refine: impl FnOnce(&mut Nearest) -> Result<(), Error>) -> Query {
        self.refine(|query| match &mut query.nearest {
            Some(nearest) => refine(nearest),
            None => {
                Err(Error::invalid("there is a distance only where the nearest are searched for"))
            }
        })
    }

    /// Begins at this position: values of the first orders.
    pub fn start_at<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Query {
        self.refine(|query| {
            query.start = cursor(values, true);
            Ok(())
        })
    }

    /// Begins after this position.
    pub fn start_after<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Query {
        self.refine(|query| {
            query.start = cursor(values, false);
            Ok(())
        })
    }

    /// Ends at this position.
    pub fn end_at<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Query {
        self.refine(|query| {
            query.end = cursor(values, false);
            Ok(())
        })
    }

    /// Ends before this position.
    pub fn end_before<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Query {
        self.refine(|query| {
            query.end = cursor(values, true);
            Ok(())
        })
    }

    /// Begins at this document's position, which is exact: it takes in all orders, those implied by
    /// inequalities and the document's path. Give filters and orders before. `invalid-argument` if the
    /// document does not exist or lacks a field that the query orders by.
    pub fn start_at_document(self, document: &DocumentSnapshot) -> Query {
        self.refine(|query| {
            query.start = Some(position(query, document, true)?);
            Ok(())
        })
    }

    /// Begins after this document; see [`start_at_document`](Self::start_at_document).
    pub fn start_after_document(self, document: &DocumentSnapshot) -> Query {
        self.refine(|query| {
            query.start = Some(position(query, document, false)?);
            Ok(())
        })
    }

    /// Ends at this document; see [`start_at_document`](Self::start_at_document).
    pub fn end_at_document(self, document: &DocumentSnapshot) -> Query {
        self.refine(|query| {
            query.end = Some(position(query, document, false)?);
            Ok(())
        })
    }

    /// Ends before this document; see [`start_at_document`](Self::start_at_document).
    pub fn end_before_document(self, document: &DocumentSnapshot) -> Query {
        self.refine(|query| {
            query.end = Some(position(query, document, true)?);
            Ok(())
        })
    }

    fn validated(&self) -> Result<ModelQuery, Error> {
        let query = self.query.clone()?;
        query.validate()?;
        Ok(query)
    }

    /// The result as the server has it now, with this client's pending writes on top; while there is no
    /// connection, as the cache has it. `unavailable` when the request's time is over without an answer.
    pub async fn get(&self) -> Result<QuerySnapshot, Error> {
        self.get_from(Source::Default).await
    }

    /// As [`get`](Self::get), from where the caller says.
    pub async fn get_from(&self, source: Source) -> Result<QuerySnapshot, Error> {
        Ok(self.client.run_query(self.validated()?, false, source).await?.0)
    }

    /// The result, and how the server came by it: which indexes it used, what it read, and the index
    /// that would help.
    pub async fn explain(&self) -> Result<(QuerySnapshot, Explanation), Error> {
        self.client.run_query(self.validated()?, true, Source::Server).await
    }

    /// The result now and after every change.
    pub fn listen(&self) -> QueryListener {
        self.listen_with(ListenOptions::default())
    }

    /// As [`listen`](Self::listen), with options.
    pub fn listen_with(&self, options: ListenOptions) -> QueryListener {
        let target = self.validated().and_then(|query| {
            listenable(&query)?;
            Ok(Target::Query(query))
        });
        QueryListener::new(self.client.listen(target, options))
    }

    /// Values computed over the documents of the result.
    pub fn aggregate(&self, aggregates: impl IntoIterator<Item = Aggregate>) -> AggregateReference {
        let aggregations: Result<Vec<_>, Error> =
            aggregates.into_iter().map(Aggregate::into_model).collect();
        let aggregate = self
            .query
            .clone()
            .and_then(|query| Ok(AggregateQuery { query, aggregations: aggregations? }));
        AggregateReference::new(self.client.clone(), aggregate)
    }

    /// How many documents there are in the result.
    pub fn count(&self) -> AggregateReference {
        self.aggregate([Aggregate::count()])
    }

    /// The sum of a field over the result; see [`Aggregate::sum`].
    pub fn sum(&self, field: &str) -> AggregateReference {
        self.aggregate([Aggregate::sum(field)])
    }

    /// The average of a field over the result; see [`Aggregate::average`].
    pub fn average(&self, field: &str) -> AggregateReference {
        self.aggregate([Aggregate::average(field)])
    }
}

/// A search for the nearest is computed once: no listener follows it.
pub(crate) fn listenable(query: &ModelQuery) -> Result<(), Error> {
    match query.nearest {
        Some(_) => Err(Error::invalid(
            "a search for the nearest vectors cannot be listened to; get it instead",
        )),
        None => Ok(()),
    }
}

fn cursor<V: Into<Value>>(values: impl IntoIterator<Item = V>, before: bool) -> Option<Cursor> {
    Some(Cursor { values: values.into_iter().map(Into::into).collect(), before })
}

/// The document's position in the query's full order, which becomes explicit.
fn position(
    query: &mut ModelQuery,
    document: &DocumentSnapshot,
    before: bool,
) -> Result<Cursor, Error> {
    let Some(document) = document.document() else {
        let path = document.path();
        return Err(Error::invalid(format!(
            "the document {path} does not exist: it has no position in a query"
        )));
    };
    let order = query.full_order();
    let value = |order: &Order| {
        if order.field.is_document_id() {
            return Ok(Value::Reference(document.path.clone()));
        }
        document.get(&order.field).cloned().ok_or_else(|| {
            let (path, field) = (&document.path, &order.field);
            Error::invalid(format!(
                "the document {path} has no field {field}, which the query orders by: it has no position"
            ))
        })
    };
    let values = order.iter().map(value).collect::<Result<_, _>>()?;
    query.order_by = order;
    Ok(Cursor { values, before })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use tidemark_protocol::model::{CollectionPath, Document, DocumentPath, Fields, Version};

    use super::*;
    use crate::snapshot::SnapshotMetadata;

    fn snapshot(fields: &[(&str, i64)]) -> DocumentSnapshot {
        let document = Document {
            path: DocumentPath::parse("rooms/a").unwrap(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::Integer(*value)))
                .collect::<Fields>(),
            create_version: Version(1),
            update_version: Version(1),
            merge: Default::default(),
        };
        DocumentSnapshot::existing(Arc::new(document), SnapshotMetadata::default())
    }

    fn rooms() -> ModelQuery {
        ModelQuery::collection(&CollectionPath::parse("rooms").unwrap())
    }

    fn field(name: &str) -> FieldPath {
        FieldPath::parse(name).unwrap()
    }

    #[test]
    fn a_document_is_a_position_in_every_order_explicit_or_not() {
        let mut query = rooms()
            .with_order(field("a"), Direction::Descending)
            .with_filter(field("z"), Operator::GreaterThan, 0)
            .with_filter(field("b"), Operator::NotEqual, 0);
        let document = snapshot(&[("a", 1), ("b", 2), ("z", 3)]);
        let cursor = position(&mut query, &document, true).unwrap();
        let names: Vec<String> =
            query.order_by.iter().map(|order| order.field.to_string()).collect();
        assert_eq!(names, ["a", "b", "z", "__name__"]);
        assert!(query.order_by.iter().all(|order| order.direction == Direction::Descending));
        let reference = Value::Reference(DocumentPath::parse("rooms/a").unwrap());
        let values = [Value::Integer(1), Value::Integer(2), Value::Integer(3), reference];
        assert_eq!((cursor.values.as_slice(), cursor.before), (values.as_slice(), true));
        assert!(query.with_start(cursor).validate().is_ok());
    }

    #[test]
    fn a_document_without_a_position_is_refused() {
        let path = DocumentPath::parse("rooms/z").unwrap();
        let missing = DocumentSnapshot::missing(path, SnapshotMetadata::default());
        let error = position(&mut rooms(), &missing, true).unwrap_err();
        assert!(error.message().contains("does not exist"), "{error}");
        let mut ordered = rooms().with_order(field("a"), Direction::Ascending);
        let error = position(&mut ordered, &snapshot(&[("b", 1)]), true).unwrap_err();
        assert!(error.message().contains("no field a"), "{error}");
    }
}
