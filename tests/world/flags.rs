//! Flags that people need: headers, fields of prompts, sizes.

use serde_json::json;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, request};

const SECRET: &str = "tok-0123456789abcdef";

fn server() -> Faultd {
    Faultd::replies([Reply::ok_chat("hello")])
}

#[test]
fn headers_are_sent_as_typed_or_from_a_variable() {
    let folder = Folder::new();
    folder.requests(1);
    let server = server();
    let arguments = [
        "run",
        "p.jsonl",
        "-H",
        "X-Team: blue: green",
        "--header=x-handle: @@home",
        "-HX-Auth-Token: @MY_TOKEN",
        "-H",
        "User-Agent: mine/1",
    ];
    let tool = folder.tool(&arguments).at(&server);
    tool.env("MY_TOKEN", &format!("{SECRET}\n")).run().code(0);
    let seen = &server.requests()[0];
    for (name, value) in [
        ("x-team", "blue: green"),
        ("x-handle", "@home"),
        ("x-auth-token", SECRET),
        ("user-agent", "mine/1"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{seen:?}");
    }
}

#[test]
fn headers_that_cannot_be_meant_are_refused_and_no_value_is_shown() {
    let folder = Folder::new();
    folder.requests(1);
    let server = server();
    for (header, says) in [
        ("Authorization: Bearer tok-0123", "@VAR"),
        ("x-api-key: tok-0123", "@VAR"),
        ("API-KEY: @@tok-0123", "@VAR"),
        ("Cookie: session=tok-0123", "@VAR"),
        ("Client-Secret: tok-0123", "@VAR"),
        ("X-Access-Token:tok-0123", "@VAR"),
        ("X-Team: @NOT_SET", "@NOT_SET"),
        ("X-Team: @EMPTY", "@EMPTY"),
        ("X-Team: @tok-0123", "--header"),
        ("tok-0123", "'Name: value'"),
        ("X Team: tok-0123", "'Name: value'"),
        ("X-Team: tok-0123\u{1}", "--header"),
        ("X-Team: tok-0123é", "--header"),
        ("Content-Length: 7", "--header"),
        ("Transfer-Encoding: chunked", "--header"),
        ("Expect: 100-continue", "--header"),
        ("Authorization: @MY_TOKEN", "--no-auth"),
    ] {
        let tool = folder.tool(&["run", "p.jsonl", "-H", header]).at(&server);
        let tool = tool.env("EMPTY", "").env("MY_TOKEN", SECRET);
        let ended = tool.run().code(2).says(&[says]);
        ended.never_says(&["tok-0123"]);
    }
    let twice = ["run", "p.jsonl", "-H", "X-Team: a", "-H", "x-team: b"];
    let ended = folder.tool(&twice).at(&server).run();
    ended.code(2).says(&["x-team is given twice"]);
    assert_eq!(server.count(), 0);
    // In place of a key it is fine.
    let arguments = [
        "run",
        "p.jsonl",
        "--no-auth",
        "-H",
        "Authorization: @MY_TOKEN",
    ];
    let tool = folder.tool(&arguments).at(&server);
    tool.env("MY_TOKEN", SECRET).run().code(0);
    assert_eq!(server.requests()[0].header("authorization"), Some(SECRET));
}

#[test]
fn a_secret_header_is_scrubbed_wherever_the_server_repeats_it() {
    let folder = Folder::new();
    folder.requests(1);
    let told = format!("Invalid token: {SECRET}");
    let server = Faultd::replies([Reply::error(400, "invalid_request_error", "x", &told)]);
    let arguments = [
        "run",
        "p.jsonl",
        "-vv",
        "--no-auth",
        "-H",
        "X-Token: @MY_TOKEN",
    ];
    let tool = folder.tool(&arguments).at(&server);
    let ended = tool.env("MY_TOKEN", &format!("Bearer {SECRET}")).run();
    ended.code(1).never_says(&[SECRET]);
    let errors = folder.read("p.errors.jsonl");
    assert!(
        !errors.contains(SECRET) && errors.contains("[redacted]"),
        "{errors}"
    );
}

#[test]
fn the_command_to_carry_on_shows_no_value_of_a_header() {
    for (typed, shown) in [
        (&["-H", "X-Team: blue"][..], "-H 'X-Team: …'"),
        (&["-HX-Team: blue"], "'-HX-Team: …'"),
        (&["--header=X-Team:blue"], "'--header=X-Team: …'"),
        (&["-vH", "X-Team: @@blue"], "-vH 'X-Team: …'"),
        (&["-H", "X-Team: @MY_TEAM"], "-H 'X-Team: @MY_TEAM'"),
    ] {
        let folder = Folder::new();
        folder.requests(1);
        let server = Faultd::replies([Reply::error(401, "", "invalid_api_key", "no")]);
        let arguments = [&["run", "p.jsonl"], typed].concat();
        let tool = folder.tool(&arguments).at(&server).env("MY_TEAM", "blue");
        let ended = tool.run().code(3).says(&["carry on", shown]);
        ended.never_says(&["blue"]);
    }
}

#[test]
fn params_are_json_or_text() {
    let folder = Folder::new();
    folder.write("p.txt", "hi\n");
    let server = server();
    let arguments = [
        "run",
        "p.txt",
        "--model=m",
        "--param=max_completion_tokens=50",
        "--param=temperature=0.2",
        "--param=reasoning_effort=low",
        "--param=response_format={\"type\":\"json_object\"}",
        "--param=stop=[END]",
        "--param=user=a=b",
        "--param=seed=9007199254740993",
        "--param=stream=false",
    ];
    folder.tool(&arguments).at(&server).run().code(0);
    let expected = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 50,
        "temperature": 0.2,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "stop": "[END]",
        "user": "a=b",
        "seed": 9_007_199_254_740_993_u64,
        "stream": false,
    });
    assert_eq!(server.requests()[0].json(), expected);
    // Another field is another question.
    let other = ["run", "p.txt", "--model=m", "--param=temperature=1"];
    let ended = folder.tool(&other).at(&server).run().code(2);
    ended.says(&["changed", "line 1"]);
}

#[test]
fn params_that_cannot_be_meant_are_refused() {
    let folder = Folder::new();
    folder.write("p.txt", "hi\n").requests(1);
    let server = server();
    for (arguments, says) in [
        (&["p.txt", "--model=m", "--param=x"][..], "KEY=VALUE"),
        (&["p.txt", "--model=m", "--param==1"], "KEY=VALUE"),
        (&["p.txt", "--model=m", "--param=model=n"], "--model"),
        (&["p.txt", "--model=m", "--param=messages=[]"], "INPUT"),
        (&["p.txt", "--model=m", "--param=stream=true"], "streams"),
        (
            &["p.txt", "--model=m", "--param=a=1", "--param=a=2"],
            "twice",
        ),
        (
            &[
                "p.txt",
                "--model=m",
                "--max-tokens=5",
                "--param=max_tokens=6",
            ],
            "--max-tokens",
        ),
        (&["p.jsonl", "--param=a=1"], "--prompts"),
    ] {
        let arguments = [&["run"], arguments].concat();
        let ended = folder.tool(&arguments).at(&server).run().code(2);
        ended.says(&["--param", says]);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn a_field_that_the_model_refuses_stops_the_run_at_once() {
    let openai = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                  'max_completion_tokens' instead.";
    for (status, flag, code, told, says) in [
        (
            400,
            "--max-tokens=5",
            "unsupported_parameter",
            openai,
            "--max-tokens, --param",
        ),
        (
            400,
            "--param=temperature=0.2",
            "unsupported_value",
            "Unsupported value: 'temperature' does not support 0.2 with this model.",
            "temperature",
        ),
        (
            400,
            "--system=Be brief.",
            "unsupported_value",
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "--system",
        ),
        (
            422,
            "--param=top_q=1",
            "",
            "body.top_q: Extra inputs are not permitted",
            "top_q",
        ),
    ] {
        let folder = Folder::new();
        folder.write("p.txt", "hi\n".repeat(40));
        let server = Faultd::replies([Reply::error(status, "invalid_request_error", code, told)]);
        let arguments = ["run", "p.txt", "--model=m", flag, "-c", "4"];
        let ended = folder.tool(&arguments).at(&server).run().code(3);
        assert!(server.count() <= 8, "{} were sent", server.count());
        assert_eq!(ended.stderr.matches("error:").count(), 1, "{ended:#?}");
        ended
            .says(&[told, says, "0 of 40 requests"])
            .never_says(&["for good"]);
        // Once it is put right, every row is sent.
        let server = self::server();
        let arguments = ["run", "p.txt", "--model=m"];
        folder.tool(&arguments).at(&server).run().code(0);
        assert_eq!(server.count(), 40);
    }
}

#[test]
fn a_row_that_is_refused_after_others_were_answered_stops_nothing() {
    let folder = Folder::new();
    folder.write("p.txt", "hi\n".repeat(4));
    let told = "Unsupported value: 'temperature'";
    let refusal = Reply::error(400, "invalid_request_error", "unsupported_value", told);
    let server = Faultd::replies([Reply::ok_chat("a"), refusal, Reply::ok_chat("b")]);
    let arguments = ["run", "p.txt", "--model=m", "--param=temperature=2", "-c1"];
    folder.tool(&arguments).at(&server).run().code(1);
    assert_eq!(server.count(), 4);
}

#[test]
fn prompts_come_from_any_file_or_stream() {
    let folder = Folder::new();
    folder.write("p.md", "hi\n\nho\n");
    let server = server();
    let flags = ["--prompts", "--model=m"];
    let from_file = [&["run", "p.md", "-o", "o.jsonl"], &flags[..]].concat();
    folder.tool(&from_file).at(&server).run().code(0);
    let ids: Vec<_> = folder
        .records("o.jsonl")
        .iter()
        .map(|record| record["custom_id"].clone())
        .collect();
    assert!(ids.contains(&json!("line-1")) && ids.contains(&json!("line-3")));
    let from_stdin = [&["run", "-"], &flags[..]].concat();
    let ended = folder
        .tool(&from_stdin)
        .at(&server)
        .fed(b"hi\nho\n")
        .code(0);
    assert_eq!(ended.stdout.lines().count(), 2);
    let checked = folder.tool(&["check", "p.md", "--prompts"]).run().code(0);
    assert!(checked.stdout.contains("2 in 3 lines"), "{checked:#?}");
    let no_model = ["run", "p.md", "--prompts"];
    folder
        .tool(&no_model)
        .at(&server)
        .run()
        .code(2)
        .says(&["--model"]);
}

#[test]
fn the_largest_answer_is_set_by_a_flag_that_the_message_names() {
    let folder = Folder::new();
    folder.write("p.jsonl", request("a"));
    let server = Faultd::replies([Reply::ok_chat(&"x".repeat(3_000))]);
    let with = |size: &str| {
        let flag = format!("--max-body={size}");
        folder
            .tool(&["run", "p.jsonl", "--retry-failed", &flag])
            .at(&server)
            .run()
    };
    for size in ["1", "2000", "2k", "2K", "2KB"] {
        with(size).code(1);
        let error = folder.read("p.errors.jsonl");
        assert!(error.contains("max_body"), "{error}");
    }
    for size in [
        "0",
        "-1",
        "",
        "2T",
        "K",
        "1.5M",
        "2G",
        "99999999999G",
        "many",
    ] {
        with(size).code(2).says(&["--max-body", "1G"]);
    }
    with("4K").code(0);
    for size in ["1G", "200m", "1 MB"] {
        with(size).code(0).says(&["done before"]);
    }
}
