//! Conditions of a query, put together with `and` and `or`. States them only; what is wrong is told
//! when the query is used.

use tidemark_protocol::model::{FieldFilter, FieldPath, Filter as ModelFilter, Operator, Value};

use crate::error::Error;

/// A condition on documents.
///
/// ```
/// use tidemark_core::{Filter, Operator};
///
/// let tragic = Filter::field("genre", Operator::Equal, "tragedy");
/// let long = Filter::field("acts", Operator::GreaterThan, 4);
/// let named = Filter::field("title", Operator::In, vec!["Hamlet", "Macbeth"]);
/// let filter = tragic.and(long).or(named);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    filter: Result<ModelFilter, Error>,
}

impl Filter {
    /// The field, a path like "a.b" or `__name__`, compares so with the value. The value of `In`,
    /// `NotIn` and `ArrayContainsAny` is an array; `__name__` is compared with references.
    pub fn field(field: &str, operator: Operator, value: impl Into<Value>) -> Filter {
        let value = value.into();
        let filter = FieldPath::parse(field)
            .map(|field| ModelFilter::Field(FieldFilter { field, operator, value }));
        Filter { filter: filter.map_err(Error::from) }
    }

    /// All of them hold.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Filter {
        let filters: Result<Vec<_>, _> = filters.into_iter().map(|filter| filter.filter).collect();
        Filter { filter: filters.map(ModelFilter::And) }
    }

    /// At least one of them holds.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Filter {
        let filters: Result<Vec<_>, _> = filters.into_iter().map(|filter| filter.filter).collect();
        Filter { filter: filters.map(ModelFilter::Or) }
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: Filter) -> Filter {
        self.join(
            other,
            |filter| match filter {
                ModelFilter::And(filters) => filters,
                ModelFilter::Field(_) | ModelFilter::Or(_) => vec![filter],
            },
            ModelFilter::And,
        )
    }

    /// At least one of the two holds.
    #[must_use]
    pub fn or(self, other: Filter) -> Filter {
        self.join(
            other,
            |filter| match filter {
                ModelFilter::Or(filters) => filters,
                ModelFilter::Field(_) | ModelFilter::And(_) => vec![filter],
            },
            ModelFilter::Or,
        )
    }

    /// Joined to one list where they are lists of the kind already.
    fn join(
        self,
        other: Filter,
        list: impl Fn(ModelFilter) -> Vec<ModelFilter>,
        kind: impl Fn(Vec<ModelFilter>) -> ModelFilter,
    ) -> Filter {
        let joined = self.filter.and_then(|first| {
            let second = other.filter?;
            let mut filters = list(first);
            filters.extend(list(second));
            Ok(kind(filters))
        });
        Filter { filter: joined }
    }

    pub(crate) fn into_model(self) -> Result<ModelFilter, Error> {
        self.filter
    }
}

/// For tools that speak the protocol's terms.
impl From<ModelFilter> for Filter {
    fn from(filter: ModelFilter) -> Filter {
        Filter { filter: Ok(filter) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn equals(field: &str) -> Filter {
        Filter::field(field, Operator::Equal, 1)
    }

    #[test]
    fn lists_of_one_kind_are_joined_and_others_are_nested() {
        let (a, b, c, d) = (equals("a"), equals("b"), equals("c"), equals("d"));
        let and = a.clone().and(b.clone()).and(c.clone());
        assert_eq!(and, Filter::all([a.clone(), b.clone(), c.clone()]));
        let or = a.clone().and(b.clone()).or(c.clone()).or(d.clone());
        assert_eq!(or, Filter::any([Filter::all([a, b]), c, d]));
    }

    #[test]
    fn what_is_wrong_is_kept() {
        for wrong in [equals("a..b").and(equals("c")), equals("c").or(equals("a..b"))] {
            assert!(wrong.into_model().unwrap_err().message().contains("a..b"));
        }
    }
}
