//! Servers that want to be waited for, whether they say for how long or not. Waits of minutes are in
//! `tests/client`, on a virtual clock.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, KEY};

#[test]
fn every_way_to_tell_a_wait_is_obeyed() {
    let limited = || Reply::error(429, "x", "429", "slow");
    let loading = r#"{"error":"Model m is currently loading","estimated_time":0.3}"#;
    let refusals = [
        limited().header("retry-after", "0.1, 0.3"),
        limited()
            .header("retry-after", "0.1")
            .header("retry-after", "0.3"),
        limited().header("retry-after", "300ms"),
        limited().header("llm_provider-retry-after", "0.3"),
        limited().header("retry-after-ms", "100, 300"),
        limited().header("x-ratelimit-reset-after", "0.3"),
        Reply::error(429, "x", "429", "Rate limit resets in 300ms"),
        Reply::status(503).body(loading),
        Reply::status(429).body(r#"{"error":{"message":"m"},"retry_after":0.3}"#),
        Reply::status(429).body(r#"{"error":{"message":"m","metadata":{"retry_after_ms":300}}}"#),
    ];
    each_at_once(refusals, |refusal| {
        let folder = Folder::new();
        folder.requests(1);
        let server = Faultd::replies([refusal.clone(), Reply::ok_chat("ok")]);
        folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
        let seen = server.requests();
        assert_eq!(seen.len(), 2, "{refusal:?}");
        let wait = seen[1].at - seen[0].at;
        assert!(wait >= Duration::from_millis(300), "{wait:?} {refusal:?}");
    });
}

/// Waits are long, and nobody else needs the time.
fn each_at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

#[test]
fn refusals_without_a_hint_fail_no_row_however_many_attempts_it_has() {
    // So many in each fixed window, and nothing but a no beyond.
    const WINDOW: Duration = Duration::from_secs(1);
    let messages = ["No deployments available for selected model.", "overloaded"];
    each_at_once(messages, |message| {
        let folder = Folder::new();
        folder.requests(25);
        let (start, windows) = (Instant::now(), Mutex::new(HashMap::new()));
        let server = Faultd::script(move |_| {
            let window = start.elapsed().as_millis() / WINDOW.as_millis();
            let mut windows = windows.lock().unwrap();
            let used: &mut u32 = windows.entry(window).or_default();
            *used += 1;
            if *used <= 15 {
                Reply::ok_chat("ok")
            } else {
                Reply::error(429, "x", "429", message)
            }
        });
        let tool = folder.tool(&["run", "p.jsonl", "--max-attempts", "1"]);
        tool.at(&server).run().code(0);
    });
}

#[test]
fn a_few_rows_wait_for_a_server_that_loads_its_model() {
    each_at_once([1, 3], |rows| {
        let folder = Folder::new();
        folder.requests(rows);
        let start = Instant::now();
        let server = Faultd::script(move |_| {
            if start.elapsed() < Duration::from_millis(1_500) {
                Reply::error(503, "unavailable_error", "503", "Loading model")
            } else {
                Reply::ok_chat("ok")
            }
        });
        let tool = folder.tool(&["run", "p.jsonl", "--max-attempts", "2"]);
        tool.at(&server).run().code(0);
    });
}

#[test]
fn a_slip_of_the_model_is_tried_again_a_little() {
    let slip = || {
        Reply::error(
            400,
            "invalid_request_error",
            "json_validate_failed",
            "Failed",
        )
    };
    let folder = Folder::new();
    folder.requests(1);
    let server = Faultd::replies([slip(), slip(), Reply::ok_chat("ok")]);
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
    let folder = Folder::new();
    folder.requests(2);
    let server = Faultd::replies([slip()]);
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(1);
    assert_eq!(server.count(), 6);
}

#[test]
fn an_outage_lasts_until_the_deadline() {
    let folder = Folder::new();
    folder.requests(3);
    // Bound, and gone: nobody else is asked for.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", free.local_addr().unwrap());
    drop(free);
    let start = Instant::now();
    let tool = folder.tool(&["run", "p.jsonl", "--deadline", "3"]);
    let tool = tool.env("OPENAI_BASE_URL", &url).env("OPENAI_API_KEY", KEY);
    tool.run().code(3).says(&["time is over", "refused"]);
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[test]
fn an_outage_of_a_server_that_answers_is_asked_once_more_before_the_deadline() {
    let folder = Folder::new();
    folder.requests(12);
    let (start, server) = (Instant::now(), Faultd::replies([Reply::status(503)]));
    let tool = folder.tool(&["run", "p.jsonl", "--deadline", "5"]);
    tool.at(&server).run().code(3).says(&["time is over"]);
    assert!(start.elapsed() >= Duration::from_secs(5));
    // Without it there would be none after the probe at three seconds.
    let last = server.requests().last().unwrap().at;
    assert!(last >= start + Duration::from_secs(4));
}

#[test]
fn a_row_without_time_for_its_wait_does_not_end_the_run_for_the_others() {
    let folder = Folder::new();
    folder.requests(20);
    let server = Faultd::script(|seen| match seen.index {
        0 => Reply::status(408).header("retry-after", "60"),
        _ => Reply::ok_chat("ok").after(Duration::from_millis(10)),
    });
    let tool = folder.tool(&["run", "p.jsonl", "-c", "1", "--deadline", "30"]);
    tool.at(&server).run().code(3).says(&["time is over"]);
    assert_eq!(server.count(), 20);
    assert_eq!(folder.records("p.results.jsonl").len(), 19);
}
