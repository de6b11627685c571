//! Queries through the whole engine: against the emulator's recorded answers, against evaluation
//! without indexes, and what they cost.
//!
//! Seeded. A failure prints its seed and the fewest documents that were found to fail;
//! `TIDEMARK_SEED` runs one seed alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

mod cost;
#[path = "../../../sdk-core/protocol/tests/suite/fixtures.rs"]
#[allow(dead_code, unreachable_pub)]
mod fixtures;
mod plans;
mod random;
mod replay;
mod upgrade;
mod world;
