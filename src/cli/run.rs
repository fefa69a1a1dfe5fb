//! The main command: a file of requests goes in, and a file of results comes out.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::args::Run;
use super::config;
use super::console::Console;
use super::exit::Exit;
use super::progress::Display;
use super::prompts::with_prompts;
use super::server::with;
use super::signals;
use super::summary::{cut_off, write_refusal};
use crate::jsonl::files::RunFiles;
use crate::sync::Mutex;
use crate::{Cancel, Client, ErrorKind, FileProgress, FileRun, Result};

/// Runs it. The exit code says how it went.
///
/// # Errors
/// What kept the run from starting.
pub(crate) fn run(args: &Arc<Run>, console: &Console) -> Result<Exit> {
    console.install_logger(args.verbose);
    config::check_written(args)?;
    let summary_path = args.summary.as_deref();
    let refused = |error: &_| write_refusal(summary_path, error, console);
    let (client, _simulator, report) = config::resolve(args, console).inspect_err(refused)?;
    let report = Arc::new(report);
    let cancel = Cancel::new();
    let started = Instant::now();
    // The signal thread reports from here if the run never comes back.
    let latest = Arc::new(Mutex::new(FileProgress::default()));
    let caught = signals::stop_gently(&cancel, args.timeouts.grace, console, {
        let (latest, report) = (Arc::clone(&latest), Arc::clone(&report));
        move |exit| {
            let progress = latest.lock().clone();
            report.close(&cut_off(&progress, None, started), exit, true);
        }
    })?;
    let file_run = file_run(args, &client.with_cancel(&cancel), report.files.clone());
    let file_run = file_run.inspect_err(refused)?;
    let mut display = Display::new(console, args);
    let outcome = file_run
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
        // Nothing was begun, so there is nothing to report.
        Err(error) if error.kind() == ErrorKind::Config || progress.read == 0 => {
            refused(&error);
            return Err(error);
        }
        Err(error) => {
            let exit = Exit::of_error(&error);
            (cut_off(&progress, Some(error), started), exit)
        }
    };
    let signal = caught.get();
    let exit = signal.map_or(exit, |signal| exit.max(*signal));
    Ok(report.close(&summary, exit, signal.is_some()))
}

/// A run over `files`, with the settings that the arguments give it.
///
/// # Errors
/// Those of [`with_prompts`] and of the shard.
pub(super) fn file_run(args: &Run, client: &Client, files: RunFiles) -> Result<FileRun<'static>> {
    let client = client.clone();
    let client = with(client, args.timeouts.deadline, Client::with_deadline);
    // Simulated answers cost nothing, and these are in a file of their own.
    let starts_anew = args.starts_anew();
    let run = FileRun::over(&client, files)
        .ordered(args.ordered)
        .strict(args.strict)
        .overwrite(args.overwrite || starts_anew)
        .retry_failed(args.retry_failed && !starts_anew)
        .force_resume(args.force_resume && !starts_anew)
        .fsync(args.fsync)
        .repair(args.repair && !starts_anew)
        .columns(args.table.columns.iter().copied())
        .json_answer(args.table.json_answer)
        .raw_cells(args.table.raw_cells)
        .simulated(args.server.simulate.is_some());
    let (endpoint, provider) = (&args.server.api.endpoint, args.server.api.provider);
    let run = with_prompts(run, &args.input, &args.prompts, endpoint, provider)?;
    let shard = args.sharding.resolve()?;
    let run = with(run, shard, |run, shard| run.shard(shard.index, shard.count));
    let run = with(run, args.money.price, FileRun::price);
    let run = with(run, args.money.max_cost, FileRun::max_cost);
    Ok(with(run, args.money.token_budget, FileRun::token_budget))
}
