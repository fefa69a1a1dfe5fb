//! `tollgate demo`: what concurrency brings, measured live.
//!
//! The same table as in many a post about batches of requests, with the latency it is made with
//! stated, the ideal beside it, and nothing extrapolated but the one line that says so.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::exit::Exit;
use super::format;
use crate::sim::{SimServer, SimSpec};
use crate::{Client, Error, ErrorKind, Result};

const LATENCY: Duration = Duration::from_millis(50);

/// Requests, how many at once, and whether they are sent; one by one, the last would take a minute.
const LINES: [(u32, u32, bool); 8] = [
    (100, 1, true),
    (100, 10, true),
    (100, 20, true),
    (100, 50, true),
    (1_000, 1, false),
    (1_000, 10, true),
    (1_000, 20, true),
    (1_000, 50, true),
];

/// Runs the demonstration, its table on standard output.
///
/// # Errors
/// [`ErrorKind::Io`] if there is no port or no thread to be had, and whatever a request failed of.
pub(crate) fn demo() -> Result<Exit> {
    let server = SimServer::start(SimSpec::default().latency(LATENCY).jitter(0.0))?;
    match table(&server) {
        Ok(()) => Ok(Exit::Success),
        Err(Trouble::Request(error)) => Err(error),
        // Nobody looks any more.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Exit::Stopped)
        }
        Err(Trouble::Output(error)) => {
            let message = "cannot write to standard output";
            Err(Error::new(ErrorKind::Io, message).with_source(error))
        }
    }
}

enum Trouble {
    Request(Error),
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn table(server: &SimServer) -> std::result::Result<(), Trouble> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "A simulated provider on this machine answers each request after {} ms.\n\
         ideal = requests / at once x {} ms; efficiency = ideal / measured\n\n\
         {:>8}  {:>7}  {:>8}  {:>8}  {:>10}",
        LATENCY.as_millis(),
        LATENCY.as_millis(),
        "requests",
        "at once",
        "ideal",
        "measured",
        "efficiency"
    )?;
    for (requests, at_once, live) in LINES {
        let ideal = ideal(requests, at_once);
        write!(
            out,
            "{:>8}  {at_once:>7}  {:>8}  ",
            format::count(requests.into()),
            format::time(ideal)
        )?;
        if live {
            out.flush()?;
            let measured = measure(server, requests, at_once).map_err(Trouble::Request)?;
            let efficiency = 100.0 * ideal.as_secs_f64() / measured.as_secs_f64();
            writeln!(out, "{:>8}  {efficiency:>8.1} %", format::time(measured))?;
        } else {
            writeln!(out, "{:>8}  {:>10}", "-", "computed")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// How long it takes if nothing but the latency takes time.
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
    for reply in replies {
        reply?;
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let live = LINES.iter().filter(|(.., live)| *live);
        let whole: Duration = live
            .map(|(requests, at_once, _)| self::ideal(*requests, *at_once))
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
