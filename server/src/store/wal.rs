//! What can be seen of an engine's write-ahead log from outside: its numbered files.
//!
//! [`super::kvs`] drives it to make up for what the engine gets wrong around the change from one log
//! file to the next. It only looks; it never writes or removes a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of a log, and the newest file that was seen there.
#[derive(Debug)]
pub(super) struct LogFiles {
    directory: PathBuf,
    newest: u64,
}

impl LogFiles {
    /// The log of a store; it need not exist yet.
    pub(super) fn of_store(store: &Path) -> Self {
        Self { directory: store.join("wal"), newest: 0 }
    }

    /// Whether any file holds a byte: the store was not closed, or not all of it was written out.
    pub(super) fn hold_data(&self) -> io::Result<bool> {
        Ok(self.files()?.iter().any(|(_, length)| *length > 0))
    }

    /// Remembers the newest file that is there.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.newest = self.files()?.iter().map(|(number, _)| *number).max().unwrap_or(0);
        Ok(())
    }

    /// Whether the engine began a newer file since the last look. This is one system call.
    pub(super) fn advanced(&mut self) -> io::Result<bool> {
        let mut advanced = false;
        while fs::exists(self.directory.join(format!("{:020}.wal", self.newest + 1)))? {
            self.newest += 1;
            advanced = true;
        }
        Ok(advanced)
    }

    /// Number and length of each file.
    fn files(&self) -> io::Result<Vec<(u64, u64)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".wal"));
            if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
                files.push((number, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_seen_as_its_numbered_files() {
        let store = tempfile::TempDir::new().expect("a directory");
        let mut log = LogFiles::of_store(store.path());
        assert!(!log.hold_data().expect("no directory is no data"));
        fs::create_dir(store.path().join("wal")).expect("made");
        let file = |number: u64| store.path().join(format!("wal/{number:020}.wal"));
        fs::write(file(7), b"").expect("written");
        fs::write(store.path().join("wal/other"), b"data").expect("written");
        assert!(!log.hold_data().expect("an empty log"));
        log.look().expect("readable");
        assert!(!log.advanced().expect("readable"));
        fs::write(file(8), b"data").expect("written");
        fs::write(file(9), b"").expect("written");
        assert!(log.hold_data().expect("data"));
        assert!(log.advanced().expect("readable"));
        assert!(!log.advanced().expect("seen before"));
    }
}
