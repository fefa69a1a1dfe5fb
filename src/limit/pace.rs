//! The rate of requests that refusals tell, where nothing else does.
//!
//! What is sent and not refused is let in, and it is counted. A limit that is used up lets in what
//! it refills: between two cascades of refusals that is its rate, whether it refills all the time
//! or at the end of a window. So a cascade sets the rate a little below what was let in since the
//! one before, up to the end of the pause that it makes. From there the rate grows, as
//! [`LearnedRate`] says.
//!
//! A refusal among many answers is *stray*: it holds its own request alone, and sets no rate.

use std::collections::VecDeque;
use std::time::Duration;

use super::bucket::Nanos;
use super::learned_rate::{LearnedRate, LetIn, SECOND, SHORT};
use super::recent::{Chance, RecentAnswers};

/// A cascade is so many refusals, and this share of the last requests: those of a second, or so
/// many. One that tells the first rate is either larger or denser: at a start there is much chance.
const CASCADE: (u32, f64) = (5, 0.1);
const LARGE: u32 = 14;
const DENSE: f64 = 0.25;
const LAST_REQUESTS: u32 = 20;
/// A rate that was cut in vain is not what the refusals come from: cutting it further would slow
/// the run down for nothing. It is forgotten, and none is learned for so long.
const BLIND_FOR: Nanos = 30 * SECOND;
/// For so long the waits that the server asks for are obeyed to the letter, though nothing is let
/// in: a server that counts what it refuses lets nothing in if it is asked as often as it says.
const HINTS_OBEYED_FOR: Nanos = SECOND;
/// The pause after a refusal that asks for none: it doubles until something is let in.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// So much of a pause may have been for nothing: servers say whole seconds.
const ROUNDED: Nanos = SECOND;
/// After so long without a request, or three times what one takes, what was let in tells no rate.
const IDLE: Nanos = SECOND;

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A refusal that concerns nobody else.
    Stray,
    /// As many are in flight as the server takes: this one goes as soon as one of them is done.
    Full,
    /// A refusal that holds everyone: for so long, unless the server said so itself.
    Held(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    answers: RecentAnswers,
    sent: Sent,
    /// Refusals since one was let in that was sent after the first of them: when that was sent, and
    /// how many.
    run: Option<(Nanos, u32)>,
    hold: Option<Hold>,
    /// Whether the last one that is over was for a few refusals among others, and no cascade.
    was_for_few: bool,
    /// When the last one ends. It may be over before, by an answer to what was sent before its
    /// refusal.
    held_until: Nanos,
    learned: Option<LearnedRate>,
    /// When it last changed: answers to what was sent before say nothing new.
    changed: Option<Nanos>,
    /// Until when no rate is learned.
    blind_until: Nanos,
    /// Refusals of what was sent until then are no cascade.
    void_until: Nanos,
}

/// From a refusal that holds everyone until something is let in that was sent after it.
#[derive(Clone, Copy, Debug)]
struct Hold {
    since: Nanos,
    until: Nanos,
    /// How much of that may be for nothing.
    idle: Nanos,
    is_cascade: bool,
    /// When the first request after its last pause was sent.
    first: Option<Nanos>,
    /// Whether the first after a pause was refused as well.
    is_in_vain: bool,
    /// What was tried was too much: that lowers the rate, unless it is a window that is used up.
    is_taken_back: bool,
    /// The rate when it began.
    before: Option<LearnedRate>,
}

impl Pace {
    /// A limit is known from now on: what was sent before was sent without regard to it.
    pub(super) fn start_over(&mut self, now: Nanos) {
        self.learned = None;
        self.void_until = now;
    }

    /// What was sent before `now` says nothing of the rate.
    pub(super) fn ignore_before(&mut self, now: Nanos) {
        self.changed = Some(now);
    }

    /// The rate to keep to, in requests a second.
    pub(super) fn rate(&self) -> Option<f64> {
        self.learned.map(|rate| rate.now())
    }

    /// Whether the last refusals that held everyone were few, and are over.
    pub(super) fn has_held_for_few(&self) -> bool {
        self.was_for_few && self.hold.is_none()
    }

    /// Whether the last pause was too short.
    pub(super) fn has_paused_in_vain(&self) -> bool {
        self.hold.is_some_and(|hold| hold.is_in_vain)
    }

    /// Whether nothing has been let in for so long.
    pub(super) fn has_held_for(&self, long: Nanos, now: Nanos) -> bool {
        self.hold.is_some_and(|hold| now - hold.since >= long)
    }

    /// Takes note of a request that is sent.
    pub(super) fn sent(&mut self, now: Nanos) {
        let held_until = self.held_until;
        let each = self.rate().map_or(0.0, |rate| SECOND as f64 / rate);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let idle = IDLE.max((3.0 * each) as Nanos);
        if now.saturating_sub(self.sent.last.max(held_until)) > idle {
            self.sent = Sent::default();
        }
        let is_first = self.sent.last < held_until && held_until <= now;
        self.sent.add(now, is_first);
        if is_first && let Some(hold) = &mut self.hold {
            hold.first = Some(now);
        }
        if let Some(rate) = &mut self.learned {
            rate.sent();
        }
    }

    /// Takes note of an answer to what was sent at `sent`, which is no refusal.
    pub(super) fn admitted(&mut self, sent: Nanos, now: Nanos) {
        self.answers.note(false, now);
        self.note_chance(false);
        self.run.take_if(|(first, _)| sent > *first);
        if let Some(hold) = self.hold.filter(|hold| sent > hold.since) {
            self.hold = None;
            self.was_for_few = !hold.is_cascade && self.answers.are_few_refused();
            self.answers.forgive();
            self.sent.idle += hold.idle;
            if hold.is_cascade {
                self.sent.forget_before(hold.until);
            }
        }
        if self.is_news(sent)
            && let Some(rate) = &mut self.learned
        {
            rate.admitted(now);
        }
    }

    /// Takes note of a refusal of what was sent at `sent`, which asks for a wait or does not.
    pub(super) fn refused(
        &mut self,
        sent: Nanos,
        in_flight: usize,
        hint: Option<Duration>,
        now: Nanos,
    ) -> Heard {
        self.answers.note(true, now);
        self.sent.refused(sent);
        let is_news = self.is_news(sent);
        let run = self.run.get_or_insert((sent, 0));
        *run = (run.0.min(sent), run.1 + 1);
        // Nearly all of them is no chance, however much was let in before.
        let is_void = self.void_until > 0 && sent <= self.void_until;
        let is_all =
            !is_void && run.1 >= CASCADE.0 && 10 * run.1 >= 9 * self.sent.between(run.0, sent);
        let is_stray = !is_all && self.answers.is_stray(in_flight);
        if is_stray {
            self.note_chance(true);
        }
        let chance = self.answers.chance();
        let before = self.learned;
        let mut is_taken_back = false;
        // Refusals lower the rate once until something is let in. Where another process takes all
        // there is, it would fall to nothing otherwise.
        let is_heard = !is_stray && self.hold.is_some();
        if is_news
            && !is_heard
            && let Some(rate) = &mut self.learned
        {
            let was = rate.now();
            let wait = nanos(hint.unwrap_or(FIRST_PAUSE));
            let let_in = self
                .sent
                .let_in(now, now.saturating_add(wait), wait.min(ROUNDED));
            is_taken_back = rate.refused(is_stray, let_in, now);
            if rate.now() < was {
                self.changed = Some(now);
            }
            self.forget_if_in_vain(now);
        }
        if is_stray {
            return Heard::Stray;
        }
        let hold = self.hold.get_or_insert(Hold {
            since: now,
            until: now,
            idle: 0,
            is_cascade: false,
            first: None,
            is_in_vain: false,
            is_taken_back: false,
            before,
        });
        // On its way with the one that came first, whose pause holds everyone already.
        let is_late = now < hold.until && sent <= hold.since;
        // As long again as nothing was let in.
        let own = Duration::from_nanos(now - hold.since).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let pause = match hint {
            _ if is_late => Duration::ZERO,
            Some(hint) if now - hold.since < HINTS_OBEYED_FOR => hint,
            hint => hint.unwrap_or_default().max(own),
        };
        let end = now.saturating_add(nanos(pause));
        let end = hold.until.max(end);
        if !is_late {
            hold.is_in_vain = hold.first.take() == Some(sent);
            hold.idle = if hint == Some(pause) {
                (end - now).min(ROUNDED)
            } else {
                end - now
            };
        }
        hold.until = end;
        self.held_until = end;
        hold.is_cascade |=
            !is_void && (is_all || self.sent.is_cascade(hold.before.is_none(), chance));
        hold.is_taken_back |= is_taken_back;
        let hold = *hold;
        // What others take meanwhile is no limit of the server.
        let is_told = hint.is_some() && hold.is_in_vain && now - hold.since > SHORT;
        let is_enough = is_told || hold.is_taken_back && hold.until - hold.since <= SHORT;
        if hold.is_cascade && !is_enough && now >= self.blind_until && !is_void {
            self.cut(hold, now);
        }
        Heard::Held(pause)
    }

    /// The refusals since something was last let in are those of a server that is down for all, and
    /// tell no rate.
    pub(super) fn outage(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.is_cascade = false;
            self.learned = hold.before;
        }
    }

    fn note_chance(&mut self, refused: bool) {
        if self.learned.is_none_or(|rate| rate.is_lowest()) {
            self.answers.note_chance(refused);
        }
    }

    fn is_news(&self, sent: Nanos) -> bool {
        self.changed.is_none_or(|changed| sent > changed)
    }

    /// Sets the rate to what was let in until the end of the hold.
    fn cut(&mut self, hold: Hold, now: Nanos) {
        let Some(let_in) = self.sent.let_in(hold.since, hold.until, hold.idle) else {
            return;
        };
        let cut = LearnedRate::of(let_in, hold.before.as_ref(), hold.until);
        self.changed = Some(hold.until);
        self.learned = cut.or(self.learned);
        self.forget_if_in_vain(now);
    }

    fn forget_if_in_vain(&mut self, now: Nanos) {
        if self.learned.is_some_and(|rate| rate.is_cut_in_vain()) {
            self.learned = None;
            self.blind_until = now + BLIND_FOR;
            self.hold = None;
        }
    }
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What was sent since the last cascade, by quarters of a second.
#[derive(Debug, Default)]
struct Sent {
    /// When the first of each was sent, how many were, and how many of them were refused.
    quarters: VecDeque<(Nanos, u32, u32)>,
    last: Nanos,
    /// When the latest were sent.
    latest: VecDeque<Nanos>,
    /// What was let in before those.
    earlier: u64,
    first: Option<Nanos>,
    /// How much of the pauses since then may have been for nothing.
    idle: Nanos,
}

const MOST_LATEST: usize = 128;
const QUARTER: Nanos = SECOND / 4;
/// So many are kept apart: later refusals than after half a minute find their request among the
/// earlier.
const MOST_QUARTERS: usize = 120;

impl Sent {
    /// `is_first` after a hold, which ends what was before.
    fn add(&mut self, now: Nanos, is_first: bool) {
        self.first.get_or_insert(now);
        self.last = now;
        if self.latest.len() == MOST_LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
        match self.quarters.back_mut() {
            Some(it) if !is_first && now < it.0 + QUARTER => it.1 += 1,
            _ => self.quarters.push_back((now, 1, 0)),
        }
        if self.quarters.len() > MOST_QUARTERS
            && let Some((_, sent, refused)) = self.quarters.pop_front()
        {
            self.earlier += u64::from(sent - refused);
        }
    }

    fn refused(&mut self, sent: Nanos) {
        let at = self.quarters.partition_point(|it| it.0 <= sent);
        if let Some(it) = at.checked_sub(1).and_then(|at| self.quarters.get_mut(at)) {
            it.2 = (it.2 + 1).min(it.1);
        }
    }

    /// How many were sent from `first` to `last`, as far as that is known.
    fn between(&self, first: Nanos, last: Nanos) -> u32 {
        let before = self.latest.partition_point(|at| *at < first);
        let between = self.latest.partition_point(|at| *at <= last) - before;
        u32::try_from(between).unwrap_or(u32::MAX)
    }

    fn forget_before(&mut self, start: Nanos) {
        self.quarters.retain(|it| it.0 >= start);
        self.earlier = 0;
        self.idle = 0;
        self.first = Some(start);
    }

    /// Of a hold from `since` to `until`, of which so much may be for nothing.
    fn let_in(&self, since: Nanos, until: Nanos, idle: Nanos) -> Option<LetIn> {
        let kept: u64 = self.quarters.iter().map(|it| u64::from(it.1 - it.2)).sum();
        Some(LetIn {
            requests: (self.earlier + kept) as f64,
            span: until.saturating_sub(self.first?),
            held: until.saturating_sub(since),
            idle: self.idle + idle,
        })
    }

    /// Whether so many of the last were refused that the limit must have been used up.
    fn is_cascade(&self, is_first: bool, chance: Chance) -> bool {
        let (mut sent, mut refused) = (0, 0);
        for it in self.quarters.iter().rev() {
            if sent >= LAST_REQUESTS && it.0 + SECOND < self.last {
                break;
            }
            sent += it.1;
            refused += it.2;
        }
        let share = f64::from(refused) / f64::from(sent.max(1));
        let is_chance = chance.explains(refused.into(), sent.into());
        let is_cascade = refused >= CASCADE.0 && share >= CASCADE.1 && !is_chance;
        is_cascade && (!is_first || refused >= LARGE || share >= DENSE)
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times within minutes"
    )]

    use super::*;

    #[test]
    fn stray_refusals_hold_nobody_and_set_no_rate() {
        let mut pace = Pace::default();
        let mut held = 0;
        for n in 0..10_000 {
            let now = n * SECOND / 600;
            pace.sent(now);
            if n % 20 == 19 {
                let hint = Some(Duration::from_secs(1));
                held += u64::from(pace.refused(now, 1, hint, now) != Heard::Stray);
            } else {
                pace.admitted(now, now);
            }
        }
        assert_eq!((held, pace.rate()), (0, None));
    }

    #[test]
    fn a_window_that_is_used_up_tells_what_a_minute_lets_in() {
        let mut pace = Pace::default();
        for n in 0..3_000 {
            let now = n * SECOND / 600;
            pace.sent(now);
            pace.admitted(now, now);
        }
        let hint = Some(Duration::from_secs(55));
        for n in 0..200 {
            let now = 5 * SECOND + n * SECOND / 600;
            pace.sent(now);
            pace.refused(now, 1, hint, now);
        }
        let rate = pace.rate().unwrap();
        assert!((45.0..=50.0).contains(&rate), "{rate}");
        pace.admitted(61 * SECOND, 61 * SECOND);
        let rate = pace.rate().unwrap();
        assert!((45.0..=50.0).contains(&rate), "{rate}");
    }

    #[test]
    fn nothing_but_refusals_is_no_chance_though_much_was_let_in_before() {
        let mut pace = Pace::default();
        let hint = Some(Duration::from_secs(59));
        for n in 0..126 {
            let now = n * SECOND / 600;
            pace.sent(now);
            if n < 120 {
                pace.admitted(now, now);
            } else {
                pace.refused(now, 20, hint, now);
            }
        }
        let rate = pace.rate().unwrap();
        assert!((1.8..2.1).contains(&rate), "{rate}");
    }

    #[test]
    fn a_second_request_that_is_refused_after_each_pause_tells_a_rate() {
        let mut pace = Pace::default();
        let mut now = 0;
        for _ in 0..20 {
            let first = now;
            pace.sent(first);
            now += SECOND / 64;
            pace.sent(now);
            let refused = pace.refused(now, 2, Some(Duration::from_secs(1)), now);
            assert!(matches!(refused, Heard::Held(_)), "{refused:?}");
            pace.admitted(first, first + SECOND / 10);
            now += SECOND + SECOND / 64;
        }
        assert!(pace.rate().is_some());
    }

    #[test]
    fn what_is_refused_while_others_take_all_lowers_the_rate_once() {
        let mut pace = Pace::default();
        let hint = Some(Duration::from_millis(500));
        for _ in 0..64 {
            pace.sent(0);
        }
        for in_flight in (1..=64).rev() {
            pace.refused(0, in_flight, hint, 0);
        }
        let before = pace.rate().unwrap();
        for n in 1..20 {
            let now = 10 * n * SECOND;
            pace.sent(now);
            pace.refused(now, 1, hint, now);
        }
        let after = pace.rate().unwrap();
        assert!((0.5 * before..=before).contains(&after), "{before} {after}");
    }

    #[test]
    fn what_others_take_meanwhile_lowers_no_rate() {
        let mut pace = Pace::default();
        let hint = Some(Duration::from_millis(500));
        for n in 0..100 {
            let now = n * SECOND / 10;
            pace.sent(now);
            pace.admitted(now, now);
        }
        let mut now = 10 * SECOND;
        for _ in 0..20 {
            pace.sent(now);
            pace.refused(now, 1, hint, now);
        }
        let before = pace.rate().unwrap();
        for _ in 0..20 {
            now += SECOND / 2;
            pace.sent(now);
            if let Heard::Held(pause) = pace.refused(now, 1, hint, now) {
                now += nanos(pause);
            }
        }
        let after = pace.rate().unwrap();
        assert!((0.7 * before..=before).contains(&after), "{before} {after}");
    }

    #[test]
    fn a_pause_is_in_vain_if_the_first_request_after_it_is_refused() {
        let hint = Some(Duration::from_secs(1));
        for refused in [0, 1] {
            let mut pace = Pace::default();
            pace.sent(0);
            pace.refused(0, 1, hint, 0);
            assert!(!pace.has_paused_in_vain());
            let after = [SECOND, SECOND + SECOND / 50];
            for sent in after {
                pace.sent(sent);
            }
            pace.refused(after[refused], 2, hint, 2 * SECOND);
            assert_eq!(pace.has_paused_in_vain(), refused == 0, "{refused}");
        }
    }

    #[test]
    fn pauses_that_nobody_asked_for_double_until_something_is_admitted() {
        let mut pace = Pace::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for hint in [None; 8] {
            let Heard::Held(pause) = pace.refused(now, 1, hint, now) else {
                panic!("nothing was admitted")
            };
            pauses.push(pause.as_millis());
            now += pause.as_nanos() as Nanos + 1;
        }
        assert_eq!(pauses, [250, 250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
        pace.admitted(now, now);
        let again = pace.refused(now + 1, 1, None, now + 1);
        assert_eq!(again, Heard::Held(FIRST_PAUSE));
        // What was on its way says nothing new.
        assert_eq!(
            pace.refused(now, 1, None, now + 2),
            Heard::Held(Duration::ZERO)
        );
        // A short wait is obeyed, but not for ever.
        let hint = Some(Duration::from_millis(20));
        let pauses = [0; 4].map(|_| {
            now += SECOND / 2;
            pace.refused(now, 1, hint, now)
        });
        let ms = |ms| Heard::Held(Duration::from_millis(ms));
        let longer = |heard| matches!(heard, Heard::Held(pause) if pause.as_millis() >= 1_000);
        assert_eq!(pauses[0], ms(20));
        assert!(longer(pauses[2]) && longer(pauses[3]), "{pauses:?}");
    }

    #[test]
    fn a_rate_is_forgotten_if_no_cut_of_it_ends_the_refusals() {
        let mut pace = Pace::default();
        let (mut now, mut lowest) = (SECOND, f64::MAX);
        for request in 0..10_000_u32 {
            // As fast as the rate allows, and half are refused whatever it is.
            let each = pace
                .rate()
                .map_or(0, |rate| (SECOND as f64 / rate) as Nanos);
            let sent = now + each.max(SECOND / 1_000);
            now = sent + SECOND / 1_000;
            pace.sent(sent);
            if request % 2 == 0 {
                pace.refused(sent, 1, None, now);
            } else {
                pace.admitted(sent, now);
            }
            lowest = lowest.min(pace.rate().unwrap_or(f64::MAX));
        }
        assert!(lowest < 300.0, "it is cut at first: {lowest}");
        assert!(now < 300 * SECOND, "{} s", now / SECOND);
    }
}
