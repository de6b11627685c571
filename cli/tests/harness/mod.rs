//! A server and clients as child processes of a test. Everything ends with the test; nothing waits
//! longer than half a minute.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

fn tidemark() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    for name in ["TIDEMARK_URL", "TIDEMARK_PROJECT", "TIDEMARK_TOKEN", "TIDEMARK_CONFIG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `tidemark serve` on a free port, with data of its own.
pub(crate) struct TestServer {
    folder: TempDir,
    address: String,
    child: Child,
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        let folder = tempfile::tempdir().unwrap();
        let (child, address) = serve(&folder, "127.0.0.1:0");
        TestServer { folder, address, child }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Deletes what the (dead) server kept.
    pub(crate) fn forget_data(&self) {
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
    }

    /// Starts again on the same port and data.
    pub(crate) fn restart(&mut self) {
        let (child, address) = serve(&self.folder, &self.address);
        assert_eq!(address, self.address);
        self.child = child;
    }

    /// Runs a client command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of_command(tidemark().env("TIDEMARK_URL", self.url()).args(arguments))
    }

    /// Runs an import that keeps its state with this server.
    pub(crate) fn import(&self, arguments: &[&str]) -> Ran {
        Ran::of_command(&mut self.import_command(arguments))
    }

    /// Starts a client command.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Background {
        Background::start(tidemark().env("TIDEMARK_URL", self.url()).args(arguments))
    }

    /// Starts a client command whose streams the test reads itself.
    pub(crate) fn child(&self, arguments: &[&str]) -> Child {
        tidemark().env("TIDEMARK_URL", self.url()).args(arguments).spawn().unwrap()
    }

    /// Starts an import that keeps its state with this server.
    pub(crate) fn spawn_import(&self, arguments: &[&str]) -> Background {
        Background::start(&mut self.import_command(arguments))
    }

    fn import_command(&self, arguments: &[&str]) -> Command {
        let mut command = tidemark();
        command.env("TIDEMARK_URL", self.url()).arg("import").args(arguments);
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        command
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server; its first line names the address.
fn serve(folder: &TempDir, listen: &str) -> (Child, String) {
    let mut command = tidemark();
    command
        .args(["serve", "--log-level", "warn", "--listen", listen, "--data"])
        .arg(folder.path().join("data"));
    let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (_, rest) = line.split_once("http://").expect("the server says where it listens");
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    (child, rest[..end.unwrap_or(rest.len())].to_owned())
}

/// A command that has ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(arguments: &[&str]) -> Ran {
        Ran::of_command(tidemark().args(arguments))
    }

    fn of_command(command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Ran {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }
}

/// A command that runs while the test goes on.
pub(crate) struct Background {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    /// What it wrote to stderr. Set by `wait`.
    stderr: String,
}

impl Background {
    fn start(command: &mut Command) -> Background {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let lines = read_lines(child.stdout.take().unwrap());
        let errors = read_all(child.stderr.take().unwrap());
        Background { child, input, lines, errors, stderr: String::new() }
    }

    /// The next line of its stdout.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                let code = self.wait();
                panic!("it ended with {code:?}: {}", self.stderr)
            }
        }
    }

    /// The next line as JSON.
    #[track_caller]
    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// The next line of another type.
    #[track_caller]
    pub(crate) fn json_but(&mut self, skipped: &str) -> Value {
        loop {
            let line = self.json();
            if line["type"] != skipped {
                return line;
            }
        }
    }

    /// All lines up to its end.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.lines.iter().collect()
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Waits for its end; the exit code.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        match self.errors.recv_timeout(PATIENCE) {
            Ok(text) => self.stderr = text,
            Err(RecvTimeoutError::Timeout) => panic!("it did not end within {PATIENCE:?}"),
            // It was waited for before.
            Err(RecvTimeoutError::Disconnected) => {}
        }
        self.child.wait().unwrap().code()
    }

    /// What it wrote to stderr, once it was waited for.
    pub(crate) fn stderr(&self) -> &str {
        &self.stderr
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // The test may have ended.
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    receiver
}

fn read_all(mut stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).ok()?;
        sender.send(String::from_utf8_lossy(&bytes).into_owned()).ok()
    });
    receiver
}
