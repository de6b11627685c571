//! A client without manners: it says what it is told to and shows what comes back.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tidemark_protocol::model::{
    ClientId, CollectionPath, Document, DocumentPath, Fields, Query, ResumeToken, Target, TargetId,
    Value, Version, Write, WriteId, WriteOp,
};
use tidemark_protocol::wire::SUBPROTOCOL;
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::codec::{decode_document, decode_server, encode_client};
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tidemark_server::config::{Config, StoreUrl};
use tidemark_server::server::{RunningServer, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Nothing here takes that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not come in time")
}

pub(crate) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store: StoreUrl::Url("mem:".to_owned()),
        ..Config::default()
    }
}

pub(crate) async fn serve(config: Config) -> RunningServer {
    Server::start(config).await.unwrap()
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a close frame of this code.
    Closed(u16),
    /// Without.
    Dropped,
}

pub(crate) struct Raw {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) async fn open(server: &RunningServer) -> Raw {
        Raw::upgrade(server, Some(SUBPROTOCOL)).await.unwrap()
    }

    pub(crate) async fn upgrade(
        server: &RunningServer,
        subprotocol: Option<&str>,
    ) -> Result<Raw, Error> {
        let mut request = format!("ws://{}/v1/sync", server.addr()).into_client_request()?;
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
        }
        let stream = TcpStream::connect(server.addr()).await?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Raw { socket })
    }

    /// Connects and is welcome.
    pub(crate) async fn join(server: &RunningServer, client: u8) -> Raw {
        let mut raw = Raw::open(server).await;
        raw.say(&ClientMessage::Hello(hello(client))).await;
        let welcome = raw.hear().await;
        assert!(matches!(welcome, ServerMessage::Welcome(_)), "{welcome:?}");
        raw
    }

    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        self.bytes(encode_client(message)).await;
    }

    pub(crate) async fn bytes(&mut self, frame: impl Into<Bytes>) {
        self.socket.send(Message::Binary(frame.into())).await.unwrap();
    }

    /// The next frame of the protocol.
    pub(crate) async fn hear(&mut self) -> ServerMessage {
        soon(self.next()).await.expect("the connection ended")
    }

    /// The next frame, or how the connection ended.
    pub(crate) async fn next(&mut self) -> Result<ServerMessage, End> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(frame))) => return Ok(decode_server(&frame).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(End::Closed(frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("the server does not send {other:?}"),
                Some(Err(_)) | None => return Err(End::Dropped),
            }
        }
    }

    /// All frames until the end.
    pub(crate) async fn rest(&mut self) -> (Vec<ServerMessage>, End) {
        let mut frames = Vec::new();
        loop {
            match soon(self.next()).await {
                Ok(frame) => frames.push(frame),
                Err(end) => return (frames, end),
            }
        }
    }

    /// The GoAway that says why, and the end.
    pub(crate) async fn gone(&mut self) -> (Status, End) {
        let (frames, end) = self.rest().await;
        match frames.into_iter().next_back() {
            Some(ServerMessage::GoAway { status, .. }) => (status, end),
            other => panic!("the last frame is {other:?}, then {end:?}"),
        }
    }

    /// Listens and waits until it has everything.
    pub(crate) async fn listen(&mut self, target: u32, collection: &str) -> Version {
        self.say(&listen(target, collection, None)).await;
        self.until_consistent(Version::NONE).await.0
    }

    /// Reads until a consistent point of at least this version; the documents' ids in the order
    /// they came.
    pub(crate) async fn until_consistent(&mut self, least: Version) -> (Version, Vec<String>) {
        let mut ids = Vec::new();
        loop {
            let version = match self.hear().await {
                ServerMessage::Changes(changes) => {
                    ids.extend(
                        changes.documents.iter().map(|it| document(it).path.id().to_owned()),
                    );
                    if changes.partial {
                        continue;
                    }
                    changes.version
                }
                ServerMessage::Current { version } => version,
                ServerMessage::Listening { .. }
                | ServerMessage::Pong { .. }
                | ServerMessage::Committed { .. } => continue,
                other => panic!("unexpected: {other:?}"),
            };
            if version >= least {
                return (version, ids);
            }
        }
    }

    /// Writes a document and waits for the outcome.
    pub(crate) async fn set(&mut self, write: u64, path: &str, text: &str) -> Version {
        self.say(&commit(write, path, text)).await;
        loop {
            match self.hear().await {
                ServerMessage::Committed { write_id, version, .. } => {
                    assert_eq!(write_id, WriteId(write));
                    return version;
                }
                ServerMessage::Changes(_)
                | ServerMessage::Current { .. }
                | ServerMessage::Listening { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
}

fn document(bytes: &Bytes) -> Document {
    decode_document(bytes).unwrap()
}

pub(crate) fn hello(client: u8) -> Hello {
    Hello {
        protocol_version: 1,
        minimum_version: 1,
        project: "default".to_owned(),
        database: "(default)".to_owned(),
        token: String::new(),
        client_id: ClientId([client; 16]),
        acknowledged_through: WriteId(0),
        agent: "raw".to_owned(),
    }
}

pub(crate) fn listen(target: u32, collection: &str, resume: Option<ResumeToken>) -> ClientMessage {
    ClientMessage::Listen(Listen {
        target_id: TargetId(target),
        target: Target::Query(query(collection)),
        resume,
        reconciles: false,
    })
}

pub(crate) fn query(collection: &str) -> Query {
    Query::collection(&CollectionPath::parse(collection).unwrap())
}

pub(crate) fn commit(write: u64, path: &str, text: &str) -> ClientMessage {
    let mut fields = Fields::default();
    fields.insert("text".to_owned(), Value::String(text.to_owned()));
    ClientMessage::Commit(Commit {
        write_id: WriteId(write),
        writes: vec![Write {
            path: DocumentPath::parse(path).unwrap(),
            op: WriteOp::Set(fields),
            transforms: Vec::new(),
            precondition: None,
        }],
        reads: Vec::new(),
        acknowledged_through: WriteId(write - 1),
        edit_time: None,
        follows: None,
    })
}

/// Another client that listens to `rooms` and writes there, in a task of its own: it must not
/// notice anything.
pub(crate) struct Witness {
    ask: mpsc::Sender<oneshot::Sender<()>>,
    /// Ends the task when dropped.
    _task: JoinSet<()>,
}

impl Witness {
    pub(crate) async fn join(server: &RunningServer) -> Witness {
        let mut raw = Raw::join(server, 200).await;
        raw.listen(1, "rooms").await;
        let (ask, asked) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(watch(raw, asked));
        Witness { ask, _task: task }
    }

    /// Writes a document and sees it.
    pub(crate) async fn is_served(&mut self) {
        let (tell, told) = oneshot::channel();
        self.ask.send(tell).await.expect("the witness noticed something");
        soon(told).await.expect("the witness noticed something");
    }
}

/// Writes a document for each question and answers when it arrives.
async fn watch(mut raw: Raw, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut writes = 0;
    let mut waiting: Option<(String, oneshot::Sender<()>)> = None;
    loop {
        tokio::select! {
            Some(tell) = asked.recv(), if waiting.is_none() => {
                writes += 1;
                let id = format!("witness-{writes}");
                raw.say(&commit(writes, &format!("rooms/{id}"), "still here")).await;
                waiting = Some((id, tell));
            }
            frame = raw.next() => match frame {
                Ok(ServerMessage::Changes(changes)) => {
                    let came = |id: &str| changes.documents.iter().any(|it| document(it).path.id() == id);
                    if let Some((_, tell)) = waiting.take_if(|(id, _)| came(id)) {
                        tell.send(()).expect("the test waits");
                    }
                }
                // It may fall behind and be brought up again, as anyone.
                Ok(ServerMessage::Current { .. }
                    | ServerMessage::Committed { .. }
                    | ServerMessage::Listening { .. }) => {}
                other => panic!("the witness noticed {other:?}"),
            },
        }
    }
}

/// Sends bytes over bare TCP and reads what comes until the server closes.
pub(crate) async fn tcp(server: &RunningServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset ends the answer as well as a close does.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// `GET path`.
pub(crate) async fn get(server: &RunningServer, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tcp(server, request.as_bytes()).await
}

/// A welcome client whose socket is used as bare TCP from here on.
pub(crate) async fn join_as_tcp(server: &RunningServer, client: u8) -> TcpStream {
    Raw::join(server, client).await.socket.into_inner()
}
