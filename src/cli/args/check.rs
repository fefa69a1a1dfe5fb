//! `tollgate check`: the arguments of the command that looks through a file.

use std::path::PathBuf;

use clap::Args;

use super::prompts::Prompts;
use super::sharding::Sharding;
use crate::Provider;
use crate::cli::parse;

/// Show what a file of requests holds and what is wrong with it. Sends nothing.
///
/// Every line is read, on all cores. Findings are what `run` would refuse or count as failed: lines
/// that are not requests, ids that are used twice, bodies that ask for a stream. The totals are
/// requests, models, endpoints and model tokens.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate check prompts.jsonl
  tollgate check prompts.jsonl --provider openai     would OpenAI's batch service take it?
  tollgate check prompts.jsonl --json | jq .prompt_tokens
  tollgate check reviews.csv --prompt 'Classify: {{ text }}'
                                                     does the template fit every row?

Exit codes: 0 nothing is wrong, 1 something is, 2 the file cannot be read.")]
pub(crate) struct Check {
    /// The requests, one a line, or in a .txt file one prompt a line, or with --prompt the rows of
    /// a table; - reads standard input
    #[arg(value_name = "INPUT")]
    pub(crate) input: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Also check the rules of this provider's own batch service: openai, anthropic or azure. `run`
    /// needs none of them. For rows it says whose requests they become
    #[arg(long, value_name = "NAME", value_parser = parse::provider(), hide_possible_values = true)]
    pub(crate) provider: Option<Provider>,

    /// Where rows go
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    pub(crate) endpoint: String,

    #[command(flatten)]
    pub(crate) prompts: Prompts,

    #[command(flatten)]
    pub(crate) sharding: Sharding,
}
