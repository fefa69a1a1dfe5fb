//! Threads that stand ready, so that what they do together is measured and their start is not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// So many threads, each of which does `work` once for every round.
pub(super) struct Crew {
    begin: Barrier,
    end: Barrier,
    over: AtomicBool,
}

impl Crew {
    /// Has `lead` call for as many rounds as it likes, on this thread, and dismisses the threads.
    pub(super) fn with(threads: usize, work: impl Fn() + Sync, lead: impl FnOnce(&Self)) {
        let crew = Self {
            begin: Barrier::new(threads + 1),
            end: Barrier::new(threads + 1),
            over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        crew.begin.wait();
                        if crew.over.load(Ordering::Relaxed) {
                            break;
                        }
                        work();
                        crew.end.wait();
                    }
                });
            }
            lead(&crew);
            crew.over.store(true, Ordering::Relaxed);
            crew.begin.wait();
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
