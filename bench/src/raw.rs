//! A client with nothing in it: one WebSocket, frames in and out, bytes counted. The floors and
//! Tidemark are loaded by the same socket code.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tidemark_protocol::model::{
    ClientId, DocumentPath, Fields, Query, Target, TargetId, Value, Write, WriteId, WriteOp,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::server::{Explanation, ServerMessage};
use tidemark_protocol::wire::{SUBPROTOCOL, codec, version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Small buffers, as a thousand connections want them.
pub(crate) fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(16 * 1024)
}

/// Buffers for much data on one connection.
pub(crate) fn large_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(128 * 1024)
}

type Stream = WebSocketStream<Counted>;

/// A WebSocket that counts what it reads.
pub(crate) struct Socket {
    stream: Stream,
    received: Arc<AtomicU64>,
}

/// The writing half of a socket.
pub(crate) struct Sender(SplitSink<Stream, Message>);

/// The reading half of a socket.
pub(crate) struct Receiver(SplitStream<Stream>);

impl Socket {
    /// Connects and upgrades.
    pub(crate) async fn connect(
        address: SocketAddr,
        config: WebSocketConfig,
    ) -> anyhow::Result<Socket> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{address}/v1/sync").into_client_request()?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let received = Arc::new(AtomicU64::new(0));
        let stream = Counted { stream, received: Arc::clone(&received) };
        let (stream, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .context("the WebSocket upgrade failed")?;
        Ok(Socket { stream, received })
    }

    /// Sends one binary message.
    pub(crate) async fn send(&mut self, frame: Bytes) -> anyhow::Result<()> {
        Ok(self.stream.send(Message::Binary(frame)).await?)
    }

    /// The next binary message; an error when the connection has ended.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<Bytes> {
        receive(&mut self.stream).await
    }

    /// Bytes read from the TCP connection so far.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Two halves for two tasks.
    pub(crate) fn split(self) -> (Sender, Receiver) {
        let (sink, stream) = self.stream.split();
        (Sender(sink), Receiver(stream))
    }
}

impl Sender {
    /// Sends one binary message.
    pub(crate) async fn send(&mut self, frame: Bytes) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Binary(frame)).await?)
    }
}

impl Receiver {
    /// The next binary message; an error when the connection has ended.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<Bytes> {
        receive(&mut self.0).await
    }
}

type Received = Result<Message, tokio_tungstenite::tungstenite::Error>;

async fn receive(stream: &mut (impl StreamExt<Item = Received> + Unpin)) -> anyhow::Result<Bytes> {
    loop {
        match stream.next().await.context("the connection has ended")?? {
            Message::Binary(frame) => return Ok(frame),
            Message::Close(reason) => bail!("the server closed: {reason:?}"),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Frames of this size are changes with more to come: what ends an attach is small.
const LARGE: usize = 1024;

/// How many documents the frames hold.
pub(crate) fn count_documents(frames: &[Bytes]) -> anyhow::Result<usize> {
    let mut documents = 0;
    for frame in frames {
        if let ServerMessage::Changes(changes) = codec::decode_server(frame)? {
            documents += changes.documents.len();
        }
    }
    Ok(documents)
}

/// A connection that has said Hello.
pub(crate) struct Session {
    socket: Socket,
    next_write: u64,
    next_request: u32,
}

impl Session {
    /// Connects, says Hello and awaits Welcome.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Session> {
        Session::open_with(address, small_buffers()).await
    }

    /// As [`Session::open`], with other buffers.
    pub(crate) async fn open_with(
        address: SocketAddr,
        config: WebSocketConfig,
    ) -> anyhow::Result<Session> {
        let mut socket = Socket::connect(address, config).await?;
        let hello = Hello {
            protocol_version: version::PROTOCOL_VERSION,
            minimum_version: version::MINIMUM_VERSION,
            project: "default".to_owned(),
            database: "(default)".to_owned(),
            token: String::new(),
            client_id: ClientId(rand::random()),
            acknowledged_through: WriteId(0),
            agent: "tidemark-bench".to_owned(),
        };
        socket.send(codec::encode_client(&ClientMessage::Hello(hello))).await?;
        let answer = codec::decode_server(&socket.receive().await?)?;
        let ServerMessage::Welcome(_) = answer else {
            bail!("no Welcome but {answer:?}");
        };
        Ok(Session { socket, next_write: 1, next_request: 0 })
    }

    /// Sends a commit without awaiting its answer. `acknowledged` is the last write whose answer,
    /// and all before it, have come.
    pub(crate) async fn commit(
        &mut self,
        writes: Vec<Write>,
        acknowledged: WriteId,
    ) -> anyhow::Result<WriteId> {
        let write_id = WriteId(self.next_write);
        self.next_write += 1;
        let commit = Commit {
            write_id,
            writes,
            reads: Vec::new(),
            acknowledged_through: acknowledged,
            edit_time: None,
            follows: None,
        };
        self.socket.send(codec::encode_client(&ClientMessage::Commit(commit))).await?;
        Ok(write_id)
    }

    /// The next answer to a commit; other frames are passed over.
    pub(crate) async fn committed(&mut self) -> anyhow::Result<WriteId> {
        loop {
            match self.next().await? {
                ServerMessage::Committed { write_id, .. } => return Ok(write_id),
                ServerMessage::Rejected { write_id, status } => {
                    bail!("write {write_id} was rejected: {status}");
                }
                other => refuse(&other)?,
            }
        }
    }

    /// Listens, and reads until the target is up to date.
    pub(crate) async fn listen(&mut self, target: Target) -> anyhow::Result<()> {
        self.receive_attach(target).await.map(drop)
    }

    /// Listens, and returns the frames up to the consistent point. Frames as large as only changes
    /// are stay encoded: a caller that takes the time decodes them afterwards.
    pub(crate) async fn receive_attach(&mut self, target: Target) -> anyhow::Result<Vec<Bytes>> {
        let listen = Listen { target_id: TargetId(1), target, resume: None, reconciles: false };
        self.socket.send(codec::encode_client(&ClientMessage::Listen(listen))).await?;
        let mut frames = Vec::new();
        let mut attached = false;
        loop {
            let frame = self.socket.receive().await?;
            frames.push(frame.clone());
            if frame.len() >= LARGE {
                continue;
            }
            match codec::decode_server(&frame)? {
                ServerMessage::Listening { .. } => attached = true,
                ServerMessage::Changes(changes) if attached && !changes.partial => {
                    return Ok(frames);
                }
                ServerMessage::Current { .. } if attached => return Ok(frames),
                other => refuse(&other)?,
            }
        }
    }

    /// Runs a query with an explanation. Gives the number of documents of the result.
    pub(crate) async fn query(
        &mut self,
        query: Query,
    ) -> anyhow::Result<(usize, Option<Explanation>)> {
        self.next_request += 1;
        let request = self.next_request;
        let message = ClientMessage::Query { request, query, explain: true };
        self.socket.send(codec::encode_client(&message)).await?;
        let mut documents = 0;
        loop {
            match self.next().await? {
                ServerMessage::Result(result) if result.request == request => {
                    documents += result.documents.len();
                    if !result.more {
                        return Ok((documents, result.explanation));
                    }
                }
                other => refuse(&other)?,
            }
        }
    }

    /// The socket under it.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }

    /// The socket under it, to look at.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    async fn next(&mut self) -> anyhow::Result<ServerMessage> {
        Ok(codec::decode_server(&self.socket.receive().await?)?)
    }
}

/// An error for the frames that mean the measurement has failed.
fn refuse(message: &ServerMessage) -> anyhow::Result<()> {
    match message.refusal() {
        Some(status) => bail!("the server refused: {status}"),
        None => Ok(()),
    }
}

/// Posts JSON to the server's HTTP API. Gives the whole answer as it came.
pub(crate) async fn post_json(
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
) -> anyhow::Result<String> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A `set` of one document with one text field.
pub(crate) fn set_text(path: &str, text: String) -> anyhow::Result<Write> {
    let fields = Fields::from([("text".to_owned(), Value::String(text))]);
    Ok(Write {
        path: DocumentPath::parse(path)?,
        op: WriteOp::Set(fields),
        transforms: Vec::new(),
        precondition: None,
    })
}

/// A TCP stream that counts the bytes it reads.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.received.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
