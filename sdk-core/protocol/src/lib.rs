//! What both sides of Tidemark must agree on.
//!
//! [`model`] is the data model: values and their order, paths, documents, writes and how they
//! merge, queries and how they match. It is pure and knows no encoding. [`wire`] is the sync
//! protocol: frames, their encoding and its limits. Client and server run this same code.

pub mod model;
pub mod wire;
