//! Other processes at the same files: a second run, or whatever else moves them about.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::ids;
use crate::provider::{Provider, answer, id, requests};
use crate::support::quick::Quick;
use crate::tool::{Folder, Running};

/// A run whose answers are held back until they are let go.
struct Held {
    folder: Folder,
    provider: Provider,
    free: Arc<AtomicBool>,
}

impl Held {
    fn new(rows: usize) -> Self {
        let folder = Folder::new();
        folder.write("p.jsonl", requests(rows));
        let free = Arc::new(AtomicBool::new(false));
        let provider = Provider::with({
            let free = Arc::clone(&free);
            move |row, _| {
                while !free.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
                Quick::json(200, &answer(row))
            }
        });
        Self {
            folder,
            provider,
            free,
        }
    }

    /// Starts a run, and returns when its first request is held.
    fn start(&self, arguments: &[&str]) -> Running {
        let before = self.provider.count();
        let mut running = self.provider.tool(&self.folder, arguments).start();
        while self.provider.count() == before {
            let ended = running.child().try_wait().expect("it is ours");
            assert!(ended.is_none(), "{:#?}", running.wait());
            thread::sleep(Duration::from_millis(1));
        }
        running
    }

    fn let_go(&self) {
        self.free.store(true, Ordering::SeqCst);
    }

    fn all_there(&self, name: &str, rows: usize) {
        let mut found = ids(self.folder.read(name).as_bytes());
        let mut expected: Vec<String> = (0..rows).map(id).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_second_run_on_the_same_output_is_refused_and_the_first_is_undisturbed() {
    let held = Held::new(20);
    held.folder.write("q.jsonl", requests(5));
    symlink("p.results.jsonl", held.folder.path("same.jsonl")).expect("a link");
    let first = held.start(&["run", "p.jsonl", "-c", "4"]);
    let by = format!("process {}", first.id());
    for arguments in [
        &["run", "p.jsonl"][..],
        &["run", "p.jsonl", "--overwrite"],
        &["run", "q.jsonl", "-o", "./p.results.jsonl"],
        &["run", "q.jsonl", "-o", "same.jsonl"],
        &["run", "q.jsonl", "--errors", "p.errors.jsonl"],
    ] {
        let second = held.provider.tool(&held.folder, arguments).run().code(2);
        second.says(&["error: ", &by, "p."]);
    }
    held.let_go();
    first.wait().code(0);
    assert_eq!(held.provider.count(), 20, "the second sent something");
    held.all_there("p.results.jsonl", 20);
    // With the first, its locks have gone.
    held.provider
        .tool(&held.folder, &["run", "p.jsonl"])
        .run()
        .code(0);
    assert_eq!(held.provider.count(), 20);
    let lock = "p.results.jsonl.lock".to_owned();
    assert!(!held.folder.names().contains(&lock));
}

#[test]
fn of_many_runs_at_once_none_asks_for_what_another_has() {
    for _ in 0..3 {
        let held = Held::new(200);
        held.let_go();
        let tool = || {
            held.provider
                .tool(&held.folder, &["run", "p.jsonl", "-c", "3"])
        };
        let runs: Vec<Running> = (0..8).map(|_| tool().start()).collect();
        let codes: Vec<_> = runs.into_iter().map(|run| run.wait().code).collect();
        assert!(
            codes.iter().all(|code| matches!(code, Some(0 | 2))),
            "{codes:?}"
        );
        assert!(codes.contains(&Some(0)));
        assert_eq!(held.provider.count(), 200, "{codes:?}");
        held.all_there("p.results.jsonl", 200);
    }
}

#[test]
fn the_lock_of_a_run_that_was_killed_holds_up_nobody() {
    let held = Held::new(10);
    let mut first = held.start(&["run", "p.jsonl", "-c", "4"]);
    first.child().kill().expect("it is ours");
    drop(first);
    assert!(held.folder.has("p.results.jsonl.lock"));
    held.let_go();
    held.provider
        .tool(&held.folder, &["run", "p.jsonl"])
        .run()
        .code(0);
    held.all_there("p.results.jsonl", 10);
    assert!(!held.folder.has("p.results.jsonl.lock"));
}
