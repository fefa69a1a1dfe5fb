//! `tollgate report` and `run --report`: one page of what became of a run.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, request};

#[test]
fn records_say_when_attempts_were_and_the_page_shows_it_from_several_files() {
    let folder = Folder::new();
    let busy = Reply::error(503, "server_error", "busy", "busy");
    let server = Faultd::replies([busy, Reply::ok_chat("hello")]);
    folder.requests(3);
    folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run()
        .code(0);
    let records = folder.records("p.results.jsonl");
    let timelines = records
        .iter()
        .map(|record| record["tollgate"]["timeline"].clone());
    let mut spans = Vec::new();
    for (record, timeline) in records.iter().zip(timelines) {
        let timeline = timeline.as_array().expect("a timeline").clone();
        assert_eq!(record["tollgate"]["attempts"], timeline.len());
        spans.extend(timeline);
    }
    assert_eq!(spans.len(), 4);
    let failed: Vec<_> = spans.iter().filter(|span| span["status"] == 503).collect();
    assert_eq!(failed.len(), 1);
    for span in &spans {
        let (start, end) = (span["start_ms"].as_u64(), span["end_ms"].as_u64());
        assert!(start.is_some() && start <= end, "{span}");
    }

    // What another tool wrote, with an errors file beside it.
    let other = json!({"custom_id": "x", "response": {"status_code": 200, "body": {"choices": [{}]}}, "error": null});
    let gone = json!({"custom_id": "y", "response": {"status_code": 404, "body": {"error": {"message": "no such model"}}}, "error": null});
    folder.write("other.jsonl", format!("{other}\nno record\n"));
    folder.write("other.errors.jsonl", format!("{gone}\n"));
    let ended = folder
        .tool(&["report", "p.results.jsonl", "other.jsonl"])
        .run();
    ended.code(0).says(&[
        "p.report.html",
        "5 rows, 4 answered",
        "1 line of \"other.jsonl\" left out as no record",
    ]);
    let page = folder.read("p.report.html");
    for words in [
        "5 rows: 4 answered and 1 failed for good.",
        "4 requests were sent in",
        "HTTP 503",
        "no such model",
        "2 of 5 records do not say when requests were sent",
        "1 line is no record",
        "other.errors.jsonl",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

/// A page of somebody else.
const OTHER_PAGE: &str = "<!doctype html>\n<title>mine</title>\n";

#[test]
fn the_page_goes_where_it_is_told_and_replaces_pages_only() {
    let folder = Folder::new();
    let record = json!({"custom_id": "x", "response": {"status_code": 200, "body": {"choices": [{}]}}, "error": null});
    let record = format!("{record}\n");
    folder
        .write("r.jsonl", &record)
        .write("notes.html", OTHER_PAGE);
    let tool = |arguments: &[&str]| folder.tool(&[&["report"], arguments].concat()).run();
    for _again in 0..2 {
        tool(&["r.jsonl"]).code(0);
    }
    assert!(
        folder
            .read("r.report.html")
            .contains("1 row, and it was answered.")
    );
    let ended = tool(&["r.jsonl", "-o", "-"]).code(0);
    assert!(ended.stdout.starts_with("<!doctype html>"), "{ended:?}");
    // Of a table, its records are read.
    folder
        .write("t.csv", "id,answer\n")
        .write("t.csv.jsonl", record);
    tool(&["t.csv"]).code(0);
    assert!(folder.has("t.csv.report.html"));
    for (arguments, words) in [
        (&["-"][..], "RESULTS is a file"),
        (&["r.jsonl", "-o", "notes.html"], "no report"),
        (&["r.jsonl", "-o", "r.jsonl"], "no report"),
        (&["none.jsonl"], "none.jsonl"),
        (
            &[".", "-o", "page.html"],
            "cannot read \".\": it is a directory",
        ),
        (&["p.jsonl"], "no line is a result"),
        (&["empty.jsonl"], "\"empty.jsonl\": no line is a result"),
        (&["/dev/null"], "-o is missing"),
        (&["/dev/null", "-o", "page.html"], "no line is a result"),
        (&[], "RESULTS"),
    ] {
        folder
            .write("p.jsonl", request("a"))
            .write("empty.jsonl", " \n");
        tool(arguments).code(2).says(&[words]);
    }
    assert_eq!(folder.read("notes.html"), OTHER_PAGE);
    assert!(!folder.has("empty.report.html") && !folder.has("page.html"));
    tool(&["r.jsonl", "-o", "nowhere/page.html"])
        .code(2)
        .says(&["page.html"]);
}

#[test]
fn rows_of_a_batch_that_ended_without_an_answer_have_the_reason_that_it_says() {
    let folder = Folder::new();
    let of = |id: &str, result| json!({"custom_id": id, "result": result}).to_string();
    let nope =
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": "nope"}});
    let lines = [
        of("a", json!({"type": "expired"})),
        of("b", json!({"type": "canceled"})),
        of("c", json!({"type": "errored", "error": nope})),
        of(
            "d",
            json!({"type": "errored", "error": {"message": "no type"}}),
        ),
    ];
    folder.write("r.jsonl", lines.join("\n"));
    folder.tool(&["report", "r.jsonl"]).run().code(0);
    let page = folder.read("r.report.html");
    for words in [
        "expired",
        "canceled",
        "invalid_request_error",
        "nope",
        "errored",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("unknown"), "{page}");
}

#[test]
fn a_run_makes_its_page_at_the_end_with_its_limits() {
    let folder = Folder::new();
    folder.requests(20);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    let run = |more: &[&str]| {
        let arguments = ["run", "p.jsonl", "--rps", "200", "--report", "page.html"];
        folder.tool(&[&arguments, more].concat()).at(&server)
    };
    run(&[]).run().code(0).says(&["page.html"]);
    let page = folder.read("page.html");
    for words in ["20 rows, all of them answered.", "The limit is", "200/s"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    // A rerun shows the rows of both.
    folder.requests(25);
    run(&[]).run().code(0);
    assert!(folder.read("page.html").contains("25 rows"));

    for (flags, words) in [
        (&["-o", "-"][..], "standard output"),
        (&["--summary", "page.html"], "--summary"),
        (&["-o", "page.html"], "--report"),
    ] {
        run(flags).run().code(2).says(&["--report", words]);
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_has_its_page_and_one_that_cannot_write_it_ends_as_it_would() {
    let folder = Folder::new();
    folder.requests(3);
    let server = Faultd::replies([Reply::ok_chat("hello"), Reply::stall()]);
    let arguments = [
        "run",
        "p.jsonl",
        "-c",
        "1",
        "--grace",
        "0s",
        "--report",
        "page.html",
    ];
    let running = folder.tool(&arguments).at(&server).start();
    crate::tool::until("one is in flight", || server.requests().len() >= 2);
    running.interrupt();
    running.wait().code(130);
    let page = folder.read("page.html");
    assert!(
        page.contains("1 row, and it was answered.") && page.contains("Stopped early"),
        "{page}"
    );

    // The folder goes while the run is under way.
    let folder = Folder::new();
    folder.requests(2);
    fs::create_dir(folder.path("pages")).expect("a folder");
    let slow = Reply::ok_chat("hello").after(Duration::from_millis(300));
    let server = Faultd::replies([slow]);
    let arguments = [
        "run",
        "p.jsonl",
        "-c",
        "1",
        "--report",
        "pages/page.html",
        "--summary",
        "s.json",
    ];
    let running = folder.tool(&arguments).at(&server).start();
    crate::tool::until("one is in flight", || !server.requests().is_empty());
    fs::remove_dir(folder.path("pages")).expect("an empty folder");
    running.wait().code(4).says(&["--report"]);
    assert_eq!(folder.records("p.results.jsonl").len(), 2);
    assert_eq!(folder.json("s.json")["exit"], 4);
}
