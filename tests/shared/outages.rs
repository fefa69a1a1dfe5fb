//! While the store is gone nothing is sent beyond what is leased, and the tool says so.

use std::fs;
use std::fs::File;
use std::thread::sleep;
use std::time::Duration;

use crate::support::counter::{Counter, requests};
#[cfg(feature = "redis")]
use crate::support::redis_server::{Server, programs};
use crate::together::sharer;
#[cfg(feature = "redis")]
use crate::together::{FLAGS, never_over, sharer_at};
use crate::tool::{Folder, until};

/// Puts something that no state can be written to where the state of the limit is.
fn take_away(folder: &Folder) {
    fs::rename(folder.path("limit"), folder.path("away")).expect("it is there");
    fs::create_dir(folder.path("limit")).expect("its place is free");
}

fn bring_back(folder: &Folder) {
    fs::remove_dir(folder.path("limit")).expect("it is empty");
    fs::rename(folder.path("away"), folder.path("limit")).expect("it is there");
}

#[test]
fn a_run_waits_for_its_store_says_so_once_and_goes_on() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(5), 17);
    folder.write("0.jsonl", requests(0, 60, 10));
    let stderr = File::create(folder.path("stderr")).expect("a writable folder");
    let tool = sharer(&folder, &server, 0, &["--rps", "40", "--burst", "5"]);
    let running = tool.stderr(stderr).start();
    until("it sends", || server.count() > 5);
    take_away(&folder);
    until("it says so", || {
        folder.read("stderr").contains("cannot be reached")
    });
    // What is leased lasts for an eighth of a second.
    sleep(Duration::from_millis(500));
    let sent = server.count();
    sleep(Duration::from_millis(500));
    assert_eq!(server.count(), sent, "sent without the store");
    bring_back(&folder);
    running.wait().code(0);
    let said = folder.read("stderr");
    for once in ["cannot be reached: file:", "is back"] {
        assert_eq!(said.matches(once).count(), 1, "{said}");
    }
    assert_eq!(server.count(), 60);
}

#[test]
fn ctrl_c_ends_a_run_that_waits_for_its_store() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(5), 17);
    folder.write("0.jsonl", requests(0, 500, 10));
    let stderr = File::create(folder.path("stderr")).expect("a writable folder");
    let tool = sharer(&folder, &server, 0, &["--rps", "40", "--summary", "s.json"]);
    let running = tool.stderr(stderr).start();
    until("it sends", || server.count() > 5);
    take_away(&folder);
    until("it says so", || {
        folder.read("stderr").contains("cannot be reached")
    });
    running.interrupt();
    running.wait().code(130);
    assert_eq!(folder.json("s.json")["exit"], 130);
    assert!(folder.read("stderr").contains("carry on"));
    // Brought back, the rest is sent.
    bring_back(&folder);
    let tool = sharer(&folder, &server, 0, &["--rps", "1000"]);
    tool.run().code(0);
    assert_eq!(folder.records("0.results.jsonl").len(), 500);
}

#[test]
fn with_a_share_to_fall_back_on_it_goes_on_at_that() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(5), 17);
    folder.write("0.jsonl", requests(0, 60, 10));
    let flags = [
        "--rps",
        "80",
        "--burst",
        "4",
        "--shared-limit-fallback",
        "share=1/4",
    ];
    let running = sharer(&folder, &server, 0, &flags).start();
    until("it sends", || server.count() > 5);
    take_away(&folder);
    let (sent, gone) = (server.count(), server.now());
    running.wait().code(0);
    let arrivals = server.arrivals();
    assert_eq!(arrivals.len(), 60);
    // 20 a second and a burst of 1, and what was leased or on its way before.
    for (more, arrival) in arrivals[sent..].iter().enumerate() {
        let since = arrival.at.saturating_sub(gone).as_secs_f64();
        assert!(
            (more as f64) < 20.0 * since + 1.0 + 20.0,
            "{more} {arrival:?}"
        );
    }
}

#[cfg(feature = "redis")]
#[test]
fn on_redis_nothing_is_sent_while_it_is_stopped_and_no_burst_when_it_is_back() {
    for program in programs() {
        let redis = Server::start(program, &[]);
        let folder = Folder::new();
        let server = Counter::answering(Duration::from_millis(5), 17);
        let since = server.now();
        let start = |process| {
            folder.write(&format!("{process}.jsonl"), requests(process, 60, 10));
            let url = redis.url("k");
            let flags = [&["--shared-limit", &url], &FLAGS[..]].concat();
            sharer_at(&folder, &server, process, &flags).start()
        };
        let processes: Vec<_> = (0..2).map(start).collect();
        until("it sends", || server.count() > 20);
        redis.freeze();
        // A script may be under way, and what is leased lasts for an eighth of a second.
        sleep(Duration::from_millis(500));
        let sent = server.count();
        sleep(Duration::from_millis(500));
        assert_eq!(server.count(), sent, "sent without the store");
        redis.thaw();
        for process in processes {
            process.wait().code(0);
        }
        assert_eq!(server.count(), 120);
        never_over(&server.arrivals(), since);
    }
}
