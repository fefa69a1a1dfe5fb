//! What the next run makes of what an earlier one left.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tollgate::{Cancel, ErrorKind};

use crate::fixture::{Fixture, Script, answered, failure, fine, ids, prompt, row, rows, success};

#[test]
fn a_rerun_sends_nothing_that_is_done() {
    let fixture = Fixture::new(&rows(20));
    fixture.run(fine);
    fs::write(fixture.path("in.jsonl"), rows(30)).unwrap();
    let summary = fixture.run(fine);
    assert_eq!(summary.progress.skipped, 20);
    assert_eq!(summary.progress.succeeded, 10);
    assert_eq!(fixture.sent(), 30);
    assert_eq!(fixture.results().len(), 30);
}

#[test]
fn a_results_file_that_was_cut_anywhere_is_carried_on_with() {
    let fixture = Fixture::new(&rows(4));
    fixture.run_with(fine, |run| run.ordered(true)).unwrap();
    let whole = fs::read(fixture.path("out.results.jsonl")).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let last_two = whole.len() - lines[2].len() - lines[3].len();
    for cut in last_two..=whole.len() {
        fs::write(fixture.path("out.results.jsonl"), &whole[..cut]).unwrap();
        fixture.run(fine);
        let mut found = fixture.results();
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
        fs::write(fixture.path("out.results.jsonl"), &torn).unwrap();
        let before = fixture.sent();
        fixture.run(fine);
        assert_eq!(fixture.sent(), before);
        assert_eq!(fs::read(fixture.path("out.results.jsonl")).unwrap(), whole);
    }
}

#[test]
fn a_file_that_is_no_results_file_is_refused_and_left_alone() {
    let fixture = Fixture::new(&rows(3));
    fixture.run(fine);
    let whole = fs::read_to_string(fixture.path("out.results.jsonl")).unwrap();
    let mut lines: Vec<&str> = whole.lines().collect();
    lines[1] = "not a record";
    let broken = lines.join("\n") + "\n";
    fs::write(fixture.path("out.results.jsonl"), &broken).unwrap();
    let sent = fixture.sent();
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("line 2"), "{error}");
    assert_eq!(fixture.sent(), sent);
    assert_eq!(
        fs::read_to_string(fixture.path("out.results.jsonl")).unwrap(),
        broken
    );
    fixture.run_with(fine, |run| run.overwrite(true)).unwrap();
    assert_eq!(fixture.results().len(), 3);
}

#[test]
fn failed_rows_are_in_the_errors_file_until_they_succeed() {
    let fixture = Fixture::new(&rows(6));
    let odd_fail: Script = |body, _| match prompt(body) {
        "prompt 1" => (400, r#"{"error":{"message":"no","code":"bad"}}"#.to_owned()),
        "prompt 3" => (503, "{}".to_owned()),
        _ => answered(body),
    };
    let summary = fixture.run(odd_fail);
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (4, 2)
    );
    let errors = fixture.errors();
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
    let sent = fixture.sent();
    let summary = fixture.run(fine);
    assert_eq!(fixture.sent(), sent + 1);
    assert_eq!((summary.progress.skipped, summary.progress.failed), (4, 1));
    assert_eq!(ids(&fixture.errors()), ["id-1"]);

    let summary = fixture
        .run_with(fine, |run| run.retry_failed(true))
        .unwrap();
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (1, 0)
    );
    assert!(!fixture.path("out.errors.jsonl").exists());
    assert_eq!(fixture.results().len(), 6);
}

#[test]
fn a_left_over_errors_file_is_no_part_of_a_fresh_run() {
    let fixture = Fixture::new(&rows(2));
    let old = r#"{"id":"x","custom_id":"id-0","response":null,"error":{"code":"invalid_request_line","message":""}}"#;
    fs::write(fixture.path("out.errors.jsonl"), format!("{old}\n{{\"id\"")).unwrap();
    fixture.run(fine);
    assert!(!fixture.path("out.errors.jsonl").exists());
    assert_eq!(fixture.sent(), 2);
}

#[test]
fn files_that_are_something_else_are_left_alone() {
    for (name, precious) in [
        ("out.results.jsonl", r#"{"name":"my config","keep":true}"#),
        ("out.results.jsonl", "hello world"),
        ("out.errors.jsonl", "precious notes\n"),
        ("out.errors.jsonl", "{\"name\":1}"),
    ] {
        let fixture = Fixture::new(&rows(2));
        fs::write(fixture.path(name), precious).unwrap();
        let error = fixture.run_with(fine, |run| run).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name} {precious}");
        assert_eq!(fixture.sent(), 0);
        assert_eq!(fs::read_to_string(fixture.path(name)).unwrap(), precious);
    }
}

#[test]
fn what_failed_for_good_stays_so_when_nothing_succeeded() {
    let fixture = Fixture::new(&rows(3));
    let invalid: Script = |_, _| (400, r#"{"error":{"message":"no"}}"#.to_owned());
    fixture.run(invalid);
    let summary = fixture.run(fine);
    assert_eq!((fixture.sent(), summary.progress.failed), (3, 3));
    assert_eq!(fixture.errors().len(), 3);
}

#[test]
fn a_request_that_has_changed_since_is_refused_before_anything_is_sent() {
    let fixture = Fixture::new(&rows(3));
    fixture.run(fine);
    fs::write(
        fixture.path("in.jsonl"),
        row("new", "x") + &row("id-1", "another question"),
    )
    .unwrap();
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("id-1") && error.to_string().contains("line 2"));
    assert_eq!(fixture.sent(), 3);
}

#[test]
fn simulated_answers_never_mix_with_paid_ones() {
    let fixture = Fixture::new(&rows(3));
    fixture.run_with(fine, |run| run.simulated(true)).unwrap();
    assert_eq!(fixture.results()[0]["tollgate"]["simulated"], true);
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    fixture.run_with(fine, |run| run.overwrite(true)).unwrap();
    let error = fixture
        .run_with(fine, |run| run.simulated(true))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_cancelled_run_keeps_what_it_has_and_the_next_one_carries_on() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let fixture = Fixture::new(&rows(1_000));
    let cancel = Cancel::new();
    let client = fixture.client(fine).with_cancel(&cancel);
    let summary = client
        .jsonl(fixture.path("in.jsonl"), fixture.path("out.results.jsonl"))
        .on_progress(|now| {
            SEEN.store(usize::try_from(now.done()).unwrap(), Ordering::SeqCst);
            if now.done() >= 10 {
                cancel.cancel();
            }
        })
        .run()
        .unwrap();
    let done = fixture.results().len();
    assert_eq!(done, fixture.sent(), "what was sent is kept");
    assert_eq!(summary.not_attempted, 1_000 - done as u64);
    if done < 1_000 {
        assert_eq!(summary.stopped.unwrap().kind(), ErrorKind::Cancelled);
    }
    let summary = fixture.run(fine);
    assert_eq!(summary.progress.skipped, done as u64);
    assert_eq!(fixture.sent(), 1_000);
}

#[test]
fn all_requests_that_have_changed_are_counted_and_the_first_are_named() {
    let fixture = Fixture::new(&rows(40));
    fixture.run(fine);
    let changed: String = (0..40)
        .map(|n| row(&format!("id-{n}"), &format!("another {n}")))
        .collect();
    fs::write(fixture.path("in.jsonl"), changed).unwrap();
    let told = fixture.run_with(fine, |run| run).unwrap_err().to_string();
    assert!(told.contains("line 1: \"id-0\"") && told.contains("line 20: \"id-19\""));
    assert!(
        told.contains("and 20 more") && told.contains("force_resume"),
        "{told}"
    );
    assert!(!told.contains("id-20"), "{told}");
    assert_eq!(fixture.sent(), 40);

    let before = fs::read(fixture.path("out.results.jsonl")).unwrap();
    let forced = fixture
        .run_with(fine, |run| run.force_resume(true))
        .unwrap();
    assert_eq!((forced.progress.skipped, fixture.sent()), (40, 40));
    assert_eq!(fs::read(fixture.path("out.results.jsonl")).unwrap(), before);
}

#[test]
fn a_row_that_was_answered_and_is_no_request_any_more_has_changed() {
    let fixture = Fixture::new(&row("a", "x"));
    fixture.run(fine);
    fs::write(
        fixture.path("in.jsonl"),
        "{\"custom_id\":\"a\",\"body\":7}\n".to_owned() + &row("b", "y"),
    )
    .unwrap();
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("line 1: \"a\""), "{error}");
}

#[test]
fn what_was_found_is_told_before_anything_is_sent() {
    let fixture = Fixture::new(&rows(10));
    let results = success("id-0", "x") + &success("id-1", "x") + "{\"id\":\"half";
    fs::write(fixture.path("out.results.jsonl"), results).unwrap();
    fs::write(fixture.path("out.errors.jsonl"), failure("id-2", 400)).unwrap();
    let mut first = None;
    fixture
        .client(fine)
        .jsonl(fixture.path("in.jsonl"), fixture.path("out.results.jsonl"))
        .on_progress(|now| {
            first.get_or_insert((now.clone(), fixture.sent()));
        })
        .run()
        .unwrap();
    let (first, sent) = first.unwrap();
    assert_eq!(sent, 0);
    assert_eq!(
        (first.skipped, first.failed, first.failed_before),
        (2, 1, 1)
    );
    assert_eq!((first.done(), first.finished()), (3, 0));
    let found = first.found.unwrap();
    assert_eq!(
        (found.done, found.failed, found.to_do),
        (2, Some(1), Some(7))
    );
    assert_eq!(found.torn_bytes, 11);

    let fresh = Fixture::new(&rows(2)).run(fine);
    assert_eq!(fresh.progress.found, None);
}

#[test]
fn a_cancel_is_heard_before_anything_is_touched() {
    let fixture = Fixture::new(&rows(3));
    let torn = success("id-0", "x") + "{\"id\":";
    fs::write(fixture.path("out.results.jsonl"), &torn).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let client = fixture.client(fine).with_cancel(&cancel);
    let run = client.jsonl(fixture.path("in.jsonl"), fixture.path("out.results.jsonl"));
    let summary = run.run().unwrap();
    assert_eq!(summary.stopped.unwrap().kind(), ErrorKind::Cancelled);
    assert_eq!(fixture.sent(), 0);
    let left = fs::read_to_string(fixture.path("out.results.jsonl")).unwrap();
    assert_eq!(left, torn);
}

#[test]
fn a_cancel_is_heard_while_lines_are_passed_over() {
    // All of them in one pull, if nobody asked.
    let fixture = Fixture::new(&rows(50));
    let cancel = Cancel::new();
    let client = fixture.client(fine).with_cancel(&cancel);
    let run = client.jsonl(fixture.path("in.jsonl"), fixture.path("out.results.jsonl"));
    let summary = run.on_progress(|_| cancel.cancel()).run().unwrap();
    assert_eq!((fixture.sent(), summary.not_attempted), (0, 50));
    assert_eq!(summary.stopped.unwrap().kind(), ErrorKind::Cancelled);
}

#[test]
fn rows_are_passed_over_wherever_they_stand() {
    let fixture = Fixture::new("");
    let mut input = String::new();
    let mut results = String::new();
    for n in 0..300 {
        let id = format!("id-{n}");
        match n % 7 {
            0 => input.push('\n'),
            1 => input.push_str("no request\n"),
            2 | 3 | 6 => results.push_str(&success(&id, "x")),
            _ => {}
        }
        input.push_str(&row(&id, "x"));
    }
    fs::write(fixture.path("in.jsonl"), input).unwrap();
    fs::write(fixture.path("out.results.jsonl"), results).unwrap();
    let done = (0..300).filter(|n| [2, 3, 6].contains(&(n % 7))).count();
    let bad = (0..300).filter(|n| n % 7 == 1).count();
    let summary = fixture.run(fine);
    assert_eq!(fixture.sent(), 300 - done);
    assert_eq!(summary.progress.skipped, done as u64);
    assert_eq!(summary.progress.failed, bad as u64);
    assert_eq!(
        (summary.requests, summary.not_attempted),
        (300 + bad as u64, 0)
    );
    assert_eq!(fixture.results().len(), 300);
}

#[test]
fn the_errors_file_holds_each_row_that_is_failed_now_and_no_other() {
    let fixture = Fixture::new(&rows(3));
    fs::write(fixture.path("out.results.jsonl"), success("id-0", "x")).unwrap();
    let mut old = String::new();
    for (id, status) in [
        ("id-0", 503),
        ("id-1", 400),
        ("id-1", 503),
        ("gone", 400),
        ("id-1", 422),
        ("id-2", 503),
    ] {
        old.push_str(&failure(id, status));
    }
    fs::write(fixture.path("out.errors.jsonl"), old).unwrap();
    let summary = fixture.run(fine);
    assert_eq!((summary.progress.skipped, summary.progress.failed), (1, 1));
    assert_eq!(fixture.sent(), 1);
    let errors = fixture.errors();
    assert_eq!(ids(&errors), ["id-1"]);
    assert_eq!(errors[0]["response"]["status_code"], 422);
}

#[test]
fn a_file_of_another_kind_is_not_rewritten_as_the_errors_file() {
    let fixture = Fixture::new(&rows(2));
    fixture.run(fine);
    fs::write(fixture.path("out.errors.jsonl"), "precious notes\n").unwrap();
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let kept = fs::read_to_string(fixture.path("out.errors.jsonl")).unwrap();
    assert_eq!(kept, "precious notes\n");
    // Bad lines among records are.
    let mixed = failure("id-0", 503) + "notes\n" + &failure("id-1", 503);
    fs::write(fixture.path("out.errors.jsonl"), mixed).unwrap();
    fixture.run(fine);
    assert!(!fixture.path("out.errors.jsonl").exists());
}

/// Large enough for several parts and all cores.
#[test]
fn a_large_output_is_read_back_and_a_bad_line_in_it_is_told_by_its_number() {
    let fixture = Fixture::new(&rows(3_001));
    let filler = "x".repeat(8_000);
    let mut large: Vec<String> = (0..3_000)
        .map(|n| success(&format!("id-{n}"), &filler))
        .collect();
    fs::write(fixture.path("out.results.jsonl"), large.concat()).unwrap();
    let summary = fixture.run(fine);
    assert_eq!((summary.progress.skipped, fixture.sent()), (3_000, 1));
    large[2_500] = "no record\n".to_owned();
    fs::write(fixture.path("out.results.jsonl"), large.concat()).unwrap();
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert!(error.to_string().contains("line 2501:"), "{error}");
}

#[test]
fn simulated_is_told_from_paid_in_every_line() {
    let fixture = Fixture::new(&rows(2));
    fixture.run_with(fine, |run| run.simulated(true)).unwrap();
    let simulated = fs::read_to_string(fixture.path("out.results.jsonl")).unwrap();
    let mixed = success("id-9", "x") + &simulated;
    fs::write(fixture.path("out.results.jsonl"), mixed).unwrap();
    let error = fixture.run_with(fine, |run| run).unwrap_err();
    assert!(error.to_string().contains("line 2: a simulated"), "{error}");
}

#[test]
fn a_run_that_starts_anew_has_nothing_to_treat_in_another_way() {
    let fixture = Fixture::new(&row("a", "x"));
    for (settings, setting) in [
        ([true, false, false], "retry_failed"),
        ([false, true, false], "force_resume"),
        ([false, false, true], "repair"),
    ] {
        let [retry_failed, force_resume, repair] = settings;
        let refused = fixture.run_with(fine, |run| {
            run.overwrite(true)
                .retry_failed(retry_failed)
                .force_resume(force_resume)
                .repair(repair)
        });
        let error = refused.unwrap_err();
        assert_eq!(error.settings(), ["overwrite", setting]);
    }
    assert_eq!(fixture.sent(), 0);
}
