//! A folder with an input, and a client whose answers are made up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::http::StatusCode;
use tollgate::{Client, FileRun, HttpRequest, HttpResponse, MemoryTransport, Retry, Summary};

/// A folder with an input, and a client whose answers are made up here.
pub(crate) struct Fixture {
    folder: TempDir,
    pub(crate) sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

pub(crate) type Script = fn(&Value, usize) -> (u16, String);

impl Fixture {
    pub(crate) fn new(input: &str) -> Self {
        let fixture = Self {
            folder: TempDir::new().unwrap(),
            sent: Arc::default(),
        };
        fs::write(fixture.path("in.jsonl"), input).unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `script` gets each body and how many requests there have been before.
    pub(crate) fn client(&self, script: Script) -> Client {
        let sent = Arc::clone(&self.sent);
        let transport = MemoryTransport::new(move |call: &HttpRequest<'_>| {
            let count = {
                let mut sent = sent.lock().unwrap();
                sent.push(call.body.to_vec());
                sent.len() - 1
            };
            let body: Value = serde_json::from_slice(call.body).unwrap();
            let (status, body) = script(&body, count);
            Ok(HttpResponse {
                status: StatusCode::from_u16(status).unwrap(),
                body: body.into_bytes(),
                ..HttpResponse::default()
            })
        });
        Client::builder()
            .no_auth()
            .concurrency(4)
            .retry(Retry::new().initial_backoff(Duration::from_millis(1)))
            .transport(transport)
            .build()
            .unwrap()
    }

    pub(crate) fn run(&self, script: Script) -> Summary {
        self.run_with(script, |run| run).unwrap()
    }

    pub(crate) fn run_with(
        &self,
        script: Script,
        set: impl FnOnce(FileRun<'static>) -> FileRun<'static>,
    ) -> tollgate::Result<Summary> {
        let client = self.client(script);
        set(client.jsonl(self.path("in.jsonl"), self.path("out.results.jsonl"))).run()
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    pub(crate) fn results(&self) -> Vec<Value> {
        records(&self.path("out.results.jsonl"))
    }

    pub(crate) fn errors(&self) -> Vec<Value> {
        records(&self.path("out.errors.jsonl"))
    }
}

pub(crate) fn records(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

pub(crate) fn ids(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record["custom_id"].as_str().unwrap_or("null"))
        .collect()
}

pub(crate) fn rows(count: usize) -> String {
    (0..count)
        .map(|n| row(&format!("id-{n}"), &format!("prompt {n}")))
        .collect()
}

pub(crate) fn row(id: &str, prompt: &str) -> String {
    let row = json!({
        "custom_id": id, "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": prompt}]},
    });
    format!("{row}\n")
}

pub(crate) fn prompt(body: &Value) -> &str {
    body["messages"][0]["content"].as_str().unwrap_or_default()
}

pub(crate) fn answered(body: &Value) -> (u16, String) {
    let answer = json!({
        "choices": [{"message": {"content": format!("re: {}", prompt(body))}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    (200, answer.to_string())
}

pub(crate) fn fine(body: &Value, _: usize) -> (u16, String) {
    answered(body)
}

/// A failed row's record, as the provider would have it.
pub(crate) fn failure(id: &str, status: u16) -> String {
    format!(
        "{{\"id\":\"batch_req_1\",\"custom_id\":\"{id}\",\"response\":{{\"status_code\":{status},\
         \"request_id\":\"r\",\"body\":{{}}}},\"error\":null}}\n"
    )
}

pub(crate) fn success(id: &str, text: &str) -> String {
    format!(
        "{{\"id\":\"batch_req_1\",\"custom_id\":\"{id}\",\"response\":{{\"status_code\":200,\
         \"request_id\":\"r\",\"body\":{{\"choices\":[{{\"text\":\"{text}\"}}]}}}},\"error\":null}}\n"
    )
}
