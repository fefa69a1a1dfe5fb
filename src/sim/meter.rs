//! One limit as the server sees it: a leaky bucket used as a meter, exact in integer arithmetic.
//!
//! This is the generic cell rate algorithm (ITU-T I.371): one number, the *theoretical arrival
//! time* at which everything charged so far has drained away at the allowed rate. It is on purpose
//! another algorithm than the client's bucket, which refills and is drawn from: a mistake made
//! once is then seen by the other side.
//!
//! Two meters of one limit are kept. One is charged only with what is let in, and decides what is.
//! The other is charged with every arrival: its highest level ever above the burst is exactly by
//! how much the worst window exceeded burst + rate·T.

use std::fmt;
use std::time::Duration;

use crate::Rate;

/// Decides what is let in.
pub(super) trait Judge: fmt::Debug + Send {
    /// How long from `at` until `cost` units fit; nothing if they do.
    fn wait(&self, at: Duration, cost: u64) -> Duration;

    /// Charges `cost` units at `at`, whether they fit or not.
    fn charge(&mut self, at: Duration, cost: u64);

    /// The units that count at `at`.
    fn used(&self, at: Duration) -> u64;

    /// How long from `at` until nothing counts any more.
    fn time_to_empty(&self, at: Duration) -> Duration;

    /// Goes on with a share of the limit.
    fn set_share(&mut self, share: f64, at: Duration);
}

/// A share of so many units, at least 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn share_of(units: u64, share: f64) -> u64 {
    (units as f64 * share).max(1.0) as u64
}

/// Time is counted in ticks of 1/`units` ns, so that one unit drains in exactly `period` ticks.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    /// The whole limit.
    rate: Rate,
    units: u128,
    period: u128,
    burst: u64,
    /// The theoretical arrival time, in ticks.
    drained_at: u128,
}

impl Meter {
    pub(super) fn new(rate: Rate, burst: u64) -> Self {
        Self {
            rate,
            units: u128::from(rate.units()).max(1),
            period: rate.period().as_nanos().max(1),
            burst,
            drained_at: 0,
        }
    }

    /// By how many units the level at `at` is above `allowed`, rounded up.
    pub(super) fn above(&self, at: Duration, allowed: u64) -> u64 {
        let allowed = u128::from(allowed) * self.period;
        let above = self.backlog(at).saturating_sub(allowed);
        u64::try_from(above.div_ceil(self.period)).unwrap_or(u64::MAX)
    }

    fn backlog(&self, at: Duration) -> u128 {
        self.drained_at.saturating_sub(self.ticks(at))
    }

    fn ticks(&self, at: Duration) -> u128 {
        at.as_nanos().saturating_mul(self.units)
    }

    /// Ticks as time, rounded up: a wait must not end too early.
    fn span(&self, ticks: u128) -> Duration {
        let nanos = ticks.div_ceil(self.units);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Judge for Meter {
    /// A cost above the burst fits once at most half of the burst is in use: asked to find it
    /// empty, a client that paces exactly would be refused for a millisecond of network jitter.
    fn wait(&self, at: Duration, cost: u64) -> Duration {
        let room = self.burst.checked_sub(cost).unwrap_or(self.burst / 2);
        let room = u128::from(room) * self.period;
        self.span(self.backlog(at).saturating_sub(room))
    }

    fn charge(&mut self, at: Duration, cost: u64) {
        let from = self.drained_at.max(self.ticks(at));
        let ticks = u128::from(cost).saturating_mul(self.period);
        self.drained_at = from.saturating_add(ticks);
    }

    fn used(&self, at: Duration) -> u64 {
        self.above(at, 0)
    }

    fn time_to_empty(&self, at: Duration) -> Duration {
        self.span(self.backlog(at))
    }

    fn set_share(&mut self, share: f64, at: Duration) {
        let (rate, used) = (self.rate, self.used(at));
        // In thousandths, so that a share of a small rate is not rounded to nothing.
        let units = share_of(rate.units(), share * 1e3);
        *self = Self::new(Rate::new(units, rate.period() * 1_000), self.burst);
        self.rate = rate;
        self.charge(at, used);
    }
}

/// The burst a limit has unless it is set: two seconds' worth, at least 2.
pub(super) fn default_burst(rate: Rate) -> u64 {
    let nanos = rate.period().as_nanos().max(1);
    let two_seconds = u128::from(rate.units()) * 2_000_000_000 / nanos;
    u64::try_from(two_seconds).unwrap_or(u64::MAX).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::generate::Random;

    /// Charges `cost` units at `at` if they fit; else says how long until they would.
    fn admit(meter: &mut Meter, at: Duration, cost: u64) -> Result<(), Duration> {
        match meter.wait(at, cost) {
            Duration::ZERO => {
                meter.charge(at, cost);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_burst_passes_and_then_the_rate() {
        let mut meter = Meter::new(Rate::per_second(10), 3);
        for _ in 0..3 {
            assert_eq!(admit(&mut meter, ms(0), 1), Ok(()));
        }
        assert_eq!(admit(&mut meter, ms(0), 1), Err(ms(100)));
        assert_eq!(admit(&mut meter, ms(99), 1), Err(ms(1)));
        assert_eq!(admit(&mut meter, ms(100), 1), Ok(()));
        assert_eq!(admit(&mut meter, ms(100), 1), Err(ms(100)));
        assert_eq!((meter.above(ms(100), 0), meter.above(ms(399), 0)), (3, 1));
        assert_eq!(meter.time_to_empty(ms(100)), ms(300));
    }

    #[test]
    fn a_rate_that_does_not_divide_does_not_drift() {
        // Seven a second: each arrives at the first nanosecond at which it fits.
        let mut meter = Meter::new(Rate::per_second(7), 2);
        let mut at = Duration::ZERO;
        for _ in 0..70_000 {
            if let Err(wait) = admit(&mut meter, at, 1) {
                at += wait;
                assert_eq!(admit(&mut meter, at, 1), Ok(()));
            }
        }
        // 70,000 at seven a second, two at once: the last comes after 69,998 sevenths of a second.
        let exact = 69_998 * 1_000_000_000_u64;
        assert_eq!(at, Duration::from_nanos(exact.div_ceil(7)));
    }

    #[test]
    fn a_cost_above_the_burst_waits_for_half_of_it() {
        let mut meter = Meter::new(Rate::per_second(100), 100);
        assert_eq!(admit(&mut meter, ms(0), 300), Ok(()));
        assert_eq!(admit(&mut meter, ms(0), 300), Err(ms(2500)));
        assert_eq!(admit(&mut meter, ms(2500), 300), Ok(()));
    }

    #[test]
    fn no_window_of_what_is_let_in_exceeds_burst_and_rate() {
        let (rate, burst) = (20, 5);
        let mut meter = Meter::new(Rate::per_second(rate), burst);
        let mut random = Random::new(7);
        let mut at = Duration::ZERO;
        let mut admitted = Vec::new();
        for _ in 0..2_000 {
            at += Duration::from_micros(random.below(60_000) as u64);
            if admit(&mut meter, at, 1).is_ok() {
                admitted.push(at);
            }
        }
        assert!(admitted.len() > 1_000, "the trace tests nothing");
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let allowed = u128::from(burst) * 1_000_000_000
                    + u128::from(rate) * to.abs_diff(*from).as_nanos();
                let seen = (last - first + 1) as u128 * 1_000_000_000;
                assert!(seen <= allowed, "{first} to {last}");
            }
        }
    }

    #[test]
    fn what_is_observed_above_the_limit_is_the_worst_window() {
        let (rate, burst) = (20_u32, 5_u32);
        let mut meter = Meter::new(Rate::per_second(u64::from(rate)), u64::from(burst));
        let mut random = Random::new(11);
        let mut at = Duration::ZERO;
        let (mut arrivals, mut worst) = (Vec::new(), 0);
        for _ in 0..500 {
            at += Duration::from_micros(random.below(90_000) as u64);
            arrivals.push(at);
            meter.charge(at, 1);
            worst = worst.max(meter.above(at, u64::from(burst)));
        }
        let mut expected = 0.0_f64;
        for (first, from) in arrivals.iter().enumerate() {
            for (last, to) in arrivals.iter().enumerate().skip(first) {
                let allowed = f64::from(burst) + f64::from(rate) * to.abs_diff(*from).as_secs_f64();
                expected = expected.max((last - first + 1) as f64 - allowed);
            }
        }
        assert!(expected > 0.0, "the trace tests nothing");
        assert!(
            (worst as f64 - expected.ceil()).abs() < 0.5,
            "{worst} {expected}"
        );
    }

    #[test]
    fn extremes_do_not_overflow() {
        for rate in [
            Rate::per_second(Rate::MAX_PER_SECOND),
            Rate::new(1, Duration::from_secs(8_640_000_000)),
            Rate::new(u64::MAX, Duration::from_secs(8_640_000_000)),
        ] {
            let mut meter = Meter::new(rate, u64::MAX);
            for at in [Duration::ZERO, Duration::from_secs(1 << 33), Duration::MAX] {
                let _ = admit(&mut meter, at, u64::MAX);
                meter.charge(at, u64::MAX);
                let _ = meter.above(at, u64::MAX);
                let _ = (meter.above(at, 0), meter.time_to_empty(at));
            }
            assert!(default_burst(rate) >= 2);
        }
    }
}
