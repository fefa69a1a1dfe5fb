//! What several processes need, as people and programs read it.

use serde_json::{Map, Value, json};

use super::format::{count, counted, rate, rounded};
use crate::Concurrency;
use crate::plan::{Capacity, Ceiling, Leases};

/// The keys that `--processes` adds. They are documented in the guide, and stay.
pub(super) fn to_json(capacity: &Capacity) -> Map<String, Value> {
    let leases = capacity.leases.map(|leases| {
        json!({
            "length_s": rounded(leases.length, 3),
            "requests": rounded(leases.requests, 3),
            "round_trips_per_s": rounded(leases.round_trips, 3),
            "round_trips_per_request": rounded(leases.per_request, 6),
            "waiting_share": rounded(leases.waiting, 6),
        })
    });
    let ceilings: Vec<Value> = (capacity.ceilings.iter())
        .map(|(what, rate)| json!({ "name": what.as_str(), "requests_per_s": rounded(*rate, 3) }))
        .collect();
    let keys = [
        ("processes", json!(capacity.processes)),
        ("processes_needed", json!(capacity.needed)),
        ("hosts_needed", json!(capacity.hosts)),
        (
            "process",
            json!({
                "in_flight": capacity.in_flight,
                "memory_mib": rounded(capacity.memory_mib, 1),
                "cores": rounded(capacity.cores, 3),
            }),
        ),
        ("leases", json!(leases)),
        ("ceilings", json!(ceilings)),
    ];
    keys.map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

/// The same in aligned lines: labels and facts.
pub(super) fn to_facts(capacity: &Capacity, each: Concurrency) -> Vec<(String, String)> {
    let needed = capacity.needed.map(|needed| {
        let hosts = counted(capacity.hosts, "host has", "hosts have");
        format!(
            "; the rates need {}, and {hosts} ports enough",
            count(needed)
        )
    });
    let processes = format!(
        "{} with -c {each} each{}",
        count(capacity.processes),
        needed.unwrap_or_default()
    );
    let process = format!(
        "{} in flight, each with a thread and a socket; {} MiB, {:.1} % of a core",
        count(capacity.in_flight),
        rate(capacity.memory_mib),
        100.0 * capacity.cores,
    );
    let facts = [
        ("processes", processes),
        ("each", process),
        ("leases", told(capacity.leases)),
        ("limits at", "requests a second".to_owned()),
    ];
    let facts = facts.map(|(label, fact)| (label.to_owned(), fact));
    let ceilings = capacity.ceilings.iter().map(|(what, at)| {
        let what = match what {
            Ceiling::Requests => "the limit on requests",
            Ceiling::Tokens => "the limit on model tokens",
            Ceiling::InFlight => "the concurrency of all processes",
            Ceiling::Threads => "the threads that a process can have",
            Ceiling::Memory => "1 GiB of memory for each process",
            Ceiling::Ports => "the ports of one host, if all processes are on it",
            Ceiling::Store => "the store, with one request in each lease",
        };
        (format!("{:>7}", rate(*at)), what.to_owned())
    });
    facts.into_iter().chain(ceilings).collect()
}

fn told(leases: Option<Leases>) -> String {
    let Some(leases) = leases else {
        return "none, as there is no --rps, --rpm or --tpm to share".to_owned();
    };
    format!(
        "{:.0} ms of the rates, {} requests for each process: {} round trips a second, {:.2} a \
         request; a process waits for the store at most {:.1} % of the time",
        1_000.0 * leases.length,
        rate(leases.requests),
        rate(leases.round_trips),
        leases.per_request,
        100.0 * leases.waiting,
    )
}
