//! What an import has done, kept across runs: one small file per input, template and server. It
//! counts only lines the server has acknowledged, so that losing it repeats work but skips none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};

const FORMAT: u32 = 1;
const HEAD: u64 = 1024 * 1024;

/// What an import is about; another identity is another import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The input's full path.
    pub(super) file: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// When it was changed, in nanoseconds since the Unix epoch.
    pub(super) modified: u64,
    /// A hash of its first MiB.
    pub(super) head: String,
    /// The path template; none for the export form.
    pub(super) template: Option<String>,
    /// The server.
    pub(super) url: String,
    /// The project.
    pub(super) project: String,
}

impl Identity {
    /// Of a file; none for stdin, which cannot be read again.
    pub(super) fn of(
        path: &Path,
        template: Option<&str>,
        url: &str,
        project: &str,
    ) -> Outcome<Option<Identity>> {
        if path == Path::new("-") {
            return Ok(None);
        }
        let failed = |error| Failure::io(path.display(), &error);
        let file = path.canonicalize().map_err(failed)?;
        let opened = File::open(&file).map_err(failed)?;
        let metadata = opened.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let mut head = Vec::new();
        opened.take(HEAD).read_to_end(&mut head).map_err(failed)?;
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Some(Identity {
            file: file.display().to_string(),
            size: metadata.len(),
            modified: modified.map_or(0, |at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)),
            head: format!("{:016x}", fnv1a(&head)),
            template: template.map(str::to_owned),
            url: url.to_owned(),
            project: project.to_owned(),
        }))
    }

    fn file_name(&self) -> String {
        let template = self.template.as_deref().unwrap_or("");
        let key = [&self.file, template, &self.url, &self.project].join("\0");
        format!("import-{:016x}.json", fnv1a(key.as_bytes()))
    }
}

/// How far an import has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    format: u32,
    identity: Identity,
    /// All lines up to this one are acknowledged (or were skipped as bad).
    pub(super) lines: u64,
    /// How many documents they were.
    pub(super) documents: u64,
    /// How many lines were skipped as bad.
    pub(super) bad: u64,
    /// The last document acknowledged: it tells whether the server still has what we sent.
    pub(super) last: Option<String>,
    /// Whether the end of the input was reached.
    pub(super) complete: bool,
}

/// Where progress is kept.
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// In a given folder or the user's state folder; none if the machine has no such place.
    pub(super) fn locate(folder: Option<&Path>, identity: &Identity) -> Option<StateFile> {
        let folder = folder.map(Path::to_owned).or_else(user_state_folder)?;
        Some(StateFile { path: folder.join(identity.file_name()) })
    }

    /// What is known about this import; a damaged or foreign file counts as nothing.
    pub(super) fn load(&self, identity: &Identity) -> Option<Progress> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let progress: Progress = serde_json::from_str(&text).ok()?;
        (progress.format == FORMAT && progress.identity == *identity).then_some(progress)
    }

    /// Replaces the file in one step.
    pub(super) fn save(&self, progress: &Progress) -> Outcome<()> {
        self.write(progress).map_err(|error| Failure::io(self.path.display(), &error))
    }

    fn write(&self, progress: &Progress) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let part = self.path.with_extension(format!("{}.part", std::process::id()));
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec(progress)?)?;
        file.sync_all()?;
        std::fs::rename(&part, &self.path)
    }
}

impl Progress {
    /// Nothing done yet.
    pub(super) fn start(identity: Identity) -> Progress {
        let (lines, documents, bad) = (0, 0, 0);
        Progress { format: FORMAT, identity, lines, documents, bad, last: None, complete: false }
    }
}

fn user_state_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .or_else(|| set("LOCALAPPDATA").map(PathBuf::from))?;
    Some(base.join("tidemark"))
}

/// FNV-1a, 64 bits: the same on every machine and release, which the standard hasher is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identity(path: &Path) -> Identity {
        Identity::of(path, Some("r/{a}"), "ws://x", "p").unwrap().unwrap()
    }

    #[test]
    fn progress_survives_and_belongs_to_its_input() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.jsonl");
        std::fs::write(&input, "{}\n").unwrap();
        let first = identity(&input);
        let file = StateFile::locate(Some(&folder.path().join("state")), &first).unwrap();
        assert_eq!(file.load(&first), None);
        let mut progress = Progress::start(first.clone());
        progress.lines = 7;
        file.save(&progress).unwrap();
        assert_eq!(file.load(&first), Some(progress));

        std::fs::write(&input, "{}\n{}\n").unwrap();
        assert_eq!(file.load(&identity(&input)), None, "another content is another import");
        let other = Identity { template: None, ..first.clone() };
        assert_ne!(other.file_name(), first.file_name());
    }

    #[test]
    fn a_damaged_file_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.jsonl");
        std::fs::write(&input, "{}\n").unwrap();
        let identity = identity(&input);
        let file = StateFile::locate(Some(folder.path()), &identity).unwrap();
        std::fs::write(&file.path, "{\"format\":1,").unwrap();
        assert_eq!(file.load(&identity), None);
    }

    #[test]
    fn saving_leaves_nothing_else_behind() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.jsonl");
        std::fs::write(&input, "{}\n").unwrap();
        let identity = identity(&input);
        let state = folder.path().join("state");
        let file = StateFile::locate(Some(&state), &identity).unwrap();
        file.save(&Progress::start(identity)).unwrap();
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
