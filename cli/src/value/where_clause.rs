//! `--where`: a condition on documents as it is typed, `FIELD OP JSON` and `and`, `or`, parentheses.
//! Driven by clap; knows no network.

use std::str::FromStr;

use tidemark_core::{DocumentPath, FieldPath, Operator, Value};
use tidemark_protocol::model::{FieldFilter, Filter, limits};

use super::parse_value;
use crate::failure::{Failure, Outcome};

/// A condition of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WhereClause(pub(crate) Filter);

const OPERATORS: [(&str, Operator); 10] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<", Operator::LessThan),
    ("<=", Operator::LessThanOrEqual),
    (">", Operator::GreaterThan),
    (">=", Operator::GreaterThanOrEqual),
    ("in", Operator::In),
    ("not-in", Operator::NotIn),
    ("array-contains", Operator::ArrayContains),
    ("array-contains-any", Operator::ArrayContainsAny),
];

impl FromStr for WhereClause {
    type Err = Failure;

    fn from_str(text: &str) -> Outcome<WhereClause> {
        let mut parser = Parser { text, at: 0 };
        let filter = parser.alternatives(0)?;
        match parser.rest() {
            "" => Ok(WhereClause(filter)),
            rest if rest.starts_with(')') => Err(parser.wrong("a `)` has no `(`")),
            _ => Err(parser.wrong("expected `and`, `or` or the end")),
        }
    }
}

/// What joins conditions.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    And,
    Or,
}

/// Where in the text we are.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// What is left, from its first character on.
    fn rest(&self) -> &'a str {
        self.text[self.at..].trim_start()
    }

    /// Goes on to where `rest` begins.
    fn go_to(&mut self, rest: &str) {
        self.at = self.text.len() - rest.len();
    }

    /// A mistake, with the place.
    fn wrong(&self, what: &str) -> Failure {
        let before = self.text[..self.at].trim();
        let place = match (before, self.rest()) {
            ("", "") => String::new(),
            ("", rest) => format!(" at `{rest}`"),
            (before, "") => format!(" after `{before}`"),
            (before, rest) => format!(" after `{before}`, at `{rest}`"),
        };
        Failure::usage(format!("{what}{place}"))
    }

    /// Takes a word that joins, if it comes next.
    fn take_word(&mut self, wanted: Word) -> bool {
        let Some((word, rest)) = joining_word(self.rest()) else { return false };
        if word == wanted {
            self.go_to(rest);
        }
        word == wanted
    }

    /// Conditions joined by `or`, which binds less than `and`.
    fn alternatives(&mut self, depth: usize) -> Outcome<Filter> {
        let mut filters = vec![self.conjunction(depth)?];
        while self.take_word(Word::Or) {
            filters.push(self.conjunction(depth)?);
        }
        Ok(one_or(filters, Filter::Or))
    }

    fn conjunction(&mut self, depth: usize) -> Outcome<Filter> {
        let mut filters = vec![self.term(depth)?];
        while self.take_word(Word::And) {
            filters.push(self.term(depth)?);
        }
        Ok(one_or(filters, Filter::And))
    }

    fn term(&mut self, depth: usize) -> Outcome<Filter> {
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix('(') {
            if depth == limits::FILTER_DEPTH {
                let message = format!("parentheses are nested more than {depth} deep");
                return Err(Failure::usage(message));
            }
            self.go_to(inner);
            let filter = self.alternatives(depth + 1)?;
            let Some(outer) = self.rest().strip_prefix(')') else {
                return Err(self.wrong("expected `and`, `or` or `)`"));
            };
            self.go_to(outer);
            return Ok(filter);
        }
        if rest.is_empty() || rest.starts_with(')') || joining_word(rest).is_some() {
            return Err(self.wrong("expected a condition, FIELD OP JSON"));
        }
        self.condition().map(Filter::Field)
    }

    fn condition(&mut self) -> Outcome<FieldFilter> {
        let rest = self.rest();
        let (field, rest) = rest.split_at(field_end(rest)?);
        let field = FieldPath::parse(field.trim())?;
        let (operator, rest) = split_operator(rest.trim_start())?;
        let rest = rest.trim_start();
        let what = format!("the value for `{field}`");
        let (text, rest) = split_value(rest);
        if text.is_empty() {
            self.go_to(rest);
            return Err(self.wrong(&format!("{what} is missing")));
        }
        let mut value = parse_value(&what, text)?;
        if field.is_document_id() {
            value = document_references(value)?;
        }
        self.go_to(rest);
        Ok(FieldFilter { field, operator, value })
    }
}

fn one_or(mut filters: Vec<Filter>, many: fn(Vec<Filter>) -> Filter) -> Filter {
    match filters.len() {
        1 => filters.remove(0),
        _ => many(filters),
    }
}

/// `and`, `or`, `&&` or `||` at the beginning, and what follows.
fn joining_word(text: &str) -> Option<(Word, &str)> {
    let symbols = [("&&", Word::And), ("||", Word::Or)];
    if let Some((symbol, word)) = symbols.iter().find(|(symbol, _)| text.starts_with(symbol)) {
        return Some((*word, &text[symbol.len()..]));
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    match first.to_ascii_lowercase().as_str() {
        "and" => Some((Word::And, rest)),
        "or" => Some((Word::Or, rest)),
        _ => None,
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
            _ if !quoted && (c.is_whitespace() || "=<>!()".contains(c)) => return Ok(at),
            _ => {}
        }
    }
    let message = if quoted { "a backtick is not closed" } else { "no operator after the field" };
    Err(Failure::usage(format!("{message} in `{text}`; expected FIELD OP JSON")))
}

fn split_operator(rest: &str) -> Outcome<(Operator, &str)> {
    let symbols = rest.find(|c: char| !"=<>!".contains(c)).unwrap_or(rest.len());
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '[' | '{' | '(' | ')');
    let end = match symbols {
        0 => rest.find(is_end).unwrap_or(rest.len()),
        symbols => symbols,
    };
    let (word, operand) = rest.split_at(end);
    if let Some((_, operator)) = OPERATORS.iter().find(|(name, _)| *name == word) {
        return Ok((*operator, operand));
    }
    let names: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
    let names = names.join(" ");
    Err(Failure::usage(match word {
        "=" => "`=` is no operator; write `==`".to_owned(),
        "not" => "`not` is no operator; write `!=` or `not-in`".to_owned(),
        "contains" => "`contains` is no operator; write `array-contains`".to_owned(),
        "" => format!("no operator; there are {names}"),
        _ => format!("unknown operator `{word}`; there are {names}"),
    }))
}

/// The JSON value at the beginning, and what follows it.
fn split_value(text: &str) -> (&str, &str) {
    let end = if text.starts_with(['"', '[', '{']) {
        let mut values =
            serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => values.byte_offset(),
            // Whoever parses it tells what is wrong.
            Some(Err(_)) | None => text.len(),
        }
    } else {
        text.find(|c: char| c.is_whitespace() || "()&|".contains(c)).unwrap_or(text.len())
    };
    text.split_at(end)
}

/// Paths in quotes stand for the references that `__name__` is compared with.
fn document_references(value: Value) -> Outcome<Value> {
    match value {
        Value::String(path) => Ok(Value::Reference(DocumentPath::parse(&path)?)),
        Value::Array(values) => {
            let references: Outcome<_> = values.into_iter().map(document_references).collect();
            Ok(Value::Array(references?))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Filter {
        text.parse::<WhereClause>().unwrap().0
    }

    fn refuse(text: &str) -> String {
        text.parse::<WhereClause>().unwrap_err().message().to_owned()
    }

    fn one(text: &str) -> FieldFilter {
        match parse(text) {
            Filter::Field(filter) => filter,
            other => panic!("{other:?} is not one condition"),
        }
    }

    #[test]
    fn all_operators_with_and_without_blanks() {
        for (name, operator) in OPERATORS {
            let value = if name.contains("in") && name.len() < 7 || name.ends_with("any") {
                "[-3]"
            } else {
                "-3"
            };
            let filter = one(&format!("  n {name} {value} "));
            assert_eq!((filter.field.to_string().as_str(), filter.operator), ("n", operator));
            if !name.starts_with(char::is_alphabetic) {
                assert_eq!(one(&format!("n{name}{value}")), filter);
            }
        }
        assert_eq!(one("n in[1,2]").value, Value::from(vec![1, 2]));
    }

    #[test]
    fn or_binds_less_than_and_and_parentheses_bind_most() {
        let (a, b, c) = (parse("a == 1"), parse("b > 2"), parse("c in [1,2]"));
        let both = Filter::And(vec![b.clone(), c.clone()]);
        let text = "a == 1 or b > 2 and c in [1,2]";
        assert_eq!(parse(text), Filter::Or(vec![a.clone(), both.clone()]));
        assert_eq!(parse("a==1||(b>2&&c in [1,2])"), parse(text));
        assert_eq!(parse("a == 1 OR (b > 2 AND c in [1,2])"), parse(text));
        let either = Filter::Or(vec![a.clone(), b.clone()]);
        assert_eq!(
            parse("(a == 1 or b > 2) and(c in [1,2])"),
            Filter::And(vec![either, c.clone()])
        );
        assert_eq!(parse("((a == 1))"), a);
        assert_eq!(parse("a == 1 and b > 2 and c in [1,2]"), Filter::And(vec![a, b, c]));
    }

    #[test]
    fn words_and_operators_inside_values_and_backticks_are_text() {
        let filter = one(r#"a.`x == y or z`.b == "p < q) and (r""#);
        assert_eq!(filter.field.to_string(), "a.`x == y or z`.b");
        assert_eq!(filter.value, Value::from("p < q) and (r"));
        assert_eq!(one("`and` == 1").field.to_string(), "and");
        assert_eq!(one("order == 1").field.to_string(), "order");
    }

    #[test]
    fn typed_values_are_values() {
        let filter = one(r#"at >= {"$timestamp":"2026-01-02T03:04:05Z"}"#);
        assert!(matches!(filter.value, Value::Timestamp(_)));
        assert_eq!(one("a == null").value, Value::Null);
    }

    #[test]
    fn the_document_id_is_compared_with_references() {
        let path = || Value::Reference(DocumentPath::parse("rooms/a").unwrap());
        assert_eq!(one(r#"__name__ > "rooms/a""#).value, path());
        assert_eq!(one(r#"__name__ in ["rooms/a"]"#).value, Value::Array(vec![path()]));
        assert!(refuse(r#"__name__ > "rooms""#).contains("rooms"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            ("a = 1", "write `==`"),
            ("a === 1", "unknown operator `===`"),
            ("a ~ 1", "unknown operator `~`"),
            ("a not in [1]", "`not-in`"),
            ("a contains 1", "array-contains"),
            ("a", "no operator"),
            ("a ==", "the value for `a` is missing"),
            ("a == hamlet", "not JSON"),
            ("a == [1, ", "not JSON"),
            ("`a == 1", "backtick"),
            ("", "expected a condition"),
            ("a == 1 and", "expected a condition, FIELD OP JSON after `a == 1 and`"),
            ("or a == 1", "expected a condition, FIELD OP JSON at `or a == 1`"),
            ("a == 1 b == 2", "expected `and`, `or` or the end after `a == 1`, at `b == 2`"),
            ("(a == 1 or b == 2", "expected `and`, `or` or `)`"),
            ("a == 1)", "a `)` has no `(`"),
            ("()", "expected a condition"),
        ];
        for (text, expected) in cases {
            let message = refuse(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
        let deep = format!("{}a == 1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(refuse(&deep).contains("nested"));
    }
}
