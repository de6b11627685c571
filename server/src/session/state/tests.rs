//! Scripts in, text out: each line of a script is an event, each line of the answer an action.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use expect_test::{Expect, expect};
use tidemark_protocol::model::{ClientId, CollectionPath, Write as DocumentWrite, WriteOp};
use tidemark_protocol::wire::codec::encode_client;

use super::*;

struct Script {
    state: State,
    world: World,
}

fn rules() -> Rules {
    Rules {
        project: "demo".to_owned(),
        limits: SessionLimits { frame_bytes: 65_536, targets: 2, commits_in_flight: 3 },
        heartbeat: Duration::from_secs(10),
        handshake_timeout: Duration::from_secs(5),
    }
}

/// Runs a script; `answers` are the lines that come back.
fn check(script: &str, answers: &Expect) {
    let mut run = Script {
        state: State::new(Arc::new(rules()), 0x1234, Duration::ZERO),
        world: World {
            now: Duration::ZERO,
            wall: Timestamp::from_micros(1_000_000).unwrap(),
            commits_in_flight: 0,
        },
    };
    let mut text = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        run.line(line, &mut text);
    }
    answers.assert_eq(&text);
}

impl Script {
    fn line(&mut self, line: &str, text: &mut String) {
        let mut words = line.split_whitespace();
        let (verb, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
        let number = |place: usize| rest[place].parse::<u64>().unwrap();
        let event = match verb {
            "wait" => {
                self.world.now += Duration::from_millis(number(0));
                Event::Tick
            }
            "in-flight" => {
                self.world.commits_in_flight = usize::try_from(number(0)).unwrap();
                Event::Sent
            }
            "connected" => Event::Connected { incarnation: Incarnation(7) },
            "refused" => Event::Refused(status(Code::Unavailable, "the store is gone")),
            "text" => Event::Text,
            "alive" => Event::Alive,
            "broken" => Event::Broken("Message too long: 10 > 5".to_owned()),
            "ended" => Event::Ended,
            "drain" => Event::Drain,
            "bytes" => Event::Frame(Bytes::from(rest.join(" "))),
            _ => Event::Frame(encode_client(&message(verb, &rest))),
        };
        let mut actions = Vec::new();
        self.state.handle(event, self.world, &mut actions);
        for action in &actions {
            writeln!(text, "{line:14} -> {}", show(action)).unwrap();
        }
    }
}

fn message(verb: &str, rest: &[&str]) -> ClientMessage {
    let number = |place: usize| rest[place].parse::<u64>().unwrap();
    let path = |n: u64| DocumentPath::parse(&format!("rooms/{n}")).unwrap();
    match verb {
        "hello" => hello(rest),
        "listen" => ClientMessage::Listen(Listen {
            target_id: TargetId(u32::try_from(number(0)).unwrap()),
            target: match rest.get(1) {
                Some(_) => Target::Documents((0..number(1)).map(path).collect()),
                None => Target::Query(Query::collection(&CollectionPath::parse("rooms").unwrap())),
            },
            resume: None,
            reconciles: false,
        }),
        "unlisten" => {
            ClientMessage::Unlisten { target: TargetId(u32::try_from(number(0)).unwrap()) }
        }
        "commit" => ClientMessage::Commit(Commit {
            write_id: WriteId(number(0)),
            writes: vec![DocumentWrite {
                path: path(1),
                op: WriteOp::Delete,
                transforms: Vec::new(),
                precondition: None,
            }],
            reads: Vec::new(),
            acknowledged_through: WriteId(0),
            edit_time: None,
            follows: rest.get(1).map(|_| WriteId(number(1))),
        }),
        "digest" => ClientMessage::Digest {
            request: 8,
            target: Target::Documents((0..number(1)).map(path).collect()),
            nodes: vec![DigestNode::ROOT; usize::try_from(number(0)).unwrap()],
        },
        "get" => ClientMessage::Get { request: 9, paths: (0..number(0)).map(path).collect() },
        "ping" => ClientMessage::Ping { nonce: number(0) },
        "acknowledge" => ClientMessage::Acknowledge { through: WriteId(number(0)) },
        other => panic!("no such line: {other}"),
    }
}

fn hello(settings: &[&str]) -> ClientMessage {
    let mut hello = Hello {
        protocol_version: 1,
        minimum_version: 1,
        project: "demo".to_owned(),
        database: DATABASE.to_owned(),
        token: String::new(),
        client_id: ClientId([1; 16]),
        acknowledged_through: WriteId(0),
        agent: "test".to_owned(),
    };
    for setting in settings {
        match setting.split_once('=').unwrap() {
            ("newest", version) => hello.protocol_version = version.parse().unwrap(),
            ("oldest", version) => hello.minimum_version = version.parse().unwrap(),
            ("project", name) => hello.project = name.to_owned(),
            ("database", name) => hello.database = name.to_owned(),
            (other, _) => panic!("no such setting: {other}"),
        }
    }
    ClientMessage::Hello(hello)
}

fn show(action: &Action) -> String {
    match action {
        Action::Connect(_) => "connect".to_owned(),
        Action::Send(message) => show_message(message),
        Action::Listen(listen) => format!("engine: listen {}", listen.target_id),
        Action::Unlisten(target) => format!("engine: unlisten {target}"),
        Action::Commit(commit) => format!("engine: commit {}", commit.write_id),
        Action::Acknowledge(through) => format!("engine: acknowledge {through}"),
        Action::Get { request, paths } => format!("engine: get {request}, {} paths", paths.len()),
        Action::Query { request, .. } => format!("engine: query {request}"),
        Action::Aggregate { request, .. } => format!("engine: aggregate {request}"),
        Action::Digest { request, nodes, .. } => {
            format!("engine: digest {request}, {} branches", nodes.len())
        }
        Action::Ping => "ping".to_owned(),
        Action::Close { code, reason } => format!("close {}: {reason}", code.close_code()),
        Action::Drop { reason } => format!("drop: {reason}"),
    }
}

fn show_message(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Welcome(welcome) => format!(
            "Welcome version {} session {} heartbeat {:?}",
            welcome.protocol_version, welcome.session, welcome.heartbeat
        ),
        ServerMessage::GoAway { status, reconnect_after } => {
            format!("GoAway {status}, reconnect after {reconnect_after:?}")
        }
        ServerMessage::Error { status } => format!("Error {status}"),
        ServerMessage::TargetError { target, status } => format!("TargetError {target} {status}"),
        ServerMessage::Rejected { write_id, status } => format!("Rejected {write_id} {status}"),
        ServerMessage::RequestError { request, status } => {
            format!("RequestError {request} {status}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_greeting_is_answered_once_the_engine_agrees() {
    check(
        "hello
         connected
         ping 5",
        &expect![[r#"
            hello          -> connect
            connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
            ping 5         -> Pong { nonce: 5, server_time: Timestamp(1000000) }
        "#]],
    );
}

#[test]
fn a_wrong_greeting_ends_the_connection() {
    check(
        "hello newest=9 oldest=9",
        &expect![[r#"
        hello newest=9 oldest=9 -> GoAway failed-precondition: the client speaks protocol versions 9 to 9, the server 1 to 1, reconnect after None
        hello newest=9 oldest=9 -> close 4009: the client speaks protocol versions 9 to 9, the server 1 to 1
    "#]],
    );
    check(
        "hello newest=9 oldest=1",
        &expect![[r#"
        hello newest=9 oldest=1 -> connect
    "#]],
    );
    check(
        "hello project=other",
        &expect![[r#"
        hello project=other -> GoAway not-found: there is no project "other" here, reconnect after None
        hello project=other -> close 4005: there is no project "other" here
    "#]],
    );
    check(
        "hello database=other",
        &expect![[r#"
        hello database=other -> GoAway not-found: there is no database "other" here; the database is "(default)", reconnect after None
        hello database=other -> close 4005: there is no database "other" here; the database is "(default)"
    "#]],
    );
    check(
        "ping 1",
        &expect![[r#"
        ping 1         -> GoAway failed-precondition: the first frame must be Hello, reconnect after None
        ping 1         -> close 4009: the first frame must be Hello
    "#]],
    );
    check(
        "bytes garbage",
        &expect![[r#"
        bytes garbage  -> GoAway invalid-argument: the frame is not a Tidemark message: a wire type is unknown, reconnect after None
        bytes garbage  -> close 4003: the frame is not a Tidemark message: a wire type is unknown
    "#]],
    );
    check(
        "text",
        &expect![[r#"
        text           -> GoAway invalid-argument: the message is text; frames are binary messages, reconnect after None
        text           -> close 4003: the message is text; frames are binary messages
    "#]],
    );
    check(
        "hello\nping 1",
        &expect![[r#"
        hello          -> connect
        ping 1         -> GoAway failed-precondition: wait for Welcome after Hello, reconnect after Some(660ms)
        ping 1         -> close 4009: wait for Welcome after Hello
    "#]],
    );
    check(
        "hello\nrefused",
        &expect![[r#"
        hello          -> connect
        refused        -> GoAway unavailable: the store is gone, reconnect after Some(660ms)
        refused        -> close 4014: the store is gone
    "#]],
    );
}

#[test]
fn a_greeting_must_come_in_time() {
    check(
        "wait 4999\nalive\nwait 1",
        &expect![[r#"
        wait 1         -> GoAway deadline-exceeded: no Hello within 5s, reconnect after Some(660ms)
        wait 1         -> close 4004: no Hello within 5s
    "#]],
    );
}

#[test]
fn requests_go_to_the_engine_within_the_limits() {
    check(
        "hello
         connected
         listen 1
         listen 2
         listen 3
         listen 2
         unlisten 1
         listen 3
         listen 4 2000
         get 3
         get 0
         get 1001
         digest 1 3
         digest 0 3
         digest 1 1001
         digest 257 3
         commit 1
         commit 0
         in-flight 3
         commit 2
         in-flight 2
         commit 2
         acknowledge 1",
        &expect![[r#"
            hello          -> connect
            connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
            listen 1       -> engine: listen 1
            listen 2       -> engine: listen 2
            listen 3       -> TargetError 3 resource-exhausted: the connection listens to 2 targets, which is the limit
            listen 2       -> engine: listen 2
            unlisten 1     -> engine: unlisten 1
            listen 3       -> engine: listen 3
            listen 4 2000  -> TargetError 4 invalid-argument: 2000 documents are named; the limit is 1000
            get 3          -> engine: get 9, 3 paths
            get 0          -> RequestError 9 invalid-argument: no document is named
            get 1001       -> RequestError 9 invalid-argument: 1001 documents are named; the limit is 1000
            digest 1 3     -> engine: digest 8, 1 branches
            digest 0 3     -> RequestError 8 invalid-argument: no branch of the digest is named
            digest 1 1001  -> RequestError 8 invalid-argument: 1001 documents are named; the limit is 1000
            digest 257 3   -> RequestError 8 invalid-argument: there are more than 256 branches of a digest, which is the limit
            commit 1       -> engine: commit 1
            commit 0       -> Rejected 0 invalid-argument: write ids begin at 1
            commit 2       -> Rejected 2 resource-exhausted: 3 commits wait for their outcome, which is the limit
            commit 2       -> engine: commit 2
            acknowledge 1  -> engine: acknowledge 1
        "#]],
    );
}

#[test]
fn what_follows_a_commit_that_was_refused_for_now_is_refused_as_well() {
    check(
        "hello
         connected
         commit 1
         in-flight 3
         commit 2
         in-flight 0
         commit 3 2
         commit 4 3
         commit 5 1
         commit 2
         commit 3 2
         commit 4 3
         commit 0
         commit 6 0",
        &expect![[r#"
            hello          -> connect
            connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
            commit 1       -> engine: commit 1
            commit 2       -> Rejected 2 resource-exhausted: 3 commits wait for their outcome, which is the limit
            commit 3 2     -> Rejected 3 unavailable: it follows write 2, which was refused for now; send both again
            commit 4 3     -> Rejected 4 unavailable: it follows write 3, which was refused for now; send both again
            commit 5 1     -> engine: commit 5
            commit 2       -> engine: commit 2
            commit 3 2     -> engine: commit 3
            commit 4 3     -> engine: commit 4
            commit 0       -> Rejected 0 invalid-argument: write ids begin at 1
            commit 6 0     -> engine: commit 6
        "#]],
    );
}

#[test]
fn sixteen_bad_frames_end_the_connection() {
    let mut script = "hello\nconnected\nhello\ntext\n".to_owned();
    script.push_str(&"bytes garbage\n".repeat(15));
    check(
        &script,
        &expect![[r#"
        hello          -> connect
        connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
        hello          -> Error failed-precondition: Hello was said; only the first frame may be Hello
        text           -> Error invalid-argument: the message is text; frames are binary messages
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> Error invalid-argument: the frame is not a Tidemark message: a wire type is unknown
        bytes garbage  -> GoAway invalid-argument: 16 frames could not be understood, reconnect after Some(660ms)
        bytes garbage  -> close 4003: 16 frames could not be understood
    "#]],
    );
}

#[test]
fn a_silent_peer_is_pinged_twice_then_dropped() {
    check(
        "hello
         connected
         wait 14999
         wait 1
         wait 10000
         alive
         wait 15000
         ping 1
         wait 15000
         wait 10000
         wait 4999
         wait 1
         ping 2",
        &expect![[r#"
            hello          -> connect
            connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
            wait 1         -> ping
            wait 10000     -> ping
            wait 15000     -> ping
            ping 1         -> Pong { nonce: 1, server_time: Timestamp(1000000) }
            wait 15000     -> ping
            wait 10000     -> ping
            wait 1         -> drop: three silent heartbeats
        "#]],
    );
}

#[test]
fn stopping_waits_for_commits_in_flight() {
    check(
        "hello
         connected
         commit 1
         in-flight 1
         drain
         commit 2
         listen 1
         ping 1
         in-flight 0",
        &expect![[r#"
            hello          -> connect
            connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
            commit 1       -> engine: commit 1
            drain          -> GoAway unavailable: the server is stopping; reconnect, reconnect after Some(660ms)
            ping 1         -> Pong { nonce: 1, server_time: Timestamp(1000000) }
            in-flight 0    -> close 4014: the server is stopping
        "#]],
    );
    check(
        "hello\nconnected\ndrain",
        &expect![[r#"
        hello          -> connect
        connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
        drain          -> GoAway unavailable: the server is stopping; reconnect, reconnect after Some(660ms)
        drain          -> close 4014: the server is stopping
    "#]],
    );
    check(
        "drain",
        &expect![[r#"
        drain          -> GoAway unavailable: the server is stopping; reconnect, reconnect after Some(660ms)
        drain          -> close 4014: the server is stopping; reconnect
    "#]],
    );
}

#[test]
fn other_ends() {
    check(
        "hello\nconnected\nended\nping 1",
        &expect![[r#"
        hello          -> connect
        connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
        ended          -> close 4010: the connection was ended by the server
    "#]],
    );
    check(
        "hello\nconnected\nbroken",
        &expect![[r#"
        hello          -> connect
        connected      -> Welcome version 1 session 0000000000001234 heartbeat 10s
        broken         -> GoAway invalid-argument: the WebSocket failed: Message too long: 10 > 5, reconnect after Some(660ms)
        broken         -> close 4003: the WebSocket failed: Message too long: 10 > 5
    "#]],
    );
}
