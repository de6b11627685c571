//! The simulator: clients and the server's engine in one thread, with virtual clock, network and
//! disk.
//!
//! A reading list: [`plan`] is what happens in a run, [`generate`] makes it from a seed, [`shapes`] is
//! what its numbers stand for; [`world`] brings [`node`]s (clients) and the server together over
//! [`net`], with [`clock`], [`store`], [`disk`] and [`session`] as their surroundings; [`tap`] notes
//! what became of every write; [`model`] says what the documents must be, and [`judge`] whether
//! everybody saw that; [`verdict`] is what must hold; [`mutation`]s prove that the judge can see;
//! [`run`] runs a plan, [`shrink`] makes one shorter that fails; [`trace`] tells runs apart, and
//! [`chance`] is where all randomness comes from.

pub mod chance;
pub mod clock;
pub mod disk;
pub mod generate;
pub mod judge;
pub mod model;
pub mod mutation;
pub mod net;
pub mod node;
pub mod plan;
pub mod run;
pub mod session;
pub mod shapes;
pub mod shrink;
pub mod store;
pub mod tap;
pub mod trace;
pub mod verdict;
pub mod world;
