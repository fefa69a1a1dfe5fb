//! What the files are brought to at the end of a run.

use std::fs;

use tollgate::{Cancel, Summary};

use crate::fixture::{Fixture, Script, answered, failure, fine, ids, prompt, row, rows, success};

const OUTPUT: &str = "out.results.jsonl";
const ERRORS: &str = "out.errors.jsonl";

fn ordered(fixture: &Fixture, script: Script) -> Summary {
    fixture.run_with(script, |run| run.ordered(true)).unwrap()
}

fn all(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("id-{n}")).collect()
}

#[test]
fn an_ordered_run_that_carries_on_ends_in_the_order_of_the_input() {
    let fixture = Fixture::new(&rows(60));
    let some_fail: Script = |body, count| match prompt(body) {
        "prompt 3" | "prompt 30" | "prompt 59" => (400, "{}".to_owned()),
        _ if count % 10 == 0 => (503, "{}".to_owned()),
        _ => answered(body),
    };
    ordered(&fixture, some_fail);
    let before = fixture.results();
    assert!(before.len() < 60);
    let summary = fixture
        .run_with(fine, |run| run.ordered(true).retry_failed(true))
        .unwrap();
    assert_eq!(summary.progress.skipped, before.len() as u64);
    let results = fixture.results();
    assert_eq!(ids(&results), all(60));
    for old in before {
        assert!(results.contains(&old), "changed: {old}");
    }
}

#[test]
fn a_file_that_is_out_of_order_is_put_right_though_nothing_is_to_do() {
    let fixture = Fixture::new(&rows(5));
    let mixed: String = [4, 0, 3].map(|n| success(&format!("id-{n}"), "x")).concat();
    let others = success("removed", "x") + &success("removed too", "x");
    fs::write(fixture.path(OUTPUT), others + &mixed).unwrap();
    ordered(&fixture, fine);
    let expected = [
        "id-0",
        "id-1",
        "id-2",
        "id-3",
        "id-4",
        "removed",
        "removed too",
    ];
    assert_eq!(ids(&fixture.results()), expected);
    // Now it is in order, and stays the same file.
    let before = fs::metadata(fixture.path(OUTPUT))
        .unwrap()
        .modified()
        .unwrap();
    ordered(&fixture, fine);
    let after = fs::metadata(fixture.path(OUTPUT))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after);
    // The input's order may have changed.
    let reversed: String = (0..5)
        .rev()
        .map(|n| row(&format!("id-{n}"), &format!("prompt {n}")))
        .collect();
    fs::write(fixture.path("in.jsonl"), reversed).unwrap();
    ordered(&fixture, fine);
    assert_eq!(ids(&fixture.results())[..2], ["id-4", "id-3"]);
}

#[test]
fn lines_that_were_written_by_hand_are_put_in_order_whole() {
    let fixture = Fixture::new(&rows(3));
    let [a, b] = ["id-2", "id-0"].map(|id| success(id, "x"));
    let by_hand = format!("\u{feff}  {}\r\n\n{}", a.trim_end(), b.trim_end());
    fs::write(fixture.path(OUTPUT), by_hand).unwrap();
    ordered(&fixture, fine);
    assert_eq!(ids(&fixture.results()), all(3));
    let text = fs::read_to_string(fixture.path(OUTPUT)).unwrap();
    assert!(
        text.starts_with(&b) && text.ends_with(&format!("  {a}")),
        "{text}"
    );
}

#[test]
fn a_run_that_is_interrupted_leaves_what_the_next_puts_in_order() {
    let fixture = Fixture::new(&rows(200));
    fs::write(fixture.path(OUTPUT), success("id-150", "x")).unwrap();
    let cancel = Cancel::new();
    let client = fixture.client(fine).with_cancel(&cancel);
    let summary = client
        .jsonl(fixture.path("in.jsonl"), fixture.path(OUTPUT))
        .ordered(true)
        .on_progress(|now| {
            if now.succeeded > 0 {
                cancel.cancel();
            }
        })
        .run()
        .unwrap();
    let results = fixture.results();
    assert_eq!(results.len() as u64, 200 - summary.not_attempted);
    if summary.not_attempted > 0 {
        assert_eq!(ids(&results)[0], "id-150");
    }
    ordered(&fixture, fine);
    assert_eq!(ids(&fixture.results()), all(200));
    assert_eq!(fixture.sent(), 199);
}

#[test]
fn an_output_with_failures_and_repeats_ends_with_each_success_once() {
    // As a capture of `-o -`, or files of several runs put together.
    let fixture = Fixture::new(&rows(6));
    let merged = [
        failure("id-0", 400),
        success("id-1", "first"),
        failure("id-2", 400),
        success("id-0", "x"),
        failure("id-1", 503),
        success("id-1", "last"),
        failure("id-3", 400),
        failure("id-2", 422),
        failure("id-4", 503),
        "{\"custom_id\":null,\"response\":null,\"error\":{\"code\":\"invalid_request_line\"}}\n"
            .into(),
    ];
    fs::write(fixture.path(OUTPUT), merged.concat()).unwrap();
    fs::write(
        fixture.path(ERRORS),
        failure("id-3", 413) + &failure("id-1", 400),
    )
    .unwrap();
    let summary = fixture.run(fine);
    let progress = &summary.progress;
    assert_eq!(
        (progress.skipped, progress.failed, progress.succeeded),
        (2, 2, 2)
    );
    let results = fixture.results();
    assert_eq!(ids(&results[..2]), ["id-0", "id-1"]);
    assert_eq!(results[1]["response"]["body"]["choices"][0]["text"], "last");
    let mut new = ids(&results[2..]);
    new.sort_unstable();
    assert_eq!(new, ["id-4", "id-5"]);
    let errors = fixture.errors();
    assert_eq!(ids(&errors), ["id-2", "id-3"]);
    let statuses = errors.iter().map(|error| &error["response"]["status_code"]);
    assert!(statuses.eq([422, 413]));
    let names = fs::read_dir(fixture.path("")).unwrap().count();
    assert_eq!(names, 3, "nothing is left beside them");
}

#[cfg(unix)]
#[test]
fn failures_in_an_output_stay_there_if_there_is_no_file_for_them() {
    let fixture = Fixture::new(&rows(2));
    let merged = failure("id-0", 400) + &success("id-1", "x") + &success("id-1", "y");
    fs::write(fixture.path(OUTPUT), merged).unwrap();
    fixture
        .run_with(fine, |run| run.errors("/dev/null"))
        .unwrap();
    assert_eq!(ids(&fixture.results()), ["id-0", "id-1"]);
    assert_eq!(fixture.sent(), 0);
}

#[test]
fn only_failures_in_an_output_leave_it_empty_and_there() {
    let fixture = Fixture::new(&rows(1));
    fs::write(fixture.path(OUTPUT), failure("id-0", 400)).unwrap();
    let summary = fixture.run(fine);
    assert_eq!((summary.progress.failed, fixture.sent()), (1, 0));
    assert_eq!(fs::read(fixture.path(OUTPUT)).unwrap(), b"");
    assert_eq!(ids(&fixture.errors()), ["id-0"]);
    // And the next run knows of it.
    assert_eq!(fixture.run(fine).progress.failed, 1);
    assert_eq!(fixture.sent(), 0);
}
