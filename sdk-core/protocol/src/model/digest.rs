//! Comparing what a client has of a target with what the server has, without sending either: the members
//! of the target are the leaves of a tree by the hash of their paths, and only branches that differ
//! are looked into.

use super::ids::Version;
use super::path::DocumentPath;

/// A branch of the tree: the members whose path hashes agree in their first `4 * depth` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestNode {
    /// How many steps from the root; at most 16.
    pub depth: u32,
    /// The bits that agree, at the top; the others are 0.
    pub prefix: u64,
}

/// What a set of members amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many.
    pub count: u32,
    /// The wrapping sum of their hashes.
    pub sum: u64,
}

/// What the server has in a branch.
#[derive(Clone, Debug, PartialEq)]
pub struct DigestAnswer {
    /// Which branch.
    pub node: DigestNode,
    /// What is in it.
    pub part: DigestPart,
}

/// The members of a branch: few are named, many only amount to something.
#[derive(Clone, Debug, PartialEq)]
pub enum DigestPart {
    /// All members, each at its update version.
    Members(Vec<(DocumentPath, Version)>),
    /// The sixteen branches of the branch.
    Children([Fingerprint; 16]),
}
