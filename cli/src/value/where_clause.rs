//! `--where 'FIELD OP JSON'`: splits and checks a condition. Driven by clap; knows no network.

use std::str::FromStr;

use tidemark_core::{DocumentPath, FieldPath, Operator, Value};

use super::parse_value;
use crate::failure::{Failure, Outcome};

/// One condition of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WhereClause {
    /// The field's path in canonical form, or `__name__`.
    pub(crate) field: String,
    /// How they compare.
    pub(crate) operator: Operator,
    /// What it is compared with.
    pub(crate) value: Value,
}

const OPERATORS: &str = "==, <, <=, > and >=";

impl FromStr for WhereClause {
    type Err = Failure;

    fn from_str(text: &str) -> Outcome<WhereClause> {
        let text = text.trim();
        let (field, rest) = text.split_at(field_end(text)?);
        let field = FieldPath::parse(field.trim())?;
        let (operator, operand) = split_operator(rest.trim_start())?;
        let mut value = parse_value(&format!("the value for `{field}`"), operand.trim())?;
        if field.is_document_id() {
            value = document_reference(value)?;
        }
        Ok(WhereClause { field: field.to_string(), operator, value })
    }
}

/// Where the field path ends: at the first blank or operator that is not within backticks.
fn field_end(text: &str) -> Outcome<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '`' => quoted = !quoted,
            _ if !quoted && (c.is_whitespace() || "=<>!".contains(c)) => return Ok(at),
            _ => {}
        }
    }
    let message = if quoted { "a backtick is not closed" } else { "no operator after the field" };
    Err(Failure::usage(format!("{message} in `{text}`; expected FIELD OP JSON")))
}

fn split_operator(rest: &str) -> Outcome<(Operator, &str)> {
    let supported = [
        ("==", Operator::Equal),
        ("<=", Operator::LessThanOrEqual),
        (">=", Operator::GreaterThanOrEqual),
        ("<", Operator::LessThan),
        (">", Operator::GreaterThan),
    ];
    for (symbol, operator) in supported {
        if let Some(operand) = rest.strip_prefix(symbol)
            && !operand.starts_with(['=', '<', '>'])
        {
            return Ok((operator, operand));
        }
    }
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '[' | '{');
    let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
    let known = ["!=", "in", "not-in", "array-contains", "array-contains-any"];
    Err(Failure::usage(match word {
        "=" => "`=` is no operator; write `==`".to_owned(),
        _ if known.contains(&word) => {
            format!("operator `{word}` is not in this release, which has {OPERATORS}")
        }
        "" => format!("no operator; there are {OPERATORS}"),
        _ => format!("unknown operator `{word}`; there are {OPERATORS}"),
    }))
}

/// A path in quotes stands for the reference that `__name__` is compared with.
fn document_reference(value: Value) -> Outcome<Value> {
    match value {
        Value::String(path) => Ok(Value::Reference(DocumentPath::parse(&path)?)),
        other => Ok(other),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> WhereClause {
        text.parse().unwrap()
    }

    fn refuse(text: &str) -> String {
        text.parse::<WhereClause>().unwrap_err().message().to_owned()
    }

    #[test]
    fn all_operators_with_and_without_blanks() {
        let expected =
            |operator| WhereClause { field: "n".to_owned(), operator, value: Value::Integer(-3) };
        for (symbol, operator) in [
            ("==", Operator::Equal),
            ("<", Operator::LessThan),
            ("<=", Operator::LessThanOrEqual),
            (">", Operator::GreaterThan),
            (">=", Operator::GreaterThanOrEqual),
        ] {
            assert_eq!(parse(&format!("n {symbol} -3")), expected(operator));
            assert_eq!(parse(&format!("  n{symbol}-3 ")), expected(operator));
        }
    }

    #[test]
    fn operators_inside_values_and_backticks_are_text() {
        let clause = parse(r#"a.`x == y`.b == "p < q""#);
        assert_eq!(clause.field, "a.`x == y`.b");
        assert_eq!(clause.value, Value::String("p < q".to_owned()));
    }

    #[test]
    fn typed_values_are_values() {
        let clause = parse(r#"at >= {"$timestamp":"2026-01-02T03:04:05Z"}"#);
        assert!(matches!(clause.value, Value::Timestamp(_)));
    }

    #[test]
    fn the_document_id_is_compared_with_a_reference() {
        let clause = parse(r#"__name__ > "rooms/a""#);
        assert_eq!(clause.value, Value::Reference(DocumentPath::parse("rooms/a").unwrap()));
        assert!(refuse(r#"__name__ > "rooms""#).contains("rooms"));
    }

    #[test]
    fn what_is_not_there_is_said_clearly() {
        assert!(refuse("a != 1").contains("not in this release"));
        assert!(refuse("a in [1]").contains("`in`"));
        assert!(refuse("a array-contains 1").contains("not in this release"));
        assert!(refuse("a = 1").contains("write `==`"));
        assert!(refuse("a === 1").contains("unknown operator"));
        assert!(refuse("a ~ 1").contains("unknown operator `~`"));
        assert!(refuse("a").contains("no operator"));
        assert!(refuse("a == hamlet").contains("not JSON"));
        assert!(refuse("`a == 1").contains("backtick"));
    }
}
