//! The rates that are set, of requests and of model tokens: a bucket for each, or what this process
//! has leased of a shared limit.

use std::time::Duration;

use super::bucket::{Admission, Bucket, Nanos};
use super::leased::{AXES, units};
use super::rate::{Cost, Rate};
use super::sharing::{Changed, Sharing};
use crate::binding::Binding;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::{Ask, Limit, Reply};

#[derive(Debug, Default)]
pub(super) struct SetRates {
    /// Of requests and of tokens. With a shared limit they are there only while its store is gone.
    buckets: [Option<Bucket>; 2],
    pub(super) shared: Option<Box<Sharing>>,
}

impl SetRates {
    pub(super) fn rates(&self) -> [Option<Rate>; 2] {
        match &self.shared {
            Some(shared) => shared.configured().map(|it| it.map(rate_of)),
            None => self
                .buckets
                .each_ref()
                .map(|it| it.as_ref().map(Bucket::rate)),
        }
    }

    /// The rate that was announced to another process, if it is the lowest.
    pub(super) fn followed(&self, axis: usize) -> Option<Rate> {
        Some(rate_of(self.shared.as_ref()?.followed(axis)?))
    }

    /// The most units that are ever admitted at once; `None` without a limit.
    pub(super) fn largest(&self, axis: usize) -> Option<u64> {
        match &self.shared {
            Some(shared) => shared.largest(axis),
            None => self.buckets[axis].as_ref().map(Bucket::largest),
        }
    }

    /// Sets, changes or (with `None`) lifts a rate.
    pub(super) fn set(
        &mut self,
        axis: usize,
        limit: Option<(Rate, u64)>,
        paused_until: Nanos,
        now: Nanos,
    ) {
        match &mut self.shared {
            Some(shared) => shared.configure(axis, limit),
            None => Bucket::set(&mut self.buckets[axis], limit, paused_until, now),
        }
    }

    /// Refuses a cost that would wait for ever.
    #[inline]
    pub(super) fn check_fits(&self, cost: Cost) -> Result<()> {
        for (axis, asked) in units(cost).into_iter().enumerate() {
            if let Some(largest) = self.largest(axis).filter(|largest| asked > *largest) {
                return Err(never_fits(asked, AXES[axis].0, largest));
            }
        }
        Ok(())
    }

    /// When each of the buckets admits `cost`.
    pub(super) fn earliest(
        &mut self,
        cost: Cost,
        now: Nanos,
    ) -> impl Iterator<Item = (Nanos, Binding)> {
        let each = self.buckets.iter_mut().zip(units(cost)).zip(AXES);
        each.filter_map(move |((bucket, cost), (_, reason))| {
            Some((bucket.as_mut()?.earliest(cost, now), reason))
        })
    }

    /// When what is leased admits `cost`, not before `from`, if the rates are leased.
    pub(super) fn leased(&mut self, cost: Cost, from: (Nanos, Binding), now: Nanos) -> Admission {
        match &mut self.shared {
            Some(shared) if self.buckets.iter().all(Option::is_none) => {
                shared.earliest(cost, from, now)
            }
            _ => Admission::At(from.0, from.1),
        }
    }

    pub(super) fn take(&mut self, cost: Cost, now: Nanos) {
        let costs = units(cost);
        let mut is_leased = true;
        for (bucket, cost) in self.buckets.iter_mut().zip(costs) {
            if let Some(bucket) = bucket {
                is_leased = false;
                bucket.take(cost, now);
            }
        }
        if let Some(shared) = self.shared.as_mut().filter(|_| is_leased) {
            shared.take(cost, now);
        }
    }

    /// Corrects the tokens that were taken for `cost` to `used`.
    pub(super) fn settle_tokens(&mut self, reserved: u64, used: u64, now: Nanos) {
        if let Some(tokens) = &mut self.buckets[1] {
            tokens.settle(reserved, used, now);
        } else if let Some(shared) = &mut self.shared {
            shared.settle_tokens(reserved, used, now);
        }
    }

    /// Admits nothing before `until`.
    pub(super) fn hold(&mut self, until: Nanos, now: Nanos) {
        for bucket in self.buckets.iter_mut().flatten() {
            bucket.hold(until, now);
        }
        if let Some(shared) = &mut self.shared {
            shared.leased.hold(until);
        }
    }

    /// Takes note of what became of an ask that was sent at `sent`. While the store is gone, goes by
    /// buckets of its own, if that is wanted. They start empty.
    pub(super) fn exchanged(
        &mut self,
        ask: &Ask,
        reply: Result<Reply>,
        sent: Nanos,
        paused_until: Nanos,
        now: Nanos,
    ) -> Changed {
        let Some(shared) = &mut self.shared else {
            return Changed::default();
        };
        let changed = match reply {
            Ok(reply) => shared.heard(ask, &reply, sent, now),
            Err(error) => Changed {
                gone: shared.failed(ask, error.clone(), now).then_some(error),
                ..Changed::default()
            },
        };
        for (bucket, limit) in self.buckets.iter_mut().zip(shared.fallback()) {
            let is_new = bucket.is_none();
            Bucket::set(bucket, limit, paused_until, now);
            if let Some(bucket) = bucket.as_mut().filter(|_| is_new) {
                bucket.lower_to(0, now);
            }
        }
        changed
    }
}

pub(super) fn rate_of(limit: Limit) -> Rate {
    Rate::new(limit.units, Duration::from_micros(limit.period))
}

#[cold]
fn never_fits(asked: u64, what: &str, largest: u64) -> Error {
    Error::new(
        ErrorKind::NeverFits,
        format!(
            "this needs {asked} {what} at once, and the limit allows {largest} in a whole period: \
             make it smaller or raise the limit"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::leased::limit_of;
    use super::super::sharing::Next;
    use super::*;
    use crate::shared::Ledger;

    #[test]
    fn a_cost_above_a_lower_limit_of_another_process_waits_and_leaves_a_debt() {
        let mut set = SetRates {
            shared: Some(Box::new(Sharing::new(1, None))),
            ..SetRates::default()
        };
        set.set(1, Some((Rate::per_second(100), 100)), 0, 0);
        let mut ledger = Ledger::default();
        let other = Ask {
            holder: 2,
            configured: [None, Some(limit_of((Rate::per_second(5), 5)))],
            ..Ask::default()
        };
        ledger.exchange(&other, 9_000_000, 1);
        let (mut now, cost) = (0, Cost::tokens(90));
        for _ in 0..20 {
            set.check_fits(cost).unwrap();
            now = match set.leased(cost, (now, Binding::Tokens), now) {
                Admission::At(at, _) if at <= now => {
                    set.take(cost, now);
                    let [_, tokens] = set.shared.as_ref().unwrap().limits();
                    assert_eq!(tokens.map(|it| it.units), Some(5), "it holds");
                    set.check_fits(Cost::tokens(101)).unwrap_err();
                    return;
                }
                Admission::At(at, _) => at,
                _ => match set.shared.as_mut().unwrap().next(0, 1, now) {
                    Next::Ask(ask) => {
                        let reply = ledger.exchange(&ask, 9_000_000 + now / 1_000, 1);
                        set.exchanged(&ask, Ok(reply), now, 0, now);
                        now
                    }
                    Next::At(at) => at,
                    _ => panic!("it lacks a lease"),
                },
            };
        }
        panic!("it waits for ever");
    }
}
