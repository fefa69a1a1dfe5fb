//! The command line.

use std::path::{Path, PathBuf};

use lexopt::prelude::{Long, Short, Value, ValueExt};
use peers::Result;

use crate::contenders::{self, Contender};
use crate::rows::{ROWS, Row};

pub(crate) const HELP: &str = "\
tollgate beside its peers: one server, one sitting, several rounds in turn.

cargo run --release --manifest-path benches/peers/Cargo.toml -- [WHAT] [OPTIONS]

WHAT (default: requests and limiter)
  requests      every client over every row
  limiter       the limiter beside governor
  build-size    clean release builds of tollgate and async-openai, and their crates

OPTIONS
  --rows A,B      only these rows (see --list)
  --clients A,B   only clients whose names hold one of these
  --rounds N      default 3
  --smoke         a tenth of the size, one round: does everything work?
  --tuned         every client with the tuned profile as well
  --out DIR       where the table, the plot and every run go; default benches/peers/out
  --list          the rows and the clients
";

#[derive(Debug)]
pub(crate) enum Wish {
    Help,
    List,
    /// The other half of this program, with the folder for its certificate.
    Server(PathBuf),
    Measure(Box<Measure>),
}

#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) requests: bool,
    pub(crate) limiter: bool,
    pub(crate) build_size: bool,
    pub(crate) rows: Vec<Row>,
    pub(crate) clients: Vec<Contender>,
    pub(crate) rounds: usize,
    pub(crate) smoke: bool,
    pub(crate) tuned: bool,
    pub(crate) out: PathBuf,
}

/// # Errors
/// Words, flags, rows or clients that there are not.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Wish> {
    let mut what = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut rounds = None;
    let mut measure = Measure {
        requests: false,
        limiter: false,
        build_size: false,
        rows: ROWS.to_vec(),
        clients: contenders::named(&[])?,
        rounds: 3,
        smoke: false,
        tuned: false,
        out: Path::new(env!("CARGO_MANIFEST_DIR")).join("out"),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Wish::Help),
            Long("list") => return Ok(Wish::List),
            Long("rows") => names = words(&parser.value()?.string()?),
            Long("clients") => {
                measure.clients = contenders::named(&words(&parser.value()?.string()?))?;
            }
            Long("rounds") => rounds = Some(parser.value()?.parse()?),
            Long("smoke") => measure.smoke = true,
            Long("tuned") => measure.tuned = true,
            Long("out") => measure.out = parser.value()?.into(),
            Value(word) if word == "server" => return Ok(Wish::Server(parser.value()?.into())),
            Value(word) => what.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if what.is_empty() {
        what = words("requests,limiter");
    }
    for word in what {
        match word.as_str() {
            "requests" => measure.requests = true,
            "limiter" => measure.limiter = true,
            "build-size" => measure.build_size = true,
            _ => return Err(format!("nothing is called {word:?}: see --help").into()),
        }
    }
    if let Some(unknown) = names
        .iter()
        .find(|&name| ROWS.iter().all(|row| row.name != name))
    {
        return Err(format!("no row is called {unknown:?}: --list names them").into());
    }
    if !names.is_empty() {
        measure
            .rows
            .retain(|row| names.iter().any(|name| name == row.name));
    }
    if measure.smoke {
        measure.rows = measure.rows.into_iter().map(Row::smoke).collect();
    }
    measure.rounds = rounds.unwrap_or(if measure.smoke { 1 } else { 3 });
    if measure.rounds == 0 {
        return Err("--rounds 0 would measure nothing: give at least 1".into());
    }
    Ok(Wish::Measure(Box::new(measure)))
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(|word| word.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Wish, parse};

    fn measure(line: &str) -> Result<super::Measure, String> {
        let words = line.split_whitespace();
        match parse(lexopt::Parser::from_args(words)) {
            Ok(Wish::Measure(measure)) => Ok(*measure),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn without_a_word_it_is_requests_and_limiter_in_three_rounds() {
        let all = measure("").unwrap();
        assert_eq!(
            (all.requests, all.limiter, all.build_size),
            (true, true, false)
        );
        assert_eq!((all.rounds, all.rows.len()), (3, 8));
    }

    #[test]
    fn rows_are_chosen_by_name_and_shrink_in_a_smoke() {
        let one = measure("requests --rows no-latency --smoke").unwrap();
        assert_eq!((one.rounds, one.rows.len()), (1, 1));
        assert_eq!(one.rows[0].requests, 2_000);
        assert!(measure("--rows nowhere").unwrap_err().contains("nowhere"));
        assert!(measure("--clients nobody").unwrap_err().contains("nobody"));
        assert!(measure("everything").unwrap_err().contains("everything"));
        assert!(measure("--rounds 0").is_err());
    }
}
