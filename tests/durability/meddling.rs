//! An output that somebody removes, moves, replaces or writes to while a run goes on.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::provider::{Provider, answer, requests};
use crate::support::quick::Quick;
use crate::tool::{Folder, until};

const ROWS: usize = 12;
/// So many rows are answered before the file is meddled with.
const BEFORE: usize = 5;

/// A run that is stopped by what happens to its file, and says so.
fn meddled_with(file: &str, refuses: fn(usize) -> bool, meddle: Meddle) -> Folder {
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
    let arguments = ["run", "p.jsonl", "-c", "1", "--summary", "s.json"];
    let tool = provider.tool(&folder, &arguments);
    let running = tool.start();
    // The next is asked for when all before it are on file.
    until("it is held", || provider.count() > BEFORE);
    meddle(&folder.path(file));
    free.store(true, Ordering::SeqCst);
    running.wait().code(4).says(&["error: ", file]);
    folder
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
        let folder = meddled_with("p.results.jsonl", |_| false, meddle);
        // What counts is what whoever opens the file will find.
        let there = if folder.has("p.results.jsonl") {
            let text = folder.read("p.results.jsonl");
            // A record behind what is left of a line is none.
            let whole = |line: &&str| {
                serde_json::from_str::<Value>(line).is_ok_and(|line| line["custom_id"].is_string())
            };
            text.lines().filter(whole).count()
        } else {
            0
        };
        let summary = folder.json("s.json");
        assert_eq!(summary["succeeded"], there, "{summary}");
        let lost = summary["lost"].as_u64().expect("a count");
        let (rows, left) = (ROWS as u64, summary["not_attempted"].as_u64());
        assert_eq!(left, Some(rows - there as u64), "{summary}");
        // Written were those before and at most those since.
        let written = there as u64 + lost;
        assert!((BEFORE as u64..=rows).contains(&written), "{summary}");
        assert!(
            summary["possibly_billed"].as_u64() >= Some(lost),
            "{summary}"
        );
    }
}

#[test]
fn errors_that_somebody_else_moves_about_stop_the_run() {
    for (way, meddle) in WAYS {
        println!("{way}");
        meddled_with("p.errors.jsonl", |row| row < 3, meddle);
    }
}
