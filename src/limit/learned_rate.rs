//! A rate of requests that was learned from refusals: how it is cut, grows back and tries for more.

use super::bucket::Nanos;

pub(super) const SECOND: Nanos = 1_000_000_000;
/// Where the rate settles, as a share of the one that was refused.
const SETTLED_SHARE: f64 = 0.95;
/// A cut goes to this share of the rate that was admitted, and lower for cuts in quick succession.
const CUT_SHARE: f64 = 0.9;
const DEEPER_EACH_TIME: f64 = 0.1;
const DEEPEST_CUT: f64 = 0.5;
const IN_SUCCESSION: Nanos = 3 * SECOND;
/// Stray refusals lower a rate to no less than this share of what was admitted.
const LOWEST_SHARE: f64 = 0.8;
/// How the rate grows back to the good one, in each second, or in so many requests where they take
/// longer.
const REGROWTH: f64 = 1.05;
const REQUESTS_A_STEP: f64 = 4.0;
/// By which share a higher rate is tried. After a try that was too much the next is a quarter as large,
/// after one that was not it is twice as large.
const SMALLEST_TRY: f64 = 0.01;
const LARGEST_TRY: f64 = 0.5;
const SMALL_TRY: f64 = 0.1;
/// The share of the rate that must be used to tell whether more is possible.
const BUSY_SHARE: f64 = 0.7;
/// How long no higher rate is tried: at first, after a refusal, and at most.
const FIRST_WAIT: Nanos = 2 * SECOND;
const WAIT_AFTER_REFUSAL: Nanos = 10 * SECOND;
pub(super) const LONGEST_WAIT: Nanos = 60 * SECOND;

/// A rate that was learned, in requests a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct LearnedRate {
    now: f64,
    /// The highest that was not refused.
    good: f64,
    /// Stray refusals lower it no further.
    lowest: f64,
    /// By which share the rate is above the good one, to try whether that is good as well.
    trying: Option<f64>,
    next_try: f64,
    /// How long nothing is tried after a refusal.
    wait: Nanos,
    /// When it may grow next, since when it is what it is, and what was admitted since.
    next: Nanos,
    since: Nanos,
    /// How long a rate is tried at least.
    trial: Nanos,
    admitted: u64,
    refused: u64,
    /// Cuts in quick succession.
    cuts: u32,
}

impl LearnedRate {
    /// In requests a second.
    pub(super) fn now(&self) -> f64 {
        self.now
    }

    /// Of a server that admitted so much until it refused.
    pub(super) fn of_admissions(admitted: f64, now: Nanos) -> Self {
        Self::below(admitted, CUT_SHARE, now)
    }

    /// Of a server that admitted so much in each window of this length; one is used up until `end`.
    pub(super) fn of_window(
        admitted: f64,
        old: Option<Self>,
        window: Nanos,
        end: Nanos,
        now: Nanos,
    ) -> Self {
        let mut rate = Self::below(admitted, SETTLED_SHARE, now);
        rate.next_try = SMALLEST_TRY;
        rate.wait = match old {
            Some(old) if (rate.good / old.good - 1.0).abs() < 0.1 => 2 * old.wait,
            _ => WAIT_AFTER_REFUSAL,
        };
        rate.wait = rate.wait.clamp(WAIT_AFTER_REFUSAL, LONGEST_WAIT);
        rate.trial = window;
        rate.next = end.saturating_add(rate.wait);
        rate
    }

    /// `refused` was too much, or just what is possible.
    fn below(refused: f64, cut: f64, now: Nanos) -> Self {
        Self {
            now: refused * cut,
            good: refused * SETTLED_SHARE,
            lowest: refused * LOWEST_SHARE,
            trying: None,
            // Nothing is known of what is above.
            next_try: LARGEST_TRY,
            wait: FIRST_WAIT,
            next: now + SECOND,
            since: now,
            trial: SECOND,
            admitted: 0,
            refused: 0,
            cuts: 0,
        }
    }

    /// Refusals that are not stray: what was tried was too much, or the limit has fallen. Returns how many
    /// cuts came in quick succession before this one.
    pub(super) fn cut(&mut self, admitted: f64, now: Nanos) -> u32 {
        if self.trying.is_some() {
            self.give_up_trying(now);
            return 0;
        }
        let is_soon = now.saturating_sub(self.since) < IN_SUCCESSION;
        let cuts = if is_soon { self.cuts + 1 } else { 0 };
        let share = (CUT_SHARE - DEEPER_EACH_TIME * f64::from(cuts)).max(DEEPEST_CUT);
        *self = Self {
            cuts,
            wait: WAIT_AFTER_REFUSAL,
            trial: self.trial,
            ..Self::below(admitted.min(self.now), share, now)
        };
        cuts
    }

    /// A refusal: what was tried was too much, or the rate is still a little above the limit. Whether it
    /// was what was tried.
    pub(super) fn lower(&mut self, is_stray: bool, now: Nanos) -> bool {
        self.refused += 1;
        if self.trying.is_some() {
            let is_too_much =
                self.refused >= 2 && 10 * self.refused >= self.admitted + self.refused;
            if is_too_much {
                self.give_up_trying(now);
            }
            return is_too_much;
        }
        // More than chance: what was measured was too much as well.
        let step = if is_stray {
            SMALLEST_TRY
        } else {
            4.0 * SMALLEST_TRY
        };
        if !is_stray {
            self.lowest *= 1.0 - step;
        }
        let good = (self.good * (1.0 - step)).max(self.lowest);
        if good >= self.good {
            return false;
        }
        self.good = good;
        self.now = self.now.min(good);
        self.restart(now, self.wait);
        false
    }

    /// The smaller the step that was too much, the longer until the next.
    fn give_up_trying(&mut self, now: Nanos) {
        let step = self.trying.take().unwrap_or(SMALLEST_TRY);
        self.now = self.good;
        self.next_try = (step / 4.0).max(SMALLEST_TRY);
        let longer = if step < SMALL_TRY {
            2 * self.wait
        } else {
            WAIT_AFTER_REFUSAL
        };
        self.wait = longer.clamp(WAIT_AFTER_REFUSAL, LONGEST_WAIT);
        self.restart(now, self.wait);
    }

    pub(super) fn grow(&mut self, now: Nanos) {
        self.admitted += 1;
        if now < self.next {
            return;
        }
        // As fast as it may: else more would not be used, and nobody would know whether it is too much.
        let most = self.now * now.saturating_sub(self.since) as f64 / SECOND as f64;
        let is_busy = self.admitted as f64 >= BUSY_SHARE * most;
        if is_busy && self.trying.is_none() && self.now < self.good {
            self.now = (self.now * REGROWTH).min(self.good);
            if self.now >= self.good {
                return self.restart(now, self.wait);
            }
        } else if is_busy {
            let step = match self.trying {
                Some(step) => {
                    // A burst hides for a while that what is tried is too much. One more: a span of
                    // few requests may have just missed one.
                    let span = now.saturating_sub(self.since).max(1) as f64 / SECOND as f64;
                    let admitted = self.now.min((self.admitted + 1) as f64 / span);
                    if admitted < self.good {
                        return self.give_up_trying(now);
                    }
                    self.good = admitted;
                    self.lowest = admitted * LOWEST_SHARE;
                    (2.0 * step).min(LARGEST_TRY)
                }
                None => self.next_try,
            };
            self.trying = Some(step);
            self.now = self.good * (1.0 + step);
        }
        // At a slow rate a second says nothing.
        let few = (REQUESTS_A_STEP * SECOND as f64 / self.now.max(1e-3)).min(LONGEST_WAIT as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.restart(now, self.trial.max(few as Nanos));
    }

    fn restart(&mut self, now: Nanos, wait: Nanos) {
        self.next = now.saturating_add(wait);
        self.since = now;
        self.admitted = 0;
        self.refused = 0;
    }
}
