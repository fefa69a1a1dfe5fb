//! Files of a million lines through the tool as it is built: lines a second, peak memory, and how
//! long a resume takes over what is done, and a check over what is not.
//!
//! The provider is a thread a connection in this process, and answers at once. Run with
//! `cargo bench --features cli --bench files`; `TOLLGATE_BENCH_LINES=1000,20000` sets other sizes.
//! Memory is the kernel's own mark (`VmHWM`), read every few milliseconds to the end.

#[path = "common/mod.rs"]
pub mod common;
#[path = "../tests/support/mod.rs"]
pub mod support;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{children_cpu, measuring};
use support::quick::{Quick, QuickServer};
use tempfile::TempDir;

const AT_ONCE: &str = "64";
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Paris is the capital of France."},"finish_reason":"stop"}],"usage":{"prompt_tokens":14,"completion_tokens":7,"total_tokens":21}}"#;

fn main() {
    let all = if measuring() { "10000,1000000" } else { "100" };
    let sizes = std::env::var("TOLLGATE_BENCH_LINES").unwrap_or(all.to_owned());
    let answer = Quick::json(200, ANSWER);
    let server = QuickServer::start(move |_| answer.clone());
    println!("| what | lines | wall | lines a second | CPU a line | peak memory |");
    println!("|---|---|---|---|---|---|");
    for lines in sizes.split(',') {
        let lines = lines.parse().expect("numbers, with commas between them");
        let folder = TempDir::new().expect("a temporary folder");
        let input = folder.path().join("p.jsonl");
        write_requests(&input, lines).expect("room for the requests");
        let bench = Bench {
            folder,
            server: &server,
            lines,
        };
        bench.run("run", &["-o", "o.jsonl"]);
        bench.run("resume, all done", &["-o", "o.jsonl"]);
        bench.run("run --ordered", &["-o", "ordered.jsonl", "--ordered"]);
        bench.check("check, one thread", "1");
        bench.check("check, two threads", "2");
    }
}

fn write_requests(path: &Path, lines: usize) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in 0..lines {
        writeln!(
            file,
            r#"{{"custom_id":"request-{line}","method":"POST","url":"/v1/chat/completions","body":{{"model":"m","messages":[{{"role":"user","content":"What is the capital of France? ({line})"}}]}}}}"#
        )?;
    }
    file.flush()
}

struct Bench<'a> {
    folder: TempDir,
    server: &'a QuickServer,
    lines: usize,
}

impl Bench<'_> {
    fn run(&self, what: &str, arguments: &[&str]) {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        tool.args(["run", "p.jsonl", "-q", "--no-auth", "-c", AT_ONCE])
            .args(["--base-url", &self.server.base_url()])
            .args(arguments);
        self.measure(what, tool);
    }

    fn check(&self, what: &str, threads: &str) {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        tool.args(["check", "p.jsonl"])
            .env("RAYON_NUM_THREADS", threads)
            .stdout(Stdio::null());
        self.measure(what, tool);
    }

    /// The tool's work, as a line of the table.
    fn measure(&self, what: &str, mut tool: Command) {
        tool.current_dir(self.folder.path()).stdin(Stdio::null());
        let before = children_cpu();
        let started = Instant::now();
        let mut child = tool.spawn().expect("the tool starts");
        let peak = peak_until_the_end(&mut child);
        let wall = started.elapsed();
        let status = child.wait().expect("it has ended");
        assert!(status.success(), "{what}: {status}");
        let cpu = children_cpu().saturating_sub(before);
        println!(
            "| {what} | {} | {:.2} s | {:.0} | {:.1} µs | {:.1} MiB |",
            self.lines,
            wall.as_secs_f64(),
            self.lines as f64 / wall.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / self.lines as f64,
            peak as f64 / 1024.0,
        );
    }
}

/// In KiB.
fn peak_until_the_end(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().is_ok_and(|end| end.is_none()) {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = mark.and_then(|mark| mark.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(mark.unwrap_or(0));
        thread::sleep(Duration::from_millis(3));
    }
    peak
}
