//! Answers as a table: the user's columns, and behind them what tollgate adds.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use csv::ByteRecord;

use super::answer::Answer;
use super::answers::Answers;
use super::files::RunFiles;
use super::format::Format;
use super::io::{AtomicFile, failed};
use super::journal::JournalOptions;
use super::sidecars::has_ending;
use super::summary::Summary;
use super::table::RowSource;
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};
use crate::rows::cells::{ColumnNames, Layout, TableWriter};
use crate::rows::object::Members;

/// The most columns that answers can add. A model that makes up a key a row would fill the disk
/// with empty cells.
const MOST_KEYS: usize = 1_000;

/// A column beside `answer` in a table of answers; see
/// [`FileRun::columns`](crate::FileRun::columns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Column {
    /// Why the model stopped, such as `stop` or `length`.
    FinishReason,
    /// The model tokens of the request, as the provider counted them.
    PromptTokens,
    /// The model tokens of the answer.
    CompletionTokens,
    /// Why the row has failed.
    Error,
}

impl Column {
    /// All there are.
    pub const ALL: [Self; 4] = [
        Self::FinishReason,
        Self::PromptTokens,
        Self::CompletionTokens,
        Self::Error,
    ];

    /// The name it has in a table, such as `finish_reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FinishReason => "finish_reason",
            Self::PromptTokens => "prompt_tokens",
            Self::CompletionTokens => "completion_tokens",
            Self::Error => "error",
        }
    }

    fn of(self, answer: &Answer) -> String {
        let usage = answer.usage;
        match self {
            Self::FinishReason => answer.finish_reason.clone(),
            Self::PromptTokens => usage.map(|usage| usage.prompt_tokens.to_string()),
            Self::CompletionTokens => usage.map(|usage| usage.completion_tokens.to_string()),
            Self::Error => answer.error.clone(),
        }
        .unwrap_or_default()
    }
}

/// What is added to a table, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableOptions {
    /// An answer that is a JSON object has a column for each of its keys.
    pub(crate) json_answer: bool,
    pub(crate) columns: Vec<Column>,
    /// Texts that a spreadsheet would run are written as they are.
    pub(crate) raw_cells: bool,
}

impl TableOptions {
    /// Each column once.
    pub(crate) fn set_columns(&mut self, columns: impl IntoIterator<Item = Column>) {
        self.columns.clear();
        for column in columns {
            if !self.columns.contains(&column) {
                self.columns.push(column);
            }
        }
    }

    /// For an output that is no table.
    fn refuse_any(&self) -> Result<()> {
        for (setting, is_set) in [
            (&["columns"], !self.columns.is_empty()),
            (&["json_answer"], self.json_answer),
            (&["raw_cells"], self.raw_cells),
        ] {
            if is_set {
                let why = "this is for a table: name an output that ends in .csv or .tsv";
                return Err(config(why).with_settings(setting));
            }
        }
        Ok(())
    }
}

/// How many rows a table has, and of how many of them there are records and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rows: u64,
    pub(crate) recorded: u64,
    pub(crate) answered: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, answer: Option<&Answer>) {
        self.rows += 1;
        self.recorded += u64::from(answer.is_some());
        self.answered += u64::from(answer.is_some_and(|answer| answer.text.is_some()));
    }
}

/// Writes a table.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io), those of reading, and what `unwritable` makes of a
/// failed write.
pub(crate) fn write_table(
    out: impl Write,
    layout: Layout,
    rows: &RowSource<'_>,
    answers: &mut Answers,
    options: &TableOptions,
    unwritable: impl Fn(io::Error) -> Error,
) -> Result<Counts> {
    let keys = if options.json_answer {
        keys_of(rows, answers)?
    } else {
        Vec::new()
    };
    let mut names = ColumnNames::new(&rows.columns);
    let mut added = vec![names.add("answer")];
    added.extend(keys.iter().map(|key| names.add(key)));
    let columns = options.columns.iter();
    added.extend(columns.map(|column| names.add(column.as_str())));

    let mut table = TableWriter::new(out, layout, options.raw_cells).map_err(&unwritable)?;
    let mut write = |own: &ByteRecord, added: &[String]| {
        own.iter().try_for_each(|cell| table.own(cell))?;
        added.iter().try_for_each(|text| table.added(text))?;
        table.end_row()
    };
    let header = ByteRecord::from(&rows.columns[..]);
    write(&header, &added).map_err(&unwritable)?;
    let mut counts = Counts::default();
    rows.each(answers, |own, answer| {
        counts.add(answer);
        let nothing = Answer::default();
        let answer = answer.unwrap_or(&nothing);
        let object = object_in(answer).filter(|_| !keys.is_empty());
        let object = object.unwrap_or_default();
        let mut added = vec![answer.text.clone().unwrap_or_default()];
        added.extend(keys.iter().map(|key| object.cell(key)));
        added.extend(options.columns.iter().map(|column| column.of(answer)));
        write(own, &added).map_err(&unwritable)
    })?;
    table.finish().map_err(unwritable)?;
    Ok(counts)
}

/// The JSON object that a model has written as its answer.
fn object_in(answer: &Answer) -> Option<Members<'_>> {
    let text = answer.text.as_deref().filter(|_| answer.is_written);
    text.and_then(Members::of_answer)
}

/// The top-level keys of all answers that are JSON objects, in the order in which they come.
fn keys_of(rows: &RowSource<'_>, answers: &mut Answers) -> Result<Vec<String>> {
    let (mut known, mut keys, mut left_out) = (HashSet::new(), Vec::new(), false);
    rows.each(answers, |_, answer| {
        let object = answer.and_then(object_in);
        for key in object.map(|object| object.keys).into_iter().flatten() {
            if keys.len() < MOST_KEYS && known.insert(key.clone()) {
                keys.push(key);
            } else {
                left_out |= !known.contains(&key);
            }
        }
        Ok(())
    })?;
    if left_out {
        log::warn!(
            "the answers have more than {MOST_KEYS} different keys: the others have no column, and are in \
             \"answer\" only"
        );
    }
    Ok(keys)
}

/// The table of a run.
pub(super) struct RunTable {
    path: PathBuf,
    files: RunFiles,
    format: Format,
    options: TableOptions,
}

impl RunTable {
    /// The table that a run makes, if it makes one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the file: there is a table of
    /// another origin, or there are options of a table and there is none.
    pub(super) fn new(
        files: &RunFiles,
        format: &Format,
        journal: JournalOptions,
        options: TableOptions,
    ) -> Result<Option<Self>> {
        let (Some(path), Some(record)) = (&files.table, files.output.path()) else {
            return options.refuse_any().map(|()| None);
        };
        if path.exists() && !record.exists() && (!journal.overwrite || journal.simulated) {
            let (advice, settings): (_, &[_]) = if journal.simulated {
                (
                    "a simulated run replaces no table: name another",
                    &["output"],
                )
            } else {
                (
                    "name another table, or replace it",
                    &["output", "overwrite"],
                )
            };
            let why =
                format!("the table {path:?} exists, and its records {record:?} do not: {advice}");
            return Err(config(why).with_settings(settings));
        }
        Ok(Some(Self {
            path: path.clone(),
            files: files.clone(),
            format: format.clone(),
            options,
        }))
    }

    /// Writes it, when the records are written.
    pub(super) fn close(self, outcome: Result<Summary>, opened: Instant) -> Result<Summary> {
        let written = self.write();
        let mut summary = outcome?;
        written?;
        summary.wall = opened.elapsed();
        Ok(summary)
    }

    fn write(&self) -> Result<()> {
        let Some(record) = self.files.output.path() else {
            return Ok(());
        };
        let files = [Some(record), self.files.errors.path()];
        let files = files.into_iter().flatten();
        // What has ended the run does not stop this.
        let mut answers = Answers::index(files, &Cancel::new())?;
        let rows = RowSource::of_input(&self.files.input, &self.format)?;
        let unwritable = |error| failed("write the table", &self.path, error);
        let mut fresh = AtomicFile::create(&self.path).map_err(unwritable)?;
        let layout = rows.layout(has_ending(&self.path, "tsv"));
        let out = &mut fresh.file;
        write_table(out, layout, &rows, &mut answers, &self.options, unwritable)?;
        fresh.commit().map_err(unwritable)
    }
}
