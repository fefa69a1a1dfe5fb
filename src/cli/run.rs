//! The main job: a file of requests goes in, a file of results comes out, and it is shown how.

use std::env;
use std::error::Error as StdError;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::args::{FsyncWhen, Money, Run};
use super::config::{self, Plan};
use super::console::{Console, OutputMode};
use super::exit::Exit;
use super::progress::{Display, ProgressMode};
use super::signals::{self, Signal};
use super::summary::FinalReport;
use crate::jsonl::files::{Location, RunFiles};
use crate::sync::Mutex;
use crate::{Cancel, Error, ErrorKind, FileProgress, FileRun, Fsync, Result, Summary};

/// Runs it; the answer says how it went.
///
/// # Errors
/// What could not be begun, or could not be kept on file.
pub(crate) fn run(args: &Run, console: &Console, mode: ProgressMode) -> Result<Exit> {
    let plan = config::resolve(args, console)
        .inspect_err(|error| refused(config::refused_summary(args), error, console))?;
    let report = Report {
        console: console.clone(),
        places: plan.places.clone(),
        summary: plan.summary.clone(),
        concurrency: plan.concurrency,
        simulated: plan.simulator.is_some(),
        key_from: plan.key_from.clone(),
    };
    let cancel = Cancel::new();
    // The signal thread reports from here if the run never comes back.
    let latest = Arc::new(Mutex::new(FileProgress::default()));
    let caught = signals::stop_gently(&cancel, args.timeouts.grace, console, {
        let (latest, report) = (Arc::clone(&latest), report.clone());
        move |exit| {
            let progress = latest.lock().clone();
            report.close(&cut_off(&progress, None), exit);
        }
    })?;
    let mut display = Display::new(console, mode, plan.limits);
    let outcome = file_run(args, &plan, &cancel)
        .on_progress(|progress| {
            let _dropped_outside_the_lock = mem::replace(&mut *latest.lock(), progress.clone());
            display.note(progress);
        })
        .run();
    let progress = latest.lock().clone();
    display.close(&progress);

    let (summary, exit) = match outcome {
        Ok(summary) => {
            let exit = Exit::of_summary(&summary);
            (summary, exit)
        }
        Err(error) if error.kind() == ErrorKind::Config => {
            refused(plan.summary.as_deref(), &error, console);
            return Err(error);
        }
        Err(error) => {
            let exit = if is_broken_pipe(&error) {
                Exit::Stopped
            } else {
                Exit::of_error(&error)
            };
            (cut_off(&progress, Some(error)), exit)
        }
    };
    let exit = caught.get().map_or(exit, |signal| exit.and(signal.exit()));
    report.explain(&summary, caught.get());
    Ok(report.close(&summary, exit))
}

/// Nothing was sent. Whoever reads the summary's file would find an older run's.
fn refused(summary: Option<&Path>, error: &Error, console: &Console) {
    let nothing = cut_off(&FileProgress::default(), None);
    write_summary(summary, &nothing, Exit::of_error(error))
        .unwrap_or_else(|unwritten| console.error(&unwritten));
}

fn file_run(args: &Run, plan: &Plan, cancel: &Cancel) -> FileRun<'static> {
    let mut client = plan.client.clone().with_cancel(cancel);
    if let Some(deadline) = args.timeouts.deadline {
        client = client.with_deadline(deadline);
    }
    let run = FileRun::over(&client, plan.places.clone())
        .endpoint(&args.server.endpoint)
        .ordered(args.ordered)
        .strict(args.strict)
        .overwrite(plan.overwrite)
        .retry_failed(args.retry_failed)
        .force_resume(args.force_resume)
        .fsync(match args.fsync {
            FsyncWhen::None => Fsync::None,
            FsyncWhen::Interval => Fsync::default(),
            FsyncWhen::Always => Fsync::Always,
        })
        .repair(args.repair)
        .simulated(plan.simulator.is_some());
    let run = with_terms(run, &args.money);
    match &args.prompts.model {
        Some(model) => {
            let prompts = &args.prompts;
            run.prompts(model, prompts.max_tokens, prompts.system.as_deref())
        }
        None => run,
    }
}

fn with_terms<'p>(mut run: FileRun<'p>, money: &Money) -> FileRun<'p> {
    if let Some(price) = money.price {
        run = run.price(price);
    }
    if let Some(most) = money.max_cost {
        run = run.max_cost(most);
    }
    if let Some(tokens) = money.token_budget {
        run = run.token_budget(tokens);
    }
    run
}

/// Tells what a run came to, on whichever thread finds that it is over.
#[derive(Clone, Debug)]
struct Report {
    console: Console,
    places: RunFiles,
    summary: Option<PathBuf>,
    concurrency: u32,
    simulated: bool,
    key_from: String,
}

impl Report {
    /// Says why a run stopped; a signal and a reader that has gone need no explanation.
    fn explain(&self, summary: &Summary, signal: Option<Signal>) {
        let Some(error) = &summary.stopped else {
            return;
        };
        let expected = error.kind() == ErrorKind::Cancelled && signal.is_some();
        if expected || is_broken_pipe(error) {
            return;
        }
        self.console.error(error);
        if error.kind() == ErrorKind::Auth {
            self.console
                .say(&format!("the key is from {}", self.key_from));
        }
    }

    /// Writes the summary down and shows it. The answer is the exit code, if that could be done or
    /// not.
    fn close(&self, summary: &Summary, mut exit: Exit) -> Exit {
        if let Err(error) = write_summary(self.summary.as_deref(), summary, exit) {
            self.console.error(&error);
            exit = exit.and(Exit::LocalIo);
        }
        if summary.stopped.as_ref().is_some_and(is_broken_pipe) {
            self.console.say(
                "stopped, as the output's reader has gone; only a run with its results in a file \
                 (-o FILE) can be gone on with",
            );
        } else {
            self.tell(summary, exit);
        }
        exit
    }

    fn tell(&self, summary: &Summary, exit: Exit) {
        if self.console.mode() == OutputMode::Json {
            let summary = summary.to_json(exit.code());
            self.console
                .json(&json!({ "event": "summary", "summary": summary }));
            return;
        }
        if summary.requests == 0 && summary.stopped.is_none() {
            self.console.say(&format!(
                "input {} is empty: there is nothing to do",
                self.places.input
            ));
            return;
        }
        let arguments: Vec<OsString> = env::args_os().collect();
        let closing = FinalReport {
            summary,
            places: &self.places,
            concurrency: self.concurrency,
            simulated: self.simulated,
            arguments: &arguments,
        };
        self.console.say(&closing.text());
    }
}

/// What is known of a run that has no summary of its own.
fn cut_off(progress: &FileProgress, stopped: Option<Error>) -> Summary {
    let requests = progress.total.unwrap_or_default().max(progress.done());
    Summary {
        requests,
        not_attempted: requests - progress.done(),
        stopped,
        wall: progress.elapsed,
        progress: progress.clone(),
    }
}

/// Whether somebody downstream has stopped reading, as `head` does: no error.
fn is_broken_pipe(error: &Error) -> bool {
    // A connection can break in the same way.
    if error.kind() != ErrorKind::Io {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::BrokenPipe;
        }
        cause = error.source();
    }
    false
}

/// Puts the summary into its file: a whole one at every moment, the old one or the new.
fn write_summary(path: Option<&Path>, summary: &Summary, exit: Exit) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let text = format!("{:#}\n", summary.to_json(exit.code()));
    replace(path, text.as_bytes()).map_err(|error| {
        let name = Location::File(path.to_owned());
        Error::new(ErrorKind::Io, format!("--summary {name} cannot be written")).with_source(error)
    })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Where a device or a pipe is, a rename would put a file in its place.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh: PathBuf = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&fresh)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _nothing_there = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_replaces_a_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("s.json");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_stays_one() {
        use std::os::unix::fs::FileTypeExt;
        replace(Path::new("/dev/null"), b"gone").unwrap();
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }

    #[test]
    fn a_broken_pipe_is_found_behind_the_message() {
        let broken = |kind: io::ErrorKind| {
            Error::new(ErrorKind::Io, "cannot write").with_source(io::Error::from(kind))
        };
        assert!(is_broken_pipe(&broken(io::ErrorKind::BrokenPipe)));
        assert!(!is_broken_pipe(&broken(io::ErrorKind::StorageFull)));
        assert!(!is_broken_pipe(&Error::new(ErrorKind::Io, "cannot write")));
    }

    #[test]
    fn what_is_known_of_a_run_cut_off_adds_up() {
        let progress = FileProgress {
            total: Some(10),
            succeeded: 3,
            failed: 1,
            skipped: 2,
            ..FileProgress::default()
        };
        let summary = cut_off(&progress, None);
        assert_eq!((summary.requests, summary.not_attempted), (10, 4));
        let unknown = FileProgress {
            total: None,
            ..progress
        };
        assert_eq!(cut_off(&unknown, None).not_attempted, 0);
    }
}
