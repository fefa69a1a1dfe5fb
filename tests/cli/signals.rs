//! Ctrl-C once, twice, and its kin.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder, KEY, Running, request};

/// Less than the grace of 30 s, and more than any machine takes to end a process.
const SOON: Duration = Duration::from_secs(20);

fn send(running: &Running, signal: Signal) {
    let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("it is running");
}

fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < SOON, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Until the server has heard of so many requests.
fn until_asked(server: &Faultd, requests: usize) {
    until("so many requests", || server.count() >= requests);
}

/// Until the tool has said that it is stopping; what it said before is lost.
fn until_it_says_so(running: &mut Running) {
    let stderr = running.child().stderr.take().expect("a pipe");
    let mut lines = BufReader::new(stderr).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("stopping"))));
}

#[test]
fn the_first_lets_what_is_in_flight_finish_and_says_how_to_go_on() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
        let folder = Folder::new();
        folder.requests(6);
        let slow = Faultd::script(|_| Reply::ok_chat("hello").after(Duration::from_millis(700)));
        let arguments = ["run", "p.jsonl", "-c", "2", "--summary", "s.json"];
        let running = folder.tool(&arguments).at(&slow).start();
        until_asked(&slow, 2);
        send(&running, signal);
        let ended: Ended = running.wait().code(code);
        ended
            .says(&[
                "stopping",
                "2 of 6 requests",
                "4 not done yet",
                "tollgate run p.jsonl -c 2",
            ])
            .never_says(&["error"]);
        assert_eq!(slow.count(), 2, "sent after the signal");
        assert_eq!(folder.records("p.results.jsonl").len(), 2);
        assert_eq!(folder.json("s.json")["exit"], code);

        let fast = Faultd::replies([Reply::ok_chat("hello")]);
        folder.tool(&["run", "p.jsonl"]).at(&fast).run().code(0);
        assert_eq!(fast.count(), 4);
        assert_eq!(folder.records("p.results.jsonl").len(), 6);
    }
}

#[test]
fn the_second_ends_it_at_once() {
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let folder = Folder::new();
        folder.requests(6);
        let server = Faultd::script(|seen| match seen.index {
            0 => Reply::ok_chat("hello"),
            _ => Reply::stall(),
        });
        let mut running = folder
            .tool(&["run", "p.jsonl", "-c", "2"])
            .at(&server)
            .start();
        until_asked(&server, 3);
        until("the first answer is on file", || {
            folder.has("p.results.jsonl") && folder.read("p.results.jsonl").ends_with('\n')
        });
        send(&running, Signal::INT);
        until_it_says_so(&mut running);
        let start = Instant::now();
        send(&running, second);
        running.wait().code(code);
        assert!(start.elapsed() < SOON);
        assert_eq!(folder.records("p.results.jsonl").len(), 1);
    }
}

#[test]
fn when_the_grace_is_over_connections_are_closed() {
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::script(|_| Reply::stall());
    let arguments = ["run", "p.jsonl", "--grace", "100ms", "--summary", "s.json"];
    let running = folder.tool(&arguments).at(&server).start();
    until_asked(&server, 2);
    send(&running, Signal::INT);
    running
        .wait()
        .code(130)
        .says(&["closing the connections", "2 not done yet"]);
    let summary = folder.json("s.json");
    assert_eq!(
        (&summary["exit"], &summary["not_attempted"]),
        (&130.into(), &2.into())
    );
}

#[test]
fn a_standard_input_that_says_nothing_holds_nothing_up() {
    let folder = Folder::new();
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let tool = folder.tool(&["run", "-"]).at(&server).stdin(Stdio::piped());
    let mut running = tool.start();
    let mut stdin = running.child().stdin.take().expect("a pipe");
    stdin.write_all(request("a").as_bytes()).expect("it reads");
    stdin.flush().expect("it reads");
    // Answered while the input is open and silent.
    assert!(running.first_line().contains("\"a\""));
    send(&running, Signal::INT);
    running.wait().code(130);
    drop(stdin);
}

#[test]
fn nohup_is_respected() {
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::script(|_| Reply::ok_chat("hello").after(Duration::from_millis(700)));
    let url = format!("{}/v1", server.url());
    let script = "trap '' HUP; exec \"$TOLLGATE\" run p.jsonl -c 1";
    let tool = folder.shell(script).env("OPENAI_BASE_URL", &url);
    let running = tool.env("OPENAI_API_KEY", KEY).start();
    until_asked(&server, 1);
    send(&running, Signal::HUP);
    running.wait().code(0).says(&["2 of 2 requests"]);
}
