//! `get`: prints documents; exit code 3 if one is missing.

use tidemark_core::Code;

use crate::args::{ClientArgs, GetArgs};
use crate::connection::Connection;
use crate::failure::{Failure, Kind, Outcome};
use crate::output::{Output, note};

/// Prints each document in the order of the arguments.
pub(crate) async fn run(client: &ClientArgs, args: &GetArgs) -> Outcome<u8> {
    let connection = Connection::open(client)?;
    let references: Result<Vec<_>, _> =
        args.paths.iter().map(|path| connection.client().doc(path)).collect();
    let documents = connection.wait(connection.client().get_all(&references?)).await?;
    let mut out = Output::new(client.json);
    let mut missing = Vec::new();
    for document in &documents {
        if !document.exists() {
            missing.push(document.path().to_string());
        }
        if document.exists() || out.is_json() {
            out.document(document)?;
        }
    }
    out.flush()?;
    connection.close().await;
    let Some(last) = missing.pop() else { return Ok(0) };
    for path in missing {
        note(format_args!("error[not-found]: {path} does not exist"));
    }
    Err(Failure::new(Kind::Status(Code::NotFound), format!("{last} does not exist")))
}
