//! Run after run over one output, with everything between them that a user may do: the input
//! edited, options changed, rows that fail and then do not, a file cut short.
//!
//! What should come of it is worked out here, from the promises alone. `TOLLGATE_SEED` repeats a
//! history that came out otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use serde_json::Value;
use tollgate::ErrorKind;

use crate::fixture::Fixture;
use crate::provider::{id, request};

const ROWS: usize = 7;
const HISTORIES: u64 = 120;
const RUNS: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Good,
    /// Will not pass.
    Refused,
    /// May pass: an answer of no use.
    Garbled,
}

/// The version of a row's request that a record is of; `None` where the record does not say.
type Version = Option<u32>;

/// What the files hold, as far as the next run must know.
#[derive(Clone, Debug, Default)]
struct World {
    /// There is an output.
    begun: bool,
    done: BTreeMap<usize, Version>,
    /// And whether for good.
    failed: BTreeMap<usize, (Version, bool)>,
}

#[derive(Clone, Debug)]
struct Run {
    /// Rows in the order of the input, with the version of each.
    input: Vec<(usize, u32)>,
    answers: [Answer; ROWS],
    options: Options,
    /// Where the output is cut before, as a share of its length.
    cut: Option<f64>,
}

#[derive(Clone, Copy)]
struct Options {
    retry_failed: bool,
    force_resume: bool,
    ordered: bool,
    strict: bool,
    overwrite: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("retry_failed", self.retry_failed),
            ("force_resume", self.force_resume),
            ("ordered", self.ordered),
            ("strict", self.strict),
            ("overwrite", self.overwrite),
        ];
        let set = all.into_iter().filter(|(_, set)| *set);
        f.debug_list().entries(set.map(|(name, _)| name)).finish()
    }
}

impl Run {
    fn any(chance: &mut Rng, versions: &mut [u32; ROWS]) -> Self {
        let mut rows: Vec<usize> = (0..ROWS).filter(|_| chance.u8(..5) > 0).collect();
        if chance.bool() {
            chance.shuffle(&mut rows);
        }
        if chance.u8(..4) == 0 {
            versions[chance.usize(..ROWS)] += 1;
        }
        let mut one_in = |many: u8| chance.u8(..many) == 0;
        let overwrite = one_in(20);
        // A run that starts anew has nothing to treat in these ways, and is refused.
        let options = Options {
            retry_failed: one_in(4) && !overwrite,
            force_resume: one_in(3) && !overwrite,
            ordered: one_in(3),
            strict: one_in(5),
            overwrite,
        };
        let cut = one_in(4).then(|| chance.f64());
        let answers = [Answer::Good, Answer::Good, Answer::Refused, Answer::Garbled];
        Self {
            input: rows.into_iter().map(|row| (row, versions[row])).collect(),
            answers: std::array::from_fn(|_| answers[chance.usize(..answers.len())]),
            options,
            cut,
        }
    }

    fn text(&self) -> String {
        let line = |&(row, version)| request(row, &format!("version {version}"));
        self.input.iter().map(line).collect()
    }

    /// What must be sent, and the world after it; `None` if it must be refused.
    fn expected(&self, before: &World) -> Option<(BTreeSet<usize>, World)> {
        let options = &self.options;
        let before = if before.begun && !options.overwrite {
            before.clone()
        } else {
            World::default()
        };
        let same = |known: Version, now: u32| known.is_none_or(|known| known == now);
        let mut after = World {
            begun: true,
            done: before.done.clone(),
            failed: BTreeMap::new(),
        };
        let mut sent = BTreeSet::new();
        for &(row, now) in &self.input {
            if let Some(&answered) = before.done.get(&row) {
                if !same(answered, now) && !options.force_resume {
                    return None;
                }
                continue;
            }
            if let Some(&(failed, true)) = before.failed.get(&row)
                && same(failed, now)
                && !options.retry_failed
            {
                after.failed.insert(row, (failed, true));
                continue;
            }
            sent.insert(row);
            let version = (!options.strict).then_some(now);
            match self.answers[row] {
                Answer::Good => drop(after.done.insert(row, version)),
                Answer::Refused => drop(after.failed.insert(row, (version, true))),
                Answer::Garbled => drop(after.failed.insert(row, (version, false))),
            }
        }
        Some((sent, after))
    }
}

#[test]
fn whatever_happens_between_runs_each_does_what_is_left_and_keeps_what_is_done() {
    let seed = std::env::var("TOLLGATE_SEED").map(|seed| seed.parse().expect("a number"));
    let first = seed.clone().unwrap_or_else(|_| fastrand::u64(..));
    let histories = if seed.is_ok() { 1 } else { HISTORIES };
    for seed in (0..histories).map(|number| first.wrapping_add(number)) {
        println!("TOLLGATE_SEED={seed}");
        live_through(&mut Rng::with_seed(seed));
    }
}

fn live_through(chance: &mut Rng) {
    let answers = Arc::new(Mutex::new([Answer::Good; ROWS]));
    let fixture = Fixture::new("", {
        let answers = Arc::clone(&answers);
        move |row| match answers.lock().unwrap()[row] {
            Answer::Good => (
                200,
                r#"{"choices":[{"message":{"content":"é"}}]}"#.to_owned(),
            ),
            Answer::Refused => (400, r#"{"error":{"message":"no"}}"#.to_owned()),
            Answer::Garbled => (200, "<html>".to_owned()),
        }
    });
    let mut world = World::default();
    let mut versions = [0; ROWS];
    for _ in 0..RUNS {
        let run = Run::any(chance, &mut versions);
        println!("{run:?}");
        if let Some(share) = run.cut {
            cut(&fixture, &mut world, share);
        }
        fixture.write("p.jsonl", run.text());
        *answers.lock().unwrap() = run.answers;
        let files = ["p.results.jsonl", "p.errors.jsonl"];
        let before = files.map(|name| fixture.read(name));
        let Options {
            retry_failed,
            force_resume,
            ordered,
            strict,
            overwrite,
        } = run.options;
        let ended = fixture.run_with(|files| {
            files
                .retry_failed(retry_failed)
                .force_resume(force_resume)
                .ordered(ordered)
                .strict(strict)
                .overwrite(overwrite)
        });
        let sent = BTreeSet::from_iter(fixture.sent());
        let Some((to_send, after)) = run.expected(&world) else {
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::Config);
            assert_eq!(sent, BTreeSet::new());
            assert_eq!(files.map(|name| fixture.read(name)), before);
            continue;
        };
        let summary = ended.unwrap();
        assert_eq!(sent, to_send);
        let succeeded = after.done.keys().filter(|row| sent.contains(row)).count();
        assert_eq!(summary.requests, run.input.len() as u64);
        assert_eq!(summary.progress.succeeded, succeeded as u64);
        assert_eq!(summary.progress.failed, after.failed.len() as u64);
        assert_eq!(summary.not_attempted, 0);
        check_files(&fixture, &run, &after, &before[0]);
        world = after;
    }
}

/// Cuts the output short, and the rows off that are in it no more.
fn cut(fixture: &Fixture, world: &mut World, share: f64) {
    let whole = fixture.read("p.results.jsonl");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of it"
    )]
    let end = (whole.len() as f64 * share) as usize;
    if whole.is_empty() {
        return;
    }
    fixture.write("p.results.jsonl", &whole[..end]);
    let kept: BTreeSet<String> = String::from_utf8_lossy(&whole[..end])
        .split('\n')
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|record| record["custom_id"].as_str().map(str::to_owned))
        .collect();
    world.done.retain(|&row, _| kept.contains(&id(row)));
}

fn check_files(fixture: &Fixture, run: &Run, after: &World, before: &[u8]) {
    let named = |rows: &mut dyn Iterator<Item = usize>| rows.map(id).collect::<Vec<_>>();
    let mut done = fixture.ids("p.results.jsonl");
    if run.options.ordered {
        let of_input = run.input.iter().map(|&(row, _)| row);
        let answered = named(&mut of_input.filter(|row| after.done.contains_key(row)));
        assert_eq!(
            done[..answered.len()],
            answered,
            "in the order of the input"
        );
    }
    done.sort_unstable();
    assert_eq!(done, named(&mut after.done.keys().copied()), "each once");
    let mut failed = fixture.ids("p.errors.jsonl");
    failed.sort_unstable();
    assert_eq!(
        failed,
        named(&mut after.failed.keys().copied()),
        "failed now"
    );
    assert_eq!(fixture.path("p.errors.jsonl").exists(), !failed.is_empty());
    if !run.options.overwrite {
        let now = fixture.read("p.results.jsonl");
        let now: BTreeSet<&[u8]> = now.split(|&byte| byte == b'\n').collect();
        let lines = before.split_inclusive(|&byte| byte == b'\n');
        for line in lines.filter(|line| line.ends_with(b"\n")) {
            assert!(now.contains(line.trim_ascii_end()), "a record has changed");
        }
    }
    let entries = std::fs::read_dir(fixture.path(".")).unwrap().count();
    assert_eq!(entries, 2 + usize::from(!failed.is_empty()), "left over");
}
