//! Logs: text or JSON on standard error. An error is a bug, a warning is something an operator can
//! act on, success is quiet. What users store and the tokens they show are never logged; sessions
//! are found again by the `session{id}` span.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat, LogLevel};

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
    let directives = directives(&config.log_level);
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| TelemetryError::Filter { directives, problem: error.to_string() })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let installed = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|_| TelemetryError::Installed)
}

/// The level is that of our own code. Libraries speak only when something is wrong, unless they are
/// named: the storage engine tells of every file it opens, and warns at each ordinary close.
fn directives(level: &LogLevel) -> String {
    let text = level.directives();
    let (own, modules) = text.split_once(',').unwrap_or((text, ""));
    let (libraries, engine) = match own {
        "off" => ("off", "off"),
        "error" => ("error", "error"),
        _ => ("warn", "error"),
    };
    let separator = if modules.is_empty() { "" } else { "," };
    format!("{libraries},surrealkv={engine},tidemark={own}{separator}{modules}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::SettingValue;

    #[test]
    fn the_level_is_ours_and_libraries_are_quiet() {
        let directives = |text| directives(&LogLevel::read(text).unwrap());
        assert_eq!(directives("debug"), "warn,surrealkv=error,tidemark=debug");
        assert_eq!(directives("off"), "off,surrealkv=off,tidemark=off");
        assert_eq!(
            directives("info,surrealkv=info,tidemark_server::session=trace"),
            "warn,surrealkv=error,tidemark=info,surrealkv=info,tidemark_server::session=trace"
        );
        assert!(EnvFilter::try_new(directives("info,hyper=debug")).is_ok());
    }
}
