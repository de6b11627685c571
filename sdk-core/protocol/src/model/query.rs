//! Queries and targets.

use std::cmp::Ordering;

use super::aggregate::AggregateQuery;
use super::document::Document;
use super::error::ModelError;
use super::field_path::FieldPath;
use super::limits;
use super::matching::Matcher;
use super::nearest::Nearest;
use super::path::{CollectionPath, DocumentPath, is_below, validate_id};
use super::value::Value;

/// A query over a collection or, `all_descendants`, a collection group. Build with
/// [`Query::collection`] or [`Query::group`] and the `with_` methods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The document the collection is under, or for a group the document that its collections are
    /// somewhere under; none is the root.
    pub parent: Option<DocumentPath>,
    /// The collection's id.
    pub collection_id: String,
    /// Whether collections of this id at any depth are meant.
    pub all_descendants: bool,
    /// What documents must satisfy.
    pub filter: Option<Filter>,
    /// The explicit order; see [`Query::full_order`].
    pub order_by: Vec<Order>,
    /// How many documents of the result are left out before the first.
    pub offset: u32,
    /// How many documents at most.
    pub limit: Option<u32>,
    /// The last documents instead of the first; only with a limit. What is left out by an offset is
    /// then left out at the end.
    pub limit_to_last: bool,
    /// Where the result begins.
    pub start: Option<Cursor>,
    /// Where it ends.
    pub end: Option<Cursor>,
    /// The fields of the results; none asks for all, an empty list for none.
    pub projection: Option<Vec<FieldPath>>,
    /// Asks for the documents whose vectors are nearest, of all those that match.
    pub nearest: Option<Nearest>,
}

/// A condition on a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// On one field.
    Field(FieldFilter),
    /// All of them.
    And(Vec<Filter>),
    /// At least one of them.
    Or(Vec<Filter>),
}

/// A condition on one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldFilter {
    /// The field, or `__name__` (the operand is then a reference).
    pub field: FieldPath,
    /// How they compare.
    pub operator: Operator,
    /// The operand.
    pub value: Value,
}

/// How a field and an operand compare. No operator holds where the field is missing. Comparisons
/// hold only within one type. Null and NaN are equal to themselves, and neither below nor above
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operator {
    Equal,
    LessThan,
    LessThanOrEqual,
    GreaterThan,
    GreaterThanOrEqual,
    /// Not for null.
    NotEqual,
    /// Equal to an element of the operand, an array.
    In,
    /// Equal to no element of the operand, an array; not for null.
    NotIn,
    /// The field is an array with the operand in it.
    ArrayContains,
    /// The field is an array with at least one element of the operand, an array.
    ArrayContainsAny,
}

/// Ascending or descending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Direction {
    #[default]
    Ascending,
    Descending,
}

/// One clause of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Order {
    pub field: FieldPath,
    pub direction: Direction,
}

/// A position in the order, by a prefix of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    /// Values of the first clauses of the full order; a reference for `__name__`.
    pub values: Vec<Value>,
    /// As start: true begins at the position, false after it. As end: true ends before the
    /// position, false at it.
    pub before: bool,
}

/// What can be listened to.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The documents of a query.
    Query(Query),
    /// Values computed over the documents of a query.
    Aggregate(AggregateQuery),
    /// These documents, existing or not. Sorted, without duplicates.
    Documents(Vec<DocumentPath>),
}

impl Operator {
    /// Whether it orders the result by its field.
    pub fn is_inequality(self) -> bool {
        match self {
            Operator::Equal
            | Operator::In
            | Operator::ArrayContains
            | Operator::ArrayContainsAny => false,
            Operator::LessThan
            | Operator::LessThanOrEqual
            | Operator::GreaterThan
            | Operator::GreaterThanOrEqual
            | Operator::NotEqual
            | Operator::NotIn => true,
        }
    }
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn reversed(self) -> Direction {
        match self {
            Direction::Ascending => Direction::Descending,
            Direction::Descending => Direction::Ascending,
        }
    }
}

impl FieldFilter {
    /// Whether it is an inequality, which orders the result by its field. One that never holds, as
    /// nothing is below or above null and NaN, is none.
    pub fn orders(&self) -> bool {
        self.operator.is_inequality() && !self.never_holds()
    }

    /// Whether its operand is one that it holds for no value of.
    pub(super) fn never_holds(&self) -> bool {
        match self.operator {
            Operator::LessThan
            | Operator::LessThanOrEqual
            | Operator::GreaterThan
            | Operator::GreaterThanOrEqual
            | Operator::ArrayContains => self.value.equals_none(),
            Operator::Equal
            | Operator::NotEqual
            | Operator::In
            | Operator::NotIn
            | Operator::ArrayContainsAny => false,
        }
    }
}

impl Filter {
    /// The conditions on fields within, in order.
    pub fn field_filters(&self) -> Vec<&FieldFilter> {
        match self {
            Filter::Field(filter) => vec![filter],
            Filter::And(filters) | Filter::Or(filters) => {
                filters.iter().flat_map(Filter::field_filters).collect()
            }
        }
    }
}

impl Query {
    /// All documents of a collection.
    pub fn collection(path: &CollectionPath) -> Query {
        Query { parent: path.parent(), collection_id: path.id().to_owned(), ..Query::default() }
    }

    /// All documents of the collections of an id, wherever they are.
    pub fn group(collection_id: impl Into<String>) -> Query {
        Query { collection_id: collection_id.into(), all_descendants: true, ..Query::default() }
    }

    /// With one more condition, which must hold as well.
    #[must_use]
    pub fn with_filter(
        self,
        field: FieldPath,
        operator: Operator,
        value: impl Into<Value>,
    ) -> Query {
        self.and(Filter::Field(FieldFilter { field, operator, value: value.into() }))
    }

    /// With one more condition of any kind, which must hold as well.
    #[must_use]
    pub fn and(mut self, filter: Filter) -> Query {
        self.filter = Some(match self.filter.take() {
            None => filter,
            Some(Filter::And(mut filters)) => {
                filters.push(filter);
                Filter::And(filters)
            }
            Some(first @ (Filter::Field(_) | Filter::Or(_))) => Filter::And(vec![first, filter]),
        });
        self
    }

    /// With one more clause of its order.
    #[must_use]
    pub fn with_order(mut self, field: FieldPath, direction: Direction) -> Query {
        self.order_by.push(Order { field, direction });
        self
    }

    /// With at most so many documents.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Query {
        self.limit = Some(limit);
        self
    }

    /// With the last so many documents instead of the first.
    #[must_use]
    pub fn with_limit_to_last(mut self, limit: u32) -> Query {
        self.limit = Some(limit);
        self.limit_to_last = true;
        self
    }

    /// Without the first so many documents.
    #[must_use]
    pub fn with_offset(mut self, offset: u32) -> Query {
        self.offset = offset;
        self
    }

    /// With these fields only.
    #[must_use]
    pub fn with_projection(mut self, fields: Vec<FieldPath>) -> Query {
        self.projection = Some(fields);
        self
    }

    /// With a beginning.
    #[must_use]
    pub fn with_start(mut self, start: Cursor) -> Query {
        self.start = Some(start);
        self
    }

    /// With an end.
    #[must_use]
    pub fn with_end(mut self, end: Cursor) -> Query {
        self.end = Some(end);
        self
    }

    /// The collection queried; for a group, the one directly under its parent.
    ///
    /// # Panics
    /// If the query does not [`validate`](Query::validate).
    pub fn collection_path(&self) -> CollectionPath {
        self.checked_collection().expect("the query has been validated")
    }

    pub(super) fn checked_collection(&self) -> Result<CollectionPath, ModelError> {
        match &self.parent {
            Some(parent) => parent.collection(&self.collection_id),
            None => {
                validate_id(&self.collection_id)?;
                CollectionPath::parse(&self.collection_id)
            }
        }
    }

    /// The conditions on fields, in order, whether all of them must hold or not.
    pub fn field_filters(&self) -> impl Iterator<Item = &FieldFilter> {
        self.filter.iter().flat_map(Filter::field_filters)
    }

    /// The same documents from the other end: the order turned around, the cursors exchanged. Takes
    /// the last documents where this takes the first, and the other way around.
    #[must_use]
    pub fn reversed(&self) -> Query {
        let turn = |order: Order| Order { direction: order.direction.reversed(), ..order };
        let cross = |cursor: &Cursor| Cursor { before: !cursor.before, ..cursor.clone() };
        Query {
            order_by: self.full_order().into_iter().map(turn).collect(),
            start: self.end.as_ref().map(cross),
            end: self.start.as_ref().map(cross),
            limit_to_last: self.limit.is_some() && !self.limit_to_last,
            ..self.clone()
        }
    }

    /// The explicit order, then the fields of inequalities that it lacks (sorted, in the direction of
    /// the last explicit clause), then `__name__` in the direction of the last clause.
    pub fn full_order(&self) -> Vec<Order> {
        let mut order = self.order_by.clone();
        let direction = order.last().map_or(Direction::Ascending, |last| last.direction);
        let mut implied: Vec<&FieldPath> = self
            .field_filters()
            .filter(|filter| filter.orders() && !filter.field.is_document_id())
            .map(|filter| &filter.field)
            .collect();
        implied.sort();
        for field in implied.into_iter().chain([&FieldPath::document_id()]) {
            if !order.iter().any(|clause| clause.field == *field) {
                order.push(Order { field: field.clone(), direction });
            }
        }
        order
    }

    /// The query whose first documents are the result: for the last documents, the one from the other
    /// end.
    #[must_use]
    pub fn forward(&self) -> Query {
        if self.limit_to_last { self.reversed() } else { self.clone() }
    }

    /// Whether a document of this path is in the query's collections.
    pub fn is_over(&self, path: &str) -> bool {
        let Some((collection, _)) = path.rsplit_once('/') else { return false };
        let (above, id) = match collection.rsplit_once('/') {
            Some((above, id)) => (Some(above), id),
            None => (None, collection),
        };
        id == self.collection_id
            && match (&self.parent, above) {
                (None, None) => true,
                (None, Some(_)) => self.all_descendants,
                (Some(_), None) => false,
                (Some(parent), Some(above)) => {
                    above == parent.as_str()
                        || (self.all_descendants && is_below(above, parent.as_str()))
                }
            }
    }

    /// Whether the document is in the result, limit aside: collection, filters, the presence of
    /// the fields ordered by, cursors.
    pub fn matches(&self, document: &Document) -> bool {
        Matcher::new(self.clone()).matches(document)
    }

    /// The order of two documents in the result.
    pub fn compare(&self, a: &Document, b: &Document) -> Ordering {
        Matcher::new(self.clone()).compare(a, b)
    }
}

impl Target {
    /// Checks the query, or the number of documents.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Target::Query(query) => query.validate(),
            Target::Aggregate(aggregate) => aggregate.validate(),
            Target::Documents(paths) => {
                if paths.is_empty() || paths.len() > limits::DOCUMENTS_PER_REQUEST {
                    return Err(ModelError::invalid(format!(
                        "a target names {} documents; it must name 1 to {}",
                        paths.len(),
                        limits::DOCUMENTS_PER_REQUEST
                    )));
                }
                Ok(())
            }
        }
    }
}
