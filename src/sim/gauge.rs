//! A limit of requests or of model tokens as the simulated provider keeps it: what the limit lets
//! in, what headers tell of it, and by how much the arrivals were above it.

use std::time::Duration;

use super::manners::Judged;
use super::meter::{Meter, default_burst};
use super::window::Window;
use crate::Rate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Requests,
    Tokens,
}

impl Limit {
    /// What is counted, and the usual short name of its limit a minute.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("requests", "RPM"),
            Self::Tokens => ("tokens", "TPM"),
        }
    }
}

/// A limit as its headers tell it: a bucket one minute deep, whatever the burst, or a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quota {
    pub(crate) limit: Limit,
    pub(crate) most: u64,
    pub(super) period: Duration,
    pub(crate) used: u64,
    pub(crate) full_in: Duration,
}

/// A limit: what has been let in, and what has arrived.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) limit: Limit,
    a_minute: u64,
    burst: u64,
    dearest: u64,
    /// By how much the worst window so far was above the limit, counting every arrival.
    pub(super) over: u64,
    let_in: Judge,
    arrived: Meter,
    /// The whole limit, and the share of it that holds now.
    rate: Rate,
    share: f64,
}

#[derive(Debug)]
enum Judge {
    Bucket(Meter),
    Window(Window),
}

impl Judge {
    fn wait(&self, at: Duration, cost: u64) -> Duration {
        match self {
            Self::Bucket(meter) => meter.wait(at, cost),
            Self::Window(window) => window.wait(at, cost),
        }
    }

    fn charge(&mut self, at: Duration, cost: u64) {
        match self {
            Self::Bucket(meter) => meter.charge(at, cost),
            Self::Window(window) => window.charge(at, cost),
        }
    }
}

impl Gauge {
    pub(super) fn new(
        limit: Limit,
        rate: Option<Rate>,
        burst: Option<u64>,
        judged: Judged,
    ) -> Option<Self> {
        let rate = rate?;
        let burst = burst.unwrap_or_else(|| default_burst(rate));
        let nanos = rate.period().as_nanos().max(1);
        let a_minute = u128::from(rate.units()) * 60_000_000_000 / nanos;
        Some(Self {
            limit,
            a_minute: u64::try_from(a_minute).unwrap_or(u64::MAX).max(1),
            burst,
            dearest: 0,
            over: 0,
            let_in: match judged {
                Judged::Bucket => Judge::Bucket(Meter::new(rate, burst)),
                Judged::Fixed | Judged::Sliding => {
                    let is_sliding = judged == Judged::Sliding;
                    Judge::Window(Window::new(rate.period(), rate.units(), is_sliding))
                }
            },
            arrived: Meter::new(rate, burst),
            rate,
            share: 1.0,
        })
    }

    /// Goes on with a share of the limit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn set_share(&mut self, share: f64, at: Duration) {
        if (share - self.share).abs() < f64::EPSILON {
            return;
        }
        self.share = share;
        match &mut self.let_in {
            Judge::Bucket(meter) => {
                // In thousandths, so that a share of a small rate is not rounded to nothing.
                let units = (self.rate.units() as f64 * share * 1e3).max(1.0) as u64;
                let rate = Rate::new(units, self.rate.period() * 1_000);
                let used = meter.above(at, 0);
                *meter = Meter::new(rate, self.burst);
                meter.charge(at, used);
            }
            Judge::Window(window) => {
                window.set_limit((self.rate.units() as f64 * share).max(1.0) as u64);
            }
        }
    }

    /// How long from `at` until `cost` units fit; `None` if a whole period allows less.
    pub(super) fn wait(&self, at: Duration, cost: u64) -> Option<Duration> {
        (cost <= self.rate.units()).then(|| self.let_in.wait(at, cost))
    }

    pub(super) fn charge(&mut self, at: Duration, cost: u64) {
        self.let_in.charge(at, cost);
    }

    /// Counts what arrives, whether it is let in or not.
    pub(super) fn arrive(&mut self, at: Duration, cost: u64) {
        self.dearest = self.dearest.max(cost);
        let allowed = self.burst.max(self.dearest);
        self.arrived.charge(at, cost);
        self.over = self.over.max(self.arrived.above(at, allowed));
    }

    pub(super) fn quota(&self, at: Duration) -> Quota {
        let (whole, period, used, full_in) = match &self.let_in {
            Judge::Bucket(meter) => {
                let (used, full_in) = (meter.above(at, 0), meter.time_to_empty(at));
                (self.a_minute, MINUTE, used, full_in)
            }
            Judge::Window(window) => {
                let (used, full_in) = (window.used(at), window.time_to_empty(at));
                (self.rate.units(), self.rate.period(), used, full_in)
            }
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let most = (whole as f64 * self.share).max(1.0) as u64;
        Quota {
            limit: self.limit,
            most,
            period,
            used,
            full_in,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
