//! Reads WebSocket messages out of a byte stream that passes by. Changes nothing, never fails: what it cannot
//! follow it skips.

use bytes::{Buf, Bytes, BytesMut};

/// Follows one direction of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    buffer: BytesMut,
    /// Set once the HTTP head has passed.
    upgraded: bool,
    /// Payloads of the fragments so far.
    message: BytesMut,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The first line of the HTTP head.
    Head(String),
    /// A whole binary message.
    Message(Bytes),
    /// A close frame with its code.
    Close(Option<u16>),
}

struct Header {
    fin: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    head: usize,
    payload: usize,
}

impl Tap {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.buffer.extend_from_slice(bytes);
        let mut seen = Vec::new();
        if !self.upgraded && !self.pass_head(&mut seen) {
            return seen;
        }
        while let Some(header) = self.header() {
            if self.buffer.len() < header.head + header.payload {
                break;
            }
            self.buffer.advance(header.head);
            let mut payload = self.buffer.split_to(header.payload);
            if let Some(mask) = header.mask {
                payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
            }
            self.frame(&header, &payload, &mut seen);
        }
        seen
    }

    fn pass_head(&mut self, seen: &mut Vec<Seen>) -> bool {
        let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return false;
        };
        let head = self.buffer.split_to(end + 4);
        let line = head[..].split(|byte| *byte == b'\r').next().unwrap_or_default();
        seen.push(Seen::Head(String::from_utf8_lossy(line).into_owned()));
        self.upgraded = true;
        true
    }

    fn header(&self) -> Option<Header> {
        let (&first, &second) = (self.buffer.first()?, self.buffer.get(1)?);
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = self.buffer.get(2..2 + extended)?;
        let payload = match extended {
            0 => usize::from(second & 0x7F),
            _ => length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)),
        };
        let masked = second & 0x80 != 0;
        let mask = match masked {
            true => Some(self.buffer.get(2 + extended..6 + extended)?.try_into().ok()?),
            false => None,
        };
        let head = 2 + extended + if masked { 4 } else { 0 };
        Some(Header { fin: first & 0x80 != 0, opcode: first & 0x0F, mask, head, payload })
    }

    fn frame(&mut self, header: &Header, payload: &[u8], seen: &mut Vec<Seen>) {
        match header.opcode {
            0..=2 => {
                self.message.extend_from_slice(payload);
                if header.fin {
                    seen.push(Seen::Message(self.message.split().freeze()));
                }
            }
            8 => {
                let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                seen.push(Seen::Close(code));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn follows_masked_and_fragmented_messages_byte_by_byte() {
        let mut bytes = b"GET /v1/sync HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        bytes.extend([0x02, 0x82, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2]); // first fragment, masked
        bytes.extend([0x80, 0x01, b'c']); // last fragment, not masked
        bytes.extend([0x88, 0x02, 0x0F, 0xA1]); // close 4001
        let mut tap = Tap::default();
        let seen: Vec<Seen> = bytes.iter().flat_map(|byte| tap.feed(&[*byte])).collect();
        let [Seen::Head(head), Seen::Message(message), Seen::Close(Some(4001))] = &seen[..] else {
            panic!("{seen:?}");
        };
        assert_eq!((head.as_str(), &message[..]), ("GET /v1/sync HTTP/1.1", &b"abc"[..]));
    }
}
