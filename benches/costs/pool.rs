//! What the pool adds to a job: jobs that do nothing, so that nothing else is measured.
//!
//! The threads' start is part of it, as it is part of a run. How many there will be, the pool decides:
//! for jobs that are over at once a few are enough, where [`by_hand`] starts them all, most of them in
//! vain. What threads cost while requests wait is `benches/threads.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use divan::Bencher;
use divan::counter::ItemsCount;
use tollgate::{Cost, Limiter, Pool};

use super::{THREADS, sized};

const JOBS: usize = 200_000;

/// A slice, its results in order.
#[divan::bench(args = THREADS, sample_count = 10, sample_size = 1)]
fn map(bencher: Bencher, at_once: usize) {
    let pool = Pool::new(at_once).expect("at least one");
    let items = vec![(); sized(JOBS)];
    bencher
        .counter(ItemsCount::new(items.len()))
        .bench(|| pool.map(&items, |()| ()));
}

/// An iterator, pulled by a thread of its own, each result handed to the calling one.
#[divan::bench(args = THREADS, sample_count = 10, sample_size = 1)]
fn for_each(bencher: Bencher, at_once: usize) {
    let pool = Pool::new(at_once).expect("at least one");
    let jobs = sized(JOBS);
    bencher.counter(ItemsCount::new(jobs)).bench(|| {
        pool.task(|_: &usize, _| Ok::<(), ()>(()))
            .for_each(0..jobs, |done| assert!(done.result.is_ok()))
    });
}

/// To compare with: as many threads as may be in flight, each of which waits for a permit and takes the
/// next number. It has no retries, results, counters or panics to handle.
#[divan::bench(args = THREADS, sample_count = 10, sample_size = 1)]
fn by_hand(bencher: Bencher, at_once: usize) {
    let limiter = Limiter::builder().concurrency(at_once);
    let limiter = limiter.build().expect("at least one");
    let jobs = sized(JOBS);
    bencher.counter(ItemsCount::new(jobs)).bench(|| {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while next.fetch_add(1, Ordering::Relaxed) < jobs {
                        drop(limiter.acquire(Cost::ONE));
                    }
                });
            }
        });
    });
}
