//! Runs over files: what goes in, what comes out, and what the next run makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::{
    Answer, Call, Cancel, Client, ErrorKind, FileRun, MemoryTransport, Price, Retry, Summary, Usd,
};

/// A folder with an input, and a client whose answers are made up here.
struct Desk {
    folder: TempDir,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Script = fn(&Value, usize) -> (u16, String);

impl Desk {
    fn new(input: &str) -> Self {
        let desk = Self {
            folder: TempDir::new().unwrap(),
            sent: Arc::default(),
        };
        fs::write(desk.path("in.jsonl"), input).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `script` gets each body and how many requests there have been before.
    fn client(&self, script: Script) -> Client {
        let sent = Arc::clone(&self.sent);
        let transport = MemoryTransport::new(move |call: &Call<'_>| {
            let count = {
                let mut sent = sent.lock().unwrap();
                sent.push(call.body.to_vec());
                sent.len() - 1
            };
            let body: Value = serde_json::from_slice(call.body).unwrap();
            let (status, body) = script(&body, count);
            Ok(Answer {
                status,
                body: body.into_bytes(),
                ..Answer::default()
            })
        });
        Client::builder()
            .no_auth()
            .concurrency(4)
            .retry(Retry::new().base(Duration::from_millis(1)))
            .transport(transport)
            .build()
            .unwrap()
    }

    fn run(&self, script: Script) -> Summary {
        self.run_with(script, |run| run).unwrap()
    }

    fn run_with(
        &self,
        script: Script,
        set: impl FnOnce(FileRun<'static>) -> FileRun<'static>,
    ) -> tollgate::Result<Summary> {
        let client = self.client(script);
        set(client.jsonl(self.path("in.jsonl"), self.path("out.results.jsonl"))).run()
    }

    fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    fn results(&self) -> Vec<Value> {
        records(&self.path("out.results.jsonl"))
    }

    fn errors(&self) -> Vec<Value> {
        records(&self.path("out.errors.jsonl"))
    }
}

fn records(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn ids(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record["custom_id"].as_str().unwrap_or("null"))
        .collect()
}

fn rows(count: usize) -> String {
    (0..count)
        .map(|n| row(&format!("id-{n}"), &format!("prompt {n}")))
        .collect()
}

fn row(id: &str, prompt: &str) -> String {
    let row = json!({
        "custom_id": id, "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": prompt}]},
    });
    format!("{row}\n")
}

fn prompt(body: &Value) -> &str {
    body["messages"][0]["content"].as_str().unwrap_or_default()
}

fn answered(body: &Value) -> (u16, String) {
    let answer = json!({
        "choices": [{"message": {"content": format!("re: {}", prompt(body))}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    (200, answer.to_string())
}

/// An answer that took 10 and 5 model tokens.
fn spends(_: &Value, _: usize) -> (u16, String) {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5});
    (200, json!({"choices": [], "usage": usage}).to_string())
}

fn fine(body: &Value, _: usize) -> (u16, String) {
    answered(body)
}

#[test]
fn every_row_is_answered_once_and_the_sums_are_right() {
    let desk = Desk::new(&rows(300));
    let summary = desk.run(fine);
    let results = desk.results();
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
    assert!(!desk.path("out.errors.jsonl").exists());
}

#[test]
fn ordered_results_are_in_the_order_of_the_input() {
    let desk = Desk::new(&rows(500));
    let slow_first: Script = |body, count| {
        if count % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        answered(body)
    };
    desk.run_with(slow_first, |run| run.ordered(true)).unwrap();
    let expected: Vec<String> = (0..500).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids(&desk.results()), expected);
}

#[test]
fn a_rerun_sends_nothing_that_is_done() {
    let desk = Desk::new(&rows(20));
    desk.run(fine);
    fs::write(desk.path("in.jsonl"), rows(30)).unwrap();
    let summary = desk.run(fine);
    assert_eq!(summary.progress.skipped, 20);
    assert_eq!(summary.progress.succeeded, 10);
    assert_eq!(desk.sent(), 30);
    assert_eq!(desk.results().len(), 30);
}

#[test]
fn a_results_file_that_was_cut_anywhere_is_carried_on_with() {
    let desk = Desk::new(&rows(4));
    desk.run_with(fine, |run| run.ordered(true)).unwrap();
    let whole = fs::read(desk.path("out.results.jsonl")).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let last_two = whole.len() - lines[2].len() - lines[3].len();
    for cut in last_two..=whole.len() {
        fs::write(desk.path("out.results.jsonl"), &whole[..cut]).unwrap();
        desk.run(fine);
        let mut found = desk.results();
        found.sort_by_key(|record| record["custom_id"].to_string());
        assert_eq!(
            ids(&found),
            ["id-0", "id-1", "id-2", "id-3"],
            "cut at {cut}"
        );
    }
    for tail in [&b"\0\0\0\0"[..], b"{\"custom_id\":\"\xe2\x82", b"{"] {
        let mut torn = whole.clone();
        torn.extend_from_slice(tail);
        fs::write(desk.path("out.results.jsonl"), &torn).unwrap();
        let before = desk.sent();
        desk.run(fine);
        assert_eq!(desk.sent(), before);
        assert_eq!(fs::read(desk.path("out.results.jsonl")).unwrap(), whole);
    }
}

#[test]
fn a_file_that_is_no_results_file_is_refused_and_left_alone() {
    let desk = Desk::new(&rows(3));
    desk.run(fine);
    let whole = fs::read_to_string(desk.path("out.results.jsonl")).unwrap();
    let mut lines: Vec<&str> = whole.lines().collect();
    lines[1] = "not a record";
    let broken = lines.join("\n") + "\n";
    fs::write(desk.path("out.results.jsonl"), &broken).unwrap();
    let sent = desk.sent();
    let error = desk.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("line 2"), "{error}");
    assert_eq!(desk.sent(), sent);
    assert_eq!(
        fs::read_to_string(desk.path("out.results.jsonl")).unwrap(),
        broken
    );
    desk.run_with(fine, |run| run.overwrite(true)).unwrap();
    assert_eq!(desk.results().len(), 3);
}

#[test]
fn failed_rows_are_in_the_errors_file_until_they_succeed() {
    let desk = Desk::new(&rows(6));
    let odd_fail: Script = |body, _| match prompt(body) {
        "prompt 1" => (400, r#"{"error":{"message":"no","code":"bad"}}"#.to_owned()),
        "prompt 3" => (503, "{}".to_owned()),
        _ => answered(body),
    };
    let summary = desk.run(odd_fail);
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (4, 2)
    );
    let errors = desk.errors();
    let mut failed = ids(&errors);
    failed.sort_unstable();
    assert_eq!(failed, ["id-1", "id-3"]);
    let bad = errors
        .iter()
        .find(|record| record["custom_id"] == "id-1")
        .unwrap();
    assert_eq!(bad["response"]["status_code"], 400);
    assert_eq!(bad["response"]["body"]["error"]["code"], "bad");
    assert_eq!(bad["error"], Value::Null);

    // What may pass is repeated, and what will not is still failed.
    let sent = desk.sent();
    let summary = desk.run(fine);
    assert_eq!(desk.sent(), sent + 1);
    assert_eq!((summary.progress.skipped, summary.progress.failed), (4, 1));
    assert_eq!(ids(&desk.errors()), ["id-1"]);

    let summary = desk.run_with(fine, |run| run.retry_failed(true)).unwrap();
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (1, 0)
    );
    assert!(!desk.path("out.errors.jsonl").exists());
    assert_eq!(desk.results().len(), 6);
}

#[test]
fn a_left_over_errors_file_is_no_part_of_a_fresh_run() {
    let desk = Desk::new(&rows(2));
    let old = r#"{"id":"x","custom_id":"id-0","response":null,"error":{"code":"invalid_request_line","message":""}}"#;
    fs::write(desk.path("out.errors.jsonl"), format!("{old}\n{{\"id\"")).unwrap();
    desk.run(fine);
    assert!(!desk.path("out.errors.jsonl").exists());
    assert_eq!(desk.sent(), 2);
}

#[test]
fn files_that_are_something_else_are_left_alone() {
    for (name, precious) in [
        ("out.results.jsonl", r#"{"name":"my config","keep":true}"#),
        ("out.results.jsonl", "hello world"),
        ("out.errors.jsonl", "precious notes\n"),
        ("out.errors.jsonl", "{\"name\":1}"),
    ] {
        let desk = Desk::new(&rows(2));
        fs::write(desk.path(name), precious).unwrap();
        let error = desk.run_with(fine, |run| run).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name} {precious}");
        assert_eq!(desk.sent(), 0);
        assert_eq!(fs::read_to_string(desk.path(name)).unwrap(), precious);
    }
}

#[test]
fn what_failed_for_good_stays_so_when_nothing_succeeded() {
    let desk = Desk::new(&rows(3));
    let invalid: Script = |_, _| (400, r#"{"error":{"message":"no"}}"#.to_owned());
    desk.run(invalid);
    let summary = desk.run(fine);
    assert_eq!((desk.sent(), summary.progress.failed), (3, 3));
    assert_eq!(desk.errors().len(), 3);
}

#[test]
fn an_answer_of_no_use_that_is_asked_for_again_may_be_billed_twice() {
    let desk = Desk::new(&rows(5));
    let page: Script = |_, _| (200, "<html>log in</html>".to_owned());
    let summary = desk.run(page).to_json(1);
    assert_eq!(summary["attempts"], 15);
    assert_eq!(summary["retries"], 10);
    // Ten were asked for again here, and the last of each row is by a rerun.
    assert_eq!(summary["possibly_billed_twice"], 15);
    assert_eq!(desk.errors()[0]["error"]["code"], "invalid_response");
}

#[test]
fn a_request_that_has_changed_since_is_refused_before_anything_is_sent() {
    let desk = Desk::new(&rows(3));
    desk.run(fine);
    fs::write(
        desk.path("in.jsonl"),
        row("new", "x") + &row("id-1", "another question"),
    )
    .unwrap();
    let error = desk.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("id-1") && error.to_string().contains("line 2"));
    assert_eq!(desk.sent(), 3);
}

#[test]
fn simulated_answers_never_mix_with_paid_ones() {
    let desk = Desk::new(&rows(3));
    desk.run_with(fine, |run| run.simulated(true)).unwrap();
    assert_eq!(desk.results()[0]["tollgate"]["simulated"], true);
    let error = desk.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    desk.run_with(fine, |run| run.overwrite(true)).unwrap();
    let error = desk.run_with(fine, |run| run.simulated(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_bad_line_is_one_failed_row_and_the_others_are_answered() {
    let mut input = rows(2).into_bytes();
    input.extend_from_slice(b"not json\n\n{\"custom_id\":\"u\",\"body\":{\"a\":\"\xff\"}}\n");
    input.extend_from_slice(br#"{"body":{"model":"m"}}"#);
    input.push(b'\n');
    input.extend_from_slice(row("last", "x").as_bytes());
    let desk = Desk::new("");
    fs::write(desk.path("in.jsonl"), input).unwrap();
    let summary = desk.run(fine);
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (3, 3)
    );
    assert_eq!((summary.requests, desk.sent()), (6, 3));
    let errors = desk.errors();
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
    assert!(errors.iter().any(|record| record["custom_id"].is_null()));
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
        let desk = Desk::new("");
        fs::write(desk.path("in.jsonl"), content).unwrap();
        let error = desk.run_with(fine, |run| run).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{named}");
        assert!(error.to_string().contains(named), "{named}: {error}");
        assert_eq!(desk.sent(), 0);
        assert!(!desk.path("out.results.jsonl").exists());
    }
}

#[test]
fn an_empty_input_is_a_run_of_no_rows() {
    for input in ["", "\n\n", "\u{feff}"] {
        let desk = Desk::new(input);
        let summary = desk.run(fine);
        assert_eq!((summary.requests, desk.sent()), (0, 0));
    }
}

#[test]
fn what_stops_the_run_leaves_its_rows_for_the_next() {
    let desk = Desk::new(&rows(100));
    let out_of_money: Script = |body, count| {
        if count >= 10 {
            let error = r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#;
            return (429, error.to_owned());
        }
        answered(body)
    };
    let summary = desk.run(out_of_money);
    let stopped = summary.stopped.as_ref().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Quota);
    assert_eq!(summary.progress.succeeded, 10);
    assert_eq!(summary.not_attempted, 90);
    assert!(desk.sent() <= 10 + 4, "{}", desk.sent());
    assert!(desk.errors().is_empty());
    let summary = desk.run(fine);
    assert_eq!(
        (summary.progress.skipped, summary.progress.succeeded),
        (10, 90)
    );
    assert_eq!(desk.results().len(), 100);
}

#[test]
fn bodies_go_out_byte_for_byte() {
    let body = r#"{"model":"m","messages":[],"big":12345678901234567890123,"tiny":1e-400,"z":1,"a":2,"z":3,"s":"\u00e9\/"}"#;
    let desk = Desk::new(&format!("{{\"custom_id\":\"a\",\"body\":{body}}}\n"));
    desk.run(fine);
    assert_eq!(desk.sent.lock().unwrap()[0], body.as_bytes());
}

#[test]
fn an_answer_over_several_lines_is_a_record_on_one() {
    let desk = Desk::new(&rows(1));
    let pretty: Script = |_, _| {
        let body =
            "{\n  \"id\": \"x\",\r\n  \"big\": 98765432109876543210,\n  \"choices\": [\n {} ]\n}\n";
        (200, body.to_owned())
    };
    desk.run(pretty);
    let text = fs::read_to_string(desk.path("out.results.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("98765432109876543210"));
}

#[test]
fn anthropic_lines_come_back_as_anthropic_results() {
    let line = json!({"custom_id": "a", "params": {"model": "m", "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}]}});
    let desk = Desk::new(&format!("{line}\n"));
    let message: Script = |_, _| {
        let body = json!({"type": "message", "content": [{"type": "text", "text": "yo"}],
            "usage": {"input_tokens": 3, "output_tokens": 1}});
        (200, body.to_string())
    };
    let summary = desk.run(message);
    let results = desk.results();
    assert_eq!(results[0]["result"]["type"], "succeeded");
    assert_eq!(results[0]["result"]["message"]["content"][0]["text"], "yo");
    assert_eq!(summary.progress.prompt_tokens, 3);
    assert_eq!(desk.run(message).progress.skipped, 1);
}

#[test]
fn prompts_are_chats_named_by_their_line() {
    let desk = Desk::new("first\n\n  third \n");
    desk.run_with(fine, |run| {
        run.prompts("the-model", Some(9), Some("be brief"))
            .ordered(true)
    })
    .unwrap();
    assert_eq!(ids(&desk.results()), ["line-1", "line-3"]);
    let sent: Value = serde_json::from_slice(&desk.sent.lock().unwrap()[0]).unwrap();
    assert_eq!(sent["model"], "the-model");
    assert_eq!(sent["max_tokens"], 9);
    assert_eq!(sent["messages"][0]["role"], "system");
}

#[test]
fn strict_records_hold_nothing_of_ours() {
    let desk = Desk::new(&rows(1));
    desk.run_with(fine, |run| run.strict(true)).unwrap();
    assert!(desk.results()[0].get("tollgate").is_none());
    assert_eq!(desk.run(fine).progress.skipped, 1, "matched by id alone");
}

#[test]
fn the_output_may_not_be_the_input() {
    let desk = Desk::new(&rows(1));
    let before = fs::read(desk.path("in.jsonl")).unwrap();
    let client = desk.client(fine);
    let error = client
        .jsonl(desk.path("in.jsonl"), desk.path("in.jsonl"))
        .overwrite(true)
        .run()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(fs::read(desk.path("in.jsonl")).unwrap(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_with_an_error_of_its_own() {
    let desk = Desk::new(&rows(2_000));
    let client = desk.client(fine);
    let error = client
        .jsonl(desk.path("in.jsonl"), "/dev/full")
        .errors(desk.path("e.jsonl"))
        .run()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        desk.sent() < 2_000,
        "nothing is fetched that cannot be kept"
    );
}

#[test]
fn progress_is_told_on_the_calling_thread_and_adds_up_at_the_end() {
    let desk = Desk::new(&rows(50));
    let here = std::thread::current().id();
    let mut last = None;
    let client = desk.client(fine);
    client
        .jsonl(desk.path("in.jsonl"), desk.path("out.results.jsonl"))
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
    let desk = Desk::new(&rows(1));
    fs::write(desk.path("out.jsonl"), "not even results").unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let client = desk.client(fine).with_cancel(&cancel);
    let run = client.jsonl(desk.path("in.jsonl"), desk.path("out.jsonl"));
    let summary = run.overwrite(true).run().unwrap();
    let stopped = summary.stopped.expect("a reason");
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    assert_eq!((summary.requests, summary.progress.done()), (0, 0));
    let left = fs::read_to_string(desk.path("out.jsonl")).unwrap();
    assert_eq!(left, "not even results");
}

#[test]
fn a_run_that_has_spent_its_budget_says_so_and_carries_on_with_another() {
    let desk = Desk::new(&rows(100));
    let price = Price::per_million(1.0, 2.0).unwrap();
    let most: Usd = "0.0001".parse().unwrap();
    let summary = desk
        .run_with(spends, |run| run.price(price).max_cost(most))
        .unwrap();
    // 20 millionths of a dollar each: the fifth reaches it, with three more in flight at most.
    let sent = desk.sent() as u64;
    assert!((5..=5 + 3).contains(&sent), "{sent}");
    assert_eq!(summary.progress.succeeded, sent);
    assert_eq!(summary.not_attempted, 100 - sent);
    assert_eq!(summary.progress.prompt_tokens, sent * 10);
    let cost = summary.progress.cost.unwrap();
    assert_eq!(
        cost.to_string(),
        format!("0.{:06}", sent * 20).trim_end_matches('0')
    );
    let stopped = summary.stopped.unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Budget);
    assert!(stopped.kind().is_passing());
    assert!(stopped.to_string().contains(&cost.to_string()), "{stopped}");

    // What was spent before is none of this run's.
    let summary = desk
        .run_with(spends, |run| run.token_budget(1_500))
        .unwrap();
    assert!(summary.stopped.is_none(), "{summary:?}");
    assert_eq!(desk.sent(), 100);
    assert_eq!(summary.progress.cost, None);
}

#[test]
fn a_bound_on_the_cost_needs_a_price() {
    let desk = Desk::new(&rows(1));
    let run = desk.run_with(fine, |run| run.max_cost("1".parse().unwrap()));
    let error = run.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("--price"), "{error}");
    assert_eq!(desk.sent(), 0);
}

#[test]
fn a_cancelled_run_keeps_what_it_has_and_the_next_one_carries_on() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let desk = Desk::new(&rows(1_000));
    let cancel = Cancel::new();
    let client = desk.client(fine).with_cancel(&cancel);
    let summary = client
        .jsonl(desk.path("in.jsonl"), desk.path("out.results.jsonl"))
        .on_progress(|now| {
            SEEN.store(usize::try_from(now.done()).unwrap(), Ordering::SeqCst);
            if now.done() >= 10 {
                cancel.cancel();
            }
        })
        .run()
        .unwrap();
    let done = desk.results().len();
    assert_eq!(done, desk.sent(), "what was sent is kept");
    assert_eq!(summary.not_attempted, 1_000 - done as u64);
    if done < 1_000 {
        assert_eq!(summary.stopped.unwrap().kind(), ErrorKind::Cancelled);
    }
    let summary = desk.run(fine);
    assert_eq!(summary.progress.skipped, done as u64);
    assert_eq!(desk.sent(), 1_000);
}
