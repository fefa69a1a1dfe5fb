//! A table of a thousand rows, killed again and again on its way to its answers.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use crate::support::quick::{Quick, QuickServer};
use crate::tool::{Folder, KEY, Running};

const ROWS: usize = 1_000;
const KILLS: usize = 20;
const IN_FLIGHT: usize = 16;

/// Texts with whatever makes a reader of tables stumble.
const TEXTS: [&str; 12] = [
    "plain",
    "",
    "said \"hi\", and left",
    "two\nlines",
    "a DOS\r\nline end",
    "🦀 naïve 漢字 🇩🇪 👩‍👩‍👧",
    "\"",
    ",",
    " blanks around ",
    "=1+1",
    "-5",
    "tab\tand ; and | and \\ and 'quote'",
];

/// The cells of a row. The text is one of [`TEXTS`], and the last cell is empty now and then.
fn cells(row: usize) -> [String; 4] {
    let note = if row.is_multiple_of(3) { "" } else { "noted" };
    [
        row.to_string(),
        TEXTS[row % 12].to_owned(),
        TEXTS[(row / 12) % 12].to_owned(),
        note.to_owned(),
    ]
}

/// What a row is answered with: something of the same kinds.
fn answer(row: usize) -> String {
    format!("{}re {row}", TEXTS[(row + 5) % 12])
}

/// What the cell of that answer holds. None of them is a plain number.
fn answer_cell(row: usize) -> String {
    let answer = answer(row);
    let is_run = answer.trim_start().starts_with(['=', '-']);
    format!("{}{answer}", if is_run { "'" } else { "" })
}

/// A provider that counts how often it was asked.
struct Provider {
    asked: Arc<AtomicUsize>,
    server: QuickServer,
}

impl Provider {
    fn start() -> Self {
        let asked: Arc<AtomicUsize> = Arc::default();
        let log = Arc::clone(&asked);
        let server = QuickServer::start(move |body| {
            let body: Value = serde_json::from_slice(body).expect("JSON");
            let prompt = body["messages"][0]["content"].as_str().expect("a text");
            let row = prompt.split(':').next().and_then(|row| row.parse().ok());
            let row: usize = row.expect("a row of ours");
            assert_eq!(prompt, format!("{row}:{}", cells(row)[1]));
            log.fetch_add(1, Ordering::Relaxed);
            let message = serde_json::json!({"role": "assistant", "content": answer(row)});
            let choice =
                serde_json::json!({"index": 0, "message": message, "finish_reason": "stop"});
            let usage = serde_json::json!({"prompt_tokens": row, "completion_tokens": 2, "total_tokens": row + 2});
            let body = serde_json::json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [choice], "usage": usage});
            let spread = row.wrapping_mul(2_654_435_761) >> 7;
            Quick::json(200, &body.to_string())
                .after(Duration::from_micros(500 + spread as u64 % 6_000))
        });
        Self { asked, server }
    }

    fn count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn run(&self, folder: &Folder) -> Running {
        let at_once = IN_FLIGHT.to_string();
        let prompt = [
            "--prompt",
            "{{ n }}:{{ text }}",
            "--model",
            "m",
            "--with",
            "error,prompt_tokens",
        ];
        let tool = folder.tool(&[&["run", "in.csv", "-q", "-c", &at_once], &prompt[..]].concat());
        let tool = tool.env("OPENAI_BASE_URL", &self.server.base_url());
        tool.env("OPENAI_API_KEY", KEY).start()
    }
}

fn table() -> Vec<u8> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table
        .write_record(["n", "text", "more", "note"])
        .expect("a header");
    for row in 0..ROWS {
        table.write_record(cells(row)).expect("a row");
    }
    table.into_inner().expect("a table")
}

/// Checks a table that a run has left, and gives how many of its rows are answered.
fn answered(folder: &Folder) -> usize {
    let reader = csv::Reader::from_path(folder.path("in.results.csv")).expect("a table");
    let rows: Vec<_> = reader
        .into_records()
        .map(|row| row.expect("a whole row"))
        .collect();
    assert_eq!(rows.len(), ROWS, "a line for each row");
    let mut answered = 0;
    for (n, row) in rows.iter().enumerate() {
        let own = cells(n);
        assert_eq!(row.iter().take(4).collect::<Vec<_>>(), own, "row {n}");
        let (answer, error, tokens) = (&row[4], &row[5], &row[6]);
        assert_eq!(error, "");
        if answer.is_empty() {
            assert_eq!(tokens, "");
        } else {
            assert_eq!((answer, tokens), (&*answer_cell(n), &*n.to_string()));
            answered += 1;
        }
    }
    answered
}

/// `TOLLGATE_SEED` repeats a loop that failed. Where `TOLLGATE_TEST_PYTHON` names an interpreter
/// with pandas and `DuckDB`, these read the table, too.
#[test]
fn killed_at_any_moment_a_table_is_whole_and_ends_with_one_answer_a_row() {
    let seed = std::env::var("TOLLGATE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("TOLLGATE_SEED={seed}");
    let mut chance = Rng::with_seed(seed);
    let folder = Folder::new();
    folder.write("in.csv", table());
    let provider = Provider::start();
    let (mut kills, mut done, mut stops, mut lost) = (0, 0, 0, 0);
    while kills < KILLS {
        let (before, left) = (provider.count(), ROWS - done);
        let mut run = provider.run(&folder);
        // At its start, in its midst, or where it writes the table. A run that is not killed is
        // interrupted now and then, and leaves one.
        let wanted = match chance.u8(..4) {
            0 => 0,
            1 => left,
            _ => chance.usize(..ROWS / KILLS),
        };
        let ended = |run: &mut Running| run.child().try_wait().is_ok_and(|end| end.is_some());
        while provider.count() - before < wanted && !ended(&mut run) {
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(Duration::from_micros(chance.u64(..30_000)));
        if chance.u8(..4) == 0 && !ended(&mut run) {
            run.interrupt();
            stops += 1;
        } else {
            run.child().kill().expect("it is ours");
        }
        let status = run.child().wait().expect("it ends");
        kills += usize::from(status.signal() == Some(9));
        if folder.has("in.results.csv") {
            answered(&folder);
        }
        done = records(&folder).len();
        if done == ROWS && kills < KILLS {
            // Half of the answers are lost, and those rows are to do again.
            let lines: Vec<String> = records(&folder);
            folder.write("in.results.csv.jsonl", lines[..ROWS / 2].concat());
            done = ROWS / 2;
            lost += ROWS / 2;
        }
    }
    provider.run(&folder).wait().code(0);
    assert_eq!(answered(&folder), ROWS, "every row is answered");
    let ids = records(&folder)
        .iter()
        .map(|line| id(line))
        .collect::<HashSet<_>>();
    assert_eq!(
        (ids.len(), records(&folder).len()),
        (ROWS, ROWS),
        "none twice"
    );
    assert!(
        !folder
            .names()
            .iter()
            .any(|name| [".lock", "-new"].iter().any(|end| name.ends_with(end)))
    );
    // A kill costs what was in flight, and nothing else is asked for again.
    let beyond = provider.count() - ROWS - lost;
    assert!(beyond <= IN_FLIGHT * kills, "{beyond} requests too many");
    println!("{kills} kills, {stops} interrupts, {beyond} requests beyond the ideal");
    read_by_others(&folder);
}

/// The whole records of answers.
fn records(folder: &Folder) -> Vec<String> {
    let bytes = fs::read(folder.path("in.results.csv.jsonl")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(str::to_owned)
        .collect()
}

fn id(line: &str) -> String {
    let record: Value = serde_json::from_str(line).expect("JSON");
    record["custom_id"].as_str().expect("an id").to_owned()
}

fn read_by_others(folder: &Folder) {
    let Some(python) = std::env::var_os("TOLLGATE_TEST_PYTHON") else {
        eprintln!("SKIPPED: TOLLGATE_TEST_PYTHON names no interpreter");
        return;
    };
    let expected: Vec<Value> = (0..ROWS)
        .map(|row| serde_json::json!({"own": cells(row), "answer": answer_cell(row)}))
        .collect();
    folder.write("expected.json", Value::from(expected).to_string());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tables.py");
    let output = Command::new(python)
        .arg(script)
        .args([folder.path("in.results.csv"), folder.path("expected.json")])
        .output()
        .expect("TOLLGATE_TEST_PYTHON can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
}
