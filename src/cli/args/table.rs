//! What a table of answers has: the arguments that `run` and `extract` share.

#![expect(clippy::doc_markdown, reason = "help is read on a terminal")]

use clap::Args;

use crate::Column;
use crate::cli::parse;
use crate::jsonl::answer_table::TableOptions;

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
