//! Limits that a server announces with its answers: a bucket for each, beside those that are
//! configured.
//!
//! All buckets must admit a request, so the lower of a configured and an announced limit counts.
//!
//! Three things are not said, and found out:
//!
//! - The window. It is the one that limit, remaining and reset fit together in, else a minute.
//! - The burst. Servers judge windows of a second to ten, whatever they announce, so requests are
//!   spread evenly over a window of up to a minute. Model tokens come in lumps, and a longer window
//!   is a budget: of these, as many may go at once as the server says are left. Once it refuses
//!   model tokens though most of them were left, they are spread as well.
//! - What others use of the same limit. What is left is corrected to what the server says: down at
//!   once, and up by no more than what is not under way.

use std::time::Duration;

use super::announced::{Announced, Counted, NAMED};
use super::bucket::{Bucket, Nanos};
use super::rate::{Cost, Rate};
use super::window::{MINUTE, Window};
use crate::binding::Binding;

/// For so long after the last refusal that names a limit it is kept to. Nobody says that it has
/// become higher, or that it is gone.
const NAMED_FOR: Nanos = 600 * 1_000_000_000;

/// A share of the limit is left to the server, whose clock and count are its own.
const HEADROOM: [u64; 2] = [97, 100];
/// Requests spread over a window may be late by so much and catch up.
const CATCH_UP: Duration = Duration::from_millis(20);

/// So many limits are followed at most: a server may invent names.
const MOST: usize = 16;

/// All limits that answers have announced.
#[derive(Debug, Default)]
pub(super) struct FollowedLimits(Vec<FollowedLimit>);

impl FollowedLimits {
    /// Takes note of what an answer says. Its request was sent at `sent`. Returns whether something
    /// may be admitted sooner now.
    pub(super) fn note(
        &mut self,
        announced: &Announced,
        sent: Nanos,
        paused_until: Nanos,
        now: Nanos,
    ) -> bool {
        let known = |it: &&mut FollowedLimit| {
            it.counted == announced.counted && it.scope == announced.scope
        };
        if let Some(known) = self.0.iter_mut().find(known) {
            return known.note(announced, sent, now);
        }
        if self.0.len() < MOST
            && let Some(mut limit) = FollowedLimit::new(announced, sent, now)
        {
            limit.bucket.hold(paused_until, now);
            self.0.push(limit);
        }
        false
    }

    /// Whether there is one of what is counted so.
    pub(super) fn limits(&self, counted: impl Fn(Counted) -> bool) -> bool {
        self.0.iter().any(|it| counted(it.counted))
    }

    /// When each of them admits `cost`.
    pub(super) fn earliest(
        &mut self,
        cost: Cost,
        now: Nanos,
    ) -> impl Iterator<Item = (Nanos, Binding)> {
        self.0.iter_mut().map(move |it| {
            let at = it.bucket.earliest(it.counted.of(cost), now);
            let reason = match it.counted {
                Counted::Requests => Binding::Requests,
                Counted::Tokens => Binding::Tokens,
                Counted::InputTokens => Binding::InputTokens,
                Counted::OutputTokens => Binding::OutputTokens,
            };
            (at, reason)
        })
    }

    pub(super) fn take(&mut self, cost: Cost, now: Nanos) {
        self.0
            .retain(|it| it.scope != NAMED || now < it.sent.saturating_add(NAMED_FOR));
        for it in &mut self.0 {
            let cost = it.counted.of(cost);
            it.bucket.take(cost, now);
            it.under_way = it.under_way.saturating_add(cost);
        }
    }

    /// A request has ended. `reserved` was taken for it, and it has used `used`. For a request that
    /// was sent before the limit was known nothing was taken here, and the server has counted it
    /// already.
    pub(super) fn release(&mut self, reserved: Cost, used: Cost, now: Nanos) {
        for it in &mut self.0 {
            let (taken, used) = (it.counted.of(reserved), it.counted.of(used));
            if it.counted != Counted::Requests && (1..=it.under_way).contains(&taken) {
                it.bucket.settle(taken, used, now);
                // What was refused fits no better for that the next moment.
                if used == 0 && it.is_spread_now() {
                    it.bucket.lower_to(0, now);
                }
            }
            it.under_way = it.under_way.saturating_sub(taken);
        }
    }

    /// Leaves nothing for a burst at the end of a pause. What is left of a longer window than a
    /// minute stays: one request of a thousand a day comes back in 86 s.
    pub(super) fn hold(&mut self, until: Nanos, now: Nanos) {
        for it in self.0.iter_mut().filter(|it| it.window.length <= MINUTE) {
            it.bucket.hold(until, now);
        }
    }

    /// Whether requests are spread over a window.
    pub(super) fn spreads_requests(&self) -> bool {
        let mut all = self.0.iter();
        all.any(|it| it.counted == Counted::Requests && it.is_spread_now())
    }

    /// The server has refused model tokens. Where it said that most of a limit was left, that may
    /// not go at once.
    pub(super) fn spread_tokens(&mut self, now: Nanos) {
        for it in &mut self.0 {
            if it.is_spread || it.left <= it.limit / 2 {
                continue;
            }
            it.is_spread = true;
            if let Some((rate, burst)) = it.shape() {
                it.bucket.change(rate, burst, now);
            }
        }
    }

    /// The lowest rate of what is counted so, and its burst, as they are kept.
    pub(super) fn kept(&self, counted: Counted) -> Option<(Rate, u64)> {
        let all = self.0.iter().filter(|it| it.counted == counted);
        all.filter_map(FollowedLimit::shape)
            .min_by(|a, b| a.0.units_per_second().total_cmp(&b.0.units_per_second()))
    }

    /// The lowest rate of what is counted so, as the server announces it, and whether it binds: a
    /// budget of which something is left does not. A limit of a day is not told as one of a minute
    /// while the window is being found out.
    pub(super) fn lowest(&self, counted: Counted, now: Nanos) -> Option<(Rate, bool)> {
        let is_told = |it: &FollowedLimit| it.scope != NAMED && !it.window.is_in_doubt();
        self.lowest_of(|it| it.counted == counted && is_told(it), now)
    }

    /// The rate of model tokens that refusals name.
    pub(super) fn named(&self, now: Nanos) -> Option<Rate> {
        let named = self.lowest_of(|it| it.scope == NAMED, now);
        named.map(|(rate, _)| rate)
    }

    fn lowest_of(
        &self,
        which: impl Fn(&FollowedLimit) -> bool,
        now: Nanos,
    ) -> Option<(Rate, bool)> {
        let rates = self.0.iter().filter(|it| which(it));
        let rates = rates.map(|it| (Rate::new(it.limit, it.window.length), it.binds(now)));
        rates.min_by(|(a, a_binds), (b, b_binds)| {
            let by_rate = a.units_per_second().total_cmp(&b.units_per_second());
            b_binds.cmp(a_binds).then(by_rate)
        })
    }
}

#[derive(Debug)]
struct FollowedLimit {
    counted: Counted,
    scope: u64,
    limit: u64,
    window: Window,
    /// Whether it is spread evenly over a window of up to a minute.
    is_spread: bool,
    /// How much was left when the server said last that anything was.
    left: u64,
    bucket: Bucket,
    /// What was taken for requests that have not ended.
    under_way: u64,
    /// When the request was sent whose answer counted last. An answer to an earlier request is out
    /// of date.
    sent: Nanos,
}

impl FollowedLimit {
    fn new(announced: &Announced, sent: Nanos, now: Nanos) -> Option<Self> {
        let mut window = Window::default();
        window.note(announced, sent, now);
        let is_spread = announced.counted == Counted::Requests;
        let (rate, burst) = shape(announced.limit, window.length, is_spread)?;
        let mut bucket = Bucket::full(rate, burst, now);
        let unknown = rate.second_worth();
        bucket.lower_to(announced.remaining.unwrap_or(unknown), now);
        Some(Self {
            counted: announced.counted,
            scope: announced.scope,
            limit: announced.limit,
            window,
            is_spread,
            left: announced.remaining.unwrap_or(0),
            bucket,
            under_way: 0,
            sent,
        })
    }

    /// Whether it keeps anything back: a longer window than a minute is a budget, and may have
    /// something left.
    fn binds(&self, now: Nanos) -> bool {
        self.window.length <= MINUTE || self.bucket.clone().earliest(1, now) > now
    }

    fn is_spread_now(&self) -> bool {
        self.is_spread && self.window.length <= MINUTE
    }

    fn shape(&self) -> Option<(Rate, u64)> {
        shape(self.limit, self.window.length, self.is_spread)
    }

    fn note(&mut self, announced: &Announced, sent: Nanos, now: Nanos) -> bool {
        if sent < self.sent {
            self.window.note_late(announced, sent, now);
            return false;
        }
        self.sent = sent;
        let before = (self.limit, self.window.length);
        self.window.note(announced, sent, now);
        let after = (announced.limit, self.window.length);
        let mut sooner = false;
        if before != after
            && let Some((rate, burst)) = shape(announced.limit, self.window.length, self.is_spread)
        {
            self.limit = announced.limit;
            self.bucket.change(rate, burst, now);
            sooner = true;
        }
        if let Some(remaining) = announced.remaining {
            if remaining > 0 {
                self.left = remaining;
            }
            self.bucket.lower_to(remaining, now);
            // What is spread over the window comes when its time has come, however much is left.
            if !self.is_spread_now() {
                let least = remaining.saturating_sub(self.under_way);
                sooner |= self.bucket.raise_to(least, now);
            }
        }
        sooner
    }
}

/// The rate and the burst to go by. `None` if no bucket can have them.
fn shape(limit: u64, window: Duration, is_spread: bool) -> Option<(Rate, u64)> {
    let [share, whole] = HEADROOM;
    let period = window.checked_mul(u32::try_from(whole).ok()?)?;
    let rate = Rate::new(limit.checked_mul(share)?, period);
    rate.checked().ok()?;
    let is_spread = is_spread && window <= MINUTE;
    Some((rate, if is_spread { burst_of(rate) } else { limit }))
}

/// The burst of requests that are spread evenly.
pub(super) fn burst_of(rate: Rate) -> u64 {
    let period = rate.period().as_nanos().max(1);
    let late = u128::from(rate.units()) * CATCH_UP.as_nanos() / period;
    u64::try_from(late).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::announced::Reset;

    const S: Nanos = 1_000_000_000;

    fn said(counted: Counted, limit: u64, remaining: u64, reset_ms: u64) -> Announced {
        Announced {
            counted,
            scope: 0,
            limit,
            remaining: Some(remaining),
            reset: Some(Reset {
                after: Duration::from_millis(reset_ms),
                grain: Duration::from_millis(1),
            }),
            window: None,
        }
    }

    fn requests(limit: u64, remaining: u64, reset_ms: u64) -> Announced {
        said(Counted::Requests, limit, remaining, reset_ms)
    }

    /// How many `cost`s are admitted from `from` to `to`, each as soon as it may.
    fn admitted(limits: &mut FollowedLimits, cost: Cost, from: Nanos, to: Nanos) -> u64 {
        let mut now = from;
        for count in 0.. {
            now = limits.earliest(cost, now).map(|(at, _)| at).max().unwrap();
            if now >= to || count == 100_000 {
                return count;
            }
            limits.take(cost, now);
            limits.release(cost, cost, now);
        }
        0
    }

    fn window(answers: &[(Nanos, Announced)]) -> u64 {
        let mut limits = FollowedLimits::default();
        for (at, announced) in answers {
            limits.note(announced, *at, 0, *at);
        }
        limits.0[0].window.length.as_secs()
    }

    #[test]
    fn two_a_second_are_not_taken_for_two_a_minute() {
        let one_used = requests(2, 1, 900);
        assert_eq!(window(&[(0, one_used), (31 * S, one_used)]), 1);
        // Of a minute one has nearly come back when the answer to it takes half of it.
        let mut slow = FollowedLimits::default();
        for at in [0, 31 * S] {
            slow.note(&one_used, at, 0, at + 29_500_000_000);
        }
        assert_eq!(slow.0[0].window.length, MINUTE);
    }

    #[test]
    fn requests_are_spread_over_the_window_with_some_to_spare() {
        let mut limits = FollowedLimits::default();
        limits.note(&requests(600, 599, 100), 0, 0, 0);
        let a_minute = admitted(&mut limits, Cost::ONE, 0, 60 * S);
        assert!((582..=583).contains(&a_minute), "{a_minute}");
        assert_eq!(
            admitted(&mut limits, Cost::ONE, 600 * S, 600 * S + 100_000_000),
            1,
            "no burst"
        );
    }

    #[test]
    fn a_limit_that_falls_and_comes_back_is_followed_and_an_old_answer_is_not() {
        let mut limits = FollowedLimits::default();
        let in_ten_seconds =
            |limits: &mut _, from| admitted(limits, Cost::ONE, from, from + 10 * S);
        limits.note(&requests(6_000, 5_999, 10), 0, 0, 0);
        assert_eq!(in_ten_seconds(&mut limits, 0), 970);
        limits.note(&requests(600, 599, 100), 20 * S, 0, 20 * S);
        assert_eq!(in_ten_seconds(&mut limits, 20 * S), 97);
        // It was sent before the limit fell, and took its time.
        limits.note(&requests(6_000, 5_999, 10), 10 * S, 0, 30 * S);
        assert_eq!(in_ten_seconds(&mut limits, 30 * S), 97);
        assert!(limits.note(&requests(6_000, 5_999, 10), 40 * S, 0, 40 * S));
        assert_eq!(in_ten_seconds(&mut limits, 40 * S), 970);
    }

    #[test]
    fn a_window_of_seconds_is_found() {
        for (what, answers, expected) in [
            (
                "a second",
                vec![
                    (0, requests(10, 3, 1_000)),
                    (2 * S, requests(10, 9, 1_000)),
                    (4 * S, requests(10, 9, 1_000)),
                ],
                1,
            ),
            (
                "a second, of which little is used",
                (0..9)
                    .map(|n| (n * 12 * S, requests(5, 3 + n.min(1), 1_000)))
                    .collect(),
                1,
            ),
            (
                "ten seconds",
                (0..20)
                    .map(|n| {
                        (
                            n * S,
                            requests(100, 98 - 2 * (n % 10), 10_000 - 1_000 * (n % 10)),
                        )
                    })
                    .collect(),
                10,
            ),
        ] {
            assert_eq!(window(&answers), expected, "{what}");
        }
    }

    #[test]
    fn a_limit_that_only_a_refusal_names_is_forgotten_in_time() {
        let mut limits = FollowedLimits::default();
        let named = Announced {
            scope: NAMED,
            window: Some(MINUTE),
            ..said(Counted::Tokens, 30_000, 0, 0)
        };
        limits.note(&named, 0, 0, 0);
        limits.take(Cost::ONE, 599 * S);
        assert_eq!(limits.named(S), Some(Rate::per_minute(30_000)));
        let announced = limits.lowest(Counted::Tokens, S);
        assert_eq!(announced, None, "no header announces it");
        limits.take(Cost::ONE, 600 * S);
        assert_eq!(limits.named(600 * S), None);
    }

    #[test]
    fn a_limit_of_a_day_is_never_told_as_one_of_a_minute() {
        let mut limits = FollowedLimits::default();
        let mut told = |used: u64, reset_ms| {
            let at = used * S;
            limits.note(&requests(14_400, 14_400 - used, reset_ms), at, 0, at);
            let told = limits.lowest(Counted::Requests, at);
            told.map(|(rate, _)| rate.period())
        };
        assert_eq!(told(1, 6_000), None, "not yet known");
        assert_eq!(told(2, 11_500), None, "not yet known");
        assert_eq!(told(5, 29_500), Some(Duration::from_secs(86_400)));
        let mut limits = FollowedLimits::default();
        limits.note(&requests(14_400, 14_399, 40_000), 0, 0, 0);
        let told = limits.lowest(Counted::Requests, 0);
        assert_eq!(
            told,
            Some((Rate::per_minute(14_400), true)),
            "it fits no day"
        );
    }

    #[test]
    fn tokens_of_prompts_and_of_answers_bind_and_are_told_apart() {
        let mut limits = FollowedLimits::default();
        limits.note(&said(Counted::InputTokens, 60_000, 100, 0), 0, 0, 0);
        limits.note(&said(Counted::OutputTokens, 6_000, 6_000, 0), 0, 0, 0);
        let told = |counted| limits.lowest(counted, 0).map(|(rate, _)| rate);
        assert_eq!(told(Counted::Tokens), None);
        let input = told(Counted::InputTokens);
        assert_eq!(input, Some(Rate::per_minute(60_000)));
        let output = told(Counted::OutputTokens);
        assert_eq!(output, Some(Rate::per_minute(6_000)));
        let mut binding = |cost| {
            let latest = limits.earliest(cost, 0).max_by_key(|(at, _)| *at);
            latest.map(|(_, binding)| binding)
        };
        assert_eq!(binding(Cost::tokens(2_000)), Some(Binding::InputTokens));
        let mut answers = Cost::tokens(9_000);
        answers.output = 9_000;
        assert_eq!(binding(answers), Some(Binding::OutputTokens));
    }

    #[test]
    fn a_day_of_which_something_is_left_does_not_bind() {
        let mut limits = FollowedLimits::default();
        let mut note = |scope, limit, remaining, window: u64| {
            let announced = Announced {
                scope,
                window: Some(Duration::from_secs(window)),
                ..requests(limit, remaining, 1_000)
            };
            limits.note(&announced, 0, 0, 0);
            limits.lowest(Counted::Requests, 0)
        };
        let day = Rate::new(1_000, Duration::from_secs(86_400));
        assert_eq!(note(1, 1_000, 900, 86_400), Some((day, false)));
        let minute = Some((Rate::per_minute(30), true));
        assert_eq!(note(2, 30, 20, 60), minute, "though the day's is lower");
        assert_eq!(note(1, 1_000, 0, 86_400), Some((day, true)));
    }

    #[test]
    fn a_pause_does_not_use_up_what_is_left_of_a_day() {
        let mut limits = FollowedLimits::default();
        limits.note(&requests(1_000, 900, 8_640_000), 0, 0, 0);
        assert!(!limits.spreads_requests());
        limits.hold(2 * S, 0);
        let (at, _) = limits.earliest(Cost::ONE, 2 * S).next().unwrap();
        assert_eq!(at, 2 * S);
    }

    #[test]
    fn the_window_is_the_one_that_fits_else_a_minute() {
        let day = |used: u64| requests(14_400, 14_400 - used, used * 6_000);
        for (what, answers, expected) in [
            ("nothing used", vec![(0, requests(600, 600, 0))], 60),
            (
                "a minute that refills",
                vec![(0, requests(600, 500, 10_000))],
                60,
            ),
            (
                "a fixed minute",
                vec![
                    (0, requests(600, 599, 59_000)),
                    (S, requests(600, 500, 58_000)),
                ],
                60,
            ),
            ("Groq's day", vec![(0, day(1)), (S, day(30))], 86_400),
            (
                "Groq's day, full again within a minute",
                vec![(0, day(1)), (S, day(2)), (2 * S, day(5))],
                86_400,
            ),
            (
                "a fixed minute that fits a day now and then",
                (0..40)
                    .map(|n| (n * S, requests(14_400, 14_400 - n, (60 - n) * 1_000)))
                    .chain((60..100).map(|n| {
                        let used = n - 60;
                        (n * S, requests(14_400, 14_400 - used, (120 - n) * 1_000))
                    }))
                    .collect(),
                60,
            ),
            (
                "a day of few",
                vec![(0, requests(50, 49, 30_000_000))],
                86_400,
            ),
            (
                "an hour that refills",
                vec![(0, requests(3_600, 3_500, 100_000))],
                3_600,
            ),
            (
                "a month",
                vec![(0, requests(9, 8, 600_000_000))],
                31 * 86_400,
            ),
            (
                "the last second of a minute",
                vec![
                    (0, requests(600, 100, 900)),
                    (S, requests(600, 590, 59_900)),
                ],
                60,
            ),
            (
                "a minute that refills, and fractions are not told",
                (0..20).map(|n| (n * S, requests(600, 598, 133))).collect(),
                60,
            ),
            (
                "a minute that slides",
                (0..20).map(|n| (n * S, requests(100, 3, 500))).collect(),
                60,
            ),
            (
                "refusals, which say that nothing remains",
                vec![
                    (0, requests(600, 0, 100)),
                    (2 * S, requests(600, 0, 100)),
                    (4 * S, requests(600, 0, 100)),
                ],
                60,
            ),
            (
                "it is named",
                vec![(
                    0,
                    Announced {
                        window: Some(Duration::from_secs(10)),
                        ..requests(10, 0, 9_000)
                    },
                )],
                10,
            ),
        ] {
            assert_eq!(window(&answers), expected, "{what}");
        }
    }

    #[test]
    fn a_long_window_is_a_budget_and_not_spread() {
        let mut limits = FollowedLimits::default();
        limits.note(&requests(1_000, 400, 40_000_000), 0, 0, 0);
        assert_eq!(admitted(&mut limits, Cost::ONE, 0, S), 400);
    }

    #[test]
    fn what_is_left_of_the_tokens_is_corrected_to_what_the_server_says() {
        let tokens = |remaining| said(Counted::Tokens, 60_000, remaining, 0);
        let mut limits = FollowedLimits::default();
        limits.note(&tokens(50_000), 0, 0, 0);
        let at_once = |limits: &mut FollowedLimits| {
            let mut count = 0;
            while limits
                .earliest(Cost::tokens(1_000), 0)
                .all(|(at, _)| at == 0)
            {
                limits.take(Cost::tokens(1_000), 0);
                count += 1;
            }
            count
        };
        assert_eq!(at_once(&mut limits), 50);
        // All of them under way: what the server has left may be theirs.
        assert!(!limits.note(&tokens(49_000), 1, 0, 1));
        // Ten have taken nothing of it, whatever they seem to have used here.
        for _ in 0..10 {
            limits.release(Cost::tokens(1_000), Cost::tokens(1_000), 1);
        }
        assert!(limits.note(&tokens(49_000), 2, 0, 2));
        assert_eq!(limits.0[0].bucket.earliest(9_000, 2), 2);
        // Somebody else has taken the rest.
        limits.note(&tokens(1_000), 3, 0, 3);
        assert!(limits.0[0].bucket.earliest(1_001, 3) > 3);
    }

    #[test]
    fn tokens_of_prompts_and_of_answers_are_limited_apart() {
        let mut limits = FollowedLimits::default();
        limits.note(&said(Counted::InputTokens, 60_000, 60_000, 0), 0, 0, 0);
        limits.note(&said(Counted::OutputTokens, 6_000, 6_000, 0), 0, 0, 0);
        // Of 1,000 tokens 900 are read and 100 written: of answers 60 are left, of prompts 66.
        let cost = Cost::tokens(1_000).with_output(100);
        assert_eq!(admitted(&mut limits, cost, 0, S), 60);
        let read_only = Cost::tokens(900);
        let waits: Vec<bool> = limits
            .earliest(read_only, S)
            .map(|(at, _)| at > S)
            .collect();
        assert_eq!(waits, [false, false]);
    }

    #[test]
    fn what_is_used_is_settled_for_prompts_and_for_answers_apart() {
        let mut limits = FollowedLimits::default();
        limits.note(&said(Counted::InputTokens, 600, 600, 0), 0, 0, 0);
        limits.note(&said(Counted::OutputTokens, 600, 600, 0), 0, 0, 0);
        let room = |limits: &mut FollowedLimits| {
            [0, 1].map(|at| limits.0[at].bucket.earliest(500, 0) == 0)
        };
        // All that is allowed of the answer counts until it is there.
        let reserved = Cost::tokens(150).with_output(50).with_held(400);
        limits.take(reserved, 0);
        assert_eq!(room(&mut limits), [true, false]);
        limits.release(reserved, Cost::tokens(500).with_output(10), 0);
        assert_eq!(room(&mut limits), [false, true]);
        // Where nothing is said of it, the prompt is as long as was estimated.
        assert_eq!(reserved.with_used(160), Cost::tokens(160).with_output(60));
    }

    #[test]
    fn what_was_sent_before_a_limit_was_known_is_not_taken_from_it_again() {
        let mut limits = FollowedLimits::default();
        limits.note(&said(Counted::Tokens, 600, 500, 0), 0, 0, 0);
        limits.release(Cost::ONE, Cost::tokens(5_000), 0);
        limits.release(Cost::tokens(50), Cost::tokens(5_000), 0);
        assert_eq!(limits.0[0].bucket.earliest(500, 0), 0);
        // What was reserved is settled.
        limits.take(Cost::tokens(500), 0);
        limits.release(Cost::tokens(500), Cost::tokens(100), 0);
        assert_eq!(limits.0[0].bucket.earliest(400, 0), 0);
    }

    #[test]
    fn a_server_that_invents_limits_is_not_followed_for_ever() {
        let mut limits = FollowedLimits::default();
        for scope in 0..1_000 {
            let invented = Announced {
                scope,
                ..requests(u64::MAX / (scope + 1), 1, 1)
            };
            limits.note(&invented, 0, 0, 0);
            let invented = Announced {
                scope,
                ..requests(9, 1, 1)
            };
            limits.note(&invented, 0, 0, 0);
        }
        assert_eq!(limits.0.len(), MOST);
    }

    #[test]
    fn nothing_is_admitted_in_a_pause_and_no_burst_after_it() {
        let mut limits = FollowedLimits::default();
        limits.note(&said(Counted::Tokens, 60_000, 60_000, 0), 0, 5 * S, 0);
        limits.note(&said(Counted::Tokens, 60_000, 60_000, 0), 1, 5 * S, 1);
        assert!(
            limits
                .earliest(Cost::tokens(1), S)
                .all(|(at, _)| at > 5 * S)
        );
        assert!(
            limits
                .earliest(Cost::tokens(970), S)
                .all(|(at, _)| at == 6 * S)
        );
        limits.hold(9 * S, S);
        assert!(
            limits
                .earliest(Cost::tokens(1), S)
                .all(|(at, _)| at > 9 * S)
        );
    }
}
