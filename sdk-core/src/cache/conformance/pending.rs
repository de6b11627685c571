//! Metadata, the outbox, and what was rejected.

use std::sync::Arc;

use tidemark_protocol::model::{
    ClientId, Code, EditTime, Fields, Incarnation, Read, Value, Version, Write, WriteId, WriteOp,
};

use super::super::{Cache, CacheBatch, ClockAnchor, Making, Metadata, OutboxEntry, RejectedEntry};
use super::{Case, FAILED, apply, path};

pub(super) const CASES: &[Case] =
    &[keeps_metadata, keeps_the_outbox_in_order, keeps_what_was_rejected];

fn metadata(next: u64) -> Metadata {
    Metadata {
        client_id: ClientId([3; 16]),
        next_write_id: WriteId(next),
        acknowledged_through: WriteId(1),
        clock: (next > 4).then_some(ClockAnchor { offset: -17 }),
        last_edit: EditTime(next * 10),
        incarnation: (next > 4).then_some(Incarnation(8)),
    }
}

fn writes(name: &str) -> Arc<[Write]> {
    let (transforms, precondition) = (Vec::new(), None);
    let op = WriteOp::Set(Fields::from([("n".to_owned(), Value::from(1))]));
    let delete =
        Write { path: path("c/x"), op: WriteOp::Delete, transforms: Vec::new(), precondition };
    Arc::from([Write { path: path(name), op, transforms, precondition: None }, delete])
}

fn entry(id: u64, name: &str) -> OutboxEntry {
    let reads = vec![Read { path: path("c/r"), version: Version(id) }];
    let writes = writes(name);
    let making = match id % 3 {
        0 => Making::Online,
        1 => Making::Offline,
        _ => Making::Unaligned,
    };
    let (at, edit) = (Version(id), EditTime(id + 1));
    OutboxEntry { id: WriteId(id), writes, reads, at, edit, making }
}

fn rejected(id: u64, name: &str) -> RejectedEntry {
    let (code, message) = (Code::PermissionDenied, format!("not {name}"));
    RejectedEntry { id: WriteId(id), writes: writes(name), at: Version(id), code, message }
}

/// Leaves metadata, a write of the first document in the outbox, and one of the second rejected.
pub(super) fn keep_pending(cache: &mut dyn Cache, first: &str, second: &str) {
    let batch = CacheBatch {
        outbox_put: vec![entry(4, first)],
        rejected_put: vec![rejected(3, second)],
        metadata: Some(metadata(5)),
        ..CacheBatch::default()
    };
    apply(cache, batch);
}

/// Panics where [`keep_pending`] has left something else.
pub(super) fn expect_pending(cache: &dyn Cache, first: &str, second: &str) {
    assert_eq!(cache.outbox().expect(FAILED), [entry(4, first)]);
    assert_eq!(cache.rejected().expect(FAILED), [rejected(3, second)]);
    assert_eq!(cache.metadata().expect(FAILED), Some(metadata(5)));
}

fn keeps_metadata(cache: &mut dyn Cache) {
    for next in [4, 5] {
        let metadata = Some(metadata(next));
        apply(cache, CacheBatch { metadata, ..CacheBatch::default() });
        assert_eq!(cache.metadata().expect(FAILED), metadata);
    }
    apply(cache, CacheBatch::default());
    assert_eq!(cache.metadata().expect(FAILED), Some(metadata(5)));
}

fn keeps_the_outbox_in_order(cache: &mut dyn Cache) {
    let entry = |id| entry(id, "c/1");
    for ids in [vec![300, 2], vec![9]] {
        let outbox_put = ids.into_iter().map(entry).collect();
        apply(cache, CacheBatch { outbox_put, ..CacheBatch::default() });
    }
    assert_eq!(cache.outbox().expect(FAILED), [entry(2), entry(9), entry(300)]);
    let outbox_remove = vec![WriteId(9), WriteId(77)];
    apply(cache, CacheBatch { outbox_remove, ..CacheBatch::default() });
    assert_eq!(cache.outbox().expect(FAILED), [entry(2), entry(300)]);
}

fn keeps_what_was_rejected(cache: &mut dyn Cache) {
    let rejected = |id| rejected(id, "c/1");
    let outbox_put = vec![entry(7, "c/1")];
    apply(cache, CacheBatch { outbox_put, ..CacheBatch::default() });
    let batch = CacheBatch {
        outbox_remove: vec![WriteId(7)],
        rejected_put: vec![rejected(300), rejected(7)],
        ..CacheBatch::default()
    };
    apply(cache, batch);
    assert_eq!(cache.outbox().expect(FAILED), Vec::new());
    assert_eq!(cache.rejected().expect(FAILED), [rejected(7), rejected(300)]);
    let rejected_remove = vec![WriteId(7), WriteId(8)];
    apply(cache, CacheBatch { rejected_remove, ..CacheBatch::default() });
    assert_eq!(cache.rejected().expect(FAILED), [rejected(300)]);
}
