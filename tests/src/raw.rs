//! A connection that speaks the protocol directly: for what the client core would never do, such as sending a
//! commit twice or nonsense.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tidemark_protocol::model::{
    ClientId, DocumentPath, ResumeToken, Target, TargetId, Version, Write, WriteId, WriteResult,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::server::{Changes, QueryResult, ServerMessage, Status, Welcome};
use tidemark_protocol::wire::{SUBPROTOCOL, codec, version};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

use crate::observe::within;

/// A connection of a client that is written out by hand.
#[derive(Debug)]
pub struct RawClient {
    socket: WebSocketStream<TcpStream>,
}

/// What the server said at last.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // One at a time, and taken apart at once.
pub enum Heard {
    /// A message.
    Message(ServerMessage),
    /// The end, with the close code if there was one.
    Closed(Option<u16>),
}

impl RawClient {
    /// A WebSocket without a Hello.
    pub async fn open(address: SocketAddr) -> RawClient {
        let mut request =
            format!("ws://{address}/v1/sync").into_client_request().expect("a valid address");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let stream = TcpStream::connect(address).await.expect("the server accepts connections");
        let (socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .expect("the server speaks WebSocket");
        RawClient { socket }
    }

    /// A connection that was welcomed.
    pub async fn connect(address: SocketAddr, client: ClientId) -> (RawClient, Welcome) {
        let mut raw = RawClient::open(address).await;
        raw.send(&ClientMessage::Hello(hello(client))).await;
        match raw.next().await {
            ServerMessage::Welcome(welcome) => (raw, welcome),
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Sends a message; a connection that is gone already is noticed by what is heard next.
    pub async fn send(&mut self, message: &ClientMessage) {
        self.send_bytes(codec::encode_client(message)).await;
    }

    /// Sends any bytes as a binary message.
    pub async fn send_bytes(&mut self, bytes: Bytes) {
        let _ = self.socket.send(Message::Binary(bytes)).await;
    }

    /// What the server says next.
    pub async fn hear(&mut self) -> Heard {
        within("a message of the server", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(frame))) => {
                        let message =
                            codec::decode_server(&frame).expect("the server sends valid frames");
                        return Heard::Message(message);
                    }
                    Some(Ok(Message::Close(close))) => {
                        return Heard::Closed(close.map(|close| close.code.into()));
                    }
                    Some(Ok(
                        Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                    )) => {}
                    Some(Err(_)) | None => return Heard::Closed(None),
                }
            }
        })
        .await
    }

    /// The next message; fails when the connection ends.
    pub async fn next(&mut self) -> ServerMessage {
        match self.hear().await {
            Heard::Message(message) => message,
            Heard::Closed(code) => panic!("the server closed the connection: {code:?}"),
        }
    }

    /// Skips messages until one gives something; fails when the connection ends.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
        within("the message looked for", async {
            loop {
                if let Some(found) = pick(self.next().await) {
                    return found;
                }
            }
        })
        .await
    }

    /// Reads until the server closes; gives the status of a GoAway on the way and the close code.
    pub async fn until_closed(&mut self) -> (Option<Status>, Option<u16>) {
        let mut last = None;
        within("the server to close the connection", async {
            loop {
                match self.hear().await {
                    Heard::Message(ServerMessage::GoAway { status, .. }) => last = Some(status),
                    Heard::Message(_) => {}
                    Heard::Closed(code) => return (last.take(), code),
                }
            }
        })
        .await
    }

    /// Sends a commit and waits for its answer.
    pub async fn commit(
        &mut self,
        id: u64,
        writes: Vec<Write>,
    ) -> Result<(Version, Vec<WriteResult>), Status> {
        self.send(&commit(id, writes)).await;
        self.answer(id).await
    }

    /// Waits for the answer to a commit.
    pub async fn answer(&mut self, id: u64) -> Result<(Version, Vec<WriteResult>), Status> {
        self.find(|message| match message {
            ServerMessage::Committed { write_id, version, results } if write_id == WriteId(id) => {
                Some(Ok((version, results)))
            }
            ServerMessage::Rejected { write_id, status } if write_id == WriteId(id) => {
                Some(Err(status))
            }
            _ => None,
        })
        .await
    }

    /// Reads documents.
    pub async fn get(&mut self, request: u32, paths: Vec<DocumentPath>) -> QueryResult {
        self.send(&ClientMessage::Get { request, paths }).await;
        self.find(|message| match message {
            ServerMessage::Result(result) if result.request == request => Some(result),
            _ => None,
        })
        .await
    }

    /// Listens and reads up to the first consistent point.
    pub async fn listen(
        &mut self,
        id: u32,
        target: Target,
        resume: Option<ResumeToken>,
    ) -> Attached {
        let listen = Listen { target_id: TargetId(id), target, resume, reconciles: false };
        self.send(&ClientMessage::Listen(listen)).await;
        let mut attached = Attached::default();
        let group = self
            .find(|message| match message {
                ServerMessage::Listening { target, group, .. } if target == TargetId(id) => {
                    Some(group)
                }
                _ => None,
            })
            .await;
        attached.group = group;
        loop {
            match self.next().await {
                ServerMessage::Reset { target, .. } if target == TargetId(id) => {
                    attached.reset = true;
                }
                ServerMessage::Changes(changes) => {
                    let (partial, version) = (changes.partial, changes.version);
                    attached.changes.push(changes);
                    if !partial {
                        return Attached { version, ..attached };
                    }
                }
                ServerMessage::Current { version } => return Attached { version, ..attached },
                _ => {}
            }
        }
    }
}

/// What came with a new listen.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// The group.
    pub group: u32,
    /// Whether the server began anew.
    pub reset: bool,
    /// What it sent.
    pub changes: Vec<Changes>,
    /// The first consistent point.
    pub version: Version,
}

impl Attached {
    /// The documents sent.
    pub fn documents(&self) -> usize {
        self.changes.iter().map(|changes| changes.documents.len()).sum()
    }
}

/// A Hello with what a client would say.
pub fn hello(client: ClientId) -> Hello {
    Hello {
        protocol_version: version::PROTOCOL_VERSION,
        minimum_version: version::MINIMUM_VERSION,
        project: "default".to_owned(),
        database: "(default)".to_owned(),
        token: String::new(),
        client_id: client,
        acknowledged_through: WriteId(0),
        agent: "tests".to_owned(),
    }
}

/// A commit that acknowledges nothing.
pub fn commit(id: u64, writes: Vec<Write>) -> ClientMessage {
    ClientMessage::Commit(Commit {
        write_id: WriteId(id),
        writes,
        reads: Vec::new(),
        acknowledged_through: WriteId(0),
        edit_time: None,
        follows: None,
    })
}
