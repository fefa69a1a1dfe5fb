//! An output that somebody removes, moves, replaces or writes to while a run goes on.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::provider::{Provider, answer, requests};
use crate::support::quick::Quick;
use crate::tool::Folder;

const ROWS: usize = 12;
/// So many rows are answered before the file is meddled with.
const BEFORE: usize = 5;

fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A run that is stopped by what happens to its file, and says so.
fn meddled_with(file: &str, refuses: fn(usize) -> bool, meddle: Meddle) {
    let folder = Folder::new();
    folder.write("p.jsonl", requests(ROWS));
    let free = Arc::new(AtomicBool::new(false));
    let provider = Provider::with({
        let free = Arc::clone(&free);
        move |row, before| {
            until("it goes on", || {
                before < BEFORE || free.load(Ordering::SeqCst)
            });
            if refuses(row) {
                Quick::json(400, r#"{"error":{"message":"no"}}"#)
            } else {
                Quick::json(200, &answer(row))
            }
        }
    });
    let tool = provider.tool(&folder, &["run", "p.jsonl", "-c", "1"]);
    let running = tool.start();
    // The next is asked for when all before it are on file.
    until("it is held", || provider.count() > BEFORE);
    meddle(&folder.path(file));
    free.store(true, Ordering::SeqCst);
    running.wait().code(4).says(&["error: ", file]);
}

type Meddle = fn(&Path);

const WAYS: [(&str, Meddle); 6] = [
    ("removed", |path| {
        fs::remove_file(path).expect("it is there");
    }),
    ("moved", |path| {
        fs::rename(path, path.with_extension("old")).expect("it is there");
    }),
    ("replaced", |path| {
        let other = path.with_extension("other");
        fs::copy(path, &other).expect("room");
        fs::rename(other, path).expect("it is there");
    }),
    ("emptied", |path| set_length(path, 0)),
    ("cut", |path| set_length(path, 10)),
    ("written to", |path| {
        let mut file = OpenOptions::new()
            .append(true)
            .open(path)
            .expect("it is there");
        file.write_all(b"{}\n").expect("room");
    }),
];

fn set_length(path: &Path, length: u64) {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it is there");
    file.set_len(length).expect("a file");
}

#[test]
fn results_that_somebody_else_moves_about_stop_the_run() {
    for (way, meddle) in WAYS {
        println!("{way}");
        meddled_with("p.results.jsonl", |_| false, meddle);
    }
}

#[test]
fn errors_that_somebody_else_moves_about_stop_the_run() {
    for (way, meddle) in WAYS {
        println!("{way}");
        meddled_with("p.errors.jsonl", |row| row < 3, meddle);
    }
}
