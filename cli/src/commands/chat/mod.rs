//! `chat`: talk in a room. The network side (`feed`) keeps the pure model (`room`) up to date; a
//! front end shows it: `terminal` (full screen) or `lines` (pipes and scripts).

mod editor;
mod feed;
mod lines;
mod render;
mod room;
mod terminal;

use std::io::IsTerminal;

use crate::args::{ChatArgs, ClientArgs};
use crate::commands::chat::feed::Feed;
use crate::commands::chat::room::Room;
use crate::connection::Connection;
use crate::failure::{Failure, Outcome};

/// The longest text of a message, in bytes.
const TEXT_LIMIT: usize = 16 * 1024;

/// Talks until the user has enough.
pub(crate) async fn run(client: &ClientArgs, args: &ChatArgs) -> Outcome<u8> {
    let name = args.name.trim();
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Failure::usage("--as needs a name without control characters"));
    }
    let connection = Connection::open_cached(client, &args.cache)?;
    let room = connection.client().collection("rooms")?.doc(&args.room)?;
    let messages = room.collection("messages")?;
    let durable = args.cache.cache.is_some();
    let mut room = Room::new(&args.room, name);
    let feed = Feed::open(connection.client(), messages, &mut room, durable).await?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let code = if terminal && !args.plain && !client.json {
        terminal::run(feed, room).await?
    } else {
        lines::run(feed, room, client.json).await?
    };
    connection.close().await;
    Ok(code)
}
