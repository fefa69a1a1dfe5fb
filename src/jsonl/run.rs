//! A run over a file: rows in, records out, on the thread that asked for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::{Journal, Opening, Past};
use super::line::{DEFAULT_ENDPOINT, Format, Prompts};
use super::names::{Input, Named, Place, Places};
use super::record::{Extras, Failure, Record, RecordWriter, Response};
use super::rows::{ReadSoFar, Row, Rows, SendRows};
use super::scan::scan;
use super::summary::{FileProgress, Summary};
use crate::api::classify::record_code;
use crate::api::{Client, Failed, Reply, into_error};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{Consumer, Done, Monitor, Reorder};

/// How long the writing thread waits for an outcome before it looks up.
///
/// Short enough for a program that looks for its signals in `on_progress`.
const PATIENCE: Duration = Duration::from_millis(25);
/// How much may be ready to be written before it is, with outcomes coming in without a pause.
const READY: usize = 256 << 10;

/// A run over a file of requests, about to begin; see [`Client::jsonl`].
#[must_use = "a run over a file does nothing until `run`"]
pub struct FileRun<'p> {
    client: Client,
    files: Files,
    endpoint: String,
    prompts: Option<(String, Option<u64>, Option<String>)>,
    ordered: bool,
    strict: bool,
    overwrite: bool,
    retry_failed: bool,
    simulated: bool,
    on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
}

enum Files {
    Named {
        input: PathBuf,
        output: PathBuf,
        errors: Option<PathBuf>,
    },
    #[cfg(feature = "cli")]
    Settled(Places),
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
        FileRun::with_files(
            self,
            Files::Named {
                input: input.into(),
                output: output.into(),
                errors: None,
            },
        )
    }
}

impl FileRun<'_> {
    fn with_files(client: &Client, files: Files) -> Self {
        Self {
            client: client.clone(),
            files,
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            prompts: None,
            ordered: false,
            strict: false,
            overwrite: false,
            retry_failed: false,
            simulated: false,
            on_progress: Box::new(|_| {}),
        }
    }

    /// A run over files that have been settled already.
    #[cfg(feature = "cli")]
    pub(crate) fn over(client: &Client, places: Places) -> Self {
        Self::with_files(client, Files::Settled(places))
    }

    /// Where failed rows go. Default: beside the output, `out.results.jsonl` with
    /// `out.errors.jsonl`; with the results where those go to standard output.
    pub fn errors(mut self, path: impl Into<PathBuf>) -> Self {
        match &mut self.files {
            Files::Named { errors, .. } => *errors = Some(path.into()),
            #[cfg(feature = "cli")]
            Files::Settled(_) => {}
        }
        self
    }

    /// Where rows without a `url` go. Default: `/v1/chat/completions`.
    pub fn endpoint(mut self, path: impl Into<String>) -> Self {
        self.endpoint = path.into();
        self
    }

    /// Takes every line of the input as a prompt, with the id `line-N`.
    pub fn prompts(mut self, model: &str, max_tokens: Option<u64>, system: Option<&str>) -> Self {
        self.prompts = Some((model.to_owned(), max_tokens, system.map(str::to_owned)));
        self
    }

    /// Writes results in the order of the input. Default: as they finish.
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Leaves out of the records what is not in the provider's own format. Default: no.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Begins anew, emptying the output. Default: no.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Tries rows again that an earlier run gave up for a reason that will not pass, such as a
    /// request the provider calls invalid. Default: they stay failed; only failures that may pass
    /// are repeated.
    pub fn retry_failed(mut self, retry: bool) -> Self {
        self.retry_failed = retry;
        self
    }

    /// Marks the records as simulated; they are never mixed with others in one file. Default: no.
    pub fn simulated(mut self, simulated: bool) -> Self {
        self.simulated = simulated;
        self
    }

    /// Calls `look` on this thread, at least every 25 ms while it has nothing to write, and at the
    /// end.
    pub fn on_progress<'q>(self, look: impl FnMut(&FileProgress) + 'q) -> FileRun<'q> {
        FileRun {
            on_progress: Box::new(look),
            client: self.client,
            files: self.files,
            endpoint: self.endpoint,
            prompts: self.prompts,
            ordered: self.ordered,
            strict: self.strict,
            overwrite: self.overwrite,
            retry_failed: self.retry_failed,
            simulated: self.simulated,
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
        let places = self.places()?;
        let format = self.format();
        let input = places.input.open_input()?;
        let total = match &input {
            Input::Regular(_) => Some(look_through(&places.input, &format)?),
            Input::Stream(_) => None,
        };
        let (journal, past) = Journal::open(
            &places,
            Opening {
                overwrite: self.overwrite,
                simulated: self.simulated,
                ordered: self.ordered,
                retry_failed: self.retry_failed,
            },
        )?;
        let past = Arc::new(past);
        if !past.is_empty() && total.is_some() {
            refuse_changed(&places.input, &format, &past)?;
        }
        let source: Box<dyn std::io::Read + Send> = match input {
            Input::Regular(file) => Box::new(file),
            Input::Stream(stream) => stream,
        };
        let (rows, so_far) = Rows::new(
            places.input,
            source,
            format,
            Arc::clone(&past),
            total.is_some(),
        );
        // Counters of its own: what the client did before is no part of this run's summary.
        let client = self.client.with_monitor(&Monitor::new());
        let mut settings = client.settings().clone();
        let outside = settings.cancel.clone();
        settings.cancel = outside.child();
        let mut writer = Writer {
            cancel: settings.cancel.clone(),
            client: client.clone(),
            has_deadline: settings.deadline.is_some(),
            journal,
            records: RecordWriter::new(self.strict, self.simulated),
            results: Vec::new(),
            errors: Vec::new(),
            order: self.ordered.then(Reorder::new),
            so_far: Arc::clone(&so_far),
            failed: 0,
            progress: FileProgress {
                total,
                ..FileProgress::default()
            },
            opened,
            last_record: opened,
            stopped: None,
            broken: None,
            on_progress: self.on_progress,
        };
        let job = SendRows(client);
        if total.is_some() {
            settings.for_each_here(job, rows, &mut writer)?;
        } else {
            settings.for_each_detached(job, rows, &mut writer)?;
        }
        writer.finish(&past, &outside)
    }

    fn places(&self) -> Result<Places> {
        match &self.files {
            #[cfg(feature = "cli")]
            Files::Settled(places) => Ok(places.clone()),
            Files::Named {
                input,
                output,
                errors,
            } => Places::resolve(&Named {
                input,
                output: Some(output),
                errors: errors.as_deref(),
                simulate: self.simulated,
            }),
        }
    }

    fn format(&self) -> Format {
        match &self.prompts {
            Some((model, max_tokens, system)) => Format::Prompts(Prompts::new(
                model,
                *max_tokens,
                system.as_deref(),
                self.endpoint.clone(),
            )),
            None => Format::Requests {
                endpoint: self.endpoint.clone(),
            },
        }
    }
}

impl fmt::Debug for FileRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRun")
            .field("client", &self.client)
            .field("ordered", &self.ordered)
            .finish_non_exhaustive()
    }
}

/// Counts the rows of a file, and refuses duplicate ids before anything is sent.
fn look_through(place: &Place, format: &Format) -> Result<u64> {
    let Input::Regular(file) = place.open_input()? else {
        return Ok(0);
    };
    let survey = scan(file, format).map_err(|error| place.unreadable(error))?;
    survey.refuse_duplicates(&place.to_string())?;
    Ok(survey.rows + survey.bad)
}

/// Looks for rows that have been answered as another request, before anything is sent.
fn refuse_changed(place: &Place, format: &Format, past: &Arc<Past>) -> Result<()> {
    let Input::Regular(file) = place.open_input()? else {
        return Ok(());
    };
    let (rows, so_far) = Rows::new(
        place.clone(),
        Box::new(file),
        format.clone(),
        Arc::clone(past),
        true,
    );
    // Rows are only looked at, as they will be again.
    let _looked_at = rows.count();
    match so_far.failure() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Turns outcomes into records, and records into writes of what is ready.
struct Writer<'p> {
    cancel: Cancel,
    client: Client,
    has_deadline: bool,
    journal: Journal,
    records: RecordWriter,
    results: Vec<u8>,
    errors: Vec<u8>,
    order: Option<Reorder<Outcome>>,
    so_far: Arc<ReadSoFar>,
    /// Rows given up by this run.
    failed: u64,
    progress: FileProgress,
    opened: Instant,
    last_record: Instant,
    stopped: Option<Error>,
    broken: Option<Error>,
    on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
}

type Outcome = Done<Row, Reply, Failed>;

impl Consumer<Row, Reply, Failed> for Writer<'_> {
    fn take(&mut self, done: Outcome) {
        let Some(order) = &mut self.order else {
            self.record(done);
            return;
        };
        order.insert(done.index, done);
        while let Some(done) = self.order.as_mut().and_then(Reorder::pop) {
            self.record(done);
        }
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn lull(&mut self) {
        self.flush();
        self.look();
    }
}

impl Writer<'_> {
    fn record(&mut self, done: Outcome) {
        let Some(row) = done.input else {
            // The reading side panicked: a fault of our own, and the input's end for this run.
            if let Err(failure) = done.result {
                self.broken = Some(into_error(failure, 0, false));
            }
            return;
        };
        let extras = Extras {
            line: Some(row.number),
            hash: row.hash,
            attempts: done.attempts,
            wait: done.waited,
            ..Extras::default()
        };
        match done.result {
            Ok(reply) => self.success(&row, &reply, extras),
            Err(failure) => {
                let error = into_error(failure, done.attempts, done.stopped_run);
                self.failure(&row, &error, extras);
            }
        }
        if self.results.len() + self.errors.len() >= READY {
            self.flush();
            self.look();
        }
    }

    fn success(&mut self, row: &Row, reply: &Reply, mut extras: Extras<'_>) {
        if let Some(usage) = reply.usage() {
            self.progress.prompt_tokens += usage.prompt_tokens;
            self.progress.completion_tokens += usage.completion_tokens;
            extras.prompt_tokens = Some(usage.prompt_tokens);
            extras.completion_tokens = Some(usage.completion_tokens);
        }
        let record = Record {
            dialect: row.dialect,
            custom_id: row.custom_id.as_deref(),
            response: Some(Response {
                status: reply.status(),
                request_id: reply.request_id(),
                body: reply.body(),
            }),
            failure: None,
            extras,
        };
        self.records.write(&mut self.results, &record);
        self.progress.succeeded += 1;
        self.journal.ended(row.custom_id.as_deref());
    }

    /// Records a failed row, unless it is left for a rerun: one that was never attempted, cancelled,
    /// cut by the end of the run, or answered by what stopped it.
    fn failure<'a>(&mut self, row: &Row, error: &'a Error, mut extras: Extras<'a>) {
        if error.stopped_run() {
            self.stopped.get_or_insert_with(|| error.clone());
        }
        let out_of_time = error.kind() == ErrorKind::Deadline && self.has_deadline;
        if out_of_time {
            self.stopped.get_or_insert_with(|| error.clone());
            // Whatever comes later is late, too.
            self.cancel.cancel();
        }
        if error.stopped_run() || out_of_time || error.kind() == ErrorKind::Cancelled {
            return;
        }
        let message = error.to_string();
        extras.code = error.code();
        // A status of success with nothing to use in it needs its reason beside it.
        let answered = error.status().filter(|status| !(200..300).contains(status));
        let record = Record {
            dialect: row.dialect,
            custom_id: row.custom_id.as_deref(),
            response: error.status().map(|status| Response {
                status,
                request_id: error.request_id(),
                body: error.body().unwrap_or_default(),
            }),
            failure: answered.is_none().then(|| Failure {
                code: record_code(error.kind()),
                message: &message,
            }),
            extras,
        };
        self.records.write(&mut self.errors, &record);
        self.failed += 1;
        self.journal.ended(row.custom_id.as_deref());
    }

    fn flush(&mut self) {
        if self.results.is_empty() && self.errors.is_empty() {
            return;
        }
        if self.broken.is_none() {
            let written = self
                .journal
                .write_results(&self.results)
                .and_then(|()| self.journal.write_errors(&self.errors));
            match written {
                Ok(()) => self.last_record = Instant::now(),
                Err(error) => {
                    // Answers that cannot be kept are not worth fetching.
                    self.broken = Some(error);
                    self.cancel.cancel();
                }
            }
        }
        self.results.clear();
        self.errors.clear();
    }

    fn look(&mut self) {
        self.progress.elapsed = self.opened.elapsed();
        self.progress.skipped = self.so_far.skipped();
        self.progress.failed = self.failed + self.so_far.failed();
        self.progress.engine = self.client.monitor().snapshot();
        (self.on_progress)(&self.progress);
    }

    fn finish(mut self, past: &Past, cancelled: &Cancel) -> Result<Summary> {
        if let Some(order) = self.order.take() {
            for done in order.into_rest() {
                self.record(done);
            }
        }
        self.flush();
        self.look();
        let Self {
            journal,
            progress,
            broken,
            so_far,
            opened,
            last_record,
            mut stopped,
            ..
        } = self;
        let closed = journal.close(past);
        if let Some(error) = broken.or(so_far.failure()) {
            return Err(error);
        }
        closed?;
        if stopped.is_none() && cancelled.is_cancelled() {
            stopped = Some(Error::new(ErrorKind::Cancelled, "the run was interrupted"));
        }
        let requests = progress.total.unwrap_or(0).max(so_far.rows());
        Ok(Summary {
            requests,
            not_attempted: requests.saturating_sub(progress.done()),
            stopped,
            wall: last_record.duration_since(opened),
            progress,
        })
    }
}
