//! The leadership of a run, interleaving by interleaving: whatever fails, every item has exactly
//! one outcome, every thread exits, and no permit stays out.
//!
//! The loop is the real one; only its threads are loom's, and its outcomes are counted without a
//! lock that loom would have to explore. Each is bounded to so many preemptions that it takes
//! seconds.

use std::io;
use std::panic::resume_unwind;
use std::sync::Mutex;

use super::events::Events;
use super::input::InputQueue;
use super::job::{Attempt, Job};
use super::leader::{RunShared, Spawner};
use super::monitor::Monitor;
use super::outcomes::JobOutcome;
use super::settings::Settings;
use super::worker::work;
use crate::cancel::Cancel;
use crate::limit::{Cost, Limiter};
use crate::retry::{Retry, Verdict};
use crate::sync::explore;
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

    fn cost(&self, _: &&'static Item) -> crate::error::Result<Cost> {
        Ok(Cost::ONE)
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

    fn second(&self, item: &&'static Item) -> Option<&'static Item> {
        Some(item)
    }

    fn verdict(&self, error: &Verdict) -> Verdict {
        *error
    }
}

/// The threads of a run, as loom has them.
#[derive(Default)]
struct Threads {
    started: Mutex<Vec<Option<JoinHandle<()>>>>,
    /// How many threads the system has to give.
    available: usize,
}

impl Spawner<'static> for &'static Threads {
    fn start(self, _name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut started = self.started.lock().unwrap();
        if started.len() == self.available {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        started.push(Some(thread::spawn(body)));
        Ok(())
    }
}

/// A run on a limiter of this concurrency.
struct Setting {
    preemptions: usize,
    concurrency: usize,
    /// Threads that the system gives, besides the one that begins.
    available: usize,
    /// Whether whatever is under way is due for a copy.
    hedge: bool,
    /// Whether somebody outside the run holds a permit at its start, and leaves.
    outsider: bool,
    items: &'static [Item],
}

fn run(setting: Setting) {
    let Setting {
        preemptions,
        concurrency,
        available,
        hedge,
        outsider,
        items,
    } = setting;
    explore(Some(preemptions), move || {
        let limiter = Limiter::builder().concurrency(concurrency).build().unwrap();
        let settings = Settings {
            limiter: limiter.clone(),
            retry: Retry::new().seed(1),
            cancel: Cancel::new(),
            monitor: Monitor::new(),
            events: Events::default(),
            deadline: None,
            warmup: 0,
            hedge,
        };
        // Loom's threads cannot borrow: what they share is left to leak, once an interleaving.
        // Never held across anything loom knows of, so that a real lock cannot be contended.
        let tally: &Mutex<Vec<u64>> = Box::leak(Box::default());
        let sink: &_ = Box::leak(Box::new(|outcome: JobOutcome<_, _, _>| {
            tally.lock().unwrap().push(outcome.index);
            true
        }));
        let threads: &Threads = Box::leak(Box::new(Threads {
            available,
            ..Threads::default()
        }));
        let shared = RunShared::new(settings, Acts, InputQueue::filled(items), sink);
        if let Some(hedging) = &mut shared.state.lock().schedule.hedging {
            hedging.expect_no_latency(1_000);
        }
        let run: &RunShared<Acts> = Box::leak(Box::new(shared));
        let outsider = outsider.then(|| {
            let permit = limiter.try_acquire(Cost::ONE).unwrap();
            thread::spawn(move || drop(permit))
        });
        work(run, threads, 0);
        // Those that were started, and those that these started: all before the first is through.
        let mut joined = 0;
        loop {
            let mut started = threads.started.lock().unwrap();
            let next = started.get_mut(joined).map(Option::take);
            drop(started);
            match next {
                Some(thread) => thread.unwrap().join().unwrap(),
                None => break,
            }
            joined += 1;
        }
        if let Some(outsider) = outsider {
            outsider.join().unwrap();
        }
        let mut outcomes = tally.lock().unwrap().clone();
        outcomes.sort_unstable();
        assert!(
            outcomes.iter().copied().eq(0..items.len() as u64),
            "{outcomes:?}"
        );
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    });
}

/// The outsider's permit makes a thread that has finished get none: it gives its item back and
/// parks, and another must take that item.
#[test]
fn loom_an_item_that_is_given_back_is_taken_up() {
    run(Setting {
        preemptions: 3,
        concurrency: 2,
        available: 1,
        hedge: false,
        outsider: true,
        items: &[Item::Works; 3],
    });
}

#[test]
fn loom_the_lead_outlives_a_panic_and_a_failure() {
    run(Setting {
        preemptions: 4,
        concurrency: 2,
        available: 1,
        hedge: false,
        outsider: false,
        items: &[Item::Panics, Item::Fails, Item::Works],
    });
}

#[test]
fn loom_three_threads_hand_the_lead_round() {
    run(Setting {
        preemptions: 3,
        concurrency: 3,
        available: 2,
        hedge: false,
        outsider: false,
        items: &[Item::Works; 4],
    });
}

#[test]
fn loom_a_stop_reaches_every_thread() {
    run(Setting {
        preemptions: 4,
        concurrency: 2,
        available: 1,
        hedge: false,
        outsider: false,
        items: &[Item::StopsTheRun, Item::Works, Item::Works],
    });
}

/// The second thread asks for a third and gets none.
#[test]
fn loom_a_refused_thread_leaves_the_lead_to_the_others() {
    run(Setting {
        preemptions: 3,
        concurrency: 3,
        available: 1,
        hedge: false,
        outsider: false,
        items: &[Item::Panics, Item::Works, Item::Works, Item::Works],
    });
}

/// A thread for the copy is started when the item begins; the two attempts may end in the same
/// moment.
#[test]
fn loom_an_item_and_its_copy_have_one_outcome() {
    for items in [
        &[Item::Works] as &'static [Item],
        &[Item::Fails],
        &[Item::Panics],
        &[Item::StopsTheRun],
    ] {
        run(Setting {
            preemptions: 3,
            concurrency: 2,
            available: 1,
            hedge: true,
            outsider: false,
            items,
        });
    }
}

/// The copy is put off while the outsider has the place that it needs.
#[test]
fn loom_a_copy_waits_for_room_and_never_holds_up_the_end() {
    run(Setting {
        preemptions: 3,
        concurrency: 2,
        available: 2,
        hedge: true,
        outsider: true,
        items: &[Item::Works],
    });
}

#[test]
fn loom_copies_among_other_items() {
    run(Setting {
        preemptions: 2,
        concurrency: 2,
        available: 2,
        hedge: true,
        outsider: false,
        items: &[Item::Works, Item::Fails],
    });
}
