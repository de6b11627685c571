//! `export`: a collection as JSON lines that `import` reads back. Pages through the collection, so
//! its size does not matter; each page is one consistent state.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tidemark_core::{DocumentSnapshot, Value};

use crate::args::{ClientArgs, ExportArgs};
use crate::connection::Connection;
use crate::failure::{Failure, Outcome};
use crate::output::{closed, note};
use crate::value::fields_to_json;

const PAGE: u32 = 5000;

/// Writes all documents, in the order of their ids.
pub(crate) async fn run(client: &ClientArgs, args: &ExportArgs) -> Outcome<u8> {
    let connection = Connection::open(client)?;
    let collection = connection.client().collection(&args.collection)?;
    let mut sink = Sink::open(args.out.as_deref())?;
    let mut count: u64 = 0;
    let mut query = collection.query().limit(PAGE);
    loop {
        let snapshot = connection.wait(query.get()).await?;
        for document in snapshot.documents() {
            sink.document(document)?;
        }
        count += snapshot.documents().len() as u64;
        match snapshot.documents().last() {
            Some(last) if snapshot.documents().len() == PAGE as usize => {
                let position = Value::Reference(last.path().clone());
                query = collection.query().limit(PAGE).start_after([position]);
            }
            Some(_) | None => break,
        }
    }
    sink.finish()?;
    connection.close().await;
    let place = args.out.as_ref().map_or("stdout".to_owned(), |out| out.display().to_string());
    if client.json && args.out.is_some() {
        let summary = json!({"type": "summary", "exported": count, "out": place});
        writeln!(std::io::stdout(), "{summary}").map_err(|error| closed(&error))?;
    } else {
        note(format_args!("exported {count} documents of {} to {place}", args.collection));
    }
    Ok(0)
}

/// Where the lines go. A file appears under its name only when it is complete.
enum Sink {
    Stdout(BufWriter<std::io::Stdout>),
    Plain { file: BufWriter<File>, part: PathBuf, target: PathBuf },
    Gzip { file: Box<GzEncoder<BufWriter<File>>>, part: PathBuf, target: PathBuf },
}

impl Sink {
    fn open(out: Option<&Path>) -> Outcome<Sink> {
        let Some(target) = out else {
            return Ok(Sink::Stdout(BufWriter::new(std::io::stdout())));
        };
        let mut part = target.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let created = File::create(&part).map_err(|error| Failure::io(part.display(), &error))?;
        let file = BufWriter::new(created);
        let target = target.to_owned();
        Ok(if target.extension().is_some_and(|extension| extension == "gz") {
            let file = Box::new(GzEncoder::new(file, Compression::default()));
            Sink::Gzip { file, part, target }
        } else {
            Sink::Plain { file, part, target }
        })
    }

    fn document(&mut self, document: &DocumentSnapshot) -> Outcome<()> {
        let Some(fields) = document.fields() else { return Ok(()) };
        let line = json!({"path": document.path().to_string(), "fields": fields_to_json(fields)});
        match self {
            Sink::Stdout(out) => writeln!(out, "{line}").map_err(|error| closed(&error)),
            Sink::Plain { file, part, .. } => {
                writeln!(file, "{line}").map_err(|error| Failure::io(part.display(), &error))
            }
            Sink::Gzip { file, part, .. } => {
                writeln!(file, "{line}").map_err(|error| Failure::io(part.display(), &error))
            }
        }
    }

    fn finish(self) -> Outcome<()> {
        let (file, part, target) = match self {
            Sink::Stdout(mut out) => return out.flush().map_err(|error| closed(&error)),
            Sink::Plain { file, part, target } => (Ok(file), part, target),
            Sink::Gzip { file, part, target } => (file.finish(), part, target),
        };
        let stored = file
            .and_then(|file| file.into_inner().map_err(std::io::IntoInnerError::into_error))
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&part, &target));
        stored.map_err(|error| Failure::io(target.display(), &error))
    }
}
