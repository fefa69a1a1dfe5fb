//! `tollgate merge`: the arguments of the command that merges results.

use std::path::PathBuf;

use clap::Args;

use super::input::OfInput;

/// Merge the results of several runs, such as those of shards, into one file with one record for
/// each request.
///
/// If an id has several records, its last answer counts, in the order of the files and their lines;
/// without an answer, the last failure. Ids that are answered twice are named. Records are written
/// as they are, so the new file is a file of results: `run` can carry on with it, and `extract` and
/// `report` read it. Nothing is sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate merge p.shard-*-of-8.results.jsonl -o p.results.jsonl --ordered-by p.jsonl
                                                      in the order of p.jsonl, and is any missing?
  tollgate merge batch_output.jsonl batch_errors.jsonl rerun.results.jsonl -o all.jsonl
  tollgate merge r.shard-*-of-4.results.csv.jsonl -o r.jsonl --ordered-by r.csv \
    --prompt 'Classify: {{ text }}' --model m
  tollgate merge p.shard-*-of-8.results.jsonl | jq .custom_id

Exit codes: 0 all is well, 1 requests have failed or have no record, a shard has no file, or lines
that are no records were left out, 2 the command line or a file is wrong, 4 a local file cannot be
read or written.")]
pub(crate) struct Merge {
    /// Results of tollgate, of OpenAI's or Anthropic's batch service, or of another tool that
    /// writes these formats. The errors file beside each (p.errors.jsonl for p.results.jsonl) is
    /// read too, if there is one
    #[arg(value_name = "RESULTS", required = true)]
    pub(crate) results: Vec<PathBuf>,

    /// Write to FILE. An existing FILE is replaced if all of its answers are among the merged ones
    /// [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) input: OfInput,
}
