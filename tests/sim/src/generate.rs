//! Makes the plan of a seed. Seeds differ not only in their steps but in their moods: which faults
//! there are, and how many.

use crate::chance::Chance;
use crate::plan::{Edit, Op, Plan, ServerPlan, Step, What};
use crate::shapes::{DOCUMENTS, FIELDS, SHAPES, SLOTS};

/// How likely each kind of fault is in a run, in thousandths of its steps.
struct Mood {
    disconnect: u64,
    partition: u64,
    slow: u64,
    offline: u64,
    crash_client: u64,
    crash_server: u64,
    skew: u64,
    evict: u64,
    /// How far apart steps are, in milliseconds.
    pace_ms: u64,
    /// How many documents are written to.
    documents: u64,
}

impl Mood {
    fn of(chance: &mut Chance) -> Mood {
        let mut some = |most: u64| if chance.percent(40) { 0 } else { chance.below(most) };
        Mood {
            disconnect: some(60),
            partition: some(20),
            slow: some(20),
            offline: some(20),
            crash_client: some(25),
            crash_server: some(15),
            skew: some(10),
            evict: some(15),
            pace_ms: *chance.pick(&[2, 20, 60]),
            documents: *chance.pick(&[3, 10, u64::from(DOCUMENTS)]),
        }
    }

    fn fault(&self, client: usize, chance: &mut Chance) -> Option<What> {
        let mut at = chance.below(1_000);
        let mut hit = |likely: u64| {
            let hit = at < likely;
            at = if hit { u64::MAX } else { at - likely };
            hit
        };
        if hit(self.disconnect) {
            return Some(What::Disconnect { client });
        }
        if hit(self.partition) {
            return Some(What::Partition { client, for_ms: 200 + chance.below(15_000) });
        }
        if hit(self.slow) {
            let (bytes_per_second, for_ms) = (500 + chance.below(20_000), chance.below(8_000));
            return Some(What::Slow { client, bytes_per_second, for_ms });
        }
        if hit(self.offline) {
            return Some(What::Offline { client, for_ms: 100 + chance.below(15_000) });
        }
        if hit(self.crash_client) {
            let (down_ms, lost) = (chance.below(4_000), small(chance, 6));
            return Some(What::CrashClient { client, down_ms, lost });
        }
        if hit(self.crash_server) {
            return Some(What::CrashServer {
                down_ms: chance.below(4_000),
                keep: chance.percent(50),
            });
        }
        if hit(self.skew) {
            let hours = 3_600_000 * 6;
            let skew_ms = i64::try_from(chance.below(2 * hours)).unwrap_or(0) - 3_600_000 * 6;
            // A server whose clock is hours ahead stays at its last version when set right.
            let server = chance.percent(30);
            return Some(if server {
                What::SkewServer { skew_ms: skew_ms / 1_000 }
            } else {
                What::SkewClient { client, skew_ms }
            });
        }
        hit(self.evict).then_some(What::Evict { client })
    }
}

fn small(chance: &mut Chance, below: u64) -> u8 {
    u8::try_from(chance.below(below)).unwrap_or(0)
}

fn number(chance: &mut Chance) -> i64 {
    i64::try_from(chance.below(8)).unwrap_or(0) - 2
}

fn tags(chance: &mut Chance) -> Vec<i64> {
    (0..1 + chance.below(3)).map(|_| number(chance)).collect()
}

fn op(chance: &mut Chance) -> Op {
    let field = small(chance, u64::from(FIELDS));
    match chance.below(22) {
        0..5 => Op::Set { a: number(chance), b: number(chance), tags: tags(chance) },
        5..9 => {
            let fields = (0..1 + chance.below(2))
                .map(|_| (small(chance, u64::from(FIELDS)), number(chance)));
            let mut fields: Vec<(u8, i64)> = fields.collect();
            fields.sort_by_key(|(field, _)| *field);
            fields.dedup_by_key(|(field, _)| *field);
            Op::Merge { fields }
        }
        9 => Op::Update { field, value: number(chance) },
        10 => Op::DeleteField { field },
        11 => Op::Create { a: number(chance) },
        12..14 => Op::Delete,
        14..18 => Op::Increment { field, by: number(chance) },
        18 => Op::Extremum { field, greatest: chance.percent(50), value: number(chance) },
        19 => Op::Union { tags: tags(chance) },
        20 => Op::Remove { tags: tags(chance) },
        _ => Op::Timestamp,
    }
}

fn edits(chance: &mut Chance, mood: &Mood, most: u64) -> Vec<Edit> {
    let count = if chance.percent(75) { 1 } else { 2 + chance.below(most) };
    (0..count).map(|_| Edit { document: small(chance, mood.documents), op: op(chance) }).collect()
}

fn listen(client: usize, chance: &mut Chance) -> What {
    What::Listen {
        client,
        slot: small(chance, u64::from(SLOTS)),
        shape: small(chance, u64::from(SHAPES)),
        argument: small(chance, 6),
        metadata: chance.percent(30),
    }
}

fn what(client: usize, mood: &Mood, chance: &mut Chance) -> What {
    if let Some(fault) = mood.fault(client, chance) {
        return fault;
    }
    match chance.below(40) {
        0..4 => listen(client, chance),
        4 => What::Unlisten { client, slot: small(chance, u64::from(SLOTS)) },
        5..8 => {
            let (shape, argument) = (small(chance, u64::from(SHAPES)), small(chance, 6));
            What::Ask { client, shape, argument }
        }
        8..10 => {
            let mut writes = edits(chance, mood, 2);
            writes.sort_by_key(|edit| edit.document);
            writes.dedup_by_key(|edit| edit.document);
            What::Transaction { client, writes }
        }
        _ => What::Write { client, writes: edits(chance, mood, 4) },
    }
}

/// The plan of a seed with so many steps.
pub fn plan(seed: u64, steps: usize) -> Plan {
    let mut chance = Chance::of(&[seed, 1]);
    let chance = &mut chance;
    let clients = usize::try_from(2 + chance.below(3)).unwrap_or(2);
    let server = ServerPlan {
        log_bytes: *chance.pick(&[2_000, 20_000, 1 << 30]),
        outbox_bytes: *chance.pick(&[700, 5_000, 1 << 20]),
        sync_ms: chance.below(8),
        heartbeat_ms: 500 + chance.below(3_000),
        cache_bytes: *chance.pick(&[400, 2_000, 1 << 20]),
    };
    let mood = Mood::of(chance);
    let mut all = Vec::with_capacity(steps);
    for at in 0..steps {
        let client = usize::try_from(chance.below(clients as u64)).unwrap_or(0);
        let what = if at < clients * 2 {
            listen(at % clients, chance)
        } else {
            what(client, &mood, chance)
        };
        // Some come in a burst.
        let wait_ms = if chance.percent(30) { 0 } else { chance.below(mood.pace_ms * 2) };
        all.push(Step { wait_ms, what });
    }
    Plan { seed, clients, server, steps: all }
}
