//! A 2xx that is no answer.

use serde_json::Value;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder};

const OK: &str = r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"4"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A request to another endpoint than that of chats.
fn line(url: &str) -> String {
    format!("{{\"custom_id\":\"r0\",\"url\":\"{url}\",\"body\":{{\"model\":\"m\"}}}}\n")
}

fn run(folder: &Folder, server: &Faultd, more: &[&str]) -> Ended {
    let arguments = [&["run", "p.jsonl", "--summary", "s.json"], more].concat();
    folder.tool(&arguments).at(server).run()
}

#[test]
fn a_good_answer_is_one() {
    let folder = Folder::new();
    folder.requests(1);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn what_is_no_answer_is_asked_again_and_never_a_result() {
    let cases = [
        (
            "/v1/chat/completions",
            r#"{"choices":[{"index":0,"finish_reason":"error","error":{"code":502,"message":"Upstream provider went away"},"message":{"role":"assistant","content":"The answer is 4"}}],"usage":{"total_tokens":9}}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"choices":[{"finish_reason":"error","message":{"content":"The"}}]}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"error":{"message":"m"},"choices":[{"message":{"content":"The"}}]}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"id":"1","choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#,
        ),
        ("/v1/chat/completions", r#"{"id":null,"choices":null}"#),
        (
            "/v1/chat/completions",
            r#"{"code":500,"msg":"404 NOT_FOUND","success":false}"#,
        ),
        ("/v1/completions", r#"{"detail":"upstream timed out"}"#),
        ("/v1/chat/completions", "{}"),
        ("/v1/chat/completions", "[]"),
        (
            "/v1/chat/completions",
            r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"errors":[{"message":"capacity"}],"success":false}"#,
        ),
        ("/v1/chat/completions", "\n\n\n"),
        ("/v1/chat/completions", ": PROCESSING\n\n"),
        ("/v1/embeddings", r#"{"object":"list","data":[]}"#),
        ("/v1/messages", r#"{"content":[],"stop_reason":null}"#),
        ("/v1/messages", r#"{"content":"hi"}"#),
        ("/v1/responses", r#"{"status":"failed","output":[]}"#),
        ("/v1/responses", r#"{"status":"completed","output":[]}"#),
        ("/v1/responses", r#"{"detail":"m"}"#),
    ];
    // Each waits for a second try, so all do at once.
    std::thread::scope(|scope| {
        for (url, body) in cases {
            scope.spawn(move || is_asked_again(url, body));
        }
    });
}

fn is_asked_again(url: &str, body: &str) {
    let folder = Folder::new();
    folder.write("p.jsonl", line(url));
    let good = match url {
        "/v1/embeddings" => r#"{"data":[{"embedding":[1]}]}"#,
        "/v1/messages" => r#"{"content":[],"stop_reason":"end_turn"}"#,
        "/v1/responses" => r#"{"output":[{"type":"message"}]}"#,
        _ => OK,
    };
    let server = Faultd::replies([Reply::json(body), Reply::json(good)]);
    run(&folder, &server, &[]).code(0);
    assert_eq!(server.count(), 2, "{body}");
    let records = folder.records("p.results.jsonl");
    let expected: Value = serde_json::from_str(good).unwrap();
    assert_eq!(records[0]["response"]["body"], expected, "{body}");
}

#[test]
fn what_is_not_wrong_with_an_answer_is_left_alone() {
    for body in [
        OK,
        r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c"}]}}]}"#,
        r#"{"choices":[{"content_filter_results":{"error":{"code":"content_filter_error"}},"message":{"content":"x"}}]}"#,
        r#"{"error":{},"choices":[{"error":null,"message":{"content":"an \"error\""}}]}"#,
        r#"{"error":"None","choices":[{"error":"null","message":{"content":"x"}}]}"#,
    ] {
        for preamble in ["", "\u{feff}", ": OPENROUTER PROCESSING\n\n", "\n\n"] {
            let folder = Folder::new();
            folder.requests(1);
            let server = Faultd::replies([Reply::json(format!("{preamble}{body}"))]);
            run(&folder, &server, &[]).code(0);
            assert_eq!(server.count(), 1, "{body}");
            let text = folder.read("p.results.jsonl");
            assert!(text.contains(&format!("\"body\":{body}}}")), "{text}");
        }
    }
}

#[test]
fn what_came_of_an_answer_that_broke_off_is_kept_and_no_result() {
    let nan = r#"{"choices":[{"x":NaN}]}"#;
    let half = &OK[..OK.len() / 2];
    let cases = [
        (Reply::json(OK).half_body(), half, "invalid_response"),
        (
            Reply::json(OK).chunked(20).half_body(),
            half,
            "invalid_response",
        ),
        (Reply::json(OK).half_body().then_hold(), half, "timeout"),
        (
            Reply::json(OK).half_body().then_reset(),
            half,
            "invalid_response",
        ),
        (
            Reply::json(OK).content_length("499").then_close(),
            OK,
            "invalid_response",
        ),
        (
            Reply::json(nan).content_length("499").then_close(),
            nan,
            "invalid_response",
        ),
        (Reply::json(OK.repeat(9)), OK, "rejected"),
        (Reply::json(OK.repeat(9)).chunked(99), OK, "rejected"),
    ];
    std::thread::scope(|scope| {
        for (reply, text, code) in cases {
            scope.spawn(move || is_kept_in_part(reply, text, code));
        }
    });
}

fn is_kept_in_part(reply: Reply, text: &str, code: &str) {
    let folder = Folder::new();
    folder.requests(1);
    let broken = Faultd::replies([reply]);
    let more = ["--max-attempts", "1", "--timeout", "1", "--max-body", "500"];
    run(&folder, &broken, &more).code(1);
    let record = &folder.records("p.errors.jsonl")[0];
    let response = &record["response"];
    assert_eq!(record["error"]["code"], code, "{record}");
    assert_eq!(response["status_code"], 200, "{record}");
    assert_eq!(response["body"]["cut"], true, "{record}");
    let kept = response["body"]["text"].as_str().expect("a text");
    assert!(kept.starts_with(text), "{record}");

    let good = Faultd::replies([Reply::json(OK)]);
    let is_left = usize::from(code != "rejected");
    run(&folder, &good, &[]).code(1 - i32::from(code != "rejected"));
    assert_eq!(good.count(), is_left, "{record}");
}

#[test]
fn a_coding_that_is_not_understood_is_named_and_paid_for_once_more() {
    for (coding, body) in [
        ("br", b"\x0b\x02\x80{}\xff"),
        ("zstd", b"\x28\xb5\x2f\xfd{}"),
    ] {
        let folder = Folder::new();
        folder.requests(1);
        let server = Faultd::replies([Reply::json(*body).header("content-encoding", coding)]);
        run(&folder, &server, &[]).code(1);
        assert_eq!(server.count(), 2, "{coding}");
        let record = &folder.records("p.errors.jsonl")[0];
        let message = record["error"]["message"].as_str().expect("a text");
        assert!(
            message.contains(&format!("compressed as \"{coding}\"")),
            "{message}"
        );
        assert!(
            message.contains("proxy") && !message.contains("base URL"),
            "{message}"
        );
        let kept = record["response"]["body"]["text"].as_str();
        assert!(kept.is_some_and(|text| text.contains("{}")), "{record}");
    }
}

#[test]
fn an_object_of_no_use_stays_one_in_both_forms() {
    let body = r#"{"detail":"upstream timed out"}"#;
    let expected: Value = serde_json::from_str(body).unwrap();
    let anthropic = r#"{"custom_id":"a","params":{"model":"m","max_tokens":9,"messages":[]}}"#;
    for (line, place) in [
        (&*line("/v1/messages"), "/response/body"),
        (anthropic, "/tollgate/body"),
    ] {
        let folder = Folder::new();
        folder.write("p.jsonl", line);
        let server = Faultd::replies([Reply::json(body)]);
        run(&folder, &server, &["--max-attempts", "1"]).code(1);
        let record = &folder.records("p.errors.jsonl")[0];
        assert_eq!(record.pointer(place), Some(&expected), "{record}");
    }
}

#[test]
fn money_in_a_200_stops_the_run() {
    for body in [
        r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
        r#"[{"error":{"code":402,"message":"m"}}]"#,
    ] {
        let folder = Folder::new();
        folder.requests(40);
        let server = Faultd::replies([Reply::json(body)]);
        run(&folder, &server, &["-c", "1"]).code(3);
        assert_eq!(server.count(), 1, "{body}");
    }
}

#[test]
fn a_count_that_cannot_be_is_not_counted_as_nothing() {
    for count in ["-1", "9223372036854775808"] {
        let folder = Folder::new();
        folder.requests(1);
        let body = OK.replace(
            "\"completion_tokens\":1",
            &format!("\"completion_tokens\":{count}"),
        );
        let server = Faultd::replies([Reply::json(body)]);
        let arguments = ["--price", "1,2", "--max-cost", "1"];
        let ended = run(&folder, &server, &arguments);
        ended.code(0).says(&["counts make no sense"]);
        let summary = folder.json("s.json");
        assert_eq!(summary["uncounted"], 1, "{summary}");
        let record = &folder.records("p.results.jsonl")[0]["tollgate"];
        assert_eq!(record["cost_usd"], Value::Null, "{record}");
    }
}
