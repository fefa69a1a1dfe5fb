//! Spawns the tool in a folder of its own, and reads as a story: set up, run, expect.

#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    reason = "public so that what one build leaves unused is not dead code, but nobody's API"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::faultd::Faultd;
pub use crate::support::until::until;

pub const KEY: &str = "sk-very-secret-0123456789";

/// Less than the grace of 30 s, and more than any machine takes to end a process.
pub const SOON: Duration = Duration::from_secs(20);

/// Longer than anything here takes: a tool that hangs is a test that fails, not one that hangs.
const HUNG: Duration = Duration::from_secs(120);

/// A folder to run the tool in.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), bytes).expect("a writable folder");
        self
    }

    /// `p.jsonl` with this many requests, named `r0`, `r1` and so on.
    pub fn requests(&self, rows: usize) -> &Self {
        let text: String = (0..rows).map(|row| request(&format!("r{row}"))).collect();
        self.write("p.jsonl", text)
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).expect("JSON")
    }

    /// The records of a file, in its order.
    pub fn records(&self, name: &str) -> Vec<Value> {
        records(&self.read(name))
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The tool, run in this folder, with nothing in its environment that would change what it
    /// does.
    pub fn tool(&self, arguments: &[&str]) -> Tool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments);
        self.prepared(command)
    }

    /// The tool, run by a shell as `$TOLLGATE` in `script`.
    #[cfg(unix)]
    pub fn shell(&self, script: &str) -> Tool {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"));
        self.prepared(command)
    }

    fn prepared(&self, mut command: Command) -> Tool {
        for (name, _) in std::env::vars_os() {
            let upper = name.to_string_lossy().to_uppercase();
            if ["OPENAI_", "ANTHROPIC_", "AZURE_", "SLURM_", "JOB_"]
                .iter()
                .any(|p| upper.starts_with(p))
                || upper.ends_with("_PROXY")
            {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(self.0.path())
            .env_remove("NO_COLOR")
            .env_remove("SSL_CERT_FILE")
            .env_remove("TOLLGATE_SHARED_LIMIT")
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Tool(command)
    }
}

/// A request line with this id.
pub fn request(id: &str) -> String {
    let line = json!({
        "custom_id": id, "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    });
    format!("{line}\n")
}

/// Every line, which must be JSON.
pub fn records(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// The tool, about to be run.
pub struct Tool(Command);

impl Tool {
    /// With this server and key.
    pub fn at(mut self, server: &Faultd) -> Self {
        self.0
            .env("OPENAI_BASE_URL", format!("{}/v1", server.url()))
            .env("OPENAI_API_KEY", KEY);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.0.stderr(stderr);
        self
    }

    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.0.stdout(stdout);
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.0.stdin(stdin);
        self
    }

    /// Runs it with this on its standard input.
    pub fn fed(self, bytes: &[u8]) -> Ended {
        let mut child = self
            .stdin(Stdio::piped())
            .0
            .spawn()
            .expect("the tool starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end without having read it all.
        let _ = stdin.write_all(bytes);
        drop(stdin);
        Ended::of(&child.wait_with_output().expect("the tool ends"))
    }

    pub fn run(mut self) -> Ended {
        Ended::of(&self.0.output().expect("the tool starts"))
    }

    pub fn start(mut self) -> Running {
        Running(self.0.spawn().expect("the tool starts"))
    }
}

/// The tool, running; killed if the test gives up on it.
pub struct Running(Child);

impl Running {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends it the signal of Ctrl-C.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process id"), rustix::process::Signal::INT)
            .expect("it is running");
    }

    /// Reads standard error until a line has this word. Nothing more of it is read.
    pub fn until_it_says(&mut self, word: &str) -> String {
        let stderr = self.0.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let found = lines.find(|line| line.contains(word));
        found.unwrap_or_else(|| panic!("it never said {word:?}"))
    }

    /// The next line of standard output, which is then closed.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        line
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not come to it after [`HUNG`].
    pub fn wait(mut self) -> Ended {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        drop(self.0.stdin.take());
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let process = &mut self.0;
        let (read_out, has_ended) = channel::<()>();
        let status = std::thread::scope(|scope| {
            let streams = scope.spawn(|| {
                let _until_read = read_out;
                std::thread::scope(|scope| {
                    scope.spawn(|| out.map(|mut pipe| pipe.read_to_end(&mut stdout)));
                    err.map(|mut pipe| pipe.read_to_end(&mut stderr));
                });
            });
            let hung = has_ended.recv_timeout(HUNG) == Err(RecvTimeoutError::Timeout);
            if hung {
                process.kill().expect("it can be killed");
            }
            let status = process.wait().expect("the tool ends");
            streams.join().expect("pipes are read");
            assert!(!hung, "it does not end");
            status
        });
        Ended::of(&Output {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the tool did.
#[derive(Debug)]
pub struct Ended {
    /// `None` if a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let ended = Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains("panicked"), "{ended:#?}");
            assert!(!text.contains(KEY), "the key was shown: {ended:#?}");
        }
        ended
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// It said each of these.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        self
    }

    /// It said none of these.
    #[track_caller]
    pub fn never_says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(!self.stderr.contains(word), "{word:?} in {self:#?}");
        }
        self
    }
}

/// Whether any file of a folder holds these bytes.
pub fn holds(folder: &Path, bytes: &str) -> bool {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.flatten().any(|entry| {
        fs::read(entry.path()).is_ok_and(|text| {
            text.windows(bytes.len())
                .any(|part| part == bytes.as_bytes())
        })
    })
}
