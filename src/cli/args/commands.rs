//! The arguments of the small commands: one reads a file or two, or needs next to nothing.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::input::{OfInput, Prompts, Table};
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

Exit codes: 0 nothing is wrong, 1 something is, 2 the command line is wrong or INPUT cannot be
read, 4 standard output cannot be written.")]
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
}

/// Take the answers out of a file of results, as text or as a table.
///
/// RESULTS is a file of results: of tollgate, of OpenAI's or Anthropic's batch service, or of
/// another tool that writes these formats. The errors file beside it (p.errors.jsonl for
/// p.results.jsonl) is read too, if there is one. If an id has several records, its last answer
/// counts. RESULTS stays as it is, and nothing is sent.
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
  tollgate extract out.jsonl --ordered-by r.csv --prompt 'Rate: {{ text }}' --model m -o a.csv
                                                      the columns of r.csv, and the answers
  tollgate extract p.results.jsonl -0 | xargs -0 -n 1 echo

Exit codes: 0 done, 1 lines that are no records were left out, 2 the command line or a file is
wrong, 4 a local file cannot be written, or read to its end.")]
pub(crate) struct Extract {
    /// The results
    #[arg(value_name = "RESULTS")]
    pub(crate) results: PathBuf,

    /// Write to FILE, as a table if its name ends in .csv or .tsv; - is standard output. An existing
    /// FILE is replaced, but for requests, results and tables without a column answer [default:
    /// standard output]
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

    #[command(flatten)]
    pub(crate) table: Table,

    #[command(flatten)]
    pub(crate) input: OfInput,
}

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
  tollgate merge r.shard-*.csv.jsonl -o r.jsonl --ordered-by r.csv --prompt '{{ text }}' --model m
  tollgate merge p.shard-*-of-8.results.jsonl | jq .custom_id

Exit codes: 0 all is well, 1 requests have failed or have no record, a shard has no file, or lines
that are no records were left out, 2 the command line or a file is wrong, 4 a local file cannot be
written, or read to its end.")]
pub(crate) struct Merge {
    /// Results of tollgate, of OpenAI's or Anthropic's batch service, or of another tool that
    /// writes these formats. The errors file beside each (p.errors.jsonl for p.results.jsonl) is
    /// read too, if there is one
    #[arg(value_name = "RESULTS", required = true)]
    pub(crate) results: Vec<PathBuf>,

    /// Write to FILE; - is standard output. An existing FILE is replaced if all of its answers are
    /// among the merged ones [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) input: OfInput,
}

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

Exit codes: 0 the page is written, 2 the command line or a file is wrong, 4 the page cannot be
written.")]
pub(crate) struct Report {
    /// Files of results, or tables (.csv, .tsv) whose results are beside them
    #[arg(value_name = "RESULTS", required = true)]
    pub(crate) results: Vec<PathBuf>,

    /// Where the page goes; - is standard output [default: the first RESULTS' name with
    /// .report.html]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Run the simulated provider on its own, to test other programs.
///
/// It prints its base URL, on 127.0.0.1, and takes any key. It answers chat completions,
/// completions, embeddings, responses, moderations and models as OpenAI does, and messages as
/// Anthropic does. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
SPEC holds any of these, with commas between them:
  latency=T         mean time to an answer, at most 1h [default: 500ms]
  jitter=J          spread of the latency: standard deviation / mean, 0 to 3 [default: 0.3]
  load=N or N@F     the latency rises when more than N requests are worked on at once: in
                    proportion to their number, or to F times, F above 1 [default: it does not]
  rps=R or rpm=R    requests a second or a minute; more get status 429 [default: no limit]
  tpm=N             model tokens a minute; more get status 429 [default: no limit]
  input-tpm=N       model tokens of prompts a minute, and output-tpm=N those of answers. Only
                    headers=anthropic announces them [default: no limit]
  burst=N           requests that rps or rpm allows at once [default: two seconds' worth, at
                    least 2]
  window=W          how limits are judged: bucket, or in windows of a second or minute, fixed or
                    sliding, which have no burst [default: bucket]
  refused=count     refused requests count against the limits [default: they do not]
  headers=H         whose headers announce the limits: openai, azure, groq, anthropic, openrouter,
                    ietf, gemini (none; a refusal tells the wait in its body) or none [default:
                    openai]
  hints=H           how a refusal says how long to wait: ms, s, words or none [default: ms]
  cut=FROM-TO@S     only the share S of the limits holds for a time, such as 20s-40s@0.33; with @0
                    all requests get status 503, limits or not. Up to 16 cuts in their order, with a
                    + between them: 20s-40s@0.33+60s-80s@0.5 [default: none]
  places=N or N@T   requests worked on at once; more get status 429, with a wait of T if that is
                    given [default: no limit]
  overload=N or N@T in place of places: more get status 503
  errors=S          share of requests that get status 500, 502 or 503, 0 to 1 [default: 0]
  strays=S          share of requests that get status 429 and a wait of a second although they are
                    within the limits, 0 to 1 [default: 0]
  faults=S          share of connections that break, 0 to 1; with errors and strays at most 1
                    [default: 0]
  seed=N            the same seed gives the same chances [default: 7]
T is a time such as 500ms, 2s or 1m; a bare number is seconds. A field that has no effect beside the
others is an error.

Exit codes: 0 a signal ended it, 2 the command line is wrong, 4 it cannot listen on the port, or
standard output cannot be written.")]
pub(crate) struct Simulate {
    /// How it behaves, such as latency=2s,rpm=600,errors=0.02
    #[arg(value_name = "SPEC", default_value = "", hide_default_value = true)]
    pub(crate) spec: String,

    /// The port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port: u16,
}

/// Print a script that lets a shell complete commands, flags and values with the Tab key.
#[derive(Debug, Args)]
#[command(after_help = "\
Where a shell looks for it:
  bash        tollgate completions bash > ~/.local/share/bash-completion/completions/tollgate
  zsh         tollgate completions zsh > DIR/_tollgate, with DIR in $fpath before compinit
  fish        tollgate completions fish > ~/.config/fish/completions/tollgate.fish
  powershell  tollgate completions powershell | Out-String | Invoke-Expression    (in $PROFILE)
  elvish      eval (tollgate completions elvish | slurp)                          (in rc.elv)

Without a file, in this bash only: source <(tollgate completions bash)")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}
