//! The leadership of a run, interleaving by interleaving: whatever fails, every item has exactly
//! one outcome, every thread goes home, and no permit stays out.
//!
//! The loop is the real one; only its threads are loom's, and its outcomes are counted without a
//! lock that loom would have to explore. Bounded as the models of the limiter are.

use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use super::job::{Attempt, Done, Job};
use super::progress::Monitor;
use super::results::Sink;
use super::schedule::Schedule;
use super::source::SliceSource;
use super::worker::{Core, Crew, Lead, Run, work};
use crate::cancel::Cancel;
use crate::limit::{Cost, Limiter};
use crate::retry::{Retry, Verdict};
use loom::thread::{self, JoinHandle};

/// What an item's attempt does.
#[derive(Clone, Copy, Debug)]
enum Item {
    Works,
    Fails,
    Panics,
    StopsTheRun,
}

struct Acts;

impl Job for Acts {
    type Input = &'static Item;
    type Output = ();
    type Error = Verdict;

    fn cost(&self, _: &&'static Item) -> Cost {
        Cost::ONE
    }

    fn attempt(&self, item: &&'static Item, _: &Attempt<'_>) -> Result<(), Verdict> {
        match item {
            Item::Works => Ok(()),
            Item::Fails => Err(Verdict::Fail),
            Item::StopsTheRun => Err(Verdict::Stop),
            // Not `panic!`: its message would be printed once an interleaving.
            Item::Panics => resume_unwind(Box::new("as told")),
        }
    }

    fn verdict(&self, error: &Verdict) -> Verdict {
        *error
    }
}

/// Never held across anything loom knows of, so that a real lock cannot be contended.
#[derive(Default)]
struct Tally(Mutex<Vec<u64>>);

impl Sink<&'static Item, (), Verdict> for Tally {
    fn deliver(&self, done: Done<&'static Item, (), Verdict>) -> bool {
        self.0.lock().unwrap().push(done.index);
        true
    }

    fn end(&self) {}
}

#[derive(Clone)]
struct Modelled {
    run: Arc<Run<'static, Acts, Tally>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Whether the system has threads to give.
    gives_threads: bool,
}

impl Crew<'static> for Modelled {
    type Job = Acts;
    type Sink = Tally;

    fn run(&self) -> &Run<'static, Acts, Tally> {
        &self.run
    }

    fn start(&self, lead: Lead<'static, Self>, number: usize) -> io::Result<()> {
        if !self.gives_threads {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let thread = thread::spawn(move || work(lead, number));
        self.threads.lock().unwrap().push(thread);
        Ok(())
    }
}

fn explore(switches: usize, places: usize, gives_threads: bool, items: &'static [Item]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 10_000;
    builder.check(move || {
        let limiter = Limiter::builder().concurrency(places).build().unwrap();
        let retry = Retry::new().seed(1);
        let crew = Modelled {
            run: Arc::new(Run {
                job: Acts,
                sink: Tally::default(),
                limiter: limiter.clone(),
                retry,
                cancel: Cancel::new(),
                monitor: Monitor::new(),
                core: crate::sync::Mutex::new(Core::new(Schedule::new(
                    Box::new(SliceSource::new(items)),
                    retry,
                    None,
                ))),
            }),
            threads: Arc::default(),
            gives_threads,
        };
        work(Lead::taken(crew.clone()), 0);
        loop {
            let next = crew.threads.lock().unwrap().pop();
            match next {
                Some(thread) => thread.join().unwrap(),
                None => break,
            }
        }
        let mut outcomes = crew.run.sink.0.lock().unwrap().clone();
        outcomes.sort_unstable();
        assert!(
            outcomes.iter().copied().eq(0..items.len() as u64),
            "{outcomes:?}"
        );
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    });
}

#[test]
fn loom_two_threads_share_a_place() {
    explore(2, 1, true, &[Item::Works, Item::Works]);
}

#[test]
fn loom_the_lead_outlives_a_panic_and_a_failure() {
    explore(2, 2, true, &[Item::Panics, Item::Fails, Item::Works]);
}

#[test]
fn loom_three_threads_hand_the_lead_round() {
    explore(1, 3, true, &[Item::Works; 4]);
}

#[test]
fn loom_a_stop_reaches_every_thread() {
    explore(2, 2, true, &[Item::StopsTheRun, Item::Works, Item::Works]);
}

#[test]
fn loom_a_run_without_more_threads_ends() {
    explore(3, 2, false, &[Item::Panics, Item::Works]);
}
