//! Runs over files: what goes in, what comes out, and what the next run makes of it.

mod fixture;
mod money;
mod providers;
mod resume;
mod settled;
mod shards;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::{Cancel, ErrorKind};

use fixture::{Fixture, Script, answered, fine, ids, prompt, row, rows};

#[test]
fn every_row_is_answered_once_and_the_sums_are_right() {
    let fixture = Fixture::new(&rows(300));
    let summary = fixture.run(fine);
    let results = fixture.results();
    let by_id: BTreeMap<&str, &Value> = ids(&results).into_iter().zip(&results).collect();
    assert_eq!((results.len(), by_id.len()), (300, 300));
    let record = by_id["id-7"];
    assert_eq!(record["response"]["status_code"], 200);
    assert_eq!(record["error"], Value::Null);
    assert_eq!(
        record["response"]["body"]["choices"][0]["message"]["content"],
        "re: prompt 7"
    );
    assert!(record["response"]["request_id"].is_string());
    let json = summary.to_json(0);
    for (key, value) in [
        ("requests", 300),
        ("succeeded", 300),
        ("failed", 0),
        ("skipped", 0),
        ("not_attempted", 0),
        ("attempts", 300),
        ("prompt_tokens", 900),
        ("completion_tokens", 600),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert!(!fixture.path("out.errors.jsonl").exists());
}

#[test]
fn ordered_results_are_in_the_order_of_the_input() {
    let fixture = Fixture::new(&rows(500));
    let slow_first: Script = |body, count| {
        if count % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        answered(body)
    };
    fixture
        .run_with(slow_first, |run| run.ordered(true))
        .unwrap();
    let expected: Vec<String> = (0..500).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids(&fixture.results()), expected);
}

#[test]
fn an_answer_of_no_use_is_not_lost_on_the_way() {
    let fixture = Fixture::new(&rows(5));
    let page: Script = |_, _| (200, "<html>log in</html>".to_owned());
    let summary = fixture.run(page).to_json(1);
    assert_eq!(summary["attempts"], 15);
    assert_eq!(summary["retries"], 10);
    assert_eq!(summary["possibly_billed"], 0);
    assert_eq!(fixture.errors()[0]["error"]["code"], "invalid_response");
}

#[test]
fn an_ordered_run_behind_a_slow_row_holds_no_more_than_its_window() {
    const WINDOW: usize = 1_024;
    static SENT: AtomicUsize = AtomicUsize::new(0);
    static SENT_BEHIND: AtomicUsize = AtomicUsize::new(0);
    let fixture = Fixture::new(&rows(5_000));
    let first_is_slow: Script = |body, _| {
        SENT.fetch_add(1, Ordering::SeqCst);
        if prompt(body) == "prompt 0" {
            while SENT.load(Ordering::SeqCst) < WINDOW {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Time enough to go too far.
            std::thread::sleep(Duration::from_millis(200));
            SENT_BEHIND.store(SENT.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        answered(body)
    };
    fixture
        .run_with(first_is_slow, |run| run.ordered(true))
        .unwrap();
    assert_eq!(SENT_BEHIND.load(Ordering::SeqCst), WINDOW);
    let expected: Vec<String> = (0..5_000).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids(&fixture.results()), expected);
}

#[test]
fn a_bad_line_is_one_failed_row_and_the_others_are_answered() {
    let mut input = rows(2).into_bytes();
    input.extend_from_slice(b"not json\n\n{\"custom_id\":\"u\",\"body\":{\"a\":\"\xff\"}}\n");
    input.extend_from_slice(br#"{"body":{"model":"m"}}"#);
    input.push(b'\n');
    input.extend_from_slice(row("last", "x").as_bytes());
    let fixture = Fixture::new("");
    fs::write(fixture.path("in.jsonl"), input).unwrap();
    let summary = fixture.run(fine);
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (3, 3)
    );
    assert_eq!((summary.requests, fixture.sent()), (6, 3));
    let errors = fixture.errors();
    let mut lines: Vec<_> = errors
        .iter()
        .map(|record| {
            assert_eq!(record["error"]["code"], "invalid_request_line");
            assert_eq!(record["response"], Value::Null);
            record["tollgate"]["line"].as_u64().unwrap()
        })
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [3, 5, 6]);
    assert!(ids(&errors).iter().any(|id| id.starts_with("line-")));
}

#[test]
fn what_is_no_input_is_refused_before_anything_is_sent() {
    for (content, named) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0"[..], "gzip"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"\0\x01\x02\x03\x04\x05", "binary"),
        (
            br#"{"custom_id":"a","body":{}}
{"custom_id":"b","body":{}}
{"custom_id":"a","body":{}}
"#,
            "lines 1 and 3",
        ),
    ] {
        let fixture = Fixture::new("");
        fs::write(fixture.path("in.jsonl"), content).unwrap();
        let error = fixture.run_with(fine, |run| run).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{named}");
        assert!(error.to_string().contains(named), "{named}: {error}");
        assert_eq!(fixture.sent(), 0);
        assert!(!fixture.path("out.results.jsonl").exists());
    }
}

#[test]
fn an_empty_input_is_a_run_of_no_rows() {
    for input in ["", "\n\n", "\u{feff}"] {
        let fixture = Fixture::new(input);
        let summary = fixture.run(fine);
        assert_eq!((summary.requests, fixture.sent()), (0, 0));
    }
}

#[test]
fn what_stops_the_run_leaves_its_rows_for_the_next() {
    let fixture = Fixture::new(&rows(100));
    let out_of_money: Script = |body, count| {
        if count >= 10 {
            let error = r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#;
            return (429, error.to_owned());
        }
        answered(body)
    };
    let summary = fixture.run(out_of_money);
    let stopped = summary.stopped.as_ref().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Quota);
    assert_eq!(summary.progress.succeeded, 10);
    assert_eq!(summary.not_attempted, 90);
    assert!(fixture.sent() <= 10 + 4, "{}", fixture.sent());
    assert!(fixture.errors().is_empty());
    let summary = fixture.run(fine);
    assert_eq!(
        (summary.progress.skipped, summary.progress.succeeded),
        (10, 90)
    );
    assert_eq!(fixture.results().len(), 100);
}

#[test]
fn bodies_go_out_byte_for_byte() {
    let body = r#"{"model":"m","messages":[],"big":12345678901234567890123,"tiny":1e-400,"z":1,"a":2,"z":3,"s":"\u00e9\/"}"#;
    let fixture = Fixture::new(&format!("{{\"custom_id\":\"a\",\"body\":{body}}}\n"));
    fixture.run(fine);
    assert_eq!(fixture.sent.lock().unwrap()[0], body.as_bytes());
}

#[test]
fn an_answer_over_several_lines_is_a_record_on_one() {
    let fixture = Fixture::new(&rows(1));
    let pretty: Script = |_, _| {
        let body =
            "{\n  \"id\": \"x\",\r\n  \"big\": 98765432109876543210,\n  \"choices\": [\n {} ]\n}\n";
        (200, body.to_owned())
    };
    fixture.run(pretty);
    let text = fs::read_to_string(fixture.path("out.results.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("98765432109876543210"));
}

#[test]
fn anthropic_lines_come_back_as_anthropic_results() {
    let line = json!({"custom_id": "a", "params": {"model": "m", "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}]}});
    let fixture = Fixture::new(&format!("{line}\n"));
    let message: Script = |_, _| {
        let body = json!({"type": "message", "content": [{"type": "text", "text": "yo"}],
            "usage": {"input_tokens": 3, "output_tokens": 1}});
        (200, body.to_string())
    };
    let summary = fixture.run(message);
    let results = fixture.results();
    assert_eq!(results[0]["result"]["type"], "succeeded");
    assert_eq!(results[0]["result"]["message"]["content"][0]["text"], "yo");
    assert_eq!(summary.progress.prompt_tokens, 3);
    assert_eq!(fixture.run(message).progress.skipped, 1);
}

#[test]
fn prompts_are_chats_named_by_their_line() {
    let fixture = Fixture::new("first\n\n  third \n");
    fixture
        .run_with(fine, |run| {
            run.prompts("the-model", Some(9), Some("be brief"))
                .ordered(true)
        })
        .unwrap();
    assert_eq!(ids(&fixture.results()), ["line-1", "line-3"]);
    let sent: Value = serde_json::from_slice(&fixture.sent.lock().unwrap()[0]).unwrap();
    assert_eq!(sent["model"], "the-model");
    assert_eq!(sent["max_tokens"], 9);
    assert_eq!(sent["messages"][0]["role"], "system");
}

#[test]
fn strict_records_hold_nothing_of_ours() {
    let fixture = Fixture::new(&rows(1));
    fixture.run_with(fine, |run| run.strict(true)).unwrap();
    assert!(fixture.results()[0].get("tollgate").is_none());
    assert_eq!(fixture.run(fine).progress.skipped, 1, "matched by id alone");
}

#[test]
fn the_output_may_not_be_the_input() {
    let fixture = Fixture::new(&rows(1));
    let before = fs::read(fixture.path("in.jsonl")).unwrap();
    let client = fixture.client(fine);
    let error = client
        .jsonl(fixture.path("in.jsonl"), fixture.path("in.jsonl"))
        .overwrite(true)
        .run()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(fs::read(fixture.path("in.jsonl")).unwrap(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_with_an_error_of_its_own() {
    let fixture = Fixture::new(&rows(2_000));
    let client = fixture.client(fine);
    let error = client
        .jsonl(fixture.path("in.jsonl"), "/dev/full")
        .errors(fixture.path("e.jsonl"))
        .run()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        fixture.sent() < 2_000,
        "nothing is fetched that cannot be kept"
    );
}

#[test]
fn progress_is_told_on_the_calling_thread_and_adds_up_at_the_end() {
    let fixture = Fixture::new(&rows(50));
    let here = std::thread::current().id();
    let mut last = None;
    let client = fixture.client(fine);
    client
        .jsonl(fixture.path("in.jsonl"), fixture.path("out.results.jsonl"))
        .on_progress(|now| {
            assert_eq!(std::thread::current().id(), here);
            last = Some(now.clone());
        })
        .run()
        .unwrap();
    let last = last.unwrap();
    assert_eq!(
        (last.total, last.done(), last.engine.in_flight),
        (Some(50), 50, 0)
    );
}

#[test]
fn a_run_cancelled_before_it_begins_has_a_summary_and_touches_nothing() {
    let fixture = Fixture::new(&rows(1));
    fs::write(fixture.path("out.jsonl"), "not even results").unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let client = fixture.client(fine).with_cancel(&cancel);
    let run = client.jsonl(fixture.path("in.jsonl"), fixture.path("out.jsonl"));
    let summary = run.overwrite(true).run().unwrap();
    let stopped = summary.stopped.expect("a reason");
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    assert_eq!((summary.requests, summary.progress.done()), (0, 0));
    let left = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    assert_eq!(left, "not even results");
}
