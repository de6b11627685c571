//! Recordings of several people who typed at once, typed again by two clients through the server, most of
//! the time without a network: both must end with the recorded text. Part of [`traces`](crate::traces).

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tidemark_core::collab::{CollabState, OpenDocument};
use tidemark_core::{Client, Value};

use crate::child::{Kind, Server};
use crate::plan::Plan;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/traces/");
/// How often a client that has a network loses it, per keystroke.
const LOSS: f64 = 0.2;

/// Some splices by one author, upon the text as it was after `parents`.
struct Keystroke {
    agent: usize,
    parents: Vec<usize>,
    splices: Vec<(usize, usize, String)>,
}

/// What a replay took.
pub(crate) struct Replayed {
    pub(crate) time: Duration,
    pub(crate) offline_periods: usize,
}

struct Typist {
    client: Client,
    document: OpenDocument,
    online: bool,
}

impl Typist {
    async fn new(server: &Server) -> anyhow::Result<Typist> {
        let client = Client::builder(format!("ws://{}", server.address)).build()?;
        let document = client.doc("docs/trace")?.collaborate().await?;
        Ok(Typist { client, document, online: true })
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

    async fn holds(&self, state: &CollabState) -> anyhow::Result<()> {
        let mut events = self.document.events();
        while !self.document.holds(state) {
            events.next().await.context("the document was closed")?;
        }
        Ok(())
    }
}

/// Types a recording again.
pub(crate) async fn run(plan: &Plan, name: &str) -> anyhow::Result<Replayed> {
    let (strokes, end) = read(name)?;
    let data = tempfile::tempdir_in(&plan.data)?;
    let server = Server::start(&Kind::Tidemark { data: data.path().to_owned() }).await?;
    let mut typists = [Typist::new(&server).await?, Typist::new(&server).await?];
    let begun = Instant::now();
    let offline_periods = type_all(&strokes, &mut typists).await?;
    for typist in &mut typists {
        typist.turn(true);
        typist.document.saved().await?;
    }
    let states = typists.each_ref().map(|typist| typist.document.state());
    for typist in &typists {
        typist.holds(&CollabState::union(&states)).await?;
        typist.client.wait_for_pending_writes().await?;
        let text = typist.document.value("text");
        ensure!(text == Some(Value::from(end.as_str())), "{name}: a client has another text");
    }
    let stored = typists[0].client.doc("docs/trace")?.get().await?;
    ensure!(stored.get("text") == Some(&Value::from(end)), "{name}: the server has another text");
    Ok(Replayed { time: begun.elapsed(), offline_periods })
}

/// Each keystroke is made upon exactly what its author had seen, whatever else has come in by then. The
/// number of periods without a network.
async fn type_all(strokes: &[Keystroke], typists: &mut [Typist; 2]) -> anyhow::Result<usize> {
    let mut rng = StdRng::seed_from_u64(4);
    let mut states: Vec<CollabState> = Vec::with_capacity(strokes.len());
    let mut periods = 0;
    for stroke in strokes {
        let who = stroke.agent % typists.len();
        if typists[who].online && rng.random_bool(LOSS) {
            typists[who].turn(false);
            periods += 1;
        }
        let mut state = CollabState::union(stroke.parents.iter().map(|parent| &states[*parent]));
        if !typists[who].document.holds(&state) {
            // It was seen, so there was a network.
            typists.iter_mut().for_each(|typist| typist.turn(true));
            typists[who].holds(&state).await?;
        }
        let document = &typists[who].document;
        let text = document.text("text")?;
        for (at, delete, insert) in &stroke.splices {
            if stroke.parents.is_empty() {
                text.splice(*at, *delete, insert)?;
                state = document.state();
            } else {
                state = text.splice_at(&state, *at, *delete, insert)?;
            }
        }
        states.push(state);
    }
    Ok(periods)
}

fn read(name: &str) -> anyhow::Result<(Vec<Keystroke>, String)> {
    let file = std::fs::File::open(format!("{FOLDER}{name}.json.gz"))
        .context("the recording is part of the project")?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text)?;
    let json: Json = serde_json::from_str(&text)?;
    let end = json["endContent"].as_str().context("no end")?.to_owned();
    let strokes = json["txns"].as_array().context("no keystrokes")?;
    let strokes = strokes.iter().map(|stroke| {
        Ok(Keystroke {
            agent: serde_json::from_value(stroke["agent"].clone())?,
            parents: serde_json::from_value(stroke["parents"].clone())?,
            splices: serde_json::from_value(stroke["patches"].clone())?,
        })
    });
    Ok((strokes.collect::<anyhow::Result<_>>()?, end))
}
