//! A system that has no locks, or whose time of day steps while a run goes on.

use std::time::{Duration, Instant};

use crate::disk::{Disk, ROWS};

#[test]
fn a_file_system_without_locks_is_warned_of_and_nothing_is_left_beside_the_files() {
    let disk = Disk::new();
    let Some(ended) = disk.shimmed(".lock", "unlockable", &[]) else {
        return;
    };
    let why = "cannot be locked here";
    let ended = ended.code(1).says(&["warning: output \"p.results.jsonl\""]);
    // One for each file.
    assert_eq!(ended.stderr.matches(why).count(), 2, "{ended:#?}");
    assert_eq!(disk.calls("lock"), 2);
    let names = disk.folder.names();
    let expected = ["p.errors.jsonl", "p.jsonl", "p.results.jsonl", "shim.log"];
    assert_eq!(names, expected);
    disk.rerun();
    assert_eq!(disk.provider.count(), ROWS);
}

#[test]
fn a_clock_that_steps_by_hours_changes_neither_pace_nor_patience() {
    let disk = Disk::new();
    let patience = ["--rps", "40", "--timeout", "5m", "--deadline", "10m"];
    let start = Instant::now();
    let Some(ended) = disk.shimmed("p.results.jsonl", "clock", &patience) else {
        return;
    };
    ended
        .code(1)
        .never_says(&["not done yet", "1 retry", "retries"]);
    assert!(disk.calls("clock") > 0, "nobody looked at it");
    // What is over the burst of a second's worth waits for its turn.
    let least = Duration::from_secs_f64((ROWS - 40) as f64 / 40.0);
    assert!(start.elapsed() >= least);
    assert_eq!(disk.provider.count(), ROWS);
    disk.rerun();
    assert_eq!(disk.provider.count(), ROWS);
}
