//! Crash images: a disk in memory records every write and every sync. The cache is opened again from
//! each state that a crash can leave: what was synced, with none, some, or all of the writes since,
//! some of them torn.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redb::StorageBackend;
use tidemark_protocol::model::{
    ClientId, Direction, Document, DocumentPath, EditTime, FieldPath, Fields, MergeState, Query,
    Value, Version, Write, WriteId, WriteOp,
};

use super::*;
use crate::cache::{CacheBatch, Known, Making, Metadata, OutboxEntry, TargetChange};

/// What happened to the disk.
#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, data: Vec<u8> },
    Length(usize),
    Sync,
}

#[derive(Debug, Default)]
struct Recorded {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

/// A disk, and all that happened to it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Recorded>>);

fn perform(bytes: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write { at, data } => {
            let end = at + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*at..end].copy_from_slice(data);
        }
        Step::Length(length) => bytes.resize(*length, 0),
        Step::Sync => {}
    }
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(Recorded { bytes, steps: Vec::new() })))
    }

    fn record(&self, step: Step) -> io::Result<()> {
        let recorded = &mut *self.0.lock().unwrap();
        perform(&mut recorded.bytes, &step);
        recorded.steps.push(step);
        Ok(())
    }

    /// How many steps there were.
    fn steps(&self) -> usize {
        self.0.lock().unwrap().steps.len()
    }

    /// With an empty database on it, as [`make`] leaves it.
    fn new() -> Disk {
        let disk = Disk::default();
        disk.database().close().unwrap();
        let bytes = std::mem::take(&mut disk.0.lock().unwrap().bytes);
        Disk::with(bytes)
    }

    fn database(&self) -> Database {
        let mut builder = Database::builder();
        let database = builder.set_cache_size(1 << 20).create_with_backend(self.clone());
        database.expect("a database opens after any crash")
    }

    fn cache(&self) -> NativeCache {
        KvCache::open(FileStore::with(self.database(), None).unwrap(), 1 << 30).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = &self.0.lock().unwrap().bytes;
        let at = offset as usize;
        let part = bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record(Step::Length(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.record(Step::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record(Step::Write { at: offset as usize, data: data.to_vec() })
    }
}

/// How many batches the workload has; each third is durable.
const BATCHES: u64 = 45;
/// How many documents each but the first has.
const DOCUMENTS: u64 = 8;
/// How many the first has.
const ALL_DOCUMENTS: u64 = 110;

fn path(number: u64) -> DocumentPath {
    DocumentPath::parse(&format!("c/{number:03}")).unwrap()
}

fn key() -> Bytes {
    Bytes::from_static(b"all")
}

fn documents(number: u64) -> Vec<(DocumentPath, Known)> {
    let text = "x".repeat(400 + number as usize * 7);
    let fields = [("n".to_owned(), Value::from(number as i64)), ("text".to_owned(), text.into())];
    let fields = Fields::from(fields);
    let count = if number == 1 { ALL_DOCUMENTS } else { DOCUMENTS };
    let document = |at| Document {
        path: path(at),
        fields: fields.clone(),
        create_version: Version(1),
        update_version: Version(number),
        merge: MergeState::default(),
    };
    (0..count).map(|at| (path(at), Known::Document(Arc::new(document(at))))).collect()
}

fn outbox_entry(number: u64) -> OutboxEntry {
    let (op, transforms, precondition) = (WriteOp::Delete, Vec::new(), None);
    OutboxEntry {
        id: WriteId(number),
        writes: Arc::from([Write { path: path(number), op, transforms, precondition }]),
        reads: Vec::new(),
        at: Version(number),
        edit: EditTime(number),
        making: Making::Offline,
    }
}

/// Which documents a batch takes into the target, or out of it.
fn members(number: u64) -> impl Iterator<Item = (DocumentPath, bool)> {
    (0..DOCUMENTS).map(move |at| (path((at + number) % 16), number.is_multiple_of(2)))
}

/// A batch with its number everywhere: in documents and an index of them, in the outbox, in the
/// metadata.
fn batch(number: u64) -> CacheBatch {
    let answered = WriteId(number.saturating_sub(5));
    CacheBatch {
        documents: documents(number),
        targets: vec![
            TargetChange::Put { key: key(), token: None },
            TargetChange::Members { key: key(), documents: members(number).collect() },
        ],
        outbox_put: vec![outbox_entry(number)],
        outbox_remove: vec![answered],
        metadata: Some(Metadata {
            client_id: ClientId([1; 16]),
            next_write_id: WriteId(number + 1),
            acknowledged_through: answered,
            clock: None,
            last_edit: EditTime(number),
            incarnation: None,
        }),
        ..CacheBatch::default()
    }
}

fn by_number() -> Query {
    let query = Query::collection(&path(0).parent());
    query.with_order(FieldPath::parse("n").unwrap(), Direction::Descending)
}

/// The members of the target after a batch.
fn members_after(number: u64) -> Vec<DocumentPath> {
    let all: BTreeMap<DocumentPath, bool> = (1..=number).flat_map(members).collect();
    all.into_iter().filter(|(_, inside)| *inside).map(|(path, _)| path).collect()
}

/// Runs the workload; gives the number of steps of the disk at the end of each batch.
fn run(disk: &Disk) -> Vec<usize> {
    let mut cache = disk.cache();
    let mut ends = vec![disk.steps()];
    for number in 1..=BATCHES {
        let durable = number.is_multiple_of(3);
        let durability = if durable { Durability::Durable } else { Durability::Soon };
        cache.apply(batch(number), durability).unwrap();
        if number == 2 {
            // From here on, batches maintain an index.
            cache.find(&by_number(), &mut |_| ControlFlow::Break(())).unwrap();
        }
        ends.push(disk.steps());
    }
    ends
}

/// Checks that the cache has exactly what it had after one of its batches; gives its number.
fn check_image(image: Vec<u8>, least: u64) -> u64 {
    let cache = Disk::with(image).cache();
    let Some(metadata) = cache.metadata().unwrap() else {
        assert_eq!(least, 0, "durable batches are lost");
        assert_eq!(cache.size(), 0);
        assert_eq!(cache.outbox().unwrap(), []);
        return 0;
    };
    let number = metadata.last_edit.0;
    assert!(number >= least, "batch {least} was durable; there is {number}");
    assert_eq!(Some(metadata), batch(number).metadata);
    let first = number.saturating_sub(4).max(1);
    let outbox: Vec<OutboxEntry> = (first..=number).map(outbox_entry).collect();
    assert_eq!(cache.outbox().unwrap(), outbox);
    for (path, known) in documents(number) {
        assert_eq!(cache.document(&path).unwrap(), known, "after batch {number}");
    }
    let members = cache.target_documents(&key()).unwrap();
    let mut members: Vec<_> = members.iter().map(|document| document.path.clone()).collect();
    members.sort();
    assert_eq!(members, members_after(number));
    let mut found = Vec::new();
    let each = &mut |document: Arc<Document>| {
        found.push(document.update_version.0);
        ControlFlow::Continue(())
    };
    cache.find(&by_number(), each).unwrap();
    let mut expected = vec![number; DOCUMENTS as usize];
    expected.resize(ALL_DOCUMENTS as usize, 1);
    assert_eq!(found, expected);
    number
}

/// Numbers that look random and are the same each time.
fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// The disk after a crash that followed these steps: what was synced, and of the writes since what
/// `survives` says, a torn one in whole sectors.
fn crashed(mut bytes: Vec<u8>, steps: &[Step], survives: &mut dyn FnMut() -> u64) -> Vec<u8> {
    let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).map_or(0, |at| at + 1);
    steps[..synced].iter().for_each(|step| perform(&mut bytes, step));
    for step in &steps[synced..] {
        match (survives() % 4, step) {
            (0, Step::Write { .. }) => {}
            (1, Step::Write { at, data }) => {
                let kept = (survives() as usize % (data.len() / 512 + 1)) * 512;
                perform(&mut bytes, &Step::Write { at: *at, data: data[..kept].to_vec() });
            }
            (_, step) => perform(&mut bytes, step),
        }
    }
    bytes
}

#[test]
#[allow(clippy::print_stdout)] // The count is part of what the tests report.
fn after_a_crash_at_any_write_all_that_is_durable_is_there_and_nothing_is_half_there() {
    let disk = Disk::new();
    let empty = disk.0.lock().unwrap().bytes.clone();
    let ends = run(&disk);
    let steps = disk.0.lock().unwrap().steps.clone();
    let mut state = 1;
    let (mut images, mut seen) = (0, BTreeMap::new());
    for until in 0..=steps.len() {
        // The last batch that had returned, and the last of these that was durable.
        let returned = ends.iter().rposition(|end| *end <= until).unwrap_or(0) as u64;
        let least = returned / 3 * 3;
        let mut some = || dice(&mut state);
        let survivals: [&mut dyn FnMut() -> u64; 3] = [&mut || 0, &mut || 3, &mut some];
        for survives in survivals {
            let number = check_image(crashed(empty.clone(), &steps[..until], survives), least);
            *seen.entry(number).or_insert(0_u32) += 1;
            images += 1;
        }
    }
    println!("{images} crash images at {} writes and syncs", steps.len());
    assert!(images > 300, "{images}");
    assert!(seen.len() as u64 > BATCHES / 3, "each durable batch was the last one: {seen:?}");
}
