//! A rate of requests that was learned from refusals: how it is found, and how it grows back.
//!
//! The search is that for a number between two others. The *ceiling* is the lowest rate that was
//! too much, as far as is known. A *step* is a try of more: half of the way to the ceiling. A step
//! that is refused is taken back, and lowers the ceiling. A step that is let in is followed by
//! another, and a rate that passes its ceiling grows faster and faster.
//!
//! What was let in since the last cascade tells the limit as well, but not exactly: of a limit that
//! was not used all the time, less was let in than it allows. So it counts only where no step tells
//! more: at a cascade, and where a rate is refused that has been let in.

use super::bucket::Nanos;

pub(super) const SECOND: Nanos = 1_000_000_000;
/// The rate to keep to, as a share of the one that was let in when more was refused.
const SETTLED_SHARE: f64 = 0.97;
/// A cascade of refusals lowers the rate by a tenth at least. If too little was let in since the
/// last cascade to tell a rate, it halves the rate at most.
const LEAST_CUT: f64 = 0.9;
const DEEPEST_CUT: f64 = 0.5;
/// So many requests tell a rate.
const ENOUGH_REQUESTS: f64 = 8.0;
/// So many requests tell that the limit is no higher.
const MANY_REQUESTS: f64 = 50.0;
/// They tell that it is no more than so many times what was let in, though much of the time may
/// have been waited in vain: a burst would hide that a rate is far too much.
const FIRST_CEILING: f64 = 3.0;
/// If more was let in than so many times the rate, it was not what was sent at.
const FAR_MORE: f64 = 1.2;
/// Stray refusals lower a rate to no less than this share of what it was.
const LOWEST_SHARE: f64 = 0.8;
/// What a stray refusal leaves of the rate, and the most that one leaves that holds everyone.
const LITTLE_LOWER: f64 = 0.97;
const LOWER: f64 = 0.93;
/// Stray refusals lower the rate once for so many requests.
const AT_A_TIME: u64 = 20;
/// So many of all requests may be refused by chance.
const LITTLE_CHANCE: f64 = 0.01;
/// After a longer pause it is a window that was used up.
pub(super) const SHORT: Nanos = 2 * SECOND;
/// A longer pause is not asked for what was refused just now.
const LONGEST_OWED: Nanos = 5 * SECOND;
/// What was sent at less than this share of a rate was sent much slower.
const MUCH_SLOWER: f64 = 0.8;
/// The smallest and the largest step.
const LEAST_STEP: f64 = 0.015;
const LARGEST_STEP: f64 = 1.0;
/// A larger step beyond the ceiling was no chance: the next is not twice as large, but four times.
const SURE: f64 = 0.05;
/// If the next step is larger than this, it comes soon.
const NEAR: f64 = 0.04;
/// The step before the refused one counts as too much as well, up to this size.
const SMALL_STEP: f64 = 0.05;
/// A larger step than this is too much if more is refused than half of it explains.
const LARGE_STEP: f64 = 0.1;
/// A step is tried for so long at least, and for as many requests as make so many more than the
/// rate before it would have: two requests at least, and at most so many. A large one shows sooner
/// that it is too much.
const A_STEP: (Nanos, f64) = (SECOND, 20.0);
const MORE: f64 = 0.8;
const A_LARGE_STEP: Nanos = SECOND / 4;
/// A low rate makes no step longer than this.
const LONGEST_STEP: Nanos = 8 * SECOND;
/// Once the ceiling is near, so much time lies between two tries.
const BETWEEN_TRIES: Nanos = 10 * SECOND;
/// So many requests without a step tell the share that is refused by chance.
const TELL_CHANCE: u64 = 60;
/// A server that asks for long waits is slow to show that a rate is too much. So steps beyond the
/// ceiling take as long as the waits, but no longer than this.
const LONGEST_MEMORY: Nanos = 60 * SECOND;
/// The share of the rate that must be used to tell whether more is possible.
const BUSY_SHARE: f64 = 0.7;
/// A rate is doubled if it is so many times lower than one that is proven.
const FAR_BELOW: f64 = 8.0;
/// A rate is proven once so many requests were let in at it.
const MANY_SENT: u64 = 40;
/// The first doubling comes after so long.
const FIRST_LEAP: Nanos = 2 * SECOND;
/// A rate is cut in vain if so many cuts without a step between them bring it to this part of what
/// it was.
const CUTS_IN_VAIN: u32 = 6;
const DEPTH_IN_VAIN: f64 = 64.0;

/// What a server let in since the last cascade of refusals.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetIn {
    pub(super) requests: f64,
    /// The time since then, up to the end of the pause that the last refusals made.
    pub(super) span: Nanos,
    /// How long that pause is.
    pub(super) held: Nanos,
    /// How much of the span may have been waited in vain.
    pub(super) idle: Nanos,
}

impl LetIn {
    /// The rates a second between which the limit lies, if anything was let in. The more of the
    /// time may have been waited in vain, the higher the limit may be.
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

    /// The rate that this tells, `least` of its bounds. A few requests and a long pause tell none:
    /// the pause may be that of a window, or of a server that counts what it refuses. Then it is
    /// the middle between the rate with the pause and the one without.
    fn told(&self, least: f64) -> f64 {
        if self.held <= SHORT || self.requests >= ENOUGH_REQUESTS {
            return least;
        }
        let busy = self.span.saturating_sub(self.held).max(SECOND / 4);
        (least * self.requests * SECOND as f64 / busy as f64).sqrt()
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
    /// When the next step is.
    next: Nanos,
    /// When the rate last changed, and what was sent and refused since.
    since: Nanos,
    sent: u64,
    refused: u64,
    /// Cuts since the last step up, and the rate before the first of them.
    cuts: u32,
    top: f64,
    /// The share that is refused while no step is tried.
    by_chance: f64,
    /// How long the server takes to show that a rate is too much: as long as it asks for a wait.
    memory: Nanos,
    /// The highest rate at which many requests were let in.
    proven: f64,
    /// When a much lower one is doubled, how long that took since the last time, and whether it is
    /// being tried.
    leap: (Nanos, Nanos),
    leaps: bool,
}

impl LearnedRate {
    /// In requests a second.
    pub(super) fn now(&self) -> f64 {
        self.now
    }

    /// The rate after a cascade of refusals. Before that there was the rate `before`, or none. The
    /// new one holds from the instant `from`. `None` if too little was let in to tell any.
    pub(super) fn of(let_in: LetIn, before: Option<&Self>, from: Nanos) -> Option<Self> {
        let (least, most) = let_in.bounds()?;
        let mut told = let_in.told(least);
        let is_known = let_in.requests >= MANY_REQUESTS;
        let mut ceiling = if is_known {
            most.min(FIRST_CEILING * told)
        } else {
            f64::INFINITY
        };
        // Where places were thought to be the limit, what was sent did not keep to the rate.
        if let Some(before) = before.filter(|it| told < FAR_MORE * it.now) {
            let is_window = let_in.held > SHORT && !before.is_self_made(let_in);
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
            proven: before.map_or(0.0, |it| it.proven),
            leap: before.map_or((0, 0), |it| it.leap),
            leaps: false,
        };
        if let Some(before) = before.filter(|it| it.leaps) {
            rate.ceiling = before.ceiling;
        }
        rate.end_leap(from);
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

    /// Takes note of a refusal that is no cascade. A step that is tried is taken back, unless the
    /// refusal may be chance. Returns whether it was.
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
        if self.step == 0.0 {
            if !is_stray {
                let counted = let_in.filter(|it| it.requests >= 2.0);
                let bounds = counted.and_then(|it| it.bounds());
                let (least, most) = bounds.unwrap_or((0.0, f64::INFINITY));
                let told = (least * most.min(self.now)).sqrt();
                // If more was let in than this rate, the rate was not what was sent at.
                if least <= self.now {
                    self.ceiling = self.ceiling.min(self.now);
                }
                self.lower_to(told.clamp(DEEPEST_CUT * self.now, LOWER * self.now), now);
                self.cuts += 1;
                self.lowest = LOWEST_SHARE * self.now;
            } else if self.now > self.lowest && self.sent >= AT_A_TIME {
                // What is refused at the lowest rate as well is refused by chance.
                self.lower_to(self.lowest.max(LITTLE_LOWER * self.now), now);
            }
            return false;
        }
        if self.leaps {
            self.now /= 1.0 + self.step;
        } else {
            self.ceiling = self.now;
            self.now = self.passed().min(SETTLED_SHARE * self.ceiling);
        }
        self.end_leap(now);
        if is_stray {
            self.now = self.now.max(self.lowest);
        } else {
            self.lowest = LOWEST_SHARE * self.now;
        }
        self.step = 0.0;
        self.wait(now);
        true
    }

    /// Goes on at a lower rate, without a step to take back.
    fn lower_to(&mut self, rate: f64, now: Nanos) {
        if self.cuts == 0 {
            self.top = self.now;
        }
        self.now = rate;
        (self.sent, self.refused, self.since) = (0, 0, now);
    }

    /// Takes note of a request that was let in: the rate grows, if it is time.
    pub(super) fn admitted(&mut self, now: Nanos) {
        let leaps = self.is_far_below() && now >= self.leap.0;
        if now < self.next && (!leaps || self.leaps) {
            return;
        }
        // As fast as it may: else more would not be used, and nobody would know whether it is too
        // much.
        let most = self.now * now.saturating_sub(self.since) as f64 / SECOND as f64;
        if self.sent as f64 + 1.0 < BUSY_SHARE * most {
            return self.restart(self.tried_for(self.step), now);
        }
        if self.step > 0.0 {
            self.cuts = 0;
            self.lowest = self.lowest.max(LOWEST_SHARE * self.now / (1.0 + self.step));
        } else if self.sent >= TELL_CHANCE {
            self.by_chance = self.refused as f64 / self.sent as f64;
        }
        if self.sent >= MANY_SENT {
            self.proven = self.proven.max(self.now);
        }
        self.leaps = leaps;
        self.step = if leaps {
            LARGEST_STEP
        } else {
            self.next_step()
        };
        self.now *= 1.0 + self.step;
        self.restart(self.tried_for(self.step), now);
    }

    /// A rate that was let in. That is less than the rate before this step: a burst may have hidden
    /// that the step before was too much as well.
    fn passed(&self) -> f64 {
        self.now / (1.0 + self.step) / (1.0 + self.step.min(SMALL_STEP))
    }

    /// Whether less was let in because less was sent, and not because a window was used up: most of
    /// it was sent before the rate grew to this. A server that counts what it refuses asks for a
    /// pause of some seconds as well.
    fn is_self_made(&self, let_in: LetIn) -> bool {
        let sending = let_in.span.saturating_sub(let_in.held) as f64 / SECOND as f64;
        let_in.held <= LONGEST_OWED && let_in.requests < MUCH_SLOWER * self.passed() * sending
    }

    fn is_far_below(&self) -> bool {
        FAR_BELOW * self.now < self.proven
    }

    /// The rate has changed, and not by a leap that was let in. The next is later each time.
    fn end_leap(&mut self, now: Nanos) {
        if !self.is_far_below() {
            self.leap = (0, 0);
        } else if self.leaps || self.leap.1 == 0 {
            let wait = (2 * self.leap.1).max(FIRST_LEAP);
            self.leap = (now.saturating_add(wait), wait);
        }
        self.leaps = false;
    }

    /// Half of the way to the ceiling. A rate that has passed its ceiling has none: then a multiple
    /// of the last step.
    fn next_step(&self) -> f64 {
        let half = (self.ceiling / self.now - 1.0) / 2.0;
        let times = if self.step > SURE { 4.0 } else { 2.0 };
        let step = if half > 0.0 { half } else { times * self.step };
        step.clamp(LEAST_STEP, LARGEST_STEP)
    }

    /// How long a step of this size is tried.
    fn tried_for(&self, step: f64) -> Nanos {
        let (time, requests) = A_STEP;
        let is_large = step > LARGE_STEP;
        let time = if is_large { A_LARGE_STEP } else { time };
        let is_known = self.now < self.ceiling;
        let memory = if is_known { 0 } else { self.memory };
        let requests = (MORE / step).clamp(2.0, requests);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let requests = (requests * SECOND as f64 / self.now) as Nanos;
        time.max(memory).max(requests.min(LONGEST_STEP))
    }

    /// Waits for the next step: not for long if it is large.
    fn wait(&mut self, now: Nanos) {
        let step = self.next_step();
        let wait = if step > NEAR {
            self.tried_for(step)
        } else {
            BETWEEN_TRIES
        };
        self.restart(wait, now);
    }

    fn restart(&mut self, wait: Nanos, now: Nanos) {
        self.next = now.saturating_add(wait);
        self.since = now;
        self.sent = 0;
        self.refused = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_rate_does_not_double_on_and_on_though_half_of_its_time_was_a_pause() {
        let let_in = LetIn {
            requests: 100.0,
            span: 2 * SECOND,
            held: SECOND,
            idle: SECOND,
        };
        let mut rate = LearnedRate::of(let_in, None, 0).unwrap();
        for second in 1..=2 {
            for _ in 0..200 {
                rate.sent();
            }
            rate.admitted(second * SECOND);
        }
        // It has doubled once. Twice as much again would be nearly four times 50.
        assert!((90.0..150.0).contains(&rate.now()), "{}", rate.now());
    }

    #[test]
    fn a_rate_far_below_one_that_was_let_in_is_doubled_soon_and_then_less_often() {
        let let_in = LetIn {
            requests: 1.0,
            span: SECOND,
            held: SECOND,
            idle: 0,
        };
        let before = LearnedRate {
            now: 1.5,
            ceiling: 1.6,
            proven: 50.0,
            ..LearnedRate::of(let_in, None, 0).unwrap()
        };
        let mut rate = LearnedRate::of(let_in, Some(&before), 0).unwrap();
        let (low, ceiling) = (rate.now(), rate.ceiling);
        let mut leaps = Vec::new();
        for second in 1..=30 {
            let now = second * SECOND;
            rate.sent();
            rate.admitted(now);
            if rate.leaps {
                leaps.push(second);
                rate.refused(false, None, now + 1);
                assert!((rate.now() - low).abs() < 0.5, "{}", rate.now());
                assert!(rate.ceiling <= ceiling, "{}", rate.ceiling);
            }
        }
        assert_eq!(leaps, [2, 7, 16]);
        for second in 31..60 {
            for _ in 0..100 {
                rate.sent();
            }
            rate.admitted(second * SECOND);
        }
        assert!(rate.now() > 40.0, "{}", rate.now());
    }

    #[test]
    fn what_was_sent_slowly_before_a_short_pause_is_no_window() {
        let let_in = |requests, held| LetIn {
            requests,
            span: 60 * SECOND,
            held,
            idle: 0,
        };
        // The rate has grown to 2.4 in the last of these 60 seconds, and 2 has passed.
        let before = LearnedRate {
            now: 2.4,
            ceiling: 3.0,
            step: 0.2,
            ..LearnedRate::of(let_in(60.0, 0), None, 0).unwrap()
        };
        let after = |requests, held| {
            let rate = LearnedRate::of(let_in(requests, held), Some(&before), 0);
            rate.unwrap().now()
        };
        assert!(after(60.0, 3 * SECOND) > 1.8, "sent at one a second");
        assert!(after(60.0, 30 * SECOND) < 1.1, "a long pause");
        assert!(
            after(100.0, 3 * SECOND) < 1.8,
            "sent at nearly two a second"
        );
    }
}
