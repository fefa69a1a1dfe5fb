//! The tool: arguments as typed → a run as resolved → the run, shown → an exit code.
//!
//! Everything here is for one program, `tollgate`; it lives in the library so that it may use what
//! is not public, and is none of its API. `args` is what can be typed (and its manual),
//! `resolve` what is made of it, `run` the main job; `display` shows its progress and
//! `closing` what it came to, all through `console`. The other commands have a file each.

mod args;
mod bar;
mod check;
mod closing;
mod console;
mod demo;
mod display;
mod exit;
mod files;
mod logger;
mod pace;
mod resolve;
mod run;
mod signals;
mod simulate;
mod stdout;
mod units;
mod words;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Cli, Command};
use self::console::{Console, Voice};
use self::exit::Exit;

/// The program, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let (console, outcome) = match Cli::parse().command {
        Command::Run(args) => {
            let (console, look) = display::choose(&args);
            logger::install(&console, args.verbose);
            let outcome = run::run(&args, &console, look);
            (console, outcome)
        }
        Command::Check(args) => {
            let console = Console::new(Voice::People, None);
            let outcome = check::check(&args, &console);
            (console, outcome)
        }
        Command::Simulate(args) => {
            let console = Console::new(Voice::People, None);
            let outcome = simulate::simulate(&args, &console);
            (console, outcome)
        }
        Command::Demo(_) => (Console::new(Voice::People, None), demo::demo()),
    };
    outcome
        .unwrap_or_else(|error| {
            console.error(&error);
            Exit::of_error(&error)
        })
        .into()
}
