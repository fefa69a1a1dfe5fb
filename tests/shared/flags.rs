//! What cannot be shared is refused before anything is sent, and no password is shown.

use std::time::Duration;

use crate::support::counter::{Counter, requests};
use crate::tool::{Folder, KEY, Tool, holds};

const PASSWORD: &str = "hunter2-and-more";

/// A run that would succeed, but for these flags.
fn run(folder: &Folder, server: &Counter, flags: &[&str]) -> Tool {
    folder.write("p.jsonl", requests(0, 2, 10));
    let tool = folder.tool(&[&["run", "p.jsonl"], flags].concat());
    tool.env("OPENAI_BASE_URL", &server.base_url())
        .env("OPENAI_API_KEY", KEY)
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::ZERO, 17);
    for (flags, words) in [
        (
            &["--shared-limit", "limit"][..],
            &["--shared-limit", "file:"][..],
        ),
        (&["--shared-limit", ""], &["--shared-limit"]),
        (&["--shared-limit", "file:"], &["--shared-limit"]),
        (
            &["--shared-limit", "file:none/limit"],
            &["--shared-limit", "none/limit"],
        ),
        (
            &["--shared-limit", "http://127.0.0.1/"],
            &["--shared-limit"],
        ),
        (
            &["--shared-limit-fallback", "share=1/2"],
            &["--shared-limit-fallback", "TOLLGATE_SHARED_LIMIT"],
        ),
        (
            &[
                "--shared-limit",
                "file:limit",
                "--shared-limit-fallback",
                "1/2",
            ],
            &["share=1/N"],
        ),
        (
            &[
                "--shared-limit",
                "file:limit",
                "--shared-limit-fallback",
                "share=1/0",
            ],
            &["share=1/N"],
        ),
    ] {
        run(&folder, &server, flags).run().code(2).says(words);
        // `--dry-run` says the same of them.
        let dry = [flags, &["--dry-run"]].concat();
        run(&folder, &server, &dry).run().code(2).says(words);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn a_password_is_not_taken_from_the_command_line_and_not_shown() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::ZERO, 17);
    let url = format!("redis://user:{PASSWORD}@127.0.0.1:1/0?key=k");
    let ended = run(&folder, &server, &["--shared-limit", &url]).run();
    let ended = ended.code(2).says(&["TOLLGATE_SHARED_LIMIT"]);
    ended.never_says(&[PASSWORD]);
    for url in [
        url,
        format!("redis://:{PASSWORD}@:x"),
        format!("{PASSWORD}:x"),
    ] {
        let flags = ["-vv", "--summary", "s.json", "--deadline", "300ms"];
        let ended = run(&folder, &server, &flags);
        let ended = ended.env("TOLLGATE_SHARED_LIMIT", &url).run();
        assert_ne!(ended.code, Some(0), "{url}");
        let ended = ended.never_says(&[PASSWORD]);
        assert!(!ended.stdout.contains(PASSWORD));
        assert!(!holds(&folder.path("."), PASSWORD));
    }
    assert_eq!(server.count(), 0);
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_tool_without_redis_says_so() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::ZERO, 17);
    for url in ["redis://127.0.0.1/0?key=k", "rediss://127.0.0.1/0?key=k"] {
        let ended = run(&folder, &server, &["--shared-limit", url]).run();
        ended.code(2).says(&["--shared-limit", "feature redis"]);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn the_variable_is_as_good_as_the_flag_and_a_simulated_run_does_not_take_it() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::ZERO, 17);
    let shared = |flags: &[&str]| {
        let tool = run(&folder, &server, flags);
        tool.env("TOLLGATE_SHARED_LIMIT", "file:limit").run()
    };
    shared(&["--rps", "100", "--simulate=latency=1ms"]).code(0);
    assert!(!folder.has("limit"));
    shared(&["--rps", "100", "--dry-run"]).code(0);
    assert!(!folder.has("limit"), "a dry run writes nothing");
    shared(&["--rps", "100"]).code(0);
    assert!(folder.has("limit"));
    assert_eq!(server.count(), 2);
}
