//! The command line as it is typed.
//!
//! This is the tool's manual as much as its parser: `--help` shows what stands here. Only what can
//! be judged from the arguments alone is checked here. A key is never an argument, as other users
//! of the machine can read those. `run` and `plan` have a file each, `commands` the small commands,
//! and `input` what several commands have.

mod commands;
mod input;
mod plan;
mod run;

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

pub(crate) use self::commands::{Check, Completions, Extract, Merge, Report, Simulate};
pub(crate) use self::input::{OfInput, Prompts, ShardArg, Sharding};
pub(crate) use self::plan::{Answers, Plan};
pub(crate) use self::run::{Limits, Money, ProgressMode, Run, Server, Timeouts};

/// Send many AI-API requests as fast as the provider's limits allow and never faster, and keep
/// every answer that was paid for.
#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Try it, with no key, no network and no cost:
  tollgate run prompts.jsonl --simulate

Exit codes: 0 all succeeded, 1 some requests failed, 2 the command line or the input is wrong,
3 stopped early (run it again to carry on), 4 a local file cannot be written, or read to its end,
129/130/143 ended by SIGHUP, Ctrl-C or SIGTERM. A file to read that cannot be opened, and a
directory that does not exist, are a wrong command line."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<Run>),
    Check(Check),
    Extract(Extract),
    Merge(Box<Merge>),
    Plan(Box<Plan>),
    Report(Report),
    Simulate(Simulate),
    /// Show what concurrency brings: 100 and 1,000 requests of 50 ms each, 1, 10, 20 and 50 at
    /// once.
    ///
    /// The requests are sent to the simulated provider on this machine. Each measurement stands
    /// beside the ideal, requests ÷ concurrency × latency. It takes less than 30 s.
    Demo,
    Completions(Completions),
    /// Print the manual of all commands as a man page.
    ///
    /// To read it: tollgate man | man -l -
    ///
    /// To install it where man looks for the programs of ~/.cargo/bin: mkdir -p
    /// ~/.cargo/share/man/man1; tollgate man > ~/.cargo/share/man/man1/tollgate.1
    Man,
}

/// What is wrong with the arguments, and what may have been meant.
pub(crate) fn with_tip(mut error: clap::Error) -> clap::Error {
    if let Some(tip) = tip(&error, std::env::args()) {
        let tip = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}

/// What may have been meant with these `arguments`, where clap cannot know it.
fn tip(error: &clap::Error, arguments: impl IntoIterator<Item = String>) -> Option<String> {
    let wrong = |kind| match error.get(kind) {
        Some(ContextValue::String(wrong)) => Some(wrong),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let wrong = wrong(ContextKind::InvalidArg)?;
            let mut before = arguments
                .into_iter()
                .take_while(|argument| argument != wrong);
            let is_spec = before.by_ref().last().is_some_and(|it| it == "--simulate");
            is_spec.then(|| format!("a SPEC stands behind an equals sign: '--simulate={wrong}'"))
        }
        ErrorKind::InvalidSubcommand => {
            let wrong = wrong(ContextKind::InvalidSubcommand)?;
            let is_file = Path::new(wrong).is_file();
            is_file.then(|| format!("to send the requests of a file: 'tollgate run {wrong}'"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;
    use crate::Fsync;

    fn run(arguments: &[&str]) -> Result<Run, clap::Error> {
        let words = ["tollgate", "run"].iter().chain(arguments);
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let run = run(&["in.jsonl"]).unwrap();
        assert_eq!(run.limits.concurrency, 20.into());
        assert_eq!(run.timeouts.max_attempts, 6);
        assert_eq!(run.timeouts.timeout, Duration::from_secs(600));
        assert_eq!(run.timeouts.connect_timeout, Duration::from_secs(10));
        assert_eq!(run.timeouts.grace, Duration::from_secs(30));
        assert_eq!(run.timeouts.max_server_delay, Duration::from_secs(600));
        assert_eq!(run.server.api.endpoint, "/v1/chat/completions");
        assert_eq!(run.progress, ProgressMode::Auto);
        assert_eq!(run.fsync, Fsync::default());
        assert!(run.limits.rps.is_none() && run.server.simulate.is_none());
    }

    #[test]
    fn simulate_takes_a_spec_only_behind_an_equals_sign() {
        let spec = |arguments: &[&str]| run(arguments).unwrap().server.simulate;
        assert_eq!(spec(&["--simulate", "in.jsonl"]).as_deref(), Some(""));
        assert_eq!(
            spec(&["in.jsonl", "--simulate=rps=5"]).as_deref(),
            Some("rps=5")
        );
    }

    #[test]
    fn a_dash_is_a_name() {
        let run = run(&["-", "-o", "-"]).unwrap();
        assert_eq!(run.input.to_str(), Some("-"));
        assert_eq!(run.output.unwrap().to_str(), Some("-"));
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error_that_names_the_flag() {
        for (arguments, flag) in [
            (&["in", "--concurrency", "0"][..], "--concurrency"),
            (&["in", "-c", "200-4"], "--concurrency"),
            (&["in", "--rps", "0"], "--rps"),
            (&["in", "--rps", "-1"], "--rps"),
            (&["in", "--rps", "NaN"], "--rps"),
            (&["in", "--rpm", "1e12"], "--rpm"),
            (&["in", "--rps", "1", "--rpm", "60"], "--rpm"),
            (&["in", "--tpm", "0"], "--tpm"),
            (&["in", "--burst", "0"], "--burst"),
            (&["in", "--burst", "5"], "--rps"),
            (
                &["in", "--shared-limit-fallback", "1/8"],
                "--shared-limit-fallback",
            ),
            (&["in", "--warmup", "0"], "--warmup"),
            (&["in", "--price", "1"], "--price"),
            (&["in", "--price", "NaN,1"], "--price"),
            (&["in", "--price=-1,1"], "--price"),
            (&["in", "--max-cost", "1"], "--price"),
            (&["in", "--price", "1,1", "--max-cost", "0"], "--max-cost"),
            (&["in", "--price", "1,1", "--max-cost", "-1"], "--max-cost"),
            (&["in", "--token-budget", "0"], "--token-budget"),
            (&["in", "--timeout", "0"], "--timeout"),
            (&["in", "--deadline", "soon"], "--deadline"),
            (&["in", "--max-server-delay", "never"], "--max-server-delay"),
            (&["in", "--max-attempts", "0"], "--max-attempts"),
            (&["in", "--no-auth", "--api-key-env", "K"], "--no-auth"),
            (
                &["in", "--api-key-file", "f", "--api-key-env", "K"],
                "--api-key-file",
            ),
            (&["in", "--provider", "other"], "--provider"),
            (&["in", "--fsync", "sometimes"], "--fsync"),
            (&["in", "--api-key", "sk-x"], "--api-key"),
            (&["in", "-q", "-v"], "--quiet"),
            (&["in", "--overwrite", "--retry-failed"], "--retry-failed"),
            (&["in", "--simulate", "--base-url=u"], "--base-url"),
            (&["in", "--simulate", "--api-key-env=K"], "--api-key-env"),
            (&["in", "--simulate", "--api-key-file=f"], "--api-key-file"),
            (&["in", "--simulate", "--no-auth"], "--no-auth"),
            (&["in", "--simulate", "--ca-file=f"], "--ca-file"),
            (
                &["in", "--simulate", "--allow-insecure-http"],
                "--allow-insecure-http",
            ),
            (&[], "INPUT"),
        ] {
            let error = run(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            assert!(error.to_string().contains(flag), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for (arguments, kind) in [
            (["tollgate", "--help"], ErrorKind::DisplayHelp),
            (["tollgate", "--version"], ErrorKind::DisplayVersion),
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (kind, 0));
        }
    }

    #[test]
    fn the_other_commands_parse() {
        let cli = Cli::try_parse_from(["tollgate", "simulate", "rps=5", "--port", "8080"]).unwrap();
        assert!(
            matches!(cli.command, Command::Simulate(simulate) if simulate.port == 8080 && simulate.spec == "rps=5")
        );
        let cli = Cli::try_parse_from(["tollgate", "demo"]).unwrap();
        assert!(matches!(cli.command, Command::Demo));
    }
}
