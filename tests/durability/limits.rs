//! Small machines and odd inputs: few descriptors, few threads, a process that is stopped for a
//! while, pipes that stall, lines without end.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fixture::ids;
use crate::provider::{Provider, answer, id, request, requests};
use crate::support::quick::Quick;
use crate::tool::{Folder, Running, until};

/// Every row once, and nothing torn.
fn all_there(folder: &Folder, rows: usize) {
    let mut found = ids(&fs::read(folder.path("p.results.jsonl")).unwrap_or_default());
    let mut expected: Vec<String> = (0..rows).map(id).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn few_descriptors_are_made_do_with() {
    let folder = Folder::new();
    folder.write("p.jsonl", requests(400));
    let provider = Provider::start(|_| false);
    let script = "ulimit -n 32; exec \"$TOLLGATE\" run p.jsonl -c 64";
    provider.told(folder.shell(script)).run().code(0);
    all_there(&folder, 400);
}

#[test]
fn few_threads_are_made_do_with() {
    let folder = Folder::new();
    folder.write("p.jsonl", requests(400));
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder.path("."), open).expect("a folder of ours");
    // A user with no other process, and not the one that no limit applies to.
    let user = 60_000 + process::id() % 5_000;
    let as_user = format!("setpriv --reuid {user} --regid {user} --clear-groups");
    let script = format!("{as_user} \"$TOLLGATE\" --version");
    if folder.shell(&script).run().code != Some(0) {
        eprintln!("SKIPPED: cannot run the tool as another user here (setpriv)");
        return;
    }
    let provider = Provider::start(|_| false);
    let run = "\"$TOLLGATE\" run p.jsonl -c 64 --summary s.json";
    let tool = folder.shell(&format!("exec prlimit --nproc=7 {as_user} {run}"));
    provider.told(tool).run().code(0);
    all_there(&folder, 400);
    let threads = folder.json("s.json")["threads_peak"].as_u64();
    assert!(threads.is_some_and(|threads| threads <= 7), "{threads:?}");
}

fn signal(running: &Running, signal: Signal) {
    let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("it is running");
}

#[test]
fn a_process_that_was_stopped_for_a_while_does_not_make_up_for_it_with_a_burst() {
    const RATE: usize = 20;
    const BURST: usize = 2;
    let folder = Folder::new();
    folder.write("p.jsonl", requests(60));
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let log = Arc::clone(&times);
    let provider = Provider::with(move |row, _| {
        log.lock().unwrap().push(Instant::now());
        Quick::json(200, &answer(row))
    });
    let arguments = ["run", "p.jsonl", "--rps", "20", "--burst", "2"];
    let running = provider.tool(&folder, &arguments).start();
    until("ten requests", || provider.count() >= 10);
    signal(&running, Signal::STOP);
    thread::sleep(Duration::from_millis(1_500));
    let resumed = Instant::now();
    signal(&running, Signal::CONT);
    running.wait().code(0);
    all_there(&folder, 60);
    let times = times.lock().unwrap();
    let soon = resumed + Duration::from_millis(500);
    let burst = times
        .iter()
        .filter(|&&at| at >= resumed && at < soon)
        .count();
    // And one that had been admitted when it was stopped. Made up for, it would be 40.
    let most = BURST + RATE / 2 + 1;
    assert!(burst <= most, "{burst} requests, for at most {most}");
}

#[test]
fn a_pipe_that_stalls_holds_up_no_row_and_its_torn_end_is_one_failed_row() {
    let folder = Folder::new();
    let made = Command::new("mkfifo").arg(folder.path("p.jsonl")).status();
    assert!(made.is_ok_and(|status| status.success()), "no mkfifo here");
    let provider = Provider::start(|_| false);
    let running = provider.tool(&folder, &["run", "p.jsonl"]).start();
    let mut pipe = File::create(folder.path("p.jsonl")).expect("the tool reads it");
    for row in 0..3 {
        pipe.write_all(request(row, "hi").as_bytes())
            .expect("it is read");
        // On file while the pipe is open and says no more.
        until("the row is on file", || {
            fs::read_to_string(folder.path("p.results.jsonl")).is_ok_and(|t| t.contains(&id(row)))
        });
    }
    let torn = request(3, "hi");
    pipe.write_all(&torn.as_bytes()[..torn.len() / 2])
        .expect("it is read");
    drop(pipe);
    running.wait().code(1);
    all_there(&folder, 3);
    let errors = folder.records("p.errors.jsonl");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["error"]["code"], "invalid_request_line");
    assert_eq!(errors[0]["tollgate"]["line"], 4);
}

#[test]
fn a_line_of_a_gigabyte_is_one_failed_row_and_takes_no_gigabyte_of_memory() {
    const LENGTH: u64 = 1 << 30;
    let folder = Folder::new();
    folder.write("p.jsonl", request(0, "hi"));
    let mut file = OpenOptions::new()
        .append(true)
        .open(folder.path("p.jsonl"))
        .expect("a file");
    let end = file.seek(SeekFrom::End(0)).expect("a file");
    // A hole, which takes no room on the disk and reads as NULs.
    file.set_len(end + LENGTH)
        .expect("a file system with holes");
    file.write_all(format!("\n{}", request(1, "hi")).as_bytes())
        .expect("room");
    let (pid, peak) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)));
    let provider = Provider::with({
        let (pid, peak) = (Arc::clone(&pid), Arc::clone(&peak));
        move |row, _| {
            if row == 1 {
                until("its id is known", || pid.load(Ordering::SeqCst) > 0);
                let path = format!("/proc/{}/status", pid.load(Ordering::SeqCst));
                let text = fs::read_to_string(path).expect("Linux");
                let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let mark = mark.and_then(|mark| mark.trim().trim_end_matches(" kB").parse().ok());
                peak.store(mark.expect("a peak"), Ordering::SeqCst);
            }
            Quick::json(200, &answer(row))
        }
    });
    let running = provider.tool(&folder, &["run", "p.jsonl"]).start();
    pid.store(running.id(), Ordering::SeqCst);
    running.wait().code(1);
    all_there(&folder, 2);
    assert_eq!(folder.records("p.errors.jsonl")[0]["tollgate"]["line"], 2);
    let peak = peak.load(Ordering::SeqCst);
    assert!(peak > 0 && peak < 512 << 10, "{peak} KiB");
}

#[test]
fn requests_and_answers_that_nest_for_ever_are_taken_as_they_are_or_failed_and_never_a_crash() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [100, 126, 127, 128, 200, 100_000] {
        let folder = Folder::new();
        let nested =
            request(2, "hi").replace("\"model\":\"m\"", &format!("\"model\":{}", deep(depth)));
        folder.write(
            "p.jsonl",
            [&request(0, "hi"), &request(1, "hi"), &nested[..]].concat(),
        );
        let provider = Provider::with(move |row, _| match row {
            0 => Quick::json(200, &format!("{{\"choices\":{}}}", deep(depth))),
            _ => Quick::json(200, &answer(row)),
        });
        let first = provider.tool(&folder, &["run", "p.jsonl"]).run();
        assert!(matches!(first.code, Some(0 | 1)), "{depth}: {first:#?}");
        let records = |name: &str| -> Vec<Value> {
            let text = fs::read_to_string(folder.path(name)).unwrap_or_default();
            // As text: serde_json's own reader stops at a depth of 128.
            text.lines().map(Value::from).collect()
        };
        let rows = records("p.results.jsonl").len() + records("p.errors.jsonl").len();
        assert_eq!(rows, 3, "{depth}: {first:#?}");
        // What was written is read back, and asked for no more.
        let before = provider.count();
        let second = provider.tool(&folder, &["run", "p.jsonl"]).run();
        assert_eq!(second.code, first.code, "{depth}: {second:#?}");
        assert!(!provider.asked(before).contains(&1), "{depth}");
    }
}
