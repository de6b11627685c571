//! A query compiled for matching and sorting many documents: what commits, snapshots and local
//! views all decide by.

use std::cmp::Ordering;

use super::document::Document;
use super::field_path::FieldPath;
use super::query::{Cursor, Direction, FieldFilter, Filter, Operator, Order, Query};
use super::value::{TypeOrder, Value};

/// A query with its full order computed once.
#[derive(Clone, Debug)]
pub struct Matcher {
    query: Query,
    order: Vec<Order>,
}

impl Matcher {
    /// Compiles a query that [`validate`](Query::validate)s.
    pub fn new(query: Query) -> Matcher {
        Matcher { order: query.full_order(), query }
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The full order.
    pub fn order(&self) -> &[Order] {
        &self.order
    }

    /// Whether the document is in the result, limit aside.
    pub fn matches(&self, document: &Document) -> bool {
        self.query.is_over(document.path.as_str())
            && self.query.filter.as_ref().is_none_or(|filter| holds(document, filter))
            && self.order.iter().all(|order| has(document, &order.field))
            && self.query.start.as_ref().is_none_or(|start| self.is_after_start(document, start))
            && self.query.end.as_ref().is_none_or(|end| self.is_before_end(document, end))
    }

    /// The order of two documents in the result.
    pub fn compare(&self, a: &Document, b: &Document) -> Ordering {
        self.compare_by_first(self.order.len(), a, b)
    }

    /// Their order as far as the first clauses tell.
    pub fn compare_by_first(&self, clauses: usize, a: &Document, b: &Document) -> Ordering {
        self.order[..clauses]
            .iter()
            .map(|order| compare_by(order, a, b))
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    fn is_after_start(&self, document: &Document, start: &Cursor) -> bool {
        let ordering = self.compare_to_cursor(document, start);
        if start.before { ordering.is_ge() } else { ordering.is_gt() }
    }

    fn is_before_end(&self, document: &Document, end: &Cursor) -> bool {
        let ordering = self.compare_to_cursor(document, end);
        if end.before { ordering.is_lt() } else { ordering.is_le() }
    }

    /// Where the document is relative to the position: equal if it is within its prefix.
    fn compare_to_cursor(&self, document: &Document, cursor: &Cursor) -> Ordering {
        self.order
            .iter()
            .zip(&cursor.values)
            .map(|(order, value)| {
                directed(order.direction, compare_field(document, &order.field, value))
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

fn holds(document: &Document, filter: &Filter) -> bool {
    match filter {
        Filter::Field(filter) => satisfies(document, filter),
        Filter::And(filters) => filters.iter().all(|filter| holds(document, filter)),
        Filter::Or(filters) => filters.iter().any(|filter| holds(document, filter)),
    }
}

fn has(document: &Document, field: &FieldPath) -> bool {
    field.is_document_id() || document.get(field).is_some()
}

fn compare_by(order: &Order, a: &Document, b: &Document) -> Ordering {
    let ordering = if order.field.is_document_id() {
        a.path.cmp(&b.path)
    } else {
        match (a.get(&order.field), b.get(&order.field)) {
            (Some(a), Some(b)) => a.compare(b),
            // Not in the result; any consistent answer will do.
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    };
    directed(order.direction, ordering)
}

/// The document's field against an operand; a missing field is below everything.
fn compare_field(document: &Document, field: &FieldPath, operand: &Value) -> Ordering {
    if field.is_document_id() {
        return match operand {
            Value::Reference(path) => document.path.cmp(path),
            other => TypeOrder::Reference.cmp(&other.type_order()),
        };
    }
    document.get(field).map_or(Ordering::Less, |value| value.compare(operand))
}

fn directed(direction: Direction, ordering: Ordering) -> Ordering {
    match direction {
        Direction::Ascending => ordering,
        Direction::Descending => ordering.reverse(),
    }
}

fn satisfies(document: &Document, filter: &FieldFilter) -> bool {
    let (operator, operand) = (filter.operator, &filter.value);
    if filter.field.is_document_id() {
        return name_satisfies(document, operator, operand);
    }
    let Some(value) = document.get(&filter.field) else { return false };
    let equals = |other: &Value| value.compare(other).is_eq();
    match operator {
        Operator::Equal => equals(operand),
        Operator::NotEqual => !matches!(value, Value::Null) && !equals(operand),
        Operator::In => !value.equals_none() && elements(operand).iter().any(equals),
        Operator::NotIn => {
            let excludes = |it: &Value| matches!(it, Value::Null) || (!it.is_nan() && equals(it));
            !matches!(value, Value::Null) && !elements(operand).iter().any(excludes)
        }
        Operator::ArrayContains => contains(value, operand),
        Operator::ArrayContainsAny => elements(operand).iter().any(|it| contains(value, it)),
        Operator::LessThan
        | Operator::LessThanOrEqual
        | Operator::GreaterThan
        | Operator::GreaterThanOrEqual => {
            // NaN and null are equal to themselves and neither below nor above anything.
            value.type_order() == operand.type_order()
                && !value.equals_none()
                && !operand.equals_none()
                && is_beyond(operator, value.compare(operand))
        }
    }
}

fn name_satisfies(document: &Document, operator: Operator, operand: &Value) -> bool {
    let ordering = |operand: &Value| match operand {
        Value::Reference(path) => document.path.cmp(path),
        other => TypeOrder::Reference.cmp(&other.type_order()),
    };
    match operator {
        Operator::Equal => ordering(operand).is_eq(),
        Operator::NotEqual => ordering(operand).is_ne(),
        Operator::In => elements(operand).iter().any(|it| ordering(it).is_eq()),
        Operator::NotIn => !elements(operand).iter().any(|it| ordering(it).is_eq()),
        Operator::ArrayContains | Operator::ArrayContainsAny => false,
        Operator::LessThan
        | Operator::LessThanOrEqual
        | Operator::GreaterThan
        | Operator::GreaterThanOrEqual => is_beyond(operator, ordering(operand)),
    }
}

fn contains(array: &Value, operand: &Value) -> bool {
    !operand.equals_none() && elements(array).iter().any(|element| element.compare(operand).is_eq())
}

/// The elements of an array; any other value has none.
fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(elements) => elements,
        _ => &[],
    }
}

fn is_beyond(operator: Operator, ordering: Ordering) -> bool {
    match operator {
        Operator::LessThan => ordering.is_lt(),
        Operator::LessThanOrEqual => ordering.is_le(),
        Operator::GreaterThan => ordering.is_gt(),
        Operator::GreaterThanOrEqual => ordering.is_ge(),
        Operator::Equal
        | Operator::NotEqual
        | Operator::In
        | Operator::NotIn
        | Operator::ArrayContains
        | Operator::ArrayContainsAny => false,
    }
}
