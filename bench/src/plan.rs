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
    /// Documents of W4.
    pub(crate) documents: usize,
    /// Where the stores are made.
    pub(crate) data: PathBuf,
}

impl Plan {
    /// The full run: a little under four minutes.
    pub(crate) fn full(data: PathBuf) -> Plan {
        Plan {
            repetitions: 3,
            phase: Duration::from_millis(2_000),
            listeners: vec![100, 500, 1000],
            core_listeners: 100,
            documents: 10_000,
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
            data,
        }
    }

    /// The most connections that one phase opens in one process.
    pub(crate) fn connections(&self) -> u64 {
        self.listeners.iter().copied().max().unwrap_or(0).max(64) as u64
    }
}
