//! `FIELD=JSON`: the changes of `update`. Driven by the command; knows no network.

use tidemark_core::{FieldPath, FieldValue, Value};

use super::parse_value;
use crate::args::UpdateArgs;
use crate::failure::{Failure, Outcome};

/// All changes of an `update`, by canonical field path, in the order they were typed by kind.
pub(crate) fn changes(args: &UpdateArgs) -> Outcome<Vec<(String, FieldValue)>> {
    let mut changes = Vec::new();
    for text in &args.assignments {
        let (field, value) = split(text)?;
        changes.push((field, FieldValue::from(value)));
    }
    for text in &args.increment {
        let (field, value) = number("--increment", text)?;
        changes.push((field, FieldValue::increment(value)));
    }
    for text in &args.minimum {
        let (field, value) = number("--minimum", text)?;
        changes.push((field, FieldValue::minimum(value)));
    }
    for text in &args.maximum {
        let (field, value) = number("--maximum", text)?;
        changes.push((field, FieldValue::maximum(value)));
    }
    for text in &args.array_union {
        let (field, values) = array("--array-union", text)?;
        changes.push((field, FieldValue::array_union(values)));
    }
    for text in &args.array_remove {
        let (field, values) = array("--array-remove", text)?;
        changes.push((field, FieldValue::array_remove(values)));
    }
    for field in &args.server_timestamp {
        changes.push((FieldPath::parse(field)?.to_string(), FieldValue::server_timestamp()));
    }
    for field in &args.delete {
        changes.push((FieldPath::parse(field)?.to_string(), FieldValue::delete()));
    }
    each_field_once(&changes)?;
    Ok(changes)
}

fn each_field_once(changes: &[(String, FieldValue)]) -> Outcome<()> {
    let mut fields: Vec<&str> = changes.iter().map(|(field, _)| field.as_str()).collect();
    fields.sort_unstable();
    match fields.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Failure::usage(format!("`{}` is changed twice", pair[0]))),
        None => Ok(()),
    }
}

fn number(option: &str, text: &str) -> Outcome<(String, Value)> {
    match split(text)? {
        (field, value @ (Value::Integer(_) | Value::Double(_))) => Ok((field, value)),
        (field, _) => Err(Failure::usage(format!("{option} needs a number for `{field}`"))),
    }
}

fn array(option: &str, text: &str) -> Outcome<(String, Vec<Value>)> {
    match split(text)? {
        (field, Value::Array(values)) => Ok((field, values)),
        (field, _) => Err(Failure::usage(format!("{option} needs an array: {field}=[…]"))),
    }
}

/// Splits at the first `=` that is not within backticks.
fn split(text: &str) -> Outcome<(String, Value)> {
    let mut quoted = false;
    let mut escaped = false;
    let at = text.char_indices().find_map(|(at, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '`' => quoted = !quoted,
            '=' if !quoted => return Some(at),
            _ => {}
        }
        None
    });
    let Some(at) = at else {
        return Err(Failure::usage(format!("`{text}` is no change; expected FIELD=JSON")));
    };
    let field = FieldPath::parse(text[..at].trim())?;
    let value = parse_value(&format!("the value for `{field}`"), &text[at + 1..])?;
    Ok((field.to_string(), value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn of(arguments: &[&str]) -> Outcome<Vec<String>> {
        let line = ["tidemark", "update", "a/b"].iter().chain(arguments);
        let Command::Update(command) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command was parsed");
        };
        Ok(changes(&command.args)?.into_iter().map(|(field, _)| field).collect())
    }

    #[test]
    fn all_kinds_of_changes() {
        let fields = of(&[
            "a.b=1",
            "`x=y`={\"k\":2}",
            "--increment",
            "n=-1",
            "--array-union",
            "tags=[\"x\"]",
            "--server-timestamp",
            "at",
            "--delete",
            "old",
        ]);
        assert_eq!(fields.unwrap(), ["a.b", "`x=y`", "n", "tags", "at", "old"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let message = |arguments: &[&str]| of(arguments).unwrap_err().message().to_owned();
        assert!(message(&["a"]).contains("FIELD=JSON"));
        assert!(message(&["a=x"]).contains("not JSON"));
        assert!(message(&["a=1", "--delete", "a"]).contains("twice"));
        assert!(message(&["--increment", "a=\"1\""]).contains("number"));
        assert!(message(&["--array-union", "a=1"]).contains("array"));
    }
}
