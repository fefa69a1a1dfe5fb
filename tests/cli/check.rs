//! `tollgate check`: what a file holds and what is wrong with it, as a person and a program meet it.

use std::io;

use serde_json::{Value, json};

use crate::tool::{Ended, Folder, request};

fn check(folder: &Folder, arguments: &[&str]) -> Ended {
    folder.tool(&[&["check"], arguments].concat()).run()
}

fn report(folder: &Folder, arguments: &[&str], code: i32) -> Value {
    let ended = check(folder, &[arguments, &["--json"]].concat()).code(code);
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:#?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

#[test]
fn a_good_file_is_told_in_a_few_aligned_lines() {
    let folder = Folder::new();
    let line = json!({
        "custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": "12345678"}], "max_tokens": 1_000},
    });
    let bytes = folder
        .write("p.jsonl", format!("{line}\n\n"))
        .read("p.jsonl")
        .len();
    let ended = check(&folder, &["p.jsonl"]).code(0);
    let expected = format!(
        "\
requests       1 in 2 lines of {bytes} bytes
blank lines    1
models         m (1)
endpoints      /v1/chat/completions (1)
prompt tokens  about 8
output tokens  at most 1,000
findings       none
"
    );
    assert_eq!((ended.stdout, ended.stderr), (expected, String::new()));
    assert_eq!(folder.names(), ["p.jsonl"]);
}

#[test]
fn everything_wrong_is_named_by_its_line() {
    let folder = Folder::new();
    let mut file = ["a", "b", "a"].map(request).concat();
    file.push_str("{\"custom_id\":\"c\" \"body\":{}}\n");
    file.push_str(
        "{\"custom_id\":\"d\",\"body\":{\"model\":\"\\u001b[31mred\",\"stream\":true}}\n",
    );
    file.push_str("{\"custom_id\":\"e\",\"body\":{\"model\":\"\\u001b[31mred\"}}\n");
    folder.write("p.jsonl", file);
    let ended = check(&folder, &["p.jsonl"]).code(1);
    for words in [
        "line 3: has the \"custom_id\" of line 1: \"a\"\n",
        "line 4: not JSON at column 18",
        "line 5: asks for a stream",
        "bad lines      2\n",
        "findings       3\n",
        "\\u{1b}[31mred (1)",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended:#?}");
    }
    assert!(!ended.stdout.contains('\u{1b}'), "{ended:#?}");
    assert_eq!(ended.stderr, "");
}

#[test]
fn many_findings_of_a_kind_are_counted_and_some_are_named() {
    let folder = Folder::new();
    folder.write(
        "p.jsonl",
        "no request\n".repeat(5_000) + &request("a").repeat(2),
    );
    let ended = check(&folder, &["p.jsonl"]).code(1);
    assert!(
        ended.stdout.contains("\nand 4,980 more like these\n"),
        "{ended:#?}"
    );
    assert!(ended.stdout.contains("line 5002: has the"), "{ended:#?}");
    assert!(
        ended.stdout.starts_with("the input seems to be"),
        "{ended:#?}"
    );
    assert!(ended.stdout.lines().count() < 40, "{ended:#?}");
    let report = report(&folder, &["p.jsonl"], 1);
    assert_eq!(report["findings_total"], 5_002);
    assert_eq!(
        report["findings_by_kind"],
        json!({"no_requests": 1, "not_json": 5_000, "duplicate_id": 1})
    );
    assert_eq!(report["findings"].as_array().unwrap().len(), 1_002);
}

#[test]
fn programs_get_one_object_with_every_key() {
    let folder = Folder::new();
    folder.write("p.jsonl", ["a", "b", "a"].map(request).concat() + "[1]\n\n");
    let report = report(&folder, &["p.jsonl"], 1);
    let keys: Vec<&str> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = [
        "requests",
        "bad_lines",
        "blank_lines",
        "lines",
        "bytes",
        "models",
        "other_models_requests",
        "endpoints",
        "other_endpoints_requests",
        "prompt_tokens",
        "output_tokens",
        "requests_without_limit",
        "findings_total",
        "findings_by_kind",
        "findings",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    for (key, value) in [
        ("requests", json!(3)),
        ("bad_lines", json!(1)),
        ("blank_lines", json!(1)),
        ("lines", json!(5)),
        ("requests_without_limit", json!(3)),
        (
            "endpoints",
            json!([{"name": "/v1/chat/completions", "requests": 3}]),
        ),
        (
            "findings",
            json!([
                {"kind": "not_an_object", "line": 4, "column": null, "first_line": null,
                 "message": "not a JSON object"},
                {"kind": "duplicate_id", "line": 3, "column": null, "first_line": 1,
                 "message": "has the \"custom_id\" of line 1: \"a\""},
            ]),
        ),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
}

#[test]
fn what_is_fine_here_a_run_sends_and_the_rest_it_refuses_or_fails() {
    let folder = Folder::new();
    let good = folder.requests(3).read("p.jsonl");
    let bad_line = good.clone() + "{\"custom_id\":\"x\",\"body\":{\"stream\":true}}\n";
    let duplicate = good.clone() + &request("r1");
    folder
        .write("bad.jsonl", bad_line)
        .write("twice.jsonl", duplicate);
    for (name, checked, run) in [
        ("p.jsonl", 0, 0),
        ("bad.jsonl", 1, 1),
        ("twice.jsonl", 1, 2),
    ] {
        check(&folder, &[name]).code(checked);
        folder
            .tool(&["run", name, "--simulate=latency=1ms"])
            .run()
            .code(run);
    }
}

#[test]
fn a_provider_has_rules_that_a_run_does_not() {
    let folder = Folder::new();
    folder.requests(2);
    let text = folder.read("p.jsonl").replace('\n', "\n\n");
    folder.write("p.jsonl", text);
    check(&folder, &["p.jsonl"]).code(0);
    for (provider, words) in [
        ("openai", "blank lines: 2; OpenAI's batches have none"),
        ("anthropic", "line 1: Anthropic's batches take"),
    ] {
        let ended = check(&folder, &["p.jsonl", "--provider", provider]).code(1);
        assert!(ended.stdout.contains(words), "{ended:#?}");
    }
    check(&folder, &["p.jsonl", "--provider", "azure"]).code(0);
    check(&folder, &["p.jsonl", "--provider", "other"])
        .code(2)
        .says(&["--provider"]);
}

#[test]
fn prompts_and_streams_are_checked_too() {
    let folder = Folder::new();
    folder.write("p.txt", "one prompt\n\nanother\n");
    let ended = check(&folder, &["p.txt"]).code(0);
    assert!(
        ended.stdout.starts_with("requests       2 in 3 lines"),
        "{ended:#?}"
    );
    check(&folder, &["p.txt", "--provider", "openai"])
        .code(2)
        .says(&["--provider", ".txt"]);
    for endpoint in ["", "https://evil.example/"] {
        check(&folder, &["p.txt", "--endpoint", endpoint])
            .code(2)
            .says(&["--endpoint", "must be a path"]);
    }
    let lines = ["a", "a"].map(request).concat();
    let ended = folder.tool(&["check", "-"]).fed(lines.as_bytes()).code(1);
    assert!(ended.stdout.contains("line 2: has the"), "{ended:#?}");
    let ended = folder.tool(&["check", "-"]).run().code(0);
    assert!(
        ended.stdout.starts_with("requests  0 in 0 lines"),
        "{ended:#?}"
    );
}

#[test]
fn what_cannot_be_read_is_told_by_name() {
    let folder = Folder::new();
    folder.write("p.jsonl.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03rest");
    folder.write("wide.jsonl", b"\xff\xfe{\0}\0");
    for (name, words) in [
        ("p.jsonl.gz", "gzip"),
        ("wide.jsonl", "UTF-16"),
        ("none.jsonl", "none.jsonl"),
        (".", "directory"),
        ("\u{1b}[31m.jsonl", "[31m"),
    ] {
        let ended = check(&folder, &[name])
            .code(2)
            .says(&["error", words])
            .never_says(&["\u{1b}"]);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
    let folder = Folder::new();
    folder.requests(3);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let ended = folder
        .tool(&["check", "p.jsonl"])
        .stdout(writer)
        .run()
        .code(0);
    assert_eq!(ended.stderr, "");
    #[cfg(target_os = "linux")]
    {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let tool = folder.tool(&["check", "p.jsonl"]).stdout(full);
        tool.run()
            .code(4)
            .says(&["cannot write to standard output"]);
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_even_while_its_input_stalls() {
    use crate::signals::is_ignored;
    use rustix::process::{Pid, Signal, kill_process};
    use std::process::Stdio;
    use std::time::Duration;

    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        if is_ignored(signal) {
            eprintln!("SKIPPED: {signal:?} is ignored here");
            continue;
        }
        let folder = Folder::new();
        let tool = folder.tool(&["check", "-"]).stdin(Stdio::piped());
        let mut running = tool.start();
        let pid = i32::try_from(running.id())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        // Once it hears signals: before that they end it in their own way.
        let hears = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.id()));
            status.is_ok_and(|status| {
                let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
                let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
                caught.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
            })
        };
        while cfg!(target_os = "linux") && !hears() {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(pid, signal).unwrap();
        let status = running.child().wait().unwrap();
        assert_eq!(status.code(), Some(code));
    }
}
