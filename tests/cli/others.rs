//! The other commands, and what is said without any.

use crate::tool::Folder;

#[test]
fn help_and_version_are_on_standard_output() {
    let folder = Folder::new();
    let ended = folder.tool(&["--version"]).run().code(0);
    assert_eq!(
        ended.stdout,
        concat!("tollgate ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let ended = folder.tool(&["--help"]).run().code(0);
    for word in ["run", "check", "simulate", "demo", "Exit codes"] {
        assert!(ended.stdout.contains(word), "{ended:#?}");
    }
    for columns in ["0", "1", "80"] {
        let ended = folder
            .tool(&["run", "--help"])
            .env("COLUMNS", columns)
            .run()
            .code(0);
        assert!(ended.stdout.contains("--max-server-delay"), "{ended:#?}");
        assert!(!ended.stdout.contains('\u{1b}'), "{ended:#?}");
    }
    folder.tool(&[]).run().code(2);
    folder.tool(&["rum"]).run().code(2).says(&["rum"]);
}

#[test]
fn what_was_meant_is_guessed() {
    let folder = Folder::new();
    folder.requests(1);
    let spec = ["run", "p.jsonl", "--simulate", "latency=1s"];
    let told = "tip: a SPEC stands behind an equals sign: '--simulate=latency=1s'";
    folder.tool(&spec).run().code(2).says(&[told]);
    let told = "tip: to send the requests of a file: 'tollgate run p.jsonl'";
    folder.tool(&["p.jsonl"]).run().code(2).says(&[told]);
    let ended = folder.tool(&["run", "p.jsonl", "latency=1s"]).run();
    ended.code(2).never_says(&["SPEC"]);
}

#[test]
fn the_simulator_refuses_what_it_cannot_simulate() {
    let folder = Folder::new();
    folder
        .tool(&["simulate", "latency=soon"])
        .run()
        .code(2)
        .says(&["SPEC", "latency"]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    folder
        .tool(&["simulate", "--port", &port])
        .run()
        .code(4)
        .says(&[&port]);
}

#[cfg(unix)]
#[test]
fn the_simulator_serves_another_program_until_it_is_told_to_end() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::{BufRead, BufReader};

    let folder = Folder::new();
    folder.requests(4);
    let mut simulator = folder.tool(&["simulate", "latency=5ms"]).start();
    let mut url = String::new();
    let mut stdout = BufReader::new(simulator.child().stdout.take().unwrap());
    stdout.read_line(&mut url).unwrap();
    let tool = folder.tool(&["run", "p.jsonl", "--base-url", url.trim()]);
    tool.env("OPENAI_API_KEY", "any")
        .run()
        .code(0)
        .says(&["4 of 4 requests"]);
    let pid = i32::try_from(simulator.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), Signal::INT).unwrap();
    simulator.wait().code(0).says(&[
        "chat completions, completions, embeddings, responses, moderations, messages, models",
        "4 requests: 4 answered",
    ]);
}

#[test]
fn the_demonstration_prints_the_whole_table() {
    let folder = Folder::new();
    let ended = folder.tool(&["demo"]).run().code(0);
    assert!(ended.stdout.contains("50 ms"), "{ended:#?}");
    let lines: Vec<Vec<&str>> = ended
        .stdout
        .lines()
        .filter(|line| line.ends_with('%') || line.ends_with("computed"))
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    let expected = [
        ["100", "1"],
        ["100", "10"],
        ["100", "20"],
        ["100", "50"],
        ["1,000", "1"],
        ["1,000", "10"],
        ["1,000", "20"],
        ["1,000", "50"],
    ];
    assert_eq!(lines, expected);
}
