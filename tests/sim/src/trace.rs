//! What happened in a run, as one number: two runs of a plan are the same if all was delivered at the
//! same time, in the same order, with the same bytes.

use std::time::Duration;

use crate::net::{Down, Happening, Up};

/// A hash of everything that happened (FNV-1a).
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    print: bool,
}

impl Default for Trace {
    fn default() -> Trace {
        // For comparing two runs line by line.
        let print = std::env::var_os("TIDEMARK_SIM_TRACE").is_some();
        Trace { hash: 0xcbf2_9ce4_8422_2325, print }
    }
}

impl Trace {
    /// Takes in what happens.
    #[allow(clippy::print_stderr)] // Asked for by who looks for a bug.
    pub fn add(&mut self, at: Duration, what: &Happening) {
        self.number(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        if self.print {
            eprintln!("{:>9.3} {}", at.as_secs_f64(), shown(what));
        }
        match what {
            Happening::Knock(link) => self.numbers(&[1, link.0]),
            Happening::AtServer(link, Up::Frame(frame)) => {
                self.numbers(&[2, link.0]);
                self.bytes(frame);
            }
            Happening::AtServer(link, Up::Pong) => self.numbers(&[3, link.0]),
            Happening::AtServer(link, Up::Closed) => self.numbers(&[4, link.0]),
            Happening::AtClient(link, Down::Frame(frame)) => {
                self.numbers(&[5, link.0]);
                self.bytes(frame);
            }
            Happening::AtClient(link, Down::Opened) => self.numbers(&[6, link.0]),
            Happening::AtClient(link, Down::Ping) => self.numbers(&[7, link.0]),
            Happening::AtClient(link, Down::Closed) => self.numbers(&[8, link.0]),
            Happening::Tick { client, life } => self.numbers(&[9, *client as u64, *life]),
            Happening::Step(at) => self.numbers(&[10, *at as u64]),
            Happening::StartClient(client) => self.numbers(&[11, *client as u64]),
            Happening::Online { client, life } => self.numbers(&[12, *client as u64, *life]),
            Happening::StartServer => self.number(13),
            Happening::Settle { client, life } => self.numbers(&[15, *client as u64, *life]),
            Happening::Look => self.number(14),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.number(*number));
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

fn shown(what: &Happening) -> String {
    use tidemark_protocol::wire::codec::{decode_client, decode_server};
    match what {
        Happening::AtServer(link, Up::Frame(frame)) => match decode_client(frame, usize::MAX) {
            Ok(message) => format!("server {} < {message:?}", link.0),
            Err(error) => format!("server {} < {error}", link.0),
        },
        Happening::AtClient(link, Down::Frame(frame)) => match decode_server(frame) {
            Ok(message) => format!("client {} < {message:?}", link.0),
            Err(error) => format!("client {} < {error}", link.0),
        },
        other => format!("{other:?}"),
    }
}
