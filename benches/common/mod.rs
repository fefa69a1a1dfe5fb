//! What the benches share: CPU and thread counts of this process, and medians.

use std::fs;
use std::time::Duration;

/// CPU time of this process so far, ended threads included, in user and system mode. It comes in
/// ticks of 10 ms, so what is measured should take seconds.
pub(crate) fn cpu() -> Duration {
    // Fields 14 and 15, counted after the command's name, which may hold anything but ")".
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("pid (name) state ...");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // 100 ticks a second on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}

pub(crate) fn sorted<T: PartialOrd>(mut values: Vec<T>) -> Vec<T> {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN here"));
    values
}

pub(crate) fn median<T: PartialOrd + Copy>(values: Vec<T>) -> T {
    let values = sorted(values);
    values[values.len() / 2]
}
