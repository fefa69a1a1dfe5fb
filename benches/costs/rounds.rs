//! Rounds of work on threads that are started before, so that the work is measured and their start is
//! not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// So many threads, each of which does `work` once for every round.
pub(super) struct Rounds {
    begin: Barrier,
    end: Barrier,
    over: AtomicBool,
}

impl Rounds {
    /// Starts the threads, and ends them after `caller`, which runs on this thread and calls for as many
    /// rounds as it likes.
    pub(super) fn with(threads: usize, work: impl Fn() + Sync, caller: impl FnOnce(&Self)) {
        let rounds = Self {
            begin: Barrier::new(threads + 1),
            end: Barrier::new(threads + 1),
            over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        rounds.begin.wait();
                        if rounds.over.load(Ordering::Relaxed) {
                            break;
                        }
                        work();
                        rounds.end.wait();
                    }
                });
            }
            caller(&rounds);
            rounds.over.store(true, Ordering::Relaxed);
            rounds.begin.wait();
        });
    }

    /// Lets all of them begin a round. Waking them takes some 5 µs a thread.
    pub(super) fn begin(&self) {
        self.begin.wait();
    }

    /// Waits until all of them have ended it.
    pub(super) fn end(&self) {
        self.end.wait();
    }
}
