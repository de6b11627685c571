//! Every setting of the server, in one table. The struct, its flags, its environment variables,
//! the keys of the config file and `docs/config.md` all come from it; a flag beats the
//! environment, which beats the file, which beats the default. Nothing else reads flags,
//! environment or files: the resolved [`Config`] is passed explicitly.

mod kinds;
mod resolve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use kinds::{ByteSize, LogFormat, LogLevel, SettingValue, StoreUrl};
pub use resolve::{ConfigError, Source};

/// One row of the table of settings.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key in the config file: `log_format`.
    pub key: &'static str,
    /// The environment variable: `TIDEMARK_LOG_FORMAT`.
    pub env: &'static str,
    /// What holds when nothing is said.
    pub default: &'static str,
    /// What a value looks like.
    pub expected: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

impl Setting {
    /// The flag: `--log-format`.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }
}

/// Declares the settings once; see the invocation below.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:literal, $env:literal;)+) => {
        /// The settings of a server, resolved and checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $key: $kind,)+
        }

        /// The flags of `tidemark serve`, not yet checked; [`Config::load`] resolves them.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Flags {
            /// A TOML file with any of these settings, by their names with underscores
            /// [env: TIDEMARK_CONFIG]
            #[arg(long, value_name = "FILE")]
            pub config: Option<PathBuf>,
            $(
                $(#[doc = $doc])+
                #[arg(
                    long,
                    value_name = "VALUE",
                    help = concat!($($doc,)+ " [env: ", $env, "] [default: ", $default, "]"),
                )]
                pub $key: Option<String>,
            )+
        }

        /// The table of settings, in the order of the docs.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            env: $env,
            default: $default,
            expected: <$kind as SettingValue>::EXPECTED,
            doc: concat!($($doc,)+),
        },)+];

        impl Config {
            fn from_values(values: &resolve::Values<'_>) -> Result<Config, ConfigError> {
                Ok(Config { $($key: values.get(stringify!($key))?,)+ })
            }
        }

        impl Flags {
            fn get(&self, key: &str) -> Option<&str> {
                match key {
                    $(stringify!($key) => self.$key.as_deref(),)+
                    _ => None,
                }
            }
        }
    };
}

settings! {
    /// The address and port to serve on; port 0 takes a free one.
    listen: SocketAddr = "127.0.0.1:7700", "TIDEMARK_LISTEN";
    /// The folder for everything the server keeps.
    data: PathBuf = "./tidemark-data", "TIDEMARK_DATA";
    /// The storage engine: `mem:` (forgets all at exit) or `surrealkv://PATH`; `auto` is
    /// `surrealkv://` with `store` in the data folder.
    store: StoreUrl = "auto", "TIDEMARK_STORE";
    /// The project that clients name when they connect.
    project: String = "default", "TIDEMARK_PROJECT";
    /// How logs are written to standard error.
    log_format: LogFormat = "text", "TIDEMARK_LOG_FORMAT";
    /// What is logged: a level, and `module=level` pairs after it. The level is the server's own;
    /// libraries only warn unless they are named.
    log_level: LogLevel = "info", "TIDEMARK_LOG_LEVEL";
    /// How often a silent side is asked for a sign of life; three silent ones end a connection.
    heartbeat: Duration = "15s", "TIDEMARK_HEARTBEAT";
    /// How long the change log is kept. A client away for longer receives its targets anew.
    log_retention: Duration = "7d", "TIDEMARK_LOG_RETENTION";
    /// How long it is remembered when a document was deleted. What an offline client wrote to it before
    /// that and sends later does not bring it back.
    tombstone_retention: Duration = "30d", "TIDEMARK_TOMBSTONE_RETENTION";
    /// How large the change log may grow before its oldest entries go, however young.
    log_bytes: ByteSize = "1GiB", "TIDEMARK_LOG_BYTES";
    /// What may wait to be sent on one connection. A slower reader is dropped to its resume token
    /// and continues from there.
    outbox_bytes: ByteSize = "1MiB", "TIDEMARK_OUTBOX_BYTES";
    /// The largest frame accepted from a client.
    frame_bytes: ByteSize = "10MiB", "TIDEMARK_FRAME_BYTES";
    /// How many targets one connection may listen to.
    targets: u32 = "1000", "TIDEMARK_TARGETS";
    /// How many commits of one connection may wait for their outcome.
    commits_in_flight: u32 = "1000", "TIDEMARK_COMMITS_IN_FLIGHT";
    /// How many connections are served at once; more are refused with HTTP status 503.
    connections: u32 = "10000", "TIDEMARK_CONNECTIONS";
    /// How long a new connection may take to say Hello.
    handshake_timeout: Duration = "10s", "TIDEMARK_HANDSHAKE_TIMEOUT";
    /// How long commits in flight and connections may take to end when the server stops.
    drain_timeout: Duration = "10s", "TIDEMARK_DRAIN_TIMEOUT";
}

impl Default for Config {
    fn default() -> Self {
        Config::resolve(&Flags::default(), |_| None, None)
            .expect("the defaults in the table are valid; a test resolves them")
    }
}

impl Config {
    /// The URL of the storage engine, with `auto` replaced.
    pub fn store_url(&self) -> String {
        match &self.store {
            StoreUrl::Auto => format!("surrealkv://{}", self.data.join("store").display()),
            StoreUrl::Url(url) => url.clone(),
        }
    }
}

/// The text of `docs/config.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Settings of the server\n\n\
         Generated from the table in `server/src/config.rs`; do not edit.\n\n\
         A flag beats the environment, which beats the file named by `--config` (or \
         `TIDEMARK_CONFIG`), which beats the default. The file is TOML with the names below as \
         keys:\n\n\
         ```toml\nlisten = \"0.0.0.0:7700\"\nlog_format = \"json\"\nlog_retention = \"30d\"\n```\n\n",
    );
    for setting in SETTINGS {
        text.push_str(&format!(
            "## `{}`\n\n{}\n\n- flag `{}`, environment `{}`\n- value: {}\n- default: `{}`\n\n",
            setting.key,
            setting.doc.trim(),
            setting.flag(),
            setting.env,
            setting.expected,
            setting.default,
        ));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_and_defaults_resolve() {
        for setting in SETTINGS {
            assert_eq!(setting.env, format!("TIDEMARK_{}", setting.key.to_uppercase()));
        }
        let config = Config::default();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7700");
        assert_eq!(config.store_url(), "surrealkv://./tidemark-data/store");
        assert_eq!(config.log_retention, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(config.frame_bytes, ByteSize(10 << 20));
    }

    /// `TIDEMARK_REWRITE_DOCS=1` rewrites the file instead of failing.
    #[test]
    fn the_docs_are_those_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
        if std::env::var_os("TIDEMARK_REWRITE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == reference(),
            "docs/config.md is stale: run TIDEMARK_REWRITE_DOCS=1 cargo test -p tidemark-server --lib config"
        );
    }
}
