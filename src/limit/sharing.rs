//! What this process says to the store of a shared allowance, when, and what a reply changes.
//!
//! A state machine without a thread, a lock or a clock: [`keeper`](super::keeper) carries the
//! messages. One ask is under way at a time.

use std::time::Duration;

use super::bucket::Nanos;
use super::gone::Gone;
use super::leased::{Leased, limit_of, units};
use super::rate::{Cost, Rate};
use super::store_time::StoreTime;
use super::used::Used;
use super::waited::{Admission, WaitReason};
use crate::error::Error;
use crate::shared::{Ask, Limit, Reply, SharedStatus, Want};

const MILLI: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLI;

/// What all leases together are worth at least, in time.
const LEASE: Nanos = 100 * MILLI;
/// A wake-up may be late by so much.
const LATE: Nanos = 2 * MILLI;
/// So often the store is asked at least while something is in flight or waits; and after so long
/// without either, the process leaves.
const HEARTBEAT: Nanos = SECOND;
/// Requests at an announced rate may catch up on one in so many of a second's worth.
const CATCH_UP: u64 = 4;

#[derive(Debug)]
pub(super) struct Sharing {
    leased: Leased,
    /// Goes on with this share of the rates while the store is gone: one in so many.
    fallback: Option<u64>,
    holder: u64,
    incarnation: u64,
    configured: [Option<Limit>; 2],
    announced: [Option<Limit>; 2],
    owed_tokens: i64,
    /// A pause that began here, and until when the store knows of it.
    pause: Nanos,
    pause_told: Nanos,
    /// Other news for the store.
    has_news: bool,
    /// What whoever is first lacks of each limit, in units.
    lacks: [u64; 2],
    recent: [Used; 2],
    admitted: Nanos,
    asked: Nanos,
    /// Nothing is asked before, as the last reply had nothing.
    not_before: Nanos,
    /// The store counts this process.
    joined: bool,
    /// The keeper has been called and has not looked yet.
    called: bool,
    round_trip: Nanos,
    gone: Option<Gone>,
    configured_by_all: [Option<Limit>; 2],
    status: SharedStatus,
}

/// What the keeper does next.
#[derive(Debug)]
pub(crate) enum Next {
    Ask(Ask),
    At(Nanos),
    /// Nothing before it is called.
    WhenCalled,
}

/// What a reply has changed, beside the credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The store was gone for so long.
    pub(crate) back_after: Option<Nanos>,
    /// The lowest limits that any process was given, where they are lower than ours since now.
    pub(crate) lower: [Option<Limit>; 2],
    pub(super) paused_until: Option<Nanos>,
}

impl Sharing {
    pub(super) fn new(holder: u64, fallback: Option<u64>) -> Self {
        Self {
            leased: Leased::default(),
            fallback,
            holder,
            incarnation: 0,
            configured: [None; 2],
            announced: [None; 2],
            owed_tokens: 0,
            pause: 0,
            pause_told: 0,
            has_news: false,
            lacks: [0; 2],
            recent: [Used::default(); 2],
            admitted: 0,
            asked: 0,
            not_before: 0,
            joined: false,
            called: false,
            round_trip: 0,
            gone: None,
            configured_by_all: [None; 2],
            status: SharedStatus::default(),
        }
    }

    pub(super) fn configure(&mut self, axis: usize, limit: Option<(Rate, u64)>) {
        self.configured[axis] = limit.map(limit_of);
        self.has_news = true;
    }

    pub(super) fn configured(&self) -> [Option<Limit>; 2] {
        self.configured
    }

    /// Tells the others what the provider has announced here.
    pub(super) fn announce(&mut self, announced: [Option<(Rate, u64)>; 2]) {
        let [requests, tokens] = announced;
        // Two at least: one that is late is not lost.
        let requests = requests.map(|(rate, burst)| {
            let catch_up = rate.second_worth() / CATCH_UP;
            (rate, burst.max(catch_up).max(2))
        });
        let announced = [requests, tokens].map(|it| it.map(limit_of));
        self.has_news |= self.announced != announced;
        self.announced = announced;
    }

    /// The limits that hold as far as is known here.
    pub(super) fn limits(&self) -> [Option<Limit>; 2] {
        let held = self.leased.limits();
        [0, 1].map(|axis| held[axis].or(self.configured[axis]))
    }

    pub(super) fn largest(&self, axis: usize) -> Option<u64> {
        let ours = || self.configured[axis].map(|limit| limit.units.max(limit.burst));
        self.leased.largest(axis).or_else(ours)
    }

    /// The limits of this process alone while the store is gone: a share of those that hold.
    pub(super) fn fallback(&self) -> Option<[Option<(Rate, u64)>; 2]> {
        let parts = self.fallback.filter(|_| self.gone.is_some())?;
        let limits = self.limits();
        let share = |limit: Limit| {
            let period = Duration::from_micros(limit.period.saturating_mul(parts));
            (Rate::new(limit.units, period), (limit.burst / parts).max(1))
        };
        limits
            .iter()
            .any(Option::is_some)
            .then(|| limits.map(|it| it.map(share)))
    }

    /// When what is leased admits `cost`, not before `from`, and what it waits for.
    pub(super) fn earliest(
        &mut self,
        cost: Cost,
        from: (Nanos, WaitReason),
        now: Nanos,
    ) -> Result<(Nanos, WaitReason), Admission> {
        // Without the store nobody knows what holds now.
        let limits = self.leased.limits();
        if self.gone.is_some() && limits == [None; 2] {
            self.lacks = units(cost).map(|it| it.max(1));
            return Err(Admission::WhenLeased);
        }
        self.leased.earliest(cost, from).map_err(|lacking| {
            let ahead = lacking.at.saturating_sub(self.message());
            if ahead > now {
                return Admission::At(ahead, lacking.reason);
            }
            for (axis, units) in units(cost).into_iter().enumerate() {
                if lacking.what[axis] {
                    self.lacks[axis] = self.lacks[axis].max(units);
                }
            }
            Admission::WhenLeased
        })
    }

    pub(super) fn take(&mut self, cost: Cost, now: Nanos) {
        self.admitted = now;
        self.leased.take(cost, now);
        let (message, lease) = (self.message(), self.lease());
        for (axis, units) in units(cost).into_iter().enumerate() {
            let recent = self.recent[axis].add(units, now, lease);
            // Asks ahead for what will be used until the reply can be here.
            if let Some(held) = self.leased.held(axis, now)
                && recent > units
                && u128::from(held) * u128::from(lease) < u128::from(recent) * u128::from(message)
            {
                self.lacks[axis] = self.lacks[axis].max(units);
            }
        }
    }

    pub(super) fn settle_tokens(&mut self, reserved: u64, used: u64, now: Nanos) {
        let owed = self.leased.settle_tokens(reserved, used, now);
        self.owed_tokens = self.owed_tokens.saturating_add(owed);
    }

    /// Admits nothing before `until`.
    pub(super) fn hold(&mut self, until: Nanos) {
        self.leased.hold(until);
    }

    /// A pause began here, of which the others are to know.
    pub(super) fn announce_pause(&mut self, until: Nanos) {
        self.pause = self.pause.max(until);
    }

    /// Whether the keeper is to be called: it has something to do at once, and does not know.
    pub(super) fn call(&mut self) -> bool {
        let call = !self.called && self.has_call();
        self.called |= call;
        call
    }

    fn has_call(&self) -> bool {
        self.has_urgent_news() || self.lacks != [0; 2]
    }

    fn has_urgent_news(&self) -> bool {
        self.pause > self.pause_told || (self.has_news && self.joined)
    }

    /// What is to be done next, with so many in flight and so many waiting.
    pub(super) fn next(&mut self, in_flight: usize, waiting: usize, now: Nanos) -> Next {
        self.called = false;
        let is_used = in_flight + waiting > 0;
        if let Some(gone) = &self.gone {
            return match gone.retry_at {
                _ if !is_used && !self.has_call() => Next::WhenCalled,
                at if at > now => Next::At(at),
                _ => Next::Ask(self.ask(is_used, waiting, now)),
            };
        }
        let called = self.has_call().then(|| match self.has_urgent_news() {
            true => now,
            false => self.not_before,
        });
        let heartbeat = (self.joined && is_used).then_some(self.asked + HEARTBEAT);
        let has_some = |axis| self.leased.held(axis, now) > Some(0);
        let is_idle = waiting == 0 && (0..2).any(has_some);
        let back = is_idle.then(|| self.idle_from());
        let leave = (self.joined && !is_used).then(|| self.leave_at());
        let due = [called, heartbeat, back, leave].into_iter().flatten().min();
        match due {
            Some(at) if at > now => Next::At(at),
            Some(_) => Next::Ask(self.ask(is_used, waiting, now)),
            None => Next::WhenCalled,
        }
    }

    /// What is said last, when the limiter goes.
    pub(super) fn last(&mut self) -> Option<Ask> {
        let joined = self.joined && self.gone.is_none();
        joined.then(|| Ask {
            back: self.leased.give_back(),
            leaves: true,
            ..self.base()
        })
    }

    fn base(&mut self) -> Ask {
        Ask {
            holder: self.holder,
            incarnation: self.incarnation,
            configured: self.configured,
            announced: self.announced,
            owed_tokens: std::mem::take(&mut self.owed_tokens),
            lease: self.lease() / 1_000,
            slack: (self.round_trip.saturating_mul(2).saturating_add(LATE)) / 1_000,
            ..Ask::default()
        }
    }

    fn ask(&mut self, is_used: bool, waiting: usize, now: Nanos) -> Ask {
        let lacks = std::mem::take(&mut self.lacks);
        let is_idle = lacks == [0; 2] && waiting == 0 && now >= self.idle_from();
        let is_told = self.pause <= self.pause_told;
        let pause = if is_told {
            0
        } else {
            self.pause.saturating_sub(now)
        };
        self.pause_told = self.pause;
        self.has_news = false;
        let wants = [0, 1].map(|axis| {
            if lacks == [0; 2] {
                return Want::default();
            }
            let recent = self.recent[axis].sum(now, self.lease());
            let most = recent.max(lacks[axis].saturating_mul(waiting as u64));
            match lacks[axis] {
                0 => Want {
                    least: 0,
                    most: most.saturating_sub(self.leased.held(axis, now).unwrap_or(0)),
                },
                least => Want {
                    least,
                    most: most.max(least),
                },
            }
        });
        let back = if is_idle {
            self.leased.give_back()
        } else {
            Default::default()
        };
        Ask {
            wants,
            back,
            pause: pause.div_ceil(1_000),
            leaves: lacks == [0; 2] && !is_used && now >= self.leave_at(),
            ..self.base()
        }
    }

    /// Takes note of the reply to an ask that was sent at `sent`.
    pub(super) fn heard(&mut self, ask: &Ask, reply: &Reply, sent: Nanos, now: Nanos) -> Changed {
        let took = now.saturating_sub(sent);
        // A quarter of what is new counts; the first counts whole.
        self.round_trip = match self.joined {
            true => (self.round_trip.saturating_mul(3).saturating_add(took)) / 4,
            false => took,
        };
        if reply.incarnation != self.incarnation {
            self.incarnation = reply.incarnation;
            self.leased.forget();
        }
        let time = self.leased.heard(StoreTime::of(reply.now, sent, now));
        self.leased.add(reply.limits, &reply.credit);
        let paused_until = (reply.paused_until > 0).then(|| time.local(reply.paused_until));
        if let Some(until) = paused_until {
            self.leased.hold(until);
        }
        let lacked = (0..2).any(|axis| {
            let has_none = reply.credit[axis].is_empty();
            ask.wants[axis].least > 0 && has_none && reply.limits[axis].is_some()
        });
        if lacked {
            self.not_before = now + self.message();
        }
        // Whoever is first looks again, and says so if it still lacks something.
        self.lacks = [0; 2];
        self.asked = now;
        self.joined = !ask.leaves;
        if ask.leaves {
            self.leased.forget();
        }
        self.status.processes = reply.holders;
        self.status.processes_peak = self.status.processes_peak.max(reply.holders);
        self.status.round_trips += 1;
        let before = std::mem::replace(&mut self.configured_by_all, reply.configured);
        let lower = [0, 1].map(|axis| {
            let is_new = reply.configured[axis] != before[axis];
            let lowest = reply.configured[axis].filter(|_| is_new)?;
            is_lower(lowest, self.configured[axis]?).then_some(lowest)
        });
        Changed {
            back_after: self.gone.take().map(|gone| now.saturating_sub(gone.since)),
            lower,
            paused_until: paused_until.filter(|until| *until > now),
        }
    }

    /// An ask has failed: nothing was leased, and what was given back is gone. Whether it is the
    /// first that fails.
    pub(super) fn failed(&mut self, ask: &Ask, error: Error, now: Nanos) -> bool {
        let is_first = self.gone.is_none();
        self.gone = Some(Gone::after(self.gone.take(), error, now));
        // The store may have noted it; a debt is paid rather twice than never.
        self.owed_tokens = self.owed_tokens.saturating_add(ask.owed_tokens.max(0));
        self.pause_told = 0;
        self.has_news = true;
        for (axis, want) in ask.wants.iter().enumerate() {
            self.lacks[axis] = self.lacks[axis].max(want.least);
        }
        is_first
    }

    /// How it goes with the store, but for its name.
    pub(super) fn status(&self, now: Nanos) -> SharedStatus {
        let both = self.configured_by_all.into_iter().zip(self.configured);
        let lowered = |(all, ours): (Option<Limit>, Option<Limit>)| Some(is_lower(all?, ours?));
        let gone = self.gone.as_ref();
        SharedStatus {
            gone: gone.map(|gone| Duration::from_nanos(now.saturating_sub(gone.since))),
            error: gone.map(|gone| gone.error.to_string().into()),
            falls_back: self.fallback().is_some(),
            is_lowered: both.filter_map(lowered).any(|it| it),
            ..self.status.clone()
        }
    }

    /// What all leases together are worth, in time.
    fn lease(&self) -> Nanos {
        self.round_trip.saturating_mul(2).clamp(LEASE, HEARTBEAT)
    }

    /// How long before something is needed it is asked for.
    fn message(&self) -> Nanos {
        self.round_trip
            .saturating_add(self.round_trip / 2)
            .saturating_add(LATE / 2)
    }

    fn idle_from(&self) -> Nanos {
        self.admitted.max(self.asked).saturating_add(self.lease())
    }

    fn leave_at(&self) -> Nanos {
        self.admitted.max(self.asked).saturating_add(HEARTBEAT)
    }
}

/// Whether a limit lets through less at some time.
fn is_lower(limit: Limit, than: Limit) -> bool {
    let product = |units: u64, period: u64| u128::from(units) * u128::from(period);
    product(limit.units, than.period) < product(than.units, limit.period)
        || limit.burst < than.burst
}
