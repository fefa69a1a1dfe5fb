//! Everything fails alike: the run stops before all of its rows are spent on it, and says why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, request};

const UNKNOWN: &str = "Invalid model name passed in model=m. Call `/v1/models`";

fn unknown() -> Reply {
    Reply::error(400, "invalid_request_error", "400", UNKNOWN)
}

#[test]
fn twenty_alike_and_no_success_stop_the_run_with_the_reason_and_an_example() {
    for (reply, sent, words) in [
        (unknown(), 20, &["HTTP 400", "Invalid model name"][..]),
        (
            Reply::status(422).body(r#"{"detail":[{"msg":"field required","loc":["body"]}]}"#),
            20,
            &["HTTP 422", "field required"],
        ),
        (
            Reply::json("<html><title>Log in</title>"),
            20,
            &["web page", "Log in"],
        ),
        (Reply::json("{}"), 20, &["HTTP 200", "choices"]),
        (Reply::json("Paris"), 20, &["HTTP 200", "not JSON", "Paris"]),
        (
            Reply::error(501, "not_supported_error", "501", "no embeddings"),
            20,
            &["HTTP 501", "no embeddings"],
        ),
        (
            Reply::error(404, "x", "x", "no such model"),
            10,
            &["HTTP 404", "no such model"],
        ),
        (
            Reply::error(403, "x", "x", "not yours"),
            10,
            &["HTTP 403", "not yours"],
        ),
    ] {
        let folder = Folder::new();
        folder.requests(60);
        let server = Faultd::replies([reply]);
        let ended = folder
            .tool(&["run", "p.jsonl", "-c", "1"])
            .at(&server)
            .run();
        let number = format!("{sent} answers in a row");
        ended
            .code(3)
            .says(words)
            .says(&[&number, "line ", "(\"r", "--stop-alike"]);
        assert_eq!(server.count(), sent, "{words:?}");
    }
}

#[test]
fn numbers_in_a_message_make_no_difference_and_other_words_do() {
    let folder = Folder::new();
    folder.requests(60);
    let server = Faultd::script(|seen| {
        let message = format!(
            "Invalid model in request {} (id req_{:08x})",
            seen.index, seen.index
        );
        Reply::error(400, "x", "x", &message)
    });
    folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run()
        .code(3);
    assert_eq!(server.count(), 20);

    let folder = Folder::new();
    folder.requests(60);
    let words = ["one", "other"];
    let server = Faultd::script(move |seen| {
        Reply::error(
            400,
            "x",
            "x",
            &format!("the {} field is wrong", words[seen.index % 2]),
        )
    });
    folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run()
        .code(1);
    assert_eq!(server.count(), 60);
}

#[test]
fn after_a_success_it_takes_a_hundred_or_four_times_what_is_in_flight() {
    // Those in flight when the run stops are sent already.
    for (concurrency, sent) in [(1, 1 + 100), (40, 1 + 160 + 39)] {
        let folder = Folder::new();
        folder.requests(300);
        let (come, news) = (Mutex::new(0), Condvar::new());
        let server = Faultd::script(move |seen| {
            let mut come = come.lock().unwrap();
            *come += 1;
            news.notify_all();
            // However slow the machine is, so many are in flight at every answer.
            let is_early = |come: &mut usize| *come < sent.min(seen.index + concurrency);
            drop(news.wait_timeout_while(come, Duration::from_secs(20), is_early));
            match seen.index {
                0 => Reply::ok_chat("ok"),
                _ => unknown(),
            }
        });
        let concurrency = concurrency.to_string();
        let tool = folder.tool(&["run", "p.jsonl", "-c", &concurrency]);
        tool.at(&server).run().code(3).says(&["Invalid model name"]);
        assert_eq!(server.count(), sent, "{concurrency} at once");
    }
}

#[test]
fn the_number_can_be_set_and_the_rule_switched_off() {
    for (flag, code, sent) in [("5", 3, 5), ("40", 3, 40), ("never", 1, 60)] {
        let folder = Folder::new();
        folder.requests(60);
        let server = Faultd::replies([unknown()]);
        let tool = folder.tool(&["run", "p.jsonl", "-c", "1", "--stop-alike", flag]);
        tool.at(&server).run().code(code);
        assert_eq!(server.count(), sent, "{flag}");
    }
    let folder = Folder::new();
    folder.requests(1);
    for flag in ["0", "-1", "some"] {
        let flag = format!("--stop-alike={flag}");
        let tool = folder.tool(&["run", "p.jsonl", "--no-auth", &flag]);
        tool.run().code(2).says(&["--stop-alike", "never"]);
    }
}

#[test]
fn what_only_a_row_explains_is_not_counted() {
    for (status, code, message) in [
        (
            400,
            "context_length_exceeded",
            "This model's maximum context length is 10 tokens",
        ),
        (400, "content_filter", "filtered"),
        (413, "x", "too large"),
        (400, "x", "prompt is too long: 9 tokens > 8 maximum"),
    ] {
        let folder = Folder::new();
        folder.requests(60);
        let server = Faultd::replies([Reply::error(status, "x", code, message)]);
        folder
            .tool(&["run", "p.jsonl", "-c", "1"])
            .at(&server)
            .run()
            .code(1);
        assert_eq!(server.count(), 60, "{message}");
    }
}

#[test]
fn rows_tried_before_such_a_stop_are_to_do_again_and_go_last() {
    for (reply, more) in [
        (Reply::error(404, "x", "x", "no such model"), &[][..]),
        (unknown(), &[]),
        (unknown(), &["--ordered"]),
        (Reply::json("<html>"), &[]),
    ] {
        let folder = Folder::new();
        folder.requests(200);
        let mended = std::sync::Arc::new(AtomicBool::new(false));
        let is_mended = mended.clone();
        let server = Faultd::script(move |seen| {
            if is_mended.load(Ordering::SeqCst) {
                Reply::ok_chat(&format!("{}", seen.index))
            } else {
                reply.clone()
            }
        });
        let arguments = [&["run", "p.jsonl", "-c", "1"], more].concat();
        folder.tool(&arguments).at(&server).run().code(3);
        let tried = server.count();
        assert!(tried <= 60);
        mended.store(true, Ordering::SeqCst);
        let ended = folder.tool(&arguments).at(&server).run().code(0);
        assert_eq!(server.count() - tried, 200, "{ended:#?}");
        assert_eq!(folder.records("p.results.jsonl").len(), 200);
        assert!(!folder.has("p.errors.jsonl"));
        let results = folder.records("p.results.jsonl");
        if more.is_empty() {
            // Answered in the order in which they were sent, but for those in flight at once.
            let last: Vec<_> = results[190..]
                .iter()
                .map(|r| r["custom_id"].as_str().unwrap())
                .collect();
            assert!(
                last.iter()
                    .all(|id| id.len() <= 3 && id[1..].parse::<u32>().unwrap() < 60),
                "{last:?}"
            );
        } else {
            let ids = results
                .iter()
                .map(|r| r["custom_id"].as_str().unwrap().to_owned());
            assert!(ids.eq((0..200).map(|n| format!("r{n}"))));
        }
    }
}

#[test]
fn rows_that_are_wrong_themselves_do_not_stop_each_rerun() {
    // The first twelve name a model that is not there, the others one that is.
    let bad = |n| request(&format!("bad{n}")).replace("\"m\"", "\"gone\"");
    let good = |n| request(&format!("good{n}"));
    let folder = Folder::new();
    let lines: String = (0..12).map(bad).chain((0..100).map(good)).collect();
    folder.write("p.jsonl", lines);
    let server = Faultd::script(|seen| match seen.json()["model"].as_str() {
        Some("gone") => Reply::error(404, "x", "model_not_found", "no such model"),
        _ => Reply::ok_chat("ok"),
    });
    let tool = || folder.tool(&["run", "p.jsonl", "-c", "1", "--summary", "s.json"]);
    tool().at(&server).run().code(3);
    let first = folder.json("s.json");
    assert_eq!(
        first["failed"].as_u64().unwrap() + first["not_attempted"].as_u64().unwrap(),
        112
    );
    // Those that were tried go last: all good ones are answered first.
    let ended = tool().at(&server).run();
    let second = folder.json("s.json");
    assert_eq!(second["succeeded"], 100, "{ended:#?}");
}

#[test]
fn an_answer_in_all_but_form_stays_failed_and_is_not_paid_for_again() {
    let folder = Folder::new();
    folder.requests(60);
    let nan = r#"{"choices":[{"logprobs":NaN,"message":{"content":"4"}}]}"#;
    let server = Faultd::replies([Reply::json(nan)]);
    let tool = || folder.tool(&["run", "p.jsonl", "-c", "1", "--summary", "s.json"]);
    tool().at(&server).run().code(3);
    assert_eq!(server.count(), 20);
    let failed = folder.records("p.errors.jsonl").len();
    assert!((10..=20).contains(&failed), "{failed}");
    for record in folder.records("p.errors.jsonl") {
        assert_eq!(record["response"]["body"]["text"], nan);
        assert_eq!(record["tollgate"]["again"], serde_json::Value::Null);
    }
    // The rest is tried and stops the run again; none of those that failed is asked for.
    tool().at(&server).run().code(3);
    assert_eq!(server.count(), 40);
    assert!(folder.records("p.errors.jsonl").len() >= failed + 10);
}

#[test]
fn a_strict_run_has_no_place_for_a_mark_and_leaves_the_rows_to_do() {
    let folder = Folder::new();
    folder.requests(60);
    let mended = std::sync::Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    let server = Faultd::script(move |_| {
        if is_mended.load(Ordering::SeqCst) {
            Reply::ok_chat("ok")
        } else {
            unknown()
        }
    });
    let arguments = ["run", "p.jsonl", "--strict", "--summary", "s.json"];
    folder.tool(&arguments).at(&server).run().code(3);
    let summary = folder.json("s.json");
    assert_eq!(
        (&summary["failed"], &summary["not_attempted"]),
        (&0.into(), &60.into())
    );
    assert!(!folder.has("p.errors.jsonl"));
    mended.store(true, Ordering::SeqCst);
    folder.tool(&arguments).at(&server).run().code(0);
    assert_eq!(folder.records("p.results.jsonl").len(), 60);
}
