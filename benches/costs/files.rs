//! Lines in and records out, by a client that answers from memory: what a file costs beside the
//! network. The tool over a million lines, `check` among it, is `benches/files.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tempfile::TempDir;
use tollgate::{Client, FileRun, Fsync, HttpResponse, MemoryTransport};

use super::sized;

const LINES: usize = 20_000;
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Paris is the capital of France."},"finish_reason":"stop"}],"usage":{"prompt_tokens":14,"completion_tokens":7,"total_tokens":21}}"#;

/// A file of requests, in a folder that goes with it.
struct Requests {
    folder: TempDir,
    lines: usize,
    bytes: usize,
}

impl Requests {
    fn of(lines: usize) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut text = String::new();
        for line in 0..lines {
            writeln!(
                text,
                r#"{{"custom_id":"request-{line}","method":"POST","url":"/v1/chat/completions","body":{{"model":"m","messages":[{{"role":"user","content":"What is the capital of France? ({line})"}}]}}}}"#
            )
            .expect("memory");
        }
        fs::write(folder.path().join("in.jsonl"), &text).expect("room for the requests");
        Self {
            folder,
            lines,
            bytes: text.len(),
        }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    fn run(&self, client: &Client) -> FileRun<'static> {
        let input = self.folder.path().join("in.jsonl");
        // The disk is not what is measured.
        client.jsonl(input, self.output()).fsync(Fsync::None)
    }
}

fn client() -> Client {
    let transport = MemoryTransport::new(|_| {
        Ok(HttpResponse {
            body: ANSWER.into(),
            ..HttpResponse::default()
        })
    });
    Client::builder()
        .base_url("http://127.0.0.1/v1")
        .no_auth()
        .concurrency(8)
        .transport(transport)
        .build()
        .expect("plain settings")
}

/// A rerun of what is done: each line is read, checked, hashed and found in the results, which are
/// read as well. Nothing is sent or written. The bytes are those of the requests.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn lines_in_all_done(bencher: Bencher) {
    let requests = Requests::of(sized(LINES));
    let client = client();
    requests.run(&client).run().expect("a fresh run");
    bencher
        .counter(ItemsCount::new(requests.lines))
        .counter(BytesCount::new(requests.bytes))
        .bench_local(|| {
            let summary = requests.run(&client).run().expect("a rerun");
            assert_eq!(summary.progress.skipped, requests.lines as u64);
        });
}

/// A fresh run: each line is read, checked, sent through the limiter, answered from memory, and its
/// record written. The bytes are those of the records.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn lines_in_records_out(bencher: Bencher) {
    let requests = Requests::of(sized(LINES));
    let client = client();
    requests.run(&client).run().expect("a fresh run");
    let records = fs::metadata(requests.output()).expect("the results").len();
    bencher
        .counter(ItemsCount::new(requests.lines))
        .counter(BytesCount::new(records))
        .bench_local(|| {
            let run = requests.run(&client).overwrite(true);
            let summary = run.run().expect("a run anew");
            assert_eq!(summary.progress.succeeded, requests.lines as u64);
        });
}
