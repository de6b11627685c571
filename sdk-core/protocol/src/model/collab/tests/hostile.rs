//! Bytes that no client would send.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjType, ROOT};
use proptest::prelude::*;

use super::*;
use crate::model::Value;
use crate::model::collab::{CollabError, check_change};

/// Some changes with all kinds of operations.
fn changes() -> Vec<bytes::Bytes> {
    let mut document = document(1);
    for at in 0..30 {
        document.splice("text", at, 0, "x").unwrap();
    }
    document.splice("text", 3, 20, "some words").unwrap();
    let nested = Value::from([("list", Value::from(vec![1, 2, 3])), ("s", Value::from("t"))]);
    document.splice_list("list", &[], 0, 0, &[nested.clone(), Value::Null]).unwrap();
    document.put("map", &[], "k", &nested).unwrap();
    document.remove("map", &[], "k").unwrap();
    document.increment("count", -3).unwrap();
    let mark = crate::model::collab::Mark {
        start: 1,
        end: 5,
        name: "bold".to_owned(),
        value: Value::from(true),
    };
    document.mark("text", &mark, Default::default()).unwrap();
    document.take_changes()
}

/// The bytes with a checksum that fits them again.
fn reseal(bytes: &mut [u8]) {
    let hash = sha256(&bytes[8..]);
    bytes[4..8].copy_from_slice(&hash[..4]);
}

/// SHA-256, for the checksums of chunks.
fn sha256(message: &[u8]) -> Vec<u8> {
    let fraction = |root: f64| (root.fract() * 4_294_967_296.0) as u32;
    let primes = (2_u32..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64).collect::<Vec<_>>();
    let cube: Vec<u32> = primes.iter().map(|p| fraction(f64::from(*p).cbrt())).collect();
    let mut state: Vec<u32> =
        primes.iter().take(8).map(|p| fraction(f64::from(*p).sqrt())).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((8 * message.len() as u64).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> =
            block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for i in 16..64 {
            let (x, y) = (w[i - 15], w[i - 2]);
            let a = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
            let b = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
            w.push(w[i - 16].wrapping_add(a).wrapping_add(w[i - 7]).wrapping_add(b));
        }
        let mut s = state.clone();
        for i in 0..64 {
            let e = s[4].rotate_right(6) ^ s[4].rotate_right(11) ^ s[4].rotate_right(25);
            let choice = (s[4] & s[5]) ^ (!s[4] & s[6]);
            let one = [e, choice, cube[i], w[i]].iter().fold(s[7], |a, b| a.wrapping_add(*b));
            let a = s[0].rotate_right(2) ^ s[0].rotate_right(13) ^ s[0].rotate_right(22);
            let majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
            s.rotate_right(1);
            s[4] = s[4].wrapping_add(one);
            s[0] = one.wrapping_add(a).wrapping_add(majority);
        }
        state.iter_mut().zip(s).for_each(|(a, b)| *a = a.wrapping_add(b));
    }
    state.into_iter().flat_map(u32::to_be_bytes).collect()
}

#[test]
fn real_changes_pass() {
    for change in changes() {
        let mut sealed = change.to_vec();
        reseal(&mut sealed);
        assert_eq!(sealed, change, "the checksum is SHA-256's");
        check_change(&change).unwrap();
    }
}

#[test]
fn changes_that_rest_on_unknown_ones_are_refused() {
    let mut a = document(1);
    a.splice("text", 0, 0, "a").unwrap();
    a.take_changes();
    a.splice("text", 1, 0, "b").unwrap();
    let late = a.take_changes();
    let error = document(2).apply(late.iter().map(|it| &it[..])).unwrap_err();
    assert_eq!(error, CollabError::MissingDependencies);
}

#[test]
fn root_objects_come_from_their_seeds() {
    let mut rogue = AutoCommit::new().with_actor(ActorId::from(vec![9; 4]));
    rogue.put_object(ROOT, "text", ObjType::Map).unwrap();
    rogue.commit();
    let change = rogue.get_last_local_change().unwrap();
    assert!(document(1).apply([change.raw_bytes()]).is_err());
    let mut other = CollabDocument::new(&[2], TextUnit::CodePoints);
    other.ensure("text", CollaborativeKind::List, None).unwrap();
    let seeds = other.take_changes();
    let error = document(1).apply(seeds.iter().map(|it| &it[..])).unwrap_err();
    assert!(matches!(error, CollabError::Kind { .. } | CollabError::Malformed(_)), "{error}");
}

#[test]
fn a_few_bytes_do_not_become_many_operations() {
    // A column of actions whose run says 2^40.
    let actor = [1, 7];
    let mut body = vec![0];
    body.extend(actor);
    body.extend([1, 1, 0, 0, 0, 1, 0x42, 7]);
    body.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1]);
    let mut change = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1, u8::try_from(body.len()).unwrap()];
    change.extend(body);
    reseal(&mut change);
    let error = check_change(&change).unwrap_err();
    assert!(matches!(error, CollabError::TooLarge { size, .. } if size > 1 << 39), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Mutated changes, their checksums made good, are refused or merged; nothing panics and what
    /// was merged can be shown and saved.
    #[test]
    fn mutated_changes_do_no_harm(
        which in 0..100_usize,
        edits in proptest::collection::vec((9..400_usize, any::<u8>()), 1..4),
        cut in proptest::option::of(0..60_usize),
    ) {
        let changes = changes();
        let mut bytes = changes[which % changes.len()].to_vec();
        for (at, byte) in edits {
            let at = 9 + at % (bytes.len() - 9);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(bytes.len().saturating_sub(cut).max(12));
        }
        reseal(&mut bytes);
        let mut victim = document(2);
        let before: Vec<&[u8]> =
            changes.iter().take(which % changes.len()).map(|it| &it[..]).collect();
        victim.apply(before).unwrap();
        if victim.apply([&bytes[..]]).is_ok() {
            let values = victim.values();
            let parts = victim.save();
            let loaded = CollabDocument::load(
                &[3], TextUnit::CodePoints, parts.iter().map(|it| &it[..]), [],
            );
            prop_assert_eq!(loaded.unwrap().values(), values);
        }
    }
}
