//! The lines of the input: a file or stdin, plain or gzip (by its first bytes), with line numbers
//! and the position in the raw file for progress. Blocking; runs on a thread of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::failure::{Failure, Outcome};
use crate::value::INPUT_LIMIT;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An opened input.
pub(super) struct Source {
    lines: Box<dyn BufRead + Send>,
    name: String,
    /// How many raw bytes were read, shared with the counting reader below.
    position: Arc<AtomicU64>,
    number: u64,
}

/// One line that is not blank.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Without the blanks around it.
    pub(super) bytes: Vec<u8>,
}

impl Source {
    /// Opens a file, or stdin for `-`.
    pub(super) fn open(path: &Path) -> Outcome<Source> {
        if path == Path::new("-") {
            return Source::new("stdin", io::stdin());
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::io(&name, &error))?;
        Source::new(&name, file)
    }

    fn new(name: &str, raw: impl Read + Send + 'static) -> Outcome<Source> {
        let position = Arc::new(AtomicU64::new(0));
        let counting = Counting { raw, position: Arc::clone(&position) };
        let mut raw = BufReader::with_capacity(64 * 1024, counting);
        let head = raw.fill_buf().map_err(|error| Failure::io(name, &error))?;
        let lines: Box<dyn BufRead + Send> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        Ok(Source { lines, name: name.to_owned(), position, number: 0 })
    }

    /// How far the raw file has been read, in bytes.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// The next line that is not blank; an error names the line.
    pub(super) fn next_line(&mut self) -> Outcome<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            let limited = &mut self.lines.by_ref().take(INPUT_LIMIT as u64 + 1);
            let read = limited.read_until(b'\n', &mut bytes);
            let number = self.number + 1;
            let place = format!("{} line {number}", self.name);
            if read.map_err(|error| damaged(&place, &error))? == 0 {
                return Ok(None);
            }
            self.number = number;
            if bytes.len() > INPUT_LIMIT {
                return Err(Failure::bad_input(format!(
                    "{place}: longer than {INPUT_LIMIT} bytes"
                )));
            }
            let content = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes).trim_ascii();
            if !content.is_empty() {
                return Ok(Some(Line { number, bytes: content.to_owned() }));
            }
        }
    }
}

/// A truncated or damaged gzip stream is bad input; anything else is the machine's.
fn damaged(place: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Failure::bad_input(format!("{place}: damaged gzip: {error}"))
        }
        _ => Failure::io(place, error),
    }
}

struct Counting<R> {
    raw: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.raw.read(buffer)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(bytes: Vec<u8>) -> Outcome<Vec<(u64, String)>> {
        let mut source = Source::new("input", Cursor::new(bytes))?;
        let mut lines = Vec::new();
        while let Some(line) = source.next_line()? {
            lines.push((line.number, String::from_utf8(line.bytes).unwrap()));
        }
        Ok(lines)
    }

    #[test]
    fn plain_and_gzip_give_the_same_lines() {
        let text = "\u{feff}{}\r\n\n  \n{\"a\":1}";
        let expected = vec![(1, "{}".to_owned()), (4, "{\"a\":1}".to_owned())];
        assert_eq!(lines(text.as_bytes().to_vec()).unwrap(), expected);
        assert_eq!(lines(gzip(text)).unwrap(), expected);
    }

    #[test]
    fn concatenated_gzip_members_are_one_file() {
        let both = [gzip("1\n"), gzip("2\n")].concat();
        assert_eq!(lines(both).unwrap().len(), 2);
    }

    #[test]
    fn damage_names_the_line() {
        let mut cut = gzip(&"{\"a\":1}\n".repeat(10_000));
        cut.truncate(cut.len() - 9);
        let failure = lines(cut).unwrap_err();
        assert_eq!(failure.exit_code(), 7);
        assert!(failure.message().contains("damaged gzip"), "{failure}");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let failure = lines(vec![b' '; INPUT_LIMIT + 2]).unwrap_err();
        assert!(failure.message().contains("longer than"), "{failure}");
    }
}
