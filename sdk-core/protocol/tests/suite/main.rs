//! The tests of the protocol crate that need more than one module of it: laws on random values,
//! the codec against the generated code, golden frames, limits, and the answers of the official
//! Firestore emulator. One binary, so that it is linked once.

#![allow(clippy::unwrap_used)]

mod codec;
mod corpus;
mod edits;
mod evaluate;
mod fixtures;
mod generate;
mod golden;
mod hostile;
mod matching;
mod merge;
mod oracle;
mod order;
mod queries;
mod reference;
mod samples;
