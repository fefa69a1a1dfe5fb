//! `tollgate extract`: the arguments of the command that takes the answers out of results.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::prompts::Prompts;
use super::table::Table;
use crate::Provider;
use crate::cli::parse;

/// Take the answers out of a file of results, as text or as a table.
///
/// RESULTS is a file of results: of tollgate, of OpenAI's or Anthropic's batch service, or of
/// another tool that writes these formats. If an id has several records, its last answer counts.
/// RESULTS stays as it is, and nothing is sent.
///
/// As text, each answer is a line; line ends within an answer become blanks. A table has the
/// columns id and answer. An answer without a text, such as a tool call, is given as its JSON.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("of_input").multiple(true).requires("ordered_by").args(OF_INPUT))]
#[command(after_help = "\
Examples:
  tollgate extract p.results.jsonl                    one answer a line
  tollgate extract p.results.jsonl --ordered-by p.jsonl -o answers.csv --with error
                                                      a table, a row for each request
  tollgate extract batch_output.jsonl -o answers.csv --json-answer
                                                      a column for each key of JSON answers
  tollgate extract out.jsonl --ordered-by reviews.csv --prompt 'Classify: {{ text }}' --model m \
    -o answers.csv                                    the columns of reviews.csv, and the answers
  tollgate extract p.results.jsonl -0 | xargs -0 -n 1 echo

Exit codes: 0 done, 1 lines that are no records were left out, 2 the command line or a file is
wrong, 4 a local file cannot be read or written.")]
pub(crate) struct Extract {
    /// The results
    #[arg(value_name = "RESULTS")]
    pub(crate) results: PathBuf,

    /// Write to FILE, as a table if its name ends in .csv or .tsv. An existing FILE is replaced
    /// [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Write a table with commas, whatever the name of FILE
    #[arg(long, group = "format")]
    pub(crate) csv: bool,

    /// Write a table with tabs, whatever the name of FILE
    #[arg(long, group = "format")]
    pub(crate) tsv: bool,

    /// End each answer with NUL instead of a line end, and keep the line ends within it
    #[arg(short = '0', long, group = "format")]
    pub(crate) null: bool,

    /// Give the answers in the order of INPUT, the input of the run that made RESULTS. A request
    /// without an answer has an empty one. For prompts and rows, give the flags of that run too
    /// (--prompt, --model and so on)
    #[arg(long, value_name = "INPUT")]
    pub(crate) ordered_by: Option<PathBuf>,

    /// The records of failed requests, if they are not in RESULTS [default: RESULTS' name with
    /// .errors.jsonl, if there is such a file]
    #[arg(long, value_name = "FILE")]
    pub(crate) errors: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) table: Table,

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
