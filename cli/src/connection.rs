//! The client of a command, and waiting for the server's word with a time limit, notes about the
//! connection, and Ctrl-C. Commands go through here for everything that can take time.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tidemark_core::{Client, Code, ConnectionState, Error};

use crate::args::{CacheArgs, ClientArgs};
use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

/// A request's own time limit, which knows more, comes before ours; and the reason of a refusal may
/// come a moment after the refusal.
const GRACE: Duration = Duration::from_millis(200);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A client and how patient its user is.
pub(crate) struct Connection {
    client: Client,
    url: String,
    patience: Option<Duration>,
}

/// How a client's connection goes.
pub(crate) type States = Pin<Box<dyn Stream<Item = ConnectionState> + Send>>;

impl Connection {
    /// Starts a client that waits as long as `--timeout` says; does not wait for the network.
    pub(crate) fn open(args: &ClientArgs) -> Outcome<Connection> {
        let patience = (!args.timeout.is_zero()).then_some(args.timeout);
        Connection::start(args, &CacheArgs::default(), patience)
    }

    /// Starts a client that waits however long the server is away, and keeps what it knows if told to.
    pub(crate) fn open_cached(args: &ClientArgs, cache: &CacheArgs) -> Outcome<Connection> {
        Connection::start(args, cache, None)
    }

    fn start(
        args: &ClientArgs,
        cache: &CacheArgs,
        patience: Option<Duration>,
    ) -> Outcome<Connection> {
        let builder = Client::builder(&args.url).project(&args.project);
        let mut builder = builder.request_timeout(patience.unwrap_or(NEVER));
        if let Some(token) = &args.token {
            builder = builder.token(token);
        }
        if let Some(folder) = &cache.cache {
            builder = builder.cache_dir(folder);
        }
        if let Some(bytes) = cache.cache_size {
            builder = builder.cache_size(bytes);
        }
        let client = builder.build().map_err(|error| Failure::from(error).at(&args.url))?;
        Ok(Connection { client, url: args.url.clone(), patience })
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for work that needs the server.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Outcome<T> {
        let mut monitor = Monitor::new(self);
        tokio::pin!(work);
        let limit = sleep_or_forever(self.patience.map(|patience| patience + GRACE));
        tokio::pin!(limit);
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        tokio::select! {
            biased;
            done = &mut work => match done {
                Ok(done) => Ok(done),
                Err(error) => Err(monitor.explain(error).await),
            },
            refused = monitor.next() => Err(refused),
            () = &mut limit => Err(monitor.gave_up(self.patience.unwrap_or_default())),
            _ = &mut interrupt => Err(Failure::interrupted("interrupted")),
        }
    }

    /// Says good-bye to the server.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

pub(crate) async fn sleep_or_forever(patience: Option<Duration>) {
    match patience {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Tells the user, once per outage, that the connection is gone and that it is back.
pub(crate) struct Monitor {
    states: States,
    url: String,
    /// Why we are offline, while we are. Set and cleared by `next`.
    outage: Option<Error>,
    /// Whether a note about the outage was printed. Set and cleared by `next`.
    told: bool,
    /// Whether the server has ever answered. Set by `next`.
    reached: bool,
}

impl Monitor {
    /// Follows a connection.
    pub(crate) fn new(connection: &Connection) -> Monitor {
        let states: States = Box::pin(connection.client.connection());
        Monitor { states, url: connection.url.clone(), outage: None, told: false, reached: false }
    }

    /// Prints notes until the server refuses for good; then gives the reason.
    pub(crate) async fn next(&mut self) -> Failure {
        while let Some(state) = self.states.next().await {
            match state {
                ConnectionState::Connecting => {
                    if self.reached && !std::mem::replace(&mut self.told, true) {
                        note(format_args!("connection lost: reconnecting to {}", self.url));
                    }
                }
                ConnectionState::Online => {
                    self.outage = None;
                    self.reached = true;
                    if std::mem::take(&mut self.told) {
                        note(format_args!("online: {} is back", self.url));
                    }
                }
                ConnectionState::Offline { reason } if is_final(&reason) => {
                    return Failure::from(reason).at(&self.url);
                }
                ConnectionState::Offline { reason } => {
                    if !std::mem::replace(&mut self.told, true) {
                        note(format_args!(
                            "offline: {}: {}; trying again",
                            self.url,
                            reason.message()
                        ));
                    }
                    self.outage = Some(reason);
                }
            }
        }
        std::future::pending().await
    }

    /// A request that found no server failed because the server refuses us, if it does.
    async fn explain(&mut self, error: Error) -> Failure {
        if error.code() != Code::Unavailable {
            return error.into();
        }
        match tokio::time::timeout(GRACE, self.next()).await {
            Ok(refused) => refused,
            Err(_) => Failure::from(error).at(&self.url),
        }
    }

    fn gave_up(&self, patience: Duration) -> Failure {
        let seconds = patience.as_secs_f64();
        let place = &self.url;
        match &self.outage {
            Some(reason) => {
                let message = format!("{place}: {} (tried for {seconds} s)", reason.message());
                Failure::new(Kind::Status(Code::Unavailable), message)
            }
            None if !self.reached => {
                let message = format!("{place}: no connection within {seconds} s");
                Failure::new(Kind::Status(Code::Unavailable), message)
            }
            None => {
                let message = format!("{place} did not answer within {seconds} s");
                Failure::new(Kind::Status(Code::DeadlineExceeded), message)
                    .with_hint("a write may still have taken effect; --timeout waits longer")
            }
        }
    }
}

/// Whether reconnecting cannot help: credentials, project or protocol version are wrong.
pub(crate) fn is_final(reason: &Error) -> bool {
    match reason.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::Unimplemented => true,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}
