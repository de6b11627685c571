//! The platform: clock, randomness, tasks and transport behind one trait, so that the same client
//! runs under tokio, in a browser and in a simulator. Nothing outside this module may name a platform.

#[cfg(feature = "native")]
pub mod native;

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use tidemark_protocol::model::Timestamp;

use crate::error::Error;

/// A future of the platform: it may move between threads where there are threads.
#[cfg(not(target_family = "wasm"))]
pub type Task<T> = futures::future::BoxFuture<'static, T>;
/// A future of the platform: it may move between threads where there are threads.
#[cfg(target_family = "wasm")]
pub type Task<T> = futures::future::LocalBoxFuture<'static, T>;

/// Frames towards the server.
#[cfg(not(target_family = "wasm"))]
pub type FrameSink = Pin<Box<dyn Sink<Bytes, Error = Error> + Send>>;
/// Frames towards the server.
#[cfg(target_family = "wasm")]
pub type FrameSink = Pin<Box<dyn Sink<Bytes, Error = Error>>>;

/// Frames from the server. An error is the reason why the connection closed, and the last item.
#[cfg(not(target_family = "wasm"))]
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
/// Frames from the server. An error is the reason why the connection closed, and the last item.
#[cfg(target_family = "wasm")]
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>>>>;

/// An open connection; dropping both halves closes it.
pub struct Transport {
    /// Takes frames; they leave at a flush.
    pub sink: FrameSink,
    /// Gives frames.
    pub stream: FrameStream,
}

/// What the client needs of the platform it runs on.
pub trait Runtime: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;

    /// The time of day, for estimates of server timestamps; may jump.
    fn wall(&self) -> Timestamp;

    /// 64 random bits, unpredictable enough for document ids.
    fn random(&self) -> u64;

    /// Runs a task in the background; `name` is for traces.
    fn spawn(&self, name: &'static str, task: Task<()>);

    /// Resolves after this time.
    fn sleep(&self, duration: Duration) -> Task<()>;

    /// Opens a connection to `url` (`ws://host:port/path`) with the protocol's subprotocol.
    fn connect(&self, url: &str) -> Task<Result<Transport, Error>>;
}
