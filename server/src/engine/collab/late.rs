//! Changes that were made for another state than the current epoch: a former epoch, or, by an author
//! who knew of no collaborative fields, the plain values that the fields held.

use bytes::Bytes;
use tidemark_protocol::model::Collaboration;
use tidemark_protocol::model::collab::{CollabDocument, CollabError, TextUnit, rebase_late};

use super::super::error::Rejection;
use super::history::{History, refused};
use super::merge::{Added, Target, unknown_epoch};
use super::view::View;
use super::{Written, archive};

/// Merges late changes where they belong and carries the difference over, epoch by epoch.
pub(super) async fn merge(
    view: View<'_>,
    target: Target<'_>,
    history: &mut History,
    collaboration: &Collaboration,
    out: &mut Written,
) -> Result<Added, Rejection> {
    let mut former = archive::load(view, target.path, out).await?;
    let mut found = None;
    for (place, candidate) in former.iter_mut().enumerate() {
        if candidate.epoch == collaboration.epoch && fits(&mut candidate.document, collaboration)? {
            found = Some(place);
            break;
        }
    }
    let Some(first) = found else {
        if collaboration.epoch.0 != 0 {
            return Err(unknown_epoch(collaboration));
        }
        return merge_elsewhere(view, target, history, collaboration, out).await;
    };
    let mut changes: Vec<Bytes> = collaboration.changes.clone();
    let mut place = first;
    loop {
        let bytes = changes.iter().map(|change| &change[..]);
        let next = former[place].next;
        let carried = former[place].carried.clone();
        let following = former.iter().position(|it| it.epoch == next);
        let (made, carried) = match following {
            Some(following) if next != history.epoch => {
                let mut between = former[following].document.clone();
                rebase_late(&mut former[place].document, bytes, &mut between, &carried)
            }
            Some(_) | None if next == history.epoch => {
                let document = &mut history.document;
                rebase_late(&mut former[place].document, bytes, document, &carried)
            }
            Some(_) | None => return Err(unknown_epoch(collaboration)),
        }
        .map_err(refused)?;
        former[place].carried = carried;
        changes = made;
        if next == history.epoch {
            break;
        }
        place = following.unwrap_or(place);
    }
    for former in former.into_iter().filter(|it| it.epoch >= collaboration.epoch) {
        archive::put(view, target.path, former, out).await?;
    }
    let fields = history.document.kinds().into_keys().collect();
    Ok((changes, fields))
}

/// Whether the changes rest on what a former epoch has.
fn fits(document: &mut CollabDocument, collaboration: &Collaboration) -> Result<bool, Rejection> {
    let changes = collaboration.changes.iter().map(|change| &change[..]);
    match document.clone().apply(changes) {
        Ok(_) => Ok(true),
        Err(CollabError::MissingDependencies) => Ok(false),
        Err(error) => Err(refused(error)),
    }
}

/// Merges changes that begin with plain values: beside the difference from those values to the
/// current ones. What they began with is kept like a former epoch, for the changes that follow them.
async fn merge_elsewhere(
    view: View<'_>,
    target: Target<'_>,
    history: &mut History,
    collaboration: &Collaboration,
    out: &mut Written,
) -> Result<Added, Rejection> {
    let changes = || collaboration.changes.iter().map(|change| &change[..]);
    let actor = [b"plain", &target.at.version.0.to_be_bytes()[..]].concat();
    let mut beside =
        CollabDocument::beginning(&actor, TextUnit::CodePoints, changes()).map_err(refused)?;
    for field in beside.kinds().into_keys() {
        let value = history.document.value(&field);
        let plain = target.current.and_then(|document| document.fields.get(&field).cloned());
        if let Some(value) = value.or(plain) {
            beside.assign(&field, &value).map_err(refused)?;
        }
    }
    beside.take_changes();
    beside.apply(changes()).map_err(refused)?;
    for (field, kind) in beside.kinds() {
        history.document.ensure(&field, kind, None).map_err(refused)?;
        if let Some(value) = beside.value(&field) {
            history.document.assign(&field, &value).map_err(refused)?;
        }
    }
    let added = history.document.take_changes();
    let former = archive::Former {
        id: target.at.version.0,
        epoch: collaboration.epoch,
        next: history.epoch,
        carried: history.document.heads(),
        document: beside,
    };
    let fields = former.document.kinds().into_keys().collect();
    archive::put(view, target.path, former, out).await?;
    Ok((added, fields))
}
