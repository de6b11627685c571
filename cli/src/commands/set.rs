//! `set`: writes a whole document, merges into one, or creates one.

use tidemark_core::{DocumentPath, FieldPath, Fields, Precondition, Value, Write};
use tidemark_protocol::model::WriteOp;

use crate::args::{ClientArgs, SetArgs};
use crate::commands::finish_write;
use crate::connection::Connection;
use crate::failure::Outcome;
use crate::output::Output;
use crate::value::read_document;

/// Writes and waits for the server's word.
pub(crate) async fn run(client: &ClientArgs, args: &SetArgs) -> Outcome<u8> {
    let path = DocumentPath::parse(&args.path)?;
    let fields = read_document(&args.document)?;
    let (verb, op, precondition) = if args.merge {
        let mask = leaves(&fields)?;
        ("merged", WriteOp::Update { fields, mask }, None)
    } else if args.create {
        ("created", WriteOp::Set(fields), Some(Precondition::Exists(false)))
    } else {
        ("set", WriteOp::Set(fields), None)
    };
    let connection = Connection::open(client)?;
    let write = Write { path, op, transforms: Vec::new(), precondition };
    let pending = connection.client().commit(vec![write]);
    let mut out = Output::new(client.json);
    finish_write(&connection, &mut out, verb, &args.path, pending).await?;
    out.flush()?;
    connection.close().await;
    Ok(0)
}

/// What a merge sets: every leaf; an empty map counts as one, as in Firestore.
fn leaves(fields: &Fields) -> Outcome<Vec<FieldPath>> {
    let mut found = Vec::new();
    let mut open: Vec<(Vec<String>, &Fields)> = vec![(Vec::new(), fields)];
    while let Some((prefix, fields)) = open.pop() {
        for (name, value) in fields {
            let path = [prefix.as_slice(), std::slice::from_ref(name)].concat();
            match value {
                Value::Map(inner) if !inner.is_empty() => open.push((path, inner)),
                _ => found.push(FieldPath::from_segments(path)?),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_sets_the_leaves() {
        let fields = read_document(r#"{"a":{"b":1,"c":{}},"d":[{"e":1}]}"#).unwrap();
        let mut paths: Vec<String> =
            leaves(&fields).unwrap().iter().map(ToString::to_string).collect();
        paths.sort();
        assert_eq!(paths, ["a.b", "a.c", "d"]);
    }
}
