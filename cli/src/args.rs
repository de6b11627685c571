//! What can be typed: every command, option and help text. Parsed by `main`; knows nothing of the
//! network and does nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::value::where_clause::WhereClause;

const EXIT_CODES: &str = "\
Exit codes:
  0 done   1 any other error   2 usage or invalid argument   3 not found
  4 precondition (already-exists, failed-precondition, aborted)
  5 permission-denied, unauthenticated   6 unavailable, deadline exceeded
  7 bad input data (import)   130 interrupted

Values are JSON. What JSON lacks has a typed form:
  {\"$timestamp\":\"2026-01-02T03:04:05Z\"} {\"$bytes\":\"aGk=\"} {\"$reference\":\"rooms/a\"}
  {\"$geo\":[48.2,16.4]} {\"$vector\":[1,2]} {\"$double\":\"NaN\"}

With --json, stdout has one JSON object per line; a document is
  {\"path\",\"create_version\",\"update_version\",\"update_time\",\"fields\"}
with fields in typed form. Messages and errors go to stderr.";

/// The Tidemark document server and its client.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, propagate_version = true, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Box<tidemark_server::config::Flags>),
    /// Print documents
    Get(ClientCommand<GetArgs>),
    /// Write a whole document, or merge into it
    Set(ClientCommand<SetArgs>),
    /// Change fields of a document that exists
    Update(ClientCommand<UpdateArgs>),
    /// Delete documents
    Delete(ClientCommand<DeleteArgs>),
    /// Print the documents of a query, or values computed over them
    Query(ClientCommand<QueryCommandArgs>),
    /// List, create and drop indexes
    Indexes(IndexesArgs),
    /// Print every change of a query or document, once and in commit order
    Watch(ClientCommand<WatchArgs>),
    /// Write documents from a file of JSON lines, plain or gzip
    Import(ClientCommand<ImportArgs>),
    /// Write a collection as JSON lines that import reads
    Export(ClientCommand<ExportArgs>),
    /// Talk in a room
    Chat(ClientCommand<ChatArgs>),
}

/// A command that connects to a server.
#[derive(Debug, Args)]
pub(crate) struct ClientCommand<A: Args> {
    /// The command's own arguments.
    #[command(flatten)]
    pub(crate) args: A,
    /// Where and how to connect.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Options of all commands that connect.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct ClientArgs {
    /// The server
    #[arg(long, env = "TIDEMARK_URL", default_value = "ws://127.0.0.1:7700", value_name = "URL")]
    pub(crate) url: String,
    /// The project
    #[arg(long, env = "TIDEMARK_PROJECT", default_value = "default", value_name = "NAME")]
    pub(crate) project: String,
    /// The token that says who you are
    #[arg(long, env = "TIDEMARK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// One JSON object per line instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait for the server: `500ms`, `10s`, `2m`; `0` waits for ever. Does not apply to
    /// watch, import and chat, which go on until the server is back
    #[arg(long, env = "TIDEMARK_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// Where a command keeps what it knows, and what it has not sent.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Offline")]
pub(crate) struct CacheArgs {
    /// Keep documents and unsent writes here, so that the command works offline and goes on where it
    /// was stopped; one process at a time
    #[arg(long, env = "TIDEMARK_CACHE", value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// How large the cache may grow before what was not used for long is dropped: `50MB`, `1GB`
    #[arg(long, requires = "cache", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) cache_size: Option<u64>,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Document paths, like `rooms/a/messages/1`
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The document
    pub(crate) path: String,
    /// A JSON object, `@FILE`, or `-` for stdin
    #[arg(value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(crate) document: String,
    /// Keep the fields that are not named
    #[arg(long)]
    pub(crate) merge: bool,
    /// Fail with already-exists if the document exists
    #[arg(long, conflicts_with = "merge")]
    pub(crate) create: bool,
}

/// Arguments of `update`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub(crate) struct UpdateArgs {
    /// The document
    pub(crate) path: String,
    /// Set a field: `title='"Hamlet"'`, `stats.acts=5`
    #[arg(value_name = "FIELD=JSON", group = "change")]
    pub(crate) assignments: Vec<String>,
    /// Add a number to a field
    #[arg(long, value_name = "FIELD=NUMBER", group = "change")]
    pub(crate) increment: Vec<String>,
    /// Lower a field to a number, if it is greater
    #[arg(long, value_name = "FIELD=NUMBER", group = "change")]
    pub(crate) minimum: Vec<String>,
    /// Raise a field to a number, if it is less
    #[arg(long, value_name = "FIELD=NUMBER", group = "change")]
    pub(crate) maximum: Vec<String>,
    /// Append the elements that an array lacks
    #[arg(long, value_name = "FIELD=[JSON,…]", group = "change")]
    pub(crate) array_union: Vec<String>,
    /// Remove elements from an array
    #[arg(long, value_name = "FIELD=[JSON,…]", group = "change")]
    pub(crate) array_remove: Vec<String>,
    /// Set a field to the time of the commit
    #[arg(long, value_name = "FIELD", group = "change")]
    pub(crate) server_timestamp: Vec<String>,
    /// Delete a field
    #[arg(long, value_name = "FIELD", group = "change")]
    pub(crate) delete: Vec<String>,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Document paths
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// Do not fail when a document does not exist
    #[arg(long)]
    pub(crate) if_exists: bool,
}

/// The clauses of a query.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Query")]
pub(crate) struct QueryArgs {
    /// The collections of this id wherever they are, instead of one collection
    #[arg(long)]
    pub(crate) group: bool,
    /// The collections of this id anywhere under a document
    #[arg(long, value_name = "DOCUMENT")]
    pub(crate) under: Option<String>,
    /// A condition: `FIELD OP JSON` with OP one of == != < <= > >= in not-in array-contains
    /// array-contains-any, joined by `and`, `or` and parentheses; all of several must hold
    #[arg(long = "where", value_name = "'CONDITION'")]
    pub(crate) conditions: Vec<WhereClause>,
    /// Order by a field; several order by the first, then the next
    #[arg(long, value_name = "FIELD[:desc]")]
    pub(crate) order_by: Vec<String>,
    /// At most so many documents
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// At most so many documents, the last ones
    #[arg(long, value_name = "N", conflicts_with = "limit")]
    pub(crate) limit_to_last: Option<u32>,
    /// Leave out the first so many
    #[arg(long, value_name = "N")]
    pub(crate) offset: Option<u32>,
    /// These fields only
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    pub(crate) select: Vec<String>,
    /// Begin at this position in the order: a value, or an array with one for each ordered field
    #[arg(long, value_name = "JSON", conflicts_with = "start_after", allow_hyphen_values = true)]
    pub(crate) start_at: Option<String>,
    /// Begin after this position
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) start_after: Option<String>,
    /// End at this position
    #[arg(long, value_name = "JSON", conflicts_with = "end_before", allow_hyphen_values = true)]
    pub(crate) end_at: Option<String>,
    /// End before this position
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) end_before: Option<String>,
    /// Begin at this document
    #[arg(long, value_name = "PATH", conflicts_with_all = ["start_at", "start_after", "start_after_document"])]
    pub(crate) start_at_document: Option<String>,
    /// Begin after this document
    #[arg(long, value_name = "PATH", conflicts_with_all = ["start_at", "start_after"])]
    pub(crate) start_after_document: Option<String>,
    /// End at this document
    #[arg(long, value_name = "PATH", conflicts_with_all = ["end_at", "end_before", "end_before_document"])]
    pub(crate) end_at_document: Option<String>,
    /// End before this document
    #[arg(long, value_name = "PATH", conflicts_with_all = ["end_at", "end_before"])]
    pub(crate) end_before_document: Option<String>,
    /// The documents whose vectors are nearest, at most --limit of them
    #[arg(
        long,
        value_name = "FIELD=[NUMBER,…]",
        requires = "limit",
        conflicts_with = "limit_to_last"
    )]
    pub(crate) nearest: Option<String>,
    /// How distance is measured
    #[arg(long, value_enum, default_value_t, requires = "nearest")]
    pub(crate) measure: Measure,
    /// None that is farther; with dot-product, none with less
    #[arg(long, value_name = "NUMBER", requires = "nearest", allow_hyphen_values = true)]
    pub(crate) threshold: Option<f64>,
    /// The field of each document found that tells its distance
    #[arg(long, value_name = "FIELD", requires = "nearest")]
    pub(crate) distance_field: Option<String>,
}

/// How the distance of two vectors is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// The length of their difference
    #[default]
    Euclidean,
    /// One minus the cosine of their angle
    Cosine,
    /// Greater is nearer
    DotProduct,
}

/// What to compute over the documents of a query.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Instead of documents")]
pub(crate) struct AggregateArgs {
    /// How many documents there are
    #[arg(long)]
    pub(crate) count: bool,
    /// The sum of a field's numbers
    #[arg(long, value_name = "FIELD")]
    pub(crate) sum: Vec<String>,
    /// The average of a field's numbers
    #[arg(long, value_name = "FIELD")]
    pub(crate) average: Vec<String>,
}

/// Arguments of `indexes`.
#[derive(Debug, Args)]
pub(crate) struct IndexesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: IndexesCommand,
}

/// The commands of `indexes`.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexesCommand {
    /// Print the indexes and exemptions, and how far they are
    List(ClientCommand<NoArgs>),
    /// Index several fields together, or one over a collection group
    Create(ClientCommand<IndexCreateArgs>),
    /// Give up an index
    Drop(ClientCommand<IndexDropArgs>),
    /// Do not index a field of a collection automatically
    Exempt(ClientCommand<ExemptionArgs>),
    /// Index a field of a collection automatically again
    Unexempt(ClientCommand<ExemptionArgs>),
    /// Create what a Firebase `firestore.indexes.json` declares
    Import(ClientCommand<IndexImportArgs>),
}

/// No arguments.
#[derive(Debug, Args)]
pub(crate) struct NoArgs {}

/// Arguments of `indexes create`.
#[derive(Debug, Args)]
pub(crate) struct IndexCreateArgs {
    /// The id of the collections, like `messages`
    pub(crate) collection: String,
    /// The fields, the first deciding first
    #[arg(required = true, value_name = "FIELD[:desc|:contains]")]
    pub(crate) fields: Vec<String>,
    /// For queries over the collection group
    #[arg(long)]
    pub(crate) group: bool,
    /// Return when it is built
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `indexes drop`.
#[derive(Debug, Args)]
pub(crate) struct IndexDropArgs {
    /// Its number in `indexes list`
    pub(crate) id: u32,
}

/// Arguments of `indexes exempt` and `unexempt`.
#[derive(Debug, Args)]
pub(crate) struct ExemptionArgs {
    /// The id of the collections
    pub(crate) collection: String,
    /// The field and the fields below it; `*` for all
    pub(crate) field: String,
}

/// Arguments of `indexes import`.
#[derive(Debug, Args)]
pub(crate) struct IndexImportArgs {
    /// The file
    pub(crate) file: PathBuf,
    /// Return when all of them are built
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `query`.
#[derive(Debug, Args)]
pub(crate) struct QueryCommandArgs {
    /// The collection, like `rooms/a/messages`; with --group or --under its id, like `messages`
    pub(crate) collection: String,
    /// Print how the server came by the result instead of its documents: the steps, what was scanned,
    /// and the index that would help
    #[arg(long)]
    pub(crate) explain: bool,
    /// The clauses.
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// What to compute.
    #[command(flatten)]
    pub(crate) aggregate: AggregateArgs,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Lines with --json:
  {\"type\":\"added\"|\"modified\",\"path\",\"version\",\"create_version\",\"update_version\",\"update_time\",\"fields\"}
  {\"type\":\"removed\",\"path\",\"version\"}     it was deleted or left the query
  {\"type\":\"current\",\"version\",\"count\"}      everything up to this version has been printed
  {\"type\":\"values\",\"version\",\"values\"}      with --count, --sum and --average: their values by name
`version` never decreases.")]
pub(crate) struct WatchArgs {
    /// A collection, or a document; with --group or --under a collection's id
    pub(crate) path: String,
    /// First print how the server comes by the result; see `query`
    #[arg(long)]
    pub(crate) explain: bool,
    /// The clauses (collections only).
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// What to compute.
    #[command(flatten)]
    pub(crate) aggregate: AggregateArgs,
    /// Exit once the result is current and has so many documents, or --count counts so many
    #[arg(long, value_name = "N")]
    pub(crate) until_count: Option<usize>,
    /// Exit after this time: `10s`, `2m`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// What is kept.
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
An import that was stopped continues where it stopped when it is run again; one that was finished
says so. Placeholders are field paths: rooms/{room}/messages/{room}-{seq}")]
pub(crate) struct ImportArgs {
    /// JSON lines, plain or gzip; `-` for stdin
    pub(crate) file: PathBuf,
    /// The path of each document, with `{field}` placeholders. Without it, lines are
    /// `{\"path\":…,\"fields\":…}`, as written by export
    pub(crate) template: Option<String>,
    /// Import all lines, whatever an earlier run has done
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Report bad lines and go on
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// How many documents may wait for the server's word at a time
    #[arg(long, default_value_t = 400, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) window: u16,
    /// Where progress is kept [default: the user's state folder]
    #[arg(long, env = "TIDEMARK_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// What is kept.
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The collection
    pub(crate) collection: String,
    /// Write to a file, compressed if it ends in .gz, instead of stdout
    #[arg(long, short, value_name = "FILE[.gz]")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Messages are documents of rooms/ROOM/messages. When stdin or stdout is not a terminal, lines are
read and messages are printed as lines, so that scripts can take part. Lines with --json:
  {\"type\":\"message\",\"id\",\"from\",\"text\",\"at\",\"own\"}   the server has it
  {\"type\":\"edited\",\"id\",\"from\",\"text\"}  {\"type\":\"deleted\",\"id\"}
  {\"type\":\"local\",\"id\",\"text\"}                 yours, on its way
  {\"type\":\"rejected\",\"id\",\"code\",\"message\"}
  {\"type\":\"superseded\",\"id\"}                     a later edit of it holds
/edit TEXT changes your last message, /delete deletes it, /retry sends again what was refused,
/discard gives it up.")]
pub(crate) struct ChatArgs {
    /// The room
    pub(crate) room: String,
    /// Your name
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: String,
    /// Use lines even in a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    /// What is kept.
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// `500ms`, `10s`, `2m`, `1h`, or a plain number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no time; try 10s"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        other => return Err(format!("unknown unit `{other}`; use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{text}`: {error}"))
}

/// `1048576`, `50MB`, `1GB`; with `KiB`, `MiB` and `GiB` in powers of two.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size; try 50MB"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        other => return Err(format!("unknown unit `{other}`; use KB, MB or GB")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too much"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(parse_duration("7").unwrap(), Duration::from_secs(7));
        assert!(parse_duration("7 parsecs").unwrap_err().contains("unit"));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("99999999999999999999999999").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("4096").unwrap(), 4096);
        assert_eq!(parse_size("50MB").unwrap(), 50_000_000);
        assert_eq!(parse_size("1 GiB").unwrap(), 1 << 30);
        assert!(parse_size("5 bushels").unwrap_err().contains("unit"));
        assert!(parse_size("99999999999GB").is_err());
        assert!(parse_size("much").is_err());
    }

    #[test]
    fn a_cache_size_needs_a_cache() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("tidemark chat r --as ann --cache d --cache-size 10MB"));
        assert!(!parse("tidemark chat r --as ann --cache-size 10MB"));
        assert!(parse("tidemark watch c --cache d") && parse("tidemark import f --cache d"));
    }

    #[test]
    fn update_needs_a_change() {
        assert!(Cli::try_parse_from(["tidemark", "update", "a/b"]).is_err());
        assert!(Cli::try_parse_from(["tidemark", "update", "a/b", "x=1"]).is_ok());
        assert!(Cli::try_parse_from(["tidemark", "update", "a/b", "--increment", "n=-1"]).is_ok());
    }

    #[test]
    fn unknown_operators_are_named() {
        let line = ["tidemark", "query", "rooms", "--where", "n ~= 1"];
        let error = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(error.contains("`~=`"), "{error}");
    }

    #[test]
    fn the_nearest_need_a_limit_and_their_options_need_them() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("tidemark query c --nearest v=[1] --limit 3 --measure cosine"));
        assert!(!parse("tidemark query c --nearest v=[1]"));
        assert!(!parse("tidemark query c --limit 3 --threshold 1"));
        assert!(parse("tidemark query c --limit 3"));
        assert!(!parse("tidemark query c --limit 3 --limit-to-last 3"));
    }
}
