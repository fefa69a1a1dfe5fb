//! What requests are made of prompts and of rows: arguments of several commands.

#![expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "help is read on a terminal"
)]

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::cli::parse;

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
