//! The documents whose vectors are nearest, by looking at all that match.

use std::sync::Arc;

use tidemark_protocol::model::Nearest;

use super::execute::Rows;
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;

/// The nearest of a query's documents, the nearest first. Ties are in the query's order if the rows
/// come in it.
pub(in crate::engine) async fn nearest(
    rows: &mut Rows<'_>,
    nearest: &Nearest,
) -> Result<Vec<Arc<Stored>>, EngineError> {
    let limit = nearest.limit as usize;
    let mut best: Vec<(f64, Arc<Stored>)> = Vec::new();
    while let Some(chunk) = rows.next().await? {
        for row in chunk {
            let Some(distance) = nearest.distance(&row.document) else { continue };
            let is_behind = |(other, _): &(f64, _)| nearest.compare(*other, distance).is_le();
            let at = best.partition_point(is_behind);
            if at < limit {
                best.insert(at, (distance, row));
                best.truncate(limit);
            }
        }
    }
    Ok(best.into_iter().map(|(_, row)| row).collect())
}
