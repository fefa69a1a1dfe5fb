//! tollgate beside its peers, on one server, in one sitting, several rounds in turn: wall time, CPU
//! time and memory, as a table and a plot. One command, from anywhere:
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! `-- --help` says the rest. The server and each client are processes of their own; each client is
//! built on its own by this program, with cargo's release profile and, with `--tuned`, tollgate's.
//! Python takes part where `PEERS_PYTHON` or `python3` has `aiohttp` or `openai`.
//!
//! What it cannot show: client and server share the cores, the network is a loopback, and the far
//! server is a pretence: its kernel accepts at once, and it holds back its first words in place of
//! the connect. Ratios carry over, milliseconds do not. Let nothing else run.

mod args;
mod build_size;
mod contenders;
mod limiter;
mod plot;
mod report;
mod rows;
mod server;
mod sitting;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use peers::Result;

use self::args::{HELP, Measure, Wish};
use self::contenders::{CONTENDERS, Profile};
use self::rows::ROWS;

fn main() -> ExitCode {
    match args::parse(lexopt::Parser::from_env()).and_then(carry_out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(wish: Wish) -> Result<()> {
    match wish {
        Wish::Help => print!("{HELP}"),
        Wish::List => {
            for row in ROWS {
                println!("{:<16} {}", row.name, row.title());
            }
            println!();
            for contender in CONTENDERS {
                println!("{}", contender.name);
            }
        }
        Wish::Server(folder) => server::run(&folder)?,
        Wish::Measure(measure) => carry_out_measure(&measure)?,
    }
    Ok(())
}

fn carry_out_measure(measure: &Measure) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err("a debug server would be what is measured: run it with --release".into());
    }
    let out = &measure.out;
    fs::create_dir_all(out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    let mut markdown = report::machine(measure.rounds, measure.smoke);
    let mut failed = 0;
    if measure.requests {
        let profiles: &[_] = if measure.tuned {
            &[Profile::Release, Profile::Tuned]
        } else {
            &[Profile::Release]
        };
        let field = contenders::ready(&measure.clients, profiles)?;
        markdown.push_str(&report::absent(&field.absent));
        let sitting = sitting::hold(&measure.rows, &field.entrants, measure.rounds, out)?;
        failed = sitting.failed;
        let mut lines = String::new();
        for run in &sitting.runs {
            lines.push_str(&serde_json::to_string(run)?);
            lines.push('\n');
        }
        write(out, "runs.jsonl", &lines)?;
        let tables = report::tables(&measure.rows, &sitting);
        markdown.push_str(&report::markdown(&tables));
        write(out, "peers.svg", &plot::svg(&tables))?;
    }
    if measure.limiter {
        markdown.push_str(&limiter::measure(measure.rounds, measure.smoke)?);
    }
    if measure.build_size {
        markdown.push_str(&build_size::measure(measure.rounds, out)?);
    }
    write(out, "peers.md", &markdown)?;
    // The reader may have gone; the file is there.
    let _ = std::io::stdout().write_all(markdown.as_bytes());
    if failed > 0 {
        return Err(format!("runs that failed: {failed}; peers.md says which, and why").into());
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    eprintln!("{} written", path.display());
    Ok(())
}
