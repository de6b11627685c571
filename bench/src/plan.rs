//! How long and how often everything is measured.

use std::path::PathBuf;
use std::time::Duration;

/// The extent of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Repetitions of each measurement; the floor and Tidemark take turns, the median counts.
    pub(crate) repetitions: usize,
    /// How long one phase measures.
    pub(crate) phase: Duration,
    /// Numbers of listeners of W2.
    pub(crate) listeners: Vec<usize>,
    /// Clients of W2 through the SDK core.
    pub(crate) core_listeners: usize,
    /// Documents of W4, and of the cache of offline.
    pub(crate) documents: usize,
    /// Numbers of live queries of W3.
    pub(crate) queries: Vec<usize>,
    /// Writes of one stage of W3.
    pub(crate) writes: u64,
    /// Documents of the small and the large collection that pages are read from.
    pub(crate) pages: [u64; 2],
    /// How many recorded keystrokes are typed at most; with less than all, those of one person only.
    pub(crate) keystrokes: usize,
    /// Where the stores are made.
    pub(crate) data: PathBuf,
}

impl Plan {
    /// The full run: some five minutes.
    pub(crate) fn full(data: PathBuf) -> Plan {
        Plan {
            repetitions: 3,
            phase: Duration::from_millis(2_000),
            listeners: vec![100, 500, 1000],
            core_listeners: 100,
            documents: 10_000,
            queries: vec![100, 1_000, 5_000, 20_000],
            writes: 20_000,
            pages: [10_000, 1_000_000],
            keystrokes: usize::MAX,
            data,
        }
    }

    /// A run that shows that everything works; its figures mean little.
    pub(crate) fn quick(data: PathBuf) -> Plan {
        Plan {
            repetitions: 1,
            phase: Duration::from_millis(300),
            listeners: vec![20, 100],
            core_listeners: 20,
            documents: 1_000,
            queries: vec![50, 200],
            writes: 500,
            pages: [1_000, 5_000],
            keystrokes: 5_000,
            data,
        }
    }

    /// The most connections that one phase opens in one process.
    pub(crate) fn connections(&self) -> u64 {
        self.listeners.iter().copied().max().unwrap_or(0).max(64) as u64
    }
}
