//! The limiter: its arithmetic with nobody near it, then with many threads at it.
//!
//! What it admits over eight seconds, and the CPU of a wait for the rate, is `benches/admission.rs`; the
//! same beside governor is `benches/peers`.

use std::thread;

use divan::Bencher;
use divan::counter::ItemsCount;
use tollgate::{Cost, Limiter, LimiterBuilder, Rate, Refusal, VirtualClock};

use super::rounds::Rounds;
use super::{THREADS, sized};

/// More than any processor asks for.
const NEVER_BINDS: Rate = Rate::per_second(Rate::MAX_PER_SECOND);

fn build(limiter: LimiterBuilder) -> Limiter {
    limiter.build().expect("plain settings")
}

/// The bucket of requests, under its lock, at a time that stands still.
#[divan::bench]
fn bucket_of_requests(bencher: Bencher) {
    let clock = VirtualClock::new();
    let limiter = build(
        Limiter::builder()
            .clock(clock.clock())
            .requests(NEVER_BINDS),
    );
    bencher.bench(|| drop(limiter.try_acquire(Cost::ONE)));
}

/// Both buckets and a place: an estimate is reserved, and settled for half of it.
#[divan::bench]
fn buckets_of_requests_and_tokens(bencher: Bencher) {
    let clock = VirtualClock::new();
    let limiter = build(
        Limiter::builder()
            .clock(clock.clock())
            .requests(NEVER_BINDS)
            .tokens(NEVER_BINDS)
            .concurrency(1),
    );
    bencher.bench(|| match limiter.try_acquire(Cost::tokens(2)) {
        Ok(permit) => permit.settle(1),
        Err(refusal) => panic!("a second's worth lasts longer: {refusal}"),
    });
}

/// An empty bucket, which says when to come back.
#[divan::bench]
fn bucket_that_refuses(bencher: Bencher) {
    let clock = VirtualClock::new();
    let limiter = build(
        Limiter::builder()
            .clock(clock.clock())
            .requests(Rate::per_second(1)),
    );
    drop(limiter.try_acquire(Cost::ONE));
    bencher.bench(|| match limiter.try_acquire(Cost::ONE) {
        Err(Refusal::NotUntil(at)) => at,
        other => panic!("the only request of this second is gone: {other:?}"),
    });
}

/// A try that is granted, by the system's clock, from so many threads at once.
#[divan::bench(args = THREADS, sample_count = 20, sample_size = 1)]
fn try_granted(bencher: Bencher, threads: usize) {
    let limiter = build(Limiter::builder().requests(NEVER_BINDS));
    let each = sized(2_000_000).div_ceil(threads);
    let tries = || {
        for _ in 0..each {
            drop(limiter.try_acquire(Cost::ONE));
        }
    };
    Rounds::with(threads, tries, |rounds| {
        bencher
            .counter(ItemsCount::new(each * threads))
            .bench_local(|| {
                rounds.begin();
                rounds.end();
            });
    });
}

/// One place that so many threads want: each waits in line, has it, and gives it on. All of them
/// stand in line before it begins, so that from two threads on each grant is a thread woken and
/// another put to sleep; with one alone it is an acquire that need not wait.
#[divan::bench(args = THREADS, sample_count = 10, sample_size = 1)]
fn wait_for_the_only_place(bencher: Bencher, threads: usize) {
    let limiter = build(Limiter::builder().concurrency(1));
    let each = sized(50_000).div_ceil(threads);
    let waits = || {
        for _ in 0..each {
            drop(limiter.acquire(Cost::ONE));
        }
    };
    Rounds::with(threads, waits, |rounds| {
        bencher
            .counter(ItemsCount::new(each * threads))
            .with_inputs(|| {
                let held = limiter.acquire(Cost::ONE);
                rounds.begin();
                while limiter.waiting() < threads {
                    thread::yield_now();
                }
                held
            })
            .bench_local_values(|held| {
                drop(held);
                rounds.end();
            });
    });
}
