//! Processes that share one limit, event by event: their limiters without threads, and one account
//! without a store. Minutes of a run take milliseconds.

#![cfg(test)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::large_enum_variant,
    clippy::single_match_else,
    clippy::too_many_lines,
    reason = "a model, in one piece"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::announced::{Announced, Counted};
use super::bucket::{Admission, Nanos};
use super::rate::{Cost, Rate};
use super::sharing::{Next, Sharing};
use super::state::{LimiterState, Start};
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
        let sharing = Sharing::new(index as u64 + 1, world.fallback);
        limits.set.shared = Some(Box::new(sharing));
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
                    .end(cost, Cost::tokens(world.used), (start, true), now);
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
                let paused_until = process.limits.paused_until;
                let gone = || Error::new(ErrorKind::Unreachable, "gone");
                let reply = reply.ok_or_else(gone);
                let limits = &mut process.limits.set;
                let changed = limits.exchanged(&ask, reply, sent, paused_until, now);
                if let Some(until) = changed.paused_until {
                    process.limits.pause(until, now);
                }
                index
            }
        };
        let process = &mut processes[index];
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
                Admission::When(_) => {
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
            .shared
            .as_mut()
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
            Next::WhenCalled | Next::End(_) => {}
        }
    }
    came
}

/// What was admitted in each second.
fn by_second(came: &Came, seconds: u64) -> Vec<usize> {
    let count = |second: u64| {
        let within = second * SECOND..(second + 1) * SECOND;
        let admitted = came.admitted.iter();
        admitted.filter(|(at, _)| within.contains(at)).count()
    };
    (0..seconds).map(count).collect()
}

/// The share of the rate that was used after two seconds, the share of the most that the least had,
/// and the exchanges for each request. No window may be over, but for what a burst of one leaves no
/// room for: what the rate earns in the time for which the store's clock is not known.
fn measured(world: &World) -> [f64; 3] {
    let came = run(world, 1);
    let limit = world.requests.unwrap();
    let worst = came.worst(limit, 1);
    let unknown = world.round_trip as f64 / SECOND as f64 * limit.0.units_per_second();
    let most = if limit.1 == 1 { unknown } else { 0.0 };
    assert!(worst <= most + 1e-3, "{worst} over: {world:?}");
    let each = came.each(2 * SECOND, world.until, world.at_once.len());
    let [least, most] = [f64::min, f64::max].map(|pick| each.iter().copied().reduce(pick).unwrap());
    let share = came.share(limit.0, 2 * SECOND, world.until);
    let exchanges = came.exchanges as f64 / came.admitted.len() as f64;
    [share, least / most, exchanges]
}

#[test]
fn eight_processes_use_all_of_the_rate_in_equal_parts() {
    for round_trip in [0, MILLI, 50 * MILLI] {
        for (rate, seconds) in [(200, 12), (2, 34), (1_000, 6)] {
            let mut world = World::new(8, Rate::per_second(rate));
            (world.round_trip, world.late) = (round_trip, MILLI);
            (world.until, world.at_once) = (seconds * SECOND, vec![300; 8]);
            let [share, fair, exchanges] = measured(&world);
            assert!((0.98..1.005).contains(&share), "{share} of {rate}/s");
            assert!(fair > 0.95, "{fair} at {rate}/s");
            assert!(exchanges < 0.1 || rate < 1_000, "{exchanges} at {rate}/s");
        }
    }
}

/// A burst of one has no room for the way to the store, so each lease loses some of its time.
#[test]
fn a_burst_of_one_leaves_nine_tenths_of_the_rate() {
    for (rate, round_trip) in [(50, MILLI / 5), (200, MILLI / 5), (50, MILLI), (200, MILLI)] {
        let mut world = World::new(8, Rate::per_second(rate));
        world.requests = Some((Rate::per_second(rate), 1));
        (world.round_trip, world.late) = (round_trip, MILLI / 5);
        (world.until, world.at_once) = (22 * SECOND, vec![100; 8]);
        let [share, fair, _] = measured(&world);
        assert!(share > 0.9, "{share} of {rate}/s at {round_trip} ns");
        assert!(fair > 0.9, "{fair} at {rate}/s");
    }
}

#[test]
fn what_one_process_does_not_use_goes_to_the_others() {
    for round_trip in [MILLI, 50 * MILLI] {
        let mut world = World::new(8, Rate::per_second(200));
        (world.round_trip, world.late) = (round_trip, MILLI);
        world.until = 12 * SECOND;
        // They could send 76, 38 and 19 a second. Of 200, the small ones have what they can use.
        world.at_once = vec![16, 16, 8, 8, 4, 4, 4, 4];
        let came = run(&world, 1);
        let each = came.each(2 * SECOND, world.until, 8);
        let each: Vec<f64> = each.iter().map(|it| it / 10.0).collect();
        assert!(
            each[..4].iter().all(|it| (29.0..33.0).contains(it)),
            "{each:?}"
        );
        assert!(
            each[4..].iter().all(|it| (18.0..20.0).contains(it)),
            "{each:?}"
        );
        // Together they want less than there is: all have it, but for the way to the store.
        world.at_once = vec![3; 8];
        let [share, ..] = measured(&world);
        assert!(
            share > if round_trip > MILLI { 0.45 } else { 0.55 },
            "{share}"
        );
    }
    // One alone has all, with a small burst too.
    for burst in [1_000, 10] {
        let mut world = World::new(1, Rate::per_second(1_000));
        world.requests = Some((Rate::per_second(1_000), burst));
        (world.round_trip, world.at_once, world.until) = (50 * MILLI, vec![400], 8 * SECOND);
        let [share, ..] = measured(&world);
        assert!(share > 0.98, "{share}");
    }
}

#[test]
fn those_who_live_take_up_the_rate_of_those_who_die() {
    let mut world = World::new(8, Rate::per_second(200));
    (world.round_trip, world.late, world.until) = (MILLI, MILLI, 8 * SECOND);
    world.deaths = Some((3, 4_033 * MILLI));
    let seconds = by_second(&run(&world, 1), 8);
    measured(&world);
    assert!(seconds[4] >= 170, "{seconds:?}");
    assert!(seconds[5..].iter().all(|it| *it >= 196), "{seconds:?}");
}

#[test]
fn while_the_store_is_gone_nothing_goes_beyond_the_leases() {
    for round_trip in [MILLI, 50 * MILLI] {
        for is_empty in [false, true] {
            let mut world = World::new(8, Rate::per_second(200));
            (world.round_trip, world.late, world.until) = (round_trip, MILLI, 20 * SECOND);
            world.gone = Some((5 * SECOND, 15 * SECOND, is_empty));
            let seconds = by_second(&run(&world, 1), 20);
            measured(&world);
            assert!(seconds[5] <= 25, "a lease each: {seconds:?}");
            assert!(seconds[6..15].iter().all(|it| *it == 0), "{seconds:?}");
            assert!(seconds[17..].iter().all(|it| *it >= 196), "{seconds:?}");
            // Nothing is saved up meanwhile, whether the account is lost or not.
            assert!(seconds[15..17].iter().all(|it| *it <= 201), "{seconds:?}");
        }
    }
}

#[test]
fn while_the_store_is_gone_each_may_keep_to_its_share() {
    let mut world = World::new(8, Rate::per_second(200));
    (world.round_trip, world.late, world.until) = (MILLI, MILLI, 20 * SECOND);
    world.gone = Some((5 * SECOND, 15 * SECOND, true));
    world.fallback = Some(8);
    let seconds = by_second(&run(&world, 1), 20);
    let [share, ..] = measured(&world);
    assert!(share > 0.97, "{seconds:?}");
}

#[test]
fn model_tokens_are_shared_as_requests_are_and_what_is_not_used_comes_back() {
    for round_trip in [MILLI, 50 * MILLI] {
        // 100,000 a second are 200 requests a second of those 400 that are allowed.
        for (cost, used) in [(500, 500), (1_000, 500), (500, 1_000)] {
            let mut world = World::new(8, Rate::per_second(400));
            (world.round_trip, world.late, world.until) = (round_trip, MILLI, 12 * SECOND);
            let rate = Rate::per_second(100_000);
            world.tokens = Some((rate, rate.second_worth()));
            (world.cost, world.used) = (cost, used);
            let came = run(&world, 1);
            let each = came.each(2 * SECOND, world.until, 8);
            let share = each.iter().sum::<f64>() * used as f64 / 100_000.0 / 10.0;
            assert!(
                (0.98..1.02).contains(&share),
                "{share} with {cost} for {used}"
            );
            assert!(came.worst((rate, 100_000), cost.min(used)) <= 0.0);
        }
    }
}

#[test]
fn what_the_provider_announces_to_one_holds_for_all() {
    for round_trip in [MILLI, 50 * MILLI] {
        for limit in [200, 30, 2_000] {
            let mut world = World::new(8, Rate::per_second(1));
            (world.round_trip, world.late, world.until) = (round_trip, MILLI, 8 * SECOND);
            world.requests = None;
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
            let share = came.share(Rate::per_second(limit), 3 * SECOND, world.until);
            assert!((0.95..0.975).contains(&share), "{share} of {limit}/s");
            let each = came.each(3 * SECOND, world.until, 8);
            let [least, most] =
                [f64::min, f64::max].map(|pick| each.iter().copied().reduce(pick).unwrap());
            assert!(least / most > 0.8, "{each:?}");
        }
    }
}
