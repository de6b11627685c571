//! A filter as an `or` of `and`s: what the limit of disjunctions counts, and what a planner works on.
//! Bounded for any input: conditions are places in a set of at most 128, so that an `and` of them is
//! one number, and there are never many of these.

use std::collections::BTreeSet;

use super::error::ModelError;
use super::limits;
use super::query::{FieldFilter, Filter, Operator};
use super::value::Value;

/// How many disjunctions there may be on the way to a result that has few.
const DISJUNCTIONS_ON_THE_WAY: usize = 256;
/// How many conditions a filter may have, each counted as often as it is there.
const REPEATED_CONDITIONS: usize = 2_000;

/// The different conditions of a filter, with `in` and `array-contains-any` written as an `or`.
#[derive(Default)]
pub(super) struct Terms {
    all: Vec<Term>,
    repeated: usize,
}

struct Term {
    condition: FieldFilter,
    /// Null or NaN as an element of `in`, which finds neither. (`==` does.)
    is_element_equal_to_none: bool,
}

/// Conditions all of which must hold, as bits: their places in [`Terms`].
type Conjunction = u128;

/// A part of a filter.
struct Part {
    /// Sorted, without duplicates.
    disjunctions: Vec<Conjunction>,
    /// How many `array-contains` and `array-contains-any` hold at once, at most.
    contains: usize,
    /// Of a single condition.
    operator: Option<Operator>,
}

impl Filter {
    /// The filter as an `or` (the outer list) of `and`s, with `in` written as an `or` of `==` and
    /// `array-contains-any` as one of `array-contains`. A filter that always holds is one empty
    /// `and`; one that never does is an empty `or`.
    ///
    /// # Errors
    /// If there are more than [`limits::DISJUNCTIONS`], as counted without duplicates, or more
    /// different conditions than [`limits::QUERY_COMPONENTS`].
    pub fn disjunctions(&self) -> Result<Vec<Vec<FieldFilter>>, ModelError> {
        let terms = Terms::of(self)?;
        let part = terms.expand(self)?;
        check_count(&part)?;
        let written = |conjunction: &Conjunction| -> Option<Vec<FieldFilter>> {
            let members = terms.all.iter().enumerate();
            members
                .filter(|(at, _)| conjunction >> at & 1 == 1)
                .map(|(_, term)| term.can_hold().then(|| term.condition.clone()))
                .collect()
        };
        Ok(part.disjunctions.iter().filter_map(written).collect())
    }
}

impl Term {
    fn can_hold(&self) -> bool {
        !self.is_element_equal_to_none && !self.condition.never_holds()
    }
}

impl Terms {
    /// The conditions of a filter.
    pub(super) fn of(filter: &Filter) -> Result<Terms, ModelError> {
        let mut terms = Terms::default();
        terms.collect(filter)?;
        Ok(terms)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Checks the number of disjunctions, and that none has two `array-contains`.
    pub(super) fn validate(&self, filter: &Filter) -> Result<(), ModelError> {
        let part = self.expand(filter)?;
        check_count(&part)?;
        if part.contains > 1 {
            return Err(ModelError::invalid(
                "the query asks for two `array-contains` at once; one is the limit of each disjunction",
            ));
        }
        Ok(())
    }

    fn collect(&mut self, filter: &Filter) -> Result<(), ModelError> {
        match filter {
            Filter::And(filters) | Filter::Or(filters) => {
                filters.iter().try_for_each(|filter| self.collect(filter))
            }
            Filter::Field(filter) => match alternatives(filter) {
                None => self.insert(filter, filter.operator, &filter.value),
                Some((operator, values)) => {
                    values.iter().try_for_each(|value| self.insert(filter, operator, value))
                }
            },
        }
    }

    fn insert(
        &mut self,
        filter: &FieldFilter,
        operator: Operator,
        value: &Value,
    ) -> Result<(), ModelError> {
        self.repeated += 1;
        if self.repeated <= REPEATED_CONDITIONS && self.place(filter, operator, value).is_some() {
            return Ok(());
        }
        if self.repeated > REPEATED_CONDITIONS || self.all.len() == limits::QUERY_COMPONENTS {
            return Err(ModelError::invalid(format!(
                "the filter has more than {} conditions, which is the limit; each value of `in` and `array-contains-any` is one",
                limits::QUERY_COMPONENTS
            )));
        }
        self.all.push(Term {
            condition: FieldFilter { field: filter.field.clone(), operator, value: value.clone() },
            is_element_equal_to_none: is_element_equal_to_none(filter, value),
        });
        Ok(())
    }

    fn place(&self, filter: &FieldFilter, operator: Operator, value: &Value) -> Option<usize> {
        let is_element_equal_to_none = is_element_equal_to_none(filter, value);
        self.all.iter().position(|term| {
            term.condition.operator == operator
                && term.condition.field == filter.field
                && term.is_element_equal_to_none == is_element_equal_to_none
                && term.condition.value == *value
        })
    }

    fn bit(&self, filter: &FieldFilter, operator: Operator, value: &Value) -> Conjunction {
        1 << self.place(filter, operator, value).expect("each condition has been collected")
    }

    fn expand(&self, filter: &Filter) -> Result<Part, ModelError> {
        match filter {
            Filter::Field(filter) => Ok(self.expand_condition(filter)),
            Filter::Or(filters) => {
                let (mut disjunctions, mut contains) = (BTreeSet::new(), 0);
                for filter in filters {
                    let part = self.expand(filter)?;
                    disjunctions.extend(part.disjunctions);
                    contains = contains.max(part.contains);
                    check_on_the_way(disjunctions.len())?;
                }
                let disjunctions = disjunctions.into_iter().collect();
                Ok(Part { disjunctions, contains, operator: None })
            }
            Filter::And(filters) => {
                // The same twice is the same once, which keeps the products small.
                let mut parts: Vec<Part> = Vec::new();
                for filter in filters {
                    let part = self.expand(filter)?;
                    if !parts.iter().any(|earlier| earlier.is_same(&part)) {
                        parts.push(part);
                    }
                }
                let contains = parts.iter().map(|part| part.contains).sum();
                let disjunctions =
                    parts.iter().try_fold(vec![0], |all, part| multiply(&all, part))?;
                Ok(Part { disjunctions, contains, operator: None })
            }
        }
    }

    fn expand_condition(&self, filter: &FieldFilter) -> Part {
        let bits: BTreeSet<Conjunction> = match alternatives(filter) {
            None => [self.bit(filter, filter.operator, &filter.value)].into(),
            Some((operator, values)) => {
                values.iter().map(|value| self.bit(filter, operator, value)).collect()
            }
        };
        let is_contains =
            matches!(filter.operator, Operator::ArrayContains | Operator::ArrayContainsAny);
        Part {
            disjunctions: bits.into_iter().collect(),
            contains: usize::from(is_contains),
            operator: Some(filter.operator),
        }
    }
}

impl Part {
    fn is_same(&self, other: &Part) -> bool {
        self.operator == other.operator && self.disjunctions == other.disjunctions
    }
}

fn multiply(left: &[Conjunction], right: &Part) -> Result<Vec<Conjunction>, ModelError> {
    let mut product = BTreeSet::new();
    for one in left {
        product.extend(right.disjunctions.iter().map(|other| one | other));
        check_on_the_way(product.len())?;
    }
    Ok(product.into_iter().collect())
}

fn check_count(part: &Part) -> Result<(), ModelError> {
    let count = part.disjunctions.len();
    if count > limits::DISJUNCTIONS { Err(too_many(&count.to_string())) } else { Ok(()) }
}

fn check_on_the_way(count: usize) -> Result<(), ModelError> {
    if count > DISJUNCTIONS_ON_THE_WAY {
        return Err(too_many(&format!("more than {DISJUNCTIONS_ON_THE_WAY}")));
    }
    Ok(())
}

fn too_many(count: &str) -> ModelError {
    ModelError::invalid(format!(
        "the filter has {count} disjunctions, written as an `or` of `and`s; the limit is {}",
        limits::DISJUNCTIONS
    ))
}

/// The operator and the operands of what the filter is an `or` of.
fn alternatives(filter: &FieldFilter) -> Option<(Operator, &[Value])> {
    match (filter.operator, &filter.value) {
        (Operator::In, Value::Array(values)) => Some((Operator::Equal, values)),
        (Operator::ArrayContainsAny, Value::Array(values)) => {
            Some((Operator::ArrayContains, values))
        }
        _ => None,
    }
}

fn is_element_equal_to_none(filter: &FieldFilter, value: &Value) -> bool {
    filter.operator == Operator::In && value.equals_none()
}
