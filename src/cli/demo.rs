//! `tollgate demo`: what concurrency brings, measured live.
//!
//! The table states the latency, and puts the ideal beside each measurement. One line is computed,
//! and says so.

use std::time::{Duration, Instant};

use super::exit::Exit;
use super::format::{count, time};
use super::stdout;
use crate::sim::{SimServer, SimSpec};
use crate::{Client, Result};

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
        Err(error) if stdout::is_broken_pipe(&error) => Ok(Exit::Stopped),
        Err(error) => Err(error),
    }
}

fn table(server: &SimServer) -> Result<()> {
    let latency = LATENCY.as_millis();
    stdout::write(&format!(
        "A simulated provider on this machine answers each request after {latency} ms.\n\
         ideal = requests / at once x {latency} ms; efficiency = ideal / measured\n\n\
         {:>8}  {:>7}  {:>8}  {:>8}  {:>10}\n",
        "requests", "at once", "ideal", "measured", "efficiency"
    ))?;
    for (requests, at_once) in lines() {
        let ideal = ideal(requests, at_once);
        let (number, best) = (count(requests.into()), time(ideal));
        stdout::write(&format!("{number:>8}  {at_once:>7}  {best:>8}  "))?;
        stdout::write(&if ideal < LONGEST {
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
