//! Random writes, drops, exemptions and restarts: after each step every index equals one built anew
//! from the documents, and queries are answered right, whatever is being built.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidemark_protocol::model::{
    Code, FieldPath, FieldTransform, Fields, GeoPoint, IndexDefinition, IndexField, IndexMode,
    IndexScope, Timestamp, Transform, Value, Write, WriteOp,
};
use tidemark_server::engine::{DatabaseOptions, EngineError};

use crate::ask::{ask, documents};
use crate::world::{World, field, path};

const MEMORY_SEEDS: u64 = 60;
const MEMORY_STEPS: usize = 60;
const RESTART_SEEDS: u64 = 8;
const RESTART_STEPS: usize = 40;
/// Asked after each step.
const QUERIES: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Commits(Vec<Vec<Write>>),
    Create(IndexDefinition),
    /// The index at this place in the list, counted round.
    Drop(usize),
    /// One after the other, without waiting for what the former began.
    Exempt(&'static str, Vec<(Option<FieldPath>, bool)>),
    Settle,
    /// Only of durable stores.
    Restart,
}

pub(crate) const COLLECTIONS: [&str; 5] = ["a", "b", "a/x/b", "b/\0/b", "a/x/b/y/c"];
pub(crate) const COLLECTION_IDS: [&str; 3] = ["a", "b", "c"];
pub(crate) const FIELDS: [&str; 8] = ["f", "g", "m", "m.f", "m.m.g", "m.`a b`", "`a.b`", "l"];

pub(crate) fn any<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    *of.choose(rng).unwrap()
}

pub(crate) fn random_value(rng: &mut StdRng, depth: u32) -> Value {
    let nested = if depth < 3 { 14 } else { 12 };
    match rng.random_range(0..nested) {
        0 => Value::Null,
        1 => Value::from(rng.random_bool(0.5)),
        2 => Value::from(rng.random_range(-1..3)),
        3 => Value::from(f64::from(rng.random_range(-1..3))),
        4 => Value::from(any(rng, &[f64::NAN, -0.0, 0.5, f64::INFINITY])),
        5 => Value::Timestamp(Timestamp::from_micros(rng.random_range(0..3)).unwrap()),
        6 => Value::from(any(rng, &["", "a", "\0", "é", "ab"])),
        // Longer than an index orders by, some with the same beginning.
        7 => {
            let tail = any(rng, &["", "a", "b", "\0"]).repeat(rng.random_range(0..3));
            let length = any(rng, &[1_495, 1_498, 1_500, 2_000]);
            Value::from(any(rng, &["x", "\0"]).repeat(length) + &tail)
        }
        8 => Value::Bytes(Bytes::from(vec![0; any(rng, &[0, 1, 800, 1_600])])),
        9 => Value::Reference(path(any(rng, &["a/1", "a/1/b/2"]))),
        10 => Value::GeoPoint(GeoPoint::new(1.0, f64::from(rng.random_range(0..3))).unwrap()),
        11 => Value::Vector(vec![0.5; any(rng, &[1, 2, 300])]),
        12 => {
            let values = (0..rng.random_range(0..5)).map(|_| random_value(rng, depth + 1));
            Value::Array(values.filter(can_be_element).collect())
        }
        _ => Value::Map(random_fields(rng, depth + 1)),
    }
}

fn can_be_element(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Vector(_))
}

fn random_fields(rng: &mut StdRng, depth: u32) -> Fields {
    let count = rng.random_range(0..5);
    (0..count)
        .map(|_| {
            let name = any(rng, &["f", "g", "m", "a b", "a.b", "l", "\0"]);
            let value = match name {
                "m" => {
                    Value::Map(if depth < 3 { random_fields(rng, depth + 1) } else { [].into() })
                }
                _ => random_value(rng, depth),
            };
            (name.to_owned(), value)
        })
        .collect()
}

fn random_write(rng: &mut StdRng) -> Write {
    let id = any(rng, &["1", "2", "3", "\0", "é"]);
    let path = path(&format!("{}/{id}", any(rng, &COLLECTIONS)));
    let mut transforms = vec![];
    let op = match rng.random_range(0..10) {
        0..4 => WriteOp::Set(random_fields(rng, 0)),
        4..8 => {
            let mask = vec![field(any(rng, &FIELDS))];
            // A field that is in the mask and not among the fields is deleted.
            let fields = match (rng.random_bool(0.8), mask[0].segments()) {
                (false, _) | (true, []) => Fields::new(),
                (true, [outer @ .., last]) => {
                    let inner = (last.clone(), random_value(rng, 1));
                    outer.iter().rev().fold(Fields::from([inner]), |fields, name| {
                        Fields::from([(name.clone(), Value::Map(fields))])
                    })
                }
            };
            if rng.random_bool(0.3) {
                let mut elements = vec![random_value(rng, 3), Value::from(1), Value::from(1.0)];
                elements.retain(can_be_element);
                let transform = match rng.random_range(0..3) {
                    0 => Transform::ArrayUnion(elements),
                    1 => Transform::ArrayRemove(elements),
                    _ => Transform::Increment(Value::from(1)),
                };
                transforms.push(FieldTransform { field: field("t"), transform });
            }
            WriteOp::Update { fields, mask }
        }
        _ => WriteOp::Delete,
    };
    Write { path, op, transforms, precondition: None }
}

fn random_definition(rng: &mut StdRng) -> IndexDefinition {
    let mut fields: Vec<IndexField> = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let field = field(any(rng, &FIELDS));
        let contains = fields.iter().all(|it| it.mode != IndexMode::Contains);
        let modes = [IndexMode::Ascending, IndexMode::Descending, IndexMode::Contains];
        let mode = any(rng, &modes[..if contains { 3 } else { 2 }]);
        if fields.iter().all(|it| it.field != field) {
            fields.push(IndexField { field, mode });
        }
    }
    IndexDefinition {
        collection_id: (any(rng, &COLLECTION_IDS)).to_owned(),
        scope: any(rng, &[IndexScope::Collection, IndexScope::Group]),
        fields,
    }
}

fn random_steps(seed: u64, count: usize, restarts: bool) -> Vec<Step> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let changes_indexes = !seed.is_multiple_of(4);
    let step = |_| match rng.random_range(0..100) {
        0..10 if changes_indexes => Step::Create(random_definition(rng)),
        10..18 if changes_indexes => Step::Drop(rng.random_range(0..10)),
        18..30 if changes_indexes => {
            let change = |rng: &mut StdRng| {
                let prefix = rng.random_bool(0.7).then(|| field(any(rng, &FIELDS[..5])));
                (prefix, rng.random_bool(0.5))
            };
            let changes = (0..rng.random_range(1..4)).map(|_| change(rng)).collect();
            Step::Exempt(any(rng, &COLLECTION_IDS[..2]), changes)
        }
        30..35 if changes_indexes => Step::Settle,
        35..41 if restarts => Step::Restart,
        _ => {
            let commits = rng.random_range(1..5);
            let commit = |rng: &mut StdRng| -> Vec<Write> {
                (0..rng.random_range(1..5)).map(|_| random_write(rng)).collect()
            };
            Step::Commits((0..commits).map(|_| commit(rng)).collect())
        }
    };
    (0..count).map(step).collect()
}

/// Carries the steps out: how many entries there are in the end, and how many documents queries
/// found on the way; or the first step that leaves an index wrong, and how.
async fn run(steps: &[Step], durable: bool) -> Result<(u64, u64), String> {
    let place = TempDir::new().unwrap();
    let url = match durable {
        true => format!("surrealkv://{}", place.path().join("store").display()),
        false => "mem:".to_owned(),
    };
    // Builds take many chunks, with commits, changes and restarts between them.
    let options = || DatabaseOptions { index_chunk: 2, ..DatabaseOptions::default() };
    let mut world = World::open_with(&url, 1, options()).await;
    let (mut entries, mut found, mut all) = (0, 0, Vec::new());
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Commits(commits) => {
                for outcome in world.commit_all(commits.clone()).await {
                    outcome.map_err(|status| format!("step {at}: refused: {status:?}"))?;
                }
            }
            Step::Create(definition) => match world.database.create_index(definition.clone()).await
            {
                Err(EngineError::Model(error)) if error.code == Code::AlreadyExists => {}
                created => drop(created.map_err(|error| format!("step {at}: {error}"))?),
            },
            Step::Drop(place) => {
                let indexes = world.database.indexes();
                if let Some(index) = indexes.get(place % indexes.len().max(1)) {
                    match world.database.drop_index(index.id).await {
                        // It was being removed, and that has ended.
                        Err(EngineError::Model(error)) if error.code == Code::NotFound => {}
                        dropped => dropped.map_err(|error| format!("step {at}: {error}"))?,
                    }
                }
            }
            Step::Exempt(collection_id, changes) => {
                for (prefix, exempt) in changes {
                    world.database.exempt(collection_id, prefix.clone(), *exempt).await.unwrap();
                }
            }
            Step::Settle => {
                world.check_settled().await.map_err(|error| format!("step {at}: {error}"))?;
            }
            Step::Restart => {
                world = world.restart(&url, u8::try_from(at).unwrap(), options()).await;
            }
        }
        let rng = &mut StdRng::seed_from_u64(at as u64);
        // Only commits change documents. Asked at once: a build goes on meanwhile.
        if let Step::Commits(_) = step {
            all = documents(&mut world).await?;
        }
        found += ask(&mut world, &all, rng, QUERIES)
            .await
            .map_err(|error| format!("step {at}: {error}"))?;
        entries = world.check().await.map_err(|error| format!("step {at}: {error}"))?;
    }
    world.check_settled().await.map_err(|error| format!("settled: {error}"))?;
    world.tasks.finish(Duration::ZERO).await;
    world.store.close().await.unwrap();
    Ok((entries, found))
}

/// Runs a seed; if it fails, looks for fewer steps that fail as well, and panics with them.
async fn run_seed(seed: u64, count: usize, durable: bool) -> (u64, u64) {
    let mut steps = random_steps(seed, count, durable);
    let mut failure = match run(&steps, durable).await {
        Ok(counts) => return counts,
        Err(failure) => failure,
    };
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let fewer = [&steps[..at], &steps[(at + size).min(steps.len())..]].concat();
            match run(&fewer, durable).await {
                Err(other) => (steps, failure) = (fewer, other),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    panic!("TIDEMARK_SEED={seed}: {failure}\nsteps: {steps:#?}");
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("TIDEMARK_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=count).collect(),
    }
}

#[tokio::test]
async fn each_index_equals_a_rebuild_after_every_write() {
    let (mut entries, mut found) = (0, 0);
    for seed in seeds(MEMORY_SEEDS) {
        let counts = run_seed(seed, MEMORY_STEPS, false).await;
        entries += counts.0;
        found += counts.1;
    }
    assert!(entries > 0 && found > 0, "nothing was indexed, or nothing found");
    println!("{entries} entries at the ends of the runs, {found} documents found on the way");
}

#[tokio::test]
async fn each_index_equals_a_rebuild_across_restarts() {
    for seed in seeds(RESTART_SEEDS) {
        run_seed(seed, RESTART_STEPS, true).await;
    }
}
