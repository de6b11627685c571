//! `delete`: deletes documents, all or none; they must exist unless `--if-exists`.

use tidemark_protocol::model::{DocumentPath, Precondition, Write, WriteOp};

use crate::args::{ClientArgs, DeleteArgs};
use crate::commands::finish_write;
use crate::connection::Connection;
use crate::failure::Outcome;
use crate::output::Output;

/// Deletes in one commit and waits for the server's word.
pub(crate) async fn run(client: &ClientArgs, args: &DeleteArgs) -> Outcome<u8> {
    let precondition = (!args.if_exists).then_some(Precondition::Exists(true));
    let delete = |path: &String| {
        let path = DocumentPath::parse(path)?;
        Ok(Write { path, op: WriteOp::Delete, transforms: Vec::new(), precondition })
    };
    let writes = args.paths.iter().map(delete).collect::<Outcome<Vec<Write>>>()?;
    let connection = Connection::open(client)?;
    let mut out = Output::new(client.json);
    let write = connection.client().commit(writes);
    finish_write(&connection, &mut out, "deleted", &args.paths.join(" "), write).await?;
    out.flush()?;
    connection.close().await;
    Ok(0)
}
