//! `tollgate extract`: the arguments of the command that takes the answers out of results.

use std::path::PathBuf;

use clap::Args;

use super::input::OfInput;
use super::table::Table;

/// Take the answers out of a file of results, as text or as a table.
///
/// RESULTS is a file of results: of tollgate, of OpenAI's or Anthropic's batch service, or of
/// another tool that writes these formats. If an id has several records, its last answer counts.
/// RESULTS stays as it is, and nothing is sent.
///
/// As text, each answer is a line; line ends within an answer become blanks. A table has the
/// columns id and answer. An answer without a text, such as a tool call, is given as its JSON. With
/// --ordered-by, a request without an answer has an empty one.
#[derive(Debug, Args)]
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

    /// The records of failed requests, if they are not in RESULTS [default: RESULTS' name with
    /// .errors.jsonl, if there is such a file]
    #[arg(long, value_name = "FILE")]
    pub(crate) errors: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) table: Table,

    #[command(flatten)]
    pub(crate) input: OfInput,
}
