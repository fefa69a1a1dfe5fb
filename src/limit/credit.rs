//! Credit: what a process has leased of one limit. Pure arithmetic, in the store's time.
//!
//! A lease is parts of the limit's time axis. A cost takes as much of the axis as the rate needs to
//! earn it. A part may be used from its date on. It lapses when it is older than `burst / rate`. So
//! what all processes use in a window of length T has dates in a stretch of T + `burst / rate`, and
//! no two processes have the same part of it.
//!
//! Units that are given back after their part lapsed are the exception. The store leases as much
//! once more of what is to come, though others may hold it. Without that, a process that reserves
//! more than it uses would have less than the rate. So a window that begins after such a refund may
//! hold that much more, until what was leased by then has lapsed.

use crate::shared::{Limit, Micros, Span};

/// The store's time, as far as this process knows it: from `now` to `now + lag`.
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
    /// Parts that were used and have not lapsed.
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

    /// How late so many units may be used, if no more is leased than they take.
    pub(super) fn room(&self, units: u64) -> Micros {
        self.burst().saturating_sub(self.span(units))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{Ask, Ledger, Want};
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    fn credit(units: u64, burst: u64, held: &[(Micros, Micros)]) -> Credit {
        let mut credit = Credit::new(Limit {
            units,
            period: SECOND,
            burst,
        });
        credit.add(&spans(held));
        credit
    }

    fn spans(parts: &[(Micros, Micros)]) -> Vec<Span> {
        let parts = parts.iter();
        parts.map(|&(from, to)| Span { from, to }).collect()
    }

    fn at(now: Micros) -> Date {
        Date { now, lag: 0 }
    }

    #[test]
    fn a_unit_is_good_from_its_date_until_it_lapses() {
        // Ten a second, two at once: a unit is 100 ms, and lapses after 200.
        let mut credit = credit(10, 2, &[(1_000_000, 1_200_000)]);
        assert_eq!(credit.earliest(1, at(0)), Some(1_100_000));
        assert_eq!(credit.earliest(2, at(0)), Some(1_200_000));
        assert_eq!(credit.earliest(1, at(1_300_000)), Some(1_300_000));
        assert_eq!(credit.earliest(1, at(1_300_001)), None, "a part has lapsed");
        assert_eq!(credit.earliest(2, at(1_200_001)), None);
        credit.take(1, at(1_150_000));
        assert_eq!(credit.earliest(1, at(1_150_000)), Some(1_200_000));
    }

    #[test]
    fn a_unit_is_put_together_of_several_parts_if_none_of_them_lapses_meanwhile() {
        let parts = [(1_000_000, 1_050_000), (1_180_000, 1_240_000)];
        let credit = credit(10, 2, &parts);
        assert_eq!(credit.earliest(1, at(0)), None, "10 ms have lapsed by then");
        let mut credit = credit;
        credit.add(&spans(&[(1_240_000, 1_280_000)]));
        assert_eq!(credit.earliest(1, at(0)), Some(1_280_000));
    }

    #[test]
    fn a_burst_of_one_needs_all_of_it_at_once() {
        let mut one = credit(2, 1, &[(0, 500_000)]);
        assert_eq!(one.earliest(1, at(0)), Some(500_000));
        assert_eq!(one.earliest(1, at(500_001)), None);
        one.add(&spans(&[(500_000, 510_000)]));
        assert_eq!(
            one.earliest(1, at(505_000)),
            Some(505_000),
            "or a little later"
        );
    }

    #[test]
    fn a_cost_above_the_burst_needs_a_full_burst_and_takes_what_is_to_come() {
        let mut credit = credit(10, 2, &[(0, 400_000)]);
        assert_eq!(credit.earliest(5, at(0)), None, "the fifth is not leased");
        assert_eq!(credit.earliest(4, at(0)), Some(200_000));
        credit.take(4, at(200_000));
        assert_eq!(credit.earliest(1, at(200_000)), None);
    }

    #[test]
    fn settling_gives_back_what_has_not_lapsed_and_says_what_is_left() {
        let mut credit = credit(10, 4, &[(0, 1_000_000)]);
        credit.take(3, at(300_000));
        assert_eq!(credit.settle(3, 1, at(350_000)), 0);
        assert_eq!(credit.earliest(2, at(350_000)), Some(350_000));
        credit.take(2, at(350_000));
        // Of those three, but half of one has lapsed.
        assert_eq!(credit.settle(3, 0, at(650_000)), -2);
        assert_eq!(
            credit.settle(1, 3, at(650_000)),
            0,
            "taken from what is held"
        );
        assert_eq!(
            credit.settle(0, 9, at(650_000)),
            4,
            "and what is not, is owed"
        );
    }

    #[test]
    fn a_pause_leaves_nothing_from_before_its_end() {
        let mut credit = credit(10, 4, &[(0, 600_000)]);
        credit.take(1, at(100_000));
        credit.hold(500_000);
        credit.settle(1, 0, at(110_000));
        assert_eq!(credit.units(at(600_000)), 1);
        assert_eq!(credit.earliest(1, at(110_000)), Some(600_000));
    }

    #[test]
    fn rounding_is_never_in_ones_favour() {
        let three = credit(3, 3, &[(0, 333_333)]);
        assert_eq!(
            three.earliest(1, at(400_000)),
            None,
            "a third of a second is more"
        );
        let mut sums = credit(3_000_000, 9, &[(0, 2)]);
        assert_eq!(sums.burst(), 3);
        sums.take(1, at(2));
        assert_eq!(
            sums.earliest(1, at(2)),
            Some(2),
            "a unit is a whole microsecond here"
        );
        sums.take(1, at(2));
        assert_eq!(sums.units(at(2)), 0);
    }

    #[test]
    fn no_arithmetic_overflows() {
        let most = u64::MAX;
        let mut credit = credit(1, most, &[(0, most)]);
        credit.earliest(
            most,
            Date {
                now: most,
                lag: most,
            },
        );
        credit.take(most, Date { now: 5, lag: most });
        credit.settle(most, 0, at(most));
        credit.settle(0, most, at(0));
        credit.hold(most);
    }

    #[derive(Clone, Debug)]
    struct Step {
        process: usize,
        idle: Micros,
        cost: u64,
        most: u64,
        /// Of what was taken last by this process, so many hundredths are given back.
        refund: u64,
        /// How much is not known of the store's time at this step, of all that is not.
        unsure: Micros,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (
            0..4_usize,
            0..SECOND,
            1..=10_u64,
            0..30_u64,
            0..=100_u64,
            0..=1_000_u64,
        );
        let step = step.prop_map(|(process, idle, cost, most, refund, unsure)| Step {
            process,
            idle: if idle % 3 == 0 { 0 } else { idle / 8 },
            cost,
            most,
            refund: if refund > 60 { 0 } else { refund },
            unsure,
        });
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        /// Over all processes together, in every window: at most the burst, what the rate earns,
        /// and what is given back, or was given back late shortly before. Clocks that are not exact
        /// add what is not known of them, and only where the burst leaves no room for it.
        #[test]
        fn no_window_is_ever_over(
            steps in steps(),
            (units, burst) in (1..=50_u64, 1..=40_u64),
            lag in prop_oneof![Just(0), 1..3_000_u64],
        ) {
            let limit = Limit { units, period: SECOND, burst };
            let mut ledger = Ledger::default();
            let mut credits = vec![Credit::new(limit); 4];
            let mut last = [0_u64; 4];
            let mut now = 7 * SECOND;
            // What was taken, or below zero, given back.
            let mut taken: Vec<(Micros, i128)> = Vec::new();
            // What was given back after it had lapsed: before which entry, until when it counts.
            let mut late: Vec<(usize, Micros, i128)> = Vec::new();
            let mut tight = false;
            for step in steps {
                now += step.idle;
                let cost = step.cost.min(burst);
                let (credit, last) = (&mut credits[step.process], &mut last[step.process]);
                let date = |now: Micros| Date { now: now - step.unsure.min(lag), lag };
                let leased = ledger.axes[1].next;
                let mut exchange = |credit: &mut Credit, want, owed, now| {
                    let mut wants = [Want::default(); 2];
                    wants[1] = want;
                    let ask = Ask {
                        holder: step.process as u64 + 1,
                        configured: [None, Some(limit)],
                        wants,
                        owed_tokens: owed,
                        lease: 100_000,
                        slack: 2 * lag + 1_000,
                        ..Ask::default()
                    };
                    credit.add(&ledger.exchange(&ask, now, 1).credit[1]);
                };
                if step.refund > 0 {
                    let back = *last * step.refund / 100;
                    let owed = credit.settle(*last, *last - back, date(now));
                    taken.push((now, -i128::from(back)));
                    if owed < 0 {
                        late.push((taken.len(), leased + credit.burst(), -i128::from(owed)));
                    }
                    exchange(credit, Want::default(), owed, now);
                    *last -= back;
                }
                if credit.earliest(cost, date(now)).is_none() {
                    exchange(credit, Want { least: cost, most: step.most }, 0, now);
                }
                let ready = credit.earliest(cost, date(now));
                prop_assert!(ready.is_some(), "what was asked for is enough");
                let ready = ready.unwrap();
                if ready > date(now).now {
                    now = ready + step.unsure.min(lag);
                }
                prop_assert_eq!(credit.earliest(cost, date(now)), Some(date(now).now));
                tight |= credit.life(credit.span(cost).min(credit.burst()), lag) == credit.burst();
                credit.take(cost, date(now));
                *last = cost;
                taken.push((now, i128::from(cost)));
            }
            let lag = if tight { lag } else { 0 };
            for first in 0..taken.len() {
                let start = taken[first].0;
                let late = late.iter().filter(|late| late.0 <= first && start <= late.1);
                let full = i128::from(burst) + late.map(|(.., back)| back).sum::<i128>();
                let mut sum = 0;
                for &(at, cost) in &taken[first..] {
                    sum += cost;
                    let window = i128::from(at - start + lag);
                    let most = full * i128::from(SECOND) + i128::from(units) * window;
                    prop_assert!(sum * i128::from(SECOND) <= most, "{sum} in {window} µs");
                }
            }
        }
    }
}
