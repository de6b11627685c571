//! The runtime of servers, desktops and phones: tokio and tokio-tungstenite. The only file of the
//! client that may name them, read a clock or draw randomness.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tidemark_protocol::model::{Code, Timestamp};
use tidemark_protocol::wire::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use super::{Runtime, Task, Transport};
use crate::error::Error;

/// The largest frame accepted from a server.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Small: a process may hold thousands of idle clients.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// The tokio runtime that the client was built in.
pub struct NativeRuntime {
    handle: Handle,
    start: Instant,
}

impl NativeRuntime {
    /// Takes the current tokio runtime; `failed-precondition` outside of one.
    pub fn current() -> Result<NativeRuntime, Error> {
        let handle = Handle::try_current().map_err(|_| {
            Error::new(Code::FailedPrecondition, "a client is built inside a tokio runtime")
        })?;
        // The clock of the platform is read here and nowhere else.
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        Ok(NativeRuntime { handle, start })
    }
}

impl Runtime for NativeRuntime {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Timestamp {
        // The clock of the platform is read here and nowhere else.
        #[allow(clippy::disallowed_methods)]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(micros).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        // The randomness of the platform is drawn here and nowhere else.
        #[allow(clippy::disallowed_methods)]
        let mut rng = rand::rng();
        rand::Rng::random(&mut rng)
    }

    fn spawn(&self, _name: &'static str, task: Task<()>) {
        self.handle.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> Task<()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn connect(&self, url: &str) -> Task<Result<Transport, Error>> {
        let url = url.to_owned();
        Box::pin(async move { connect(&url).await })
    }
}

async fn connect(url: &str) -> Result<Transport, Error> {
    let mut request = url
        .into_client_request()
        .map_err(|error| Error::invalid(format!("{url} is not an address: {error}")))?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = request.uri().port_u16().unwrap_or(80);
    let refused = |error: &dyn std::fmt::Display| {
        Error::unavailable(format!("cannot connect to {host}:{port}: {error}"))
    };
    let stream =
        TcpStream::connect((host.as_str(), port)).await.map_err(|error| refused(&error))?;
    // Frames are small and waited for.
    stream.set_nodelay(true).map_err(|error| refused(&error))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
        .await
        .map_err(|error| refused(&error))?;
    Ok(transport(socket))
}

fn transport(socket: WebSocketStream<TcpStream>) -> Transport {
    let (sink, stream) = socket.split();
    let sink = sink
        .with(|frame: Bytes| std::future::ready(Ok::<_, SocketError>(Message::Binary(frame))))
        .sink_map_err(|error| lost(&error));
    let stream = stream.filter_map(|message| {
        std::future::ready(match message {
            Ok(Message::Binary(frame)) => Some(Ok(frame)),
            Ok(Message::Close(reason)) => Some(Err(closed(reason))),
            Ok(Message::Text(_)) => {
                Some(Err(Error::new(Code::DataLoss, "the server sent text; frames are binary")))
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
            Err(error) => Some(Err(lost(&error))),
        })
    });
    Transport { sink: Box::pin(sink), stream: Box::pin(stream) }
}

fn lost(error: &SocketError) -> Error {
    Error::unavailable(format!("the connection was lost: {error}"))
}

fn closed(reason: Option<CloseFrame>) -> Error {
    match reason {
        Some(frame) => {
            let number = u16::from(frame.code);
            let code = Code::from_close_code(number).unwrap_or(Code::Unavailable);
            Error::new(
                code,
                format!("the server closed the connection ({number}): {}", frame.reason),
            )
        }
        None => Error::unavailable("the server closed the connection"),
    }
}
