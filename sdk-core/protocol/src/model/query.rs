//! Queries and targets.

use std::cmp::Ordering;

use super::document::Document;
use super::error::ModelError;
use super::field_path::FieldPath;
use super::limits;
use super::matching::Matcher;
use super::path::{CollectionPath, DocumentPath, validate_id};
use super::value::Value;

/// A query over a collection (or, `all_descendants`, a collection group: rejected as
/// `unimplemented` until its indexes exist). Build with [`Query::collection`] and the `with_` methods.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The document the collection is under; none at the root.
    pub parent: Option<DocumentPath>,
    /// The collection's id.
    pub collection_id: String,
    /// Whether collections of this id at any depth are meant.
    pub all_descendants: bool,
    /// What documents must satisfy.
    pub filter: Option<Filter>,
    /// The explicit order; see [`Query::full_order`].
    pub order_by: Vec<Order>,
    /// How many documents at most.
    pub limit: Option<u32>,
    /// Where the result begins.
    pub start: Option<Cursor>,
    /// Where it ends.
    pub end: Option<Cursor>,
}

/// A condition on a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// On one field.
    Field(FieldFilter),
    /// All of them.
    And(Vec<Filter>),
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

/// How a field and an operand compare. Comparisons hold only within one type. Null and NaN are
/// equal to themselves, and neither below nor above anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operator {
    Equal,
    LessThan,
    LessThanOrEqual,
    GreaterThan,
    GreaterThanOrEqual,
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
    /// These documents, existing or not. Sorted, without duplicates.
    Documents(Vec<DocumentPath>),
}

impl Operator {
    /// Whether it asks for an order and not just for equality.
    pub fn is_inequality(self) -> bool {
        match self {
            Operator::Equal => false,
            Operator::LessThan
            | Operator::LessThanOrEqual
            | Operator::GreaterThan
            | Operator::GreaterThanOrEqual => true,
        }
    }
}

impl Filter {
    /// The conditions on fields within, in order.
    pub fn field_filters(&self) -> Vec<&FieldFilter> {
        match self {
            Filter::Field(filter) => vec![filter],
            Filter::And(filters) => filters.iter().flat_map(Filter::field_filters).collect(),
        }
    }
}

impl Query {
    /// All documents of a collection.
    pub fn collection(path: &CollectionPath) -> Query {
        Query {
            parent: path.parent(),
            collection_id: path.id().to_owned(),
            all_descendants: false,
            filter: None,
            order_by: Vec::new(),
            limit: None,
            start: None,
            end: None,
        }
    }

    /// With one more condition, which must hold as well.
    #[must_use]
    pub fn with_filter(
        mut self,
        field: FieldPath,
        operator: Operator,
        value: impl Into<Value>,
    ) -> Query {
        let filter = Filter::Field(FieldFilter { field, operator, value: value.into() });
        self.filter = Some(match self.filter.take() {
            None => filter,
            Some(Filter::And(mut filters)) => {
                filters.push(filter);
                Filter::And(filters)
            }
            Some(first @ Filter::Field(_)) => Filter::And(vec![first, filter]),
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

    /// The collection queried.
    ///
    /// # Panics
    /// If the query does not [`validate`](Query::validate).
    pub fn collection_path(&self) -> CollectionPath {
        self.checked_collection().expect("the query has been validated")
    }

    fn checked_collection(&self) -> Result<CollectionPath, ModelError> {
        match &self.parent {
            Some(parent) => parent.collection(&self.collection_id),
            None => {
                validate_id(&self.collection_id)?;
                CollectionPath::parse(&self.collection_id)
            }
        }
    }

    /// The conditions on fields, all of which must hold.
    pub fn field_filters(&self) -> impl Iterator<Item = &FieldFilter> {
        self.filter.iter().flat_map(Filter::field_filters)
    }

    /// Checks the query by Firestore's rules; every clause, the limits, cursors' arity and types.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.all_descendants {
            return Err(ModelError::unimplemented("a query of a collection group"));
        }
        self.checked_collection()?;
        if let Some(filter) = &self.filter {
            validate_filter(filter, limits::FILTER_DEPTH)?;
        }
        check_count("filters", self.field_filters().count())?;
        check_count("orders", self.order_by.len())?;
        let mut of_name = self.field_filters().filter(|filter| filter.field.is_document_id());
        of_name.try_for_each(|filter| validate_name_operand(&filter.value))?;
        for (index, order) in self.order_by.iter().enumerate() {
            if self.order_by[..index].iter().any(|earlier| earlier.field == order.field) {
                return Err(ModelError::invalid(format!(
                    "the query orders by {} twice",
                    order.field
                )));
            }
        }
        if self.limit == Some(0) {
            return Err(ModelError::invalid("the limit of a query must be at least 1"));
        }
        let order = self.full_order();
        if order.iter().rev().skip(1).any(|order| order.field.is_document_id()) {
            return Err(ModelError::invalid(
                "nothing can be ordered after `__name__`, neither by an order nor by an inequality",
            ));
        }
        self.start.iter().chain(&self.end).try_for_each(|cursor| validate_cursor(cursor, &order))
    }

    /// The explicit order, then the fields of inequalities that it lacks (sorted, in the direction of
    /// the last explicit clause), then `__name__` in the direction of the last clause.
    pub fn full_order(&self) -> Vec<Order> {
        let mut order = self.order_by.clone();
        let direction = order.last().map_or(Direction::Ascending, |last| last.direction);
        let mut implied: Vec<&FieldPath> = self
            .field_filters()
            .filter(|filter| filter.operator.is_inequality() && !filter.field.is_document_id())
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

fn check_count(what: &str, count: usize) -> Result<(), ModelError> {
    if count > limits::QUERY_COMPONENTS {
        return Err(ModelError::invalid(format!(
            "the query has {count} {what}; the limit is {}",
            limits::QUERY_COMPONENTS
        )));
    }
    Ok(())
}

fn validate_filter(filter: &Filter, depth: usize) -> Result<(), ModelError> {
    match filter {
        Filter::Field(_) => Ok(()),
        Filter::And(_) if depth == 0 => Err(ModelError::invalid(format!(
            "filters are nested more than {} deep, which is the limit",
            limits::FILTER_DEPTH
        ))),
        Filter::And(filters) => {
            filters.iter().try_for_each(|filter| validate_filter(filter, depth - 1))
        }
    }
}

fn validate_cursor(cursor: &Cursor, order: &[Order]) -> Result<(), ModelError> {
    if cursor.values.len() > order.len() {
        return Err(ModelError::invalid(format!(
            "a cursor has {} values, but the query has {} orders",
            cursor.values.len(),
            order.len()
        )));
    }
    order
        .iter()
        .zip(&cursor.values)
        .filter(|(order, _)| order.field.is_document_id())
        .try_for_each(|(_, value)| validate_name_operand(value))
}

fn validate_name_operand(value: &Value) -> Result<(), ModelError> {
    match value {
        Value::Reference(_) => Ok(()),
        _ => Err(ModelError::invalid("`__name__` is compared with references only")),
    }
}
