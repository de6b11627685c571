//! Replays the fuzz corpus of the session, and seeded random scripts, against its state machine:
//! nothing panics, and every end is told by a typed frame.

use tidemark_server::clock::Seed;
use tidemark_server::session::state::Action;

#[path = "../../fuzz/src/script.rs"]
mod script;

#[test]
fn the_corpus_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/session");
    let (mut replayed, mut ended) = (0, 0);
    for file in std::fs::read_dir(folder).expect("the corpus is in the repository") {
        let input = std::fs::read(file.expect("readable").path()).expect("readable");
        ended += usize::from(script::replay(&input).end.is_some());
        replayed += 1;
    }
    assert!(replayed >= 8, "the corpus has only {replayed} inputs");
    assert!(ended >= 4, "only {ended} of the corpus reach an end");
}

#[test]
fn random_scripts_hold() {
    let (mut welcomed, mut closed, mut dropped) = (0, 0, 0);
    for seed in 0..2_000 {
        let transcript = script::replay(&random_script(seed));
        welcomed += usize::from(!transcript.sent.is_empty());
        match transcript.end {
            Some(Action::Close { .. }) => closed += 1,
            Some(Action::Drop { .. }) => dropped += 1,
            _ => {}
        }
    }
    // The scripts reach what they are to try.
    assert!(welcomed > 500 && closed > 500 && dropped > 5, "{welcomed} {closed} {dropped}");
}

/// Most begin with a good greeting, so that they get past it.
fn random_script(seed: u64) -> Vec<u8> {
    let random = Seed::new(seed);
    let mut script = Vec::new();
    if !seed.is_multiple_of(5) {
        script.extend([10, 1, 0, 4, 0]);
    }
    for _ in 0..random.next() % 60 {
        let kind = match random.next() % 16 {
            // The ends come seldom, or nothing else would be tried.
            0 => [3, 5, 6, 7][usize::try_from(random.next() % 4).expect("small")],
            1..=4 => 10,
            5..=6 => 11,
            7..=9 => 8,
            _ => u8::try_from(random.next() % 3).expect("small"),
        };
        let argument: Vec<u8> =
            (0..random.next() % 12).map(|_| random.next().to_le_bytes()[0]).collect();
        script.push(kind);
        script.push(u8::try_from(argument.len()).expect("short"));
        script.extend(argument);
    }
    script
}
