//! tollgate's limiter beside governor: the program `limiter` in a process of its own for each
//! measurement, in turn, and the table of it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use peers::Result;
use peers::gate::{Gate, Grants};

use crate::contenders::{self, Profile};
use crate::report::median;
use crate::sitting::measured;

const LIMITERS: [&str; 2] = ["tollgate", "governor"];
/// governor on its own clock, and on the one that tollgate reads.
const TRIED: [&str; 3] = ["tollgate", "governor", "governor by Instant"];
const PER_SECOND: u32 = 1_000;
const TRIES: usize = 5_000_000;

pub(crate) fn measure(rounds: usize, smoke: bool) -> Result<String> {
    let program = contenders::build("limiter", "limiter", Profile::Release)?;
    let shrink = if smoke { 10 } else { 1 };
    let mut text = format!(
        "## Limiter\n\nMedians of {rounds}. A try that is granted, one thread:\n\n\
         | limiter | a try, ns | × governor | × governor by Instant |\n|---|---|---|---|\n"
    );
    let tries = in_turn(&program, rounds, TRIED, |limiter| Gate {
        limiter: format!("{limiter}, try"),
        // Quicker than any processor asks.
        per_second: 1_000_000_000,
        threads: 1,
        grants: TRIES / shrink,
        spend_first: 0,
    })?;
    // CPU, not wall: what else runs here is nobody's cost.
    let nanoseconds = |grants: &[Grants]| {
        let each = grants.iter().map(|one| one.cpu_s).collect();
        median(each) * 1e9 / (TRIES / shrink) as f64
    };
    let [_, governor, by_instant] = tries.each_ref().map(|grants| nanoseconds(grants));
    for (limiter, grants) in TRIED.iter().zip(&tries) {
        let own = nanoseconds(grants);
        let _ = writeln!(
            text,
            "| {limiter} | {own:.1} | {:.2} | {:.2} |",
            own / governor,
            own / by_instant
        );
    }
    let _ = write!(
        text,
        "\ngovernor reads the processor's counter, by quanta. That is cheaper than the system's clock, which \
         tollgate reads, and is set by it once, when the program starts: it does not follow where \
         NTP corrects the other. tollgate's try gives a permit, which counts as in flight and is \
         taken back; governor's gives nothing.\n\n\
         Threads that wait, {PER_SECOND} grants a second, the burst spent before. governor has no \
         blocking wait: its threads check, and sleep as long as it says. *Overtaken*: the most who \
         came later and were let through before.\n\n\
         | threads | limiter | CPU a grant, µs | admitted ÷ rate | grants a thread | overtaken |\n\
         |---|---|---|---|---|---|\n"
    );
    for threads in [64, 1_000] {
        let waits = in_turn(&program, rounds, LIMITERS, |limiter| {
            gate(limiter, threads, shrink)
        })?;
        for (limiter, grants) in LIMITERS.iter().zip(&waits) {
            let wanted = gate(limiter, threads, shrink).grants as f64;
            let figure = |figure: fn(&Grants) -> f64| median(grants.iter().map(figure).collect());
            let _ = writeln!(
                text,
                "| {threads} | {limiter} | {:.1} | {:.4} | {} to {} | {} |",
                figure(|one| one.cpu_s) * 1e6 / wanted,
                wanted / figure(|one| one.wall_s) / f64::from(PER_SECOND),
                grants.iter().map(|one| one.fewest).min().unwrap_or(0),
                grants.iter().map(|one| one.most).max().unwrap_or(0),
                grants.iter().map(|one| one.overtaken).max().unwrap_or(0),
            );
        }
    }
    text.push('\n');
    Ok(text)
}

fn gate(limiter: &str, threads: usize, shrink: usize) -> Gate {
    Gate {
        limiter: limiter.to_owned(),
        per_second: PER_SECOND,
        threads,
        grants: 10_000 / shrink,
        // One second's worth, the burst of both.
        spend_first: PER_SECOND as usize,
    }
}

/// The grants of each limiter, round after round.
fn in_turn<const N: usize>(
    program: &Path,
    rounds: usize,
    limiters: [&str; N],
    gate: impl Fn(&str) -> Gate,
) -> Result<[Vec<Grants>; N]> {
    let mut all = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (limiter, grants) in limiters.iter().zip(&mut all) {
            let gate = gate(limiter);
            eprintln!("limiter: {}, threads: {}", gate.limiter, gate.threads);
            let task = serde_json::to_string(&gate)?;
            grants.push(measured(Command::new(program), &task)?);
        }
    }
    Ok(all)
}
