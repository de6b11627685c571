//! Where a client keeps its cache. Opens and removes; what is in it is the engine's.

#[cfg(feature = "native")]
use std::path::{Path, PathBuf};

use crate::cache::{Cache, CacheError, MemoryCache};
#[cfg(feature = "native")]
use crate::cache::{NativeCache, Options};

/// What a builder was told.
pub(super) enum Storage {
    /// In memory.
    Memory,
    /// In a folder, with those of other projects and databases.
    #[cfg(feature = "native")]
    Folder(PathBuf),
    /// Somewhere else.
    Other(Box<dyn Cache>),
}

impl Storage {
    /// Opens it, with so many bytes of documents and indexes at most.
    pub(super) fn open(
        self,
        project: &str,
        database: &str,
        size: Option<u64>,
    ) -> Result<Box<dyn Cache>, CacheError> {
        Ok(match self {
            Storage::Memory => match size {
                Some(size) => Box::new(MemoryCache::with_budget(size)),
                None => Box::new(MemoryCache::new()),
            },
            #[cfg(feature = "native")]
            Storage::Folder(folder) => {
                let options = size.map_or_else(Options::default, |size| Options { size });
                Box::new(NativeCache::open_in(&place(&folder, project, database), options)?)
            }
            Storage::Other(cache) => cache,
        })
    }

    /// Removes it with all that is in it, where it is in a folder.
    #[cfg(feature = "native")]
    pub(super) fn remove(&self, project: &str, database: &str) -> Result<(), CacheError> {
        match self {
            Storage::Memory | Storage::Other(_) => Ok(()),
            Storage::Folder(folder) => NativeCache::remove(&place(folder, project, database)),
        }
    }
}

/// Caches of several projects and databases never mix.
#[cfg(feature = "native")]
fn place(folder: &Path, project: &str, database: &str) -> PathBuf {
    folder.join(format!("{}.{}", escaped(project), escaped(database)))
}

/// A name that every file system takes, and no other name has.
#[cfg(feature = "native")]
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        // Some file systems take large letters for small ones.
        other => format!("%{other:02x}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;

    #[test]
    fn no_two_databases_share_a_place() {
        let names = [
            ("default", "(default)"),
            ("Default", "(default)"),
            ("default.x", "y"),
            ("default", "x.y"),
            ("../up", "/"),
            ("%2e", "."),
            (".", "%2e"),
        ];
        let places: std::collections::BTreeSet<PathBuf> = names
            .iter()
            .map(|(project, database)| place(Path::new("c"), project, database))
            .collect();
        assert_eq!(places.len(), names.len(), "{places:?}");
        assert!(places.iter().all(|place| place.parent() == Some(Path::new("c"))), "{places:?}");
        assert!(places.contains(Path::new("c/default.%28default%29")), "{places:?}");
    }
}
