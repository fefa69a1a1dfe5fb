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
/// So many tell that it is no higher.
const MANY_REQUESTS: f64 = 50.0;
/// Refusals here and there lower a rate to no less than this share of what it was.
const LOWEST_SHARE: f64 = 0.8;
/// By so much they lower it, and by so much at least those that hold everyone.
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
const LARGEST_STEP: f64 = 1.0;
/// After a step above this one that was too much the next is not far.
const SMALL_STEP: f64 = 0.05;
/// A step above this one is too much if more is refused than half of this explains.
const LARGE_STEP: f64 = 0.1;
/// A step is tried for so long at least, and for so many requests. A large one shows sooner that it
/// is too much.
const A_STEP: (Nanos, f64) = (SECOND, 8.0);
const A_LARGE_STEP: Nanos = SECOND / 4;
/// Between two tries for more than was refused.
const BETWEEN_TRIES: (Nanos, f64) = (10 * SECOND, 50.0);
/// No step, and no wait for one, is longer for the sake of requests.
const LONGEST_STEP: Nanos = 10 * SECOND;
const LONGEST_WAIT: Nanos = 40 * SECOND;
/// No step beyond the ceiling is longer because the server asked for a longer wait.
const LONGEST_MEMORY: Nanos = 60 * SECOND;
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

impl LetIn {
    /// Between which rates a second the limit is, if anything was let in. The more of the time may
    /// have been waited in vain, the higher it may be.
    pub(super) fn bounds(&self) -> Option<(f64, f64)> {
        let rate = |requests: f64, span: Nanos| requests * SECOND as f64 / span.max(1) as f64;
        (self.requests > 0.0).then(|| {
            let most = if 4 * self.idle > self.span {
                f64::INFINITY
            } else {
                rate(self.requests + 1.0, self.span - self.idle)
            };
            (rate(self.requests, self.span), most)
        })
    }
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
    /// How long the server takes to show that a rate is too much: as long as it asks for a wait.
    memory: Nanos,
}

impl LearnedRate {
    /// In requests a second.
    pub(super) fn now(&self) -> f64 {
        self.now
    }

    /// After a cascade of refusals, `before` which there was another rate or none. The rate holds
    /// from `from`. `None` if too little was let in to tell any.
    pub(super) fn of(let_in: LetIn, before: Option<&Self>, from: Nanos) -> Option<Self> {
        let (least, most) = let_in.bounds()?;
        let mut told = least;
        let is_known = let_in.requests >= MANY_REQUESTS;
        let mut ceiling = if is_known { most } else { f64::INFINITY };
        if let Some(before) = before {
            let is_window = let_in.held > SHORT;
            let enough = let_in.requests >= ENOUGH_REQUESTS;
            let passed = before.passed();
            if !is_window && before.step > 0.0 && passed > told {
                // It was less only because less was sent.
                told = passed;
            }
            let deepest = if enough { 0.0 } else { DEEPEST_CUT };
            told = told.clamp(deepest * before.now, LEAST_CUT * before.now);
            ceiling = before.now.max(told);
            if is_window {
                ceiling = most.clamp(told, ceiling);
            }
        }
        let mut rate = Self {
            now: told * SETTLED_SHARE,
            ceiling,
            // The first cascade counts the burst as well.
            lowest: told * before.map_or(DEEPEST_CUT, |_| LOWEST_SHARE),
            step: 0.0,
            next: 0,
            since: 0,
            sent: 0,
            refused: 0,
            by_chance: 0.0,
            cuts: before.map_or(0, |it| it.cuts + 1),
            top: before.filter(|it| it.cuts > 0).map_or(told, |it| it.top),
            memory: (let_in.held.min(LONGEST_MEMORY)).max(before.map_or(0, |it| it.memory / 2)),
        };
        rate.wait(from);
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
    pub(super) fn refused(&mut self, is_stray: bool, let_in: Option<LetIn>, now: Nanos) -> bool {
        self.refused += 1;
        let chance = if self.step > LARGE_STEP {
            LARGE_STEP / 2.0
        } else {
            LITTLE_CHANCE
        };
        let expected = self.by_chance.max(chance) * self.sent as f64;
        let by_chance = expected + 2.0 * expected.sqrt();
        if is_stray && self.refused as f64 <= by_chance {
            return false;
        }
        let bounds = let_in
            .filter(|it| it.requests >= 2.0)
            .and_then(|it| it.bounds());
        // What was let in tells the limit.
        let told = bounds.map_or(0.0, |(least, most)| (least * most.min(self.now)).sqrt());
        if self.step == 0.0 {
            let lower = if is_stray {
                LITTLE_LOWER
            } else {
                (told / self.now).clamp(DEEPEST_CUT, LOWER)
            };
            let least = if is_stray { self.lowest } else { 0.0 };
            // What is refused at the lowest as well is refused by chance.
            if self.now > least && (self.sent >= AT_A_TIME || !is_stray) {
                if self.cuts == 0 {
                    self.top = self.now;
                }
                self.cuts += u32::from(!is_stray);
                self.now = least.max(self.now * lower);
                if !is_stray {
                    self.lowest = LOWEST_SHARE * self.now;
                }
                (self.sent, self.refused, self.since) = (0, 0, now);
            }
            return false;
        }
        self.ceiling = self.now;
        let passed = self.passed().min(SETTLED_SHARE * self.ceiling);
        if is_stray {
            self.now = passed.max(self.lowest);
        } else {
            self.now = told.clamp(LEAST_CUT * passed, passed);
            self.lowest = LOWEST_SHARE * self.now;
        }
        self.step = 0.0;
        self.wait(now);
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
        if self.sent as f64 + 1.0 < BUSY_SHARE * most {
            return self.restart(self.a_step(), now);
        }
        if self.step > 0.0 {
            self.cuts = 0;
            self.lowest = self.lowest.max(LOWEST_SHARE * self.now / (1.0 + self.step));
        } else if self.sent as f64 >= BETWEEN_TRIES.1 {
            self.by_chance = self.refused as f64 / self.sent as f64;
        }
        self.step = self.next_step();
        self.now *= 1.0 + self.step;
        self.restart(self.a_step(), now);
    }

    /// A rate that was let in: the step before may have been too much as well, and a burst have
    /// hidden it.
    fn passed(&self) -> f64 {
        self.now / (1.0 + self.step) / (1.0 + self.step.min(SMALL_STEP))
    }

    /// Half of the way to the ceiling; beyond it twice the last step, as it is no ceiling any more.
    fn next_step(&self) -> f64 {
        let half = (self.ceiling / self.now - 1.0) / 2.0;
        let step = if half > 0.0 { half } else { 2.0 * self.step };
        step.clamp(LEAST_STEP, LARGEST_STEP)
    }

    /// How long, and for how many requests, the step is tried.
    fn a_step(&self) -> (Nanos, f64) {
        let (time, requests) = A_STEP;
        let is_large = self.step > LARGE_STEP;
        let time = if is_large { A_LARGE_STEP } else { time };
        let is_known = self.now < self.ceiling;
        let memory = if is_known { 0 } else { self.memory };
        (time.max(memory), (2.0 / self.step).clamp(2.0, requests))
    }

    /// Until the next step, where none is tried: not for long if the ceiling is far.
    fn wait(&mut self, now: Nanos) {
        let step = self.next_step();
        let wait = if step > SMALL_STEP {
            Self { step, ..*self }.a_step()
        } else {
            BETWEEN_TRIES
        };
        self.restart(wait, now);
    }

    fn restart(&mut self, (time, requests): (Nanos, f64), now: Nanos) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let requests = (requests * SECOND as f64 / self.now) as Nanos;
        let longest = if self.step > 0.0 {
            LONGEST_STEP
        } else {
            LONGEST_WAIT
        };
        self.next = now.saturating_add(time.max(requests.min(longest)));
        self.since = now;
        self.sent = 0;
        self.refused = 0;
    }
}
