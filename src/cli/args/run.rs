//! `tollgate run`: the arguments of the main command.

#![expect(clippy::doc_markdown, reason = "help is read on a terminal")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::input::{Prompts, Sharding, SharedLimit, Table};
use crate::cli::parse;
use crate::{Concurrency, Fsync, Price, Provider, Rate, Usd};

/// Send a file of requests and write a file of results.
///
/// INPUT holds one request a line: OpenAI batch lines (custom_id, method, url, body) or Anthropic
/// batch lines (custom_id, params). In a .txt file, each line is a prompt. With --prompt, INPUT is
/// a table: a request is made of each row.
///
/// Each result is written as soon as it arrives, in the input's format: for p.jsonl to
/// p.results.jsonl. Requests that fail go to p.errors.jsonl. For p.csv, results go to
/// p.results.csv.jsonl, and the table p.results.csv is made of them when the run ends.
///
/// To carry on after a stop, run the same command again. Requests that are answered are not sent
/// again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate run prompts.jsonl --simulate              try it: no key, no network, no cost
  tollgate run prompts.jsonl --rpm 500 --tpm 200000  stay within these limits
  tollgate run prompts.jsonl --price 0.15,0.60 --max-cost 5
                                                     stop at about 5 US dollars
  tollgate run questions.txt --model gpt-4o-mini     one prompt a line
  tollgate run reviews.csv --prompt 'Good or bad? {{ text }}' --model gpt-4o-mini
                                                     one request a row, the answers in a table
  tollgate run prompts.jsonl --shard 0/8             one of eight processes that share the work
  tollgate run prompts.jsonl --base-url http://127.0.0.1:8000/v1 --no-auth
                                                     a server on this machine

Times: 500ms, 2s, 10m or 1h. A bare number is seconds.

Environment (flags win):
  OPENAI_API_KEY, OPENAI_BASE_URL        the key and the API's root
  OPENAI_ORG_ID, OPENAI_PROJECT_ID       sent as headers
  ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_BASE_URL
                                         the same with --provider anthropic
  AZURE_OPENAI_API_KEY                   the key with --provider azure
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                                         the proxy by URL scheme; never for this machine
  TOLLGATE_SHARED_LIMIT                  the URL of --shared-limit, which may have a password here;
                                         not with --simulate
  SSL_CERT_FILE                          the trusted certificates, unless --ca-file is given")]
pub(crate) struct Run {
    /// The requests, one a line; - reads standard input
    #[arg(value_name = "INPUT")]
    pub(crate) input: PathBuf,

    /// Where results go; - is standard output. If the name ends in .csv or .tsv, FILE is a table
    /// with INPUT's rows and columns and the column answer. The table is written when the run ends,
    /// from the results, which are in FILE.jsonl [default: INPUT's name with .results.jsonl, or
    /// .results.csv for a .csv; standard output if INPUT is -]
    #[arg(short, long, value_name = "FILE", help_heading = FILES)]
    pub(crate) output: Option<PathBuf>,

    /// Where failed requests go [default: the results' name with .errors.jsonl; standard output if
    /// the results go there]
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pub(crate) errors: Option<PathBuf>,

    /// Write results in the input's order instead of as they arrive. If the process is killed,
    /// answers that wait for an earlier one are lost
    #[arg(long, help_heading = FILES)]
    pub(crate) ordered: bool,

    /// Delete the results of an earlier run and start anew
    #[arg(long, help_heading = FILES)]
    pub(crate) overwrite: bool,

    /// Also send again what failed for good, such as requests that the provider refused. Without
    /// this a rerun sends only those that failed for a passing reason, such as an overloaded server
    #[arg(long, conflicts_with = "overwrite", help_heading = FILES)]
    pub(crate) retry_failed: bool,

    /// Keep the answers of requests that have changed since they were answered. Without this an
    /// input with such requests is refused
    #[arg(long, conflicts_with = "overwrite", help_heading = FILES)]
    pub(crate) force_resume: bool,

    /// Move damaged lines of the results to a file beside them, whose name ends in .rejected, and
    /// send their requests again
    #[arg(long, conflicts_with = "overwrite", help_heading = FILES)]
    pub(crate) repair: bool,

    /// Write the provider's own fields only: no attempts, waits, usage and hashes
    #[arg(long, help_heading = FILES)]
    pub(crate) strict: bool,

    /// When results are flushed to the disk with fsync: none (the system decides), interval (after
    /// a second at most) or always (before they count as done)
    #[arg(long, value_name = "WHEN", default_value = "interval", value_parser = parse::fsync(), hide_possible_values = true, help_heading = FILES)]
    pub(crate) fsync: Fsync,

    /// Also write the summary, which is shown at the end, to FILE, as JSON
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pub(crate) summary: Option<PathBuf>,

    /// Also make one HTML page of the results when the run ends or stops: rows, times, limits,
    /// failures and cost. Earlier runs into the same results are in it (see `tollgate report`)
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pub(crate) report: Option<PathBuf>,

    /// Send nothing and write nothing: say what `check` says of INPUT, and what `plan` says of a
    /// run with these flags. No key is needed
    #[arg(long = "dry-run", conflicts_with = "repair", help_heading = FILES)]
    pub(crate) is_dry: bool,

    #[command(flatten)]
    pub(crate) table: Table,

    #[command(flatten)]
    pub(crate) server: Server,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) shared: SharedLimit,

    #[command(flatten)]
    pub(crate) timeouts: Timeouts,

    #[command(flatten)]
    pub(crate) money: Money,

    #[command(flatten)]
    pub(crate) prompts: Prompts,

    #[command(flatten)]
    pub(crate) sharding: Sharding,

    /// Show progress as a bar on a terminal and as a line every 5 s elsewhere (auto), as a bar
    /// everywhere (always), not at all (never), or as one JSON object a second (json)
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, hide_possible_values = true, help_heading = DISPLAY)]
    pub(crate) progress: ProgressMode,

    /// Show errors only
    #[arg(short, long, conflicts_with = "verbose", help_heading = DISPLAY)]
    pub(crate) quiet: bool,

    /// Show each attempt that failed; twice (-vv) shows every attempt
    #[arg(short, long, action = ArgAction::Count, help_heading = DISPLAY)]
    pub(crate) verbose: u8,
}

impl Run {
    /// Whether each such run starts anew: simulated answers cost nothing, and these are in a file
    /// of their own.
    pub(crate) fn starts_anew(&self) -> bool {
        self.server.simulate.is_some() && self.output.is_none()
    }
}

const FILES: &str = "Files";
const MONEY: &str = "Money";
const DISPLAY: &str = "Display";

/// What requests cost, and how much may be spent.
#[derive(Debug, Args)]
pub(crate) struct Money {
    /// What 1,000,000 model tokens cost in US dollars, in prompts and in answers, such as 0.15,0.60
    #[arg(long, value_name = "IN,OUT", help_heading = MONEY)]
    pub(crate) price: Option<Price>,

    /// Stop when this run has spent this many US dollars by --price. Requests in flight finish, so
    /// it may spend a little more. A rerun carries on and may spend as much again. An answer that
    /// does not report its usage counts as nothing. A request whose answer was lost or cut off
    /// counts as an estimate
    #[arg(long, value_name = "USD", requires = "price", value_parser = parse::dollars, allow_negative_numbers = true, help_heading = MONEY)]
    pub(crate) max_cost: Option<Usd>,

    /// Stop in the same way when this run has used this many model tokens, of prompts and answers
    /// together
    #[arg(long, value_name = "N", value_parser = parse::up_to::<u64>(u64::MAX), allow_negative_numbers = true, help_heading = MONEY)]
    pub(crate) token_budget: Option<u64>,
}

/// Where requests go, and with which key.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Server {
    /// The API's root, such as `https://api.openai.com/v1` [default: from the environment, else the
    /// provider's own]
    #[arg(long, value_name = "URL", conflicts_with = "simulate")]
    pub(crate) base_url: Option<String>,

    /// Read the key from this environment variable
    #[arg(long, value_name = "NAME", conflicts_with_all = ["api_key_file", "no_auth", "simulate"])]
    pub(crate) api_key_env: Option<String>,

    /// Read the key from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["no_auth", "simulate"])]
    pub(crate) api_key_file: Option<PathBuf>,

    /// Send no key
    #[arg(long, conflicts_with = "simulate")]
    pub(crate) no_auth: bool,

    /// Allow http:// to another machine. The key and all data travel unencrypted
    #[arg(long, conflicts_with = "simulate")]
    pub(crate) allow_insecure_http: bool,

    #[command(flatten)]
    pub(crate) api: Api,

    /// Send this header with each request, in place of one of the same name. For the value @VAR,
    /// the value of the environment variable VAR is sent; @@ stands for an @ at the start. A secret
    /// must come from a variable, as other users of this machine can read a command line. Can be
    /// given several times
    #[arg(short = 'H', long = "header", value_name = "'NAME: VALUE'")]
    pub(crate) headers: Vec<String>,

    /// The largest answer to accept, in bytes, or with K, M or G, such as 200M; 1G at most
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse::size)]
    pub(crate) max_body: usize,

    /// Trust the certificates in this PEM file instead of the built-in ones
    #[arg(long, value_name = "PEM", conflicts_with = "simulate")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Show this certificate to a server that asks for one
    #[arg(long, value_name = "PEM", conflicts_with = "simulate")]
    pub(crate) client_cert: Option<PathBuf>,

    /// The key of --client-cert, without a passphrase [default: in the same file]
    #[arg(long, value_name = "PEM", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,

    /// Let a simulated provider on this machine answer: no key, no network, no cost. Results go to
    /// INPUT's name with .simulated.jsonl. Each such run starts anew, unless -o is given. A SPEC
    /// such as latency=2s,rpm=600,errors=0.02 changes how it behaves: see tollgate simulate --help
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "headers")]
    pub(crate) simulate: Option<String>,
}

impl Server {
    /// The flag or the variable that the key is from, in words.
    pub(crate) fn key_source(&self) -> String {
        let source = match (&self.api_key_env, &self.api_key_file) {
            _ if self.no_auth => return "no key was sent (--no-auth)".to_owned(),
            (Some(_), _) => "the variable that --api-key-env names",
            (None, Some(_)) => "--api-key-file",
            (None, None) => self.api.provider.unwrap_or_default().key_variable(),
        };
        format!("the key is from {source}")
    }
}

/// Whose API it is, and what of it is asked.
#[derive(Debug, Args)]
pub(crate) struct Api {
    /// Whose API it is: openai (and every server that speaks it), anthropic or azure [default:
    /// openai]
    #[arg(long, value_name = "NAME", value_parser = parse::provider(), hide_possible_values = true)]
    pub(crate) provider: Option<Provider>,

    /// Where lines without a url go
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    pub(crate) endpoint: String,
}

/// How fast requests go, and how many at once.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Requests in flight at once, at most: sent, and not yet answered. Of a range such as 4-200
    /// the run finds the number that is fastest
    #[arg(short, long, value_name = "N|LOW-HIGH", default_value = "20", value_parser = parse::concurrency)]
    pub(crate) concurrency: Concurrency,

    /// Requests a second, at most [default: learned from the server]
    #[arg(long, value_name = "R", group = "rate", value_parser = parse::rate(Rate::try_per_second), allow_negative_numbers = true)]
    pub(crate) rps: Option<Rate>,

    /// Requests a minute, at most [default: learned from the server]
    #[arg(long, value_name = "R", group = "rate", value_parser = parse::rate(Rate::try_per_minute), allow_negative_numbers = true)]
    pub(crate) rpm: Option<Rate>,

    /// Requests that may start at once after an idle time [default: one second's worth of --rps
    /// or --rpm]
    #[arg(long, value_name = "N", requires = "rate", value_parser = parse::up_to::<u64>(u64::MAX))]
    pub(crate) burst: Option<u64>,

    /// Model tokens a minute, of prompts and answers together, at most [default: learned from the
    /// server]
    #[arg(long, value_name = "N", value_parser = parse::tokens_per_minute, allow_negative_numbers = true)]
    pub(crate) tpm: Option<Rate>,

    /// Send the first N requests alone, and the others when these have ended. A provider that
    /// caches the beginnings of prompts has them in its cache by then
    #[arg(long, value_name = "N", value_parser = parse::up_to::<u64>(u64::MAX))]
    pub(crate) warmup: Option<u64>,

    /// Send a request a second time when its answer takes longer than 95 % of all, and take the
    /// answer that comes first. The other attempt is cut off, and may be billed all the same. This
    /// happens only when nothing else is to be sent, and to one request in 20 at most
    #[arg(long)]
    pub(crate) hedge: bool,
}

impl Limits {
    /// The limits of requests and of model tokens.
    pub(crate) fn rates(&self) -> [Option<Rate>; 2] {
        [self.rps.or(self.rpm), self.tpm]
    }
}

/// How long to wait, and how often to try.
#[derive(Debug, Args)]
#[command(next_help_heading = "Timeouts and retries")]
pub(crate) struct Timeouts {
    /// Attempts for a request, the first included. Attempts in which nothing could be sent do not
    /// count, nor those that the server refuses because it is asked too fast or overloaded
    #[arg(long, value_name = "N", default_value = "6", value_parser = parse::up_to::<u32>(u32::MAX.into()))]
    pub(crate) max_attempts: u32,

    /// Time for one attempt, from connecting to the last byte
    #[arg(long, value_name = "T", default_value = "600s", value_parser = parse::positive_duration)]
    pub(crate) timeout: Duration,

    /// Time to connect
    #[arg(long, value_name = "T", default_value = "10s", value_parser = parse::positive_duration)]
    pub(crate) connect_timeout: Duration,

    /// Time for the whole run. What is not done by then is left for the next run [default: none]
    #[arg(long, value_name = "T", value_parser = parse::positive_duration)]
    pub(crate) deadline: Option<Duration>,

    /// Stop the run if the server asks for a longer wait than this. With none, wait as long as it
    /// asks
    #[arg(long, value_name = "T|none", default_value = "10m", value_parser = parse::most_or("none", Duration::MAX, parse::duration))]
    pub(crate) max_server_delay: Duration,

    /// Stop the run when this many answers in a row have failed alike and none has succeeded since
    /// it began. After a success it takes at least 100. Refusals of a server that is asked too
    /// fast, and failures of the server or the network, do not count [default: 20, but 10 for HTTP 403 and 404]
    #[arg(long, value_name = "N|never", value_parser = parse::most_or("never", u32::MAX, parse::up_to(u32::MAX.into())))]
    pub(crate) stop_alike: Option<u32>,

    /// Time for requests in flight to finish after Ctrl-C. A second Ctrl-C stops at once
    #[arg(long, value_name = "T", default_value = "30s", value_parser = parse::duration)]
    pub(crate) grace: Duration,
}

/// When progress is shown, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    #[default]
    Auto,
    Always,
    Never,
    Json,
}
