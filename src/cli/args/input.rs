//! What INPUT is, what is made of it, and who takes which part of it: arguments that several
//! commands have.

#![expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "help is read on a terminal"
)]

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::Value;

use crate::cli::parse;
use crate::jsonl::answer_table::TableOptions;
use crate::jsonl::shard::Shard;
use crate::{Column, Provider};

/// What is made of a line that is a prompt, or of a row.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rows and prompts")]
pub(crate) struct Prompts {
    /// Make a request of each row of INPUT (CSV with a header, or one JSON object a line) by this
    /// Jinja template, such as 'Classify: {{ text }}'. {{ text }} stands for the cell in the column
    /// text, and {{ row["a name"] }} for that in a column of any name
    #[arg(
        long,
        value_name = "TEMPLATE",
        group = "template",
        allow_hyphen_values = true
    )]
    pub(crate) prompt: Option<String>,

    /// Read the template from this file
    #[arg(long, value_name = "FILE", group = "template")]
    pub(crate) prompt_file: Option<PathBuf>,

    /// The column whose cells are the ids (custom_id) of the rows, each used once [default: the id
    /// is a hash of the row's request]
    #[arg(long, value_name = "COLUMN", requires = "template")]
    pub(crate) id: Option<String>,

    /// What separates the cells of CSV: a character, or tab [default: a comma, a semicolon or a
    /// tab, by the header]
    #[arg(long, value_name = "C", requires = "template", value_parser = parse::delimiter)]
    pub(crate) delimiter: Option<char>,

    /// Take each line of INPUT as a prompt, as if its name ended in .txt
    #[arg(long = "prompts", conflicts_with = "template")]
    pub(crate) by_line: bool,

    /// The model that rows and prompts are sent to; required for them
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,

    /// The longest answer, in model tokens [default: the provider's]
    #[arg(long, value_name = "N", value_parser = parse::up_to::<u64>(u64::MAX))]
    pub(crate) max_tokens: Option<u64>,

    /// A system message before each prompt; for rows, a template too
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// A further field of each request, such as temperature=0.2 or max_completion_tokens=500. The
    /// value is JSON, or else a string. Can be given several times
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = parse::param)]
    pub(crate) params: Vec<(String, Value)>,
}

impl Prompts {
    /// Whether INPUT is rows of a table.
    pub(crate) fn is_rows(&self) -> bool {
        self.prompt.is_some() || self.prompt_file.is_some()
    }
}

/// What a table has beside the columns of INPUT.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output tables (.csv or .tsv)")]
pub(crate) struct Table {
    /// Add a column for each top-level key of answers that are JSON objects
    #[arg(long)]
    pub(crate) json_answer: bool,

    /// Add these columns, with commas between them: finish_reason, prompt_tokens,
    /// completion_tokens, error
    #[arg(long = "with", value_name = "COLUMNS", value_delimiter = ',', value_parser = parse::column)]
    pub(crate) columns: Vec<Column>,

    /// Write answers as they are. Without this, an answer that a spreadsheet would run as a formula
    /// gets an apostrophe in front: one that begins with =, +, - or @ and is no number
    #[arg(long)]
    pub(crate) raw_cells: bool,
}

impl Table {
    pub(crate) fn options(&self) -> TableOptions {
        let mut options = TableOptions {
            json_answer: self.json_answer,
            raw_cells: self.raw_cells,
            ..TableOptions::default()
        };
        options.set_columns(self.columns.iter().copied());
        options
    }

    /// The first of these flags that is given.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--json-answer", self.json_answer),
            ("--with", !self.columns.is_empty()),
            ("--raw-cells", self.raw_cells),
        ];
        let (flag, _) = given.into_iter().find(|(_, given)| *given)?;
        Some(flag)
    }
}

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

/// The shard of INPUT that this process takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Shards")]
pub(crate) struct Sharding {
    /// Take only shard I of N, where I counts from 0: the rows whose id has a CRC-32 that leaves I
    /// when divided by N. N processes with a shard each take every row once. Results go to INPUT's
    /// name with .shard-I-of-N.results.jsonl, and `tollgate merge` makes one file of them. With
    /// auto, the shard is that of this task of a Slurm array, or of this pod of an indexed
    /// Kubernetes Job, which needs --shards
    #[arg(long, value_name = "I/N|auto", value_parser = parse::shard, allow_negative_numbers = true)]
    pub(crate) shard: Option<ShardArg>,

    /// The number of shards, for --shard auto. A Kubernetes Job does not tell its pods how many
    /// they are, so give its completions. A Slurm array knows its size, and must have this many
    /// tasks
    #[arg(long, value_name = "N", requires = "shard", value_parser = parse::up_to::<u32>(u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) shards: Option<u32>,
}

/// A shard as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShardArg {
    Auto,
    Given(Shard),
}

/// Which processes share the limits, and what to do when their store is gone.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct SharedLimit {
    /// Share the limits with all processes that name the same URL: --rps, --rpm, --tpm and --burst
    /// are then those of all of them together. The URL names the store of the limits: `file:PATH`
    /// for processes on one machine, `redis://HOST:PORT/DB?key=NAME` (with TLS `rediss://`) for
    /// many. Put a URL with a password into TOLLGATE_SHARED_LIMIT, as other users of this machine
    /// can read a command line [default: from TOLLGATE_SHARED_LIMIT, else none]
    #[arg(long, value_name = "URL")]
    pub(crate) shared_limit: Option<String>,

    /// While the store of the shared limit cannot be reached, send at this share of the limits:
    /// give share=1/8 if eight processes share them [default: send nothing and wait for the store]
    #[arg(long, value_name = "share=1/N", value_parser = parse::share)]
    pub(crate) shared_limit_fallback: Option<u32>,
}
