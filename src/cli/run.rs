//! The main command: a file of requests goes in, and a file of results comes out.

use std::env;
use std::mem;
use std::sync::Arc;

use super::args::{Money, Run};
use super::config::{self, Config};
use super::console::Console;
use super::exit::Exit;
use super::progress::Display;
use super::signals;
use super::stdout::is_broken_pipe;
use super::summary::{FinalReport, cut_off, write_refusal};
use crate::sync::Mutex;
use crate::{Cancel, ErrorKind, FileProgress, FileRun, Result};

/// Runs it. The exit code says how it went.
///
/// # Errors
/// What kept the run from starting.
pub(crate) fn run(args: &Run, console: &Console) -> Result<Exit> {
    let summary_path = config::summary_path(args)?;
    let refused = |error: &_| write_refusal(summary_path, error, console);
    let config = config::resolve(args, console).inspect_err(refused)?;
    let report = Arc::new(FinalReport {
        console: console.clone(),
        files: config.files.clone(),
        summary: args.summary.clone(),
        concurrency: config.concurrency,
        simulated: config.simulator.is_some(),
        starts_anew: config.starts_anew,
        retry_failed: args.retry_failed,
        key_from: config.key_from.clone(),
        command: env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
    });
    let cancel = Cancel::new();
    // The signal thread reports from here if the run never comes back.
    let latest = Arc::new(Mutex::new(FileProgress::default()));
    let caught = signals::stop_gently(&cancel, args.timeouts.grace, console, {
        let (latest, report) = (Arc::clone(&latest), Arc::clone(&report));
        move |exit| {
            let progress = latest.lock().clone();
            report.close(&cut_off(&progress, None), exit);
        }
    })?;
    let mut display = Display::new(console, args);
    let outcome = file_run(args, &config, &cancel)
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
            refused(&error);
            return Err(error);
        }
        Err(error) => {
            let exit = match is_broken_pipe(&error) {
                true => Exit::Stopped,
                false => Exit::of_error(&error),
            };
            (cut_off(&progress, Some(error)), exit)
        }
    };
    let exit = caught.get().map_or(exit, |signal| exit.max(*signal));
    report.explain(&summary, caught.get().is_some());
    Ok(report.close(&summary, exit))
}

fn file_run(args: &Run, config: &Config, cancel: &Cancel) -> FileRun<'static> {
    let mut client = config.client.clone().with_cancel(cancel);
    if let Some(deadline) = args.timeouts.deadline {
        client = client.with_deadline(deadline);
    }
    let run = FileRun::over(&client, config.files.clone())
        .endpoint(&args.server.endpoint)
        .ordered(args.ordered)
        .strict(args.strict)
        .overwrite(args.overwrite || config.starts_anew)
        .retry_failed(args.retry_failed)
        .force_resume(args.force_resume)
        .fsync(args.fsync)
        .repair(args.repair)
        .simulated(config.simulator.is_some());
    let run = with_money(run, &args.money);
    match &args.prompts.model {
        Some(model) => {
            let prompts = &args.prompts;
            run.prompts(model, prompts.max_tokens, prompts.system.as_deref())
        }
        None => run,
    }
}

fn with_money<'p>(mut run: FileRun<'p>, money: &Money) -> FileRun<'p> {
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
