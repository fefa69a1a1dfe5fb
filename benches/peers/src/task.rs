//! A client's whole life: it reads its task from its only argument, does it, and prints its figures
//! as one line of JSON.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::chat::Said;
use crate::figures::{self, Figures};

/// What a client is to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Task {
    /// Which of the client's ways, where it has several.
    pub way: String,
    /// With `/v1`, without the path of a chat.
    pub base_url: String,
    /// The certificate to trust, where the base URL is `https`.
    pub ca_file: Option<PathBuf>,
    pub requests: usize,
    pub at_once: usize,
}

impl Task {
    pub fn chat_url(&self) -> String {
        format!("{}{}", self.base_url, crate::chat::PATH)
    }

    /// The certificate to trust, as PEM.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn ca_pem(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.ca_file.as_ref().map(std::fs::read).transpose()?)
    }

    /// Runs `work` on a thread for each place in flight, until all have returned.
    ///
    /// # Errors
    /// The first that a thread returns, or no thread to be had.
    pub fn on_threads(&self, stack: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
        thread::scope(|scope| {
            let workers = (0..self.at_once.min(self.requests))
                .map(|_| {
                    thread::Builder::new()
                        .stack_size(stack)
                        .spawn_scoped(scope, &work)
                })
                .collect::<std::io::Result<Vec<_>>>()?;
            for worker in workers {
                worker.join().map_err(|_| "a worker panicked")??;
            }
            Ok(())
        })
    }

    /// # Errors
    /// Always: the client has no such way.
    pub fn unknown_way<T>(&self) -> Result<T> {
        Err(format!("no such way: {:?}", self.way).into())
    }
}

/// What a client did, noted while it still holds its answers and its connections.
#[derive(Debug)]
pub struct Done {
    at: Instant,
    answers: usize,
}

impl Done {
    /// All answers are there, in the order of their questions; only whole ones count.
    pub fn with<'a>(answers: impl Iterator<Item = &'a Said>) -> Self {
        let at = Instant::now();
        Self {
            at,
            answers: answers.filter(|said| said.is_whole()).count(),
        }
    }

    /// So many whole answers were read and not kept.
    pub fn counted(answers: usize) -> Self {
        Self {
            at: Instant::now(),
            answers,
        }
    }
}

/// The `main` of a client. The clock starts before `client` makes its runtime, its threads and its
/// connections, and stops with the last answer; CPU time and memory are those of the whole process,
/// the closing of connections included.
pub fn main(client: impl FnOnce(&Task) -> Result<Done>) -> ExitCode {
    say(run(client))
}

/// Prints the one line of figures that the driver reads, or why there is none.
pub fn say(outcome: Result<String>) -> ExitCode {
    match outcome {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(client: impl FnOnce(&Task) -> Result<Done>) -> Result<String> {
    let task = std::env::args()
        .nth(1)
        .ok_or("a client is started by the driver: cargo run --release in benches/peers")?;
    let task: Task = serde_json::from_str(&task)?;
    figures::raise_descriptor_limit(task.at_once)?;
    let started = Instant::now();
    let done = client(&task)?;
    let wall = done.at.saturating_duration_since(started);
    Ok(serde_json::to_string(&Figures::of_this_process(
        wall,
        done.answers,
    )?)?)
}

/// Long enough for any row, short enough that a hung client does not hang the sitting.
pub const PATIENCE: Duration = Duration::from_mins(2);
