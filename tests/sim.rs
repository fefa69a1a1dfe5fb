//! The simulated provider over real sockets: its endpoints, limits, faults and manners.

#![cfg(feature = "sim")]

pub mod support;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::wire::{Answer, Wire};
use tollgate::sim::{SimServer, SimSpec};
use tollgate::{Rate, VirtualClock};

const CHAT: &str = "/v1/chat/completions";

fn start(spec: &str) -> SimServer {
    SimServer::start(spec.parse().unwrap()).unwrap()
}

fn prompt(text: &str) -> String {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string()
}

fn chat(server: &SimServer, text: &str) -> Answer {
    Wire::connect(server.addr()).post(CHAT, prompt(text))
}

#[test]
fn the_same_request_gets_the_same_bytes_in_any_order_and_from_any_server() {
    let (one, other) = (start("latency=0"), start("latency=0"));
    let first = [chat(&one, "a").body, chat(&one, "b").body];
    let turned = [chat(&other, "b").body, chat(&other, "a").body];
    assert_eq!(first[0], turned[1]);
    assert_eq!(first[1], turned[0]);
    assert_ne!(first[0], first[1]);
    let seeded = start("latency=0,seed=8");
    assert_ne!(chat(&seeded, "a").body, first[0]);
}

#[test]
fn a_limit_on_tokens_is_respected_and_the_usage_adds_up() {
    let server = start("latency=0");
    let mut wire = Wire::connect(server.addr());
    let mut ask = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "12345678"}]});
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        wire.post(CHAT, body.to_string()).json()
    };
    let whole = ask(json!({}));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    // Two tokens of text, four for the message, two for the whole.
    assert_eq!(whole["usage"]["prompt_tokens"], 8);
    for name in ["max_tokens", "max_completion_tokens"] {
        let cut = ask(json!({name: 3, "n": 2}));
        assert_eq!(cut["choices"].as_array().unwrap().len(), 2);
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
        let text = cut["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(text.split(' ').count(), 3);
        assert_eq!(cut["usage"]["completion_tokens"], 6);
        assert_eq!(cut["usage"]["total_tokens"], 14);
    }
    let both = ask(json!({"max_tokens": 9, "max_completion_tokens": 2}));
    assert_eq!(both["usage"]["completion_tokens"], 2);
    assert_eq!(server.stats().answered, 4);
}

#[test]
fn the_other_endpoints_answer_with_and_without_the_version() {
    let server = start("latency=0");
    let mut wire = Wire::connect(server.addr());
    for root in ["/v1", ""] {
        let models = wire.get(&format!("{root}/models?limit=3")).json();
        assert_eq!(models["data"][0]["object"], "model");
        let one = wire.get(&format!("{root}/models/gpt-4o")).json();
        assert_eq!(one["id"], "gpt-4o");
        let body = r#"{"model":"e","input":["a","b"],"dimensions":3}"#;
        let made = wire.post(&format!("{root}/embeddings"), body).json();
        assert_eq!(made["data"][1]["embedding"].as_array().unwrap().len(), 3);
        let body = r#"{"model":"m","prompt":"a","max_tokens":2}"#;
        let made = wire.post(&format!("{root}/completions"), body).json();
        assert_eq!(made["choices"][0]["text"], "Simulated answer:");
        let body = r#"{"model":"m","input":"a"}"#;
        let made = wire.post(&format!("{root}/responses"), body).json();
        assert_eq!(made["output"][0]["content"][0]["type"], "output_text");
        let made = wire
            .post(&format!("{root}/moderations"), r#"{"input":["a","b"]}"#)
            .json();
        assert_eq!(made["results"][1]["flagged"], false);
        assert_eq!(made["model"], "omni-moderation-latest");
        let body = r#"{"model":"c","max_tokens":3,"system":"Be brief.",
            "messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
        let made = wire.post(&format!("{root}/messages"), body).json();
        let text = made["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("Simulated answer"), "{text}");
        assert_eq!(made["stop_reason"], "max_tokens");
        assert_eq!(made["usage"]["output_tokens"], 3);
    }
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn wrong_requests_are_refused_in_the_shape_of_the_api() {
    let server = start("latency=1m");
    let mut wire = Wire::connect(server.addr());
    for (method, path, body, status, param) in [
        ("POST", CHAT, "{", 400, Value::Null),
        ("POST", CHAT, "[]", 400, Value::Null),
        ("POST", CHAT, "{}", 400, json!("model")),
        ("POST", CHAT, r#"{"model":7}"#, 400, json!("model")),
        ("POST", CHAT, r#"{"model":"m"}"#, 400, json!("messages")),
        (
            "POST",
            CHAT,
            r#"{"model":"m","messages":"x"}"#,
            400,
            json!("messages"),
        ),
        (
            "POST",
            CHAT,
            r#"{"model":"m","messages":[]}"#,
            400,
            json!("messages"),
        ),
        (
            "POST",
            CHAT,
            r#"{"model":"m","messages":[{}],"n":0}"#,
            400,
            json!("n"),
        ),
        (
            "POST",
            CHAT,
            r#"{"model":"m","messages":[{}],"max_tokens":-1}"#,
            400,
            json!("max_tokens"),
        ),
        (
            "POST",
            "/v1/completions",
            r#"{"model":"m","prompt":"a","stream":true}"#,
            400,
            json!("stream"),
        ),
        (
            "POST",
            "/v1/embeddings",
            r#"{"model":"m","input":[]}"#,
            400,
            json!("input"),
        ),
        (
            "POST",
            "/v1/embeddings",
            r#"{"model":"m","input":[1,"a"]}"#,
            400,
            json!("input"),
        ),
        ("POST", "/v1/images/generations", "{}", 404, Value::Null),
        ("GET", "/v1/models/x/y", "", 404, json!("model")),
        ("GET", CHAT, "", 405, Value::Null),
        ("DELETE", "/v1/models", "", 405, Value::Null),
    ] {
        let answer = wire.exchange(method, path, body).unwrap();
        assert_eq!(answer.status, status, "{method} {path} {body}");
        let error = &answer.json()["error"];
        assert!(error["message"].is_string(), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"], param, "{error}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
    }
    assert_eq!(server.stats().refused, 16);
}

#[test]
fn errors_on_anthropics_path_have_its_shape() {
    let calm = start("latency=1m");
    let limited = start("latency=0,rpm=1,burst=1");
    let failing = start("latency=0,errors=1");
    let path = "/v1/messages";
    let body = r#"{"model":"c","max_tokens":3,"messages":[{"role":"user","content":"a"}]}"#;
    Wire::connect(limited.addr()).post(path, body);
    let length = "POST /v1/messages HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n";
    let cases = [
        (&calm, "POST", path, "{", 400, "invalid_request_error"),
        (
            &calm,
            "POST",
            path,
            r#"{"model":"c"}"#,
            400,
            "invalid_request_error",
        ),
        (&calm, "GET", path, "", 405, "invalid_request_error"),
        (
            &calm,
            "POST",
            "/messages/batches",
            "{}",
            404,
            "not_found_error",
        ),
        (&calm, "", "", length, 413, "request_too_large"),
        (&limited, "POST", path, body, 429, "rate_limit_error"),
    ];
    let check = |answer: &Answer, kind: &str| {
        let made = answer.json();
        assert_eq!(
            (&made["type"], &made["error"]["type"]),
            (&json!("error"), &json!(kind))
        );
        assert!(made["error"]["message"].is_string(), "{made}");
        assert_eq!(made["error"].as_object().unwrap().len(), 2, "{made}");
        assert_eq!(made["request_id"].as_str(), answer.header("request-id"));
    };
    for (server, method, path, body, status, kind) in cases {
        let mut wire = Wire::connect(server.addr());
        let answer = if method.is_empty() {
            wire.send(body).unwrap();
            wire.receive(true).unwrap()
        } else {
            wire.exchange(method, path, body).unwrap()
        };
        assert_eq!(answer.status, status, "{method} {path} {body}");
        check(&answer, kind);
    }
    // 529 stands for overload, where OpenAI says 503. A page comes from a gateway, whoever is behind.
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let answer = Wire::connect(failing.addr()).post(path, body);
        seen.push(answer.status);
        match answer.status {
            500 => check(&answer, "api_error"),
            529 => check(&answer, "overloaded_error"),
            other => assert_eq!(other, 502),
        }
    }
    assert!(
        [500, 502, 529].iter().all(|status| seen.contains(status)),
        "{seen:?}"
    );
}

/// `body` with the fields of `more`.
fn with(mut body: Value, more: &Value) -> String {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body.to_string()
}

/// Asks for forms on one path, and reads each answer's text, or the tool that it calls and the
/// arguments.
fn check_forms(
    base: &Value,
    path: &str,
    read: fn(&Value) -> (&Value, &Value, Value),
    cases: &[(Value, &str)],
) {
    let server = start("latency=0");
    let mut wire = Wire::connect(server.addr());
    let is_pet = |value: &Value| {
        value["age"].is_i64() && ["cat", "dog"].iter().any(|kind| value["kind"] == *kind)
    };
    for (more, what) in cases {
        let made = wire.post(path, with(base.clone(), more)).json();
        let (text, tool, arguments) = read(&made);
        let json = || serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
        match *what {
            "text" => assert!(
                text.as_str().unwrap().starts_with("Simulated answer"),
                "{made}"
            ),
            "object" => assert!(json().is_object(), "{made}"),
            "pet" => assert!(is_pet(&json()), "{made}"),
            name => {
                assert!(text.is_null() && tool == name, "{more}: {made}");
                assert!(arguments.is_object(), "{more}: {made}");
                assert!(name != "note" || is_pet(&arguments), "{made}");
            }
        }
    }
}

/// A schema that chat and responses take as the parameters of the tool `note`.
fn pet() -> Value {
    json!({
        "type": "object",
        "properties": {"age": {"type": "integer"}, "kind": {"enum": ["cat", "dog"]}},
        "required": ["age", "kind"],
    })
}

#[test]
fn chat_obeys_formats_and_tools_in_form() {
    let base = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
    let tools = json!([
        {"type": "function", "function": {"name": "other"}},
        {"type": "function", "function": {"name": "note", "parameters": pet()}},
    ]);
    let named = json!({"type": "function", "function": {"name": "note"}});
    let strict = json!({"type": "json_schema", "json_schema": {"name": "pet", "schema": pet()}});
    let allowed =
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}});
    let read: fn(&Value) -> (&Value, &Value, Value) = |made| {
        let choice = &made["choices"][0];
        let call = &choice["message"]["tool_calls"][0]["function"];
        let calls = choice["finish_reason"] == "tool_calls";
        assert_eq!(calls, call.is_object(), "{made}");
        let arguments = call["arguments"]
            .as_str()
            .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        (&choice["message"]["content"], &call["name"], arguments)
    };
    let choose = |choice: Value| json!({"tools": tools, "tool_choice": choice});
    let format = |format: Value| json!({"response_format": format});
    check_forms(
        &base,
        CHAT,
        read,
        &[
            (format(json!({"type": "json_object"})), "object"),
            (
                format(json!({"type": "json_object", "schema": pet()})),
                "pet",
            ),
            (format(strict.clone()), "pet"),
            (format(json!({"type": "text"})), "text"),
            (format(Value::Null), "text"),
            (choose(named.clone()), "note"),
            (choose(json!("required")), "other"),
            (choose(allowed), "note"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "any", "parameters": {}}}],
                       "tool_choice": "required"}),
                "any",
            ),
            (choose(json!("none")), "text"),
            (choose(json!("auto")), "text"),
            (choose(Value::Null), "text"),
            (
                json!({"tools": tools, "tool_choice": named, "response_format": strict}),
                "note",
            ),
        ],
    );
    let server = start("latency=1m");
    let mut wire = Wire::connect(server.addr());
    for (more, param) in [
        (format(json!({"type": "xml"})), "response_format"),
        (format(json!("json_object")), "response_format"),
        (format(json!({"type": "json_schema"})), "response_format"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (choose(json!("sometimes")), "tool_choice"),
        (
            choose(json!({"type": "function", "function": {"name": "nobody"}})),
            "tool_choice",
        ),
    ] {
        let answer = wire.post(CHAT, with(base.clone(), &more));
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, &error["param"]),
            (400, &json!(param)),
            "{more}"
        );
    }
}

#[test]
fn responses_obey_formats_and_tools_in_form() {
    let base = json!({"model": "m", "input": "a"});
    let tools = json!([
        {"type": "function", "name": "other"},
        {"type": "function", "name": "note", "parameters": pet()},
    ]);
    let named = json!({"type": "function", "name": "note"});
    let format = json!({"type": "json_schema", "name": "pet", "schema": pet()});
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [named]});
    let choose = |choice: Value| json!({"tools": tools, "tool_choice": choice});
    check_forms(
        &base,
        "/responses",
        |made| {
            let item = &made["output"][0];
            let arguments = item["arguments"]
                .as_str()
                .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            (&item["content"][0]["text"], &item["name"], arguments)
        },
        &[
            (
                json!({"text": {"format": {"type": "json_object"}}}),
                "object",
            ),
            (json!({"text": {"format": format}}), "pet"),
            (json!({"text": {"format": {"type": "text"}}}), "text"),
            (json!({"text": {"verbosity": "low"}}), "text"),
            (choose(json!("required")), "other"),
            (
                json!({"tools": [{"type": "function", "name": "any", "parameters": {}}],
                       "tool_choice": "required"}),
                "any",
            ),
            (choose(named.clone()), "note"),
            (choose(allowed), "note"),
        ],
    );
}

#[test]
fn messages_obey_formats_and_tools_in_form() {
    let base =
        json!({"model": "m", "max_tokens": 999, "messages": [{"role": "user", "content": "a"}]});
    let tools = json!([
        {"name": "other", "input_schema": {"type": "object"}},
        {"name": "note", "input_schema": pet()},
    ]);
    let format = json!({"type": "json_schema", "schema": pet()});
    let choose = |choice: Value| json!({"tools": tools, "tool_choice": choice});
    check_forms(
        &base,
        "/messages",
        |made| {
            let part = &made["content"][0];
            assert_eq!(
                made["stop_reason"] == "tool_use",
                part["type"] == "tool_use",
                "{made}"
            );
            (&part["text"], &part["name"], part["input"].clone())
        },
        &[
            (json!({"output_config": {"format": format}}), "pet"),
            (json!({"output_format": format}), "pet"),
            (choose(json!({"type": "any"})), "other"),
            (choose(json!({"type": "tool", "name": "note"})), "note"),
            (choose(json!({"type": "auto"})), "text"),
            (choose(json!({"type": "none"})), "text"),
        ],
    );
}

#[test]
fn above_the_limit_is_429_with_every_header() {
    let time = VirtualClock::new();
    let spec = SimSpec::default()
        .latency(Duration::ZERO)
        .requests(Rate::per_minute(60))
        .burst(3);
    let server = SimServer::builder(spec)
        .clock(time.clock())
        .record_arrivals(true)
        .start()
        .unwrap();
    for used in 1..=3 {
        let answer = chat(&server, "a");
        assert_eq!(answer.status, 200);
        let remaining = (60 - used).to_string();
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("60"));
        assert_eq!(
            answer.header("x-ratelimit-remaining-requests"),
            Some(&*remaining)
        );
        assert_eq!(
            answer.header("x-ratelimit-reset-requests"),
            Some(&*format!("{used}s"))
        );
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    }
    time.advance(Duration::from_millis(500));
    let limited = chat(&server, "a");
    assert_eq!(limited.status, 429);
    assert_eq!(limited.header("retry-after-ms"), Some("500"));
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited.header("x-ratelimit-remaining-requests"), Some("0"));
    let error = limited.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("rate_limit_exceeded"), &json!("requests"))
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("try again in 500ms")
    );
    time.advance(Duration::from_millis(499));
    assert_eq!(chat(&server, "a").status, 429);
    time.advance(Duration::from_millis(1));
    assert_eq!(chat(&server, "a").status, 200);
    let stats = server.stats();
    assert_eq!((stats.answered, stats.limited, stats.refused), (4, 2, 0));
    // Six in a second, where three and one more may come.
    assert_eq!(stats.requests_over, 2);
    assert_eq!(stats.excess(Rate::per_minute(60), 3), 2);
    assert_eq!(stats.excess(Rate::per_minute(60), 5), 0);
}

#[test]
fn tokens_are_limited_by_what_the_answer_will_use() {
    let time = VirtualClock::new();
    let spec = SimSpec::default()
        .latency(Duration::ZERO)
        .tokens(Rate::per_minute(600));
    let server = SimServer::builder(spec)
        .clock(time.clock())
        .start()
        .unwrap();
    let ask = |tokens: u64| {
        // Seven tokens of prompt, and so many of answer.
        let message = json!({"role": "user", "content": "abc"});
        let body = json!({"model": "m", "messages": [message], "n": tokens, "max_tokens": 1});
        Wire::connect(server.addr()).post(CHAT, body.to_string())
    };
    assert_eq!(ask(13).json()["usage"]["total_tokens"], 20);
    // The burst, two seconds' worth, is used up.
    let limited = ask(3);
    assert_eq!(limited.header("retry-after-ms"), Some("1000"));
    assert_eq!(limited.header("x-ratelimit-remaining-tokens"), Some("0"));
    assert_eq!(limited.json()["error"]["type"], "tokens");
    time.advance(Duration::from_secs(1));
    assert_eq!(ask(3).status, 200);
    // 100 is more than the burst: let in when half of that is free.
    assert_eq!(ask(93).header("retry-after-ms"), Some("1000"));
    time.advance(Duration::from_secs(1));
    assert_eq!(ask(93).status, 200);
    let text = "x".repeat(4 * 594);
    let never = chat(&server, &text);
    assert_eq!((never.status, never.header("retry-after")), (429, None));
    let error = never.json()["error"]["message"].to_string();
    assert!(error.contains("Request too large"), "{error}");
}

#[test]
fn an_answer_comes_when_its_latency_is_over() {
    let time = VirtualClock::new();
    let spec = SimSpec::default()
        .latency(Duration::from_secs(3600))
        .jitter(0.0);
    let server = SimServer::builder(spec)
        .clock(time.clock())
        .start()
        .unwrap();
    thread::scope(|scope| {
        let asking = scope.spawn(|| chat(&server, "a"));
        time.wait_parked(1);
        assert_eq!(server.stats().in_flight, 1);
        time.advance(Duration::from_secs(3599));
        assert_eq!(time.parked(), 1, "answered a second early");
        time.advance(Duration::from_secs(1));
        assert_eq!(asking.join().unwrap().status, 200);
    });
    let stats = server.stats();
    assert_eq!((stats.in_flight_peak, stats.answered), (1, 1));
}

#[test]
fn who_comes_while_all_places_are_taken_is_refused() {
    for (spec, status) in [("places=1@60s,hints=s", 429), ("overload=1@60s", 529)] {
        let time = VirtualClock::new();
        let spec: SimSpec = format!("latency=5s,jitter=0,{spec}").parse().unwrap();
        let server = SimServer::builder(spec).clock(time.clock());
        let server = server.start().unwrap();
        let ask = || {
            let body = r#"{"model":"c","max_tokens":3,"messages":[{"role":"user","content":"a"}]}"#;
            Wire::connect(server.addr()).post("/v1/messages", body)
        };
        thread::scope(|scope| {
            let asking = scope.spawn(ask);
            time.wait_parked(1);
            for _ in 0..2 {
                let refused = ask();
                assert_eq!(refused.status, status);
                assert_eq!(refused.header("retry-after"), Some("60"));
            }
            time.advance(Duration::from_secs(10));
            assert_eq!(asking.join().unwrap().status, 200);
            let asking = scope.spawn(ask);
            time.wait_parked(1);
            time.advance(Duration::from_secs(10));
            assert_eq!(
                asking.join().unwrap().status,
                200,
                "the place is free again"
            );
        });
        let stats = server.stats();
        assert_eq!((stats.answered, stats.limited), (2, 2));
    }
}

#[test]
fn errors_are_drawn_alike_in_every_run_and_pass_when_asked_again() {
    let statuses = |order: &[usize]| {
        let server = start("latency=0,errors=0.3");
        let mut seen = vec![Vec::new(); 40];
        let mut wire = Wire::connect(server.addr());
        for number in order {
            // Until it passes; each status is kept.
            for _ in 0..50 {
                let status = wire
                    .post(CHAT, prompt(&format!("question {number}")))
                    .status;
                seen[*number].push(status);
                if status == 200 {
                    break;
                }
            }
        }
        let stats = server.stats();
        assert_eq!(stats.requests, stats.answered + stats.errors);
        seen
    };
    let forwards: Vec<usize> = (0..40).collect();
    let backwards: Vec<usize> = (0..40).rev().collect();
    let seen = statuses(&forwards);
    assert_eq!(seen, statuses(&backwards));
    let failed: Vec<u16> = seen
        .concat()
        .into_iter()
        .filter(|status| *status != 200)
        .collect();
    assert!((5..=40).contains(&failed.len()), "{failed:?}");
    assert!(
        [500, 502, 503].iter().all(|status| failed.contains(status)),
        "{failed:?}"
    );
}

#[test]
fn faults_break_connections_and_nothing_else() {
    let server = start("latency=0,faults=0.5");
    let (mut whole, mut reset, mut cut) = (0, 0, 0);
    for number in 0..60 {
        let mut wire = Wire::connect(server.addr());
        match wire.exchange("POST", CHAT, prompt(&format!("question {number}"))) {
            Ok(answer) => {
                assert_eq!(answer.status, 200);
                whole += 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => reset += 1,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                cut += 1;
            }
        }
    }
    assert!(whole > 5 && reset > 5 && cut > 5, "{whole} {reset} {cut}");
}

#[test]
fn chunked_bodies_pipelining_and_expectations_are_understood() {
    let server = start("latency=0");
    let mut wire = Wire::connect(server.addr());
    let body = prompt("a");
    let (left, right) = body.split_at(10);
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    );
    wire.send(&chunked).unwrap();
    assert_eq!(wire.receive(true).unwrap().status, 100);
    let (l, r) = (left.len(), right.len());
    let two = "GET /v1/models HTTP/1.1\r\n\r\nHEAD /v1/models HTTP/1.1\r\n\r\n";
    wire.send(format!(
        "{l:x};x=y\r\n{left}\r\n{r:X}\r\n{right}\r\n0\r\nt: v\r\n\r\n{two}"
    ))
    .unwrap();
    assert_eq!(wire.receive(true).unwrap().body, chat(&server, "a").body);
    let got = wire.receive(true).unwrap();
    let head = wire.receive(false).unwrap();
    assert_eq!(got.header("content-length"), head.header("content-length"));
    wire.send("GET /v1/models HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(
        wire.receive(true).unwrap().header("connection"),
        Some("close")
    );
    assert_eq!(
        wire.receive(true).unwrap_err().kind(),
        std::io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn what_is_not_http_is_refused_and_never_a_panic() {
    let server = start("latency=0");
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(80 << 10));
    let deep = "[".repeat(100_000);
    let deep = format!("POST {CHAT} HTTP/1.1\r\ncontent-length: 100000\r\n\r\n{deep}");
    let nested = "{\"a\":".repeat(127);
    let nested = format!("POST {CHAT} HTTP/1.1\r\ncontent-length: 635\r\n\r\n{nested}");
    let post = |fields: &str| format!("POST {CHAT} HTTP/1.1\r\n{fields}\r\n\r\n");
    for (bytes, status) in [
        ("\u{0}\u{1}\u{2}\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1} tls hello \r\n\r\n", 400),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("GET /\u{e9} HTTP/1.1\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n: empty\r\n\r\n", 400),
        (&post("content-length: -1"), 400),
        (&post("content-length: 1\r\ncontent-length: 2"), 400),
        (&post("content-length: 99999999999999999999999"), 413),
        (&post("content-length: 67108865"), 413),
        (&post("transfer-encoding: gzip"), 501),
        (
            &post("transfer-encoding: chunked\r\ncontent-length: 3"),
            400,
        ),
        (&(post("transfer-encoding: chunked") + "zz\r\n"), 400),
        (&(post("transfer-encoding: chunked") + "-1\r\n"), 400),
        (
            &(post("transfer-encoding: chunked") + "FFFFFFFFFFFFFFFF\r\n"),
            413,
        ),
        (&(post("transfer-encoding: chunked") + "1\r\nabc\r\n"), 400),
        (&long, 431),
        (&deep, 400),
        (&nested, 400),
    ] {
        let mut wire = Wire::connect(server.addr());
        wire.send(bytes).unwrap();
        let answer = wire.receive(true).unwrap();
        assert_eq!(answer.status, status, "{:?}", &bytes[..bytes.len().min(60)]);
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    // It still works.
    assert_eq!(chat(&server, "a").status, 200);
}

#[test]
fn a_stream_is_made_of_events_that_say_the_same() {
    let server = start("latency=20ms,jitter=0");
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a"}]}"#;
    let begun = Instant::now();
    let answer = Wire::connect(server.addr()).post(CHAT, body);
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let text = answer.text();
    let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(events.pop(), Some("data: [DONE]"));
    let said: String = events
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event["data: ".len()..]).unwrap())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    let whole = chat(&server, "a").json();
    assert_eq!(whole["choices"][0]["message"]["content"], said);
}

#[test]
fn dropping_the_server_ends_every_wait() {
    let server = start("latency=60m,jitter=0");
    let addr = server.addr();
    let mut idle = Wire::connect(addr);
    let mut waiting: Vec<Wire> = (0..8).map(|_| Wire::connect(addr)).collect();
    for wire in &mut waiting {
        let (body, length) = (prompt("a"), prompt("a").len());
        wire.send(format!(
            "POST {CHAT} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
    }
    while server.stats().in_flight < 8 || server.stats().connections < 9 {
        thread::yield_now();
    }
    drop(server);
    for wire in waiting.iter_mut().chain([&mut idle]) {
        assert!(wire.receive(true).is_err());
    }
    assert!(
        std::net::TcpStream::connect(addr).is_err(),
        "still listening"
    );
}

#[test]
fn hundreds_of_connections_at_once_are_taken() {
    // Both ends are in this process, and a process is often limited to 1,024 descriptors.
    let server = start("latency=50ms");
    let clients = 400;
    let mut wires: Vec<Wire> = (0..clients).map(|_| Wire::connect(server.addr())).collect();
    for (number, wire) in wires.iter_mut().enumerate() {
        let body = prompt(&format!("question {number}"));
        let length = body.len();
        wire.send(format!(
            "POST {CHAT} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
    }
    for wire in &mut wires {
        assert_eq!(wire.receive(true).unwrap().status, 200);
    }
    let stats = server.stats();
    assert_eq!((stats.connections, stats.answered), (clients, clients));
    assert!(stats.in_flight_peak > 1 && stats.in_flight == 0);
}

#[test]
fn a_client_that_goes_away_is_counted_and_harms_nobody() {
    let time = VirtualClock::new();
    let server = SimServer::builder(SimSpec::default())
        .clock(time.clock())
        .start()
        .unwrap();
    let mut wire = Wire::connect(server.addr());
    let (body, length) = (prompt("a"), prompt("a").len());
    wire.send(format!(
        "POST {CHAT} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
    .unwrap();
    time.wait_parked(1);
    drop(wire);
    time.advance(Duration::from_secs(60));
    while server.stats().in_flight > 0 {
        thread::yield_now();
    }
    assert_eq!(server.stats().requests, 1);
}

/// Needs an interpreter with the `openai` package, named by `TOLLGATE_TEST_PYTHON`; passes without
/// having tried anything where that is not set.
#[test]
fn the_official_python_package_is_content() {
    let Some(python) = std::env::var_os("TOLLGATE_TEST_PYTHON") else {
        eprintln!("skipped: TOLLGATE_TEST_PYTHON names no interpreter");
        return;
    };
    let calm = start("latency=1ms");
    let strict = start("latency=1ms,rpm=200,burst=2");
    let flaky = start("latency=1ms,errors=0.2,faults=0.2");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");
    let output = Command::new(python)
        .arg(script)
        .args([calm.base_url(), strict.base_url(), flaky.base_url()])
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("TOLLGATE_TEST_PYTHON can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
