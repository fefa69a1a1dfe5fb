//! A rate of requests that was learned from refusals: how it grows back and tries for more.

use super::bucket::Nanos;

pub(super) const SECOND: Nanos = 1_000_000_000;
/// The rate to keep to, as a share of the one that was let in when more was refused.
const SETTLED_SHARE: f64 = 0.97;
/// A cascade of refusals lowers the rate by a tenth at least. It halves it at most, if too little
/// was let in since the last one to tell a rate.
const LEAST_CUT: f64 = 0.9;
const DEEPEST_CUT: f64 = 0.5;
/// So many requests tell a rate.
const ENOUGH_REQUESTS: f64 = 8.0;
/// Refusals here and there lower a rate to no less than this share of what a cascade told.
const LOWEST_SHARE: f64 = 0.9;
const LOWEST_AT_FIRST: f64 = 0.8;
const LITTLE_LOWER: f64 = 0.97;
const LOWER: f64 = 0.93;
/// It is lowered once for so many requests.
const AT_A_TIME: u64 = 20;
/// So many of all requests may be refused by chance.
const LITTLE_CHANCE: f64 = 0.01;
/// After a longer pause it is a window that was used up.
pub(super) const SHORT: Nanos = 2 * SECOND;
/// The least and the largest step up.
const LEAST_STEP: f64 = 0.015;
const LARGEST_STEP: f64 = 0.5;
/// After a step above this one that was too much the next is not far.
const SMALL_STEP: f64 = 0.05;
/// A step above this one is too much if so many are refused that they are not stray.
const LARGE_STEP: f64 = 0.1;
/// A rate that may be wrong by more than this says nothing of what is above it.
const MUCH_DOUBT: f64 = 0.1;
/// A step is tried for so long at least, and for so many requests.
const A_STEP: (Nanos, f64) = (SECOND, 8.0);
/// Between two tries for more than was refused.
const BETWEEN_TRIES: (Nanos, f64) = (10 * SECOND, 50.0);
/// The share of the rate that must be used to tell whether more is possible.
const BUSY_SHARE: f64 = 0.7;
/// So many cuts without a step up between them, to this part of the rate, are in vain.
const CUTS_IN_VAIN: u32 = 6;
const DEPTH_IN_VAIN: f64 = 64.0;

/// What a server let in up to a cascade of refusals.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetIn {
    pub(super) requests: f64,
    /// Up to the end of the pause that the refusals made.
    pub(super) span: Nanos,
    /// How long the pause is.
    pub(super) held: Nanos,
    /// How much of the span may have been waited in vain.
    pub(super) idle: Nanos,
}

/// A rate that was learned, in requests a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct LearnedRate {
    now: f64,
    /// The lowest that was too much, as far as is known.
    ceiling: f64,
    /// Refusals here and there lower it no further.
    lowest: f64,
    /// The step that is tried; 0 for none.
    step: f64,
    /// When the next one is, since when the rate is what it is, and what was sent and refused
    /// since.
    next: Nanos,
    since: Nanos,
    sent: u64,
    refused: u64,
    /// Cuts since the last step up, and the rate before the first of them.
    cuts: u32,
    top: f64,
    /// The share that is refused without any try.
    by_chance: f64,
}

impl LearnedRate {
    /// In requests a second.
    pub(super) fn now(&self) -> f64 {
        self.now
    }

    /// After a cascade of refusals, `before` which there was another rate or none. The rate holds
    /// from `from`. `None` if too little was let in to tell any.
    pub(super) fn of(let_in: LetIn, before: Option<&Self>, from: Nanos) -> Option<Self> {
        let LetIn { requests, span, .. } = let_in;
        if before.is_none() && requests < 2.0 {
            return None;
        }
        let span = span.max(1) as f64;
        let doubt = (let_in.idle as f64 / span + 1.0 / requests.max(1.0)).min(1.0);
        let enough = requests >= ENOUGH_REQUESTS;
        let admitted = if enough { requests } else { requests + 1.0 };
        let mut told = admitted * SECOND as f64 / span;
        let mut ceiling = told * (1.0 + 2.0 * doubt);
        match before {
            Some(before) => {
                let is_window = let_in.held > SHORT;
                let least = if enough && is_window {
                    0.0
                } else {
                    DEEPEST_CUT
                };
                let passed = before.passed();
                if !is_window && before.step > 0.0 && passed > told {
                    // It was less only because less was sent.
                    (told, ceiling) = (passed, before.now);
                }
                told = told.clamp(least * before.now, LEAST_CUT * before.now);
                ceiling = if is_window {
                    ceiling.clamp(told, before.now.max(told))
                } else {
                    before.now.max(told)
                };
            }
            None if doubt > MUCH_DOUBT => ceiling = f64::INFINITY,
            None => {}
        }
        // The first cascade counts the burst as well.
        let lowest = if before.is_some() {
            LOWEST_SHARE
        } else {
            LOWEST_AT_FIRST
        };
        let mut rate = Self {
            now: told * SETTLED_SHARE.min(1.0 - doubt / 2.0),
            ceiling,
            lowest: told * lowest / (1.0 + doubt),
            step: 0.0,
            next: 0,
            since: 0,
            sent: 0,
            refused: 0,
            by_chance: 0.0,
            cuts: before.map_or(0, |it| it.cuts + 1),
            top: before.filter(|it| it.cuts > 0).map_or(told, |it| it.top),
        };
        let wait = if rate.next_step() > SMALL_STEP {
            A_STEP
        } else {
            BETWEEN_TRIES
        };
        rate.restart(wait, from);
        Some(rate)
    }

    /// Whether the rate is not what the refusals come from, as no cut of it ends them.
    pub(super) fn is_cut_in_vain(&self) -> bool {
        self.cuts >= CUTS_IN_VAIN && self.now < self.top / DEPTH_IN_VAIN
    }

    /// Whether what is refused at it is refused by chance.
    pub(super) fn is_lowest(&self) -> bool {
        self.step == 0.0 && self.now <= self.lowest
    }

    /// Takes note of a request that is sent.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// Takes note of a refusal, which is no cascade. What was tried is taken back, unless it may be
    /// chance; whether it was.
    pub(super) fn refused(&mut self, is_stray: bool, now: Nanos) -> bool {
        self.refused += 1;
        let expected = self.by_chance.max(LITTLE_CHANCE) * self.sent as f64;
        let by_chance = expected + 2.0 * expected.sqrt();
        if is_stray && (self.step > LARGE_STEP || self.refused as f64 <= by_chance) {
            return false;
        }
        let lower = if is_stray { LITTLE_LOWER } else { LOWER };
        if !is_stray {
            self.lowest *= lower;
        }
        if self.step == 0.0 {
            // What is refused at the lowest as well is refused by chance.
            if self.now > self.lowest && (self.sent >= AT_A_TIME || !is_stray) {
                if self.cuts == 0 {
                    self.top = self.now;
                }
                self.cuts += u32::from(!is_stray);
                self.now = self.lowest.max(self.now * lower);
                (self.sent, self.refused, self.since) = (0, 0, now);
            }
            return false;
        }
        self.ceiling = self.now;
        self.now = self
            .passed()
            .min(SETTLED_SHARE * self.ceiling)
            .max(self.lowest);
        let is_far = self.step > SMALL_STEP;
        self.step = 0.0;
        self.restart(if is_far { A_STEP } else { BETWEEN_TRIES }, now);
        true
    }

    /// Takes note of a request that was let in: the rate grows, if it is time.
    pub(super) fn admitted(&mut self, now: Nanos) {
        if now < self.next {
            return;
        }
        // As fast as it may: else more would not be used, and nobody would know whether it is too
        // much.
        let most = self.now * now.saturating_sub(self.since) as f64 / SECOND as f64;
        if (self.sent as f64) < BUSY_SHARE * most {
            return self.restart(A_STEP, now);
        }
        if self.step > 0.0 {
            self.cuts = 0;
            self.lowest = self
                .lowest
                .max(LOWEST_AT_FIRST * self.now / (1.0 + self.step));
        } else if self.sent as f64 >= BETWEEN_TRIES.1 {
            self.by_chance = self.refused as f64 / self.sent as f64;
        }
        self.step = self.next_step();
        self.now *= 1.0 + self.step;
        self.restart(A_STEP, now);
    }

    /// A rate that was let in: the step before may have been too much as well, and a burst have
    /// hidden it.
    fn passed(&self) -> f64 {
        self.now / (1.0 + self.step).powi(2)
    }

    /// Half of the way to the ceiling, and beyond it half as far again: it is no ceiling any more.
    fn next_step(&self) -> f64 {
        let distance = self.ceiling.max(self.now) / self.ceiling.min(self.now) - 1.0;
        (distance / 2.0).clamp(LEAST_STEP, LARGEST_STEP)
    }

    fn restart(&mut self, (time, requests): (Nanos, f64), now: Nanos) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let requests = (requests * SECOND as f64 / self.now) as Nanos;
        self.next = now.saturating_add(time.max(requests));
        self.since = now;
        self.sent = 0;
        self.refused = 0;
    }
}
