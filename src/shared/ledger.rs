//! The account of a shared limit, and what one exchange makes of it. It is pure: the caller has the
//! time, a random number, and the place where the account is kept.
//!
//! All numbers stay below 2⁵³, and lengths are computed in doubles, so that a script in a Redis
//! server computes the same. Rounding makes a lease longer or shorter by a microsecond at most. Its
//! holder computes how many units it is worth, in whole numbers.

use std::collections::BTreeMap;

use super::exchange::{Ask, Limit, Micros, Reply, Span};

/// A holder that asks nothing for so long after the end of its lease is forgotten, with its limits.
const LIVE: Micros = 3_000_000;

/// A holder counts as one that wants a share for so long after the end of its lease.
const BUSY: Micros = 300_000;

/// How many parts that were given back are kept for others.
const FREE: usize = 16;

/// No date and no number is above this. Sums stay below 2⁵³.
pub(super) const LAST: u64 = 9_000_000_000_000_000;

/// The account. The default is one that has seen no exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// 0 before the first exchange.
    pub(crate) incarnation: u64,
    /// The time of the latest exchange.
    pub(crate) seen: Micros,
    pub(crate) paused_until: Micros,
    pub(crate) axes: [Axis; 2],
    pub(crate) holders: BTreeMap<u64, Holder>,
}

/// What is left of a limit's time axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Where the part of the axis begins that was never leased.
    pub(crate) next: Micros,
    /// Parts before it that were given back, oldest first. None touches another, or `next`.
    pub(crate) free: Vec<Span>,
}

/// A process that shares the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) configured: [Option<Limit>; 2],
    pub(crate) announced: [Option<Limit>; 2],
    /// The holder is forgotten after this time.
    pub(crate) live_until: Micros,
    /// The holder counts as one that wants a share until this time.
    pub(crate) busy_until: Micros,
}

impl Ledger {
    /// Answers an ask at time `now`. `fresh` is a random number, the next incarnation if the
    /// account begins anew.
    pub(crate) fn exchange(&mut self, ask: &Ask, now: Micros, fresh: u64) -> Reply {
        let now = now.min(LAST);
        self.set_time(now, fresh.max(1));
        if ask.pause > 0 {
            self.paused_until = self.paused_until.max(later(now, ask.pause));
        }
        // Nothing is saved up while no limit held, as the store does not know what was used then.
        let held = if self.holders.is_empty() {
            [true; 2]
        } else {
            self.limits().map(|limit| limit.is_some())
        };
        self.holders.retain(|_, holder| holder.live_until >= now);
        let holder = self.holders.entry(ask.holder).or_default();
        (holder.configured, holder.announced) = (ask.configured, ask.announced);

        let wants = ask.wants.iter().any(|want| want.least.max(want.most) > 0);
        let others = self.holders.iter().filter(|(id, _)| **id != ask.holder);
        let busy = others
            .filter(|(_, holder)| holder.busy_until >= now)
            .count();
        let active = busy as u64 + u64::from(wants);
        let limits = self.limits();
        let mut end = now;
        let mut credit = [Vec::new(), Vec::new()];
        for (at, axis) in self.axes.iter_mut().enumerate() {
            let saves_up = held[at] && !ask.returns;
            let worth = limits[at].filter(|_| saves_up).map_or(0, burst_time);
            let floor = self.paused_until.max(now.saturating_sub(worth));
            let known = ask.incarnation == self.incarnation;
            axis.take_back(if known { &ask.back[at] } else { &[] }, floor);
            let Some(limit) = limits[at] else { continue };
            if at == TOKENS {
                axis.settle(ask.owed_tokens, limit, now.max(floor));
            }
            credit[at] = axis.lease(ask, at, limit, active, now);
            end = credit[at].last().map_or(end, |span| end.max(span.to));
        }

        let configured = lowest(self.holders.values().map(|holder| holder.configured));
        let holders = self.holders.len() as u64;
        if ask.leaves {
            self.holders.remove(&ask.holder);
        } else if let Some(holder) = self.holders.get_mut(&ask.holder) {
            holder.live_until = end + LIVE;
            if wants {
                holder.busy_until = end + BUSY;
            }
        }
        Reply {
            incarnation: self.incarnation,
            now,
            configured,
            limits,
            credit,
            paused_until: if self.paused_until > now {
                self.paused_until
            } else {
                0
            },
            holders,
        }
    }

    /// If the clock was set back, all dates are set back with it. The holders cannot know that, so
    /// their leases are void.
    fn set_time(&mut self, now: Micros, fresh: u64) {
        if self.incarnation == 0 {
            // Empty: what was leased before the account was lost may still be used.
            *self = Self {
                incarnation: fresh,
                ..Self::default()
            };
            self.axes = [now; 2].map(|next| Axis {
                next,
                free: Vec::new(),
            });
        } else if now < self.seen {
            let back = self.seen - now;
            let earlier = |date: &mut Micros| *date = date.saturating_sub(back);
            self.incarnation = fresh;
            earlier(&mut self.paused_until);
            for axis in &mut self.axes {
                earlier(&mut axis.next);
                axis.free.clear();
            }
            for holder in self.holders.values_mut() {
                earlier(&mut holder.live_until);
                earlier(&mut holder.busy_until);
            }
        }
        self.seen = now;
    }

    /// The limits that hold: the lowest that any process was given, or has seen announced.
    fn limits(&self) -> [Option<Limit>; 2] {
        let both = |holder: &Holder| [holder.configured, holder.announced];
        lowest(self.holders.values().flat_map(both))
    }
}

/// Which of a pair is for model tokens.
const TOKENS: usize = 1;

impl Axis {
    /// Takes parts back, and drops what lies before `floor`: it has lapsed.
    fn take_back(&mut self, back: &[Span], floor: Micros) {
        self.free.extend_from_slice(back);
        self.free.sort_by_key(|span| span.from);
        let mut whole: Vec<Span> = Vec::new();
        for span in &self.free {
            let (from, to) = (span.from.max(floor), span.to.min(self.next));
            match whole.last_mut() {
                _ if from >= to => {}
                // A part that is given back twice counts once.
                Some(last) if from <= last.to => last.to = last.to.max(to),
                _ => whole.push(Span { from, to }),
            }
        }
        if let Some(last) = whole.pop_if(|last| last.to == self.next) {
            self.next = last.from;
        }
        whole.drain(..whole.len().saturating_sub(FREE));
        self.free = whole;
        self.next = self.next.max(floor);
    }

    /// Takes from the axis what was used beyond all leases. A negative number gives back, but only
    /// from the part of the axis beyond `now`: credit that has lapsed does not come back.
    fn settle(&mut self, owed: i64, limit: Limit, now: Micros) {
        let length = length(owed.unsigned_abs(), limit);
        if owed > 0 {
            self.next = later(self.next, length);
        } else {
            let freed = self.free.last().map_or(now, |span| span.to.max(now));
            let least = self.next.min(freed);
            self.next = self.next.saturating_sub(length).max(least);
        }
    }

    /// Leases a share to one of several holders that want one: first what was given back, then what
    /// was never leased.
    fn lease(&mut self, ask: &Ask, at: usize, limit: Limit, active: u64, now: Micros) -> Vec<Span> {
        let want = ask.wants[at];
        let share = scaled(
            ask.lease.min(LAST) / active.max(1),
            limit.units,
            limit.period,
        );
        let units = want.least.max(want.most.min(whole(share)));
        if units == 0 {
            return Vec::new();
        }
        let worth = burst_time(limit);
        let least = length(want.least, limit);
        let mut total = length(units, limit);
        // The oldest part must be good until the reply is there, and good for as long as a lease
        // is to last if the burst leaves room for it: what is about to lapse is left out. Where
        // there is no room, a lease could be used at one instant only, and is longer instead.
        let room = worth - least.min(worth);
        let good_for = ask.slack.min(room).max(ask.lease.min(room / 2));
        self.take_back(&[], now.saturating_sub(worth - good_for));
        total = later(total, ask.slack - ask.slack.min(room));
        // Old parts that cannot be used together with what follows are left to others.
        let mut skipped = 0;
        let mut credit = self.parts(skipped, total);
        while skipped < self.free.len() && !usable(&credit, least, worth) {
            skipped += 1;
            credit = self.parts(skipped, total);
        }
        for span in &credit {
            match self.free.iter_mut().find(|free| free.from == span.from) {
                Some(free) => free.from = span.to,
                None => self.next = span.to,
            }
        }
        self.free.retain(|free| free.from < free.to);
        credit
    }

    /// The first parts of this length, without the oldest few.
    fn parts(&self, skipped: usize, length: Micros) -> Vec<Span> {
        let rest = Span {
            from: self.next,
            to: LAST,
        };
        let mut left = length;
        let mut parts = Vec::new();
        for span in self.free[skipped..].iter().chain([&rest]) {
            let to = span.to.min(later(span.from, left));
            if to > span.from {
                parts.push(Span {
                    from: span.from,
                    to,
                });
                left -= to - span.from;
            }
        }
        parts
    }
}

/// Whether there is an instant at which this credit is enough for a cost of this length. Only what
/// is not older than `worth` counts; a cost above that waits for all of it, and leaves a debt.
fn usable(credit: &[Span], cost: Micros, worth: Micros) -> bool {
    let sum = |from: Micros, to: Micros| -> Micros {
        let cut = |span: &Span| span.to.min(to).saturating_sub(span.from.max(from));
        credit.iter().map(cut).sum()
    };
    credit.iter().any(|span| {
        let from = span.to.saturating_sub(worth);
        sum(from, span.to) >= cost.min(worth) && sum(from, LAST) >= cost
    })
}

/// The lowest rate and the lowest burst of all, for each of a pair. Of rates that are the same, the
/// one with the shorter period is named.
fn lowest(all: impl Iterator<Item = [Option<Limit>; 2]>) -> [Option<Limit>; 2] {
    let lower = |one: Limit, other: Limit| {
        let rate = |limit: Limit| (limit.units as f64 / limit.period as f64, limit.period);
        let named = if rate(other) < rate(one) { other } else { one };
        Limit {
            burst: one.burst.min(other.burst),
            ..named
        }
    };
    all.fold([None; 2], |lowest, limits| {
        [0, 1].map(|at| match (lowest[at], limits[at]) {
            (Some(one), Some(other)) => Some(lower(one, other)),
            (one, other) => one.or(other),
        })
    })
}

/// How long the axis is that so many units are worth.
fn length(units: u64, limit: Limit) -> Micros {
    whole(scaled(units, limit.period, limit.units).ceil())
}

/// How old credit may become.
fn burst_time(limit: Limit) -> Micros {
    whole(scaled(limit.burst, limit.period, limit.units))
}

/// `number * by / per`.
fn scaled(number: u64, by: u64, per: u64) -> f64 {
    number as f64 * by as f64 / per as f64
}

/// Rounded down, and no more than [`LAST`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    (number as u64).min(LAST)
}

fn later(date: Micros, by: Micros) -> Micros {
    date.saturating_add(by).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Want;

    const SECOND: Micros = 1_000_000;
    const START: Micros = 1_000 * SECOND;

    fn limit(units: u64, burst: u64) -> Limit {
        Limit {
            units,
            period: SECOND,
            burst,
        }
    }

    /// An ask for requests at ten a second, four at once.
    fn ask(holder: u64, least: u64, most: u64) -> Ask {
        Ask {
            holder,
            configured: [Some(limit(10, 4)), None],
            wants: [Want { least, most }, Want::default()],
            lease: SECOND,
            ..Ask::default()
        }
    }

    fn span(from: Micros, to: Micros) -> Span {
        Span {
            from: START + from,
            to: START + to,
        }
    }

    /// An account whose axes start at `START`, without holders.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let leaves = Ask {
            leaves: true,
            ..ask(99, 0, 0)
        };
        ledger.exchange(&leaves, START, 7);
        assert!(ledger.holders.is_empty());
        ledger
    }

    #[test]
    fn a_new_account_is_empty_and_saves_up_one_burst() {
        let mut ledger = ledger();
        let first = ledger.exchange(&ask(1, 1, 1), START, 8);
        assert_eq!(first.incarnation, 7);
        assert_eq!(
            first.credit[0],
            [span(0, SECOND / 10)],
            "nothing is saved up"
        );
        let now = START + 60 * SECOND;
        let later = ledger.exchange(&ask(1, 4, 4), now, 8);
        let saved = Span {
            from: now - 4 * SECOND / 10,
            to: now,
        };
        assert_eq!(later.credit[0], [saved]);
    }

    #[test]
    fn hungry_holders_have_equal_shares_and_one_alone_has_all() {
        let mut ledger = ledger();
        let units = |reply: &Reply| {
            let length = |span: &Span| span.to - span.from;
            reply.credit[0].iter().map(length).sum::<Micros>() * 10 / SECOND
        };
        assert_eq!(units(&ledger.exchange(&ask(1, 1, 100), START, 8)), 10);
        assert_eq!(
            units(&ledger.exchange(&ask(2, 1, 3), START, 8)),
            3,
            "as it asked"
        );
        assert_eq!(units(&ledger.exchange(&ask(2, 1, 100), START, 8)), 5);
        assert_eq!(
            units(&ledger.exchange(&ask(3, 5, 100), START, 8)),
            5,
            "what it needs"
        );
        assert_eq!(units(&ledger.exchange(&ask(3, 0, 0), START, 8)), 0);
    }

    #[test]
    fn what_is_given_back_goes_to_others_until_it_lapses() {
        let mut ledger = ledger();
        let one = ledger.exchange(&ask(1, 4, 4), START, 8);
        let two = ledger.exchange(&ask(2, 4, 4), START, 8);
        let now = START + 3 * SECOND / 10;
        let back = |reply: &Reply| Ask {
            incarnation: 7,
            back: [reply.credit[0].clone(), Vec::new()],
            ..ask(1, 0, 0)
        };
        ledger.exchange(&back(&one), now, 8);
        ledger.exchange(&back(&one), now, 8);
        assert_eq!(
            ledger.axes[0].free,
            [span(0, 4 * SECOND / 10)],
            "twice is once"
        );
        ledger.exchange(&back(&two), now, 8);
        assert_eq!(
            (ledger.axes[0].next, &ledger.axes[0].free[..]),
            (START, &[][..])
        );
        let three = ledger.exchange(&ask(3, 4, 4), now + SECOND, 8);
        assert_eq!(three.credit[0], [span(9 * SECOND / 10, 13 * SECOND / 10)]);
    }

    #[test]
    fn parts_that_nobody_can_use_together_are_not_leased_together() {
        let mut ledger = ledger();
        let burst_one = |holder| Ask {
            configured: [Some(limit(10, 1)), None],
            ..ask(holder, 1, 1)
        };
        ledger.exchange(&burst_one(1), START, 8);
        ledger.exchange(&burst_one(2), START, 8);
        let half = span(0, SECOND / 20);
        ledger.axes[0].free = vec![half];
        let three = ledger.exchange(&burst_one(3), START, 8);
        assert_eq!(three.credit[0], [span(2 * SECOND / 10, 3 * SECOND / 10)]);
        assert_eq!(ledger.axes[0].free, [half]);
    }

    #[test]
    fn a_pause_holds_all_and_ends_without_a_burst() {
        let mut ledger = ledger();
        let pause = Ask {
            pause: 2 * SECOND,
            ..ask(1, 0, 0)
        };
        ledger.exchange(&pause, START, 8);
        let two = ledger.exchange(&ask(2, 1, 1), START + SECOND, 8);
        assert_eq!(two.paused_until, START + 2 * SECOND);
        assert_eq!(two.credit[0], [span(2 * SECOND, 21 * SECOND / 10)]);
        let three = ledger.exchange(&ask(3, 1, 1), START + 3 * SECOND, 8);
        assert_eq!(three.paused_until, 0);
    }

    #[test]
    fn one_that_could_not_reach_the_store_finds_nothing_saved_up() {
        let mut ledger = ledger();
        let now = START + 60 * SECOND;
        ledger.axes[0].free = vec![span(0, SECOND), span(59 * SECOND, 61 * SECOND)];
        ledger.axes[0].next = START + 62 * SECOND;
        let returns = |holder| Ask {
            returns: true,
            ..ask(holder, 4, 4)
        };
        let first = ledger.exchange(&returns(1), now, 8);
        assert_eq!(first.credit[0], [span(60 * SECOND, 604 * SECOND / 10)]);
        // What is queued beyond now stays so.
        let second = ledger.exchange(&returns(2), now, 8);
        let rest = span(604 * SECOND / 10, 608 * SECOND / 10);
        assert_eq!(second.credit[0], [rest]);
        let later = ledger.exchange(&returns(3), now + 10 * SECOND, 8);
        assert_eq!(later.credit[0], [span(70 * SECOND, 704 * SECOND / 10)]);
    }

    #[test]
    fn the_lowest_limits_of_those_who_live_hold() {
        let mut ledger = ledger();
        let with = |holder, units, burst| Ask {
            configured: [Some(limit(units, burst)), None],
            ..ask(holder, 0, 0)
        };
        ledger.exchange(&with(1, 10, 30), START, 8);
        let announced = Ask {
            announced: [Some(limit(5, 50)), None],
            ..with(2, 20, 2)
        };
        let reply = ledger.exchange(&announced, START, 8);
        assert_eq!(reply.configured, [Some(limit(10, 2)), None]);
        assert_eq!(reply.limits, [Some(limit(5, 2)), None]);
        assert_eq!(reply.holders, 2);
        let reply = ledger.exchange(&with(1, 10, 30), START + LIVE + 1, 8);
        assert_eq!(reply.limits, [Some(limit(10, 30)), None]);
    }

    #[test]
    fn a_first_limit_starts_empty() {
        let mut ledger = ledger();
        let unlimited = Ask {
            configured: [None; 2],
            ..ask(1, 1, 1)
        };
        assert_eq!(ledger.exchange(&unlimited, START, 8).limits, [None; 2]);
        let now = START + SECOND;
        let first = ledger.exchange(&ask(2, 1, 1), now, 8);
        assert_eq!(first.credit[0][0].from, now);
    }

    #[test]
    fn owed_tokens_move_the_queue_and_a_refund_never_reaches_into_the_past() {
        let mut ledger = ledger();
        let owes = |owed_tokens| Ask {
            configured: [None, Some(limit(100, 100))],
            owed_tokens,
            ..ask(1, 0, 0)
        };
        ledger.exchange(&owes(50), START, 8);
        assert_eq!(ledger.axes[1].next, START + SECOND / 2);
        ledger.exchange(&owes(-20), START, 8);
        assert_eq!(ledger.axes[1].next, START + 3 * SECOND / 10);
        ledger.exchange(&owes(-90), START, 8);
        assert_eq!(ledger.axes[1].next, START);
    }

    #[test]
    fn a_clock_that_is_set_back_takes_the_dates_with_it_and_voids_the_leases() {
        let mut ledger = ledger();
        let one = ledger.exchange(&ask(1, 4, 4), START, 8);
        let back = Ask {
            incarnation: one.incarnation,
            back: one.credit.clone(),
            ..ask(1, 0, 0)
        };
        let reply = ledger.exchange(&back, START - 60 * SECOND, 8);
        assert_eq!((reply.incarnation, reply.holders), (8, 1));
        assert_eq!(ledger.axes[0].next, START - 60 * SECOND + 4 * SECOND / 10);
        assert_eq!(ledger.axes[0].free, []);
    }

    #[test]
    fn no_number_overflows() {
        let mut ledger = ledger();
        let huge = Limit {
            units: 1,
            period: u64::MAX,
            burst: u64::MAX,
        };
        let all = Span {
            from: 0,
            to: u64::MAX,
        };
        let want = Want {
            least: u64::MAX,
            most: u64::MAX,
        };
        let ask = Ask {
            holder: u64::MAX,
            incarnation: 7,
            configured: [Some(huge); 2],
            announced: [
                Some(Limit {
                    units: 0,
                    period: 0,
                    burst: 0,
                }),
                None,
            ],
            wants: [want; 2],
            back: [vec![all; 3], vec![all; 3]],
            owed_tokens: i64::MIN,
            pause: u64::MAX,
            lease: u64::MAX,
            slack: u64::MAX,
            leaves: false,
            returns: false,
        };
        for now in [START, u64::MAX, 0] {
            ledger.exchange(&ask, now, 9);
            ledger.exchange(
                &Ask {
                    owed_tokens: i64::MAX,
                    ..ask.clone()
                },
                now,
                9,
            );
        }
        assert!(ledger.axes.iter().all(|axis| axis.next <= LAST));
    }
}
