//! What a process has leased of both limits, requests and model tokens, by the limiter's clock.

use super::bucket::Nanos;
use super::credit::{Credit, Date};
use super::rate::{Cost, Rate};
use crate::binding::Binding;
use crate::shared::{Limit, Micros, Reply, Span};

/// What a cost takes of each limit.
pub(super) fn units(cost: Cost) -> [u64; 2] {
    [cost.requests(), cost.model_tokens()]
}

/// The names of both, and the reasons to wait for them.
pub(super) const AXES: [(&str, Binding); 2] = [
    ("requests", Binding::Requests),
    ("model tokens", Binding::Tokens),
];

#[derive(Debug, Default)]
pub(super) struct Leased {
    /// `None` before the first reply.
    time: Option<StoreTime>,
    credit: [Option<Credit>; 2],
}

impl Leased {
    pub(super) fn limits(&self) -> [Option<Limit>; 2] {
        self.credit
            .each_ref()
            .map(|it| it.as_ref().map(|it| it.limit))
    }

    /// When both limits admit `cost`, not before `from`, and what it waits for until then. And of
    /// which limits more must be leased for that time.
    pub(super) fn earliest(
        &self,
        cost: Cost,
        from: (Nanos, Binding),
    ) -> ((Nanos, Binding), [bool; 2]) {
        let Some(time) = self.time else {
            return (from, [true; 2]);
        };
        let mut latest = from;
        loop {
            let before = latest;
            let mut lacks = [false; 2];
            for (axis, cost) in units(cost).into_iter().enumerate() {
                let Some(credit) = &self.credit[axis] else {
                    continue;
                };
                let date = time.date(latest.0);
                match credit.earliest(cost, date) {
                    Some(ready) if ready <= date.now => {}
                    Some(ready) => latest = (time.local(ready), AXES[axis].1),
                    None => lacks[axis] = true,
                }
            }
            // A lease of one limit may have lapsed when the other limit admits the cost.
            if lacks != [false; 2] || latest == before {
                return (latest, lacks);
            }
        }
    }

    pub(super) fn take(&mut self, cost: Cost, now: Nanos) {
        self.each(now, |axis, credit, date| {
            credit.take(units(cost)[axis], date);
        });
    }

    /// Corrects the tokens that were taken; see [`Credit::settle`].
    pub(super) fn settle_tokens(&mut self, reserved: u64, used: u64, now: Nanos) -> i64 {
        match (self.time, &mut self.credit[1]) {
            (Some(time), Some(tokens)) => tokens.settle(reserved, used, time.date(now)),
            _ => 0,
        }
    }

    pub(super) fn hold(&mut self, until: Nanos) {
        self.each(until, |_, credit, date| credit.hold(date.now));
    }

    /// How many units are held; `None` without a limit.
    pub(super) fn held(&self, axis: usize, now: Nanos) -> Option<u64> {
        let (credit, time) = (self.credit[axis].as_ref()?, self.time?);
        Some(credit.units(time.date(now)))
    }

    /// Whether the burst of requests leaves no room for a request to be late by so much.
    pub(super) fn is_tight(&self, late: Micros) -> bool {
        let requests = self.credit[0].as_ref();
        requests.is_some_and(|credit| credit.room(1) < late)
    }

    pub(super) fn give_back(&mut self) -> [Vec<Span>; 2] {
        self.credit.each_mut().map(|credit| {
            let credit = credit.as_mut();
            credit.map(Credit::give_back).unwrap_or_default()
        })
    }

    /// Takes note of the limits that hold and of what was leased of them, by the reply to an ask
    /// that was sent at `sent`. Returns the end of the pause, if there is one.
    pub(super) fn heard(&mut self, reply: &Reply, sent: Nanos, now: Nanos) -> Option<Nanos> {
        let time = StoreTime::of(reply.now, sent, now);
        let time = self.time.map_or(time, |known| known.with(time));
        self.time = Some(time);
        for (axis, limit) in reply.limits.into_iter().enumerate() {
            let Some(limit) = limit else {
                self.credit[axis] = None;
                continue;
            };
            let credit = self.credit[axis].get_or_insert_with(|| Credit::new(limit));
            credit.limit = limit;
            credit.add(&reply.credit[axis]);
        }
        let paused_until = (reply.paused_until > 0).then(|| time.local(reply.paused_until));
        paused_until.inspect(|until| self.hold(*until))
    }

    fn each(&mut self, at: Nanos, act: impl Fn(usize, &mut Credit, Date)) {
        let Some(time) = self.time else { return };
        let credit = self.credit.iter_mut().enumerate();
        for (axis, credit) in credit.filter_map(|(axis, it)| Some((axis, it.as_mut()?))) {
            act(axis, credit, time.date(at));
        }
    }
}

/// A limit as the store knows it: whole microseconds.
pub(super) fn limit_of((rate, burst): (Rate, u64)) -> Limit {
    let nanos = rate.period().as_nanos();
    let (units, period) = if nanos % 1_000 == 0 {
        (rate.units(), nanos / 1_000)
    } else {
        (rate.units().saturating_mul(1_000), nanos)
    };
    Limit {
        units,
        period: Micros::try_from(period).unwrap_or(Micros::MAX),
        burst,
    }
}

/// Whether a limit lets through less than another over some length of time.
pub(super) fn is_lower(limit: Limit, than: Limit) -> bool {
    is_slower(limit, than) || limit.burst < than.burst
}

pub(super) fn is_slower(limit: Limit, than: Limit) -> bool {
    let product = |units: u64, period: u64| u128::from(units) * u128::from(period);
    product(limit.units, than.period) < product(than.units, limit.period)
}

const MICRO: u64 = 1_000;

/// Two clocks drift apart by less than one in so many.
const DRIFT: u64 = 2_000;

/// How far the clock of a store is ahead of the limiter's, in microseconds: from `low` to `high`. Each
/// reply tells it, to within the time that the messages took.
#[derive(Clone, Copy, Debug)]
struct StoreTime {
    low: i64,
    high: i64,
    noted: Nanos,
}

impl StoreTime {
    /// What one reply tells. The ask was sent, and the reply received, at these times.
    fn of(store: Micros, sent: Nanos, received: Nanos) -> Self {
        let difference = |local: u64| signed(store).saturating_sub(signed(local));
        Self {
            low: difference(received.div_ceil(MICRO)),
            // The store has rounded down.
            high: difference(sent / MICRO).saturating_add(1),
            noted: received,
        }
    }

    /// What both replies tell together.
    fn with(self, other: Self) -> Self {
        let since = other.noted.saturating_sub(self.noted);
        let drift = signed(since / MICRO / DRIFT + 1);
        let both = Self {
            low: other.low.max(self.low.saturating_sub(drift)),
            high: other.high.min(self.high.saturating_add(drift)),
            noted: other.noted,
        };
        // If they contradict each other, one of the clocks has jumped.
        if both.low <= both.high { both } else { other }
    }

    fn date(&self, at: Nanos) -> Date {
        let now = signed(at / MICRO).saturating_add(self.low);
        Date {
            now: u64::try_from(now).unwrap_or(0),
            lag: self.high.abs_diff(self.low),
        }
    }

    /// The limiter's time at which this date has come for certain.
    fn local(&self, date: Micros) -> Nanos {
        let at = signed(date).saturating_sub(self.low);
        u64::try_from(at).unwrap_or(0).saturating_mul(MICRO)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Nanos = 1_000_000;

    #[test]
    fn a_date_has_come_when_it_has_come_for_certain() {
        // The store read its clock somewhere between 10 and 14 ms.
        let time = StoreTime::of(500_000, 10 * MILLI, 14 * MILLI);
        assert_eq!(time.local(500_000), 14 * MILLI);
        let date = time.date(14 * MILLI);
        assert_eq!((date.now, date.lag), (500_000, 4_001));
        // A faster message says more, a slower one nothing new.
        let time = time.with(StoreTime::of(513_000, 24 * MILLI, 25 * MILLI));
        assert!(time.date(25 * MILLI).lag <= 1_003);
        let slow = time.with(StoreTime::of(530_000, 30 * MILLI, 60 * MILLI));
        assert!(slow.date(60 * MILLI).lag <= 1_050);
    }

    #[test]
    fn what_is_known_grows_old_and_a_jump_is_believed() {
        let time = StoreTime::of(1_000_000, MILLI, MILLI);
        let hour = 3_600_000 * MILLI;
        let later = time.with(StoreTime::of(3_601_100_000, hour, hour + 200 * MILLI));
        assert!(later.date(hour).lag > 100_000, "clocks drift");
        let jumped = time.with(StoreTime::of(99_000_000, 2 * MILLI, 3 * MILLI));
        assert_eq!(jumped.local(99_000_000), 3 * MILLI);
        assert_eq!(time.local(0), 0, "before the limiter was made");
    }
}
