//! The files that a run over a file keeps, and what else it makes beside them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;
use tollgate::{
    Cancel, Client, ErrorKind, FileRun, Fsync, HttpRequest, HttpResponse, MemoryTransport,
};

const ANSWER: &[u8] = br#"{"choices":[{"message":{"content":"hello"}}]}"#;

fn answer() -> HttpResponse {
    HttpResponse {
        body: ANSWER.to_vec(),
        ..HttpResponse::default()
    }
}

/// A folder with an input.
struct Fixture(TempDir);

impl Fixture {
    fn new(rows: usize) -> Self {
        let fixture = Self(TempDir::new().unwrap());
        let row = |n| {
            format!(
                r#"{{"custom_id":"id-{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"m","user":"id-{n}"}}}}"#
            ) + "\n"
        };
        let input: String = (0..rows).map(row).collect();
        fs::write(fixture.path("in.jsonl"), input).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self) -> FileRun<'static> {
        self.run_with(|_| answer())
    }

    fn run_with(&self, script: fn(&HttpRequest<'_>) -> HttpResponse) -> FileRun<'static> {
        let transport = MemoryTransport::new(move |call: &HttpRequest<'_>| Ok(script(call)));
        let builder = Client::builder().no_auth().concurrency(4);
        let client = builder.transport(transport).build().unwrap();
        client.jsonl(self.path("in.jsonl"), self.path("out.jsonl"))
    }

    /// The names of all files, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_second_run_of_the_same_program_is_refused_as_any_other() {
    let fixture = Fixture::new(3);
    let mut second = None;
    let first = fixture.run().on_progress(|_| {
        second.get_or_insert_with(|| fixture.run().run().unwrap_err());
    });
    assert_eq!(first.run().unwrap().progress.succeeded, 3);
    let second = second.unwrap();
    assert_eq!(second.kind(), ErrorKind::Config);
    assert!(second.to_string().contains("out.jsonl.lock"), "{second}");
    assert_eq!(fixture.names(), ["in.jsonl", "out.jsonl"]);
}

#[test]
fn a_callback_that_panics_leaves_whole_records_and_no_lock() {
    let fixture = Fixture::new(50);
    // In the midst of it: the threads have outcomes in hand that nobody takes any more.
    let run = fixture
        .run()
        .on_progress(|now| assert!(now.succeeded == 0, "no more"));
    let message = catch_unwind(AssertUnwindSafe(|| run.run())).unwrap_err();
    assert_eq!(message.downcast_ref::<&str>(), Some(&"no more"));
    assert_eq!(fixture.names(), ["in.jsonl", "out.jsonl"]);
    let written = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    assert!(written.is_empty() || written.ends_with("}\n"));
    let summary = fixture.run().run().unwrap();
    let lines = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 50);
    assert_eq!(summary.progress.done(), 50);
}

#[test]
fn a_transport_that_panics_fails_its_row_and_no_other() {
    let fixture = Fixture::new(9);
    let run = fixture.run_with(|call| {
        assert!(!call.body.ends_with(b"\"id-4\"}"), "not this one");
        answer()
    });
    let summary = run.run().unwrap();
    assert_eq!(
        (summary.progress.succeeded, summary.progress.failed),
        (8, 1)
    );
    assert_eq!(
        fixture.names(),
        ["in.jsonl", "out.errors.jsonl", "out.jsonl"]
    );
    let failed = fs::read_to_string(fixture.path("out.errors.jsonl")).unwrap();
    assert!(failed.contains("\"id-4\""), "{failed}");
}

#[cfg(unix)]
#[test]
fn an_output_that_is_removed_in_the_midst_of_it_is_an_error_and_the_next_run_sends_it_all() {
    let fixture = Fixture::new(200);
    let mut removed = false;
    let run = fixture.run().on_progress(|now| {
        if now.succeeded > 0 && !removed {
            fs::remove_file(fixture.path("out.jsonl")).unwrap();
            removed = true;
        }
    });
    let error = run.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("was removed"), "{error}");
    assert_eq!(fixture.names(), ["in.jsonl"]);
    assert_eq!(fixture.run().run().unwrap().progress.succeeded, 200);
}

#[test]
fn the_files_are_the_same_however_they_are_brought_to_the_disk() {
    for fsync in [
        Fsync::None,
        Fsync::Interval(Duration::ZERO),
        Fsync::default(),
        Fsync::Always,
    ] {
        let fixture = Fixture::new(20);
        fixture.run().fsync(fsync).ordered(true).run().unwrap();
        let lines = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 20, "{fsync:?}");
        assert_eq!(fixture.names(), ["in.jsonl", "out.jsonl"]);
    }
}

#[test]
fn a_line_that_is_no_record_is_refused_by_number_or_moved_aside_and_its_row_asked_for_again() {
    let fixture = Fixture::new(5);
    fixture.run().run().unwrap();
    let out = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    let mut lines: Vec<&str> = out.lines().collect();
    // A byte has gone wrong in one, and another is from somewhere else.
    let broken = lines[1].replacen(':', ";", 1);
    lines[1] = &broken;
    lines.insert(3, "hello");
    fs::write(fixture.path("out.jsonl"), lines.join("\n") + "\n").unwrap();

    let error = fixture.run().run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let told = error.to_string();
    assert!(
        told.contains("line 2") && told.contains("`repair`"),
        "{told}"
    );

    let summary = fixture.run().repair(true).run().unwrap();
    let found = summary.progress.found.unwrap();
    assert_eq!((found.done, found.rejected, found.to_do), (4, 2, Some(1)));
    assert_eq!(summary.progress.succeeded, 1);
    assert_eq!(
        fs::read_to_string(fixture.path("out.jsonl.rejected")).unwrap(),
        format!("{broken}\nhello\n")
    );
    assert_eq!(
        fixture.names(),
        ["in.jsonl", "out.jsonl", "out.jsonl.rejected"]
    );
    let summary = fixture.run().run().unwrap();
    assert_eq!(
        (summary.progress.skipped, summary.progress.succeeded),
        (5, 0)
    );
}

#[test]
fn a_torn_end_is_cut_off_in_a_repair_too() {
    let fixture = Fixture::new(4);
    fixture.run().run().unwrap();
    let out = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    let whole = out
        .lines()
        .take(2)
        .collect::<Vec<_>>()
        .join("\nno record\n");
    fs::write(fixture.path("out.jsonl"), whole + "\n{\"id\":\"batch").unwrap();
    let summary = fixture.run().repair(true).run().unwrap();
    let found = summary.progress.found.unwrap();
    assert_eq!((found.done, found.rejected, found.torn_bytes), (2, 1, 12));
    let out = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    assert_eq!(out.lines().count(), 4);
    assert!(
        out.lines()
            .all(|line| line.starts_with("{\"id\":") && line.ends_with('}'))
    );
}

#[test]
fn a_file_of_another_kind_is_not_repaired() {
    let fixture = Fixture::new(2);
    fs::write(fixture.path("out.jsonl"), "my notes\nand more\n").unwrap();
    let error = fixture.run().repair(true).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let notes = fs::read_to_string(fixture.path("out.jsonl")).unwrap();
    assert_eq!(notes, "my notes\nand more\n");
    assert_eq!(fixture.names(), ["in.jsonl", "out.jsonl"]);
}

#[test]
fn an_errors_file_that_holds_answers_is_not_written_over() {
    let fixture = Fixture::new(3);
    fixture.run().run().unwrap();
    let answers = fs::read(fixture.path("out.jsonl")).unwrap();
    fs::rename(fixture.path("out.jsonl"), fixture.path("other.jsonl")).unwrap();
    for _fresh_then_resumed in 0..2 {
        let run = fixture.run().errors(fixture.path("other.jsonl"));
        let error = run.run().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("other.jsonl"), "{error}");
        assert_eq!(fs::read(fixture.path("other.jsonl")).unwrap(), answers);
        fixture.run().run().unwrap();
    }
}

#[test]
fn simulated_failures_are_not_resumed_by_a_paid_run() {
    let fixture = Fixture::new(1);
    let failed = r#"{"id":"x","custom_id":"id-0","response":null,"error":{"code":"rejected","message":"no"},"tollgate":{"simulated":true}}"#;
    fs::write(fixture.path("out.jsonl"), "").unwrap();
    fs::write(fixture.path("out.errors.jsonl"), failed.to_owned() + "\n").unwrap();
    let error = fixture.run().run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("simulated"), "{error}");
    assert_eq!(
        fixture.names(),
        ["in.jsonl", "out.errors.jsonl", "out.jsonl"]
    );
}

#[test]
fn answers_behind_a_slow_row_are_on_file_when_the_run_is_cancelled_and_in_order_after_the_next() {
    let fixture = Fixture::new(20);
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let transport = MemoryTransport::new(move |exchange| {
        if exchange.body.windows(7).any(|text| text == b"row-000") {
            let _released = held.lock().unwrap().recv();
        }
        Ok(HttpResponse {
            body: ANSWER.to_vec(),
            ..HttpResponse::default()
        })
    });
    let row = |n: usize| {
        format!(
            r#"{{"custom_id":"id-{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"row-{n:03}"}}}}"#
        ) + "\n"
    };
    let input: String = (0..20).map(row).collect();
    fs::write(fixture.path("in.jsonl"), input).unwrap();
    let cancel = Cancel::new();
    let builder = Client::builder().no_auth().concurrency(4);
    let client = builder.transport(transport).build().unwrap();
    let client = client.with_cancel(&cancel);
    let out = fixture.path("out.jsonl");
    let lines = || fs::read_to_string(&out).map_or(0, |text| text.lines().count());
    let mut release = Some(release);
    let run = client.jsonl(fixture.path("in.jsonl"), &out).ordered(true);
    let summary = run
        .on_progress(|progress| {
            if progress.engine.succeeded == 19 {
                cancel.cancel();
            }
            // The first row is answered only when the others are on file.
            if lines() == 19 {
                release.take();
            }
        })
        .run()
        .unwrap();
    assert_eq!(summary.progress.succeeded, 20);
    fixture.run().ordered(true).run().unwrap();
    let text = fs::read_to_string(&out).unwrap();
    let ids = text.lines().map(|line| line.split('"').nth(7).unwrap());
    let expected: Vec<String> = (0..20).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids.collect::<Vec<_>>(), expected);
}
