//! Recorded keystrokes of several people, typed again by real clients through the real server, with random
//! periods without a network: everybody ends with the recorded text.

use futures::StreamExt;
use rand::Rng;
use tidemark_core::Client;
use tidemark_core::collab::{CollabState, OpenDocument};
use tidemark_tests::traces::{self, Keystrokes};
use tidemark_tests::{Seed, TestServer, within};

/// Who types for an agent: two clients for however many people.
const CLIENTS: usize = 2;

struct Typist {
    client: Client,
    document: OpenDocument,
    online: bool,
}

impl Typist {
    async fn new(server: &TestServer, name: &str) -> Typist {
        let client = server.client(name);
        let document = client.doc("docs/trace").unwrap().collaborate().await.unwrap();
        Typist { client, document, online: true }
    }

    fn turn(&mut self, online: bool) {
        if online != self.online {
            self.online = online;
            match online {
                true => self.client.enable_network(),
                false => self.client.disable_network(),
            }
        }
    }

    fn text(&self) -> String {
        self.document.text("text").unwrap().value()
    }

    /// Receives until all of a state is here.
    async fn holds(&self, state: &CollabState) {
        let mut events = self.document.events();
        within("what the author had seen", async {
            while !self.document.holds(state) {
                events.next().await.expect("the document is open");
            }
        })
        .await;
    }
}

/// Types a recording; each keystroke is made upon exactly what its author had seen, whatever else has
/// come in by then. Gives the number of offline periods.
async fn replay(typists: &mut [Typist], recorded: &Keystrokes, rng: &mut impl Rng) -> usize {
    let mut states: Vec<CollabState> = Vec::with_capacity(recorded.strokes.len());
    let mut periods = 0;
    for stroke in &recorded.strokes {
        let who = stroke.agent % CLIENTS;
        // Most of the time nobody has a network: what others typed comes when it was seen.
        if typists[who].online && rng.random_bool(0.2) {
            typists[who].turn(false);
            periods += 1;
        }
        let seen = CollabState::union(stroke.parents.iter().map(|parent| &states[*parent]));
        if !typists[who].document.holds(&seen) {
            // It was seen, so there was a network.
            typists.iter_mut().for_each(|typist| typist.turn(true));
            typists[who].holds(&seen).await;
        }
        let document = &typists[who].document;
        let text = document.text("text").unwrap();
        let mut state = seen;
        for splice in &stroke.splices {
            if stroke.parents.is_empty() {
                text.splice(splice.at, splice.delete, &splice.insert).unwrap();
                state = document.state();
            } else {
                let made = text.splice_at(&state, splice.at, splice.delete, &splice.insert);
                state = made.unwrap();
            }
        }
        states.push(state);
    }
    periods
}

async fn check(name: &str) {
    let seed = Seed::or(4);
    let mut rng = seed.rng(0);
    let recorded = traces::read(name);
    let server = TestServer::start().await;
    let mut typists = vec![Typist::new(&server, "a").await, Typist::new(&server, "b").await];
    let periods = replay(&mut typists, &recorded, &mut rng).await;
    assert!(periods > 3, "{periods} periods without a network");
    for typist in &mut typists {
        typist.turn(true);
        typist.document.saved().await.unwrap();
    }
    let all = CollabState::union(&typists.iter().map(|it| it.document.state()).collect::<Vec<_>>());
    for typist in &typists {
        typist.holds(&all).await;
        assert!(typist.text() == recorded.end, "{name}: the text differs");
        typist.client.wait_for_pending_writes().await.unwrap();
    }
    let stored = server.client("reader").doc("docs/trace").unwrap().get().await.unwrap();
    let stored = stored.get("text").cloned();
    assert!(stored == Some(tidemark_core::Value::from(recorded.end)), "{name}: what is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friendsforever_ends_in_its_text() {
    check("friendsforever").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clownschool_ends_in_its_text() {
    check("clownschool").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_automerge_paper_ends_in_its_text() {
    let recorded = traces::read("automerge-paper");
    let server = TestServer::start().await;
    let typist = Typist::new(&server, "a").await;
    let text = typist.document.text("text").unwrap();
    for splice in recorded.strokes.iter().flat_map(|stroke| &stroke.splices) {
        text.splice(splice.at, splice.delete, &splice.insert).unwrap();
    }
    assert!(typist.text() == recorded.end, "here");
    typist.document.saved().await.unwrap();
    typist.client.wait_for_pending_writes().await.unwrap();
    let stored = server.client("reader").doc("docs/trace").unwrap().get().await.unwrap();
    assert!(stored.get("text") == Some(&tidemark_core::Value::from(recorded.end)), "stored");
}
