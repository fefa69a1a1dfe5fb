//! Bad input is refused before anything is sent: exit 2, by name, with nothing lost.

use std::fs;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder, KEY, request};

/// A folder with two requests and a server that must not hear of them.
struct Refused {
    folder: Folder,
    server: Faultd,
}

impl Refused {
    fn new() -> Self {
        let folder = Folder::new();
        folder.requests(2);
        let server = Faultd::replies([Reply::ok_chat("hello")]);
        Self { folder, server }
    }

    /// Runs it, and sees that nothing was sent, written or changed.
    #[track_caller]
    fn run(&self, arguments: &[&str], env: &[(&str, &str)], words: &[&str]) -> Ended {
        let before: Vec<_> = self.contents();
        let mut tool = self.folder.tool(arguments).at(&self.server);
        for (name, value) in env {
            tool = tool.env(name, value);
        }
        let ended = tool.run().code(2).says(&["error"]).says(words);
        assert_eq!(ended.stdout, "");
        assert_eq!(
            self.server.count(),
            0,
            "sent before it was refused: {ended:#?}"
        );
        assert_eq!(self.contents(), before, "{ended:#?}");
        ended
    }

    fn contents(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let names = self.folder.names().into_iter();
        names
            .map(|name| {
                let bytes = fs::read(self.folder.path(&name)).ok();
                (name, bytes)
            })
            .collect()
    }
}

#[test]
fn keys() {
    let refused = Refused::new();
    for key in ["", "sk-one\nsk-two", "sk-one\r\nx-evil: 1"] {
        refused
            .run(
                &["run", "p.jsonl"],
                &[("OPENAI_API_KEY", key)],
                &["OPENAI_API_KEY"],
            )
            .never_says(&["sk-one", "x-evil"]);
    }
    let missing = refused.run(
        &["run", "p.jsonl"],
        &[("OPENAI_API_KEY", "")],
        &["OPENAI_API_KEY", "--api-key-file", "--no-auth"],
    );
    assert!(missing.stderr.lines().count() == 1, "{missing:#?}");
    refused.run(
        &["run", "p.jsonl", "--api-key-env", "NOT_SET"],
        &[],
        &["--api-key-env NOT_SET"],
    );
    refused
        .run(
            &["run", "p.jsonl", "--api-key-env", KEY],
            &[],
            &["--api-key-env"],
        )
        .never_says(&[KEY]);
    for text in ["", "\n", "sk-one\nsk-two\n"] {
        refused.folder.write("key", text);
        refused
            .run(
                &["run", "p.jsonl", "--api-key-file", "key"],
                &[],
                &["--api-key-file \"key\""],
            )
            .never_says(&["sk-one"]);
    }
    refused.run(
        &["run", "p.jsonl", "--api-key-file", "none"],
        &[],
        &["--api-key-file \"none\""],
    );
}

#[test]
fn base_urls() {
    let refused = Refused::new();
    for (url, word) in [
        ("api.example.com/v1", "scheme"),
        (
            "http://api.example.com/v1",
            "allow it (--allow-insecure-http)",
        ),
        ("ftp://127.0.0.1/", "https://"),
        ("https://", "host"),
        ("https://me:secret@127.0.0.1/v1", "password"),
    ] {
        refused
            .run(
                &["run", "p.jsonl", "--base-url", url],
                &[],
                &["--base-url", word],
            )
            .never_says(&["secret"]);
        refused.run(
            &["run", "p.jsonl"],
            &[("OPENAI_BASE_URL", url)],
            &["OPENAI_BASE_URL", word],
        );
    }
}

#[test]
fn flags() {
    let refused = Refused::new();
    for (arguments, words) in [
        (&["--frobnicate"][..], &["--frobnicate"][..]),
        (&["--concurrency", "0"], &["--concurrency"]),
        (&["-c", "-1"], &["-1"]),
        (&["--rps", "0"], &["--rps"]),
        (&["--rps", "-1"], &["--rps"]),
        (&["--rps", "NaN"], &["--rps"]),
        (&["--rps", "1e12"], &["--rps"]),
        (&["--rpm", "0"], &["--rpm"]),
        (&["--rps", "1", "--rpm", "1"], &["--rps", "--rpm"]),
        (&["--tpm", "0"], &["--tpm"]),
        (&["--burst", "5"], &["--burst", "--rps"]),
        (&["--timeout", "0"], &["--timeout"]),
        (&["--deadline", "soon"], &["--deadline"]),
        (&["--max-attempts", "0"], &["--max-attempts"]),
        (&["--model", "m"], &["--model", ".txt"]),
        (&["--endpoint", "https://evil.example/"], &["--endpoint"]),
        (&["--ca-file", "none.pem"], &["none.pem"]),
        (&["--simulate=latency=soon"], &["--simulate: latency takes"]),
        (&["--simulate", "--no-auth"], &["--simulate", "--no-auth"]),
        (&["--summary", "-"], &["--summary"]),
        (&["-q", "--progress", "json"], &["--quiet", "--progress"]),
        (&["--summary", "p.jsonl"], &["--summary", "the input"]),
        (&["--summary", "none/s.json"], &["--summary"]),
        (&["--api-key-env", "A", "--no-auth"], &["--no-auth"]),
    ] {
        let arguments = [&["run", "p.jsonl"], arguments].concat();
        refused.run(&arguments, &[], words);
    }
    let from_environment = [
        ("SSL_CERT_FILE", "none.pem"),
        ("OPENAI_BASE_URL", "https://127.0.0.1:9/v1"),
    ];
    refused.run(&["run", "p.jsonl"], &from_environment, &["none.pem"]);
    refused.folder.write("p.txt", "hello\n");
    refused.run(&["run", "p.txt"], &[], &["--model"]);
    let anthropic = ["run", "p.txt", "--model", "m", "--provider", "anthropic"];
    refused.run(&anthropic, &[], &["--provider"]);
}

#[test]
fn files() {
    let refused = Refused::new();
    refused.run(
        &["run", "none.jsonl"],
        &[],
        &["none.jsonl", "does not exist"],
    );
    refused.run(&["run", "."], &[], &["directory"]);
    for output in ["p.jsonl", "./p.jsonl"] {
        refused.run(&["run", "p.jsonl", "-o", output], &[], &["is the input"]);
    }
    refused.run(&["run", "p.jsonl", "-o", "none/o.jsonl"], &[], &["none"]);
    refused.run(
        &["run", "p.jsonl", "-o", "o.jsonl", "--errors", "o.jsonl"],
        &[],
        &["o.jsonl"],
    );
    #[cfg(unix)]
    {
        fs::hard_link(
            refused.folder.path("p.jsonl"),
            refused.folder.path("same.jsonl"),
        )
        .unwrap();
        refused.run(
            &["run", "p.jsonl", "-o", "same.jsonl"],
            &[],
            &["is the input"],
        );
    }
}

#[test]
fn a_stream_that_is_redirected_to_the_input_is_the_input() {
    let refused = Refused::new();
    let before = refused.folder.read("p.jsonl");
    let input = || fs::File::open(refused.folder.path("p.jsonl")).unwrap();
    let output = || {
        let mut options = fs::File::options();
        let file = options.append(true).open(refused.folder.path("p.jsonl"));
        file.unwrap()
    };
    let from = ["run", "-", "--overwrite", "-o", "p.jsonl"];
    let to = ["run", "p.jsonl", "-o", "-"];
    let summary = ["run", "-", "-o", "o.jsonl", "--summary", "p.jsonl"];
    let report = ["run", "-", "-o", "o.jsonl", "--report", "p.jsonl"];
    let summary_of = ["run", "o.jsonl", "-o", "-", "--summary", "p.jsonl"];
    refused.folder.write("o.jsonl", "");
    for (tool, what) in [
        (refused.folder.tool(&from).stdin(input()), "is the input"),
        (refused.folder.tool(&to).stdout(output()), "is the input"),
        (refused.folder.tool(&summary).stdin(input()), "is the input"),
        (refused.folder.tool(&report).stdin(input()), "is the input"),
        (
            refused.folder.tool(&summary_of).stdout(output()),
            "is standard output",
        ),
    ] {
        tool.at(&refused.server).run().code(2).says(&[what]);
        assert_eq!(refused.folder.read("p.jsonl"), before);
    }
    assert_eq!(refused.server.count(), 0);
}

#[test]
fn an_output_that_holds_something_else_is_not_touched() {
    let refused = Refused::new();
    refused.folder.write("o.jsonl", "my diary\n");
    refused.run(
        &["run", "p.jsonl", "-o", "o.jsonl"],
        &[],
        &["o.jsonl", "line 1", "--overwrite"],
    );
}

#[test]
fn a_trial_empties_nothing_but_what_trials_have_left() {
    let refused = Refused::new();
    let trial = ["run", "p.jsonl", "--simulate=latency=0"];
    let words = ["p.simulated.jsonl", "line 3", "not a simulated answer"];
    refused.folder.tool(&trial).run().code(0);
    let simulated = refused.folder.read("p.simulated.jsonl");
    let paid = simulated.replace("\"simulated\":true,", "");
    for other in ["my diary\n", "my diary", "{\"id\":1}\n", &paid] {
        let there = simulated.clone() + other;
        refused.folder.write("p.simulated.jsonl", &there);
        refused.run(&trial, &[], &words);
        assert_eq!(refused.folder.read("p.simulated.jsonl"), there);
    }
    refused.folder.write("o.jsonl", &paid);
    let named = [&trial[..], &["-o", "o.jsonl", "--overwrite"]].concat();
    refused.run(
        &named,
        &[],
        &["o.jsonl", "line 1", "not a simulated answer"],
    );
    assert_eq!(refused.folder.read("o.jsonl"), paid);

    // What a kill has left of a record is no one's.
    let torn = &simulated[..simulated.len() - 5];
    refused.folder.write("p.simulated.jsonl", torn);
    refused.folder.tool(&trial).run().code(0);
    refused.folder.write("p.simulated.jsonl", "");
    refused.folder.tool(&trial).run().code(0);
}

#[test]
fn duplicate_ids_are_named_by_their_lines() {
    let refused = Refused::new();
    let lines = ["a", "b", "a", "c"].map(request).concat();
    refused.folder.write("d.jsonl", lines);
    refused.run(&["run", "d.jsonl"], &[], &["d.jsonl", "lines 1 and 3"]);
}

#[test]
fn a_refused_input_leaves_a_summary_that_says_so() {
    let refused = Refused::new();
    let lines = ["a", "b", "a"].map(request).concat();
    refused.folder.write("d.jsonl", lines);
    let arguments = ["run", "d.jsonl", "--summary", "s.json"];
    let tool = refused.folder.tool(&arguments).at(&refused.server);
    tool.run().code(2).says(&["error", "d.jsonl"]);
    let summary = refused.folder.json("s.json");
    assert_eq!(
        (&summary["exit"], &summary["attempts"], &summary["requests"]),
        (&2.into(), &0.into(), &0.into())
    );
    assert_eq!(refused.server.count(), 0);
}

#[test]
fn what_is_no_text_is_refused_as_a_whole() {
    let refused = Refused::new();
    let utf_16: Vec<u8> = request("a")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (name, bytes, word) in [
        (
            "gzip.jsonl",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03rest".to_vec(),
            "gzip",
        ),
        (
            "utf16.jsonl",
            [&b"\xff\xfe"[..], &utf_16].concat(),
            "UTF-16",
        ),
        (
            "binary.jsonl",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
            "binary",
        ),
    ] {
        refused.folder.write(name, bytes);
        refused.run(&["run", name], &[], &[name, word]);
    }
}

#[test]
fn a_name_that_a_terminal_would_obey_is_shown_escaped() {
    let refused = Refused::new();
    refused
        .run(&["run", "\u{1b}[31mred.jsonl"], &[], &["red.jsonl"])
        .never_says(&["\u{1b}"]);
}

#[test]
fn a_run_that_is_refused_leaves_a_summary_and_never_in_a_file_of_its_own() {
    let folder = Folder::new();
    let lines = request("a");
    folder
        .write("p.jsonl", &lines)
        .write("p.results.jsonl", "paid for\n");
    let summary = |input: &str, flags: &[&str]| {
        let arguments = [&["run", input], flags].concat();
        folder.tool(&arguments).run().code(2)
    };
    for (input, word) in [("p.jsonl", "OPENAI_API_KEY"), ("gone.jsonl", "gone.jsonl")] {
        folder.write("s.json", "an older run's");
        summary(input, &["--summary", "s.json"]).says(&[word]);
        let summary = folder.json("s.json");
        assert_eq!(
            (&summary["exit"], &summary["requests"]),
            (&2.into(), &0.into())
        );
    }
    fs::remove_file(folder.path("p.jsonl")).expect("a file");
    summary("p.jsonl", &["--summary", "p.results.jsonl"]);
    assert_eq!(folder.read("p.results.jsonl"), "paid for\n");
}

/// A directory that does not exist is a wrong command line; what the file system refuses is not.
/// Longer than the longest name is each file that is made beside one with a name of this length.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_has_one_exit_code_with_every_command() {
    let folder = Folder::new();
    folder.requests(1);
    let simulated = ["run", "p.jsonl", "--simulate=latency=1ms"];
    let done = [&simulated[..], &["-o", "r.jsonl"]].concat();
    folder.tool(&done).run().code(0);
    for command in [
        &[&simulated[..], &["--errors", "e.jsonl", "-o"]].concat()[..],
        &[&simulated[..], &["--summary"]].concat(),
        &[&simulated[..], &["--report"]].concat(),
        &["merge", "r.jsonl", "-o"],
        &["extract", "r.jsonl", "-o"],
        &["report", "r.jsonl", "-o"],
    ] {
        for (output, code) in [("none/out", 2), (&*"x".repeat(252), 4)] {
            let arguments = [command, &[output]].concat();
            folder.tool(&arguments).run().code(code).says(&[output]);
        }
    }
    // Nothing was done, so there is nothing to report.
    let longest = "x".repeat(252);
    let unwritable = [&simulated[..], &["--errors", "e.jsonl", "-o", &longest]].concat();
    folder
        .tool(&unwritable)
        .run()
        .never_says(&["succeeded", "time"]);
}

#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_told_by_what_writes_one() {
    let folder = Folder::new();
    folder.requests(200);
    let done = ["run", "p.jsonl", "--simulate=latency=1ms", "-o", "r.jsonl"];
    folder.tool(&done).run().code(0);
    for command in ["extract", "merge", "report"] {
        let script = format!("ulimit -f 4; exec \"$TOLLGATE\" {command} r.jsonl -o made");
        let ended = folder.shell(&script).run().code(4);
        ended.says(&["cannot write \"made\": File too large"]);
        assert!(!folder.names().iter().any(|name| name.starts_with("made")));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_told_by_every_command() {
    let folder = Folder::new();
    folder.requests(2);
    let done = ["run", "p.jsonl", "--simulate=latency=1ms", "-o", "r.jsonl"];
    folder.tool(&done).run().code(0);
    for arguments in [
        &["check", "p.jsonl"][..],
        &["check", "p.jsonl", "--json"],
        &["plan", "p.jsonl"],
        &["plan", "p.jsonl", "--json"],
        &["extract", "r.jsonl"],
        &["extract", "r.jsonl", "--csv"],
        &["merge", "r.jsonl"],
        &["report", "r.jsonl", "-o", "-"],
        &["run", "p.jsonl", "--dry-run", "--simulate"],
        &["run", "p.jsonl", "--simulate=latency=1ms", "-o", "-"],
        &["simulate", "latency=1ms"],
        &["demo"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["plan", "-h"],
        &["--version"],
    ] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let ended = folder.tool(arguments).stdout(full).run().code(4);
        let told = ended.says(&["standard output", "No space left on device"]);
        told.never_says(&["panicked"]);
    }
}

#[test]
fn what_a_run_reads_its_key_or_certificates_from_is_never_written_over() {
    let folder = Folder::new();
    folder.requests(1);
    folder.write("secret", "sk-0123456789abcdef\n");
    for flags in [
        &["--api-key-file", "secret", "--summary", "secret"][..],
        &["--api-key-file", "secret", "-o", "secret", "--overwrite"],
        &["--ca-file", "secret", "--no-auth", "--errors", "secret"],
        &["--no-auth", "--summary", "p.results.jsonl.lock"],
    ] {
        let arguments = [
            &["run", "p.jsonl", "--base-url", "http://127.0.0.1:9/v1"],
            flags,
        ]
        .concat();
        let told = folder.tool(&arguments).run().code(2);
        told.says(
            &["--summary", "-o", "--errors"]
                .map(|flag| if flags.contains(&flag) { flag } else { "error" }),
        );
        assert!(!folder.has("p.results.jsonl.lock"));
    }
    let secret = std::fs::read_to_string(folder.path("secret")).unwrap();
    assert_eq!(secret, "sk-0123456789abcdef\n");
}

#[test]
fn prompts_go_where_chats_go() {
    let folder = Folder::new();
    folder.write("p.txt", "hi\n");
    let arguments = [
        "run",
        "p.txt",
        "--model",
        "m",
        "--endpoint",
        "/v1/responses",
    ];
    folder
        .tool(&arguments)
        .run()
        .code(2)
        .says(&["--endpoint", "chats"]);
}
