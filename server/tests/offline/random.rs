//! Random stamped commits, sent ahead, over restarts: the server's documents are what the rules make
//! of the same writes in commit order. Seeded; a failure prints its seed.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::Commit;
use tidemark_server::engine::DatabaseOptions;

use crate::world::{Outcome, World, delete, set, update};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn random_write(rng: &mut StdRng, number: i64) -> Write {
    let document = format!("c/{}", rng.random_range(0..4));
    let values: Vec<(&str, i64)> =
        NAMES.into_iter().filter(|_| rng.random_bool(0.4)).map(|name| (name, number)).collect();
    let mut write = match rng.random_range(0..8) {
        0..2 => set(&document, &values),
        2..6 => update(&document, &values),
        _ => delete(&document),
    };
    if !matches!(write.op, WriteOp::Delete) && rng.random_bool(0.2) {
        let field = FieldPath::parse(NAMES[rng.random_range(0..3)]).unwrap();
        let transform = Transform::Increment(Value::Integer(1));
        write.transforms.push(FieldTransform { field, transform });
    }
    if rng.random_bool(0.1) {
        write.precondition = Some(Precondition::Exists(rng.random_bool(0.5)));
    }
    write
}

/// The documents by the rules, and when the missing ones were deleted.
#[derive(Default)]
struct Model {
    states: BTreeMap<DocumentPath, (Option<Document>, Option<EditTime>)>,
}

impl Model {
    /// Carries out a commit that the server took, or finds out that it had to be rejected.
    fn commit(&mut self, commit: &Commit, outcome: &Outcome) {
        let mut states = self.states.clone();
        let version = outcome.as_ref().map_or(Version(u64::MAX), |(version, _)| *version);
        let at = CommitTime::at_commit(version, commit.edit_time);
        let mut results = Vec::new();
        for write in &commit.writes {
            let (document, deleted) = states.entry(write.path.clone()).or_default();
            if let Err(error) = check_precondition(document.as_ref(), write) {
                let status = outcome.as_ref().expect_err("a condition does not hold");
                return assert_eq!(status.code, error.code);
            }
            let applied = apply_write(document.as_ref(), *deleted, write, at).unwrap();
            (*document, *deleted) = (applied.document, applied.deleted);
            results.push(applied.result);
        }
        let (_, told) = outcome.as_ref().expect("all conditions hold");
        assert_eq!(told, &results);
        self.states = states;
    }
}

/// Returns how many writes came too late, in part or whole.
async fn run(seed: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(DatabaseOptions::default()).await;
    let mut clients = [world.connect(1).await, world.connect(2).await];
    let (mut model, mut late) = (Model::default(), 0);
    for step in 0..40 {
        world.clock.advance(std::time::Duration::from_micros(rng.random_range(0..5_000_000)));
        if rng.random_bool(0.1) {
            world.restart().await;
            for (index, client) in clients.iter_mut().enumerate() {
                client.connection = world.connect(index as u8 + 1).await.connection;
            }
        }
        let client = &mut clients[rng.random_range(0..2)];
        let mut commits = Vec::new();
        for ahead in 0..rng.random_range(1..6) {
            let count = rng.random_range(1..4);
            let number = i64::from(step * 100 + ahead * 10);
            let writes = (0..count).map(|_| random_write(&mut rng, number)).collect();
            let stamp = rng.random_bool(0.7).then(|| world.ago(rng.random_range(0..60)));
            commits.push(Commit { edit_time: stamp, ..client.numbered(writes) });
        }
        for commit in &commits {
            client.send(commit.clone()).await;
        }
        for commit in &commits {
            let (write_id, outcome) = client.answer().await;
            assert_eq!(write_id, commit.write_id);
            model.commit(commit, &outcome);
            let results = outcome.map(|(_, results)| results).unwrap_or_default();
            late += results.iter().filter(|it| it.superseded != Superseded::Nothing).count();
        }
        let expected: BTreeMap<DocumentPath, Document> = model
            .states
            .iter()
            .filter_map(|(path, (document, _))| Some((path.clone(), document.clone()?)))
            .collect();
        assert_eq!(world.documents().await, expected, "after step {step}");
    }
    late
}

#[tokio::test]
async fn random_commits_leave_what_the_rules_say() {
    let one = std::env::var("TIDEMARK_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut late = 0;
    for seed in one.map_or(0..40, |seed: u64| seed..seed + 1) {
        late += tokio::spawn(run(seed)).await.unwrap_or_else(|error| {
            panic!("seed {seed} failed ({error}); TIDEMARK_SEED={seed} runs it alone")
        });
    }
    println!("{late} writes came too late");
    assert!(one.is_some() || late > 1_000, "hardly any write came too late: {late}");
}
