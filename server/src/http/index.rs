//! `/`: says what this is.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;

use crate::session::Host;

pub(super) async fn page(State(host): State<Arc<Host>>) -> Html<String> {
    let version = env!("CARGO_PKG_VERSION");
    // A project's name is letters, digits, `-` and `_`: it needs no escaping.
    let project = &host.rules.project;
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Tidemark</title>\n\
         <h1>Tidemark {version}</h1>\n\
         <p>A realtime document server, serving the project <code>{project}</code>.\n\
         <ul>\n\
         <li><code>/v1/sync</code>: the sync protocol (WebSocket, subprotocol <code>tidemark.v1</code>)\n\
         <li><code>/v1/projects/{project}/databases/(default)/indexes</code>: declared indexes; \
         <code>…/exemptions</code> beside it\n\
         <li><a href=\"/healthz\">/healthz</a>: the process answers\n\
         <li><a href=\"/readyz\">/readyz</a>: it takes connections\n\
         <li><a href=\"/metrics\">/metrics</a>: counters for Prometheus\n\
         </ul>\n</html>\n"
    ))
}
