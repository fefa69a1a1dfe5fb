//! The input of the runs that made results: arguments of the commands that take its order.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::prompts::Prompts;
use crate::Provider;
use crate::cli::parse;

/// The input, and how it was asked for.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("of_input").multiple(true).requires("ordered_by").args(OF_INPUT))]
pub(crate) struct OfInput {
    /// Write in the order of INPUT, the input of the run that made RESULTS, and say what it has
    /// that they have not. For prompts and rows, give the flags of that run too (--prompt, --model
    /// and so on)
    #[arg(long, value_name = "INPUT")]
    pub(crate) ordered_by: Option<PathBuf>,

    /// Whose requests the rows of INPUT were: openai, anthropic or azure [default: openai]
    #[arg(long, value_name = "NAME", value_parser = parse::provider(), hide_possible_values = true, help_heading = ROWS)]
    pub(crate) provider: Option<Provider>,

    /// Where the rows of INPUT went
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions", help_heading = ROWS)]
    pub(crate) endpoint: String,

    #[command(flatten)]
    pub(crate) prompts: Prompts,
}

const ROWS: &str = "Rows and prompts";

/// What says how INPUT was asked for.
const OF_INPUT: [&str; 10] = [
    "prompt",
    "prompt_file",
    "id",
    "delimiter",
    "by_line",
    "model",
    "max_tokens",
    "system",
    "params",
    "provider",
];
