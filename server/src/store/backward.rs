//! Reading backward by scans that go forward, for an engine whose backward scans are slow to begin:
//! SurrealKV looks for the end of one by walking there from the end of its write buffer, past every
//! newer key that is greater, which takes tens of milliseconds when the buffer is full. A forward
//! scan finds its beginning at once.
//!
//! The last rows of a range are those of some stretch at its end. Stretches of doubling width are
//! tried, by halving the exponents, until one holds enough rows and not many more; where the rows are
//! so dense that none does, the search goes on inside. Driven by [`kvs`](super::kvs).

use async_trait::async_trait;

use super::{Key, KeyRange, StoreError};

/// A key and its value, as the engine gives them.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// What can be scanned forward.
#[async_trait]
pub(super) trait Forward: Send + Sync {
    /// The first rows of a range.
    async fn first_rows(&self, range: KeyRange, limit: usize) -> Result<Vec<Row>, StoreError>;
}

/// Bytes of a key that are taken for a number at a time.
const DIGITS: usize = 8;
/// One above the greatest such number.
const ALL: u128 = 1 << (8 * DIGITS);

/// A range of keys that begin alike, as numbers: what follows the common beginning.
struct Part {
    range: KeyRange,
    /// What all of its keys begin with.
    prefix: Vec<u8>,
    from: u128,
    /// Exclusive.
    to: u128,
}

/// The last rows of a range, the last first.
pub(super) async fn last_rows(
    source: &impl Forward,
    range: KeyRange,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut part = Part::of(range);
    while rows.len() < limit && !part.range.is_empty() {
        let wanted = limit - rows.len();
        let most = wanted + wanted / 2 + 16;
        let all = source.first_rows(part.range.clone(), most + 1).await?;
        if all.len() <= most {
            take_last(all, wanted, &mut rows);
            break;
        }
        if part.to - part.from == 1 {
            part = part.inside();
            continue;
        }
        match part.search(source, wanted, most).await? {
            Search::Enough(found) => {
                take_last(found, wanted, &mut rows);
                break;
            }
            Search::Between { above, rest } => {
                take_last(above, wanted, &mut rows);
                part = rest;
            }
        }
    }
    Ok(rows)
}

fn take_last(found: Vec<Row>, wanted: usize, rows: &mut Vec<Row>) {
    rows.extend(found.into_iter().rev().take(wanted));
}

/// What a search came to.
enum Search {
    /// The rows at the end, at least as many as are wanted.
    Enough(Vec<Row>),
    /// Fewer than are wanted; the others are in the rest, which has too many.
    Between { above: Vec<Row>, rest: Part },
}

impl Part {
    fn of(range: KeyRange) -> Part {
        let same = range.start.iter().zip(&range.end).take_while(|(a, b)| a == b).count();
        let prefix = range.start[..same].to_vec();
        Part::with_prefix(range, prefix)
    }

    fn with_prefix(range: KeyRange, prefix: Vec<u8>) -> Part {
        let from = digits(&range.start[prefix.len()..]);
        let to = match range.end.strip_prefix(prefix.as_slice()) {
            // All keys with the prefix come before it.
            None => ALL,
            Some(end) => {
                let whole = digits(end);
                if end == shortest(whole).as_slice() { whole } else { whole + 1 }
            }
        };
        Part { range, prefix, from, to }
    }

    /// The least key of a number.
    fn key(&self, number: u128) -> Key {
        [self.prefix.as_slice(), &shortest(number)].concat()
    }

    /// From a number to the end.
    fn since(&self, number: u128) -> KeyRange {
        let start = self.key(number).max(self.range.start.clone());
        KeyRange { start, end: self.range.end.clone() }
    }

    /// The keys of its one number that have further bytes: all but a few shorter ones, which come
    /// before them.
    fn inside(self) -> Part {
        let number = u64::try_from(self.from).expect("a part begins below its end");
        let prefix = [self.prefix.as_slice(), &number.to_be_bytes()].concat();
        let start = prefix.clone().max(self.range.start);
        Part::with_prefix(KeyRange { start, end: self.range.end }, prefix)
    }

    /// Looks for a width at the end that holds at least `wanted` rows and not more than `most`. The
    /// part has more than that, and more than one number.
    async fn search(
        &self,
        source: &impl Forward,
        wanted: usize,
        most: usize,
    ) -> Result<Search, StoreError> {
        let widths = (self.to - self.from - 1).ilog2() + 1;
        // Below `low` too few, from `high` on too many; the last is the whole part.
        let (mut low, mut high) = (0, widths);
        let mut above = Vec::new();
        while low < high {
            let middle = low.midpoint(high);
            let found = source.first_rows(self.since(self.to - (1 << middle)), most + 1).await?;
            if found.len() > most {
                high = middle;
            } else if found.len() >= wanted {
                return Ok(Search::Enough(found));
            } else {
                above = found;
                low = middle + 1;
            }
        }
        let begin = if low == widths { self.from } else { self.to - (1 << low) };
        let (end, to) = match low.checked_sub(1) {
            Some(below) => (self.key(self.to - (1 << below)), self.to - (1 << below)),
            None => (self.range.end.clone(), self.to),
        };
        let range = KeyRange { start: self.since(begin).start, end };
        let rest = Part { range, prefix: self.prefix.clone(), from: begin, to };
        Ok(Search::Between { above, rest })
    }
}

/// The first bytes as a number; those that are missing count as zeros.
fn digits(bytes: &[u8]) -> u128 {
    let mut number = [0; DIGITS];
    let length = bytes.len().min(DIGITS);
    number[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(number).into()
}

/// The shortest bytes of a number, which are the least.
fn shortest(number: u128) -> Vec<u8> {
    let bytes = u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes[..length].to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    #[derive(Default)]
    struct Table {
        keys: BTreeSet<Vec<u8>>,
        scans: AtomicUsize,
        rows: AtomicUsize,
    }

    #[async_trait]
    impl Forward for Table {
        async fn first_rows(&self, range: KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
            self.scans.fetch_add(1, Ordering::Relaxed);
            if range.is_empty() {
                return Ok(vec![]);
            }
            let found = self.keys.range(range.start..range.end).take(limit);
            let rows: Vec<Row> = found.map(|key| (key.clone(), vec![])).collect();
            self.rows.fetch_add(rows.len(), Ordering::Relaxed);
            Ok(rows)
        }
    }

    fn random(state: &mut u64, below: u64) -> u64 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    /// Keys of few different bytes and lengths, many with long beginnings in common.
    fn random_key(state: &mut u64) -> Vec<u8> {
        let beginnings: [&[u8]; 4] =
            [b"", b"a", b"a\0\0\0\0\0\0\0", b"a long beginning that many keys have in common/"];
        let mut key = beginnings[random(state, 4) as usize].to_vec();
        let bytes = [0, 0, 1, b'a', 0xFE, 0xFF];
        let length = random(state, 12) + u64::from(key.is_empty());
        key.extend((0..length).map(|_| bytes[random(state, 6) as usize]));
        key
    }

    fn check(table: &Table, range: &KeyRange, limit: usize) {
        let found = last_rows(table, range.clone(), limit).now_or_never().unwrap().unwrap();
        let found: Vec<Vec<u8>> = found.into_iter().map(|(key, _)| key).collect();
        let expected: Vec<Vec<u8>> = if range.is_empty() {
            vec![]
        } else {
            let all = table.keys.range(range.start.clone()..range.end.clone());
            all.rev().take(limit).cloned().collect()
        };
        assert_eq!(found, expected, "{range:?} {limit}");
    }

    #[test]
    fn the_last_rows_are_those_of_a_backward_scan() {
        for seed in 0..300 {
            let state = &mut (seed + 1);
            let mut table = Table::default();
            let count = [3, 40, 700][random(state, 3) as usize];
            table.keys.extend((0..count).map(|_| random_key(state)));
            for _ in 0..30 {
                let range = match random(state, 3) {
                    0 => KeyRange::prefix(&random_key(state)),
                    1 => KeyRange { start: vec![], end: random_key(state) },
                    _ => KeyRange { start: random_key(state), end: random_key(state) },
                };
                check(&table, &range, [1, 2, 7, 50, 1000][random(state, 5) as usize]);
            }
        }
    }

    #[test]
    fn a_page_of_many_rows_takes_few_scans_and_few_rows() {
        let key = |number: u64| [b"prefix/".as_slice(), &number.to_be_bytes()].concat();
        let mut table = Table::default();
        table.keys.extend((0..200_000).map(|number| key(number * 1_000)));
        for end in [100_000_000, 3_000, 1_000_000, 199_999_000] {
            table.scans.store(0, Ordering::Relaxed);
            table.rows.store(0, Ordering::Relaxed);
            check(&table, &KeyRange { start: b"prefix/".to_vec(), end: key(end) }, 50);
            let (scans, rows) =
                (table.scans.load(Ordering::Relaxed), table.rows.load(Ordering::Relaxed));
            assert!(scans <= 20 && rows <= 1_000, "{scans} scans of {rows} rows before {end}");
        }
    }
}
