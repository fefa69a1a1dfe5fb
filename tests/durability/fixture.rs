//! Runs of the library against answers made up here: where the same file is tried a thousand
//! times, a process each would take minutes.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tollgate::http::StatusCode;
use tollgate::{
    Client, FileRun, HttpRequest, HttpResponse, MemoryTransport, Result, Retry, Summary,
};

use crate::provider::row_of;

pub(crate) struct Fixture {
    folder: TempDir,
    sent: Arc<Mutex<Vec<usize>>>,
    script: Script,
}

/// What a row is answered with: a status and a body.
pub(crate) type Script = Arc<dyn Fn(usize) -> (u16, String) + Send + Sync>;

impl Fixture {
    /// With this input, and a provider that answers each row as `script` says.
    pub(crate) fn new(
        input: &str,
        script: impl Fn(usize) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        // Every run brings its files to the disk, which a folder in memory spares a thousand times.
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
        let fixture = Self {
            folder: folder.expect("a temporary folder"),
            sent: Arc::default(),
            script: Arc::new(script),
        };
        fixture.write("p.jsonl", input);
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("a writable folder");
    }

    /// Empty if there is no such file.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    /// The ids in a file of whole records, in its order.
    pub(crate) fn ids(&self, name: &str) -> Vec<String> {
        ids(&self.read(name))
    }

    pub(crate) fn run(&self) -> Summary {
        self.run_with(|run| run).expect("a run")
    }

    pub(crate) fn run_with(
        &self,
        set: impl FnOnce(FileRun<'static>) -> FileRun<'static>,
    ) -> Result<Summary> {
        let (log, script) = (Arc::clone(&self.sent), Arc::clone(&self.script));
        let transport = MemoryTransport::new(move |call: &HttpRequest<'_>| {
            let row = row_of(call.body);
            log.lock().unwrap_or_else(PoisonError::into_inner).push(row);
            let (status, body) = script(row);
            Ok(HttpResponse {
                status: StatusCode::from_u16(status).unwrap(),
                body: body.into_bytes(),
                ..HttpResponse::default()
            })
        });
        let client = Client::builder()
            .no_auth()
            .concurrency(1)
            .retry(Retry::new().initial_backoff(Duration::from_millis(1)))
            .transport(transport)
            .build()?;
        set(client.jsonl(self.path("p.jsonl"), self.path("p.results.jsonl"))).run()
    }

    /// The rows sent since this was last asked, in order.
    pub(crate) fn sent(&self) -> Vec<usize> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *sent)
    }
}

/// The ids of these records, all of which must be whole.
pub(crate) fn ids(bytes: &[u8]) -> Vec<String> {
    let text = str::from_utf8(bytes).expect("whole characters");
    assert!(text.is_empty() || text.ends_with('\n'), "a torn end");
    let id = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        record["custom_id"].as_str().unwrap_or("null").to_owned()
    };
    text.lines().map(id).collect()
}
