//! The command-line tool: arguments, then a configuration, then a run, then an exit code.
//!
//! This module is no part of the library's API. It lives in the library so that it can use what is
//! not public. `args` defines the arguments and their help, `config` checks them and builds the
//! client: `server` has the provider and the key, `headers` what `-H` gives, and `prompts` what is
//! made of prompts and rows. `sharing` finds the shard of this process, and whom it shares its
//! limits with. `run` does the main command, and `progress` shows it while it goes on. `summary`
//! writes the summary of a run, with the `advice`, and `exit` has the exit codes. Messages go
//! through `console`, and what a command produces through `output`. `signals` acts on Ctrl-C.
//! `parse` reads values as people type them, and `format` writes them as people read them.
//!
//! Each command has a file: `run`, `check`, `extract`, `merge`, `plan`, `report` and `simulate`.
//! `plan` also does `--dry-run`, and `forecast` shows what it finds. `simulate` also does `demo`.
//! `manual` has the completions and the man page.

mod advice;
mod args;
mod check;
mod config;
mod console;
mod exit;
mod extract;
mod forecast;
mod format;
mod headers;
mod manual;
mod merge;
mod output;
mod parse;
mod plan;
mod progress;
mod prompts;
mod report;
mod run;
mod server;
mod sharing;
mod signals;
mod simulate;
mod summary;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command};
use self::console::Console;
use self::exit::Exit;

/// The program, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return unparsed(error).code().into(),
    };
    let console = match &command {
        Command::Run(args) => progress::console(args),
        _ => Console::default(),
    };
    let outcome = match command {
        Command::Run(args) if args.is_dry => plan::dry_run(&args),
        Command::Run(args) => run::run(&args.into(), &console),
        Command::Check(args) => check::check(&args, &console),
        Command::Extract(args) => extract::extract(&args, &console),
        Command::Merge(args) => merge::merge(&args, &console),
        Command::Plan(args) => plan::plan(&args, &console),
        Command::Report(args) => report::report(&args, &console),
        Command::Simulate(args) => simulate::simulate(&args, &console),
        Command::Demo => simulate::demo(),
        Command::Completions(args) => manual::completions(&args),
        Command::Man => manual::man(),
    };
    let exit = outcome.unwrap_or_else(|error| {
        console.error(&error);
        Exit::of_error(&error)
    });
    exit.code().into()
}

/// Shows what is wrong with the arguments; or help or the version, if they ask for it.
fn unparsed(error: clap::Error) -> Exit {
    let error = args::with_tip(error);
    let printed = error.print().map_err(|it| output::unwritable(None, it));
    match printed {
        _ if error.use_stderr() => Exit::Usage,
        Err(error) if !output::is_broken_pipe(&error) => {
            Console::default().error(&error);
            Exit::LocalIo
        }
        _ => Exit::Success,
    }
}
