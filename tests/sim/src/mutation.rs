//! Faults of the kind that a bug would be, put into the simulator's own parts: a run with one of them
//! must break the invariant that it is about. They prove that the judge can see.

use crate::verdict::Invariant;

/// Something that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A client's disk says that it has synced and has not.
    DiskForgetsDurable,
    /// The transport repeats a commit under another write id.
    CommitRepeated,
    /// A listener misses a snapshot.
    ListenerSkips,
    /// A client drops the changes of a frame.
    ChangesDropped,
    /// The server's store loses a commit that it has acknowledged.
    StoreForgets,
    /// Stamps of edits are taken off on their way, so that the later arrival wins.
    ClocksIgnored,
    /// The client is told that a write was refused that was committed.
    OutcomeTurned,
    /// Resume tokens are spoilt on their way: everything is sent again.
    TokensSpoilt,
    /// A resumed listen claims a later token than it has.
    TokenAhead,
    /// The cache never drops anything.
    NothingCollected,
}

impl Mutation {
    /// All of them.
    pub const ALL: &'static [Mutation] = &[
        Mutation::DiskForgetsDurable,
        Mutation::CommitRepeated,
        Mutation::ListenerSkips,
        Mutation::ChangesDropped,
        Mutation::StoreForgets,
        Mutation::ClocksIgnored,
        Mutation::OutcomeTurned,
        Mutation::TokensSpoilt,
        Mutation::TokenAhead,
        Mutation::NothingCollected,
    ];

    /// What it breaks; the first that is seen may be any of these.
    pub fn breaks(self) -> &'static [Invariant] {
        use Invariant as I;
        match self {
            Mutation::DiskForgetsDurable => &[I::NothingLost, I::AppliedOnce],
            Mutation::CommitRepeated => &[I::AppliedOnce],
            Mutation::ListenerSkips => &[I::History],
            Mutation::ChangesDropped => &[I::History, I::Convergence, I::ResumedEqualsFresh],
            // A deletion that is forgotten shows as a document that should not be there.
            Mutation::StoreForgets => {
                &[I::NothingLost, I::AppliedOnce, I::History, I::LastEditWins]
            }
            Mutation::ClocksIgnored => &[I::LastEditWins],
            Mutation::OutcomeTurned => &[I::RejectedLeavesNoTrace],
            Mutation::TokensSpoilt => &[I::ResumeBytes],
            Mutation::TokenAhead => &[I::ResumedEqualsFresh, I::History, I::Convergence],
            Mutation::NothingCollected => &[I::Limits],
        }
    }
}
