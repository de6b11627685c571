//! What the figures were measured on.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stats::Latencies;

/// Facts without which a figure means nothing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Logical processors, shared by the server and the load.
    pub(crate) cores: usize,
    /// The processor's name.
    pub(crate) processor: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Memory, in GiB.
    pub(crate) memory_gib: u64,
    /// The file system of the data directory.
    pub(crate) file_system: String,
    /// Median time to append 4 KiB to a file and make it durable, in microseconds.
    pub(crate) fsync_us: f64,
    /// What else kept the machine busy: the load average over the last minute.
    pub(crate) load_average: String,
    /// The storage engine.
    pub(crate) store: String,
    /// The version measured.
    pub(crate) version: String,
    /// Whether the compiler optimised; figures of a debug build say nothing.
    pub(crate) optimised: bool,
}

impl Machine {
    /// Looks at this machine, and at the disk under `data`.
    pub(crate) fn inspect(data: &Path) -> anyhow::Result<Machine> {
        Ok(Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: after("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: after("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib.div_ceil(1024 * 1024)),
            file_system: file_system(data),
            fsync_us: fsync(data)?,
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned(),
            store: "surrealkv (surrealdb-kvs 3.3.5)".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
        })
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first `name : value` line of a file.
fn after(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the mounted file system with the longest path above `data`.
fn file_system(data: &Path) -> String {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let mounts = read("/proc/mounts");
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(mount, _)| data.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn fsync(data: &Path) -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(data)?;
    let mut latencies = Latencies::default();
    for _ in 0..50 {
        let begin = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        latencies.push(begin.elapsed().max(Duration::from_micros(1)));
    }
    Ok(latencies.percentile(0.5))
}
