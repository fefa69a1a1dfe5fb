//! What a run of several processes that share a limit needs, and which limit comes next.
//!
//! Everything here is a formula over rates and means; the run itself is simulated elsewhere.
//!
//! **In flight.** As many requests are in flight as begin in a second, times the seconds that each
//! takes, whatever the distribution of these (J. D. C. Little, "A Proof for the Queuing Formula:
//! L = λW", Operations Research 9 (3), 1961). So a rate needs `rate × latency ÷ concurrency`
//! processes, and `in flight ÷ latency` is the rate at which something that every request in
//! flight takes runs out.
//!
//! **Leases.** The leases of all processes together are worth `max(100 ms, 2 × round trip)` of the
//! limits, 1 s at most, and each of N processes that want some has an N-th of it, in whole units,
//! one at least. So a lease of u requests costs a round trip for u requests. A process asks for the
//! next a little before it has used up the last, so what it waits for the store is at most the
//! round trips. With twice the round trip, N processes that each do nothing but ask are granted
//! `N × u` in a round trip, which is never below the rate: a round trip of up to 0.5 s slows
//! nothing down.

use std::time::Duration;

use super::Scenario;
use super::engine::RunResult;
use crate::limit::Rate;

/// Several processes that share their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) count: u64,
    /// From asking the store to its answer.
    pub(crate) round_trip: Duration,
}

/// The least and the most that all leases together are worth.
const SHORTEST_LEASE: f64 = 0.1;
const LONGEST_LEASE: f64 = 1.0;
/// The processor time of a store for a lease, in seconds: of each, and for each process that it
/// knows. The guide names this and the figures that follow, and says where they are from.
const LEASE: f64 = 80e-6;
const LEASE_PER_PROCESS: f64 = 1.4e-6;
/// Requests in flight from one host to one address: Linux' ports from 32,768 to 60,999.
const PORTS: f64 = 28_232.0;
/// Requests in flight of a process: Linux' 65,530 mappings, of which a thread takes four.
const THREADS: f64 = 16_000.0;
/// Memory of a process, and of a request in flight over TLS with what the kernel keeps for it.
const PROCESS_MIB: f64 = 4.0;
const REQUEST_MIB: f64 = 72.0 / 1024.0;
/// What `memory` among the ceilings is for each process.
const MEMORY_MIB: f64 = 1024.0;

/// What a run needs of processes, and how far it is from the limits of these.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Capacity {
    pub(crate) processes: u64,
    /// How many the rates need; `None` without a rate.
    pub(crate) needed: Option<u64>,
    /// How many the ports need if each request in flight has a connection to the same address.
    pub(crate) hosts: u64,
    /// `None` without a rate: nothing is leased then.
    pub(crate) leases: Option<Leases>,
    /// What holds at how many requests a second, lowest first.
    pub(crate) ceilings: Vec<Ceiling>,
}

/// What the leases cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Leases {
    /// What all of them together are worth, in seconds.
    pub(crate) length: f64,
    /// The requests of one.
    pub(crate) requests: f64,
    pub(crate) round_trips: PerSecond,
    pub(crate) per_request: f64,
    /// The share of its time for which a process waits for the store, at most.
    pub(crate) waiting: f64,
}

type PerSecond = f64;

/// Something that ends the growth of a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ceiling {
    /// For programs, and for people.
    pub(crate) name: &'static str,
    pub(crate) words: &'static str,
    /// Requests in a second.
    pub(crate) rate: PerSecond,
}

/// What was found of the attempts of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Attempts in a second.
    pub(super) rate: PerSecond,
    /// Seconds and model tokens of an attempt, on average.
    pub(super) seconds: f64,
    pub(super) tokens: f64,
    /// Model tokens of the prompt and of the answer of a request that succeeds.
    pub(super) apart: [f64; 2],
}

impl Load {
    pub(super) fn of(run: &RunResult) -> Self {
        let attempts = run.attempts.max(1) as f64;
        let seconds = run.wire.as_secs_f64() / attempts;
        // Those of a run that begins all at once are there for the time of an answer.
        let sending = run.all_begun.as_secs_f64().max(seconds);
        Self {
            rate: attempts / sending.max(f64::MIN_POSITIVE),
            seconds,
            tokens: run.counted_tokens as f64 / attempts,
            apart: [run.prompt_tokens, run.completion_tokens]
                .map(|tokens| tokens as f64 / run.succeeded.max(1) as f64),
        }
    }

    /// The attempts in a second that each of the limits on requests and on model tokens allows.
    pub(super) fn allowed(&self, scenario: &Scenario) -> [Option<PerSecond>; 2] {
        let rates = [scenario.request_rate, scenario.token_rate];
        let [requests, tokens] = rates.map(|rate| rate.map(Rate::units_per_second));
        [requests, tokens.map(|rate| rate / self.tokens.max(1.0))]
    }

    /// The same of the limits on the model tokens of prompts and of answers apart.
    fn allowed_apart(&self, scenario: &Scenario) -> [Option<PerSecond>; 2] {
        let allowed = |at: usize| {
            let rate = scenario.apart[at]?.units_per_second();
            Some(rate / self.apart[at].max(1.0))
        };
        [0, 1].map(allowed)
    }

    /// How many are in flight if only the rates hold the run back, by Little's law.
    pub(super) fn needed(&self, scenario: &Scenario) -> Option<f64> {
        let allowed = self.allowed(scenario).into_iter();
        let rate = lowest(allowed.chain(self.allowed_apart(scenario)))?;
        Some(rate * self.seconds)
    }
}

pub(super) fn capacity(scenario: &Scenario, processes: Processes, load: &Load) -> Capacity {
    let count = processes.count as f64;
    let each = scenario.concurrency.high() as f64;
    let needed = load.needed(scenario);
    let [requests, tokens] = load.allowed(scenario);
    let length = lease(processes.round_trip);
    // What is in flight, as a rate.
    let rate = |in_flight: f64| Some(in_flight / load.seconds);
    let store = 1.0 / (LEASE + count * LEASE_PER_PROCESS);
    let is_short = count / length > store && requests.or(tokens).is_some();
    let of_processes = |each: f64| rate(count * each);
    let memory = (MEMORY_MIB - PROCESS_MIB) / REQUEST_MIB;
    let ceilings = [
        ("requests", "the limit on requests", requests),
        ("tokens", "the limit on model tokens", tokens),
        (
            "in_flight",
            "the concurrency of all processes",
            of_processes(each),
        ),
        (
            "threads",
            "the threads that a process can have",
            of_processes(THREADS),
        ),
        (
            "memory",
            "1 GiB of memory for each process",
            of_processes(memory),
        ),
        (
            "ports",
            "the ports of one host, if all processes are on it",
            rate(PORTS),
        ),
        (
            "store",
            "the store, with one request in each lease",
            is_short.then_some(store),
        ),
    ];
    let known = ceilings.into_iter().filter_map(|(name, words, rate)| {
        let rate = rate.filter(|rate| rate.is_finite())?;
        Some(Ceiling { name, words, rate })
    });
    let mut ceilings: Vec<Ceiling> = known.collect();
    ceilings.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    Capacity {
        processes: processes.count,
        needed: needed.map(|needed| at_least(concurrency_for(needed) as f64 / each)),
        hosts: at_least(needed.unwrap_or(count * each) / PORTS),
        leases: leases(scenario, processes, load),
        ceilings,
    }
}

/// What all leases together are worth, in seconds.
pub(super) fn lease(round_trip: Duration) -> f64 {
    (2.0 * round_trip.as_secs_f64()).clamp(SHORTEST_LEASE, LONGEST_LEASE)
}

fn leases(scenario: &Scenario, processes: Processes, load: &Load) -> Option<Leases> {
    let (count, length) = (processes.count as f64, lease(processes.round_trip));
    let share = length / count;
    let units = |rate: Option<Rate>| rate.map(|rate| (rate.units_per_second() * share).floor());
    let requests = units(scenario.request_rate);
    let tokens = units(scenario.token_rate).map(|tokens| tokens / load.tokens.max(1.0));
    // No more than are sent in the time of the lease, and one at least.
    let requests = lowest([requests, tokens])?.min(load.rate * share).max(1.0);
    let round_trips = load.rate / requests;
    Some(Leases {
        length,
        requests,
        round_trips,
        per_request: 1.0 / requests,
        waiting: (round_trips / count * processes.round_trip.as_secs_f64()).min(1.0),
    })
}

fn lowest(rates: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    rates.into_iter().flatten().min_by(f64::total_cmp)
}

/// The concurrency that a mean number of requests in flight needs. By Little's law the mean is the
/// rate times the latency. The number in flight varies about as a Poisson process at most, which is
/// seldom more than two standard deviations above its mean.
pub(crate) fn concurrency_for(mean: f64) -> u64 {
    at_least(mean + 2.0 * mean.sqrt())
}

/// A whole number that is at least this, and one at least.
pub(crate) fn at_least(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = number.ceil() as u64;
    whole.max(1)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::super::tests::scenario;
    use super::*;
    use crate::shared::{Ask, Ledger, Limit, Micros, Want};

    const SECOND: Micros = 1_000_000;

    const fn processes(count: u64, round_trip_ms: u64) -> Processes {
        Processes {
            count,
            round_trip: Duration::from_millis(round_trip_ms),
        }
    }

    fn load(rate: f64) -> Load {
        Load {
            rate,
            seconds: 2.0,
            tokens: 500.0,
            apart: [0.0; 2],
        }
    }

    fn limited(rps: u64, tpm: Option<u64>) -> Scenario {
        Scenario {
            request_rate: Some(Rate::per_second(rps)),
            token_rate: tpm.map(Rate::per_minute),
            concurrency: 20.into(),
            ..scenario(1)
        }
    }

    #[track_caller]
    fn close(found: f64, expected: f64, within: f64) {
        let off = (found / expected - 1.0).abs();
        assert!(off < within, "{found} and not {expected}");
    }

    #[test]
    fn what_runs_out_next_is_said_lowest_first() {
        // 600,000 tokens a minute are 20 requests a second.
        let found = capacity(&limited(50, Some(600_000)), processes(8, 1), &load(20.0));
        let names: Vec<_> = found.ceilings.iter().map(|ceiling| ceiling.name).collect();
        let lowest_first = [
            "tokens",
            "requests",
            "in_flight",
            "ports",
            "memory",
            "threads",
        ];
        assert_eq!(names, lowest_first);
        for (found, expected) in
            (found.ceilings.iter()).zip([20.0, 50.0, 80.0, 14_116.0, 58_026.67, 64_000.0])
        {
            close(found.rate, expected, 1e-6);
        }
        // 40 in flight on average, and two standard deviations: 53 of them.
        assert_eq!((found.needed, found.hosts), (Some(3), 1));
    }

    #[test]
    fn without_a_rate_nothing_is_leased_and_the_concurrency_is_first() {
        let found = capacity(&scenario(1), processes(30_000, 1), &load(20.0));
        assert_eq!((found.leases, found.needed), (None, None));
        let [first, second] = [0, 1].map(|at| (found.ceilings[at].name, found.ceilings[at].rate));
        assert_eq!(first, ("ports", 14_116.0));
        assert_eq!(second, ("in_flight", 15_000.0));
        assert_eq!(found.hosts, 2);
        // An answer that takes no time holds nothing.
        let none = Load {
            seconds: 0.0,
            ..load(20.0)
        };
        assert_eq!(capacity(&scenario(1), processes(2, 1), &none).ceilings, []);
    }

    #[test]
    fn a_store_is_a_ceiling_from_so_many_processes_on() {
        let found = |count| capacity(&limited(1_000_000, None), processes(count, 1), &load(9.0));
        let has_store = |found: &Capacity| found.ceilings.iter().any(|it| it.name == "store");
        // 2,000 leases a second of 0.36 ms each, and 3,000 of 0.5 ms.
        assert!(!has_store(&found(200)));
        let many = found(300);
        assert!(has_store(&many));
        assert_eq!(many.ceilings[0].name, "store");
        close(many.ceilings[0].rate, 2_000.0, 1e-6);
    }

    #[test]
    fn leases_cost_what_the_page_says() {
        let cost = |rps, count, ms| {
            let scenario = limited(rps, None);
            leases(&scenario, processes(count, ms), &load(rps as f64)).unwrap()
        };
        // An eighth of 100 ms at 1,000 a second: 12 of 12.5.
        let many = cost(1_000, 8, 1);
        close(many.requests, 12.0, 1e-9);
        close(many.round_trips, 83.3, 1e-3);
        close(many.waiting, 0.010_4, 2e-3);
        assert!(many.per_request < 0.1);
        // One at least, and with a slow store twice its round trip.
        close(cost(2, 8, 1).requests, 1.0, 1e-9);
        let slow = cost(1_000, 8, 100);
        close(slow.length, 0.2, 1e-9);
        close(slow.requests, 25.0, 1e-9);
        close(cost(1_000, 8, 2_000).length, 1.0, 1e-9);
        // Model tokens bind: 100 ms of 100,000 a second are 10,000, for each of 8 two requests.
        let scenario = limited(1_000, Some(6_000_000));
        let tokens = leases(&scenario, processes(8, 1), &load(200.0)).unwrap();
        close(tokens.requests, 2.5, 1e-9);
    }

    /// Round trips a request, the share of the time waited for them, and requests a second, of
    /// processes that always have something to send. They lease from a real account, and use each
    /// unit on its date.
    fn simulated(rps: u64, processes: Processes, seconds: u64) -> (f64, f64, f64) {
        let round_trip = Micros::try_from(processes.round_trip.as_micros()).unwrap();
        let ask = Ask {
            configured: [
                Some(Limit {
                    units: rps,
                    period: SECOND,
                    burst: rps,
                }),
                None,
            ],
            wants: [
                Want {
                    least: 1,
                    most: u64::MAX,
                },
                Want::default(),
            ],
            lease: (2 * round_trip).max(SECOND / 10),
            ..Ask::default()
        };
        let mut ledger = Ledger::default();
        let (mut asks, mut requests) = (0, 0);
        let start = 5 * SECOND;
        let mut next: BinaryHeap<Reverse<(Micros, u64)>> = (0..processes.count)
            .map(|id| Reverse((start, id)))
            .collect();
        while let Some(Reverse((sent, holder))) = next.pop() {
            let now = sent + round_trip / 2;
            if now >= start + seconds * SECOND {
                break;
            }
            let ask = Ask {
                holder,
                ..ask.clone()
            };
            let reply = ledger.exchange(&ask, now, 1);
            let credit: Micros = reply.credit[0].iter().map(|span| span.to - span.from).sum();
            let last = reply.credit[0].last().map_or(now, |span| span.to);
            asks += 1;
            requests += credit * rps / SECOND;
            next.push(Reverse((last.max(sent + round_trip), holder)));
        }
        let (asks, requests, time) = (f64::from(asks), requests as f64, seconds as f64);
        let waited = asks * processes.round_trip.as_secs_f64();
        (
            asks / requests,
            waited / processes.count as f64 / time,
            requests / time,
        )
    }

    #[test]
    fn leases_cost_what_they_do_on_a_real_account() {
        for (rps, count, ms) in [
            (1_000, 8, 1),
            (1_000, 8, 50),
            (200, 8, 1),
            (200, 3, 200),
            (50, 1, 20),
            (10_000, 50, 5),
            (5, 8, 30),
        ] {
            let processes = processes(count, ms);
            let told = leases(&limited(rps, None), processes, &load(rps as f64)).unwrap();
            let (per_request, waiting, rate) =
                simulated(rps, processes, if rps < 100 { 100 } else { 10 });
            close(rate, rps as f64, 0.03);
            close(told.per_request, per_request, 0.05);
            close(told.waiting, waiting, 0.08);
        }
    }
}
