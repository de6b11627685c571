//! Requests to the server's HTTP interface, for what is not part of the sync protocol: a method, a
//! place, JSON both ways. Knows no command.

use std::time::Duration;

use serde_json::Value as Json;
use tidemark_core::Code;

use crate::args::ClientArgs;
use crate::failure::{Failure, Kind, Outcome};

/// The part of a URL of the server that all requests begin with.
pub(crate) struct Admin {
    base: String,
    timeout: Option<Duration>,
}

/// What is done with a place.
pub(crate) enum Action {
    Get,
    Post(String),
    Put(String),
    Delete,
}

impl Admin {
    /// For the server and the project that a command is about.
    pub(crate) fn new(args: &ClientArgs) -> Outcome<Admin> {
        let rest = ["ws://", "http://"].iter().find_map(|scheme| args.url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(Failure::usage(format!(
                "{} is no URL such as ws://127.0.0.1:7700",
                args.url
            )));
        };
        let host = rest.split('/').next().unwrap_or(rest);
        let project = &args.project;
        if project.is_empty() || project.contains(['/', '?', '#', '%', ' ']) {
            return Err(Failure::usage(format!("{project:?} is no name of a project")));
        }
        let base = format!("http://{host}/v1/projects/{project}/databases/(default)");
        let timeout = (!args.timeout.is_zero()).then_some(args.timeout);
        Ok(Admin { base, timeout })
    }

    /// Asks, and waits for the answer. `place` is relative to the database: `indexes`.
    pub(crate) async fn ask(&self, action: Action, place: &str) -> Outcome<Json> {
        let url = format!("{}/{place}", self.base);
        let timeout = self.timeout;
        let asked = tokio::task::spawn_blocking(move || ask(&url, &action, timeout));
        tokio::select! {
            answer = asked => answer.unwrap_or_else(|error| {
                Err(Failure::new(Kind::Status(Code::Internal), error.to_string()))
            }),
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted("interrupted")),
        }
    }
}

fn ask(url: &str, action: &Action, timeout: Option<Duration>) -> Outcome<Json> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(timeout);
    let agent: ureq::Agent = config.build().into();
    let json = "application/json";
    let sent = match action {
        Action::Get => agent.get(url).call(),
        Action::Delete => agent.delete(url).call(),
        Action::Post(body) => agent.post(url).content_type(json).send(body),
        Action::Put(body) => agent.put(url).content_type(json).send(body),
    };
    let unreachable = |error: ureq::Error| {
        Failure::new(Kind::Status(Code::Unavailable), format!("{url}: {error}"))
    };
    let mut response = sent.map_err(unreachable)?;
    let text = response.body_mut().read_to_string().map_err(unreachable)?;
    let body: Json = serde_json::from_str(&text).unwrap_or_default();
    if response.status().is_success() {
        return Ok(body);
    }
    let status = body["error"]["status"].as_str().unwrap_or_default();
    let code = Code::ALL.iter().find(|code| code.status_name() == status);
    let code = code.copied().unwrap_or(Code::Unknown);
    let message = match body["error"]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("{url} answered {}", response.status()),
    };
    Err(Failure::new(Kind::Status(code), message))
}
