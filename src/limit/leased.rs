//! What a process has leased of both limits, requests and model tokens, by the limiter's clock.

use super::bucket::Nanos;
use super::credit::{Credit, Date};
use super::rate::{Cost, Rate};
use super::store_time::StoreTime;
use super::waited::WaitReason;
use crate::shared::{Limit, Micros, Span};

/// What a cost takes of each limit.
pub(super) fn units(cost: Cost) -> [u64; 2] {
    [cost.requests(), cost.model_tokens()]
}

const REASONS: [WaitReason; 2] = [WaitReason::Requests, WaitReason::Tokens];

#[derive(Debug, Default)]
pub(super) struct Leased {
    /// `None` before the first reply.
    time: Option<StoreTime>,
    credit: [Option<Credit>; 2],
}

/// More must be leased of the limits that are true in `what`, to be used at the time `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) at: Nanos,
    /// The reason to wait until then.
    pub(super) reason: WaitReason,
    pub(super) what: [bool; 2],
}

impl Leased {
    pub(super) fn limits(&self) -> [Option<Limit>; 2] {
        self.credit
            .each_ref()
            .map(|it| it.as_ref().map(|it| it.limit))
    }

    /// When both limits admit `cost`, not before `from`, and what it waits for until then.
    pub(super) fn earliest(
        &self,
        cost: Cost,
        from: (Nanos, WaitReason),
    ) -> Result<(Nanos, WaitReason), Lacking> {
        let (mut at, mut reason) = from;
        let Some(time) = self.time else {
            return Err(Lacking {
                at,
                reason,
                what: [true; 2],
            });
        };
        // A lease of one limit may have lapsed when the other limit admits the cost.
        let mut settled = false;
        let mut turns = 0;
        while !settled && turns < TURNS {
            settled = true;
            turns += 1;
            let mut what = [false; 2];
            for (axis, cost) in units(cost).into_iter().enumerate() {
                let Some(credit) = &self.credit[axis] else {
                    continue;
                };
                let date = time.date(at);
                match credit.earliest(cost, date) {
                    Some(ready) if ready <= date.now => {}
                    Some(ready) => {
                        (at, reason, settled) = (time.local(ready), REASONS[axis], false);
                    }
                    None => what[axis] = true,
                }
            }
            if what != [false; 2] {
                return Err(Lacking { at, reason, what });
            }
        }
        Ok((at, reason))
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

    pub(super) fn give_back(&mut self) -> [Vec<Span>; 2] {
        self.credit.each_mut().map(|credit| {
            let credit = credit.as_mut();
            credit.map(Credit::give_back).unwrap_or_default()
        })
    }

    /// Drops all leases from before, as a reply has come from another incarnation of the store.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn heard(&mut self, time: StoreTime) -> StoreTime {
        let time = self.time.map_or(time, |known| known.with(time));
        *self.time.insert(time)
    }

    /// Sets the limits that hold, and adds what was leased of them.
    pub(super) fn add(&mut self, limits: [Option<Limit>; 2], leased: &[Vec<Span>; 2]) {
        for (axis, limit) in limits.into_iter().enumerate() {
            let Some(limit) = limit else {
                self.credit[axis] = None;
                continue;
            };
            let credit = self.credit[axis].get_or_insert_with(|| Credit::new(limit));
            credit.limit = limit;
            credit.add(&leased[axis]);
        }
    }

    fn each(&mut self, at: Nanos, act: impl Fn(usize, &mut Credit, Date)) {
        let Some(time) = self.time else { return };
        let credit = self.credit.iter_mut().enumerate();
        for (axis, credit) in credit.filter_map(|(axis, it)| Some((axis, it.as_mut()?))) {
            act(axis, credit, time.date(at));
        }
    }
}

/// How often the date is moved at most. Each limit moves it once at most for each part that is held,
/// which are few. If that was not enough, the caller asks again at the date.
const TURNS: u32 = 8;

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
