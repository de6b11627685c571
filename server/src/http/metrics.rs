//! `/metrics`: counters and gauges in Prometheus' text format.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::engine::EngineMetrics;
use crate::session::{Host, SessionMetrics};

pub(super) async fn page(State(host): State<Arc<Host>>) -> impl IntoResponse {
    let mut text = Exposition::default();
    sessions(&mut text, &host.metrics);
    if let Ok(database) = host.database() {
        text.gauge("database_version", "The newest commit version.", database.version().0);
        engine(&mut text, database.metrics());
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0)
}

fn sessions(text: &mut Exposition, of: &SessionMetrics) {
    text.gauge("connections", "Open sockets.", of.connections.get());
    text.counter("connections_refused", "Sockets refused: too many.", of.connections_refused.get());
    text.gauge("sessions", "Open sync sessions.", of.sessions.get());
    text.counter("sessions_opened", "Sync sessions opened.", of.sessions_opened.get());
    text.counter("sessions_lost", "Sessions whose peer vanished.", of.sessions_lost.get());
    text.counter("frames_received", "Frames from clients.", of.frames_received.get());
    text.counter("frames_sent", "Frames to clients.", of.frames_sent.get());
    text.counter("bytes_received", "Bytes from sockets.", of.bytes_received.get());
    text.counter("bytes_sent", "Bytes to sockets.", of.bytes_sent.get());
    let name = "session_errors_total";
    text.head(name, "counter", "Errors that sessions told their clients.");
    for (code, count) in of.errors() {
        text.sample(name, &format!("{{code=\"{}\"}}", code.name()), count);
    }
}

fn engine(text: &mut Exposition, of: &EngineMetrics) {
    text.counter("commits", "Commits that took effect.", of.commits.get());
    text.counter("commits_rejected", "Commits refused.", of.commits_rejected.get());
    text.counter("commits_repeated", "Commits sent again.", of.commits_repeated.get());
    text.counter("commit_batches", "Storage transactions of commits.", of.batches.get());
    text.gauge("change_log_bytes", "Bytes in the change log.", of.log_bytes.get());
    text.counter("index_entries", "Index entries of commits.", of.index_entries.get());
    let build_entries = of.index_build_entries.get();
    text.counter("index_build_entries", "Index entries of builds and drops.", build_entries);
    let build_documents = of.index_build_documents.get();
    text.counter("index_build_documents", "Documents read to build indexes.", build_documents);
    text.gauge("index_builds", "Indexes being built or removed.", of.index_builds.get());
    text.gauge("groups", "Groups of identical targets.", of.groups.get());
    text.gauge("targets", "Targets listened to.", of.targets.get());
    text.counter("groups_examined", "Groups held against commits.", of.candidates.get());
    text.counter("groups_changed", "Groups changed by commits.", of.matched.get());
    text.counter("deltas", "Changes handed to connections.", of.deltas.get());
    text.counter("coalesced", "Merges of a slow reader's changes.", of.coalesced.get());
    text.counter("resyncs", "Slow readers dropped to their token.", of.resyncs.get());
    text.counter("listens_resumed", "Listens continued from a token.", of.resumed.get());
    text.counter("listens_reset", "Listens whose token was unusable.", of.resets.get());
    let help = "Listens left to a comparison of digests.";
    text.counter("listens_stale", help, of.stale.get());
    text.counter("window_refills", "Limit windows filled again.", of.refills.get());
    text.counter("snapshot_documents", "Documents of snapshots.", of.snapshot_documents.get());
    text.counter("reads", "One-shot reads.", of.reads.get());
}

/// The text format, one metric after the other.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        self.sample(&name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP tidemark_{name} {help}\n# TYPE tidemark_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "tidemark_{name}{labels} {value}");
    }
}
