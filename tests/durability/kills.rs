//! SIGKILL at any moment, again and again.
//!
//! `TOLLGATE_KILLS` sets how many times (default 12), `TOLLGATE_SEED` repeats a loop that failed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::provider::{Provider, answer, id, requests, row_in};
use crate::support::quick::Quick;
use crate::tool::{Folder, Running};

const ROWS: usize = 3_000;
const IN_FLIGHT: usize = 64;
const SIGKILL: i32 = 9;

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_recorded_is_sent_again() {
    kill_again_and_again(kills(), &Plan::default());
}

#[test]
fn killed_at_any_moment_the_rows_that_failed_are_the_errors_file() {
    let refuses = |row| row % 40 == 7;
    kill_again_and_again(
        kills() / 2,
        &Plan {
            refuses,
            ..Plan::default()
        },
    );
}

#[test]
fn killed_at_any_moment_an_ordered_run_ends_in_order() {
    let plan = Plan {
        options: &["--ordered"],
        ordered: true,
        // Answers behind a slower one wait for it, as many as may be pulled ahead.
        unrecorded: 1024,
        ..Plan::default()
    };
    kill_again_and_again(kills() / 3, &plan);
}

/// What is run, and what is promised of it.
struct Plan {
    options: &'static [&'static str],
    refuses: fn(usize) -> bool,
    ordered: bool,
    /// Rows that a kill may cost.
    unrecorded: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            options: &[],
            refuses: |_| false,
            ordered: false,
            unrecorded: IN_FLIGHT,
        }
    }
}

#[test]
fn no_more_is_ever_paid_for_and_not_on_file_than_may_be_in_flight() {
    const AT_ONCE: usize = 4;
    let folder = Folder::new();
    folder.write("p.jsonl", requests(400));
    let results = folder.path("p.results.jsonl");
    let worst = Arc::new(AtomicUsize::new(0));
    let provider = Provider::with({
        let worst = Arc::clone(&worst);
        move |row, before| {
            // A record that is being written may end within a character.
            let written = fs::read(&results).unwrap_or_default();
            let recorded = String::from_utf8_lossy(&written).matches('\n').count();
            worst.fetch_max((before + 1).saturating_sub(recorded), Ordering::Relaxed);
            Quick::json(200, &answer(row))
        }
    });
    let at_once = AT_ONCE.to_string();
    let arguments = ["run", "p.jsonl", "-c", &at_once];
    provider.tool(&folder, &arguments).run().code(0);
    let worst = worst.load(Ordering::Relaxed);
    assert!(worst <= AT_ONCE, "{worst} rows sent and not on file");
}

/// The provider has answered and been paid, and nobody is left to write it down.
#[test]
fn a_row_whose_answer_died_with_the_run_is_asked_again_and_may_have_been_billed_twice() {
    let folder = Folder::new();
    folder.write("p.jsonl", requests(10));
    let victim = Arc::new(AtomicI32::new(0));
    let provider = Provider::with({
        let victim = Arc::clone(&victim);
        move |row, before| {
            if before == 5 {
                let pid = || Pid::from_raw(victim.load(Ordering::SeqCst));
                let pid = std::iter::repeat_with(pid)
                    .find_map(|pid| pid)
                    .expect("forever");
                kill_process(pid, Signal::KILL).expect("it is ours");
            }
            Quick::json(200, &answer(row))
        }
    });
    let arguments = ["run", "p.jsonl", "-c", "1", "--summary", "s.json"];
    let mut run = provider.tool(&folder, &arguments).start();
    victim.store(run.id().try_into().expect("a process id"), Ordering::SeqCst);
    let status = run.child().wait().expect("it ends");
    assert_eq!(status.signal(), Some(SIGKILL));
    assert_eq!(whole_lines(&folder, "p.results.jsonl").lines().count(), 5);
    let tool = provider.tool(&folder, &arguments);
    tool.run().code(0).says(&["billed twice"]);
    assert_eq!(provider.asked(5), [5, 5, 6, 7, 8, 9]);
    assert_eq!(folder.json("s.json")["possibly_billed"], 1);
}

fn kills() -> usize {
    number("TOLLGATE_KILLS").unwrap_or(12)
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().ok().expect("a number"))
}

fn kill_again_and_again(kills: usize, plan: &Plan) {
    let seed = number("TOLLGATE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("TOLLGATE_SEED={seed}");
    let mut chance = Rng::with_seed(seed);
    let mut work = Work::new(plan);
    let (mut killed, mut requests, mut rows) = (0, 0, 0);
    while killed < kills {
        let moment = Moment::any(&mut chance, work.left());
        if work.killed_at(moment) {
            killed += 1;
        } else {
            work.ended();
            requests += work.provider.count();
            rows += ROWS;
            work = Work::new(plan);
        }
    }
    work.finish();
    requests += work.provider.count();
    rows += ROWS;
    println!("{killed} kills, {rows} rows, {requests} requests");
}

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start: while it reads back, opens, sends its first.
    Time(Duration),
    /// So many requests, and a little, after its start.
    Requests(usize, Duration),
}

impl Moment {
    /// A third of them at the start, and some at the end of what is `left` to do.
    fn any(chance: &mut Rng, left: usize) -> Self {
        let little = Duration::from_micros(chance.u64(..3_000));
        match chance.u8(..6) {
            0 | 1 => Self::Time(Duration::from_micros(chance.u64(..150_000))),
            2 => Self::Requests(left, 5 * little),
            _ => Self::Requests(chance.usize(1..ROWS / 4), little),
        }
    }

    /// Waits for it, or for the run to end before.
    fn wait(self, run: &mut Running, requests: impl Fn() -> usize) {
        match self {
            Self::Time(time) => thread::sleep(time),
            Self::Requests(count, little) => {
                while requests() < count && run.child().try_wait().is_ok_and(|end| end.is_none()) {
                    thread::sleep(Duration::from_micros(100));
                }
                thread::sleep(little);
            }
        }
    }
}

/// One input on its way to being done, however often it is killed.
struct Work<'p> {
    plan: &'p Plan,
    folder: Folder,
    provider: Provider,
    kills: usize,
    /// The whole lines of the results file.
    results: String,
    /// The rows in it.
    done: HashSet<usize>,
}

impl<'p> Work<'p> {
    fn new(plan: &'p Plan) -> Self {
        let folder = Folder::new();
        folder.write("p.jsonl", requests(ROWS));
        Self {
            plan,
            folder,
            provider: Provider::start(plan.refuses),
            kills: 0,
            results: String::new(),
            done: HashSet::new(),
        }
    }

    fn start(&self) -> Running {
        let run = ["run", "p.jsonl", "-q", "-c", "64"];
        let arguments = [&run, self.plan.options].concat();
        self.provider.tool(&self.folder, &arguments).start()
    }

    fn left(&self) -> usize {
        ROWS - self.done.len() - self.failed().len()
    }

    /// Runs it and kills it; false if it had ended before.
    fn killed_at(&mut self, moment: Moment) -> bool {
        let before = self.provider.count();
        let recorded: HashSet<usize> = self.done.union(&self.failed()).copied().collect();
        let mut run = self.start();
        moment.wait(&mut run, || self.provider.count() - before);
        run.child().kill().expect("it is ours");
        let status = run.child().wait().expect("it ends");
        let killed = status.signal() == Some(SIGKILL);
        if !killed {
            run.wait().code(self.exit());
        }
        self.look_at_results();
        self.kills += usize::from(killed);
        for row in self.provider.asked(before) {
            assert!(!recorded.contains(&row), "{moment:?}: {} again", id(row));
        }
        println!("{moment:?}: {} of {ROWS}", self.done.len());
        killed
    }

    /// What was whole is as it was, and what is new is whole and new.
    fn look_at_results(&mut self) {
        let whole = whole_lines(&self.folder, "p.results.jsonl");
        let before: HashSet<&str> = self.results.lines().collect();
        let (kept, new): (Vec<_>, Vec<_>) = whole.lines().partition(|line| before.contains(line));
        assert_eq!(kept.len(), before.len(), "what was recorded stays");
        for line in new {
            let row = row_in(line);
            assert!(self.done.insert(row), "{} twice", id(row));
            assert!(!(self.plan.refuses)(row));
        }
        self.results = whole;
    }

    /// The rows that are recorded as failed.
    fn failed(&self) -> HashSet<usize> {
        let whole = whole_lines(&self.folder, "p.errors.jsonl");
        let rows: HashSet<usize> = whole.lines().map(row_in).collect();
        assert!(rows.iter().all(|&row| (self.plan.refuses)(row)));
        rows
    }

    fn finish(&mut self) {
        self.start().wait().code(self.exit());
        self.look_at_results();
        self.ended();
    }

    /// Every row is on file once, and no more was asked for than kills can have cost.
    fn ended(&self) {
        let errors = self
            .folder
            .has("p.errors.jsonl")
            .then(|| self.folder.read("p.errors.jsonl"));
        let errors = errors.unwrap_or_default();
        let mut failed: Vec<usize> = errors.lines().map(row_in).collect();
        failed.sort_unstable();
        let expected: Vec<usize> = (0..ROWS).filter(|&row| (self.plan.refuses)(row)).collect();
        assert_eq!(failed, expected);
        assert_eq!(
            self.folder.read("p.results.jsonl"),
            self.results,
            "a torn end"
        );
        assert_eq!(self.done.len(), ROWS - failed.len());
        let rows = self.results.lines().map(row_in);
        assert!(!self.plan.ordered || rows.is_sorted(), "out of order");
        let beyond = self.provider.count() - ROWS;
        let bound = self.plan.unrecorded * self.kills;
        println!("{} kills, {beyond} requests beyond the ideal", self.kills);
        assert!(beyond <= bound, "{beyond} requests too many, for {bound}");
    }

    fn exit(&self) -> i32 {
        i32::from((0..ROWS).any(self.plan.refuses))
    }
}

/// A file up to its last newline, which must be UTF-8.
fn whole_lines(folder: &Folder, name: &str) -> String {
    let mut bytes = fs::read(folder.path(name)).unwrap_or_default();
    let end = bytes.iter().rposition(|&byte| byte == b'\n');
    bytes.truncate(end.map_or(0, |end| end + 1));
    String::from_utf8(bytes).expect("whole records")
}
