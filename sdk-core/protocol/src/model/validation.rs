//! What makes a query valid: Firestore's limits and conditions. The answers of its emulator are the
//! tests. Driven by whoever takes a query in; nothing here looks at documents.

use super::aggregate::AggregateQuery;
use super::disjunctions::Terms;
use super::error::ModelError;
use super::field_path::{FieldPath, validate_field_name};
use super::limits;
use super::path::validate_id;
use super::query::{Cursor, FieldFilter, Filter, Operator, Order, Query};
use super::size::validate_dimensions;
use super::value::Value;

impl Query {
    /// Checks the query by Firestore's rules; every clause, the limits, cursors' arity and types.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.all_descendants {
            validate_id(&self.collection_id)?;
        } else {
            self.checked_collection()?;
        }
        self.validate_filters()?;
        self.validate_order()?;
        self.validate_limits()?;
        self.projection.iter().flatten().try_for_each(validate_path)?;
        let order = self.full_order();
        let mut cursors = self.start.iter().chain(&self.end);
        cursors.try_for_each(|cursor| validate_cursor(cursor, &order))?;
        self.validate_nearest()
    }

    fn validate_filters(&self) -> Result<(), ModelError> {
        let Some(filter) = &self.filter else { return self.check_components(0) };
        validate_depth(filter, limits::FILTER_DEPTH)?;
        self.field_filters().try_for_each(validate_condition)?;
        self.validate_negations(filter)?;
        let terms = Terms::of(filter)?;
        self.check_components(terms.count())?;
        terms.validate(filter)?;
        self.validate_inequalities()
    }

    /// A parent counts as a filter.
    fn check_components(&self, conditions: usize) -> Result<(), ModelError> {
        let parent = usize::from(self.parent.is_some() && !self.all_descendants);
        let count = conditions + self.order_by.len() + parent;
        if count > limits::QUERY_COMPONENTS {
            return Err(ModelError::invalid(format!(
                "the query has {count} filters and orders, its parent among them; the limit is {}",
                limits::QUERY_COMPONENTS
            )));
        }
        Ok(())
    }

    fn validate_negations(&self, filter: &Filter) -> Result<(), ModelError> {
        let count = |operators: &[Operator]| {
            self.field_filters().filter(|it| operators.contains(&it.operator)).count()
        };
        if count(&[Operator::NotEqual, Operator::NotIn]) > 1 {
            return Err(ModelError::invalid("a query may have one `!=` or `not-in`, not more"));
        }
        let has_alternatives =
            has_or(filter) || count(&[Operator::In, Operator::ArrayContainsAny]) > 0;
        if has_alternatives && count(&[Operator::NotIn]) > 0 {
            return Err(ModelError::invalid(
                "`not-in` cannot be in one query with `in`, `array-contains-any` or `or`",
            ));
        }
        Ok(())
    }

    fn validate_inequalities(&self) -> Result<(), ModelError> {
        let mut fields: Vec<&FieldPath> = self
            .field_filters()
            .filter(|filter| filter.orders())
            .map(|filter| &filter.field)
            .collect();
        fields.sort();
        fields.dedup();
        if fields.len() > limits::INEQUALITY_FIELDS {
            return Err(ModelError::invalid(format!(
                "the query has inequalities on {} fields; the limit is {}",
                fields.len(),
                limits::INEQUALITY_FIELDS
            )));
        }
        let names_documents = self
            .field_filters()
            .any(|filter| filter.field.is_document_id() && !filter.operator.is_inequality());
        if names_documents && !fields.is_empty() && !fields.iter().any(|it| it.is_document_id()) {
            return Err(ModelError::invalid(
                "`__name__` cannot be compared by `==` or `in` beside an inequality on another field",
            ));
        }
        Ok(())
    }

    fn validate_order(&self) -> Result<(), ModelError> {
        for (index, order) in self.order_by.iter().enumerate() {
            validate_path(&order.field)?;
            if self.order_by[..index].iter().any(|earlier| earlier.field == order.field) {
                return Err(ModelError::invalid(format!(
                    "the query orders by {} twice",
                    order.field
                )));
            }
        }
        if self.full_order().iter().rev().skip(1).any(|order| order.field.is_document_id()) {
            return Err(ModelError::invalid(
                "nothing can be ordered after `__name__`, neither by an order nor by an inequality",
            ));
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), ModelError> {
        if self.limit == Some(0) {
            return Err(ModelError::invalid("the limit of a query must be at least 1"));
        }
        if self.limit_to_last && self.limit.is_none() {
            return Err(ModelError::invalid("the last documents are asked for without a limit"));
        }
        if self.limit_to_last && self.order_by.is_empty() {
            return Err(ModelError::invalid(
                "the last documents are asked for without an order; order by a field",
            ));
        }
        Ok(())
    }

    fn validate_nearest(&self) -> Result<(), ModelError> {
        let Some(nearest) = &self.nearest else { return Ok(()) };
        nearest.validate()?;
        let clause = if self.limit.is_some() {
            "a limit of its own"
        } else if self.offset > 0 {
            "an offset"
        } else if self.start.is_some() || self.end.is_some() {
            "a cursor"
        } else {
            return Ok(());
        };
        Err(ModelError::invalid(format!("a search for the nearest cannot have {clause}")))
    }
}

impl AggregateQuery {
    /// Checks the query and the aggregations.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.query.validate()?;
        let count = self.aggregations.len();
        if count == 0 || count > limits::AGGREGATIONS {
            return Err(ModelError::invalid(format!(
                "the query has {count} aggregations; it must have 1 to {}",
                limits::AGGREGATIONS
            )));
        }
        for (at, aggregation) in self.aggregations.iter().enumerate() {
            validate_field_name(&aggregation.alias)?;
            if self.aggregations[..at].iter().any(|earlier| earlier.alias == aggregation.alias) {
                return Err(ModelError::invalid(format!(
                    "two aggregations are called `{}`",
                    aggregation.alias
                )));
            }
            aggregation.kind.field().map_or(Ok(()), |field| self.validate_aggregated(field))?;
        }
        Ok(())
    }

    fn validate_aggregated(&self, field: &FieldPath) -> Result<(), ModelError> {
        validate_path(field)?;
        let problem = if field.is_document_id() {
            "names are no numbers"
        } else if self.query.projection.is_some() {
            "the query has a projection"
        } else if self.concerns_names() && !self.is_ordered_by(field) {
            // Aggregated fields are ordered by, and nothing can be ordered after the name.
            "the query orders or filters by `__name__`; order by the field before"
        } else {
            return Ok(());
        };
        Err(ModelError::invalid(format!("{field} cannot be aggregated: {problem}")))
    }

    fn concerns_names(&self) -> bool {
        let orders = self.query.order_by.iter().map(|order| &order.field);
        let filters = self.query.field_filters().map(|filter| &filter.field);
        orders.chain(filters).any(FieldPath::is_document_id)
    }

    fn is_ordered_by(&self, field: &FieldPath) -> bool {
        self.query.full_order().iter().any(|order| order.field == *field)
    }
}

fn validate_depth(filter: &Filter, depth: usize) -> Result<(), ModelError> {
    match filter {
        Filter::Field(_) => Ok(()),
        Filter::And(_) | Filter::Or(_) if depth == 0 => Err(ModelError::invalid(format!(
            "filters are nested more than {} deep, which is the limit",
            limits::FILTER_DEPTH
        ))),
        Filter::Or(filters) if filters.is_empty() => {
            Err(ModelError::invalid("an `or` has at least one filter"))
        }
        Filter::And(filters) | Filter::Or(filters) => {
            filters.iter().try_for_each(|filter| validate_depth(filter, depth - 1))
        }
    }
}

fn has_or(filter: &Filter) -> bool {
    match filter {
        Filter::Field(_) => false,
        Filter::And(filters) => filters.iter().any(has_or),
        Filter::Or(_) => true,
    }
}

/// Checks the operand of one condition.
fn validate_condition(filter: &FieldFilter) -> Result<(), ModelError> {
    validate_path(&filter.field)?;
    let limit = match filter.operator {
        Operator::In | Operator::ArrayContainsAny => limits::DISJUNCTIONS,
        Operator::NotIn => limits::NOT_IN_VALUES,
        Operator::ArrayContains if filter.field.is_document_id() => return Err(no_array()),
        Operator::Equal
        | Operator::NotEqual
        | Operator::LessThan
        | Operator::LessThanOrEqual
        | Operator::GreaterThan
        | Operator::GreaterThanOrEqual
        | Operator::ArrayContains => return validate_operand(&filter.field, &filter.value),
    };
    let name = match filter.operator {
        Operator::ArrayContainsAny if filter.field.is_document_id() => return Err(no_array()),
        Operator::NotIn => "not-in",
        Operator::ArrayContainsAny => "array-contains-any",
        _ => "in",
    };
    let Value::Array(values) = &filter.value else {
        return Err(ModelError::invalid(format!("the operand of `{name}` must be an array")));
    };
    if values.is_empty() || values.len() > limit {
        return Err(ModelError::invalid(format!(
            "`{name}` has {} values; it must have 1 to {limit}",
            values.len()
        )));
    }
    values.iter().try_for_each(|value| validate_operand(&filter.field, value))
}

fn no_array() -> ModelError {
    ModelError::invalid("`__name__` is no array")
}

fn validate_operand(field: &FieldPath, value: &Value) -> Result<(), ModelError> {
    if field.is_document_id() {
        return validate_name_operand(value);
    }
    validate_shape(value)?;
    let size = value.size();
    if size > limits::INDEXED_BYTES {
        return Err(ModelError::invalid(format!(
            "a value that {field} is compared with has {size} bytes; the limit is {}",
            limits::INDEXED_BYTES
        )));
    }
    Ok(())
}

/// Checks a value that documents are compared with: it need not be one that a document may hold, but
/// vectors have dimensions, and the names that nothing may have are refused.
fn validate_shape(value: &Value) -> Result<(), ModelError> {
    match value {
        Value::Array(values) => values.iter().try_for_each(validate_shape),
        Value::Map(fields) => fields.iter().try_for_each(|(name, value)| {
            if !name.is_empty() && name != "__type__" {
                validate_field_name(name)?;
            }
            validate_shape(value)
        }),
        Value::Vector(values) => validate_dimensions(values.len()),
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Reference(_)
        | Value::GeoPoint(_) => Ok(()),
    }
}

fn validate_path(path: &FieldPath) -> Result<(), ModelError> {
    if path.segments().len() > limits::DEPTH {
        return Err(ModelError::invalid(format!(
            "the field path {path} has {} segments; the limit in a query is {}",
            path.segments().len(),
            limits::DEPTH
        )));
    }
    // As a document's path is counted: each segment and a byte.
    let size: usize = path.segments().iter().map(|segment| segment.len() + 1).sum();
    if size > limits::ID_BYTES {
        return Err(ModelError::invalid(format!(
            "a field path has {size} bytes; the limit in a query is {}",
            limits::ID_BYTES
        )));
    }
    Ok(())
}

fn validate_cursor(cursor: &Cursor, order: &[Order]) -> Result<(), ModelError> {
    if cursor.values.len() > order.len() {
        return Err(ModelError::invalid(format!(
            "a cursor has {} values, but the query has {} orders",
            cursor.values.len(),
            order.len()
        )));
    }
    order.iter().zip(&cursor.values).try_for_each(|(order, value)| {
        if order.field.is_document_id() {
            validate_name_operand(value)
        } else {
            validate_shape(value)
        }
    })
}

fn validate_name_operand(value: &Value) -> Result<(), ModelError> {
    match value {
        Value::Reference(_) => Ok(()),
        _ => Err(ModelError::invalid("`__name__` is compared with references only")),
    }
}
