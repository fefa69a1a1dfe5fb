//! What a run of several processes on one shared allowance needs, and which limit comes next.
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
//! limits, and each of N processes that want some has an N-th of it, in whole units, one at least.
//! A process asks again when it has used its lease up. So a lease of u requests costs a round trip
//! for u requests. With twice the round trip, N processes that each do nothing but ask are granted
//! `N × u` in a round trip, which is never below the rate: the round trip alone slows nothing down.

use std::time::Duration;

use super::Scenario;
use crate::limit::Rate;

/// Several processes that share their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) count: u64,
    /// From asking the store to its answer.
    pub(crate) round_trip: Duration,
}

/// The least that all leases together are worth.
const SHORTEST_LEASE: f64 = 0.1;
/// The leases that a store grants in a second. The guide names this and the figures that follow,
/// and says where they are from.
const STORE: f64 = 10_000.0;
/// Requests in flight from one host to one address: Linux' ports from 32,768 to 60,999.
const PORTS: f64 = 28_232.0;
/// Requests in flight of a process: Linux' 65,530 mappings, of which a thread takes four.
const THREADS: f64 = 16_000.0;
/// Memory of a process, and of a request in flight over TLS with what the kernel keeps for it.
const PROCESS_MIB: f64 = 4.0;
const REQUEST_MIB: f64 = 68.0 / 1024.0;
/// What `memory` among the ceilings is for each process.
const MEMORY_MIB: f64 = 1024.0;
/// Processor time of a request over TLS, in seconds.
const PROCESSOR: f64 = 0.000_37;

/// What a run needs of processes, and how far it is from the limits of these.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Capacity {
    pub(crate) processes: u64,
    /// How many the rates need; `None` without a rate.
    pub(crate) needed: Option<u64>,
    /// How many the ports need if each request in flight has a connection to the same address.
    pub(crate) hosts: u64,
    /// Of a process: the most requests in flight, each a thread and a socket; memory; processors.
    pub(crate) in_flight: u64,
    pub(crate) memory_mib: f64,
    pub(crate) cores: f64,
    /// `None` without a rate: nothing is leased then.
    pub(crate) leases: Option<Leases>,
    /// What holds at how many requests a second, lowest first.
    pub(crate) ceilings: Vec<(Ceiling, f64)>,
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
    /// The share of its time for which a process waits for the store.
    pub(crate) waiting: f64,
}

type PerSecond = f64;

/// Something that ends the growth of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ceiling {
    Requests,
    Tokens,
    InFlight,
    Threads,
    Memory,
    Ports,
    Store,
}

impl Ceiling {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InFlight => "in_flight",
            Self::Threads => "threads",
            Self::Memory => "memory",
            Self::Ports => "ports",
            Self::Store => "store",
        }
    }
}

/// What was found of the attempts of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Attempts in a second.
    pub(super) rate: PerSecond,
    /// Seconds and model tokens of an attempt, on average.
    pub(super) seconds: f64,
    pub(super) tokens: f64,
    /// In all processes together.
    pub(super) in_flight_peak: usize,
}

impl Load {
    /// The attempts in a second that each of the limits on requests and on model tokens allows.
    pub(super) fn allowed(&self, scenario: &Scenario) -> [Option<PerSecond>; 2] {
        let rates = [scenario.request_rate, scenario.token_rate];
        let [requests, tokens] = rates.map(|rate| rate.map(Rate::units_per_second));
        [requests, tokens.map(|rate| rate / self.tokens.max(1.0))]
    }

    /// How many are in flight if only the rates hold the run back, by Little's law.
    pub(super) fn needed(&self, scenario: &Scenario) -> Option<f64> {
        let rate = lowest(self.allowed(scenario))?;
        Some(rate * self.seconds)
    }
}

pub(super) fn capacity(scenario: &Scenario, processes: Processes, load: &Load) -> Capacity {
    let count = processes.count as f64;
    let each = scenario.concurrency.high() as f64;
    let needed = load.needed(scenario);
    let in_flight = (load.in_flight_peak as f64 / count).ceil();
    let [requests, tokens] = load.allowed(scenario);
    let length = lease(processes.round_trip);
    // What is in flight, as a rate.
    let rate = |in_flight: f64| Some(in_flight / load.seconds);
    let store = (count > STORE * length).then_some(STORE);
    let ceilings = [
        (Ceiling::Requests, requests),
        (Ceiling::Tokens, tokens),
        (Ceiling::InFlight, rate(count * each)),
        (Ceiling::Threads, rate(count * THREADS)),
        (
            Ceiling::Memory,
            rate(count * (MEMORY_MIB - PROCESS_MIB) / REQUEST_MIB),
        ),
        (Ceiling::Ports, rate(PORTS)),
        (
            Ceiling::Store,
            store.filter(|_| requests.or(tokens).is_some()),
        ),
    ];
    let mut ceilings: Vec<(Ceiling, f64)> = ceilings
        .into_iter()
        .filter_map(|(what, rate)| Some((what, rate.filter(|rate| rate.is_finite())?)))
        .collect();
    ceilings.sort_by(|one, other| one.1.total_cmp(&other.1));
    Capacity {
        processes: processes.count,
        needed: needed.map(|needed| at_least(concurrency_for(needed) as f64 / each)),
        hosts: at_least(needed.unwrap_or(count * each) / PORTS),
        in_flight: at_least(in_flight),
        memory_mib: PROCESS_MIB + in_flight * REQUEST_MIB,
        cores: load.rate / count * PROCESSOR,
        leases: leases(scenario, processes, load),
        ceilings,
    }
}

/// What all leases together are worth, in seconds.
pub(super) fn lease(round_trip: Duration) -> f64 {
    (2.0 * round_trip.as_secs_f64()).max(SHORTEST_LEASE)
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

fn lowest(rates: [Option<f64>; 2]) -> Option<f64> {
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
