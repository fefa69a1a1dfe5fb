//! `tollgate plan`: the arguments of the command that looks ahead.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::input::Prompts;
use super::run::{Api, Limits, Money, Timeouts};
use crate::cli::parse;
use crate::plan::Dist;

/// Say how long a file of requests will take, what it will cost, and which limit will hold it back.
/// Sends nothing and needs no key.
///
/// The run is simulated with the limits and retries of these flags. It must know how long answers
/// take and how long they are. Best send some of the requests first, and give their results as
/// --like.
#[derive(Debug, Args)]
#[command(after_help = "\
DIST is how a number varies:
  2s                 always the same
  1s-4s              anything from one to the other, evenly
  2s~0.5             a mean, and standard deviation ÷ mean (log-normal)
  p50=2s,p99=10s     quantiles, two or more (log-normal between them)
Tokens are written in the same way: 300, 50-800, 300~0.5, p50=200,p95=900.

Examples:
  tollgate plan prompts.jsonl --like pilot.results.jsonl --rpm 500 --tpm 200000
  tollgate plan prompts.jsonl --latency p50=2s,p99=10s --output-tokens 300 --price 0.15,0.60
  tollgate plan --requests 1000000 --tokens 800~0.4 --latency 3s --output-tokens 200 -c 100
  tollgate plan prompts.jsonl --like pilot.results.jsonl --rpm 30000 -c 200 --processes 8
  tollgate plan prompts.jsonl --like pilot.results.jsonl --json | jq .duration_s.p50

Exit codes: 0 planned, 2 the command line or a file is wrong, 4 a local file cannot be read to its
end, or standard output cannot be written.")]
pub(crate) struct Plan {
    /// The requests, as `run` takes them; - reads standard input. Required unless there is
    /// --requests
    #[arg(value_name = "INPUT")]
    pub(crate) input: Option<PathBuf>,

    /// Plan this many requests instead of a file
    #[arg(long, value_name = "N", requires = "tokens", conflicts_with_all = ["input", "by_line", "template", "system", "params"], value_parser = parse::up_to::<u64>(MOST_REQUESTS))]
    pub(crate) requests: Option<u64>,

    /// The model tokens of each prompt; required with --requests
    #[arg(long, value_name = "DIST", requires = "requests", conflicts_with = "input", value_parser = parse::tokens_dist)]
    pub(crate) tokens: Option<Dist>,

    /// Plan this many processes that share the limits, each with its own --concurrency. Also say
    /// how many processes the rates need, what it costs them to ask the store of the limits, and
    /// which limit comes next
    #[arg(long, value_name = "N", value_parser = parse::up_to::<u64>(MOST_PROCESSES))]
    pub(crate) processes: Option<u64>,

    /// How long the store of the shared limit takes to answer
    #[arg(long, value_name = "T", default_value = "1ms", requires = "processes", value_parser = parse::store_round_trip)]
    pub(crate) store_rtt: Duration,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) api: Api,

    #[command(flatten)]
    pub(crate) answers: Answers,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) timeouts: Timeouts,

    #[command(flatten)]
    pub(crate) money: Money,

    #[command(flatten)]
    pub(crate) prompts: Prompts,
}

const MOST_PROCESSES: u64 = 10_000;
const MOST_REQUESTS: u64 = 10_000_000_000;

/// What is to be expected of answers.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Answers")]
pub(crate) struct Answers {
    /// Take latency, length of answers and failures from these results of an earlier run, and from
    /// the errors file beside them
    #[arg(long, value_name = "RESULTS")]
    pub(crate) like: Option<PathBuf>,

    /// How long an attempt takes, from sending it to the last byte. Wins over --like [default:
    /// 2.5s~0.8]
    #[arg(long, value_name = "DIST", value_parser = parse::time_dist)]
    pub(crate) latency: Option<Dist>,

    /// How many model tokens an answer has; never more than its request allows. Wins over --like
    /// [default: 500]
    #[arg(long, value_name = "DIST", value_parser = parse::tokens_dist)]
    pub(crate) output_tokens: Option<Dist>,
}
