//! Records of other tools, and of runs that went wrong: what is done, and what is to do.

use serde_json::Value;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, request};

const ANSWER: &str = r#"{"choices":[{"message":{"content":"old"}}]}"#;

/// An input of a row that has a record, and one that has none.
fn folder(url: &str, file: &str, record: &str) -> Folder {
    let folder = Folder::new();
    let input = request("a") + &request("b");
    folder.write("p.jsonl", input.replace("/v1/chat/completions", url));
    folder.write("p.results.jsonl", "");
    folder.write(file, format!("{record}\n"));
    folder
}

fn output(response: &str, error: &str) -> String {
    format!(r#"{{"custom_id":"a","response":{response},"error":{error}}}"#)
}

#[test]
fn what_is_no_answer_is_to_do_and_leaves_the_output_before_anything_is_sent() {
    for (response, error) in [
        (r#"{"status_code":200}"#, "null"),
        (r#"{"status_code":200,"body":null}"#, "null"),
        (r#"{"status_code":200,"body":{}}"#, "null"),
        (r#"{"status_code":200,"body":[]}"#, "null"),
        (r#"{"status_code":200,"body":""}"#, "null"),
        (
            r#"{"status_code":200,"body":"<html>log in</html>"}"#,
            "null",
        ),
        (r#"{"status_code":200,"body":{"choices":[]}}"#, "null"),
        (
            r#"{"status_code":200,"body":{"choices":null,"base_resp":{"status_code":1002}}}"#,
            "null",
        ),
        (
            r#"{"status_code":200,"body":{"detail":"upstream timed out"}}"#,
            "null",
        ),
        (
            r#"{"status_code":200,"body":{"choices":[{"finish_reason":"error","error":{"code":502}}]}}"#,
            "null",
        ),
        (r#"{"status_code":0,"body":null}"#, "null"),
        (r#"{"status_code":0,"body":{}}"#, r#"{"code":"x"}"#),
        (r#"{"body":{"error":{"message":"m"}}}"#, "null"),
        ("null", "{}"),
        ("null", "null"),
    ] {
        let record = output(response, error);
        let folder = folder("/v1/chat/completions", "p.results.jsonl", &record);
        let path = folder.path("p.results.jsonl");
        let server = Faultd::script(move |_| {
            let left = std::fs::read_to_string(&path).expect("the output is there");
            if left.contains(r#""custom_id":"a","response":{"status_code":0"#)
                || left.lines().any(|line| !line.contains("tollgate"))
            {
                return Reply::error(400, "x", "x", "the output was not rewritten");
            }
            Reply::ok_chat("new")
        });
        folder
            .tool(&["run", "p.jsonl", "-c", "1"])
            .at(&server)
            .run()
            .code(0);
        assert_eq!(server.count(), 2, "{record}");
        let results = folder.records("p.results.jsonl");
        assert_eq!(results.len(), 2, "{record}");
        assert!(!folder.has("p.errors.jsonl"), "{record}");
    }
}

#[test]
fn a_failure_in_an_errors_file_that_says_nothing_of_the_row_is_to_do() {
    for record in [
        output(r#"{"status_code":200,"body":{}}"#, "null"),
        output(r#"{"status_code":200,"body":null}"#, "null"),
        output(r#"{"status_code":0,"body":null}"#, "null"),
        output(r#"{"status_code":0,"body":{}}"#, r#"{"message":"connection lost"}"#),
        output(r#"{"status_code":200,"body":{"text":"<html>"}}"#, r#"{"code":"invalid_response"}"#),
        r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API"}}}}"#.to_owned(),
    ] {
        let folder = folder("/v1/chat/completions", "p.errors.jsonl", &record);
        let server = Faultd::replies([Reply::ok_chat("new")]);
        folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
        assert_eq!(server.count(), 2, "{record}");
    }
}

#[test]
fn a_real_answer_is_done_whatever_stands_around_it() {
    for (url, record) in [
        (
            "/v1/chat/completions",
            output(&format!(r#"{{"status_code":200,"body":{ANSWER}}}"#), "{}"),
        ),
        (
            "/v1/chat/completions",
            output(&format!(r#"{{"status_code":200,"body":{ANSWER}}}"#), "\"\""),
        ),
        (
            "/v1/chat/completions",
            output(
                &format!(r#"{{"status_code":200,"body":{ANSWER}}}"#),
                "\"None\"",
            ),
        ),
        (
            "/v1/chat/completions",
            output(
                &format!(r#"{{"status_code":200,"body":{ANSWER}}}"#),
                r#"{"code":null,"message":null}"#,
            ),
        ),
        (
            "/v1/chat/completions",
            output(&format!(r#"{{"body":{ANSWER}}}"#), "null"),
        ),
        (
            "/v1/chat/completions",
            output(
                &format!(r#"{{"status_code":null,"body":{ANSWER}}}"#),
                "null",
            ),
        ),
        (
            "/v1/chat/completions",
            output(
                &format!(r#"{{"status_code":"200","body":{ANSWER}}}"#),
                "null",
            ),
        ),
        (
            "/v1/chat/completions",
            format!(r#"{{"custom_id":"a","response":{{"status_code":200,"body":{ANSWER}}}}}"#),
        ),
        (
            "/v1/embeddings",
            output(
                r#"{"status_code":200,"body":{"data":[{"embedding":[1]}]}}"#,
                "null",
            ),
        ),
        // Nobody knows what this endpoint answers.
        (
            "/v1/rank",
            output(r#"{"status_code":200,"body":{"message":"fine"}}"#, "null"),
        ),
        (
            "/v1/rank",
            output(r#"{"status_code":200,"body":{}}"#, "null"),
        ),
        (
            "/v1/rank",
            output(r#"{"status_code":200,"body":{"text":"a text"}}"#, "null"),
        ),
    ] {
        let folder = folder(url, "p.results.jsonl", &record);
        let server = Faultd::replies([Reply::json(r#"{"choices":[{}],"data":[{}]}"#)]);
        for _ in 0..2 {
            folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
            assert_eq!(server.count(), 1, "{record}");
        }
        let text = folder.read("p.results.jsonl");
        assert!(text.starts_with(&record), "{text}");
    }
}

#[test]
fn a_record_of_another_tool_may_have_numbers_that_json_does_not_have() {
    let response = r#"{"status_code":200,"body":{"choices":[{"logprobs":[NaN,-Infinity],"message":{"content":"4"}}]}}"#;
    let record = output(response, "null");
    let folder = folder("/v1/chat/completions", "p.results.jsonl", &record);
    let server = Faultd::replies([Reply::ok_chat("new")]);
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
    assert_eq!(server.count(), 1, "the answer that is there was paid for");
    let text = folder.read("p.results.jsonl");
    assert!(
        text.starts_with(&record) && text.lines().count() == 2,
        "{text}"
    );
    // As an input it is what it is.
    let ended = folder
        .tool(&["run", "p.results.jsonl", "-o", "o.jsonl"])
        .at(&server)
        .run();
    ended.code(2).says(&["seems to be results"]);
}

#[test]
fn what_was_paid_for_and_cannot_be_used_is_kept_and_the_form_says_whether_to_ask_again() {
    let nan = r#"{"choices":[{"logprobs":NaN,"message":{"content":"4"}}]}"#;
    let minus = r#"{"choices":[{"logprobs":[-Infinity],"message":{"content":"4"}}]}"#;
    let long = format!(
        "{{\"choices\":[{{\"x\":Infinity,\"y\":\"{}\"}}]}}",
        "z".repeat(70_000)
    );
    let double = r#"{"choices":[{"text":"4"}]}{"choices":[{"text":"4"}]}"#;
    let comma = "{'choices': [{'message': {'content': 'it is 4'},}]}";
    let page = "<html>log in</html>";
    let half = r#"{"choices":[{"message":{"content":"The"#;
    let none = r#"{"detail":"upstream timed out"}"#;
    let several = [nan, minus, &long, comma, double, page, half, none];
    let tries = [2, 2, 2, 2, 2, 3, 3, 3];
    let again = [0, 0, 0, 0, 0, 3, 3, 3];
    std::thread::scope(|scope| {
        for ((body, tries), again) in several.into_iter().zip(tries).zip(again) {
            scope.spawn(move || is_kept(body, tries, again, &[]));
            scope.spawn(move || is_kept(body, tries, again, &["--strict"]));
        }
    });
}

/// `body` is asked for `tries` times, and `again` times by a plain rerun.
fn is_kept(body: &str, tries: usize, again: usize, strict: &[&str]) {
    let shown = &body[..body.len().min(80)];
    let folder = Folder::new();
    folder.requests(1);
    let server = Faultd::replies([Reply::json(body)]);
    let run = |more: &[&str]| {
        let arguments = [&["run", "p.jsonl"], strict, more].concat();
        folder.tool(&arguments).at(&server).run()
    };
    run(&[]).code(1);
    assert_eq!(server.count(), tries, "{shown}");
    let record = &folder.records("p.errors.jsonl")[0];
    let kept = &record["response"]["body"];
    if body.starts_with("{\"detail") {
        assert_eq!(kept.to_string(), body);
    } else {
        let text = kept["text"].as_str().unwrap();
        assert_eq!(text, &body[..body.len().min(64 << 10)]);
        let is_cut = text.len() < body.len();
        assert_eq!(
            kept["cut"],
            if is_cut {
                Value::Bool(true)
            } else {
                Value::Null
            }
        );
    }
    run(&[]).code(1);
    assert_eq!(server.count(), tries + again, "{shown}");
    run(&["--retry-failed"]).code(1);
    assert_eq!(server.count(), 2 * tries + again, "{shown}");
}

#[test]
fn every_body_is_an_object_and_every_id_a_string() {
    let folder = Folder::new();
    let lines = format!("{}no request\n{}", request("a"), request("b"));
    folder.write("p.jsonl", lines);
    let server = Faultd::replies([
        Reply::status(400).body("no such thing"),
        Reply::status(422).body("[1,2]"),
    ]);
    folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run()
        .code(1);
    let errors = folder.records("p.errors.jsonl");
    assert_eq!(errors.len(), 3);
    assert!(errors.iter().all(|record| record["custom_id"].is_string()));
    let bodies = errors
        .iter()
        .filter_map(|record| record["response"].as_object());
    let mut texts: Vec<&Value> = bodies.map(|response| &response["body"]["text"]).collect();
    texts.sort_by_key(ToString::to_string);
    assert_eq!(texts, ["[1,2]", "no such thing"]);
    // The id that was made does not stand for the row of that id.
    folder.write("p.jsonl", format!("{}{}", request("line-2"), request("a")));
    let server = Faultd::replies([Reply::ok_chat("new")]);
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(1);
    assert_eq!(folder.records("p.results.jsonl")[0]["custom_id"], "line-2");
}

#[test]
fn answers_in_all_but_form_that_stop_a_run_are_kept_all_of_them() {
    let folder = Folder::new();
    folder.requests(40);
    let server = Faultd::replies([Reply::json(
        r#"{"choices":[{"logprobs":NaN}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    )]);
    let run = || {
        let arguments = ["run", "p.jsonl", "-c", "4", "--summary", "s.json"];
        folder.tool(&arguments).at(&server).run()
    };
    run().code(3).says(&["not quite JSON"]);
    let sent = server.count();
    let summary = folder.json("s.json");
    assert_eq!(
        summary["completion_tokens"],
        2 * sent,
        "what was paid for is counted"
    );
    let errors = folder.records("p.errors.jsonl");
    let text = |record: &Value| record["response"]["body"]["text"].is_string();
    assert!(errors.iter().all(text) && !errors.is_empty());
    run().code(3);
    let failed = folder.records("p.errors.jsonl");
    assert!(failed.len() > errors.len() && errors.iter().all(|old| failed.contains(old)));
    assert!(server.count() > sent);
}
