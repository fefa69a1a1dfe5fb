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
use super::learned_rate::{LONGEST_WAIT, LearnedRate, SECOND};
use super::recent::RecentAnswers;

/// So many admissions are needed before they tell a rate.
const ENOUGH_ADMISSIONS: usize = 20;
/// Fewer tell a rate if they took half a second, but no fewer than this.
const FEWEST_ADMISSIONS: usize = 8;
/// So many are looked at, at most.
const MOST_ADMISSIONS: usize = 32;
/// A bucket that refills holds for no longer than this and the time of two requests. A longer hold is
/// that of a window.
const WINDOW_HOLD: Nanos = 3 * SECOND;
/// The longest window that is looked at then, in seconds.
const WINDOW_SECONDS: u64 = 60;
/// The share of refusals among the latest answers that cuts the rate, and the one that ends a window.
const CUTTING_SHARE: f64 = 0.15;
const WINDOW_SHARE: f64 = 0.1;
/// After so many cuts in quick succession the rate is not what the refusals come from: cutting it further
/// would slow the run down for nothing. It is forgotten, and none is learned for so long.
const CUTS_IN_VAIN: u32 = 6;
const BLIND_FOR: Nanos = 30 * SECOND;
/// For so long the waits that the server asks for are obeyed to the letter, though nothing is let in: a
/// server that counts what it refuses lets nothing in if it is asked as often as it says.
const HINTS_OBEYED_FOR: Nanos = SECOND;
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
    /// As many are in flight as the server takes: this one goes as soon as one of them is done.
    Full,
    /// A refusal that holds everyone: for so long, unless the server said so itself.
    Held(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    recent: RecentAnswers,
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
    learned: Option<LearnedRate>,
    /// Until when no rate is learned.
    blind_until: Nanos,
}

impl Pace {
    /// The rate to keep to, in requests a second.
    pub(super) fn rate(&self) -> Option<f64> {
        self.learned.map(|rate| rate.now())
    }

    /// Takes note of an answer to what was sent at `sent`.
    pub(super) fn admitted(&mut self, sent: Nanos, now: Nanos) {
        self.recent.note(false, now);
        self.first.get_or_insert(sent);
        if self.latest.len() == MOST_ADMISSIONS {
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
            .is_some_and(|it| it.0 + 2 * WINDOW_SECONDS < second)
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
        self.recent.set_in_flight(in_flight);
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
            self.recent = RecentAnswers::default();
        }
        if stray {
            return Heard::Stray;
        }
        let since = *self.held_since.get_or_insert(now);
        // As long again as nothing was let in.
        let own = Duration::from_nanos(now - since).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let pause = match hint {
            _ if is_late => Duration::ZERO,
            Some(hint) if now - since < HINTS_OBEYED_FOR => hint,
            hint => hint.unwrap_or_default().max(own),
        };
        let end = now.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        self.held_until = self.held_until.max(end);
        let is_first = !self.is_used_up;
        let is_long = self.held_until - since > self.window_hold();
        let is_much = self
            .recent
            .is_much(if is_long { WINDOW_SHARE } else { CUTTING_SHARE });
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
        let each = self.learned.map_or(0.0, |rate| SECOND as f64 / rate.now());
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
        let few = self.latest.len() < ENOUGH_ADMISSIONS;
        if self.latest.len() < FEWEST_ADMISSIONS || span == 0 || (few && span < SECOND / 2) {
            return;
        }
        let admitted = (self.latest.len() - 1) as f64 * SECOND as f64 / span as f64;
        self.recent = RecentAnswers::default();
        match &mut self.learned {
            None if now < self.blind_until => {}
            None => self.learned = Some(LearnedRate::of_admissions(admitted, now)),
            Some(rate) => {
                if rate.cut(admitted, now) >= CUTS_IN_VAIN {
                    self.learned = None;
                    self.blind_until = now + BLIND_FOR;
                }
            }
        }
    }

    /// Sets the rate to the one of the window that was used up at `since` and ends at `end`.
    fn set_by_window(&mut self, since: Nanos, end: Nanos, now: Nanos) {
        let Some(first) = self.first else { return };
        let from = since.saturating_sub(WINDOW_SECONDS * SECOND) / SECOND;
        let counted = |it: &&(u64, u64)| (from..=since / SECOND).contains(&it.0);
        let counted = self.seconds.iter().filter(counted);
        let admitted: u64 = counted.map(|it| it.1).sum();
        if admitted < ENOUGH_ADMISSIONS as u64 {
            return;
        }
        let span = end
            .saturating_sub(first)
            .clamp(SECOND, WINDOW_SECONDS * SECOND);
        let admitted = admitted as f64 * SECOND as f64 / span as f64;
        let window = WINDOW_SECONDS * SECOND;
        let rate = LearnedRate::of_window(admitted, self.learned, window, end, now);
        self.learned = Some(rate);
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
            if request % 2 == 0 {
                pace.refused(sent, None, 0, now);
            } else {
                pace.admitted(sent, now);
            }
            lowest = lowest.min(pace.rate().unwrap_or(f64::MAX));
        }
        assert!(lowest < 300.0, "it is cut at first: {lowest}");
        assert!(now < 120 * SECOND, "{} s", now / SECOND);
    }
}
