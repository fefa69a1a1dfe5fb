//! One sitting: the server in a process of its own, and every client in turn, round after round, so
//! that a machine's moods meet all of them alike.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use peers::Result;
use peers::figures::Figures;
use peers::task::PATIENCE;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contenders::Entrant;
use crate::rows::Row;
use crate::server::{Ports, Work};

/// One client over one row, once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) row: &'static str,
    pub(crate) client: String,
    pub(crate) round: usize,
    pub(crate) figures: Figures,
    /// The server's own work for it.
    pub(crate) server_cpu_s: f64,
}

/// All that was run, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Sitting {
    pub(crate) runs: Vec<Run>,
    /// A row and what a reader of its table must know: who is not in it, or in fewer rounds, and why.
    pub(crate) notes: Vec<(&'static str, String)>,
    pub(crate) failed: usize,
}

/// Runs all of it. What fails is said at once, and is a note in the result.
///
/// # Errors
/// There is no server.
pub(crate) fn hold(
    rows: &[Row],
    entrants: &[Entrant],
    rounds: usize,
    folder: &Path,
) -> Result<Sitting> {
    let mut server = Server::start(folder)?;
    let mut sitting = Sitting::default();
    for row in rows {
        eprintln!("\n{}", row.title());
        for entrant in entrants.iter().filter(|entrant| !entrant.enters(row)) {
            let note = format!("{} is left out: it would take minutes.", entrant.name());
            sitting.notes.push((row.name, note));
        }
        for round in 1..=rounds {
            for entrant in entrants.iter().filter(|entrant| entrant.enters(row)) {
                let name = entrant.name();
                match server.run(row, entrant) {
                    Ok((figures, server_cpu_s)) => {
                        eprintln!(
                            "  round {round}: {name:<42} {:>8.3} s  {:>8.1} µs  {:>7.1} MiB",
                            figures.wall_s,
                            figures.cpu_s * 1e6 / row.requests as f64,
                            figures.peak_kib as f64 / 1024.0,
                        );
                        sitting.runs.push(Run {
                            row: row.name,
                            client: name,
                            round,
                            figures,
                            server_cpu_s,
                        });
                    }
                    Err(error) => {
                        eprintln!("  round {round}: {name}: *** FAILED: {error}");
                        let note = format!("**{name} failed in round {round}: {error}.**");
                        sitting.notes.push((row.name, note));
                        sitting.failed += 1;
                    }
                }
            }
        }
    }
    Ok(sitting)
}

struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    ports: Ports,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("server")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no way to the server")?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no way from the server")?);
        let ports = line(&mut stdout)?;
        Ok(Self {
            child,
            stdin,
            stdout,
            ports,
        })
    }

    fn work(&mut self) -> Result<Work> {
        self.stdin.write_all(b"\n")?;
        line(&mut self.stdout)
    }

    fn run(&mut self, row: &Row, entrant: &Entrant) -> Result<(Figures, f64)> {
        let base_url = row.base_url(&self.ports);
        let task = entrant.task(row, base_url, &self.ports.ca_file);
        let before = self.work()?;
        let figures: Figures = measured(entrant.command(), &serde_json::to_string(&task)?)?;
        let after = self.work()?;
        let sent = after.requests - before.requests;
        if figures.answers != row.requests || sent != row.requests as u64 {
            return Err(format!(
                "{} whole answers of {}, and {sent} requests came in",
                figures.answers, row.requests,
            )
            .into());
        }
        Ok((figures, after.cpu_s - before.cpu_s))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It would end by itself when its input does; there is nothing to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<T> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(
        serde_json::from_str(&line)
            .map_err(|error| format!("the server said {line:?}: {error}"))?,
    )
}

/// Runs a program with its task as its argument, and reads the figures it prints.
///
/// # Errors
/// It fails, or takes longer than [`PATIENCE`].
pub(crate) fn measured<T: DeserializeOwned>(mut command: Command, task: &str) -> Result<T> {
    for proxy in ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    let mut child = command
        .arg(task)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start it: {error}"))?;
    let said = read_aside(child.stdout.take());
    let complained = read_aside(child.stderr.take());
    let Ok(said) = said.recv_timeout(PATIENCE) else {
        child.kill()?;
        child.wait()?;
        return Err(format!("no end in sight after {} s", PATIENCE.as_secs()).into());
    };
    let status = child.wait()?;
    if !status.success() {
        let complained = complained.recv_timeout(PATIENCE).unwrap_or_default();
        let last = complained.trim().lines().last().unwrap_or_default();
        return Err(format!("{status}: {last}").into());
    }
    Ok(serde_json::from_str(&said).map_err(|error| format!("it said {said:?}: {error}"))?)
}

/// Reads to the end on a thread, so that a program that never ends is not waited for.
fn read_aside(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut from) = from {
            // What could be read is what there is.
            let _ = from.read_to_string(&mut text);
        }
        tell.send(text)
    });
    told
}
