//! Runs a server (Tidemark's or a bare one) as a child process, so that its processor time and
//! its memory are its own, and reads both from `/proc`.
//!
//! A child is this same binary with the hidden `child` subcommand. It prints its address as its
//! first line and ends when its standard input closes, that is with its parent.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a child may take to start.
const START: Duration = Duration::from_secs(20);

/// A running server process. Dropping it kills it.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    pid: u32,
    _stdin: ChildStdin,
    _stdout: BufReader<ChildStdout>,
}

/// What a child is asked to be.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A Tidemark server over a data directory.
    Tidemark {
        /// The store's directory.
        data: PathBuf,
    },
    /// The bare WebSocket broadcaster.
    Bare,
}

impl Kind {
    fn arguments(&self) -> Vec<OsString> {
        match self {
            Kind::Tidemark { data } => {
                vec!["child".into(), "tidemark".into(), "--data".into(), data.into()]
            }
            Kind::Bare => vec!["child".into(), "bare".into()],
        }
    }
}

impl Server {
    /// Starts a child and waits until it listens.
    pub(crate) async fn start(kind: &Kind) -> anyhow::Result<Server> {
        let (mut child, stdin, mut stdout) = spawn(kind.arguments())?;
        let mut line = String::new();
        tokio::time::timeout(START, stdout.read_line(&mut line))
            .await
            .with_context(|| format!("{kind:?} did not start within {START:?}"))??;
        let Ok(address) = line.trim().parse() else {
            bail!("{kind:?} did not start ({:?}); it said {line:?}", child.wait().await);
        };
        let pid = child.id().context("the child has ended")?;
        Ok(Server { address, child, pid, _stdin: stdin, _stdout: stdout })
    }

    /// Processor time of all threads so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process_cpu(self.pid)
    }

    /// Resident bytes now.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS in /proc/PID/status")?
            .parse()?;
        Ok(kib * 1024)
    }

    /// Ends the process and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot end the child")
    }
}

/// Runs a child that does one measurement, and returns what it printed.
pub(crate) async fn run(arguments: Vec<OsString>) -> anyhow::Result<String> {
    let (mut child, stdin, mut stdout) = spawn(arguments)?;
    let mut output = String::new();
    stdout.read_to_string(&mut output).await?;
    drop(stdin);
    let status = child.wait().await?;
    if !status.success() {
        bail!("a child failed: {status}");
    }
    Ok(output)
}

fn spawn(arguments: Vec<OsString>) -> anyhow::Result<(Child, ChildStdin, BufReader<ChildStdout>)> {
    let binary = std::env::current_exe().context("cannot find this binary")?;
    let mut child = Command::new(binary)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a child")?;
    let stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    Ok((child, stdin, BufReader::new(stdout)))
}

/// Resolves when the parent has gone: its end of our standard input has closed.
pub(crate) async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut byte = [0_u8; 1];
    // Nothing is ever sent; end of file and errors mean the same.
    let _ = stdin.read(&mut byte).await;
}

/// The scheduler counts nanoseconds per thread; where it does not, the process's clock ticks serve.
pub(crate) fn process_cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    let ticks = Duration::from_millis(10 * process_ticks(pid)?);
    // Threads that have ended are only in the ticks.
    Ok(Duration::from_nanos(nanos).max(ticks))
}

/// User and system time in hundredths of a second, as `/proc/PID/stat` gives them.
fn process_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("malformed /proc/PID/stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok());
    Ok(field(11).context("no utime")? + field(12).context("no stime")?)
}
