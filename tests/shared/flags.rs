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

/// A server that gives each of its clients these answers, one to each message.
#[cfg(feature = "redis")]
fn server_that_says(answer: &'static str) -> String {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let place = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            while matches!(client.read(&mut [0; 4096]), Ok(1..)) {
                let _gone = client.write_all(answer.as_bytes());
            }
        }
    });
    format!("redis://{place}/0?key=k")
}

#[cfg(feature = "redis")]
#[test]
fn a_store_that_will_never_do_ends_the_run_before_anything_is_sent() {
    let folder = Folder::new();
    let server = Counter::answering(Duration::ZERO, 17);
    for (answer, said) in [
        ("-NOAUTH Authentication required.\r\n", "password"),
        ("-WRONGTYPE Operation against a key\r\n", "a key of its own"),
        ("-NOPERM this user has no permissions\r\n", "EVALSHA"),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "does not answer as Redis",
        ),
    ] {
        let flags = ["--rps", "100", "--deadline", "3s", "--shared-limit"];
        let url = server_that_says(answer);
        let ended = run(&folder, &server, &[&flags[..], &[&url]].concat()).run();
        ended.code(2).says(&[said]);
    }
    // This one passes.
    let url = server_that_says("-LOADING Redis is loading the dataset in memory\r\n");
    let flags = ["--rps", "100", "--deadline", "1s", "--shared-limit", &url];
    let ended = run(&folder, &server, &flags).run();
    assert_ne!(ended.code, Some(2), "{}", ended.stderr);
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
    // The command that carries on works only where the variable is set.
    let slow = ["--rps", "0.1", "--deadline", "300ms", "-o", "slow.jsonl"];
    let hint = "with TOLLGATE_SHARED_LIMIT set as it was";
    shared(&slow).says(&["carry on", hint]);
    let flag = [&slow[..], &["--shared-limit", "file:limit"]].concat();
    shared(&flag).says(&["carry on"]).never_says(&[hint]);
}
