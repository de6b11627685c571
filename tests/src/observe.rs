//! Waiting for conditions, never for time: every wait names what it waits for and has a deadline.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tidemark_core::Error;

/// How long a condition may take before the test fails. Generous: it is only ever reached by a bug.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The future's result, or a failure that names what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_time(PATIENCE, what, future).await
}

/// [`within`] for something that takes longer.
pub async fn within_time<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain: {what}"),
    }
}

/// The first item of the stream that satisfies the condition; fails on an error or the end of the stream.
pub async fn until<S, T>(stream: &mut S, what: &str, mut condition: impl FnMut(&T) -> bool) -> T
where
    S: Stream<Item = Result<T, Error>> + Unpin,
    T: Debug,
{
    let mut last = None;
    let search = async {
        loop {
            match stream.next().await {
                Some(Ok(item)) if condition(&item) => return item,
                Some(Ok(item)) => last = Some(item),
                Some(Err(error)) => panic!("an error instead of {what}: {error:?}"),
                None => panic!("the stream ended before {what}"),
            }
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(item) => item,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}; the last was {last:#?}"),
    }
}

/// The next item; fails on an error or the end of the stream.
pub async fn next<S, T>(stream: &mut S, what: &str) -> T
where
    S: Stream<Item = Result<T, Error>> + Unpin,
    T: Debug,
{
    until(stream, what, |_| true).await
}

/// Calls until the condition gives something, yielding to timers in between.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    })
    .await
}
