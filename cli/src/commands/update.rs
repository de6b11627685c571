//! `update`: changes fields of a document that exists.

use crate::args::{ClientArgs, UpdateArgs};
use crate::commands::finish_write;
use crate::connection::Connection;
use crate::failure::Outcome;
use crate::output::Output;
use crate::value::assignment;

/// Changes the fields and waits for the server's word.
pub(crate) async fn run(client: &ClientArgs, args: &UpdateArgs) -> Outcome<u8> {
    let changes = assignment::changes(args)?;
    let connection = Connection::open(client)?;
    let document = connection.client().doc(&args.path)?;
    let mut out = Output::new(client.json);
    let write = document.update(changes);
    finish_write(&connection, &mut out, "updated", &args.path, write).await?;
    out.flush()?;
    connection.close().await;
    Ok(0)
}
