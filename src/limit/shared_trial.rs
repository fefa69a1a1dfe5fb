//! Processes that share one allowance, event by event: their limiters without threads, and one
//! account without a store. Minutes of a run take milliseconds.

#![cfg(test)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::announced::{Announced, Counted};
use super::bucket::Nanos;
use super::rate::{Cost, Rate};
use super::sharing::{Next, Sharing};
use super::state::{LimiterState, Start};
use super::waited::Admission;
use crate::error::{Error, ErrorKind};
use crate::shared::{Ask, Ledger, Reply};

const MILLI: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLI;

/// What the processes share, and how far the store is.
#[derive(Clone, Debug)]
struct World {
    requests: Option<(Rate, u64)>,
    tokens: Option<(Rate, u64)>,
    /// The number at once of each process: what it sends when nothing else limits it is this by
    /// `latency`.
    at_once: Vec<usize>,
    latency: Nanos,
    /// What is estimated, and what is used.
    cost: u64,
    used: u64,
    round_trip: Nanos,
    /// From when to when the store is gone, and whether it comes back empty.
    gone: Option<(Nanos, Nanos, bool)>,
    /// These die at this time.
    deaths: Option<(usize, Nanos)>,
    fallback: Option<u64>,
    /// The first process hears of this limit with each answer.
    announced: Option<Announced>,
    /// All wake-ups are late by up to so much.
    late: Nanos,
    until: Nanos,
}

impl World {
    fn new(processes: usize, rate: Rate) -> Self {
        Self {
            requests: Some((rate, rate.second_worth())),
            tokens: None,
            at_once: vec![64; processes],
            latency: 200 * MILLI,
            cost: 0,
            used: 0,
            round_trip: 0,
            gone: None,
            deaths: None,
            fallback: None,
            announced: None,
            late: 0,
            until: 30 * SECOND,
        }
    }
}

#[derive(Debug)]
enum Event {
    Look(usize),
    Answer(usize, Start),
    AtStore(usize, Ask, Nanos),
    AtHome(usize, Ask, Option<Reply>, Nanos),
}

struct Process {
    limits: LimiterState,
    is_asking: bool,
    waiting: usize,
    is_dead: bool,
    look: Nanos,
    keeper: Nanos,
}

#[derive(Default)]
struct Came {
    /// When, by which process.
    admitted: Vec<(Nanos, usize)>,
    exchanges: usize,
}

impl Came {
    /// What was admitted between both times, by process.
    fn each(&self, from: Nanos, to: Nanos, processes: usize) -> Vec<f64> {
        let count = |process| {
            let admitted = self.admitted.iter();
            let of = |(at, by): &&(Nanos, usize)| *by == process && (from..to).contains(at);
            admitted.filter(of).count() as f64
        };
        (0..processes).map(count).collect()
    }

    /// What was admitted of what might have been between both times.
    fn share(&self, rate: Rate, from: Nanos, to: Nanos) -> f64 {
        let sum: f64 = self.each(from, to, 64).iter().sum();
        sum / rate.units_per_second() / ((to - from) as f64 / SECOND as f64)
    }

    /// By how many units the worst window is over its burst and rate.
    fn worst(&self, (rate, burst): (Rate, u64), cost: u64) -> f64 {
        let (units, period) = (rate.units(), rate.period().as_nanos());
        let (mut worst, mut least) = (i128::MIN, i128::MAX);
        let mut sum = 0_i128;
        for (at, _) in &self.admitted {
            let earned = (u128::from(*at) * u128::from(units)) as i128;
            least = least.min(sum - earned);
            sum += (u128::from(cost) * period) as i128;
            worst = worst.max(sum - earned - least);
        }
        worst as f64 / period as f64 - burst as f64
    }
}

fn run(world: &World, seed: u64) -> Came {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut ledger = Ledger::default();
    let mut came = Came::default();
    let mut events: BinaryHeap<Reverse<(Nanos, u64)>> = BinaryHeap::new();
    let mut what = std::collections::HashMap::new();
    let mut number = 0;
    let mut at = |events: &mut BinaryHeap<_>,
                  what: &mut std::collections::HashMap<_, _>,
                  time: Nanos,
                  event: Event| {
        number += 1;
        events.push(Reverse((time, number)));
        what.insert(number, event);
    };
    let mut processes: Vec<Process> = Vec::new();
    for (index, at_once) in world.at_once.iter().enumerate() {
        let mut limits = LimiterState::new(*at_once);
        limits
            .set
            .share(Sharing::new(index as u64 + 1, world.fallback));
        limits.set_requests(world.requests, 0);
        limits.set_tokens(world.tokens, 0);
        processes.push(Process {
            limits,
            is_asking: false,
            waiting: 0,
            is_dead: false,
            look: Nanos::MAX,
            keeper: Nanos::MAX,
        });
        at(
            &mut events,
            &mut what,
            chance.u64(0..20 * MILLI),
            Event::Look(index),
        );
    }
    let cost = Cost::tokens(world.cost);
    let skew = |process: usize| 1_000_000 * process as u64;
    while let Some(Reverse((now, number))) = events.pop() {
        if now > world.until {
            break;
        }
        let event = what.remove(&number).unwrap();
        if let Some((dying, at)) = world.deaths
            && now >= at
        {
            processes[..dying]
                .iter_mut()
                .for_each(|it| it.is_dead = true);
        }
        let index = match event {
            Event::Look(index) => index,
            Event::Answer(index, start) => {
                let process = &mut processes[index];
                if index == 0
                    && let Some(announced) = &world.announced
                {
                    process
                        .limits
                        .announced(announced, now - world.latency, now);
                }
                process.limits.let_in(start, now);
                process
                    .limits
                    .end(cost, Cost::tokens(world.used), (start, true), || now);
                index
            }
            Event::AtStore(index, ask, sent) => {
                let half = world.round_trip / 2;
                let reply = match world.gone {
                    Some((from, to, is_empty)) if now >= from && now < to => {
                        if is_empty {
                            ledger = Ledger::default();
                        }
                        None
                    }
                    _ => Some(ledger.exchange(
                        &ask,
                        77_000_000_000 + now / 1_000,
                        chance.u64(1..1 << 50),
                    )),
                };
                at(
                    &mut events,
                    &mut what,
                    now + half,
                    Event::AtHome(index, ask, reply, sent),
                );
                continue;
            }
            Event::AtHome(index, ask, reply, sent) => {
                let process = &mut processes[index];
                process.is_asking = false;
                let paused_until = process.limits.paused_until();
                match reply {
                    Some(reply) => {
                        let changed =
                            process
                                .limits
                                .set
                                .heard(&ask, &reply, sent, paused_until, now);
                        if let Some(until) = changed.paused_until {
                            process.limits.pause(until, now);
                        }
                    }
                    None => {
                        let error = Error::new(ErrorKind::Unreachable, "gone");
                        process.limits.set.failed(&ask, &error, paused_until, now);
                    }
                }
                index
            }
        };
        let process = &mut processes[index];
        let _ = skew(index);
        if process.is_dead {
            continue;
        }
        loop {
            process.waiting = 0;
            match process.limits.admit(cost, now) {
                Admission::Now => {
                    came.admitted.push((now, index));
                    let start = process.limits.start();
                    let latency = world.latency + chance.u64(0..=world.latency / 10);
                    at(
                        &mut events,
                        &mut what,
                        now + latency,
                        Event::Answer(index, start),
                    );
                }
                Admission::At(time, _) => {
                    process.waiting = 1;
                    let time = time + chance.u64(0..=world.late);
                    if process.look <= now || time < process.look {
                        process.look = time;
                        at(&mut events, &mut what, time, Event::Look(index));
                    }
                    break;
                }
                Admission::WhenReleased => {
                    process.waiting = 1;
                    break;
                }
                Admission::WhenLeased => {
                    process.waiting = 1;
                    break;
                }
            }
        }
        if process.is_asking {
            continue;
        }
        let in_flight = process.limits.in_flight();
        match process
            .limits
            .set
            .shared_mut()
            .unwrap()
            .next(in_flight, process.waiting, now)
        {
            Next::Ask(ask) => {
                process.is_asking = true;
                came.exchanges += 1;
                let there = now + world.round_trip.div_ceil(2);
                at(
                    &mut events,
                    &mut what,
                    there,
                    Event::AtStore(index, ask, now),
                );
            }
            Next::At(time) => {
                if process.keeper <= now || time < process.keeper {
                    process.keeper = time;
                    at(&mut events, &mut what, time, Event::Look(index));
                }
            }
            Next::WhenCalled => {}
        }
    }
    came
}

fn told(world: &World, seed: u64) -> String {
    let came = run(world, seed);
    let n = world.at_once.len();
    let (rate, burst) = world.requests.unwrap_or((Rate::per_second(1), 1));
    let from = 2 * SECOND;
    let each = came.each(from, world.until, n);
    let least = each.iter().copied().fold(f64::MAX, f64::min);
    let most = each.iter().copied().fold(0.0, f64::max);
    let sum = came.admitted.len();
    format!(
        "share {:.4}  worst {:+.3}  fair {:.3}  exchanges/request {:.3}  {:?}",
        came.share(rate, from, world.until),
        came.worst((rate, burst), 1),
        least / most.max(1.0),
        came.exchanges as f64 / sum.max(1) as f64,
        each,
    )
}

#[test]
#[ignore = "for figures"]
fn more_figures() {
    let ms = |n: u64| n * MILLI;
    let by_second = |came: &Came| {
        let seconds: Vec<usize> = (0..30)
            .map(|second| {
                let within = second * SECOND..(second + 1) * SECOND;
                came.admitted
                    .iter()
                    .filter(|(at, _)| within.contains(at))
                    .count()
            })
            .collect();
        format!("{seconds:?}")
    };
    for rtt in [ms(1), ms(50)] {
        let mut world = World::new(8, Rate::per_second(200));
        world.round_trip = rtt;
        world.late = ms(1);
        world.deaths = Some((3, 10 * SECOND + 33 * MILLI));
        let came = run(&world, 1);
        println!(
            "deaths: worst {:+.3} {}",
            came.worst(world.requests.unwrap(), 1),
            by_second(&came)
        );
        world.deaths = None;
        for (is_empty, fallback) in [(false, None), (true, None), (true, Some(8))] {
            world.gone = Some((10 * SECOND, 20 * SECOND, is_empty));
            world.fallback = fallback;
            let came = run(&world, 1);
            println!(
                "gone empty {is_empty} {fallback:?}: worst {:+.3} {}",
                came.worst(world.requests.unwrap(), 1),
                by_second(&came)
            );
        }
        // Tokens bind: 100,000 a second are 200 requests a second.
        for (cost, used) in [(500, 500), (1_000, 500), (500, 1_000), (2_000, 500)] {
            let mut world = World::new(8, Rate::per_second(400));
            world.round_trip = rtt;
            world.late = ms(1);
            let rate = Rate::per_second(100_000);
            world.tokens = Some((rate, rate.second_worth()));
            (world.cost, world.used) = (cost, used);
            let came = run(&world, 1);
            let each = came.each(2 * SECOND, 30 * SECOND, 8);
            let share = each.iter().sum::<f64>() * used as f64 / 100_000.0 / 28.0;
            println!(
                "tokens {cost} for {used}: {share:.4} worst {:+.0} exchanges {:.3} {each:?}",
                came.worst((rate, 100_000), cost.min(used)),
                came.exchanges as f64 / came.admitted.len() as f64
            );
        }
        for limit in [200, 30, 2_000] {
            let mut world = World::new(8, Rate::per_second(1));
            world.requests = None;
            world.round_trip = rtt;
            world.late = ms(1);
            world.at_once = vec![if limit > 1_000 { 200 } else { 40 }; 8];
            world.announced = Some(Announced {
                counted: Counted::Requests,
                scope: 0,
                limit: limit * 60,
                remaining: None,
                reset: None,
                window: Some(std::time::Duration::from_secs(60)),
            });
            let came = run(&world, 1);
            let share = came.share(Rate::per_second(limit), 2 * SECOND, 30 * SECOND);
            println!(
                "announced {limit}/s: {share:.4} (0.97 wanted) exchanges {:.3} {}",
                came.exchanges as f64 / came.admitted.len() as f64,
                by_second(&came)
            );
        }
    }
}

#[test]
#[ignore = "for figures"]
fn figures() {
    for rtt in [0, MILLI / 5, 2 * MILLI, 50 * MILLI] {
        for rate in [200, 2, 1_000] {
            let mut world = World::new(8, Rate::per_second(rate));
            world.round_trip = rtt;
            if rate == 1_000 {
                world.at_once = vec![400; 8];
            }
            println!(
                "rtt {:>4.1} ms {rate:>5}/s  {}",
                rtt as f64 / MILLI as f64,
                told(&world, 1)
            );
            world.late = 2 * MILLI;
            println!("        late {rate:>5}/s  {}", told(&world, 1));
        }
    }
    for rtt in [0, 2 * MILLI, 50 * MILLI] {
        let mut world = World::new(8, Rate::per_second(200));
        world.round_trip = rtt;
        world.at_once = vec![16, 16, 8, 8, 4, 4, 4, 4];
        println!("loads 8:4:2:2, all wanting 320/s  {}", told(&world, 1));
        world.at_once = vec![3; 8];
        println!("underused, wanting 120/s  {}", told(&world, 1));
        let mut world = World::new(1, Rate::per_second(1_000));
        world.round_trip = rtt;
        world.at_once = vec![400; 1];
        println!("alone 1000/s {}", told(&world, 1));
        world.requests = Some((Rate::per_second(1000), 10));
        println!("alone 1000/s burst 10 {}", told(&world, 1));
        let mut world = World::new(8, Rate::per_second(200));
        world.round_trip = rtt;
        world.requests = Some((Rate::per_second(200), 10));
        println!("8 200/s burst 10 {}", told(&world, 1));
        world.requests = Some((Rate::per_second(200), 1));
        println!("8 200/s burst 1 {}", told(&world, 1));
    }
}
