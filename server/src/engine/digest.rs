//! Answering what the branches of a target's digest hold, from the newest durable state. Runs once
//! over the result and keeps nothing between requests: the client asks on where it differs.

use std::sync::Arc;

use tidemark_protocol::model::{Code, DigestAnswer, DigestNode, DigestSurvey, ModelError, Target};
use tidemark_protocol::wire::codec;

use super::error::EngineError;
use super::query::{Rows, Undo, View, Wanted, top};
use super::source::Source;

/// Documents got at a time.
const GET_ROWS: usize = 256;
/// Members of a window that are named at once. What is in a window depends on what else is, so a
/// client must be told all of it as of one version.
const WINDOW_MEMBERS: usize = 1_000;

/// What is in these branches of the target's result.
pub(super) async fn survey(
    view: View<'_>,
    target: &Target,
    nodes: Vec<DigestNode>,
    cancelled: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Vec<DigestAnswer>, EngineError> {
    let mut survey = DigestSurvey::new(nodes);
    match Source::new(target) {
        Source::Query { matcher, .. } => {
            let wanted = Wanted { cancelled, ..Wanted::all_in_any_order() };
            let mut rows = Rows::new(view, &matcher, wanted);
            while let Some(chunk) = rows.next_bytes().await? {
                chunk.iter().try_for_each(|bytes| add(&mut survey, bytes))?;
            }
        }
        Source::Window { matcher, span, .. } => {
            let rows = top(view, &matcher, span.end(), &Undo::new()).await?;
            let within: &[Arc<_>] = span.within(&rows);
            survey = survey.naming(WINDOW_MEMBERS);
            within.iter().try_for_each(|row| add(&mut survey, &row.bytes))?;
        }
        Source::Documents(paths) => {
            for chunk in paths.chunks(GET_ROWS) {
                let keys: Vec<_> = chunk.iter().map(|path| view.keys.document(path)).collect();
                let found = view.snapshot.get_many(&keys).await?;
                found.iter().flatten().try_for_each(|bytes| add(&mut survey, bytes))?;
            }
        }
        Source::Aggregate { .. } => {
            let message = "an aggregate has no members to compare";
            return Err(ModelError::new(Code::InvalidArgument, message).into());
        }
    }
    Ok(survey.finish())
}

fn add(survey: &mut DigestSurvey, document: &[u8]) -> Result<(), EngineError> {
    let (path, _, version) = codec::peek_document(document).map_err(EngineError::corrupt)?;
    Ok(survey.add(path, version)?)
}
