//! Random lives of several processes on one account. The processes here use their credit by the
//! rule of `exchange.rs`, in a few lines, so that a fault of the limiter's hides none of the
//! account's.

#![cfg(test)]

use proptest::prelude::*;

use super::exchange::{Ask, Limit, Micros, Reply, Span, Want};
use super::ledger::Ledger;

const SECOND: Micros = 1_000_000;
const START: Micros = 10_000 * SECOND;

/// Rates with a whole number of microseconds for each unit, or not.
const RATES: [u64; 6] = [1, 3, 7, 10, 40, 1_000];

#[derive(Clone, Debug)]
enum Step {
    Wait(Micros),
    Ask {
        who: usize,
        want: Want,
        reply_is_lost: bool,
    },
    Use {
        who: usize,
        units: u64,
    },
    GiveBack {
        who: usize,
        leaves: bool,
    },
    Die {
        who: usize,
    },
    Pause {
        who: usize,
        length: Micros,
    },
    Limit {
        who: usize,
        units: u64,
        burst: u64,
    },
    /// Tokens that were used beyond what a lease gave, or fewer of those used before.
    Settle {
        who: usize,
        owed: i64,
    },
    LoseState,
    SetClockBack(Micros),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..4_usize;
    prop_oneof![
        8 => (0..SECOND / 2).prop_map(Step::Wait),
        1 => (0..20 * SECOND).prop_map(Step::Wait),
        8 => (who(), 0..12_u64, 0..60_u64, prop::bool::weighted(0.1)).prop_map(
            |(who, least, most, reply_is_lost)| Step::Ask { who, want: Want { least, most }, reply_is_lost }
        ),
        12 => (who(), 1..12_u64).prop_map(|(who, units)| Step::Use { who, units }),
        3 => (who(), prop::bool::weighted(0.3))
            .prop_map(|(who, leaves)| Step::GiveBack { who, leaves }),
        1 => who().prop_map(|who| Step::Die { who }),
        1 => (who(), 1..3 * SECOND).prop_map(|(who, length)| Step::Pause { who, length }),
        1 => (who(), prop::sample::select(&RATES[..]), 1..30_u64)
            .prop_map(|(who, units, burst)| Step::Limit { who, units, burst }),
        3 => (who(), -12..6_i64).prop_map(|(who, owed)| Step::Settle { who, owed }),
        1 => Just(Step::LoseState),
        1 => (1..5 * SECOND).prop_map(Step::SetClockBack),
    ]
}

/// A process, with what it knows.
#[derive(Clone, Debug, Default)]
struct Process {
    id: u64,
    given: Limit,
    incarnation: u64,
    limit: Option<Limit>,
    credit: Vec<Span>,
    used: u64,
    /// How far the store's clock was set back when it last answered.
    set_back: Micros,
}

struct Use {
    at: Micros,
    /// Below zero, a refund that has shortened the queue.
    units: f64,
    /// When what is owed is paid for; after a refund, when the credit that was in the queue lapses.
    until: Micros,
}

/// What was used, and all that bounds it.
#[derive(Default)]
struct Uses {
    all: Vec<Use>,
    /// Those that held at some time.
    limits: Vec<Limit>,
    /// How far into the future a use has reached.
    future: Micros,
    /// The leases that were held when the account was lost.
    forgotten: Micros,
}

struct World {
    /// Which of the pair of axes is looked at.
    axis: usize,
    /// Whether what was used may turn out to be another number. After that, a part of the axis may
    /// be leased again in place of one that has lapsed unused.
    settles: bool,
    now: Micros,
    set_back: Micros,
    ledger: Ledger,
    processes: Vec<Process>,
    ids: u64,
    uses: Uses,
    /// What was leased in this incarnation and not given back.
    leased: (u64, Vec<Span>),
}

impl World {
    fn new(axis: usize, units: u64, burst: u64, settles: bool) -> Self {
        let given = Limit {
            units,
            period: SECOND,
            burst,
        };
        let process = |id| Process {
            id,
            given,
            ..Process::default()
        };
        Self {
            axis,
            settles,
            now: START,
            set_back: 0,
            ledger: Ledger::default(),
            processes: (1..5).map(process).collect(),
            ids: 5,
            uses: Uses::default(),
            leased: (0, Vec::new()),
        }
    }

    fn exchange(&mut self, who: usize, more: Ask, reply_is_lost: bool) {
        let process = &mut self.processes[who];
        let mut ask = Ask {
            holder: process.id,
            incarnation: process.incarnation,
            lease: SECOND / 10,
            slack: SECOND / 1_000,
            ..more
        };
        ask.configured[self.axis] = Some(process.given);
        self.ids += 1;
        let now = self.now - self.set_back;
        let reply = self.ledger.exchange(&ask, now, self.ids);
        if self.leased.0 != reply.incarnation {
            self.leased = (reply.incarnation, Vec::new());
        }
        let leased = &mut self.leased.1;
        let known = ask.incarnation == reply.incarnation;
        for back in ask.back[self.axis].iter().filter(|_| known) {
            let rest = leased.iter().flat_map(|span| without(*span, *back));
            *leased = rest.collect();
        }
        for new in &reply.credit[self.axis] {
            let twice = leased
                .iter()
                .find(|span| new.from < span.to && span.from < new.to);
            assert!(twice.is_none() || self.settles, "{new:?} is leased already");
            leased.push(*new);
        }
        if !reply_is_lost {
            process.hear(self.axis, &reply, self.set_back);
            self.uses.limits.extend(process.limit);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Wait(time) => self.now += time,
            Step::Ask {
                who,
                want,
                reply_is_lost,
            } => {
                let mut wants = [Want::default(); 2];
                wants[self.axis] = want;
                self.exchange(
                    who,
                    Ask {
                        wants,
                        ..Ask::default()
                    },
                    reply_is_lost,
                );
            }
            Step::Use { who, units } => {
                let process = &mut self.processes[who];
                let now = self.now - process.set_back;
                if let Some(last) = process.take(units, now) {
                    process.used += units;
                    let (at, units) = (self.now, units as f64);
                    self.uses.all.push(Use {
                        at,
                        units,
                        until: 0,
                    });
                    self.uses.future = self.uses.future.max(last.saturating_sub(now));
                }
            }
            Step::GiveBack { who, leaves } => {
                let mut back = [Vec::new(), Vec::new()];
                back[self.axis] = std::mem::take(&mut self.processes[who].credit);
                self.exchange(
                    who,
                    Ask {
                        back,
                        leaves,
                        ..Ask::default()
                    },
                    false,
                );
            }
            Step::Die { who } => {
                self.ids += 1;
                let given = self.processes[who].given;
                self.processes[who] = Process {
                    id: self.ids,
                    given,
                    ..Process::default()
                };
            }
            Step::Pause { who, length } => {
                self.exchange(
                    who,
                    Ask {
                        pause: length,
                        ..Ask::default()
                    },
                    false,
                );
            }
            Step::Limit { who, units, burst } => {
                self.processes[who].given = Limit {
                    units,
                    period: SECOND,
                    burst,
                };
            }
            Step::Settle { who, owed } => self.settle(who, owed),
            Step::LoseState => {
                self.ledger = Ledger::default();
                for process in &self.processes {
                    let length = |span: &Span| span.to - span.from;
                    self.uses.forgotten += process.credit.iter().map(length).sum::<Micros>();
                }
            }
            // So far that the account sees it: it cannot know of an hour that seems a minute.
            Step::SetClockBack(by) => {
                let seen = self.ledger.seen.max(START) - by;
                self.set_back = self.set_back.max(self.now - seen);
            }
        }
    }

    fn settle(&mut self, who: usize, owed: i64) {
        let process = &mut self.processes[who];
        let used = process.used.checked_add_signed(owed);
        let (Some(used), Some(limit)) = (used, process.limit) else {
            return;
        };
        process.used = used;
        let before = self.ledger.axes[1].next;
        self.exchange(
            who,
            Ask {
                owed_tokens: owed,
                ..Ask::default()
            },
            false,
        );
        let after = self.ledger.axes[1].next;
        let at = self.now;
        let (units, until) = if owed > 0 {
            (owed as f64, after)
        } else {
            let queue = before.saturating_sub(after) * limit.units;
            let worth = limit.burst * limit.period / limit.units;
            (-(queue as f64) / limit.period as f64, before + worth)
        };
        self.uses.all.push(Use { at, units, until });
    }
}

/// What is left of one part without another.
fn without(span: Span, other: Span) -> impl Iterator<Item = Span> {
    let before = Span {
        to: span.to.min(other.from),
        ..span
    };
    let after = Span {
        from: span.from.max(other.to),
        ..span
    };
    [before, after]
        .into_iter()
        .filter(|span| span.from < span.to)
}

impl Process {
    fn hear(&mut self, axis: usize, reply: &Reply, set_back: Micros) {
        if reply.incarnation != self.incarnation {
            self.credit.clear();
        }
        self.incarnation = reply.incarnation;
        self.set_back = set_back;
        self.limit = reply.limits[axis];
        self.credit.extend_from_slice(&reply.credit[axis]);
        self.credit.sort_by_key(|span| span.from);
        self.drop_before(reply.paused_until);
    }

    fn drop_before(&mut self, date: Micros) {
        for span in &mut self.credit {
            span.from = span.from.max(date);
        }
        self.credit.retain(|span| span.from < span.to);
    }

    /// Uses so many units, if they may be used now. Returns the end of the last part used.
    fn take(&mut self, units: u64, now: Micros) -> Option<Micros> {
        let limit = self.limit?;
        let length = |units: u64| (units * limit.period).div_ceil(limit.units);
        self.drop_before(now.saturating_sub(limit.burst * limit.period / limit.units));
        let until = |date: Micros| -> Micros {
            let cut = |span: &Span| span.to.min(date).saturating_sub(span.from);
            self.credit.iter().map(cut).sum()
        };
        let worth = limit.burst * limit.period / limit.units;
        if until(now) < length(units).min(worth) || until(Micros::MAX) < length(units) {
            return None;
        }
        let mut left = length(units);
        let mut last = 0;
        for span in &mut self.credit {
            let used = left.min(span.to - span.from);
            if used > 0 {
                (span.from, last) = (span.from + used, span.from + used);
                left -= used;
            }
        }
        Some(last)
    }
}

impl Uses {
    /// Credit that may be saved up, in units, and the fastest rate. With one limit all the time
    /// these are its burst and its rate. With several, credit of an age counts by the fastest of
    /// the limits under which credit may be so old.
    fn most(&self) -> (f64, f64) {
        let rate = |limit: &Limit| limit.units as f64 / limit.period as f64;
        let worth = |limit: &Limit| limit.burst as f64 / rate(limit);
        let fastest = |limits: &[Limit]| limits.iter().map(rate).fold(0.0, f64::max);
        let mut limits = self.limits.clone();
        limits.sort_by(|one, other| worth(one).total_cmp(&worth(other)));
        let (mut saved, mut age) = (0.0, 0.0);
        for at in 0..limits.len() {
            saved += (worth(&limits[at]) - age) * fastest(&limits[at..]);
            age = worth(&limits[at]);
        }
        (saved, fastest(&limits))
    }

    /// The first window in which more was used than credit that was saved up and what the rate
    /// gives, if there is one.
    ///
    /// Tokens that were used beyond a lease count when that is known, and are over until the queue
    /// has paid for them. A refund counts when it is made: a window that begins right after it may
    /// have as much more.
    fn over(&self) -> Option<String> {
        let (saved, fastest) = self.most();
        let saved = saved + (self.future + self.forgotten) as f64 * fastest;
        self.all.iter().enumerate().find_map(|(first, start)| {
            let start = start.at;
            let (before, window) = self.all.split_at(first);
            let refund = |one: &Use| {
                if one.until >= start {
                    one.units.min(0.0)
                } else {
                    0.0
                }
            };
            let saved = saved - before.iter().map(refund).sum::<f64>();
            let mut sum = 0.0;
            window.iter().enumerate().find_map(|(last, end)| {
                sum += end.units;
                let owed = |one: &Use| {
                    if one.until > end.at {
                        one.units.max(0.0)
                    } else {
                        0.0
                    }
                };
                let owed: f64 = window[..=last].iter().map(owed).sum();
                let window = end.at - start;
                let most = saved + owed + fastest * window as f64;
                let is_over = sum > most + 1e-6;
                is_over.then(|| format!("{sum} in {window} µs, at most {most}"))
            })
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn no_window_is_ever_over(
        axis in 0..2_usize,
        units in prop::sample::select(&RATES[..]),
        burst in 1..20_u64,
        limits_change in any::<bool>(),
        state_is_lost in any::<bool>(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(axis, units, burst, false);
        for step in &steps {
            match step {
                Step::Limit { .. } if !limits_change => {}
                Step::LoseState if !state_is_lost => {}
                Step::Settle { .. } => {}
                step => world.step(step),
            }
        }
        prop_assert_eq!(world.uses.over(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_settled_is_paid_for(
        units in prop::sample::select(&RATES[..]),
        burst in 1..20_u64,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(1, units, burst, true);
        for step in &steps {
            match step {
                Step::Limit { .. } | Step::LoseState | Step::SetClockBack(_) => {}
                step => world.step(step),
            }
        }
        prop_assert_eq!(world.uses.over(), None);
    }
}

/// Hungry processes that ask as soon as their lease has ended, or somewhat later, whatever it is
/// that each asks for: how many units each has had of `seconds`.
fn shares(most: &[u64], late: &[Micros], seconds: u64) -> Vec<f64> {
    let limit = Limit {
        units: 200,
        period: SECOND,
        burst: 20,
    };
    let mut ledger = Ledger::default();
    let mut had = vec![0; most.len()];
    let mut due = vec![START; most.len()];
    let turn = |due: &[Micros]| (0..due.len()).min_by_key(|&who| due[who]);
    let end = START + seconds * SECOND;
    for turns in 0.. {
        let Some(who) = turn(&due).filter(|&who| due[who] < end) else {
            break;
        };
        let want = Want {
            least: 1,
            most: most[who],
        };
        let ask = Ask {
            holder: who as u64,
            configured: [Some(limit), None],
            wants: [want, Want::default()],
            lease: SECOND / 10,
            ..Ask::default()
        };
        let reply = ledger.exchange(&ask, due[who], 1);
        let credit = &reply.credit[0];
        had[who] += credit
            .iter()
            .map(|span| span.to - span.from)
            .sum::<Micros>();
        let until = credit.last().map_or(0, |span| span.to);
        due[who] = until.max(due[who]) + late[turns % late.len()];
    }
    let units = |had: Micros| had as f64 * 200.0 / SECOND as f64;
    had.into_iter().map(units).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// All ask for as many as they can get: the least and the most of them differ by a lease or
    /// two.
    #[test]
    fn hungry_processes_have_equal_shares(
        most in prop::collection::vec(100..10_000_u64, 2..9),
        late in prop::collection::vec(0..5_000_u64, 1..20),
    ) {
        let shares = shares(&most, &late, 10);
        let all: f64 = shares.iter().sum();
        prop_assert!((1_960.0..=2_020.0).contains(&all), "{} of 2000", all);
        let fair = all / shares.len() as f64;
        for share in &shares {
            prop_assert!((share - fair).abs() <= 0.02 * fair + 20.0, "{:?}", shares);
        }
    }

    /// What some do not ask for goes to the others.
    #[test]
    fn nothing_is_kept_for_those_who_ask_for_little(
        modest in prop::collection::vec(1..2_u64, 1..4),
        hungry in 1..4_usize,
    ) {
        let all = [modest, vec![10_000; hungry]].concat();
        let shares = shares(&all, &[0], 10);
        prop_assert!(shares.iter().sum::<f64>() >= 1_990.0, "{:?}", shares);
    }
}
