//! `tollgate plan`: the arguments of the command that looks ahead.

use std::path::PathBuf;

use clap::Args;

use super::prompts::Prompts;
use super::run::{Limits, Money, Timeouts};
use super::sharding::Sharding;
use crate::Provider;
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
  tollgate plan prompts.jsonl --like pilot.results.jsonl --json | jq .duration_s.p50

Exit codes: 0 planned, 2 the command line or a file is wrong.")]
pub(crate) struct Plan {
    /// The requests, as `run` takes them; - reads standard input
    #[arg(value_name = "INPUT", required_unless_present = "requests")]
    pub(crate) input: Option<PathBuf>,

    /// Plan this many requests instead of a file
    #[arg(long, value_name = "N", requires = "tokens", conflicts_with_all = ["input", "by_line", "template", "system", "params", "shard"], value_parser = parse::up_to::<u64>(MOST_REQUESTS))]
    pub(crate) requests: Option<u64>,

    /// The model tokens of each prompt; required with --requests
    #[arg(long, value_name = "DIST", requires = "requests", conflicts_with = "input", value_parser = parse::tokens_dist)]
    pub(crate) tokens: Option<Dist>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Whose API it is: openai (and every server that speaks it), anthropic or azure [default:
    /// openai]
    #[arg(long, value_name = "NAME", value_parser = parse::provider(), hide_possible_values = true)]
    pub(crate) provider: Option<Provider>,

    /// Where lines without a url go
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    pub(crate) endpoint: String,

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

    #[command(flatten)]
    pub(crate) sharding: Sharding,
}

const MOST_REQUESTS: u64 = 1_000_000_000;

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
