//! What happens in a run: made from a seed, written as JSON when the run fails, replayed and made
//! shorter from there. Every step says all it needs, so that leaving one out leaves the others as
//! they were.

use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides latencies and the like; the steps do not depend on it any more.
    pub seed: u64,
    /// How many clients there are.
    pub clients: usize,
    /// How the server is set up.
    pub server: ServerPlan,
    /// In order.
    pub steps: Vec<Step>,
}

/// How the server is set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// How large its log may be.
    pub log_bytes: u64,
    /// Changes that may wait for one connection.
    pub outbox_bytes: usize,
    /// How long a commit takes to be on the disk.
    pub sync_ms: u64,
    /// How often it says what it is up to.
    pub heartbeat_ms: u64,
    /// How many bytes of documents a client's cache may hold.
    pub cache_bytes: u64,
}

/// One thing that happens, so many milliseconds after the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds.
    pub wait_ms: u64,
    /// What happens.
    pub what: What,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names say it.
pub enum What {
    Write {
        client: usize,
        writes: Vec<Edit>,
    },
    /// Reads the documents, then writes all of them.
    Transaction {
        client: usize,
        writes: Vec<Edit>,
    },
    Listen {
        client: usize,
        slot: u8,
        shape: u8,
        argument: u8,
        metadata: bool,
    },
    Unlisten {
        client: usize,
        slot: u8,
    },
    /// Asks once, at the server if it is there.
    Ask {
        client: usize,
        shape: u8,
        argument: u8,
    },
    /// The connection breaks; both sides learn of it.
    Disconnect {
        client: usize,
    },
    /// Nothing arrives for a while, in either direction; nobody is told.
    Partition {
        client: usize,
        for_ms: u64,
    },
    /// The client takes what it is sent slowly.
    Slow {
        client: usize,
        bytes_per_second: u64,
        for_ms: u64,
    },
    /// The app wants no network for a while.
    Offline {
        client: usize,
        for_ms: u64,
    },
    /// The process dies; some of what was not synced to its disk is lost.
    CrashClient {
        client: usize,
        down_ms: u64,
        lost: u8,
    },
    /// The clock of a client jumps to be wrong by this.
    SkewClient {
        client: usize,
        skew_ms: i64,
    },
    /// The cache of a client is cleaned up to its bound.
    Evict {
        client: usize,
    },
    /// The server dies; the commit under way is kept or lost.
    CrashServer {
        down_ms: u64,
        keep: bool,
    },
    /// The server's clock jumps to be wrong by this.
    SkewServer {
        skew_ms: i64,
    },
}

/// What is done to one document, by its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// Which document.
    pub document: u8,
    /// What is done.
    pub op: Op,
}

/// What is done to a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Op {
    /// Replaces it.
    Set {
        a: i64,
        b: i64,
        tags: Vec<i64>,
    },
    /// Sets fields by their number; makes the document if need be.
    Merge {
        fields: Vec<(u8, i64)>,
    },
    /// Sets a field of a document that must exist.
    Update {
        field: u8,
        value: i64,
    },
    /// Takes a field away.
    DeleteField {
        field: u8,
    },
    /// Makes a document that must not exist.
    Create {
        a: i64,
    },
    Delete,
    Increment {
        field: u8,
        by: i64,
    },
    Extremum {
        field: u8,
        greatest: bool,
        value: i64,
    },
    Union {
        tags: Vec<i64>,
    },
    Remove {
        tags: Vec<i64>,
    },
    Timestamp,
}

impl Plan {
    /// How long all steps take, in milliseconds.
    pub fn length_ms(&self) -> u64 {
        self.steps.iter().map(|step| step.wait_ms).sum()
    }
}

impl What {
    /// The client that it happens to, if it is one.
    pub fn client(&self) -> Option<usize> {
        self.clone().client_mut().copied()
    }

    /// The client that it happens to, if it is one.
    pub fn client_mut(&mut self) -> Option<&mut usize> {
        match self {
            What::Write { client, .. }
            | What::Transaction { client, .. }
            | What::Listen { client, .. }
            | What::Unlisten { client, .. }
            | What::Ask { client, .. }
            | What::Disconnect { client }
            | What::Partition { client, .. }
            | What::Slow { client, .. }
            | What::Offline { client, .. }
            | What::CrashClient { client, .. }
            | What::SkewClient { client, .. }
            | What::Evict { client } => Some(client),
            What::CrashServer { .. } | What::SkewServer { .. } => None,
        }
    }
}
