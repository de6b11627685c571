//! Whether there is a server to talk to, and when to try again: greeting, backoff, heartbeats, dead
//! peers. Driven by the engine; opens nothing itself.

use std::time::Duration;

use tidemark_protocol::model::{Code, WriteId};
use tidemark_protocol::wire::server::{SessionLimits, Welcome};

use super::{ConnectionId, Moment};
use crate::error::Error;
use crate::subscription::ConnectionState;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const DELAY_GROWTH: f64 = 1.6;
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// How long an attempt may take, to the welcome.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long without a connection before listeners are shown the cache.
const OFFLINE_AFTER: Duration = Duration::from_secs(10);
/// Heartbeats of silence after which the server is taken for dead.
const SILENT_HEARTBEATS: u32 = 3;
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);

/// Doubles, so to say, until something succeeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    delay: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { delay: FIRST_DELAY }
    }
}

impl Backoff {
    /// The next delay, give or take half of it, so that many clients do not come back at once.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let delay = self.delay;
        self.delay = delay.mul_f64(DELAY_GROWTH).min(LONGEST_DELAY);
        delay.mul_f64(0.5 + fraction(random)).min(LONGEST_DELAY)
    }
}

/// A number from 0 up to 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// What a tick calls for.
#[derive(Debug)]
pub(crate) enum Step {
    Connect(ConnectionId),
    Lost(Error),
    Offline,
    Ping(u64),
}

#[derive(Debug)]
enum Phase {
    /// The app wants no network.
    Disabled,
    /// The server refused for good.
    Refused,
    /// Not before this time.
    Waiting {
        until: Duration,
    },
    /// The transport is being opened.
    Opening {
        until: Duration,
    },
    /// Hello is sent.
    Greeting {
        until: Duration,
    },
    Online(Online),
}

/// What is known of the present connection.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) limits: SessionLimits,
    heartbeat: Duration,
    last_sent: Duration,
    last_heard: Duration,
    /// The last acknowledgement that the server was told.
    told: WriteId,
    /// Set when there is one to tell and nothing else to send it with; cleared when told.
    pub(crate) acknowledge_at: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    phase: Phase,
    /// The last attempt.
    id: ConnectionId,
    backoff: Backoff,
    /// Since when there is no connection; none while online.
    since: Option<Duration>,
    /// Set when given up for now; cleared by a welcome or by a new start.
    offline: bool,
    /// Why the last connection ended.
    last_error: Option<Error>,
    /// What the app was told last.
    reported: ConnectionState,
    pings: u64,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection {
            phase: Phase::Waiting { until: Duration::ZERO },
            id: ConnectionId::default(),
            backoff: Backoff::default(),
            since: None,
            offline: false,
            last_error: None,
            reported: ConnectionState::Connecting,
            pings: 0,
        }
    }
}

impl Connection {
    pub(crate) fn is_current(&self, connection: ConnectionId) -> bool {
        let open = match &self.phase {
            Phase::Disabled | Phase::Refused | Phase::Waiting { .. } => false,
            Phase::Opening { .. } | Phase::Greeting { .. } | Phase::Online(_) => true,
        };
        open && connection == self.id
    }

    pub(crate) fn online(&self) -> Option<&Online> {
        match &self.phase {
            Phase::Online(online) => Some(online),
            Phase::Disabled
            | Phase::Refused
            | Phase::Waiting { .. }
            | Phase::Opening { .. }
            | Phase::Greeting { .. } => None,
        }
    }

    fn online_mut(&mut self) -> Option<&mut Online> {
        match &mut self.phase {
            Phase::Online(online) => Some(online),
            Phase::Disabled
            | Phase::Refused
            | Phase::Waiting { .. }
            | Phase::Opening { .. }
            | Phase::Greeting { .. } => None,
        }
    }

    /// Whether listeners are shown the cache.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    /// Whether nothing will connect by itself.
    pub(crate) fn is_shut(&self) -> bool {
        matches!(self.phase, Phase::Disabled | Phase::Refused)
    }

    /// Why there is no connection.
    pub(crate) fn reason(&self) -> Error {
        match (&self.phase, &self.last_error) {
            (Phase::Disabled, _) => Error::unavailable("the network is disabled"),
            (_, Some(error)) => error.clone(),
            (_, None) => Error::unavailable("the server has not answered yet"),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Disabled | Phase::Refused => None,
            Phase::Waiting { until } | Phase::Opening { until } | Phase::Greeting { until } => {
                Some(*until)
            }
            Phase::Online(online) => Some(
                (online.last_sent + online.heartbeat)
                    .min(online.last_heard + online.heartbeat * SILENT_HEARTBEATS),
            ),
        };
        let offline = self.since.filter(|_| !self.offline).map(|since| since + OFFLINE_AFTER);
        phase.into_iter().chain(offline).min()
    }

    pub(crate) fn tick(&mut self, now: Moment) -> Vec<Step> {
        let mut steps = Vec::new();
        match &self.phase {
            Phase::Disabled | Phase::Refused => return steps,
            Phase::Waiting { until } if now.elapsed >= *until => {
                self.since.get_or_insert(now.elapsed);
                self.id = ConnectionId(self.id.0 + 1);
                self.phase = Phase::Opening { until: now.elapsed + ATTEMPT_TIMEOUT };
                steps.push(Step::Connect(self.id));
            }
            Phase::Opening { until } | Phase::Greeting { until } if now.elapsed >= *until => {
                let seconds = ATTEMPT_TIMEOUT.as_secs();
                let message = format!("the server did not answer within {seconds} seconds");
                steps.push(Step::Lost(Error::unavailable(message)));
            }
            Phase::Online(online) => {
                if now.elapsed >= online.last_heard + online.heartbeat * SILENT_HEARTBEATS {
                    let message = "the server was silent for three heartbeats";
                    steps.push(Step::Lost(Error::unavailable(message)));
                } else if now.elapsed >= online.last_sent + online.heartbeat {
                    self.pings += 1;
                    steps.push(Step::Ping(self.pings));
                }
            }
            Phase::Waiting { .. } | Phase::Opening { .. } | Phase::Greeting { .. } => {}
        }
        if !self.offline && self.since.is_some_and(|since| now.elapsed >= since + OFFLINE_AFTER) {
            steps.push(Step::Offline);
        }
        steps
    }

    /// Whether this is the attempt under way: then it is time to say hello.
    pub(crate) fn opened(&mut self, connection: ConnectionId, now: Moment) -> bool {
        let expected = matches!(self.phase, Phase::Opening { .. }) && connection == self.id;
        if expected {
            self.phase = Phase::Greeting { until: now.elapsed + ATTEMPT_TIMEOUT };
        }
        expected
    }

    pub(crate) fn welcomed(&mut self, welcome: &Welcome, now: Moment) {
        self.phase = Phase::Online(Online {
            limits: welcome.limits,
            heartbeat: welcome.heartbeat.max(SHORTEST_HEARTBEAT),
            last_sent: now.elapsed,
            last_heard: now.elapsed,
            told: WriteId(0),
            acknowledge_at: None,
        });
        self.since = None;
        self.offline = false;
        self.last_error = None;
    }

    /// The server did more than to welcome: the next trouble begins with short delays again.
    pub(crate) fn useful(&mut self) {
        self.backoff = Backoff::default();
    }

    pub(crate) fn heard(&mut self, now: Moment) {
        if let Some(online) = self.online_mut() {
            online.last_heard = now.elapsed;
        }
    }

    pub(crate) fn sent(&mut self, now: Moment) {
        if let Some(online) = self.online_mut() {
            online.last_sent = now.elapsed;
        }
    }

    /// The server knows this acknowledgement, or is about to.
    pub(crate) fn told(&mut self, through: WriteId) {
        if let Some(online) = self.online_mut() {
            online.told = through;
            online.acknowledge_at = None;
        }
    }

    /// Whether the acknowledgement is to go by itself now; otherwise it is put off until `later`.
    pub(crate) fn acknowledge(
        &mut self,
        through: WriteId,
        idle: bool,
        now: Duration,
        later: Duration,
    ) -> bool {
        let Some(online) = self.online_mut() else { return false };
        if !idle || through <= online.told {
            online.acknowledge_at = None;
            return false;
        }
        now >= *online.acknowledge_at.get_or_insert(later)
    }

    pub(crate) fn lost(&mut self, error: Error, now: Moment) {
        let delay = self.backoff.next(now.random);
        self.wait(error, delay, now);
    }

    /// The server asked to come back after this time.
    pub(crate) fn postponed(&mut self, error: Error, delay: Duration, now: Moment) {
        let jitter = FIRST_DELAY.mul_f64(fraction(now.random));
        self.wait(error, delay + jitter, now);
    }

    fn wait(&mut self, error: Error, delay: Duration, now: Moment) {
        self.last_error = Some(error);
        self.since.get_or_insert(now.elapsed);
        self.phase = Phase::Waiting { until: now.elapsed + delay };
    }

    pub(crate) fn refused(&mut self, error: Error) {
        self.last_error = Some(error);
        self.since = None;
        self.phase = Phase::Refused;
        self.offline = true;
    }

    /// Whether that changed anything.
    pub(crate) fn disable(&mut self) -> bool {
        if matches!(self.phase, Phase::Disabled) {
            return false;
        }
        self.phase = Phase::Disabled;
        self.since = None;
        self.offline = true;
        true
    }

    /// Whether that changed anything.
    pub(crate) fn enable(&mut self, now: Moment) -> bool {
        if !self.is_shut() {
            return false;
        }
        self.phase = Phase::Waiting { until: now.elapsed };
        self.offline = false;
        self.last_error = None;
        self.backoff = Backoff::default();
        true
    }

    pub(crate) fn set_offline(&mut self) {
        self.offline = true;
    }

    /// The state, if the app does not know it yet.
    pub(crate) fn changed_state(&mut self) -> Option<ConnectionState> {
        let state = if self.online().is_some() {
            ConnectionState::Online
        } else if self.offline {
            ConnectionState::Offline { reason: self.public_reason() }
        } else {
            ConnectionState::Connecting
        };
        if state == self.reported || self.only_the_reason_differs(&state) {
            return None;
        }
        self.reported = state.clone();
        Some(state)
    }

    /// While given up, every further attempt fails in its own way; that is no news.
    fn only_the_reason_differs(&self, state: &ConnectionState) -> bool {
        let offline = |state: &ConnectionState| matches!(state, ConnectionState::Offline { .. });
        offline(state) && offline(&self.reported) && !self.is_shut()
    }

    fn public_reason(&self) -> Error {
        let reason = self.reason();
        match reason.code() {
            Code::Internal | Code::DataLoss | Code::Unknown => Error::unavailable(reason.message()),
            _ => reason,
        }
    }
}
