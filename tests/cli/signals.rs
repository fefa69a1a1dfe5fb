//! Ctrl-C once, twice, and its kin.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
#[cfg(target_os = "linux")]
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder, KEY, Running, SOON, request, until};

fn send(running: &Running, signal: Signal) {
    let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("it is running");
}

/// Whether this process, and so every one it starts, ignores the signal.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
}

/// Until the server has heard of so many requests.
fn until_asked(server: &Faultd, requests: usize) {
    until("so many requests", || server.count() >= requests);
}

#[test]
fn the_first_lets_what_is_in_flight_finish_and_says_how_to_go_on() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        if is_ignored(signal) {
            // As under nohup, which the tool respects and this test may itself have been started by.
            eprintln!("SKIPPED: {signal:?} is ignored here");
            continue;
        }
        let folder = Folder::new();
        folder.requests(6);
        let heard = Arc::new(AtomicBool::new(false));
        let slow = Faultd::script({
            let heard = Arc::clone(&heard);
            move |_| {
                until("the signal was heard", || heard.load(Ordering::SeqCst));
                Reply::ok_chat("hello")
            }
        });
        let arguments = ["run", "p.jsonl", "-c", "2", "--summary", "s.json"];
        // Into a file, which can be read while it is written.
        let stderr = File::create(folder.path("stderr")).expect("a writable folder");
        let tool = folder.tool(&arguments).at(&slow).stderr(stderr);
        let running = tool.start();
        until_asked(&slow, 2);
        send(&running, signal);
        until("it says so", || folder.read("stderr").contains("stopping"));
        heard.store(true, Ordering::SeqCst);
        let ended = running.wait().code(code);
        let ended = Ended {
            stderr: folder.read("stderr"),
            ..ended
        };
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
        let stderr = File::create(folder.path("stderr")).expect("a writable folder");
        let running = folder
            .tool(&["run", "p.jsonl", "-c", "2"])
            .at(&server)
            .stderr(stderr)
            .start();
        until_asked(&server, 3);
        until("the first answer is on file", || {
            folder.has("p.results.jsonl") && folder.read("p.results.jsonl").ends_with('\n')
        });
        send(&running, Signal::INT);
        until("it says so", || folder.read("stderr").contains("stopping"));
        let start = Instant::now();
        send(&running, second);
        running.wait().code(code);
        assert!(start.elapsed() < SOON);
        let last = folder.read("stderr");
        let last = last.lines().last().unwrap_or_default();
        assert!(
            last.contains("stopped at once") && last.contains("carry on"),
            "{last}"
        );
        assert_eq!(folder.records("p.results.jsonl").len(), 1);
    }
}

#[test]
fn what_waits_at_the_limiter_or_out_a_pause_is_not_sent_after_the_first() {
    // Both wait for longer than any machine takes to hear a signal.
    let slow: &[&str] = &["--rpm", "2", "--burst", "2"];
    for (pace, reply) in [
        (slow, Reply::ok_chat("hello")),
        (&[], Reply::status(503).header("retry-after", "60")),
    ] {
        let folder = Folder::new();
        folder.requests(6);
        let server = Faultd::replies([Reply::ok_chat("hello"), reply]);
        let run = ["run", "p.jsonl", "-c", "1", "--summary", "s.json"];
        let tool = folder.tool(&[&run[..], pace].concat()).at(&server);
        let running = tool.start();
        until_asked(&server, 2);
        send(&running, Signal::INT);
        running.wait().code(130).says(&["stopping"]);
        assert_eq!(server.count(), 2, "{pace:?}");
        let left = 6 - folder.records("p.results.jsonl").len();
        assert_eq!(folder.json("s.json")["not_attempted"], left, "{pace:?}");
    }
}

#[test]
fn quit_ends_it_at_once_and_what_is_on_file_stays() {
    if is_ignored(Signal::QUIT) {
        eprintln!("SKIPPED: SIGQUIT is ignored here, as in a shell's background");
        return;
    }
    let folder = Folder::new();
    folder.requests(6);
    let server = Faultd::script(|seen| match seen.index {
        0 => Reply::ok_chat("hello"),
        _ => Reply::stall(),
    });
    let tool = folder.tool(&["run", "p.jsonl", "-c", "2"]).at(&server);
    let running = tool.start();
    until_asked(&server, 3);
    send(&running, Signal::QUIT);
    let ended = running.wait();
    assert_eq!(ended.code, None, "{ended:#?}");
    assert_eq!(folder.records("p.results.jsonl").len(), 1);
    let fast = Faultd::replies([Reply::ok_chat("hello")]);
    folder.tool(&["run", "p.jsonl"]).at(&fast).run().code(0);
    assert_eq!(fast.count(), 5);
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
    assert_eq!(
        summary["possibly_billed"], 2,
        "sent, and sent again by a rerun"
    );
}

/// A port on this machine where a connect neither succeeds nor fails: the backlog is full, and
/// Linux then drops every SYN.
#[cfg(target_os = "linux")]
fn deaf() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).expect("a free port");
    socket.listen(0).expect("a listening socket");
    let addr = socket.local_addr().ok().and_then(|addr| addr.as_socket());
    let addr = addr.expect("an address");
    let brief = Duration::from_millis(200);
    let queue = std::iter::from_fn(|| TcpStream::connect_timeout(&addr, brief).ok());
    let queue = queue.collect();
    (socket, queue, addr)
}

#[cfg(target_os = "linux")]
#[test]
fn a_connect_that_never_ends_is_left_behind() {
    let folder = Folder::new();
    folder.requests(2);
    let (_socket, _queue, addr) = deaf();
    let url = format!("http://{addr}/v1");
    let arguments = [
        "run",
        "p.jsonl",
        "--base-url",
        &url,
        "--no-auth",
        "--connect-timeout",
        "1h",
        "--timeout",
        "1h",
        "--grace",
        "100ms",
        "--progress",
        "json",
        "--summary",
        "s.json",
    ];
    let mut running = folder.tool(&arguments).start();
    let mut stderr = BufReader::new(running.child().stderr.take().expect("a pipe"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a line");
    assert!(line.contains("\"progress\""), "{line}");
    send(&running, Signal::INT);
    running.wait().code(130);
    let rest: Vec<String> = stderr.lines().map_while(Result::ok).collect();
    assert!(
        rest.last().is_some_and(|line| line.contains("\"summary\"")),
        "{rest:#?}"
    );
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

/// Whether the tool has a handler of this signal.
#[cfg(target_os = "linux")]
fn is_caught(running: &Running, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id()));
    let status = status.unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
}

#[cfg(target_os = "linux")]
#[test]
fn an_input_that_was_never_read_is_not_called_empty() {
    if is_ignored(Signal::INT) {
        eprintln!("SKIPPED: SIGINT is ignored here");
        return;
    }
    let folder = Folder::new();
    let server = Faultd::script(|_| Reply::ok_chat("hello"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    folder.write("p.csv", "text\nx\n");
    // Nothing comes, and nothing says so to a thread that waits for it.
    let template = ["--prompt-file", "/dev/stdin", "--model", "m"];
    let arguments = [&["run", "p.csv", "--grace", "0s"], &template[..]].concat();
    let tool = folder.tool(&arguments).at(&server).stdin(reader);
    let running = tool.start();
    until("the signal is caught", || is_caught(&running, Signal::INT));
    running.interrupt();
    running.wait().code(130).never_says(&["is empty"]);
    drop(writer);
}
