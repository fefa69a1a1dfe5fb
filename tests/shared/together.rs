//! What processes that share a limit send together.

use std::sync::OnceLock;
use std::time::Duration;

use crate::support::counter::{Arrival, Counter, ok, requests, wait};
use crate::tool::{Folder, KEY, Running, Tool, until};

const RATE: f64 = 100.0;
const BURST: f64 = 10.0;
pub(crate) const FLAGS: [&str; 4] = ["--rps", "100", "--burst", "10"];

/// One of several processes that share what is kept in `limit`, with its own input.
pub(crate) fn sharer(folder: &Folder, server: &Counter, process: usize, flags: &[&str]) -> Tool {
    let store = [&["--shared-limit", "file:limit"], flags].concat();
    sharer_at(folder, server, process, &store)
}

/// The same, of which `flags` say where the limit is kept.
pub(crate) fn sharer_at(folder: &Folder, server: &Counter, process: usize, flags: &[&str]) -> Tool {
    let input = format!("{process}.jsonl");
    let shared = ["run", &input];
    let tool = folder.tool(&[&shared, flags].concat());
    tool.env("OPENAI_BASE_URL", &server.base_url())
        .env("OPENAI_API_KEY", KEY)
}

/// So many of them, started at once, each with `rows` requests.
fn start(folder: &Folder, server: &Counter, processes: usize, rows: usize) -> Vec<Running> {
    let start = |process| {
        folder.write(&format!("{process}.jsonl"), requests(process, rows, 10));
        sharer(folder, server, process, &FLAGS).start()
    };
    (0..processes).map(start).collect()
}

/// At no time had more arrived than a burst, and what the rate allows since before the first
/// process was started. A request can be late and never early, so no slow machine breaks this.
pub(crate) fn never_over(arrivals: &[Arrival], since: Duration) {
    for (before, arrival) in arrivals.iter().enumerate() {
        let most = BURST + RATE * arrival.at.saturating_sub(since).as_secs_f64();
        assert!(
            before as f64 <= most,
            "{before} requests before {arrival:?}"
        );
    }
}

#[test]
fn four_processes_keep_one_limit() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(20), 17);
    let since = server.now();
    for process in start(&folder, &server, 4, 60) {
        process.wait().code(0);
    }
    assert_eq!(server.count(), 240);
    never_over(&server.arrivals(), since);
}

#[test]
fn killed_processes_leave_the_others_their_part() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(20), 17);
    let since = server.now();
    let mut processes = start(&folder, &server, 4, 75);
    until("all of them send", || {
        let arrivals = server.arrivals();
        (0..4).all(|process| arrivals.iter().any(|it| it.process == process))
    });
    // Dropped, each is killed with what it holds.
    processes.truncate(2);
    for process in processes {
        process.wait().code(0);
    }
    let arrivals = server.arrivals();
    for process in 0..2 {
        assert_eq!(
            arrivals.iter().filter(|it| it.process == process).count(),
            75
        );
    }
    never_over(&arrivals, since);
}

#[test]
fn a_pause_that_one_is_told_holds_the_other() {
    let folder = Folder::new();
    let ok = ok(17, "").after(Duration::from_millis(20));
    // A refusal among answers would make its own request wait only.
    let first_refused = OnceLock::new();
    let server = Counter::start(move |arrival, before| {
        let refuses = arrival.process == 0 && before >= 40;
        let until = || *first_refused.get_or_init(|| arrival.at + Duration::from_millis(300));
        if refuses && arrival.at < until() {
            wait(2)
        } else {
            ok.clone()
        }
    });
    let mut processes = start(&folder, &server, 2, 100);
    processes.remove(1).wait().code(0);
    let arrivals = server.arrivals();
    let other: Vec<_> = arrivals.iter().filter(|it| it.process == 1).collect();
    let gaps = other
        .windows(2)
        .map(|two| two[1].at.saturating_sub(two[0].at));
    let longest = gaps.max().unwrap_or_default();
    // It has a request every 20 ms. The pause is 2 s, and it may hear of it a second late.
    assert!(longest > Duration::from_millis(800), "{longest:?}");
}

/// One process may wait longer than the other, and begins a pause that the other may not wait for.
#[test]
fn a_pause_of_another_that_is_too_long_stops_a_run_as_its_own_would() {
    let folder = Folder::new();
    let ok = ok(17, "").after(Duration::from_millis(20));
    let server = Counter::start(move |arrival, before| {
        if arrival.process == 0 && before >= 40 {
            wait(1_200)
        } else {
            ok.clone()
        }
    });
    for process in 0..2 {
        folder.write(&format!("{process}.jsonl"), requests(process, 500, 10));
    }
    let flags = [&FLAGS[..], &["--max-server-delay", "3600"]].concat();
    let _waits = sharer(&folder, &server, 0, &flags).start();
    let flags = [&FLAGS[..], &["--summary", "s.json"]].concat();
    let stopped = sharer(&folder, &server, 1, &flags).run().code(3);
    stopped.says(&["another process", "longer wait", "carry on"]);
    let summary = folder.json("s.json");
    assert_eq!(summary["failed"], 0, "{summary}");
    assert!(summary["not_attempted"].as_u64() > Some(0), "{summary}");
}

#[test]
fn the_summary_and_its_file_name_the_others() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(20), 17);
    folder.write("0.jsonl", requests(0, 50, 10));
    // More than are sent while the others are: it is there to be counted.
    folder.write("1.jsonl", requests(1, 20_000, 10));
    let _other = sharer(&folder, &server, 1, &FLAGS).start();
    until("it sends", || server.count() > 0);
    let flags = [&FLAGS[..], &["--summary", "s.json"]].concat();
    let ended = sharer(&folder, &server, 0, &flags).run().code(0);
    ended.says(&["shared with 1 other process"]);
    let told = &folder.json("s.json")["shared_limit"];
    assert_eq!(told["processes_peak"], 2, "{told}");
    assert!(told["round_trips"].as_u64() > Some(0), "{told}");
}

#[test]
fn the_lowest_limit_holds_and_the_other_is_warned() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(20), 17);
    folder.write("0.jsonl", requests(0, 100, 10));
    folder.write("1.jsonl", requests(1, 100, 10));
    let low = sharer(&folder, &server, 1, &FLAGS).start();
    until("the lower limit is known", || server.count() > 0);
    let high = sharer(&folder, &server, 0, &["--rps", "1000", "--burst", "10"]);
    high.run()
        .code(0)
        .says(&["warning: ", "100 requests a second"]);
    low.wait().code(0);
}

#[test]
fn a_process_without_a_rate_is_told_of_the_others() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::from_millis(20), 17);
    folder.write("0.jsonl", requests(0, 50, 10));
    folder.write("1.jsonl", requests(1, 100, 10));
    let other = sharer(&folder, &server, 1, &FLAGS).start();
    until("the limit is known", || server.count() > 0);
    sharer(&folder, &server, 0, &["-c", "20"])
        .run()
        .code(0)
        .says(&["warning: ", "100 requests a second"]);
    other.wait().code(0);
}
