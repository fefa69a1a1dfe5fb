//! tollgate's limiter beside governor, without any request: what an uncontended try costs, and what
//! threads cost that wait for their turn. governor has no blocking wait, so its threads do what its
//! users do: check, and sleep for as long as it says.

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use governor::clock::{Clock, DefaultClock, MonotonicClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use peers::gate::{Gate, Grants};
use peers::task::say;
use peers::{Result, figures};
use tollgate::{Cost, Limiter, Rate};

fn main() -> ExitCode {
    let outcome = std::env::args()
        .nth(1)
        .ok_or_else(|| "started by the driver: cargo run --release in benches/peers".into())
        .and_then(|gate| run(&serde_json::from_str(&gate)?))
        .and_then(|grants| Ok(serde_json::to_string(&grants)?));
    say(outcome)
}

fn run(gate: &Gate) -> Result<Grants> {
    match gate.limiter.as_str() {
        "tollgate" => {
            let limiter = Limiter::builder()
                .requests(Rate::per_second(gate.per_second.into()))
                .build()?;
            measure(gate, || {
                // The permit goes at once: nothing here limits what is in flight.
                limiter.acquire(Cost::ONE).map(drop).map_err(Into::into)
            })
        }
        "tollgate, try" => {
            let limiter = Limiter::builder()
                .requests(Rate::per_second(gate.per_second.into()))
                .build()?;
            tries(gate, || match limiter.try_acquire(Cost::ONE) {
                Ok(permit) => {
                    drop(permit);
                    Ok(())
                }
                Err(refusal) => Err(format!("refused: {refusal:?}").into()),
            })
        }
        "governor" => {
            let (limiter, clock) = (governor(gate)?, DefaultClock::default());
            measure(gate, || {
                while let Err(not_until) = limiter.check() {
                    thread::sleep(not_until.wait_time_from(clock.now()));
                }
                Ok(())
            })
        }
        "governor, try" => {
            let limiter = governor(gate)?;
            tries(gate, || {
                limiter
                    .check()
                    .map_err(|refusal| refusal.to_string().into())
            })
        }
        "governor by Instant, try" => {
            let limiter = RateLimiter::direct_with_clock(quota(gate)?, MonotonicClock);
            tries(gate, || {
                limiter
                    .check()
                    .map_err(|refusal| refusal.to_string().into())
            })
        }
        other => Err(format!("no such limiter: {other:?}").into()),
    }
}

/// With the burst that is the default of both: one second's worth.
fn governor(gate: &Gate) -> Result<DefaultDirectRateLimiter> {
    Ok(RateLimiter::direct(quota(gate)?))
}

fn quota(gate: &Gate) -> Result<Quota> {
    let per_second = NonZeroU32::new(gate.per_second).ok_or("a rate of 0")?;
    Ok(Quota::per_second(per_second))
}

/// Nothing but one `grant` after the other, on this thread.
fn tries(gate: &Gate, grant: impl Fn() -> Result<()>) -> Result<Grants> {
    let (started, cpu) = (Instant::now(), figures::cpu());
    for _ in 0..gate.grants {
        grant()?;
    }
    Ok(Grants {
        wall_s: started.elapsed().as_secs_f64(),
        cpu_s: figures::cpu().saturating_sub(cpu).as_secs_f64(),
        fewest: gate.grants,
        most: gate.grants,
        overtaken: 0,
    })
}

/// `grant` on all threads until there were as many as asked for.
fn measure(gate: &Gate, grant: impl Fn() -> Result<()> + Sync) -> Result<Grants> {
    let (arrivals, granted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ready = Barrier::new(gate.threads + 1);
    let work = || {
        ready.wait();
        let (mut grants, mut overtaken) = (0_usize, 0_usize);
        loop {
            let arrival = arrivals.fetch_add(1, Relaxed);
            if arrival >= gate.grants {
                return Ok::<_, peers::Error>((grants, overtaken));
            }
            grant()?;
            grants += 1;
            overtaken = overtaken.max(granted.fetch_add(1, Relaxed).saturating_sub(arrival));
        }
    };
    thread::scope(|scope| {
        let workers = (0..gate.threads)
            .map(|_| {
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn_scoped(scope, work)
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        // The burst is spent first: what is measured is the wait.
        for _ in 0..gate.spend_first {
            grant()?;
        }
        let (started, cpu) = (Instant::now(), figures::cpu());
        ready.wait();
        let mut each = Vec::new();
        for worker in workers {
            each.push(worker.join().map_err(|_| "a worker panicked")??);
        }
        Ok(Grants {
            wall_s: started.elapsed().as_secs_f64(),
            cpu_s: figures::cpu().saturating_sub(cpu).as_secs_f64(),
            fewest: each.iter().map(|each| each.0).min().unwrap_or(0),
            most: each.iter().map(|each| each.0).max().unwrap_or(0),
            overtaken: each.iter().map(|each| each.1).max().unwrap_or(0),
        })
    })
}
