//! A limit of requests or of model tokens as the simulated provider keeps it: what the limit lets
//! in, what headers tell of it, and by how much the arrivals were above it.

use std::time::Duration;

use super::manners::Judged;
use super::meter::{Judge, Meter, default_burst, share_of};
use super::window::Window;
use crate::Rate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

impl Limit {
    /// What is counted, and the usual short name of its limit a minute.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("requests", "RPM"),
            Self::Tokens => ("tokens", "TPM"),
            Self::InputTokens => ("input-tokens", "ITPM"),
            Self::OutputTokens => ("output-tokens", "OTPM"),
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
    burst: u64,
    dearest: u64,
    /// By how much the worst window so far was above the limit, counting every arrival.
    pub(super) over: u64,
    let_in: Box<dyn Judge>,
    arrived: Meter,
    rate: Rate,
    /// The limit as headers tell it, and its period.
    told: (u64, Duration),
    /// The share of the limit that holds now.
    share: f64,
}

impl Gauge {
    pub(super) fn new(
        limit: Limit,
        rate: Option<Rate>,
        burst: Option<u64>,
        judged: Judged,
    ) -> Option<Self> {
        const MINUTE: Duration = Duration::from_secs(60);
        let rate = rate?;
        let burst = burst.unwrap_or_else(|| default_burst(rate));
        let nanos = rate.period().as_nanos().max(1);
        let a_minute = u128::from(rate.units()) * MINUTE.as_nanos() / nanos;
        let a_minute = u64::try_from(a_minute).unwrap_or(u64::MAX).max(1);
        let let_in: Box<dyn Judge> = match judged {
            Judged::Bucket => Box::new(Meter::new(rate, burst)),
            Judged::Fixed => Box::new(Window::new(rate, false)),
            Judged::Sliding => Box::new(Window::new(rate, true)),
        };
        Some(Self {
            limit,
            burst,
            dearest: 0,
            over: 0,
            let_in,
            arrived: Meter::new(rate, burst),
            rate,
            told: match judged {
                Judged::Bucket => (a_minute, MINUTE),
                Judged::Fixed | Judged::Sliding => (rate.units(), rate.period()),
            },
            share: 1.0,
        })
    }

    /// Goes on with a share of the limit.
    pub(super) fn set_share(&mut self, share: f64, at: Duration) {
        if (share - self.share).abs() > f64::EPSILON {
            self.share = share;
            self.let_in.set_share(share, at);
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
        let (whole, period) = self.told;
        Quota {
            limit: self.limit,
            most: share_of(whole, self.share),
            period,
            used: self.let_in.used(at),
            full_in: self.let_in.time_to_empty(at),
        }
    }
}
