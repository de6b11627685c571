//! The README's code: `cargo run -p tidemark-quickstart [URL]`. The README shows what follows the
//! header; a tidy test compares them.
#![allow(clippy::print_stdout)]

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tidemark_core::{Client, Direction};

#[derive(Serialize, Deserialize)]
struct Message {
    from: String,
    text: String,
    seq: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:7700".to_owned());
    let client = Client::builder(url).build()?;
    let messages = client.collection("rooms/elsinore/messages")?;

    // A write takes effect here at once, online or not; awaiting it gives the server's word.
    let lines = [("Bernardo", "Who's there?"), ("Francisco", "Nay, answer me.")];
    for (seq, (from, text)) in (1..).zip(lines) {
        let message = Message { from: from.to_owned(), text: text.to_owned(), seq };
        messages.doc(&format!("line-{seq}"))?.set(&message).await?;
    }

    // A listener gives the result now, and again after every change, whoever makes it.
    let mut snapshots = messages.order_by("seq", Direction::Ascending).limit(2).listen();
    while let Some(snapshot) = snapshots.next().await {
        let snapshot = snapshot?;
        for change in snapshot.changes() {
            let message: Message = change.document.data()?;
            println!("{:?} {}: {}", change.kind, message.from, message.text);
        }
        if snapshot.len() == lines.len() {
            break;
        }
    }
    client.close().await;
    Ok(())
}
