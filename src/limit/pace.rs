//! The rate of requests that refusals tell, where nothing else does.
//!
//! What a server admits is counted. When it refuses more than a few, the rate of what it had admitted
//! is its limit, or close: the rate is cut below that, once for all that were on their way, and grows
//! back to just below it. From there it is tried seldom whether more is possible, and less and less often
//! where it is not.
//!
//! A limit that refills all the time admits again within a second or so. Then the last admissions before
//! the refusal tell its rate. A window that is used up admits nothing until it ends. Then it is what was
//! admitted in a minute.
//!
//! A refusal among many admissions is *stray*: it says nothing about the rate.

use std::collections::VecDeque;
use std::time::Duration;

use super::bucket::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// So many admissions are needed before they tell a rate, and answers before one can be stray.
const ENOUGH: usize = 20;
/// Fewer than [`ENOUGH`] tell a rate if they took half a second, but no fewer than this. At most
/// [`LATEST`] are looked at.
const FEWEST: usize = 8;
const LATEST: usize = 32;
/// A bucket that refills holds for no longer than this and the time of two requests. A longer hold is
/// that of a window.
const WINDOW_HOLD: Nanos = 3 * SECOND;
/// The longest window that is looked at then, in seconds.
const WINDOW: u64 = 60;
/// Where the rate settles, as a share of the one that was refused.
const SETTLED: f64 = 0.95;
/// A cut goes to this share of the rate that was admitted, and lower for cuts in quick succession.
const CUT: f64 = 0.9;
const DEEPER: f64 = 0.1;
const DEEPEST: f64 = 0.5;
const IN_SUCCESSION: Nanos = 3 * SECOND;
/// Stray refusals lower a rate to no less than this share of what was admitted.
const LOWEST: f64 = 0.8;
/// The share of refusals among the latest answers that cuts the rate, and how many there must be: fewer
/// may be chance.
const MUCH: f64 = 0.15;
const MANY: u64 = 5;
/// How the rate grows back to the good one, in each second or few requests.
const REGROWTH: f64 = 1.05;
const FEW: f64 = 4.0;
/// By which share a higher rate is tried. After a try that was too much the next is a quarter as large,
/// after one that was not it is twice as large.
const SMALLEST_TRY: f64 = 0.01;
const LARGEST_TRY: f64 = 0.5;
const SMALL: f64 = 0.1;
/// The share of the rate that must be used to tell whether more is possible.
const BUSY: f64 = 0.7;
/// How long no higher rate is tried: at first, after a refusal, and at most.
const FIRST_WAIT: Nanos = 2 * SECOND;
const WAIT: Nanos = 10 * SECOND;
const LONGEST_WAIT: Nanos = 60 * SECOND;
/// For so long the waits that the server asks for are obeyed to the letter, though nothing is let in: a
/// server that counts what it refuses lets nothing in if it is asked as often as it says.
const OBEYED: Nanos = SECOND;
/// The pause after a refusal that asks for none: it doubles until something is admitted.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The request was let in, whatever became of it.
    LetIn,
    /// It was refused, and the server asks for a wait or does not.
    Refused(Option<Duration>),
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It was no refusal.
    Admitted,
    /// A refusal that concerns nobody else.
    Stray,
    /// A refusal that holds everyone: for so long, unless the server said so itself.
    Held(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    recent: Recent,
    /// When the last requests were sent that were admitted, and how many in each of the last seconds.
    latest: VecDeque<Nanos>,
    seconds: VecDeque<(u64, u64)>,
    first: Option<Nanos>,
    /// Answers to what was sent before say nothing new.
    changed: Option<Nanos>,
    /// Since when nothing that was sent later was admitted.
    held_since: Option<Nanos>,
    held_until: Nanos,
    /// Whether refusals were so many then that the limit must have been used up.
    is_used_up: bool,
    learned: Option<Rate>,
}

/// A rate that was learned, in requests a second.
#[derive(Clone, Copy, Debug)]
struct Rate {
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

impl Pace {
    /// The rate to keep to, in requests a second.
    pub(super) fn rate(&self) -> Option<f64> {
        self.learned.map(|rate| rate.now)
    }

    /// Takes note of an answer to what was sent at `sent`.
    pub(super) fn admitted(&mut self, sent: Nanos, now: Nanos) {
        self.recent.note(false, now);
        self.first.get_or_insert(sent);
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(sent);
        let second = sent / SECOND;
        match self.seconds.iter_mut().rev().find(|it| it.0 <= second) {
            Some(it) if it.0 == second => it.1 += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        while self
            .seconds
            .front()
            .is_some_and(|it| it.0 + 2 * WINDOW < second)
        {
            self.seconds.pop_front();
        }
        if let Some(since) = self.held_since.filter(|since| sent > *since) {
            self.held_since = None;
            if std::mem::take(&mut self.is_used_up) && sent - since > self.window_hold() {
                self.set_by_window(since, sent, now);
            }
        }
        if let Some(rate) = &mut self.learned {
            rate.grow(now);
        }
    }

    /// Takes note of a refusal of what was sent at `sent`, which asks for a wait or does not. As many
    /// others are in flight as `in_flight` says.
    pub(super) fn refused(
        &mut self,
        sent: Nanos,
        hint: Option<Duration>,
        in_flight: usize,
        now: Nanos,
    ) -> Heard {
        self.recent.note(true, now);
        self.recent.in_flight = in_flight as u64;
        let is_held = self.held_since.is_some();
        let stray = self.recent.is_stray() && !is_held;
        // On its way with the one that came first, whose pause holds everyone already.
        let is_late = is_held && now < self.held_until && !self.is_news(sent);
        let mut gave_up = false;
        if self.is_news(sent) {
            self.changed = Some(now);
            gave_up = self
                .learned
                .as_mut()
                .is_some_and(|rate| rate.lower(stray, now));
        }
        if gave_up {
            self.recent = Recent::default();
        }
        if stray {
            return Heard::Stray;
        }
        let since = *self.held_since.get_or_insert(now);
        // As long again as nothing was let in.
        let own = Duration::from_nanos(now - since).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let pause = match hint {
            _ if is_late => Duration::ZERO,
            Some(hint) if now - since < OBEYED => hint,
            hint => hint.unwrap_or_default().max(own),
        };
        let end = now.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        self.held_until = self.held_until.max(end);
        let is_first = !self.is_used_up;
        let is_long = self.held_until - since > self.window_hold();
        let is_much = self.recent.is_much(if is_long { 0.1 } else { MUCH });
        self.is_used_up |= gave_up || is_much;
        if self.is_used_up && is_long {
            self.set_by_window(since, self.held_until, now);
        } else if self.is_used_up && is_first && !gave_up {
            self.cut(now);
        }
        Heard::Held(pause)
    }

    /// A longer hold is the end of a window. After a pause a slow rate takes its time as well.
    fn window_hold(&self) -> Nanos {
        let each = self.learned.map_or(0.0, |rate| SECOND as f64 / rate.now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        WINDOW_HOLD.saturating_add(2 * each.min(LONGEST_WAIT as f64) as Nanos)
    }

    fn is_news(&self, sent: Nanos) -> bool {
        self.changed.is_none_or(|changed| sent > changed)
    }

    /// Cuts the rate below the one of the last admissions.
    fn cut(&mut self, now: Nanos) {
        let (Some(from), Some(to)) = (self.latest.front(), self.latest.back()) else {
            return;
        };
        let span = to.saturating_sub(*from);
        let few = self.latest.len() < ENOUGH;
        if self.latest.len() < FEWEST || span == 0 || (few && span < SECOND / 2) {
            return;
        }
        let admitted = (self.latest.len() - 1) as f64 * SECOND as f64 / span as f64;
        self.recent = Recent::default();
        match &mut self.learned {
            None => self.learned = Some(Rate::below(admitted, CUT, now)),
            Some(rate) => rate.cut(admitted, now),
        }
    }

    /// Sets the rate to the one of the window that was used up at `since` and ends at `end`.
    fn set_by_window(&mut self, since: Nanos, end: Nanos, now: Nanos) {
        let Some(first) = self.first else { return };
        let from = since.saturating_sub(WINDOW * SECOND) / SECOND;
        let counted = |it: &&(u64, u64)| (from..=since / SECOND).contains(&it.0);
        let counted = self.seconds.iter().filter(counted);
        let admitted: u64 = counted.map(|it| it.1).sum();
        if admitted < ENOUGH as u64 {
            return;
        }
        let span = end.saturating_sub(first).clamp(SECOND, WINDOW * SECOND);
        let admitted = admitted as f64 * SECOND as f64 / span as f64;
        let mut rate = Rate::below(admitted, SETTLED, now);
        rate.next_try = SMALLEST_TRY;
        rate.wait = match self.learned {
            Some(old) if (rate.good / old.good - 1.0).abs() < 0.1 => 2 * old.wait,
            _ => WAIT,
        };
        rate.wait = rate.wait.clamp(WAIT, LONGEST_WAIT);
        rate.trial = WINDOW * SECOND;
        rate.next = end.saturating_add(rate.wait);
        self.learned = Some(rate);
    }
}

impl Rate {
    /// `refused` was too much, or just what is possible.
    fn below(refused: f64, cut: f64, now: Nanos) -> Self {
        Self {
            now: refused * cut,
            good: refused * SETTLED,
            lowest: refused * LOWEST,
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

    /// Refusals that are not stray: what was tried was too much, or the limit has fallen.
    fn cut(&mut self, admitted: f64, now: Nanos) {
        if self.trying.is_some() {
            return self.give_up_trying(now);
        }
        let is_soon = now.saturating_sub(self.since) < IN_SUCCESSION;
        let cuts = if is_soon { self.cuts + 1 } else { 0 };
        let share = (CUT - DEEPER * f64::from(cuts)).max(DEEPEST);
        *self = Self {
            cuts,
            wait: WAIT,
            trial: self.trial,
            ..Self::below(admitted.min(self.now), share, now)
        };
    }

    /// A refusal: what was tried was too much, or the rate is still a little above the limit. Whether it
    /// was what was tried.
    fn lower(&mut self, is_stray: bool, now: Nanos) -> bool {
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
        let longer = if step < SMALL { 2 * self.wait } else { WAIT };
        self.wait = longer.clamp(WAIT, LONGEST_WAIT);
        self.restart(now, self.wait);
    }

    fn grow(&mut self, now: Nanos) {
        self.admitted += 1;
        if now < self.next {
            return;
        }
        // As fast as it may: else more would not be used, and nobody would know whether it is too much.
        let most = self.now * now.saturating_sub(self.since) as f64 / SECOND as f64;
        let is_busy = self.admitted as f64 >= BUSY * most;
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
                    self.lowest = admitted * LOWEST;
                    (2.0 * step).min(LARGEST_TRY)
                }
                None => self.next_try,
            };
            self.trying = Some(step);
            self.now = self.good * (1.0 + step);
        }
        // At a slow rate a second says nothing.
        let few = (FEW * SECOND as f64 / self.now.max(1e-3)).min(LONGEST_WAIT as f64);
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

/// The answers of the last second, and the last twenty. Only time counts in which answers came: after a
/// pause it would be the few that are refused at once.
#[derive(Debug, Default)]
struct Recent {
    /// By tenths of a second: which it is, answers, refusals.
    tenths: VecDeque<(u64, u32, u32)>,
    /// The last twenty, a bit each, the newest lowest.
    last: u32,
    count: u64,
    /// Those that are still to come. A refusal is there at once, an answer is not: at a start only
    /// refusals would have come.
    in_flight: u64,
}

impl Recent {
    fn note(&mut self, refused: bool, now: Nanos) {
        self.count += 1;
        self.last = (self.last << 1) | u32::from(refused);
        let tenth = now / (SECOND / 10);
        match self.tenths.back_mut() {
            Some(it) if it.0 >= tenth => {
                it.1 += 1;
                it.2 += u32::from(refused);
            }
            _ => self.tenths.push_back((tenth, 1, refused.into())),
        }
        if self.tenths.len() > 10 {
            self.tenths.pop_front();
        }
    }

    /// Whether fewer than one in ten of them is a refusal.
    fn is_stray(&self) -> bool {
        let (all, refused) = self.refused();
        all >= ENOUGH as u64 && 10 * refused < all
    }

    /// Whether so many are refusals that the rate is far from what is possible.
    fn is_much(&self, share: f64) -> bool {
        let (all, refused) = self.refused();
        refused >= MANY && refused as f64 >= share * all as f64
    }

    /// All of them and the refusals: of the last second or the last twenty, whichever is more.
    fn refused(&self) -> (u64, u64) {
        let of_second = self.tenths.iter().fold((0, 0), |(all, refused), it| {
            (all + u64::from(it.1), refused + u64::from(it.2))
        });
        let (all, refused) = if of_second.0 >= ENOUGH as u64 {
            of_second
        } else {
            let all = self.count.min(ENOUGH as u64);
            let mask = (1 << all) - 1;
            (all, u64::from((self.last & mask).count_ones()))
        };
        (all + self.in_flight, refused)
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times within minutes"
)]
mod tests {
    use super::*;

    /// A server that lets in a rate with a burst, and one that answers in a tenth of a second.
    struct Server {
        rate: f64,
        burst: f64,
        level: f64,
        at: Nanos,
    }

    impl Server {
        fn new(rate: f64, burst: f64) -> Self {
            Self {
                rate,
                burst,
                level: burst,
                at: 0,
            }
        }

        /// How long until the next is let in; `None` if this one is.
        fn wait(&mut self, now: Nanos) -> Option<Duration> {
            self.level += self.rate * (now - self.at) as f64 / SECOND as f64;
            self.level = self.level.min(self.burst);
            self.at = now;
            if self.level >= 1.0 {
                self.level -= 1.0;
                return None;
            }
            Some(Duration::from_secs_f64((1.0 - self.level) / self.rate))
        }
    }

    /// What came of a span of time.
    #[derive(Debug, Default)]
    struct Came {
        admitted: u64,
        refused: u64,
    }

    impl Came {
        fn share(&self) -> f64 {
            self.refused as f64 / (self.admitted + self.refused) as f64
        }
    }

    /// Sends from `now` to `end`, at the rate or, without one, at 640 a second.
    fn send(pace: &mut Pace, server: &mut Server, now: &mut Nanos, end: Nanos) -> Came {
        let mut came = Came::default();
        while *now < end {
            match server.wait(*now) {
                None => {
                    came.admitted += 1;
                    pace.admitted(*now, *now);
                }
                hint => {
                    came.refused += 1;
                    if let Heard::Held(pause) = pace.refused(*now, hint, 0, *now) {
                        *now += pause.as_nanos() as Nanos;
                    }
                }
            }
            *now += (SECOND as f64 / pace.rate().unwrap_or(640.0)) as Nanos;
        }
        came
    }

    #[test]
    fn a_rate_is_learned_from_refusals_and_kept_close_to_the_limit() {
        for (rate, burst) in [(2.0, 1.0), (50.0, 1.0), (50.0, 50.0), (500.0, 100.0)] {
            let (mut pace, mut server, mut now) = (Pace::default(), Server::new(rate, burst), 0);
            send(&mut pace, &mut server, &mut now, 30 * SECOND);
            let came = send(&mut pace, &mut server, &mut now, 150 * SECOND);
            assert!(came.share() < 0.05, "{rate}, {burst}: {came:?}");
            let admitted = came.admitted as f64 / 120.0;
            assert!(admitted >= 0.9 * rate, "{rate}, {burst}: {admitted}");
        }
    }

    #[test]
    fn a_limit_that_falls_and_comes_back_is_followed() {
        let (mut pace, mut server, mut now) = (Pace::default(), Server::new(50.0, 10.0), 0);
        send(&mut pace, &mut server, &mut now, 30 * SECOND);
        server.rate /= 3.0;
        send(&mut pace, &mut server, &mut now, 40 * SECOND);
        let came = send(&mut pace, &mut server, &mut now, 60 * SECOND);
        assert!(came.share() < 0.12 && came.admitted >= 230, "{came:?}");
        server.rate *= 3.0;
        send(&mut pace, &mut server, &mut now, 100 * SECOND);
        let came = send(&mut pace, &mut server, &mut now, 120 * SECOND);
        assert!(came.share() < 0.1 && came.admitted >= 900, "{came:?}");
    }

    #[test]
    fn stray_refusals_hold_nobody_and_set_no_rate() {
        let mut pace = Pace::default();
        let mut held = 0;
        for n in 0..10_000 {
            let now = n * SECOND / 600;
            if n % 20 == 19 {
                let hint = Some(Duration::from_secs(1));
                held += u64::from(pace.refused(now, hint, 60, now) != Heard::Stray);
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
            pace.admitted(now, now);
        }
        let hint = Some(Duration::from_secs(55));
        for n in 0..200 {
            let now = 5 * SECOND + n * SECOND / 600;
            pace.refused(now, hint, 0, now);
        }
        let rate = pace.rate().unwrap();
        assert!((45.0..=50.0).contains(&rate), "{rate}");
        pace.admitted(61 * SECOND, 61 * SECOND);
        let rate = pace.rate().unwrap();
        assert!((45.0..=50.0).contains(&rate), "{rate}");
    }

    #[test]
    fn pauses_that_nobody_asked_for_double_until_something_is_admitted() {
        let mut pace = Pace::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for hint in [None; 8] {
            let Heard::Held(pause) = pace.refused(now, hint, 0, now) else {
                panic!("nothing was admitted")
            };
            pauses.push(pause.as_millis());
            now += pause.as_nanos() as Nanos + 1;
        }
        assert_eq!(pauses, [250, 250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
        pace.admitted(now, now);
        let again = pace.refused(now + 1, None, 0, now + 1);
        assert_eq!(again, Heard::Held(FIRST_PAUSE));
        // What was on its way says nothing new.
        assert_eq!(
            pace.refused(now, None, 0, now + 2),
            Heard::Held(Duration::ZERO)
        );
        // A short wait is obeyed, but not for ever.
        let hint = Some(Duration::from_millis(20));
        let pauses = [0; 4].map(|_| {
            now += SECOND / 2;
            pace.refused(now, hint, 0, now)
        });
        let ms = |ms| Heard::Held(Duration::from_millis(ms));
        let longer = |heard| matches!(heard, Heard::Held(pause) if pause.as_millis() >= 1_000);
        assert_eq!(pauses[0], ms(20));
        assert!(longer(pauses[2]) && longer(pauses[3]), "{pauses:?}");
    }
}
