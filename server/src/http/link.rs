//! The TCP connection under a session: counted, limited in number, and closed so that the peer
//! reads what was said last. Created by the acceptor; the session sees its [`Link`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::session::SessionMetrics;
use crate::tasks::Spawner;

/// How long a closed connection waits for its peer to close as well.
const LINGER: Duration = Duration::from_secs(2);

/// What a session may know and ask of its TCP connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    written: AtomicU64,
    ended: AtomicBool,
    linger: AtomicBool,
}

impl Link {
    /// Bytes that the kernel took; they grow only as far as the peer reads.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the peer closed or the connection failed.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Closes gently when the socket is dropped: closing with unread bytes would reset the
    /// connection, and the peer might never read why.
    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }
}

/// A TCP stream with its [`Link`].
pub(super) struct LinkedStream {
    /// Taken only by drop.
    open: Option<(TcpStream, OwnedSemaphorePermit)>,
    link: Arc<Link>,
    metrics: Arc<SessionMetrics>,
    spawner: Spawner,
}

impl LinkedStream {
    pub(super) fn new(
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        metrics: Arc<SessionMetrics>,
        spawner: Spawner,
    ) -> LinkedStream {
        metrics.connections.increment();
        LinkedStream { open: Some((stream, permit)), link: Arc::default(), metrics, spawner }
    }

    pub(super) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match &self.open {
            Some((stream, _)) => stream.set_nodelay(true),
            None => Ok(()),
        }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        let (stream, _) = self.open.as_mut().expect("only drop takes the stream");
        Pin::new(stream)
    }

    fn wrote(&self, written: io::Result<usize>) -> io::Result<usize> {
        match &written {
            Ok(bytes) => {
                let bytes = *bytes as u64;
                self.link.written.fetch_add(bytes, Ordering::Relaxed);
                self.metrics.bytes_sent.add(bytes);
            }
            Err(_) => self.link.ended.store(true, Ordering::Relaxed),
        }
        written
    }
}

impl AsyncRead for LinkedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = ready!(self.stream().poll_read(context, buffer));
        let read = buffer.filled().len() - before;
        if outcome.is_err() || read == 0 {
            self.link.ended.store(true, Ordering::Relaxed);
        }
        self.metrics.bytes_received.add(read as u64);
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for LinkedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream().poll_write(context, bytes));
        Poll::Ready(self.wrote(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream().poll_write_vectored(context, parts));
        Poll::Ready(self.wrote(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

impl Drop for LinkedStream {
    fn drop(&mut self) {
        self.metrics.connections.decrement();
        if let Some((stream, permit)) = self.open.take()
            && self.link.linger.load(Ordering::Relaxed)
            && !self.link.ended()
        {
            self.spawner.spawn("linger", async move {
                linger(stream).await;
                drop(permit);
            });
        }
    }
}

/// Says that nothing more comes, and reads what still arrives until the peer closes too.
pub(super) async fn linger(mut stream: TcpStream) {
    let closing = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // However it ends, the connection is over.
    let _ = tokio::time::timeout(LINGER, closing).await;
}
