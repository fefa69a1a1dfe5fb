//! The command-line tool: arguments, then a configuration, then a run, then an exit code.
//!
//! This module is no part of the library's API. It lives in the library so that it can use what is
//! not public. `args` defines the arguments and their help, `config` checks them and builds the
//! client, and `run` does the main command. `progress` shows a run while it goes on, `summary` writes
//! its final report, and both write through `console`. Each other command has a file.

mod args;
mod bar;
mod check;
mod config;
mod console;
mod demo;
mod exit;
mod format;
mod logger;
mod parse;
mod progress;
mod rlimit;
mod run;
mod server;
mod signals;
mod simulate;
mod speed;
mod stdout;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Cli, Command};
use self::console::{Console, OutputMode};
use self::exit::Exit;

/// The program, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let (console, outcome) = match Cli::parse().command {
        Command::Run(args) => {
            let console = progress::console(&args);
            logger::install(&console, args.verbose);
            let outcome = run::run(&args, &console);
            (console, outcome)
        }
        Command::Check(args) => {
            let console = Console::new(OutputMode::Text, None);
            let outcome = check::check(&args, &console);
            (console, outcome)
        }
        Command::Simulate(args) => {
            let console = Console::new(OutputMode::Text, None);
            let outcome = simulate::simulate(&args, &console);
            (console, outcome)
        }
        Command::Demo => (Console::new(OutputMode::Text, None), demo::demo()),
    };
    outcome
        .unwrap_or_else(|error| {
            console.error(&error);
            Exit::of_error(&error)
        })
        .into()
}
