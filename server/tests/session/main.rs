//! A real server on loopback, spoken to with bare WebSockets and bare TCP: what it answers, what it
//! refuses, and that other clients notice nothing.

#![allow(clippy::unwrap_used)]

mod corpus;
mod hostile;
mod indexes;
mod life;
mod port;
mod raw;
mod slow;
