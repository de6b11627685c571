//! The clients of W2: one writer and many listeners, the same against Tidemark and against the
//! bare broadcaster. What differs is the first exchange and the frame that carries an update.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::StreamExt;
use tidemark_protocol::model::{
    Document, DocumentPath, Fields, Target, Value, Version, Write, WriteId, WriteOp,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{Changes, ServerMessage};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::board::{Board, Tally, find_marker, marker};
use crate::floor::{LISTEN, WRITE, random_text};
use crate::raw::{self, Sender, Session, Socket};
use crate::stats::Latencies;

/// The document that everybody listens to.
pub(crate) const PATH: &str = "boards/one";
/// Bytes of its text.
const TEXT: usize = 256;
/// Handshakes at a time.
const HANDSHAKES: usize = 32;

/// Which server is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The bare broadcaster.
    Bare,
    /// Tidemark.
    Tidemark,
}

/// The one writer.
pub(crate) struct Writer {
    side: Side,
    sender: Sender,
    padding: String,
    sent: u64,
    answers: Arc<Answers>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Answers {
    count: AtomicU64,
    failed: AtomicUsize,
    moved: Notify,
}

impl Writer {
    /// Connects.
    pub(crate) async fn open(side: Side, address: SocketAddr) -> anyhow::Result<Writer> {
        let socket = match side {
            Side::Bare => bare_socket(address, WRITE).await?,
            Side::Tidemark => Session::open(address).await?.into_socket(),
        };
        let (sender, mut receiver) = socket.split();
        let answers = Arc::new(Answers::default());
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&answers);
        tasks.spawn(async move {
            while let Ok(frame) = receiver.receive().await {
                if is_answer(side, &frame) {
                    counted.count.fetch_add(1, Relaxed);
                    counted.moved.notify_one();
                }
            }
            counted.failed.store(1, Relaxed);
            counted.moved.notify_one();
        });
        let padding = random_text(TEXT - marker(0).len());
        Ok(Writer { side, sender, padding, sent: 0, answers, _tasks: tasks })
    }

    /// Sends an update.
    pub(crate) async fn send(&mut self, update: u64) -> anyhow::Result<()> {
        self.sent += 1;
        let text = marker(update) + &self.padding;
        let frame = match self.side {
            Side::Bare => bare_update(text)?,
            Side::Tidemark => self.commit(text)?,
        };
        self.sender.send(frame).await
    }

    /// Waits until fewer than `most` updates are unanswered.
    pub(crate) async fn wait_in_flight(&self, most: u64) -> anyhow::Result<()> {
        while self.sent - self.answers.count.load(Relaxed) >= most {
            if self.answers.failed.load(Relaxed) > 0 {
                bail!("the writer's connection has ended");
            }
            self.answers.moved.notified().await;
        }
        Ok(())
    }

    fn commit(&self, text: String) -> anyhow::Result<Bytes> {
        let write = Write {
            path: DocumentPath::parse(PATH)?,
            op: WriteOp::Set(Fields::from([("text".to_owned(), Value::String(text))])),
            transforms: Vec::new(),
            precondition: None,
        };
        // Answers come in the order of the writes.
        let acknowledged_through = WriteId(self.answers.count.load(Relaxed));
        Ok(codec::encode_client(&ClientMessage::Commit(Commit {
            write_id: WriteId(self.sent),
            writes: vec![write],
            reads: Vec::new(),
            acknowledged_through,
            edit_time: None,
            follows: None,
        })))
    }
}

/// The bare broadcaster answers each update once; Tidemark also sends other frames.
fn is_answer(side: Side, frame: &Bytes) -> bool {
    match side {
        Side::Bare => true,
        Side::Tidemark => {
            matches!(codec::decode_server(frame), Ok(ServerMessage::Committed { .. }))
        }
    }
}

/// The frame that Tidemark would send to listeners: the bare broadcaster passes it on as it is.
fn bare_update(text: String) -> anyhow::Result<Bytes> {
    let version = Version(1_700_000_000_000_000);
    let document = codec::encode_document(&Document {
        path: DocumentPath::parse(PATH)?,
        fields: Fields::from([("text".to_owned(), Value::String(text))]),
        create_version: version,
        update_version: version,
        merge: Default::default(),
    });
    let changes = Changes { group: 1, version, documents: vec![document], ..Changes::default() };
    Ok(codec::encode_server(&ServerMessage::Changes(changes)))
}

async fn bare_socket(address: SocketAddr, role: &'static [u8]) -> anyhow::Result<Socket> {
    let mut socket = Socket::connect(address, raw::small_buffers()).await?;
    socket.send(Bytes::from_static(role)).await?;
    if socket.receive().await? != role {
        bail!("the bare server did not take the role");
    }
    Ok(socket)
}

/// Many listeners, each on its own connection.
pub(crate) struct Listeners {
    board: Arc<Board>,
    tallies: Vec<Arc<Mutex<Tally>>>,
    tasks: JoinSet<()>,
    broken: Arc<AtomicUsize>,
}

impl Listeners {
    /// None yet.
    pub(crate) fn new(board: Arc<Board>) -> Listeners {
        Listeners {
            board,
            tallies: Vec::new(),
            tasks: JoinSet::new(),
            broken: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Opens more; returns when all of them listen.
    pub(crate) async fn open(
        &mut self,
        side: Side,
        address: SocketAddr,
        count: usize,
    ) -> anyhow::Result<()> {
        let mut opening = futures::stream::iter(0..count)
            .map(|_| listening_socket(side, address))
            .buffer_unordered(HANDSHAKES);
        while let Some(socket) = opening.next().await {
            let tally = Arc::new(Mutex::new(Tally::default()));
            self.tallies.push(Arc::clone(&tally));
            self.tasks.spawn(listen(
                socket?,
                Arc::clone(&self.board),
                tally,
                Arc::clone(&self.broken),
            ));
        }
        Ok(())
    }

    /// All latencies since the last call.
    pub(crate) fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        for tally in &self.tallies {
            all.absorb(tally.lock().expect("no listener panics").take());
        }
        all
    }

    /// An error if a connection has broken.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.broken.load(Relaxed) {
            0 => Ok(()),
            broken => bail!("{broken} listeners lost their connection"),
        }
    }
}

async fn listening_socket(side: Side, address: SocketAddr) -> anyhow::Result<Socket> {
    match side {
        Side::Bare => bare_socket(address, LISTEN).await,
        Side::Tidemark => {
            let mut session = Session::open(address).await?;
            let target = Target::Documents(vec![DocumentPath::parse(PATH)?]);
            session.listen(target).await.context("cannot listen")?;
            Ok(session.into_socket())
        }
    }
}

async fn listen(
    mut socket: Socket,
    board: Arc<Board>,
    tally: Arc<Mutex<Tally>>,
    broken: Arc<AtomicUsize>,
) {
    while let Ok(frame) = socket.receive().await {
        if let Some(update) = find_marker(&frame) {
            tally.lock().expect("no listener panics").note(&board, update);
        }
    }
    broken.fetch_add(1, Relaxed);
}
