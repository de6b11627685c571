//! Logs: text or JSON on standard error. An error is a bug, a warning is something an operator can
//! act on, success is quiet. What users store and the tokens they show are never logged; sessions
//! are found again by the `session{id}` span.

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives of `log_level` cannot be used.
    #[error("cannot use log_level {directives:?}: {problem}")]
    Filter {
        /// What was asked for.
        directives: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another logger is there.
    #[error("logging has been installed already")]
    Installed,
}

/// Installs logging for the whole process.
pub fn install(config: &Config) -> Result<(), TelemetryError> {
    let directives = config.log_level.directives();
    let filter = EnvFilter::try_new(directives).map_err(|error| TelemetryError::Filter {
        directives: directives.to_owned(),
        problem: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|_| TelemetryError::Installed)
}
