//! `tollgate simulate`: the simulated provider on its own, for tests of other programs. `tollgate
//! demo`: what concurrency brings, measured on it.
//!
//! Of `simulate`, standard output holds the base URL and nothing else, so that a script can read
//! it. The table of `demo` states the latency, and puts the ideal beside each measurement. One line
//! of it is computed, and says so.

use std::time::{Duration, Instant};

use super::args::Simulate;
use super::console::Console;
use super::exit::Exit;
use super::format::{count, counted, time};
use super::output;
use super::signals::{Signals, cannot_receive};
use crate::sim::{SimServer, SimSpec, SimStats};
use crate::{Client, Error, Result};

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
    output::write(&format!("{url}\n"))?;
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

/// What became of the requests. Of what there seldom is, it tells what there was.
fn totals(stats: &SimStats) -> String {
    let requests = counted(stats.requests, "request", "requests");
    let (answered, limited) = (count(stats.answered), count(stats.limited));
    let at_once = count(stats.in_flight_peak as u64);
    let others = [
        (stats.refused, "wrong"),
        (stats.errors, "answered with an error"),
        (stats.faults, "cut off"),
        (stats.unsent, "given up by the client"),
        (stats.in_flight as u64, "without an answer yet"),
    ];
    let others = others.into_iter().filter(|(number, _)| *number > 0);
    let others = others.map(|(number, what)| format!(", {} {what}", count(number)));
    let others: String = others.collect();
    format!(
        "{requests}: {answered} answered, {limited} over a limit{others}; at most {at_once} at once"
    )
}

const LATENCY: Duration = Duration::from_millis(50);

const REQUESTS: [u32; 2] = [100, 1_000];
const AT_ONCE: [u32; 4] = [1, 10, 20, 50];

/// What takes longer is computed: 1,000 requests, one by one.
const LONGEST: Duration = Duration::from_secs(30);

/// Measures, with a table on standard output.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if there is no port or no thread, or standard output
/// cannot be written, and whatever a request failed with.
pub(crate) fn demo() -> Result<Exit> {
    let server = SimServer::start(SimSpec::default().latency(LATENCY).jitter(0.0))?;
    match table(&server) {
        Ok(()) => Ok(Exit::Success),
        Err(error) if output::is_broken_pipe(&error) => Ok(Exit::Stopped),
        Err(error) => Err(error),
    }
}

fn table(server: &SimServer) -> Result<()> {
    let latency = LATENCY.as_millis();
    output::write(&format!(
        "A simulated provider on this machine answers each request after {latency} ms.\n\
         ideal = requests / at once x {latency} ms; efficiency = ideal / measured\n\n\
         {:>8}  {:>7}  {:>8}  {:>8}  {:>10}\n",
        "requests", "at once", "ideal", "measured", "efficiency"
    ))?;
    for (requests, at_once) in lines() {
        let ideal = ideal(requests, at_once);
        let (number, best) = (count(requests.into()), time(ideal));
        output::write(&format!("{number:>8}  {at_once:>7}  {best:>8}  "))?;
        output::write(&if ideal < LONGEST {
            let measured = measure(server, requests, at_once)?;
            let efficiency = 100.0 * ideal.as_secs_f64() / measured.as_secs_f64();
            format!("{:>8}  {efficiency:>8.1} %\n", time(measured))
        } else {
            format!("{:>8}  {:>10}\n", "-", "computed")
        })?;
    }
    Ok(())
}

fn lines() -> impl Iterator<Item = (u32, u32)> {
    REQUESTS
        .into_iter()
        .flat_map(|requests| AT_ONCE.map(|at_once| (requests, at_once)))
}

/// How long it takes if only the latency takes time.
fn ideal(requests: u32, at_once: u32) -> Duration {
    LATENCY * requests.div_ceil(at_once)
}

/// How long it takes, connecting included.
fn measure(server: &SimServer, requests: u32, at_once: u32) -> Result<Duration> {
    let client = Client::builder()
        .base_url(server.base_url())
        .no_auth()
        .concurrency(usize::try_from(at_once).unwrap_or(usize::MAX))
        .build()?;
    let prompts: Vec<String> = (1..=requests)
        .map(|number| format!("Say hello to visitor number {number}."))
        .collect();
    let start = Instant::now();
    let replies = client.chat_all("simulated", &prompts);
    let took = start.elapsed();
    replies.into_iter().try_for_each(|reply| reply.map(drop))?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Cli;
    use super::*;

    #[test]
    fn the_help_has_every_field_and_every_word() {
        let tool = Cli::command();
        let help = tool.find_subcommand("simulate").unwrap().get_after_help();
        let help = help.unwrap().to_string();
        let refused = |spec: &str| spec.parse::<SimSpec>().unwrap_err().to_string();
        let (_, fields) = refused("none=1").split_once("it takes ").map(own).unwrap();
        for field in fields.split(", ") {
            assert!(help.contains(&format!("{field}=")), "{field}");
            let (_, takes) = refused(&format!("{field}=?"))
                .split_once("takes ")
                .map(own)
                .unwrap();
            for word in takes.split(", ").filter(|word| !word.contains(' ')) {
                assert!(help.contains(word), "{field}={word}");
            }
        }
    }

    fn own((before, after): (&str, &str)) -> (String, String) {
        (before.to_owned(), after.to_owned())
    }

    #[test]
    fn the_totals_name_what_there_was() {
        let stats = SimStats {
            requests: 1_200,
            answered: 1_000,
            limited: 200,
            in_flight_peak: 20,
            ..SimStats::default()
        };
        assert_eq!(
            totals(&stats),
            "1,200 requests: 1,000 answered, 200 over a limit; at most 20 at once"
        );
        let all = SimStats {
            requests: 1_215,
            refused: 1,
            errors: 2,
            faults: 3,
            unsent: 4,
            in_flight: 5,
            ..stats
        };
        let told = "1,000 answered, 200 over a limit, 1 wrong, 2 answered with an error, 3 cut off, \
                    4 given up by the client, 5 without an answer yet; at most 20 at once";
        assert_eq!(totals(&all), format!("1,215 requests: {told}"));
    }

    #[test]
    fn the_ideal_is_whole_rounds_of_the_latency() {
        for (requests, at_once, milliseconds) in [
            (100, 1, 5_000),
            (100, 50, 100),
            (1_000, 20, 2_500),
            (101, 50, 150),
        ] {
            let ideal = ideal(requests, at_once);
            assert_eq!(ideal, Duration::from_millis(milliseconds));
        }
        let whole: Duration = lines()
            .map(|(requests, at_once)| self::ideal(requests, at_once))
            .filter(|ideal| *ideal < LONGEST)
            .sum();
        assert!(whole < Duration::from_secs(20), "{whole:?}");
    }

    #[test]
    fn a_line_is_measured_through_the_library() {
        let server = SimServer::start(SimSpec::default().latency(LATENCY).jitter(0.0)).unwrap();
        let took = measure(&server, 4, 2).unwrap();
        assert!(took >= ideal(4, 2), "{took:?}");
        assert_eq!(server.stats().answered, 4);
    }
}
