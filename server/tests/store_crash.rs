//! Durable stores keep their promise through crashes: what a commit acknowledged is there, a
//! transaction is there as a whole or not at all, and damaged files never panic the server.
//!
//! Two kinds of crash. A killed process loses nothing that it handed to the system, so that test is
//! about atomicity and the order of acknowledgements. A power cut loses what was not synced: the
//! images made here keep of the log only the bytes up to some offset, and damage what follows.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidemark_server::store::{KeyRange, ScanDirection, Store, StoreError, open};

const DIRECTORY: &str = "TIDEMARK_CRASH_DIRECTORY";
const VALUE_BYTES: &str = "TIDEMARK_CRASH_VALUE_BYTES";
/// The keys of a numbered transaction.
const PARTS: [&str; 3] = ["a", "b", "c"];

async fn open_directory(directory: &Path) -> Result<Arc<dyn Store>, StoreError> {
    open(&format!("surrealkv://{}", directory.display())).await
}

fn part_key(part: &str, number: u64) -> Vec<u8> {
    [part.as_bytes(), b"/", &number.to_be_bytes()].concat()
}

/// A value that tells its transaction and part, so that a mix-up shows.
fn part_value(part: &str, number: u64, length: usize) -> Bytes {
    let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(part.as_bytes()[0]);
    let mut bytes = word.to_be_bytes().repeat(length.div_ceil(8));
    bytes.truncate(length);
    Bytes::from(bytes)
}

/// Commits a numbered transaction of three keys.
async fn commit(store: &dyn Store, number: u64, length: usize) {
    let mut transaction = store.begin().await.expect("begin");
    for part in PARTS {
        transaction.put(part_key(part, number), part_value(part, number, length));
    }
    transaction.commit().await.expect("commit");
}

/// How many transactions the store holds. Panics unless they are 0, 1, 2, ... and each is whole.
async fn count_whole(store: &dyn Store, context: &str) -> Result<u64, StoreError> {
    let snapshot = store.snapshot().await?;
    let mut counts = Vec::new();
    for part in PARTS {
        let range = KeyRange::prefix(format!("{part}/").as_bytes());
        let rows = snapshot.scan(range, ScanDirection::Forward, usize::MAX).await?;
        for (number, (key, value)) in (0_u64..).zip(&rows) {
            assert_eq!(*key, part_key(part, number), "{context}: a gap at {number}");
            assert_eq!(*value, part_value(part, number, value.len()), "{context}: {number}");
        }
        counts.push(rows.len() as u64);
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{context}: torn, {counts:?}");
    Ok(counts[0])
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// The writer that the crash test starts and kills: it commits from the first missing number on and
/// prints each number once its commit returned.
#[test]
#[ignore = "started by a_killed_process_keeps_what_it_acknowledged"]
fn writer_process() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).expect("set by the parent"));
    let length = std::env::var(VALUE_BYTES).expect("set by the parent").parse().expect("a number");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open_directory(&directory).await.expect("opens");
        let first = count_whole(&*store, "in the writer").await.expect("readable");
        for number in first.. {
            commit(&*store, number, length).await;
            // Not println, which the test harness may hold back.
            let mut out = std::io::stdout().lock();
            writeln!(out, "\nacknowledged {number}").and_then(|()| out.flush()).expect("a parent");
        }
    });
}

/// Starts a writer, kills it after about `commits` commits and returns how many transactions it
/// acknowledged, those of earlier writers included.
fn run_and_kill(directory: &Path, length: usize, commits: u64, spins: u32) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "writer_process", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(VALUE_BYTES, length.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged = None;
    let mut numbers = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok()));
    for _ in 0..commits {
        acknowledged = numbers.next().or(acknowledged);
    }
    // The writer is anywhere in its next commits by now; vary where.
    (0..spins).for_each(|_| std::thread::yield_now());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    // What is still in the pipe was acknowledged before the end.
    acknowledged = numbers.last().or(acknowledged);
    acknowledged.map(|number| number + 1)
}

async fn kill_and_check(seeds: std::ops::Range<u64>, length: usize, most: u64) {
    let place = TempDir::new().expect("a directory");
    let directory = place.path().join("store");
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let (commits, spins) = (rng.random_range(1..most), rng.random_range(0..3000));
        let acknowledged = run_and_kill(&directory, length, commits, spins);
        let acknowledged = acknowledged.unwrap_or_else(|| panic!("seed {seed}: nothing written"));
        // Half of the time the next writer recovers from the crash itself, so look at a copy.
        let image = place.path().join(format!("image{seed}"));
        let looked_at = if rng.random() { &directory } else { &image };
        if looked_at == &image {
            copy_directory(&directory, &image);
        }
        let store = open_directory(looked_at).await.expect("opens after a kill");
        let found = count_whole(&*store, &format!("seed {seed}")).await.expect("readable");
        store.close().await.expect("closes");
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "seed {seed}: acknowledged {acknowledged}, found {found}"
        );
        let _ = fs::remove_dir_all(image);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_keeps_what_it_acknowledged() {
    kill_and_check(0..20, 300, 60).await;
}

/// Values of a size that fills the write buffer within a round, so that kills hit the writing of
/// sorted files and their merging too.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_files_are_written_and_merged_loses_nothing() {
    kill_and_check(100..106, 700_000, 50).await;
}

/// A store whose log holds all its commits, and where in the log each commit ended.
struct Written {
    place: TempDir,
    /// Length of the log when commit n had returned, all of it synced.
    ends: Vec<u64>,
    log: PathBuf,
}

/// The newest log file, relative to the store.
fn newest_log(store: &Path) -> PathBuf {
    let mut logs: Vec<_> = fs::read_dir(store.join("wal"))
        .expect("a log directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    logs.sort();
    Path::new("wal").join(logs.pop().expect("a log"))
}

impl Written {
    async fn new(commits: u64, length: usize) -> Self {
        let place = TempDir::new().expect("a directory");
        let directory = place.path().join("store");
        let store = open_directory(&directory).await.expect("opens");
        let log = newest_log(&directory);
        let mut ends = Vec::new();
        for number in 0..commits {
            commit(&*store, number, length).await;
            ends.push(fs::metadata(directory.join(&log)).expect("a log").len());
        }
        // The image is taken before closing, as a crash would leave it.
        copy_directory(&directory, &place.path().join("image"));
        store.close().await.expect("closes");
        Self { place, ends, log }
    }

    /// Commits that lie wholly below an offset of the log.
    fn whole_below(&self, offset: u64) -> u64 {
        self.ends.iter().filter(|end| **end <= offset).count() as u64
    }

    /// The image, damaged; what it opens as.
    async fn reopened(&self, context: &str, damage: impl FnOnce(&Path)) -> Result<u64, StoreError> {
        // A path is used once: the engine tidies up behind a closed store a little later.
        let place = TempDir::new_in(self.place.path()).expect("a directory");
        let copy = place.path().join("copy");
        copy_directory(&self.place.path().join("image"), &copy);
        damage(&copy);
        let store = open_directory(&copy).await?;
        let found = count_whole(&*store, context).await;
        // What opened must also take writes that outlive the next crash, even if that one comes
        // before the store wrote anything out.
        if let Ok(found) = found {
            commit(&*store, found, 10).await;
            let again = place.path().join("again");
            copy_directory(&copy, &again);
            let second = open_directory(&again).await?;
            assert_eq!(count_whole(&*second, context).await?, found + 1, "{context}: again");
            second.close().await?;
        }
        store.close().await?;
        found
    }

    async fn with_log(
        &self,
        context: &str,
        edit: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, StoreError> {
        self.reopened(context, |copy| {
            let path = copy.join(&self.log);
            let mut bytes = fs::read(&path).expect("a log");
            edit(&mut bytes);
            fs::write(&path, bytes).expect("written");
        })
        .await
    }

    /// Offsets worth trying: around the ends of commits, and anywhere.
    fn offsets(&self, seed: u64, count: usize) -> Vec<u64> {
        let mut rng = StdRng::seed_from_u64(seed);
        let last = *self.ends.last().expect("commits");
        let mut offsets = vec![0, 1, last - 1, last];
        for _ in 0..count {
            let end = self.ends[rng.random_range(0..self.ends.len())];
            offsets.push((end + rng.random_range(0..8)).saturating_sub(4).min(last));
            offsets.push(rng.random_range(0..last));
        }
        offsets
    }
}

/// A log that ends early, as when the system had not written out its last pages: the store opens
/// with exactly the commits that are whole. Commits of three sizes put the cut in records that fit a
/// block of the log (32 KiB), that cross one and that span several.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_anywhere_opens_with_the_whole_commits_before_the_cut() {
    for (commits, length, tries) in [(60, 120, 12), (40, 3000, 8), (12, 40_000, 6)] {
        let written = Written::new(commits, length).await;
        for cut in written.offsets(commits, tries) {
            let context = format!("values of {length} cut at {cut}");
            let found = written.with_log(&context, |log| log.truncate(cut as usize)).await;
            let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(found, written.whole_below(cut), "{context}");
        }
    }
}

/// A log whose end is zeros, as when the file was extended before its pages were written.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_in_zeros_opens_with_the_whole_commits_before_them() {
    for (commits, length, tries) in [(60, 120, 10), (12, 40_000, 5)] {
        let written = Written::new(commits, length).await;
        for from in written.offsets(commits + 1, tries) {
            let context = format!("values of {length} zeroed from {from}");
            let mut first_change = u64::MAX;
            let zero = |log: &mut Vec<u8>| {
                let tail = &mut log[from as usize..];
                // Some bytes were zeros before.
                first_change =
                    tail.iter().position(|byte| *byte != 0).map_or(u64::MAX, |at| from + at as u64);
                tail.fill(0);
            };
            let found = written.with_log(&context, zero).await;
            let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(found, written.whole_below(first_change), "{context}");
        }
    }
}

/// Flipped bits in the log, which no crash makes but a failing disk does. The engine notices by its
/// checksums and keeps what lies before the damaged record. It drops all that follows, commits that
/// were synced included, and says so only in its own log output: nothing that the store could turn
/// into an error. So this pins down the prefix, and that nothing torn or altered comes up.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_opens_with_the_commits_before_the_damage() {
    for (commits, length, tries) in [(60, 120, 10), (12, 40_000, 5)] {
        let written = Written::new(commits, length).await;
        let last = *written.ends.last().expect("commits");
        for at in written.offsets(commits + 2, tries).into_iter().filter(|at| *at < last) {
            let context = format!("values of {length} flipped at {at}");
            let found = written.with_log(&context, |log| log[at as usize] ^= 0x40).await;
            match found {
                Ok(found) => assert_eq!(found, written.whole_below(at), "{context}"),
                Err(StoreError::Corrupt { .. }) => {}
                Err(other) => panic!("{context}: {other}"),
            }
        }
    }
}

/// All files of a closed store, with their path in it.
fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            found.push(path);
        }
    }
}

/// A closed store whose files were damaged: what it says is either all there or a typed error.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_reported_and_never_panic() {
    const COMMITS: u64 = 200;
    let place = TempDir::new().expect("a directory");
    let original = place.path().join("store");
    for half in 0..2 {
        let store = open_directory(&original).await.expect("opens");
        for number in half * COMMITS / 2..(half + 1) * COMMITS / 2 {
            commit(&*store, number, 500).await;
        }
        store.close().await.expect("closes");
    }
    let mut files = Vec::new();
    files_below(&original, &mut files);
    files.retain(|file| fs::metadata(file).expect("there").len() > 0);
    assert!(files.len() >= 3, "two sorted files and a manifest: {files:?}");

    let mut rng = StdRng::seed_from_u64(11);
    let (mut intact, mut reported) = (0, 0);
    for (round, file) in files.iter().cycle().take(40).enumerate() {
        let copy = place.path().join(format!("copy{round}"));
        copy_directory(&original, &copy);
        let target = copy.join(file.strip_prefix(&original).expect("inside"));
        let mut bytes = fs::read(&target).expect("readable");
        let at = rng.random_range(0..bytes.len());
        match round / files.len() % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
        fs::write(&target, bytes).expect("written");
        let context = format!("{} damaged at {at}, round {round}", target.display());
        match read_all(&copy, &context).await {
            Ok(found) => {
                assert_eq!(found, COMMITS, "{context}");
                intact += 1;
            }
            Err(StoreError::Corrupt { .. } | StoreError::Io { .. }) => reported += 1,
            Err(other) => panic!("{context}: {other:?}"),
        }
    }
    assert!(reported > intact, "{reported} reported, {intact} harmless");
}

async fn read_all(directory: &Path, context: &str) -> Result<u64, StoreError> {
    let store = open_directory(directory).await?;
    let found = count_whole(&*store, context).await;
    store.close().await?;
    found
}
