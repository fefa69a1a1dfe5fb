//! A run over a file: rows in, records out, on the thread that asked for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::Seek;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

#[cfg(feature = "rows")]
use super::answer_table::{Column, RunTable, TableOptions};
use super::files::{Location, OpenInput, RunFiles};
use super::format::Format;
use super::ids::Occurrences;
use super::journal::{Fsync, Journal, JournalOptions, Locks, recover};
use super::record::RecordWriter;
use super::rows::{Rows, send_rows};
use super::scan::{InputScan, scan};
use super::shard::Shard;
use super::summary::{FileProgress, ResumeInfo, Summary};
#[cfg(feature = "rows")]
use super::table;
use super::tally::{SpendLimits, Tally};
use super::writer::{Writer, WriterState};
use crate::api::{Chat, Client, Price, Usd};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result, config};
use crate::pool::{Feed, Monitor, Reorder};
#[cfg(feature = "rows")]
use crate::rows::Template;

/// A run over a file of requests, about to begin; see [`Client::jsonl`].
///
/// Each setting is optional. [`run`](FileRun::run) begins, and a later run with the same files
/// carries on:
///
/// ```no_run
/// # fn main() -> tollgate::Result<()> {
/// use std::time::Duration;
/// use tollgate::{Client, Price};
///
/// let client = Client::from_env()?.with_deadline(Duration::from_secs(3600));
/// let run = client.jsonl("in.jsonl", "out.jsonl").price(Price::per_million(0.15, 0.60)?);
/// let summary = run.max_cost(2.50).ordered(true).run()?;
/// for group in summary.progress.failures() {
///     eprintln!("{group}"); // 10 x HTTP 400 "no such model" (first: line 3, "r-3")
/// }
/// if let Some(error) = summary.stopped {
///     eprintln!("stopped early: {error}; run it again to carry on");
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a run over a file does nothing until `run`"]
pub struct FileRun<'p> {
    pub(super) client: Client,
    pub(super) files: RunFiles,
    pub(super) choices: Choices,
    on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
}

/// What can be chosen about a run.
#[derive(Default)]
pub(super) struct Choices {
    format: Format,
    ordered: bool,
    strict: bool,
    journal: JournalOptions,
    #[cfg(feature = "rows")]
    pub(super) table: TableOptions,
    limits: SpendLimits,
    /// What rows of a table become.
    #[cfg(feature = "rows")]
    template: Option<Template>,
    /// A setting that cannot be kept, told by `run`.
    refused: Option<Error>,
}

impl Choices {
    /// Opens the input, and reads the header of a table.
    #[cfg_attr(not(feature = "rows"), expect(unused_variables))]
    pub(super) fn open(&self, location: &Location, cancel: &Cancel) -> Result<(OpenInput, Format)> {
        let (input, format) = (location.open_input()?, self.format.clone());
        #[cfg(feature = "rows")]
        if let Some(template) = &self.template {
            return table::open(template, format, input, location, cancel);
        }
        Ok((input, format))
    }
}

impl Client {
    /// A run that sends the requests in a file and writes their results to another.
    ///
    /// Each line of the input is one request, in the batch format of OpenAI or Anthropic, or one
    /// [prompt](FileRun::prompts). Each line of the output is one result, in the batch output
    /// format of the same provider. `-` is standard input, or standard output.
    ///
    /// If the output exists, the run carries on with it: requests whose `custom_id` has an answer
    /// there are not sent again. The [guide](crate::_guide::batch_files) has all of it.
    ///
    /// ```no_run
    /// # fn main() -> tollgate::Result<()> {
    /// let client = tollgate::Client::from_env()?;
    /// let summary = client
    ///     .jsonl("in.jsonl", "out.jsonl")
    ///     .on_progress(|now| eprintln!("{} done", now.done()))
    ///     .run()?;
    /// println!("{} answered, {} failed", summary.progress.succeeded, summary.progress.failed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn jsonl(&self, input: impl Into<PathBuf>, output: impl Into<PathBuf>) -> FileRun<'static> {
        let (input, output) = (input.into(), output.into());
        let files = RunFiles::complete(&input, Some(&output), None, false, None);
        FileRun::over(self, files)
    }

    /// A run that makes a request of each row of a table and writes the results to a file.
    ///
    /// The input is CSV, with a header and with commas, semicolons or tabs, or it is one JSON
    /// object a line. What its rows become is said by a [`Template`]. They go to
    /// [`endpoint`](FileRun::endpoint). Everything else is as in [`jsonl`](Self::jsonl); the
    /// [guide](crate::_guide::batch_files#rows-of-a-table) has more.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (reviews, answers) = (folder.path().join("reviews.csv"), folder.path().join("out.jsonl"));
    /// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"choices":[{"message":{"content":"good"}}]}"#.to_vec(),
    /// #     ..tollgate::HttpResponse::default()
    /// # }));
    /// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
    /// use tollgate::Template;
    ///
    /// std::fs::write(&reviews, "id,text\n7,\"Well made, and cheap.\"\n8,Broke at once.\n")?;
    /// let template = Template::new("gpt-5", "Is this review good or bad? {{ text }}").id("id");
    /// let summary = client.rows(&reviews, &answers, template).run()?;
    /// assert_eq!(summary.progress.succeeded, 2);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rows")]
    pub fn rows(
        &self,
        input: impl Into<PathBuf>,
        output: impl Into<PathBuf>,
        template: Template,
    ) -> FileRun<'static> {
        self.jsonl(input, output).rows(template)
    }
}

impl FileRun<'_> {
    /// A run over files whose names are complete.
    pub(crate) fn over(client: &Client, files: RunFiles) -> Self {
        Self {
            client: client.clone(),
            files,
            choices: Choices::default(),
            on_progress: Box::new(|_| {}),
        }
    }

    /// Where failed rows go. Default: a file beside the output, `out.errors.jsonl` for
    /// `out.jsonl` or `out.results.jsonl`. If results go to standard output, failures do, too.
    pub fn errors(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.errors = Location::new(&path.into());
        self
    }

    /// Where rows without a `url` go. Default: `/v1/chat/completions`.
    pub fn endpoint(mut self, path: impl Into<String>) -> Self {
        self.choices.format.endpoint = path.into();
        self
    }

    /// Takes every line of the input as a prompt, with the id `line-N`, where N is the number of
    /// the line. Each becomes a request to `model`, with `max_tokens` as the most tokens of its
    /// answer and `system` as its system message. `None` leaves the field out.
    pub fn prompts(mut self, model: &str, max_tokens: Option<u64>, system: Option<&str>) -> Self {
        let mut template = Chat::new((), model);
        if let Some(text) = system {
            template = template.system(text);
        }
        if let Some(tokens) = max_tokens {
            template = template.max_tokens(tokens);
        }
        self.choices.format.prompts = Some(template);
        self
    }

    /// Takes the input as rows of a table.
    #[cfg(feature = "rows")]
    pub(crate) fn rows(mut self, template: Template) -> Self {
        self.choices.template = Some(template);
        self
    }

    /// Sets a field of the request that each prompt becomes, such as `temperature`. Only behind
    /// [`prompts`](FileRun::prompts).
    ///
    /// ```no_run
    /// # let client = tollgate::Client::from_env()?;
    /// let run = client.jsonl("prompts.txt", "out.jsonl").prompts("gpt-5", None, None);
    /// run.param("max_completion_tokens", 500).param("reasoning_effort", "low").run()?;
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn param(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        if let Some(prompts) = self.choices.format.prompts.take() {
            self.choices.format.prompts = Some(prompts.set(name, value));
        } else {
            let why = "fields can be set for prompts only: lines that are requests have their own";
            self.choices.refused = Some(config(why).with_settings(&["param", "prompts"]));
        }
        self
    }

    /// Sends the rows of one of `count` shards of the input: that with the number `index`, from 0.
    /// Default: all rows.
    ///
    /// `count` processes that have a shard each send every row once. A row is in the shard
    /// CRC-32(`custom_id`) mod `count`. Give each shard an output of its own; the
    /// [guide](crate::_guide::shards) has more. [`run`](FileRun::run) refuses an `index` that is
    /// not below `count`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let input = folder.path().join("in.jsonl");
    /// # let output = |index| folder.path().join(format!("out-{index}.jsonl"));
    /// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"choices":[{"message":{"content":"Hi!"}}]}"#.to_vec(),
    /// #     ..tollgate::HttpResponse::default()
    /// # }));
    /// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
    /// let row = |n| format!("{{\"custom_id\":\"row-{n}\",\"body\":{{\"model\":\"m\",\"messages\":[]}}}}\n");
    /// std::fs::write(&input, (1..=100).map(row).collect::<String>())?;
    ///
    /// let mut answered = 0;
    /// for index in 0..4 {
    ///     let summary = client.jsonl(&input, output(index)).shard(index, 4).run()?;
    ///     answered += summary.progress.succeeded;
    /// }
    /// assert_eq!(answered, 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn shard(mut self, index: u32, count: u32) -> Self {
        match Shard::new(index, count) {
            Ok(shard) => self.choices.format.shard = Some(shard),
            Err(error) => self.choices.refused = Some(error.with_settings(&["shard"])),
        }
        self
    }

    /// Writes results in the order of the input. Default: no, they are written as they finish.
    ///
    /// A run that carries on with an output appends to it. At the end of the input it sorts the
    /// whole output, by writing a new file and renaming it. Sorting takes 56 bytes of memory for
    /// each row.
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.choices.ordered = ordered;
        self
    }

    /// Writes only the fields of the provider's own format. Default: no, each record has a field
    /// `tollgate` with attempts, waits and usage.
    pub fn strict(mut self, strict: bool) -> Self {
        self.choices.strict = strict;
        self
    }

    /// Empties the output and starts anew. Default: no.
    ///
    /// A [simulated](FileRun::simulated) run empties only an output of simulated answers.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.choices.journal.overwrite = overwrite;
        self
    }

    /// Sends again the rows that failed for good in an earlier run, such as a request that the
    /// provider calls invalid. Default: no, only rows that may succeed this time are sent again.
    pub fn retry_failed(mut self, retry: bool) -> Self {
        self.choices.journal.retry_failed = retry;
        self
    }

    /// Keeps the answers of rows whose request has changed since they were answered. Default: no,
    /// an input with such rows is an error, because the answer in the output is not theirs.
    pub fn force_resume(mut self, force: bool) -> Self {
        self.choices.journal.force_resume = force;
        self
    }

    /// Marks the records as simulated. Default: no.
    ///
    /// A file never holds both simulated answers and others.
    pub fn simulated(mut self, simulated: bool) -> Self {
        self.choices.journal.simulated = simulated;
        self
    }

    /// When results are synced to the disk. Default: once a second, and at the end.
    ///
    /// ```no_run
    /// # fn main() -> tollgate::Result<()> {
    /// use tollgate::{Client, Fsync};
    ///
    /// let run = Client::from_env()?.jsonl("in.jsonl", "out.jsonl");
    /// run.fsync(Fsync::Always).run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fsync(mut self, fsync: Fsync) -> Self {
        self.choices.journal.fsync = fsync;
        self
    }

    /// Moves damaged lines of the output to a file beside it, whose name ends in `.rejected`, and
    /// sends their requests again. Default: no, a damaged line is an error that names it.
    ///
    /// An incomplete last line is removed in any case. A file without a single record is an error
    /// in any case.
    pub fn repair(mut self, repair: bool) -> Self {
        self.choices.journal.repair = repair;
        self
    }

    /// What model tokens cost: for the summary, the records and [`max_cost`](FileRun::max_cost).
    /// Default: unknown.
    pub fn price(mut self, price: Price) -> Self {
        self.choices.limits.price = Some(price);
        self
    }

    /// Stops this run when it has spent so many US dollars, counted by its
    /// [`price`](FileRun::price). Default: no limit. The amount is an `f64`, an `i32` or a [`Usd`];
    /// what is no amount is an error of [`run`](FileRun::run).
    ///
    /// At the limit nothing more is sent, and nothing is tried again. Requests in flight are
    /// finished and their results written, so the run may spend more than the limit by what those
    /// cost. [`Summary::stopped`] is then of kind [`ErrorKind::Budget`]. A rerun
    /// carries on and may spend as much again.
    ///
    /// The tokens counted are those the provider reports in its answers. An answer without a report
    /// counts nothing. An attempt that may have been billed although its answer never came counts
    /// as [an estimate](FileProgress::estimated_cost).
    ///
    /// ```no_run
    /// # fn main() -> tollgate::Result<()> {
    /// # let client = tollgate::Client::from_env()?;
    /// let summary = client
    ///     .jsonl("in.jsonl", "out.jsonl")
    ///     .price(tollgate::Price::per_million(0.15, 0.60)?)
    ///     .max_cost(2.50)
    ///     .run()?;
    /// println!("{} USD", summary.progress.cost.unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_cost<D>(mut self, dollars: D) -> Self
    where
        D: TryInto<Usd>,
        Error: From<D::Error>,
    {
        match dollars.try_into() {
            Ok(most) => self.choices.limits.max_cost = Some(most),
            Err(error) => {
                let error = Error::from(error).with_settings(&["max_cost"]);
                self.choices.refused = Some(error);
            }
        }
        self
    }

    /// As [`max_cost`](FileRun::max_cost), for model tokens of prompts and answers together.
    /// Default: no limit.
    pub fn token_budget(mut self, tokens: u64) -> Self {
        self.choices.limits.max_tokens = Some(tokens);
        self
    }

    /// Further columns of a table, behind `answer` and in this order. Default: none.
    ///
    /// An output whose name ends in `.csv` or `.tsv` is a table: the columns of the input, and
    /// `answer`. It has the rows of the input, in their order. It is written when the run
    /// ends, however that is, and a rerun replaces it. The records, which a rerun carries on with,
    /// are in a file beside it, `out.csv.jsonl` for `out.csv`. The
    /// [guide](crate::_guide::batch_files#tables-of-answers) has all of it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (reviews, answers) = (folder.path().join("reviews.csv"), folder.path().join("out.csv"));
    /// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"choices":[{"message":{"content":"good"},"finish_reason":"stop"}]}"#.to_vec(),
    /// #     ..tollgate::HttpResponse::default()
    /// # }));
    /// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
    /// use tollgate::{Column, Template};
    ///
    /// std::fs::write(&reviews, "id,text\n7,\"Well made, and cheap.\"\n")?;
    /// let run = client.rows(&reviews, &answers, Template::new("m", "{{ text }}"));
    /// run.columns([Column::FinishReason]).run()?;
    /// let table = std::fs::read_to_string(&answers)?;
    /// assert_eq!(table, "id,text,answer,finish_reason\n7,\"Well made, and cheap.\",good,stop\n");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rows")]
    pub fn columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.choices.table.set_columns(columns);
        self
    }

    /// In a table, gives each top-level key of answers that are JSON objects a column. Default: no.
    #[cfg(feature = "rows")]
    pub fn json_answer(mut self, json_answer: bool) -> Self {
        self.choices.table.json_answer = json_answer;
        self
    }

    /// In a table, writes answers as they are. Default: no, in the columns that are added a text
    /// gets an apostrophe in front if a spreadsheet would run it, as it begins with `=`, `+`, `-`
    /// or `@` and is no number.
    #[cfg(feature = "rows")]
    pub fn raw_cells(mut self, raw_cells: bool) -> Self {
        self.choices.table.raw_cells = raw_cells;
        self
    }

    /// Calls `look` with the progress of the run: before the first request, about every 25 ms, and
    /// at the end. It is called on the thread that called [`run`](FileRun::run).
    pub fn on_progress<'q>(self, look: impl FnMut(&FileProgress) + 'q) -> FileRun<'q> {
        FileRun {
            on_progress: Box::new(look),
            client: self.client,
            files: self.files,
            choices: self.choices,
        }
    }

    /// Runs it. Requests are sent by other threads, results are written by this one.
    ///
    /// A run that stops early is no error: its results are written, [`Summary::stopped`] says why
    /// it stopped, and a rerun carries on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], before anything is sent, names the file, the line or the setting.
    /// [`ErrorKind::Io`]: a file cannot be read or written, or no thread can be started.
    pub fn run(self) -> Result<Summary> {
        let opened = Instant::now();
        match self.run_opened(opened) {
            // A cancel before there was anything to write.
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(Summary {
                stopped: Some(error),
                wall: opened.elapsed(),
                ..Summary::default()
            }),
            outcome => outcome,
        }
    }

    /// How to treat what is in the output, once it is sure that the settings go together.
    pub(super) fn checked(&self) -> Result<JournalOptions> {
        if let Some(error) = &self.choices.refused {
            return Err(error.clone());
        }
        let options = self.choices.journal;
        for (is_set, pair) in [
            (options.retry_failed, &["overwrite", "retry_failed"]),
            (options.force_resume, &["overwrite", "force_resume"]),
            (options.repair, &["overwrite", "repair"]),
        ] {
            if options.overwrite && is_set {
                let why =
                    "overwrite deletes what the other setting works on: leave one of them out";
                return Err(config(why).with_settings(pair));
            }
        }
        self.choices.limits.check()?;
        Ok(options)
    }

    fn run_opened(self, opened: Instant) -> Result<Summary> {
        let options = self.checked()?;
        let files = self.files;
        files.check()?;
        let in_flight = self.client.settings().limiter.concurrency();
        let mut locks = Locks::take(&files, in_flight)?;
        let outside = self.client.settings().cancel.clone();
        let (mut input, format) = self.choices.open(&files.input, &outside)?;
        #[cfg(feature = "rows")]
        let table = RunTable::new(&files, &format, options, self.choices.table)?;
        // No file is changed before all of them have been read.
        let (index, state) = recover(&files, options, &outside)?;
        // A stream can be read only once.
        let scan = match &mut input {
            OpenInput::Stream(_) => None,
            OpenInput::Regular(file) => {
                let found = scan(&*file, &files.input, &format, &index, &outside)?;
                file.rewind()
                    .map_err(|error| files.input.unreadable(error))?;
                Some(found)
            }
        };
        // Simulated answers cost nothing, those that were lost included.
        let lost = locks.left_in_flight().filter(|_| !options.simulated);
        let found = ResumeInfo::new(&index, &state, scan.as_ref(), lost);
        // The answers that are there are sorted among the new ones at the end.
        let note_order = self.choices.ordered && (index.done() > 0 || index.puts_rows_last());
        let journal = Journal::open(&files, options, &state, &index, &outside)?;
        locks.begin();
        let index = Arc::new(index);
        let is_stream = scan.is_none();
        let tally = Tally::new(self.choices.limits, scan.as_ref(), found, opened);
        let tally = Arc::new(tally);
        let additions = format.additions();
        let scan = scan.unwrap_or_else(|| InputScan {
            occurrences: format.names_rows().then(Occurrences::default),
            ..InputScan::default()
        });
        let rows = Rows {
            location: files.input,
            lines: format.lines(input.into_read()),
            format,
            index: Arc::clone(&index),
            cancel: outside.clone(),
            order: note_order.then(Vec::new),
            tally: Arc::clone(&tally),
            seen: is_stream.then(HashMap::new),
            later: VecDeque::new(),
            passed_over: scan.passed_over.into_iter().peekable(),
            occurrences: scan.occurrences,
        };
        // Counters of its own: what the client did before is no part of this run's summary.
        let client = self.client.with_monitor(&Monitor::new());
        let mut settings = client.settings().clone();
        settings.cancel = outside.child();
        let job = send_rows(client.endpoint(), Arc::clone(&tally), additions);
        let clock = client.limiter().clock();
        let now = clock.now();
        let mut writer = Writer {
            client: client.clone(),
            cancel: settings.cancel.clone(),
            outside,
            ends: settings.deadline.and_then(|time| now.checked_add(time)),
            journal,
            locks: &mut locks,
            records: RecordWriter::new(self.choices.strict, options.simulated, clock.clone()),
            order: self.choices.ordered.then(Reorder::new),
            tally,
            index,
            on_progress: self.on_progress,
            state: WriterState::default(),
        };
        // The user learns what there is to do before any of it is done.
        writer.report();
        let feed = if is_stream {
            Feed::detached(rows.fuse())
        } else {
            Feed::Here(Box::new(rows.fuse()))
        };
        let sent = settings.for_each(job, feed, &mut writer);
        let outcome = sent.and_then(|()| writer.finish());
        #[cfg(feature = "rows")]
        let outcome = match table {
            Some(table) => table.close(outcome, opened),
            None => outcome,
        };
        outcome
    }
}

impl fmt::Debug for FileRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRun")
            .field("client", &self.client)
            .field("ordered", &self.choices.ordered)
            .finish_non_exhaustive()
    }
}
