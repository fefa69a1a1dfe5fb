//! A run over a file: rows in, records out, on the thread that asked for it.

use std::fmt;
use std::io::Seek;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::files::{GivenFiles, Location, OpenInput, RunFiles};
use super::format::{Format, Prompts};
use super::journal::{Fsync, Journal, JournalOptions, Locks, Recovered, recover};
use super::lines::Lines;
use super::record::RecordWriter;
use super::rows::{Reading, Rows, send_rows};
use super::scan::scan;
use super::summary::{FileProgress, ResumeInfo, Summary};
use super::tally::{SpendLimits, Tally};
use super::writer::{Writer, WriterState};
use crate::api::{Client, Price, Usd};
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{Feed, Monitor, Reorder};

/// A run over a file of requests, about to begin; see [`Client::jsonl`].
#[must_use = "a run over a file does nothing until `run`"]
pub struct FileRun<'p> {
    client: Client,
    files: RunFiles,
    choices: Choices,
    on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
}

/// What can be chosen about a run.
#[derive(Default)]
struct Choices {
    format: Format,
    ordered: bool,
    strict: bool,
    journal: JournalOptions,
    limits: SpendLimits,
    /// A setting that cannot be kept, told by `run`.
    refused: Option<Error>,
}

impl Client {
    /// A run over a file of requests, one JSON object a line in the OpenAI batch format (or
    /// Anthropic's, or one [prompt](FileRun::prompts) a line), into a file of results in the
    /// batch output format. `-` is standard input and output.
    ///
    /// An output that has results already is carried on with: rows whose `custom_id` it answers
    /// are skipped.
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
        let given = GivenFiles {
            input: &input,
            output: Some(&output),
            errors: None,
            simulate: false,
        };
        FileRun::over(self, RunFiles::complete(&given))
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

    /// Where failed rows go. Default: beside the output, `out.results.jsonl` with
    /// `out.errors.jsonl`; with the results where those go to standard output.
    pub fn errors(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.errors = Location::new(&path.into());
        self
    }

    /// Where rows without a `url` go. Default: `/v1/chat/completions`.
    pub fn endpoint(mut self, path: impl Into<String>) -> Self {
        self.choices.format.endpoint = path.into();
        self
    }

    /// Takes every line of the input as a prompt, with the id `line-N`.
    pub fn prompts(mut self, model: &str, max_tokens: Option<u64>, system: Option<&str>) -> Self {
        self.choices.format.prompts = Some(Prompts::new(model, max_tokens, system));
        self
    }

    /// Writes results in the order of the input. Default: as they finish.
    ///
    /// A run that carries on appends, and puts the whole output in order when it has come to the end
    /// of the input: it is written anew beside itself and takes 56 bytes of memory a row.
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.choices.ordered = ordered;
        self
    }

    /// Leaves out of the records what is not in the provider's own format. Default: no.
    pub fn strict(mut self, strict: bool) -> Self {
        self.choices.strict = strict;
        self
    }

    /// Begins anew, emptying the output, whatever it holds; with
    /// [`simulated`](FileRun::simulated) only one that holds simulated answers. Default: no.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.choices.journal.overwrite = overwrite;
        self
    }

    /// Tries rows again that an earlier run gave up for a reason that will not pass, such as a
    /// request the provider calls invalid. Default: they stay failed; only failures that may pass
    /// are repeated.
    pub fn retry_failed(mut self, retry: bool) -> Self {
        self.choices.journal.policy.retry_failed = retry;
        self
    }

    /// Keeps the answers of rows whose request has changed since. Default: no; an input with such
    /// rows is refused, as the answer on file is not that of the request.
    pub fn force_resume(mut self, force: bool) -> Self {
        self.choices.journal.policy.force_resume = force;
        self
    }

    /// Marks the records as simulated; they are never mixed with others in one file. Default: no.
    pub fn simulated(mut self, simulated: bool) -> Self {
        self.choices.journal.simulated = simulated;
        self
    }

    /// When results are brought to the disk. Default: what has waited for a second, and all of it
    /// at the end.
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

    /// Moves lines of the output that are no records to a file beside it, with `.rejected` behind
    /// its name, and asks for their rows again. Default: such a line, other than a torn one at the
    /// end, is an error that names it; so is a file without a single record, whatever is chosen
    /// here.
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

    /// Stops this run when what it has spent, by its [`price`](FileRun::price), reaches so many US
    /// dollars: a number, or an [`Usd`]. What is no amount is an error of [`run`](FileRun::run).
    /// Default: no bound.
    ///
    /// Nothing more is sent then, not even what would be tried again; what is in flight is finished,
    /// written down, and may cost more than was left. [`Summary::stopped`] is of kind
    /// [`ErrorKind::Budget`](crate::ErrorKind::Budget), and a rerun carries on, with as much again.
    ///
    /// What was spent is what the provider's answers say: those without a usage count nothing, and
    /// neither does an answer that was lost on the way.
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
                self.choices.refused = Some(Error::from(error).with_settings(&["max_cost"]));
            }
        }
        self
    }

    /// As [`max_cost`](FileRun::max_cost), for model tokens: those of prompts and answers together.
    /// Default: no bound.
    pub fn token_budget(mut self, tokens: u64) -> Self {
        self.choices.limits.max_tokens = Some(tokens);
        self
    }

    /// Calls `look` on this thread, at least every 25 ms while it has nothing to write, and at the
    /// end.
    pub fn on_progress<'q>(self, look: impl FnMut(&FileProgress) + 'q) -> FileRun<'q> {
        FileRun {
            on_progress: Box::new(look),
            client: self.client,
            files: self.files,
            choices: self.choices,
        }
    }

    /// Runs it, on this thread and the pool's.
    ///
    /// A run that is stopped early is no error: its [`Summary`] says by what, its results are
    /// written, and a rerun carries on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] before anything is sent, naming the file, the line or the setting;
    /// [`ErrorKind::Io`] for a file that cannot be read or written, or no thread to be had.
    pub fn run(self) -> Result<Summary> {
        let opened = Instant::now();
        match self.run_opened(opened) {
            // Heard before there was anything to write.
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(Summary {
                stopped: Some(error),
                wall: opened.elapsed(),
                ..Summary::default()
            }),
            outcome => outcome,
        }
    }

    fn run_opened(self, opened: Instant) -> Result<Summary> {
        if let Some(error) = &self.choices.refused {
            return Err(error.clone());
        }
        self.choices.limits.check()?;
        let files = self.files;
        files.check()?;
        // Answered rows may wait for their turn, so a kill loses those, too.
        let unwritten = if self.choices.ordered {
            self.client.settings().window()
        } else {
            self.client.settings().limiter.concurrency()
        };
        let mut locks = Locks::take(&files, unwritten)?;
        let format = self.choices.format;
        let mut input = files.input.open_input()?;
        let options = self.choices.journal;
        // Nothing is touched before everything has been looked at.
        let outside = self.client.settings().cancel.clone();
        let Recovered { index, state } = recover(&files, options, &outside)?;
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
        let found = ResumeInfo::new(&index, &state, scan.as_ref(), locks.left_in_flight());
        // What is there already is not where it belongs among the rows to come.
        let note_order = self.choices.ordered && index.done() > 0;
        let journal = Journal::open(&files, options, &state)?;
        locks.begin();
        let index = Arc::new(index);
        let is_stream = scan.is_none();
        let tally = Tally::new(self.choices.limits, scan.as_ref(), found, opened);
        let tally = Arc::new(tally);
        let reading = Reading {
            place: files.input,
            lines: Lines::new(match input {
                OpenInput::Regular(file) => Box::new(file),
                OpenInput::Stream(stream) => stream,
            }),
            format,
            index: Arc::clone(&index),
            cancel: outside.clone(),
            order: note_order.then(Vec::new),
            tally: Arc::clone(&tally),
        };
        let rows = Rows::new(reading, scan).fuse();
        // Counters of its own: what the client did before is no part of this run's summary.
        let client = self.client.with_monitor(&Monitor::new());
        let mut settings = client.settings().clone();
        settings.cancel = outside.child();
        let job = send_rows(client.endpoint(), Arc::clone(&tally));
        let now = client.limiter().clock().now();
        let mut writer = Writer {
            client: client.clone(),
            cancel: settings.cancel.clone(),
            outside,
            ends: settings.deadline.and_then(|time| now.checked_add(time)),
            journal,
            records: RecordWriter::new(self.choices.strict, options.simulated),
            order: self.choices.ordered.then(Reorder::new),
            tally,
            index,
            on_progress: self.on_progress,
            state: WriterState::default(),
        };
        // Whoever looks on learns what there is to do before any of it is done.
        writer.report();
        let feed = if is_stream {
            Feed::detached(rows)
        } else {
            Feed::here(rows)
        };
        settings.for_each(job, feed, &mut writer)?;
        writer.finish()
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
