//! `tollgate simulate`: the simulated provider on its own, for tests of other programs.
//!
//! Standard output holds the base URL and nothing else, so that a script can read it.

use super::args::Simulate;
use super::console::Console;
use super::exit::Exit;
use super::format::{count, counted};
use super::signals::{Signals, cannot_receive};
use super::stdout;
use crate::sim::{SimServer, SimSpec, SimStats};
use crate::{Error, Result};

/// Runs until a signal ends it.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for a SPEC that makes no sense,
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the port is taken.
pub(crate) fn simulate(args: &Simulate, console: &Console) -> Result<Exit> {
    let mut signals = Signals::install().map_err(cannot_receive)?;
    let named = |error: Error| error.behind(&format!("SPEC {:?}", args.spec));
    let spec: SimSpec = args.spec.parse().map_err(named)?;
    let server = SimServer::builder(spec).port(args.port).start()?;
    let url = server.base_url();
    stdout::write(&format!("{url}\n"))?;
    console.say(&format!(
        "simulating a provider of chat completions, completions, embeddings, responses, \
         moderations, messages, models; it takes any key\n\
         try it: OPENAI_BASE_URL={url} OPENAI_API_KEY=any tollgate run prompts.jsonl\n\
         Ctrl-C ends it"
    ));
    signals.wait();
    console.say(&totals(&server.stats()));
    Ok(Exit::Success)
}

fn totals(stats: &SimStats) -> String {
    let requests = counted(stats.requests, "request", "requests");
    let mut text = format!("{requests}: {} answered", count(stats.answered));
    for (number, what) in [
        (stats.limited, "over a limit"),
        (stats.refused, "refused"),
        (stats.errors, "failed on purpose"),
        (stats.faults, "broken on purpose"),
        (stats.unsent, "gone before the answer"),
    ] {
        if number > 0 {
            text = format!("{text}, {} {what}", count(number));
        }
    }
    let at_once = count(u64::try_from(stats.in_flight_peak).unwrap_or(u64::MAX));
    let (prompts, answers) = (count(stats.prompt_tokens), count(stats.completion_tokens));
    format!("{text}; at most {at_once} at once; {prompts} tokens in prompts, {answers} in answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_name_what_there_was() {
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
            totals(&stats),
            "1,200 requests: 1,000 answered, 200 over a limit; at most 20 at once; 9,000 tokens in \
             prompts, 500 in answers"
        );
    }
}
