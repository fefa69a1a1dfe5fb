//! What the benches share: whether they are to measure, the CPU of this process and of those it has
//! started, and medians.
//!
//! Declared as `pub mod common;`, so that what one bench leaves unused is not dead code.

#![allow(clippy::missing_panics_doc, reason = "nobody's API")]

use std::env;
use std::fs;
use std::time::Duration;

/// Whether this is `cargo bench`. Otherwise, under `cargo test --benches`, a bench is only to show
/// that it works, as quickly as it can.
pub fn measuring() -> bool {
    env::args().any(|argument| argument == "--bench")
}

/// CPU time of this process so far, ended threads included, in user and system mode. It comes in
/// ticks of 10 ms, so what is measured should take seconds.
pub fn cpu() -> Duration {
    ticks(14)
}

/// The same for the processes that it has started and waited for.
pub fn children_cpu() -> Duration {
    ticks(16)
}

/// Two fields of the process's own line, counted from 1, user and system.
fn ticks(field: usize) -> Duration {
    // They come after the command's name, the second, which may hold anything but ")".
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("pid (name) state ...");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(field - 3)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // 100 ticks a second on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}

/// In order, the least first.
pub fn sorted<T: PartialOrd>(mut values: Vec<T>) -> Vec<T> {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN here"));
    values
}

/// The middle one.
pub fn median<T: PartialOrd + Copy>(values: Vec<T>) -> T {
    let values = sorted(values);
    values[values.len() / 2]
}
