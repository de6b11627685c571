//! Counts documents: by the keys that stand for them where an index settles all conditions, else by
//! reading them.

use super::context::Context;
use super::execute::Rows;
use super::stream::Stream;
use crate::engine::error::EngineError;

impl Rows<'_> {
    /// How many documents there are, at most as many as are wanted. To be asked before any is taken.
    pub(in crate::engine) async fn count(&mut self) -> Result<u64, EngineError> {
        let mut count = 0;
        if self.may_repeat() {
            while let Some(rows) = self.next().await? {
                count += rows.len() as u64;
            }
            return Ok(count);
        }
        while let Some((stream, cx)) = self.next_stream().await? {
            let left = (cx.take as u64).saturating_sub(count);
            if left == 0 {
                break;
            }
            count += count_stream(stream, cx, left).await?;
        }
        Ok(count)
    }
}

async fn count_stream(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    most: u64,
) -> Result<u64, EngineError> {
    let mut count = 0;
    while count < most {
        let left = usize::try_from(most - count).unwrap_or(usize::MAX);
        let found = match stream.count_keys(cx, left).await? {
            Some(found) => found,
            None if stream.fill(cx, left).await? => stream.take_ready(left),
            None => 0,
        };
        if found == 0 {
            break;
        }
        count += found as u64;
    }
    Ok(count)
}
