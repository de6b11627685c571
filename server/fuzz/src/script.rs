//! Turns bytes into events for a session's state machine and checks what must always hold.
//! Shared by the fuzz target and by the test that replays its corpus.
//!
//! A script is a sequence of steps: one byte for the kind of event, one for the length of its
//! argument, and the argument.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{
    ClientId, Code, CollectionPath, DigestNode, DocumentPath, Incarnation, Query, Target, TargetId,
    Timestamp, Write, WriteId, WriteOp,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::codec::{decode_server, encode_client, encode_server};
use tidemark_protocol::wire::server::{ServerMessage, SessionLimits, Status};
use tidemark_server::session::limits::BAD_FRAMES;
use tidemark_server::session::state::{Action, DATABASE, Event, Rules, State, World};

const TARGETS: u32 = 3;

/// What came of a script.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// Frames for the client.
    pub(crate) sent: Vec<ServerMessage>,
    /// How it ended, if it did.
    pub(crate) end: Option<Action>,
}

struct Run {
    state: State,
    world: World,
    connected: bool,
    errors: u32,
    transcript: Transcript,
}

/// Runs a script.
///
/// # Panics
/// When something does not hold that must.
pub(crate) fn replay(script: &[u8]) -> Transcript {
    let rules = Rules {
        project: "demo".to_owned(),
        limits: SessionLimits { frame_bytes: 2048, targets: TARGETS, commits_in_flight: 2 },
        heartbeat: Duration::from_secs(10),
        handshake_timeout: Duration::from_secs(5),
    };
    let mut run = Run {
        state: State::new(Arc::new(rules), 99, Duration::ZERO),
        world: World { now: Duration::ZERO, wall: Timestamp::default(), commits_in_flight: 0 },
        connected: false,
        errors: 0,
        transcript: Transcript::default(),
    };
    let mut rest = script;
    while let [kind, length, after @ ..] = rest {
        let (argument, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        run.step(*kind, argument);
    }
    run.transcript
}

impl Run {
    fn step(&mut self, kind: u8, argument: &[u8]) {
        let number = argument.first().copied().unwrap_or(0);
        let event = match kind % 12 {
            0 => Event::Frame(Bytes::copy_from_slice(argument)),
            1 => Event::Text,
            2 => Event::Alive,
            3 => Event::Broken(String::from_utf8_lossy(argument).into_owned()),
            4 => Event::Connected { incarnation: Incarnation(1) },
            5 => Event::Refused(Status {
                code: Code::from_number(u32::from(number)),
                message: String::from_utf8_lossy(argument).into_owned(),
            }),
            6 => Event::Ended,
            7 => Event::Drain,
            8 => {
                self.world.now += Duration::from_millis(u64::from(number) * 250);
                Event::Tick
            }
            9 => {
                self.world.commits_in_flight = usize::from(number % 4);
                Event::Sent
            }
            10 => Event::Frame(encode_client(&valid(number))),
            _ => {
                // A valid frame, damaged in one place.
                let mut frame = encode_client(&valid(number)).to_vec();
                let place = usize::from(argument.get(1).copied().unwrap_or(0)) % frame.len().max(1);
                if let Some(byte) = frame.get_mut(place) {
                    *byte ^= argument.get(2).copied().unwrap_or(0xff);
                }
                Event::Frame(Bytes::from(frame))
            }
        };
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        let was_closed = self.state.is_closed();
        let mut actions = Vec::new();
        self.state.handle(event, self.world, &mut actions);
        assert!(!was_closed || actions.is_empty(), "a closed session does nothing: {actions:?}");
        let ends = |action: &Action| matches!(action, Action::Close { .. } | Action::Drop { .. });
        let last = actions.len().saturating_sub(1);
        for (place, action) in actions.into_iter().enumerate() {
            assert!(!ends(&action) || place == last, "nothing follows the end");
            self.action(action);
        }
        assert_eq!(self.state.is_closed(), self.transcript.end.is_some(), "an end is told");
        assert_eq!(
            self.state.is_closed(),
            self.state.deadline().is_none(),
            "a session has a deadline"
        );
    }

    fn action(&mut self, action: Action) {
        match action {
            Action::Send(message) => self.sent(message),
            Action::Connect(_) => assert!(!self.connected, "one connection per session"),
            Action::Close { code, ref reason } => {
                assert!((4001..=4016).contains(&code.close_code()), "{code}");
                assert!(reason.len() <= 123, "a close frame has no room for {reason:?}");
                self.transcript.end = Some(action);
            }
            Action::Drop { .. } => self.transcript.end = Some(action),
            Action::Listen(_)
            | Action::Unlisten(_)
            | Action::Commit(_)
            | Action::Acknowledge(_)
            | Action::Get { .. }
            | Action::Query { .. }
            | Action::Aggregate { .. }
            | Action::Digest { .. }
            | Action::Ping => assert!(self.connected, "only with a connection: {action:?}"),
        }
    }

    fn sent(&mut self, message: ServerMessage) {
        match &message {
            ServerMessage::Welcome(_) => self.connected = true,
            ServerMessage::GoAway { .. } => {}
            ServerMessage::Error { .. } => self.errors += 1,
            other => assert!(self.connected, "only after Welcome: {other:?}"),
        }
        assert!(self.errors <= BAD_FRAMES, "bad frames are not answered for ever");
        let decoded = decode_server(&encode_server(&message)).expect("a frame that can be decoded");
        assert_eq!(decoded, message);
        self.transcript.sent.push(message);
    }
}

/// One of the frames that a client may send.
fn valid(choice: u8) -> ClientMessage {
    let small = u32::from(choice / 9);
    let path = || DocumentPath::parse("rooms/a").expect("a valid path");
    match choice % 9 {
        0 => ClientMessage::Hello(Hello {
            protocol_version: 1 + small % 2,
            minimum_version: 1,
            project: "demo".to_owned(),
            database: DATABASE.to_owned(),
            token: String::new(),
            client_id: ClientId([choice; 16]),
            acknowledged_through: WriteId(0),
            agent: String::new(),
        }),
        1 => ClientMessage::Listen(Listen {
            target_id: TargetId(small),
            target: Target::Query(Query::collection(
                &CollectionPath::parse("rooms").expect("a valid path"),
            )),
            resume: None,
            reconciles: false,
        }),
        2 => ClientMessage::Unlisten { target: TargetId(small) },
        3 => ClientMessage::Commit(Commit {
            write_id: WriteId(u64::from(small)),
            writes: vec![Write {
                path: path(),
                op: WriteOp::Delete,
                transforms: Vec::new(),
                precondition: None,
            }],
            reads: Vec::new(),
            acknowledged_through: WriteId(0),
            edit_time: None,
            follows: Some(WriteId(u64::from(small / 2))).filter(|id| id.0 > 0),
        }),
        4 => ClientMessage::Get { request: small, paths: vec![path()] },
        5 => ClientMessage::Query {
            request: small,
            query: Query::collection(&CollectionPath::parse("rooms").expect("a valid path")),
            explain: small.is_multiple_of(2),
        },
        6 => ClientMessage::Ping { nonce: u64::from(small) },
        7 => ClientMessage::Digest {
            request: small,
            target: Target::Documents(vec![path()]),
            nodes: vec![DigestNode::ROOT; usize::from(small % 2 > 0)],
        },
        _ => ClientMessage::Acknowledge { through: WriteId(u64::from(small)) },
    }
}
