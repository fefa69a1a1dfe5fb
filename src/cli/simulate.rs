//! `tollgate simulate`: the simulated provider on its own, for tests of other programs.
//!
//! Standard output holds the base URL and nothing else, so that a script can read it.

use std::io::{self, Write};

use super::args::Simulate;
use super::console::Console;
use super::exit::Exit;
use super::format::{count, counted};
use super::signals::Signals;
use crate::sim::{SimServer, SimSpec, SimStats};
use crate::{Error, ErrorKind, Result};

/// Runs until a signal ends it, which is the way to end it.
///
/// # Errors
/// [`ErrorKind::Config`] for a spec that makes no sense, [`ErrorKind::Io`] if the port is taken.
pub(crate) fn simulate(args: &Simulate, console: &Console) -> Result<Exit> {
    let mut signals = Signals::install()?;
    let spec: SimSpec = args.spec.parse().map_err(|error: Error| {
        let message = format!("SPEC {:?}: {error}", args.spec);
        Error::new(ErrorKind::Config, message)
    })?;
    let server = SimServer::builder(spec).port(args.port).start()?;
    let url = server.base_url();
    let told = writeln!(io::stdout(), "{url}").and_then(|()| io::stdout().flush());
    if let Err(error) = told {
        // Whoever started it could not learn where it is.
        return Err(Error::new(ErrorKind::Io, "cannot write to standard output").with_source(error));
    }
    console.say(&format!(
        "simulating a provider: chat completions, completions, embeddings, responses, models; any \
         key\ntry it: OPENAI_BASE_URL={url} OPENAI_API_KEY=any tollgate run prompts.jsonl\nCtrl-C \
         ends it"
    ));
    signals.wait();
    console.say(&closing_line(&server.stats()));
    Ok(Exit::Success)
}

fn closing_line(stats: &SimStats) -> String {
    let mut text = format!(
        "{}: {} answered",
        counted(stats.requests, "request", "requests"),
        count(stats.answered)
    );
    for (number, what) in [
        (stats.limited, "above a limit"),
        (stats.refused, "refused"),
        (stats.errors, "failed as asked"),
        (stats.faults, "broken as asked"),
        (stats.unsent, "not waited for"),
    ] {
        if number > 0 {
            text = format!("{text}, {} {what}", count(number));
        }
    }
    format!(
        "{text}; at most {} at once; {} tokens in prompts, {} in answers",
        count(u64::try_from(stats.in_flight_peak).unwrap_or(u64::MAX)),
        count(stats.prompt_tokens),
        count(stats.completion_tokens)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_names_what_there_was() {
        let stats = SimStats {
            requests: 1_200,
            answered: 1_000,
            limited: 200,
            in_flight_peak: 20,
            prompt_tokens: 9_000,
            completion_tokens: 500,
            ..SimStats::default()
        };
        assert_eq!(
            closing_line(&stats),
            "1,200 requests: 1,000 answered, 200 above a limit; at most 20 at once; 9,000 tokens in \
             prompts, 500 in answers"
        );
    }
}
