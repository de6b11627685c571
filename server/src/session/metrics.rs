//! What is counted about sessions. Sessions and the acceptor add; `/metrics` reads.

use std::sync::atomic::{AtomicU64, Ordering};

use tidemark_protocol::model::Code;

/// A number that only grows, or a gauge that goes both ways.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// One less; for gauges.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// As of now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of all sessions since the start.
#[derive(Debug, Default)]
pub struct SessionMetrics {
    /// Sockets open now, whatever they speak.
    pub connections: Count,
    /// Sockets refused because there were too many.
    pub connections_refused: Count,
    /// Sessions open now.
    pub sessions: Count,
    /// Sessions ever opened.
    pub sessions_opened: Count,
    /// Sessions ended because nothing was heard, or nothing could be written, for too long.
    pub sessions_lost: Count,
    /// Frames received.
    pub frames_received: Count,
    /// Frames sent.
    pub frames_sent: Count,
    /// Bytes received on all sockets.
    pub bytes_received: Count,
    /// Bytes sent on all sockets.
    pub bytes_sent: Count,
    errors: [Count; 17],
}

impl SessionMetrics {
    /// An error was told to a client.
    pub fn error(&self, code: Code) {
        self.errors[code as usize].increment();
    }

    /// Errors told to clients by sessions, by code.
    pub fn errors(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        (1u32..)
            .zip(&self.errors[1..])
            .map(|(number, count)| (Code::from_number(number), count.get()))
    }
}
