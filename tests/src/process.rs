//! The server as a process of its own: what a crash test kills. Data and port stay the same across restarts.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tidemark_core::Client;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};

use crate::net::Net;
use crate::observe::within;
use crate::server::{ServerOptions, client};

/// A server that runs as a child process over a network.
#[derive(Debug)]
pub struct ServerProcess {
    /// The network between the clients and the server.
    pub net: Net,
    options: ServerOptions,
    address: SocketAddr,
    /// The process while it runs, and the pipe whose end tells it that the test is gone. Waiting for a child closes
    /// a pipe that it still owns, so that it is kept apart.
    child: Option<(Child, ChildStdin)>,
    /// Keeps the port while the server is down.
    _reservation: UdpSocket,
    /// Removed when the test ends.
    _directory: Option<TempDir>,
}

impl ServerProcess {
    /// Starts with a new, empty data folder on disk.
    pub async fn start() -> ServerProcess {
        ServerProcess::with(ServerOptions::default()).await
    }

    /// Starts with these options; without a data folder, with a new one.
    pub async fn with(mut options: ServerOptions) -> ServerProcess {
        let directory = match options.data {
            Some(_) => None,
            None => Some(TempDir::new().expect("a temporary folder")),
        };
        if let Some(directory) = &directory {
            options.data = Some(directory.path().join("data"));
        }
        let (address, reservation) = reserve();
        let mut server = ServerProcess {
            net: Net::new(address),
            options,
            address,
            child: None,
            _reservation: reservation,
            _directory: directory,
        };
        server.restart().await;
        server
    }

    /// Where the server itself listens, without the network in between.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that reaches the server through the link of this name.
    pub fn client(&self, name: &str) -> Client {
        client(&self.net, name)
    }

    /// Ends the process at once, as a power cut would; the operating system lives on.
    pub async fn kill9(&mut self) {
        self.net.trace().note("server", "kill -9");
        if let Some((mut child, _stdin)) = self.child.take() {
            child.kill().await.expect("a child of ours can be killed");
        }
    }

    /// Starts it again, after a kill or a stop, on the same port and data.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "the server is still running");
        self.net.trace().note("server", "start");
        let mut child = Command::new(binary())
            .envs(self.options.environment(self.address))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the test server's binary is built with the tests");
        let stdout = child.stdout.take().expect("its output is ours");
        let mut lines = BufReader::new(stdout).lines();
        let ready = within("the server to say that it is ready", lines.next_line()).await;
        let ready = ready.expect("its output is text");
        let ready = ready.expect("the server ended before it was ready; see its log above");
        self.net.trace().note("server", ready);
        let stdin = child.stdin.take().expect("its input is ours");
        self.child = Some((child, stdin));
    }

    /// Stops it in order (SIGTERM) and waits for its end.
    pub async fn stop(&mut self) {
        self.net.trace().note("server", "stop");
        let (mut child, _stdin) = self.child.take().expect("the server is running");
        let pid = child.id().expect("it has not ended").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill runs").success(), "the server was not running any more");
        let status = within("the server to end in order", child.wait()).await;
        assert!(
            status.expect("a child can be waited for").success(),
            "the server ended in disorder"
        );
    }

    /// A number of the metrics page, by its name without `tidemark_`.
    pub async fn metric(&self, name: &str) -> u64 {
        let page = within("the metrics", get(self.address, "/metrics")).await;
        let page = page.expect("the server answers");
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("tidemark_{name} ")));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// Bytes of memory the process holds now.
    pub fn resident_bytes(&self) -> u64 {
        let pid =
            self.child.as_ref().and_then(|(child, _)| child.id()).expect("the server is running");
        let status =
            std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
        let kilobytes =
            line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a number of kilobytes") * 1024
    }
}

/// The answer to a plain HTTP request.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Beside the test binary's folder: cargo builds it for the tests of the same package.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its binary");
    let folder = test.parent().and_then(Path::parent).expect("a test binary is in target/*/deps");
    folder.join("tidemark-test-server")
}

/// A port for a server that comes and goes, and what keeps it from every other test while the server is down: the
/// UDP port of the same number. It is none that the kernel gives to outgoing connections: while the server is down,
/// an attempt to connect must fail, and not meet itself.
fn reserve() -> (SocketAddr, UdpSocket) {
    let from = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    (from..32_000)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find_map(|address| {
            let reservation = UdpSocket::bind(address).ok()?;
            std::net::TcpListener::bind(address).is_ok().then_some((address, reservation))
        })
        .expect("one free port of thousands")
}
