//! The files of a run, read by parsers that nobody here wrote.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::faultd::{Faultd, Seen};
use crate::support::reply::Reply;
use crate::tool::{Folder, KEY};

/// Needs an interpreter with the `openai` package, named by `TOLLGATE_TEST_PYTHON`; passes without
/// having tried anything where that is not set. Tries `anthropic` and `instructor` too, if they are
/// there.
#[test]
fn official_types_and_other_peoples_parsers_read_the_files() {
    let Some(python) = std::env::var_os("TOLLGATE_TEST_PYTHON") else {
        eprintln!("SKIPPED: TOLLGATE_TEST_PYTHON names no interpreter");
        return;
    };
    let server = Faultd::script(answer);
    let url = format!("{}/v1", server.url());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_results.py");
    let mut command = Command::new(python);
    command.arg(script);
    let mut folders = Vec::new();
    for more in [&[][..], &["--strict"]] {
        let folder = Folder::new();
        folder.write("openai.jsonl", openai());
        folder.write("anthropic.jsonl", anthropic());
        for (input, key, provider) in [
            ("openai.jsonl", "OPENAI_API_KEY", "openai"),
            ("anthropic.jsonl", "ANTHROPIC_API_KEY", "anthropic"),
        ] {
            let run = ["run", input, "--base-url", &url, "--provider", provider];
            let tool = folder.tool(&[&run[..], more].concat());
            tool.env(key, KEY).run().code(1);
        }
        command.arg(folder.path("."));
        folders.push(folder);
    }
    let output = command.output().expect("TOLLGATE_TEST_PYTHON can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
}

fn openai() -> String {
    let line = |(id, url)| {
        let line = json!({"custom_id": id, "method": "POST", "url": url, "body": {"user": id}});
        format!("{line}\n")
    };
    let lines = [
        ("chat", "/v1/chat/completions"),
        ("person", "/v1/chat/completions"),
        ("completion", "/v1/completions"),
        ("embedding", "/v1/embeddings"),
        ("moderation", "/v1/moderations"),
        ("response", "/v1/responses"),
        ("refused", "/v1/chat/completions"),
        ("garbled", "/v1/chat/completions"),
    ];
    lines.into_iter().map(line).collect()
}

fn anthropic() -> String {
    let line = |id| {
        let line = json!({"custom_id": id, "params": {"model": "m", "max_tokens": 9, "messages": [],
            "user": format!("anthropic {id}")}});
        format!("{line}\n")
    };
    let ids = ["a", "person", "refused", "garbled"];
    ids.into_iter().map(line).collect()
}

/// Answers as the providers' own references have them.
fn answer(seen: &Seen) -> Reply {
    let request = seen.json();
    let row = request["user"].as_str().unwrap_or_default();
    let body = match row {
        "chat" => chat("naïve 漢字 🦀\u{2028}\n\"quoted\""),
        "person" => chat(r#"{"name": "Zoë", "age": 7}"#),
        "completion" => json!({"id": "cmpl-1", "object": "text_completion", "created": 1,
            "model": "m", "usage": usage(),
            "choices": [{"text": "hi", "index": 0, "logprobs": null, "finish_reason": "stop"}]}),
        "embedding" => json!({"object": "list", "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1e-9, 1.0]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2}}),
        "moderation" => json!({"id": "modr-1", "model": "m", "results": []}),
        "response" => response(),
        "refused" => {
            let message = "This model's maximum context length is 4097 tokens.";
            let code = "context_length_exceeded";
            return Reply::error(400, "invalid_request_error", code, message);
        }
        "anthropic a" => message("Grüße 漢字"),
        "anthropic person" => message(r#"{"name": "Zoë", "age": 7}"#),
        "anthropic refused" => {
            let body = json!({"type": "error", "request_id": "req_1",
                "error": {"type": "invalid_request_error", "message": "max_tokens: too many"}});
            return Reply::status(400)
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        _ => return Reply::status(200).body("<html>log in</html>"),
    };
    // Over several lines, as some servers send it: a record is one.
    Reply::json(serde_json::to_string_pretty(&body).expect("JSON"))
}

fn chat(text: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "usage": usage(), "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text, "refusal": null}}]})
}

fn usage() -> Value {
    json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
}

fn response() -> Value {
    let text = json!({"type": "output_text", "text": "hello", "annotations": []});
    let message = json!({"type": "message", "id": "msg_1", "status": "completed",
        "role": "assistant", "content": [text]});
    json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
        "model": "m", "output": [message], "error": null, "incomplete_details": null,
        "instructions": null, "metadata": {}, "parallel_tool_calls": true, "temperature": 1.0,
        "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}}})
}

fn message(text: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
        "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4}})
}
