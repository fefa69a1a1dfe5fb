//! What a process has leased of one limit. Pure arithmetic, in the store's time.
//!
//! A lease is parts of the limit's time axis, and a cost takes so much of the axis as the rate
//! needs to earn it. A part may be used from its date until the burst's worth of time later: then
//! it lapses, wherever it is. So all that is used in a time of length T, by whatever processes,
//! lies on a stretch of T and the burst's worth, and no two of them have the same part of it.

use crate::shared::{Limit, Micros, Span};

/// The store's time as it is known here: it is `now` at least, and at most `lag` more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Date {
    pub(super) now: Micros,
    pub(super) lag: Micros,
}

#[derive(Clone, Debug)]
pub(super) struct Credit {
    pub(super) limit: Limit,
    /// Oldest first, as `spent`.
    held: Vec<Span>,
    /// What was used and has not lapsed.
    spent: Vec<Span>,
}

impl Credit {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            held: Vec::new(),
            spent: Vec::new(),
        }
    }

    /// The largest cost that is ever admitted: one period's worth, or the burst if that is more.
    pub(super) fn largest(&self) -> u64 {
        self.limit.units.max(self.limit.burst)
    }

    /// How many whole units are held.
    pub(super) fn units(&self, date: Date) -> u64 {
        let from = date.now.saturating_sub(self.burst());
        self.worth(length(&self.held, from))
    }

    /// The earliest date, not before `date`, on which `cost` can be taken. `None` if more must be
    /// leased.
    pub(super) fn earliest(&self, cost: u64, date: Date) -> Option<Micros> {
        let whole = self.span(cost);
        if whole == 0 {
            return Some(date.now);
        }
        // A cost above the burst needs a full burst, and takes the rest of what is to come.
        let need = whole.min(self.burst());
        let life = self.life(need, date.lag);
        let lapsed = date.now.saturating_sub(life);
        for (first, span) in self.held.iter().enumerate() {
            let from = span.from.max(lapsed);
            let (mut sum, mut ready) = (0, None);
            for span in &self.held[first..] {
                let from = span.from.max(lapsed);
                let length = span.to.saturating_sub(from);
                if ready.is_none() && length > 0 && sum + length >= need {
                    ready = Some(from + (need - sum));
                }
                sum += length;
            }
            let ready = ready.filter(|_| sum >= whole)?.max(date.now);
            if ready.saturating_sub(life) <= from {
                return Some(ready);
            }
        }
        None
    }

    /// Takes `cost`, the oldest first. [`earliest`](Self::earliest) has said that it may be taken.
    pub(super) fn take(&mut self, cost: u64, date: Date) {
        let whole = self.span(cost);
        let life = self.life(whole.min(self.burst()), date.lag);
        cut(&mut self.held, date.now.saturating_sub(life));
        self.spend(whole, date);
    }

    /// Takes up to so much, and says what is missing.
    fn spend(&mut self, whole: Micros, date: Date) -> Micros {
        let lapsed = date.now.saturating_sub(self.burst());
        cut(&mut self.spent, lapsed);
        let mut rest = whole;
        while rest > 0
            && let Some(span) = self.held.first_mut()
        {
            let taken = rest.min(span.to - span.from);
            let to = span.from + taken;
            let used = Span {
                from: span.from,
                to,
            };
            add(&mut self.spent, &[used]);
            cut(&mut self.held, to);
            rest -= taken;
        }
        rest
    }

    /// Corrects an earlier take of `reserved` to `used`. The answer is what the store must be told
    /// of: units that were used beyond what is held, or below zero, units whose own time has
    /// lapsed.
    pub(super) fn settle(&mut self, reserved: u64, used: u64, date: Date) -> i64 {
        let (reserved, used) = (self.span(reserved), self.span(used));
        if used > reserved {
            let lapsed = date.now.saturating_sub(self.burst());
            cut(&mut self.held, lapsed);
            let missing = self.spend(used - reserved, date);
            return i64::try_from(self.worth_at_most(missing)).unwrap_or(i64::MAX);
        }
        let life = self.life(0, date.lag);
        cut(&mut self.spent, date.now.saturating_sub(life));
        let mut rest = reserved - used;
        while rest > 0
            && let Some(span) = self.spent.last_mut()
        {
            let back = rest.min(span.to - span.from);
            let (from, to) = (span.to - back, span.to);
            span.to = from;
            if span.from == from {
                self.spent.pop();
            }
            add(&mut self.held, &[Span { from, to }]);
            rest -= back;
        }
        i64::try_from(self.worth(rest)).map_or(i64::MIN, |it| -it)
    }

    /// Nothing dated before `until` is used any more.
    pub(super) fn hold(&mut self, until: Micros) {
        cut(&mut self.held, until);
        cut(&mut self.spent, until);
    }

    pub(super) fn add(&mut self, leased: &[Span]) {
        add(&mut self.held, leased);
    }

    pub(super) fn give_back(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.held)
    }

    /// How long a part stays good, where `need` of the axis is to be good at one time. Where the
    /// burst leaves room for it, what may have lapsed by the store's time counts as lapsed.
    fn life(&self, need: Micros, lag: Micros) -> Micros {
        let burst = self.burst();
        if burst >= need.saturating_add(lag.saturating_mul(2)) {
            burst - lag
        } else {
            burst
        }
    }

    /// How much of the axis so many units take, rounded up.
    fn span(&self, units: u64) -> Micros {
        let product = u128::from(units) * u128::from(self.limit.period);
        narrow(product.div_ceil(u128::from(self.limit.units.max(1))))
    }

    /// What the burst is worth, rounded down.
    pub(super) fn burst(&self) -> Micros {
        let product = u128::from(self.limit.burst) * u128::from(self.limit.period);
        narrow(product / u128::from(self.limit.units.max(1))).max(1)
    }

    fn worth(&self, span: Micros) -> u64 {
        let product = u128::from(span) * u128::from(self.limit.units);
        narrow(product / u128::from(self.limit.period.max(1)))
    }

    fn worth_at_most(&self, span: Micros) -> u64 {
        let product = u128::from(span) * u128::from(self.limit.units);
        narrow(product.div_ceil(u128::from(self.limit.period.max(1))))
    }
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// How long these are together, from a date on.
fn length(spans: &[Span], from: Micros) -> Micros {
    let each = spans
        .iter()
        .map(|span| span.to.saturating_sub(span.from.max(from)));
    each.fold(0, u64::saturating_add)
}

/// Drops what is before a date.
fn cut(spans: &mut Vec<Span>, before: Micros) {
    if spans.first().is_none_or(|span| span.from >= before) {
        return;
    }
    spans.retain_mut(|span| {
        span.from = span.from.max(before);
        span.from < span.to
    });
}

/// Adds parts in the order of their dates. Neighbours become one, and nothing counts twice.
fn add(spans: &mut Vec<Span>, more: &[Span]) {
    spans.extend(more.iter().filter(|span| span.from < span.to));
    spans.sort_unstable_by_key(|span| span.from);
    spans.dedup_by(|next, span| {
        let touches = next.from <= span.to;
        if touches {
            span.to = span.to.max(next.to);
        }
        touches
    });
}
