//! `tollgate report`.

use std::path::PathBuf;

use clap::Args;

use crate::Price;

/// Make one HTML page of what became of a run: rows, times, limits, failures and cost.
///
/// RESULTS is a file of results: of `run`, or of another tool in a batch format. The errors file
/// beside it is read as well. Several files make one page. A row with two results, in one file or
/// in two, counts twice. The page needs no network and no script,
/// so it can be mailed as it is. It shows ids and error messages, and no answers.
///
/// `run --report FILE` makes the page when a run ends, and draws the run's limits in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate report p.results.jsonl                    writes p.report.html
  tollgate report monday.jsonl tuesday.jsonl -o week.html
  tollgate report p.results.jsonl --price 0.15,0.60

Exit codes: 0 the page is written, 2 a file cannot be read or holds no results, 4 the page cannot
be written.")]
pub(crate) struct Report {
    /// Files of results, or tables (.csv, .tsv) whose results are beside them
    #[arg(value_name = "RESULTS", required = true)]
    pub(crate) results: Vec<PathBuf>,

    /// Where the page goes; - is standard output [default: the first RESULTS' name with
    /// .report.html]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// What 1,000,000 model tokens cost in US dollars, in prompts and in answers, such as 0.15,0.60
    /// [default: what the records say]
    #[arg(long, value_name = "IN,OUT")]
    pub(crate) price: Option<Price>,
}
