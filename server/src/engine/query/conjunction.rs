//! A filter as an `or` of `and`s, and each of the `and`s sorted by what an index can do with it. Pure.

use tidemark_protocol::model::{
    DocumentPath, FieldFilter, FieldPath, Filter, Matcher, Operator, Query, Value,
};

/// A field with one value, or an array with one element.
#[derive(Clone, Debug)]
pub(super) struct Equality {
    pub(super) field: FieldPath,
    pub(super) value: Value,
    /// The value is an element of the field.
    pub(super) contains: bool,
}

/// Conditions that all hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Conjunction {
    /// All of them.
    filters: Vec<FieldFilter>,
    pub(super) equal: Vec<Equality>,
    /// On other fields than `__name__`.
    pub(super) ranges: Vec<FieldFilter>,
    /// On `__name__`.
    pub(super) names: Vec<FieldFilter>,
}

impl Conjunction {
    fn new(filters: Vec<FieldFilter>) -> Conjunction {
        let mut out = Conjunction { filters: filters.clone(), ..Conjunction::default() };
        for filter in filters {
            let FieldFilter { field, operator, value } = filter;
            match operator {
                _ if field.is_document_id() => {
                    out.names.push(FieldFilter { field, operator, value });
                }
                Operator::Equal => out.equal.push(Equality { field, value, contains: false }),
                Operator::ArrayContains => {
                    out.equal.push(Equality { field, value, contains: true });
                }
                Operator::LessThan
                | Operator::LessThanOrEqual
                | Operator::GreaterThan
                | Operator::GreaterThanOrEqual
                | Operator::NotEqual
                | Operator::In
                | Operator::NotIn
                | Operator::ArrayContainsAny => {
                    out.ranges.push(FieldFilter { field, operator, value });
                }
            }
        }
        out
    }

    /// Decides about the documents of a query by this conjunction alone.
    pub(super) fn matcher(&self, whole: &Matcher) -> Matcher {
        let filters = self.filters.iter().cloned().map(Filter::Field).collect();
        Matcher::new(Query {
            filter: Some(Filter::And(filters)),
            // All of it, so that it does not depend on the filter.
            order_by: whole.order().to_vec(),
            ..whole.query().clone()
        })
    }

    /// The only document that can satisfy it, if that can be told.
    pub(super) fn point(&self) -> Option<&DocumentPath> {
        self.names.iter().find_map(|filter| match (filter.operator, &filter.value) {
            (Operator::Equal, Value::Reference(path)) => Some(path),
            _ => None,
        })
    }

    /// The one value that a field has in all documents that satisfy it.
    pub(super) fn fixed(&self, field: &FieldPath) -> Option<&Value> {
        let equality = self.equal.iter().find(|it| !it.contains && it.field == *field);
        equality.map(|equality| &equality.value)
    }

    /// Whether documents without the field cannot satisfy it.
    pub(super) fn requires(&self, field: &FieldPath) -> bool {
        self.equal.iter().any(|equality| equality.field == *field)
            || self.ranges.iter().any(|filter| filter.field == *field)
    }
}

/// The conjunctions of which at least one holds; none at all if nothing can satisfy the filter.
pub(super) fn disjunctions(filter: Option<&Filter>) -> Vec<Conjunction> {
    let Some(filter) = filter else { return vec![Conjunction::default()] };
    // More than a query may have: what must hold in any case narrows enough.
    let expanded = filter.disjunctions().unwrap_or_else(|_| vec![required(filter)]);
    expanded.into_iter().map(Conjunction::new).collect()
}

/// Whether no document can satisfy two of them.
pub(super) fn are_disjoint(branches: &[Conjunction]) -> bool {
    let [first, rest @ ..] = branches else { return true };
    if rest.is_empty() {
        return true;
    }
    first.equal.iter().filter(|equality| !equality.contains).any(|equality| {
        let values: Option<Vec<&Value>> =
            branches.iter().map(|branch| branch.fixed(&equality.field)).collect();
        values.is_some_and(|values| {
            (1..values.len()).all(|at| values[..at].iter().all(|it| it.compare(values[at]).is_ne()))
        })
    })
}

/// The conditions that must hold in any case.
fn required(filter: &Filter) -> Vec<FieldFilter> {
    match filter {
        Filter::Field(filter) => vec![filter.clone()],
        Filter::And(filters) => filters.iter().flat_map(required).collect(),
        Filter::Or(_) => vec![],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn condition(field: &str, operator: Operator, value: impl Into<Value>) -> Filter {
        let field = FieldPath::parse(field).unwrap();
        Filter::Field(FieldFilter { field, operator, value: value.into() })
    }

    #[test]
    fn an_and_of_ors_is_multiplied_out() {
        let filter = Filter::And(vec![
            condition("a", Operator::In, vec![1, 2]),
            Filter::Or(vec![
                condition("b", Operator::GreaterThan, 1),
                condition("c", Operator::ArrayContainsAny, vec![1, 2]),
            ]),
        ]);
        let found = disjunctions(Some(&filter));
        assert_eq!(found.len(), 6);
        assert_eq!(found.iter().filter(|it| it.ranges.len() == 1).count(), 2);
        assert!(!are_disjoint(&found));
        let values = disjunctions(Some(&condition("a", Operator::In, vec![1, 2])));
        assert!(are_disjoint(&values));
    }

    #[test]
    fn too_many_are_not_multiplied_out() {
        let many: Vec<i64> = (0..20).collect();
        let filter = Filter::And(vec![
            condition("a", Operator::In, many.clone()),
            condition("b", Operator::In, many),
            condition("c", Operator::Equal, 1),
        ]);
        let found = disjunctions(Some(&filter));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].equal.len(), 1);
    }

    #[test]
    fn no_condition_is_one_conjunction_and_no_choice_is_none() {
        assert_eq!(disjunctions(None).len(), 1);
        assert_eq!(disjunctions(Some(&Filter::And(vec![]))).len(), 1);
        assert!(disjunctions(Some(&Filter::Or(vec![]))).is_empty());
    }
}
