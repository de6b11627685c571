//! Indexes against the documents: after every random write each index equals one built anew.
//!
//! Seeded. A failure prints its seed and the fewest steps that were found to fail;
//! `TIDEMARK_SEED` runs one seed alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

mod ask;
mod builds;
mod crash;
mod limits;
mod random;
mod world;
