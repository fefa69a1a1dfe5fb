//! The calls themselves: what is sent, on which thread, and in which order answers come back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use tollgate::http::StatusCode;
use tollgate::{Chat, ErrorKind, Request};

use crate::bench::*;

#[test]
fn replies_are_in_the_order_of_borrowed_prompts() {
    let bench = bench(|ask| says(&format!("re: {}", ask.prompt())));
    // Borrowed from here, by slices of a string that lives here.
    let text: String = prompts(500).join("\n");
    let lines: Vec<&str> = text.lines().collect();
    let replies = bench.run(|client| client.chat_all("m", &lines));
    assert_eq!(replies.len(), 500);
    for (line, reply) in lines.iter().zip(&replies) {
        let reply = reply.as_ref().unwrap();
        assert_eq!(reply.text().unwrap(), format!("re: {line}"));
        assert_eq!((reply.attempts(), reply.status()), (1, StatusCode::OK));
    }
    assert_eq!(bench.count(), 500);
    let progress = bench.progress();
    assert_eq!((progress.succeeded, progress.attempts), (500, 500));
    assert_eq!(progress.threads, 0, "all gone at the end");
}

#[test]
fn a_chat_holds_what_was_put_in_and_goes_to_the_right_place() {
    let bench = bench(|ask| {
        assert_eq!(ask.call.method, "POST");
        assert_eq!(ask.call.url, "http://127.0.0.1:9/v1/chat/completions");
        let header = |name: &str| {
            let found = ask.call.headers.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| *value)
        };
        assert_eq!(header("authorization"), Some(&*format!("Bearer {KEY}")));
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(
            ask.body(),
            json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Say \"hi\"\n漢"},
                ],
                "max_tokens": 500,
                "temperature": 0.2,
                "response_format": {"type": "json_object"},
                "stop": ["a", "b"],
            })
        );
        says("hi")
    });
    let reply = bench.run(|client| {
        client
            .chat("m", "Say \"hi\"\n漢")
            .system("Be brief.")
            .max_tokens(500)
            .set("temperature", 0.2)
            .set("response_format", json!({"type": "json_object"}))
            .set("stop", json!(["a", "b"]))
            .send()
    });
    let reply = reply.unwrap();
    assert_eq!(reply.text().as_deref(), Some("hi"));
    assert_eq!(reply.finish_reason().as_deref(), Some("stop"));
    assert_eq!(reply.usage().unwrap().total_tokens, 15);
}

#[test]
fn a_raw_body_is_sent_byte_for_byte() {
    // Numbers that no parser keeps, a key twice, and an order of its own.
    const BODY: &str =
        "{ \"z\":9007199254740993,\"a\":1e400,\"a\" :[ ],\t\"input\":\"\\u0041\\/\"}\n";
    let bench = bench(|_| says("ok"));
    let request = Request::post("/v1/moderations", BODY);
    bench.run(|client| client.send(request)).unwrap();
    assert_eq!(bench.seen()[0].body, BODY.as_bytes());
}

#[test]
fn a_get_has_no_body_and_no_type_of_one() {
    let bench = bench(|ask| {
        assert_eq!((ask.call.method, ask.call.body.len()), ("GET", 0));
        assert!(ask.call.headers.iter().all(|(n, _)| *n != "content-type"));
        Ok(answer(200, &json!({"object": "list", "data": []})))
    });
    let reply = bench.run(|client| client.send(Request::get("/v1/models")));
    assert_eq!(
        reply.unwrap().json::<serde_json::Value>().unwrap()["object"],
        "list"
    );
}

#[test]
fn one_request_is_retried_on_the_thread_that_asks_and_starts_no_other() {
    let bench = bench(|ask| match ask.index {
        0 => error(500, "server_error", "broken"),
        1 => error(429, "rate_limit_exceeded", "slow down"),
        2 => refused(),
        3 => with(error(503, "busy", "busy"), &[("retry-after", "7")]),
        _ => says("at last"),
    });
    let (caller, reply) =
        bench.run(|client| (thread::current().id(), client.chat("m", "hi").send()));
    let reply = reply.unwrap();
    assert_eq!(reply.attempts(), 4, "the refused connect sent nothing");
    assert_eq!(bench.count(), 5);
    assert!(bench.seen().iter().all(|seen| seen.thread == caller));
    let progress = bench.progress();
    assert_eq!((progress.threads_peak, progress.retries), (1, 3));
    assert_eq!(progress.attempts, 4);
}

#[test]
fn a_run_works_on_the_callers_thread_and_its_own() {
    let bench = bench(|_| says("ok"));
    let caller = bench.run(|client| {
        client.chat_all("m", &prompts(200));
        thread::current().id()
    });
    assert!(bench.seen().iter().any(|seen| seen.thread == caller));
    assert!(bench.progress().threads_peak <= 20, "{:?}", bench.threads());
}

#[test]
fn a_wrong_path_is_refused_and_nothing_is_sent() {
    let bench = bench(|_| says("ok"));
    for path in [
        "https://elsewhere.example/v1/chat/completions",
        "//elsewhere.example/v1",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/chat#x",
        "/v1/chat completions",
        "/v1/chat\r\nx: y",
        "chat",
        "",
    ] {
        let result = bench.run(|client| client.send(Request::post(path, "{}")));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{path:?}");
        assert_eq!(error.attempts(), 0, "{path:?}");
        assert!(error.to_string().contains("path"), "{error}");
    }
    assert_eq!(bench.count(), 0);
    assert_eq!(bench.progress().attempts, 0, "nothing was sent");
}

#[test]
fn for_each_calls_back_on_this_thread_and_may_borrow() {
    let bench = bench(|ask| says(&ask.prompt()));
    let words = prompts(300);
    let mut answered = vec![false; words.len()];
    bench.run(|client| {
        let here = thread::current().id();
        let requests = words.iter().map(|word| Request::chat("m", word.as_str()));
        client
            .for_each(requests, |done| {
                assert_eq!(thread::current().id(), here);
                let index = usize::try_from(done.index).unwrap();
                let asked: serde_json::Value =
                    serde_json::from_slice(done.input.unwrap().body()).unwrap();
                assert_eq!(asked["messages"][0]["content"], *words[index]);
                assert_eq!(done.result.unwrap().text().unwrap(), words[index]);
                assert!(!answered[index], "one outcome each");
                answered[index] = true;
            })
            .unwrap();
    });
    assert!(answered.iter().all(|done| *done));
}

#[test]
fn as_completed_pulls_no_further_than_its_window() {
    let bench = bench(|ask| says(&ask.prompt()));
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    // Without an end: a client that read it all would never be done.
    let endless = (0_u64..).map(move |n| {
        counter.fetch_add(1, Ordering::SeqCst);
        Request::chat("m", n.to_string())
    });
    let done: Vec<_> = bench.run(|client| client.as_completed(endless).unwrap().take(10).collect());
    assert_eq!(done.len(), 10);
    for done in &done {
        let reply = done.result.as_ref().unwrap();
        assert_eq!(reply.text().unwrap(), done.index.to_string());
    }
    // The window, and the ten that were taken out of it.
    let pulled = pulled.load(Ordering::SeqCst);
    assert!(pulled <= 1024 + 10, "{pulled} pulled");
    assert!(bench.count() <= pulled);
}

#[test]
fn nothing_is_pulled_before_the_first_outcome_is_wanted_beyond_the_window() {
    // Twice the window, and nobody takes anything: threads wait for the consumer, and the feeder
    // for room.
    let bench = bench(|ask| says(&ask.prompt()));
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let requests = (0..2048_u32).map(move |n| {
        counter.fetch_add(1, Ordering::SeqCst);
        Request::chat("m", n.to_string())
    });
    let outcomes = bench.client.as_completed(requests).unwrap();
    // The feeder lies down on the clock when the window is full.
    bench.time.wait_parked(1);
    assert!(pulled.load(Ordering::SeqCst) <= 1024);
    let seen: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    for done in outcomes {
        seen.lock().unwrap().push(done.index);
    }
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..2048).collect::<Vec<u64>>());
}

#[test]
fn an_answer_that_is_not_json_is_taken_if_the_request_says_so() {
    let bench = bench(|_| {
        Ok(tollgate::HttpResponse {
            body: b"ID3\x03 audio".to_vec(),
            ..Default::default()
        })
    });
    let speech = Request::post("/v1/audio/speech", "{}").accept_any_answer();
    let reply = bench.run(|client| client.send(speech)).unwrap();
    assert_eq!(reply.body(), b"ID3\x03 audio");
    assert_eq!(bench.count(), 1);
}

#[test]
fn whatever_becomes_a_request_is_sent() {
    let bench = bench(|ask| says(&ask.prompt()));
    let texts = |replies: Vec<tollgate::Result<tollgate::Reply>>| -> Vec<String> {
        replies
            .into_iter()
            .map(|reply| reply.unwrap().text().unwrap())
            .collect()
    };
    let chats: Vec<Chat> = ["a", "b"].map(|prompt| Request::chat("m", prompt)).into();
    let requests: Vec<Request> = chats.iter().map(Into::into).collect();
    for replies in [
        bench.run(|client| client.send_all(&chats)),
        bench.run(|client| client.send_all(&requests)),
        bench.run(|client| client.send_all(requests.as_slice())),
        bench.run(|client| client.send_all(requests.iter().take(2))),
        bench.run(|client| client.send_all(chats.clone())),
        bench.run(|client| client.send_all(["a", "b"].map(|prompt| Request::chat("m", prompt)))),
    ] {
        assert_eq!(texts(replies), ["a", "b"]);
    }
    let reply = bench.run(|client| client.send(&requests[1]));
    assert_eq!(reply.unwrap().text().as_deref(), Some("b"));
}

#[test]
fn a_chat_has_the_settings_of_its_request() {
    let bench = bench_with(
        |builder| builder.tokens_per_minute(1_000),
        |ask| says(&ask.left.as_secs().to_string()),
    );
    let chat = Request::chat("m", "a").with_id("one").timeout(secs(7));
    let large = chat.clone().reserve_tokens(2_000).with_id("two");
    let outcomes: Vec<_> = bench.run(|client| client.in_order([chat, large]).unwrap().collect());
    let ids = outcomes.iter().map(|it| it.input.as_ref().unwrap().id());
    assert_eq!(ids.collect::<Vec<_>>(), [Some("one"), Some("two")]);
    let reply = outcomes[0].result.as_ref().unwrap();
    assert_eq!(reply.text().as_deref(), Some("7"));
    let error = outcomes[1].result.as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeverFits);
}

#[test]
fn values_of_any_type_go_out_and_come_back() {
    let bench = bench(|ask| Ok(answer(200, &ask.body())));
    let sent = BTreeMap::from([("a", vec![1, 2]), ("b", vec![])]);
    let request = Request::json("/v1/x", &sent).unwrap();
    assert_eq!(request.body(), br#"{"a":[1,2],"b":[]}"#);
    let reply = bench.run(|client| client.send(request)).unwrap();
    assert_eq!(reply.json::<BTreeMap<&str, Vec<i32>>>().unwrap(), sent);
    let wrong = reply.json::<Vec<i32>>().unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::WrongType);
    assert!(!wrong.is_transient(), "the answer would be the same");

    let value = serde_json::json!({"a": 1});
    let reply = bench.run(|client| client.send(Request::post("/v1/x", value.clone())));
    assert_eq!(reply.unwrap().json::<serde_json::Value>().unwrap(), value);

    let no_json = BTreeMap::from([(vec![1], 2)]);
    let error = Request::json("/v1/x", &no_json).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
