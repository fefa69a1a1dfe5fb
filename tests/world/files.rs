//! Names of files: made of others, of links, pipes and devices.

use std::fs;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, KEY, records, request};

fn server() -> Faultd {
    Faultd::replies([Reply::ok_chat("hello")])
}

#[test]
fn inputs_of_one_stem_have_outputs_of_their_own() {
    let folder = Folder::new();
    let line = request("a");
    let server = server();
    for (input, output) in [
        ("p.jsonl", "p.results.jsonl"),
        ("p.json", "p.json.results.jsonl"),
        ("p.ndjson", "p.ndjson.results.jsonl"),
        ("p.data", "p.data.results.jsonl"),
        ("p", "p..results.jsonl"),
    ] {
        folder.write(input, &line);
        folder.tool(&["run", input]).at(&server).run().code(0);
        assert_eq!(folder.records(output).len(), 1);
    }
    assert_eq!(server.count(), 5);
}

#[test]
fn prompts_and_requests_do_not_share_a_default_output() {
    let server = server();
    let prompts = ["run", "p.txt", "--model=m"];
    let requests = ["run", "p.jsonl"];
    for (first, second) in [(&requests[..], &prompts[..]), (&prompts, &requests)] {
        let folder = Folder::new();
        folder.requests(2).write("p.txt", "hi\nho\n");
        folder.tool(first).at(&server).run().code(0);
        let before = folder.read("p.results.jsonl");
        let sent = server.count();
        let ended = folder.tool(second).at(&server).run().code(2);
        ended.says(&["p.results.jsonl", "results of", "-o"]);
        assert_eq!(folder.read("p.results.jsonl"), before);
        assert_eq!(server.count(), sent);
        // A rerun of the first, a name of its own, and a new beginning are all fine.
        folder.tool(first).at(&server).run().code(0);
        let named = [second, &["-o", "o.jsonl"]].concat();
        folder.tool(&named).at(&server).run().code(0);
        let anew = [second, &["--overwrite"]].concat();
        folder.tool(&anew).at(&server).run().code(0);
        assert_ne!(folder.read("p.results.jsonl"), before);
    }
    // Requests may be named as prompts are.
    let folder = Folder::new();
    folder.write("p.jsonl", request("line-1"));
    for _ in 0..2 {
        folder.tool(&requests).at(&server).run().code(0);
    }
}

#[cfg(unix)]
#[test]
fn links_that_lead_nowhere_are_told_with_their_target() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    folder.requests(1);
    symlink("gone/x.jsonl", folder.path("far.jsonl")).unwrap();
    symlink("x.jsonl", folder.path("near.jsonl")).unwrap();
    let server = server();
    let target = "is a link to \"gone/x.jsonl\", which does not exist";
    for (arguments, says) in [
        (&["run", "far.jsonl"][..], target),
        (&["check", "far.jsonl"], target),
        (
            &["run", "near.jsonl"],
            "is a link to \"x.jsonl\", which does not exist",
        ),
        (
            &["run", "p.jsonl", "-o", "far.jsonl"],
            "is a link to \"gone/x.jsonl\", whose directory does not exist",
        ),
        (
            &["run", "none.jsonl"],
            "input \"none.jsonl\" does not exist",
        ),
        (
            &["check", "none.jsonl"],
            "input \"none.jsonl\" does not exist",
        ),
        (
            &["run", "no/p.jsonl"],
            "input \"no/p.jsonl\" does not exist",
        ),
    ] {
        let ended = folder.tool(arguments).at(&server).run().code(2);
        ended.says(&[says]).never_says(&["\".\""]);
    }
    // A link to a file that is yet to be made is fine.
    let arguments = ["run", "p.jsonl", "-o", "near.jsonl"];
    folder.tool(&arguments).at(&server).run().code(0);
    assert_eq!(
        records(&fs::read_to_string(folder.path("x.jsonl")).unwrap()).len(),
        1
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_without_a_name_needs_one_for_the_results() {
    let folder = Folder::new();
    folder.requests(2);
    let server = server();
    let url = format!("{}/v1", server.url());
    let run = |script: &str| {
        let tool = folder.shell(script).env("OPENAI_BASE_URL", &url);
        tool.env("OPENAI_API_KEY", KEY).run()
    };
    for input in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let script = format!("cat p.jsonl | \"$TOLLGATE\" run {input}");
        run(&script).code(2).says(&["-o is missing", input]);
    }
    run("\"$TOLLGATE\" run /dev/stdin < p.jsonl")
        .code(2)
        .says(&["-o is missing"]);
    assert_eq!(server.count(), 0);
    run("cat p.jsonl | \"$TOLLGATE\" run /dev/stdin -o o.jsonl").code(0);
    assert_eq!(folder.records("o.jsonl").len(), 2);
    // One with a name has results beside it, and a rerun reads it once, too.
    let named = "cat p.jsonl > fifo & \"$TOLLGATE\" run fifo";
    run(&format!("mkfifo fifo; {named}")).code(0);
    run(named).code(0).says(&["2 of them done before"]);
    let ended = run("cat p.jsonl | \"$TOLLGATE\" run /dev/stdin -o -").code(0);
    assert_eq!(records(&ended.stdout).len(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_ends_with_numbers_that_are_right() {
    let folder = Folder::new();
    folder.requests(5);
    let input = folder.read("p.jsonl");
    let server = server();
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let from_file = folder.tool(&["run", "p.jsonl", "-o", "-"]).at(&server);
    let from_stdin = folder.tool(&["run", "-", "-c", "1"]).at(&server);
    for ended in [
        from_file.stdout(full()).run(),
        from_stdin.stdout(full()).fed(input.as_bytes()),
    ] {
        ended
            .code(4)
            .says(&["No space left on device", "make room"])
            .never_says(&["of 0 requests"]);
    }
}

#[cfg(unix)]
#[test]
fn more_concurrency_is_no_advice_where_the_system_allows_no_more() {
    let folder = Folder::new();
    folder.requests(40);
    let server =
        Faultd::script(|_| Reply::ok_chat("hello").after(std::time::Duration::from_millis(30)));
    let url = format!("{}/v1", server.url());
    let script = "ulimit -n 24 && \"$TOLLGATE\" run p.jsonl -c 30";
    let tool = folder.shell(script).env("OPENAI_BASE_URL", &url);
    let ended = tool.env("OPENAI_API_KEY", KEY).run().code(0);
    ended
        .says(&["warning: --concurrency", "ulimit -n"])
        .never_says(&["higher --concurrency"]);
}

#[test]
fn numbers_out_of_range_are_told_in_words() {
    let folder = Folder::new();
    folder.requests(1);
    for (flag, value, says) in [
        ("-c", "0", "above zero"),
        ("-c", "many", "above zero"),
        ("-c", "10001", "10,000 at most"),
        ("--max-attempts", "0", "above zero"),
        ("--burst", "0", "above zero"),
        ("--tpm", "0", "above zero"),
        ("--token-budget", "0", "above zero"),
    ] {
        let ended = folder.tool(&["run", "p.jsonl", flag, value]).run().code(2);
        ended
            .says(&[says])
            .never_says(&["..=", "18446744073709551615"]);
    }
}
