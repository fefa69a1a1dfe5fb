//! How many requests may be in flight at once, as refusals tell it.
//!
//! Some servers have *places*: each request that a server works on takes one, and a request that
//! finds none is refused. The refusal has the words of one for a rate, and often asks for a wait
//! that has nothing to do with places. The requests that are *let in*, which are those not refused,
//! tell places from a rate:
//!
//! - Refusals that hold everyone are a *cascade*. During a cascade the requests that are let in are
//!   counted. As many places are used from then on.
//! - Then one request more is tried. A server with places refuses it, at any time, and refuses
//!   nothing within the places. A rate lets more in after a wait, and also refuses within the
//!   places.
//!
//! Some servers say of a refusal that it is about places. It needs no proof then: the requests in
//! flight that are not refused are counted without a pause.

use std::collections::VecDeque;
use std::time::Duration;

use super::bucket::Nanos;
use super::learned_rate::SECOND;

const MILLI: Nanos = SECOND / 1_000;
/// A request that is not refused within this, or within twice the time of the slowest refusal,
/// counts as let in.
const LEAST_PATIENCE: Nanos = 100 * MILLI;
/// How long no further place is tried after a refused try. It doubles with each.
const FIRST_WAIT: Nanos = 250 * MILLI;
const SETTLED_WAIT: Nanos = 30 * SECOND;
const LONGEST_WAIT: Nanos = 600 * SECOND;
/// A rate also refuses a try that comes too soon after another request. So a try waits for this
/// share of the usual time between two requests.
const LATE_IN_TURN: f64 = 0.7;
/// Refusals are certainly about places after so many refused tries, if since the last one so many
/// more requests than there are places were let in.
const REFUSED_TRIES: usize = 3;
const MORE_THAN_PLACES: usize = 3;
/// They are certainly not about places after so many tries that were let in.
const MOST_FLIPS: usize = 3;
/// How long it counts as a proof that a number was let in at once.
const PROVEN_FOR: Nanos = 60 * SECOND;
/// After more refusals within the places than this, refusals are not about places, or there are
/// fewer places than before. Each request that is let in takes back so much of one such refusal.
const MOST_DOUBTS: f64 = 4.0;
const DOUBTS_FORGIVEN: f64 = 0.05;
/// A server frees a place when it has answered, or a little later. After a refusal within the
/// places each place rests for so long before it is used again. The rest triples with each such
/// refusal. It is at most the time of the quickest answer divided by `LONGEST_REST`.
const FIRST_REST: Nanos = 3 * MILLI;
const LONGEST_REST: Nanos = 4;
/// If others hold all places, everyone waits for so long. It doubles until something is let in.
const FIRST_PAUSE: Nanos = 250 * MILLI;
const LONGEST_PAUSE: Nanos = 8 * SECOND;
/// How long refusals are ignored here after they were found to be about something else. It doubles
/// each time.
const FIRST_BLINDNESS: Nanos = 60 * SECOND;

/// Whether another request may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    /// Not before this instant, unless one is released.
    At(Nanos),
    WhenReleased,
}

#[derive(Debug, Default)]
pub(super) struct Places {
    cascade: Option<Cascade>,
    known: Option<Known>,
    /// How long the slowest of the last refusals took.
    slowest: Nanos,
    blind_until: Nanos,
    blind_for: Nanos,
    /// When the last refusal came.
    refused: Option<Nanos>,
    /// When so many were let in at once.
    proven: Option<(Nanos, usize)>,
    /// Since when others have held all places, as the server says. It is over when something is let
    /// in that was sent later.
    shut: Option<Nanos>,
}

/// Refusals that hold everyone. While a cascade lasts, it is not known which requests in flight are
/// let in.
#[derive(Debug)]
struct Cascade {
    until: Nanos,
    /// When the first of those that were refused was sent.
    first: Nanos,
    /// Requests that were in flight when it began or were admitted since, less those that were
    /// refused.
    let_in: usize,
}

#[derive(Debug)]
struct Known {
    /// How many places there seem to be, now and at first.
    most: usize,
    first: usize,
    /// When the places were counted. Requests sent before this are in that count.
    since: Nanos,
    /// Whether the server says of a refusal that it is about places.
    is_named: bool,
    /// Whether the places are as many as the concurrency, so that no further one is tried.
    is_all: bool,
    /// When one more was sent, if it is not known yet whether that was let in.
    trying: Option<Nanos>,
    /// When one more may be tried next, and when the last try was refused.
    next_try: Nanos,
    tried: Nanos,
    wait: Nanos,
    /// The wait that the last refusal asked for.
    hint: Nanos,
    /// When the first request after the last try was admitted, and how many were since. Then the
    /// time of the last admission of all.
    turn: Option<(Nanos, usize)>,
    last: Nanos,
    /// How long after another request a try is sent, if that is known.
    spacing: Option<Nanos>,
    /// Tries that were refused since one was let in, and requests that were let in since the last
    /// try.
    refused_tries: usize,
    let_in: usize,
    /// Whether it is certain that refusals are about places.
    settled: bool,
    /// Tries that were let in before that was certain, and those that were taken back.
    flips: usize,
    /// Refusals within the places.
    doubts: f64,
    doubt: Option<Doubt>,
    /// How long a place rests after its answer.
    rest: Nanos,
    /// How long the quickest answer took.
    quickest: Option<Nanos>,
    /// When places were freed that still rest.
    freed: VecDeque<Nanos>,
}

/// After a refusal within the places, one request asks whether they are still there.
#[derive(Debug)]
struct Doubt {
    ask_at: Nanos,
    asked: Option<Nanos>,
}

impl Places {
    /// How many requests may be in flight at once, if refusals tell it.
    pub(super) fn most(&self) -> Option<usize> {
        Some(self.known.as_ref()?.most)
    }

    /// Whether the server says of each refusal that is about places that it is.
    pub(super) fn are_named(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_named)
    }

    /// Whether a cascade lasts: the requests that are let in are being counted.
    pub(super) fn is_counting(&self) -> bool {
        self.cascade.is_some()
    }

    /// Whether one more may be in flight beside this many.
    pub(super) fn room(
        &mut self,
        in_flight: usize,
        concurrency: usize,
        is_paused: bool,
        now: Nanos,
    ) -> Room {
        let ended = |it: &mut Cascade| now >= it.until && !is_paused;
        if let Some(cascade) = self.cascade.take_if(ended)
            && cascade.let_in > 0
            && cascade.let_in >= self.proven_since(cascade.first)
        {
            self.known = Some(Known::new(cascade.let_in, now));
        }
        let patience = LEAST_PATIENCE.max(2 * self.slowest);
        let Some(known) = &mut self.known else {
            return Room::Yes;
        };
        if known.trying.is_some_and(|since| now >= since + patience) {
            known.succeed(now);
            if known.flips >= MOST_FLIPS && !known.is_named {
                self.give_up(now);
                return Room::Yes;
            }
        }
        known.is_all = known.most >= concurrency;
        known.room(in_flight, patience, now)
    }

    /// The place of the request that was admitted last, with this many in flight.
    pub(super) fn place(&self, in_flight: usize) -> usize {
        in_flight + self.known.as_ref().map_or(0, |known| known.freed.len())
    }

    /// One more request is in flight. With it this many are.
    pub(super) fn admitted(&mut self, in_flight: usize, now: Nanos) {
        if let Some(cascade) = &mut self.cascade {
            cascade.let_in += 1;
        }
        let place = self.place(in_flight);
        let Some(known) = &mut self.known else {
            return;
        };
        if place > known.most {
            known.trying.get_or_insert(now);
        }
        if let Some(doubt) = &mut known.doubt {
            doubt.asked.get_or_insert(now);
        }
        known.last = now;
        if place <= known.most {
            known.count_turn(now);
        }
    }

    /// Whether places rest, so that [`released`](Self::released) must be told of each that is
    /// freed.
    pub(super) fn rest(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.rest > 0)
    }

    /// One fewer is in flight.
    pub(super) fn released(&mut self, now: Nanos) {
        if let Some(known) = &mut self.known
            && known.rest > 0
        {
            known.freed.push_back(now);
        }
    }

    /// Takes note that the request in this place, sent at `sent`, was let in. Returns whether it
    /// has become certain that refusals are about places.
    pub(super) fn let_in(&mut self, place: usize, sent: Nanos, now: Nanos) -> bool {
        self.shut.take_if(|since| sent > *since);
        let Some(known) = &mut self.known else {
            // Those that were in flight with it would have been refused sooner.
            let is_proof = match &self.cascade {
                Some(cascade) => sent < cascade.first,
                None => self.refused.is_none_or(|at| at < sent),
            };
            let is_old = |(at, most): (Nanos, usize)| most <= place || now - at > PROVEN_FOR;
            if is_proof && self.proven.is_none_or(is_old) {
                self.proven = Some((now, place));
            }
            return false;
        };
        if sent < known.since || place > known.most {
            return false;
        }
        known.doubts = (known.doubts - DOUBTS_FORGIVEN).max(0.0);
        let took = now.saturating_sub(sent);
        known.quickest = Some(known.quickest.map_or(took, |it| it.min(took)));
        known.let_in += usize::from(sent > known.tried);
        let is_certain = known.refused_tries >= REFUSED_TRIES * (1 + known.flips)
            && known.let_in >= known.first + MORE_THAN_PLACES;
        if known.settled || !is_certain {
            return false;
        }
        known.settled = true;
        known.flips = 0;
        self.blind_for = 0;
        true
    }

    /// Whether the refusal of the request in this place, sent at `sent`, is about places. If so, it
    /// concerns nobody else.
    pub(super) fn explains(
        &mut self,
        place: usize,
        sent: Nanos,
        hint: Option<Duration>,
        now: Nanos,
    ) -> bool {
        self.refused = Some(now);
        self.slowest = now.saturating_sub(sent).max(self.slowest / 2);
        let Some(known) = &mut self.known else {
            return false;
        };
        if sent < known.since {
            // It was counted as let in.
            known.most = (known.most - 1).max(1);
            return false;
        }
        let hint = hint.unwrap_or_default();
        known.hint = u64::try_from(hint.as_nanos()).unwrap_or(u64::MAX);
        if place > known.most {
            if known.trying.is_some() {
                known.stop_trying(now);
                known.refused_tries += usize::from(known.spacing.is_some());
                known.let_in = 0;
                known.tried = now;
            }
            return true;
        }
        if known.explains_refusal_within(sent, now) {
            return true;
        }
        if known.settled && known.flips < MOST_FLIPS {
            // The places have become fewer: they are counted anew.
            self.known = None;
        } else {
            self.give_up(now);
        }
        false
    }

    /// As [`explains`](Self::explains), where the server says so itself. `in_flight` counts the
    /// refused request. Returns how long everyone waits, if others hold all places.
    pub(super) fn full(
        &mut self,
        place: usize,
        sent: Nanos,
        in_flight: usize,
        now: Nanos,
    ) -> Option<Duration> {
        let is_explained = self.explains(place, sent, None, now);
        if !self.are_named() {
            self.cascade = None;
            self.known = Some(Known {
                is_named: true,
                settled: true,
                ..Known::new(in_flight.saturating_sub(1).max(1), now)
            });
        }
        if let Some(known) = &mut self.known
            && !is_explained
        {
            // They are still being counted.
            known.first = known.most;
            known.next_try = now + FIRST_WAIT;
        }
        if in_flight > 1 {
            return None;
        }
        // No answer that is under way will free one.
        let since = *self.shut.get_or_insert(now);
        let pause = (now - since).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        Some(Duration::from_nanos(pause))
    }

    /// Takes note of a refusal that holds everyone for this long. `in_flight` counts the refused
    /// request.
    pub(super) fn held(&mut self, pause: Duration, sent: Nanos, in_flight: usize, now: Nanos) {
        if self.known.is_some() || now < self.blind_until {
            return;
        }
        // A pause may end sooner than it was meant to.
        let pause = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        let until = now + pause.min(50 * MILLI);
        let cascade = self.cascade.get_or_insert(Cascade {
            until,
            first: sent,
            let_in: in_flight,
        });
        cascade.until = cascade.until.max(until);
        cascade.first = cascade.first.min(sent);
        cascade.let_in = cascade.let_in.saturating_sub(1);
    }

    /// How many were let in at once, not long before a time or later.
    fn proven_since(&self, then: Nanos) -> usize {
        let proven = self.proven.filter(|(at, _)| at + PROVEN_FOR >= then);
        proven.map_or(0, |(_, most)| most)
    }

    /// The refusals are not about places.
    fn give_up(&mut self, now: Nanos) {
        self.known = None;
        self.blind_for = (2 * self.blind_for).max(FIRST_BLINDNESS);
        self.blind_until = now + self.blind_for;
    }
}

impl Known {
    fn new(most: usize, now: Nanos) -> Self {
        Self {
            most,
            first: most,
            since: now,
            is_named: false,
            is_all: false,
            trying: None,
            next_try: now,
            tried: now,
            wait: FIRST_WAIT,
            hint: 0,
            turn: None,
            last: now,
            spacing: None,
            refused_tries: 0,
            let_in: 0,
            settled: false,
            flips: 0,
            doubts: 0.0,
            doubt: None,
            rest: 0,
            quickest: None,
            freed: VecDeque::new(),
        }
    }

    fn room(&mut self, in_flight: usize, patience: Nanos, now: Nanos) -> Room {
        while self.freed.front().is_some_and(|at| now >= at + self.rest) {
            self.freed.pop_front();
        }
        let occupied = in_flight + self.freed.len();
        let rested = self.freed.front().map(|at| at + self.rest);
        if let Some(doubt) = &self.doubt {
            let next = doubt.asked.map_or(doubt.ask_at, |asked| asked + patience);
            if now < next {
                return Room::At(next);
            }
            if doubt.asked.is_some() {
                self.doubt = None;
            }
        }
        if occupied < self.most {
            return Room::Yes;
        }
        let next = match self.trying {
            Some(since) => Some(since + patience),
            // A place that rests may be free already.
            None if self.is_all || self.doubt.is_some() || rested.is_some() => None,
            None => {
                let at = self
                    .next_try
                    .max(self.last + self.spacing.unwrap_or(FIRST_WAIT));
                if now >= at && occupied <= self.most {
                    return Room::Yes;
                }
                (now < at).then_some(at)
            }
        };
        let next = [next, rested].into_iter().flatten().min();
        next.map_or(Room::WhenReleased, Room::At)
    }

    /// Counts one more within the places.
    fn count_turn(&mut self, now: Nanos) {
        let (first, count) = self.turn.get_or_insert((now, 0));
        *count += 1;
        if *count > self.most {
            let usual = (now - *first) as f64 / (*count - 1) as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let spacing = (LATE_IN_TURN * usual) as Nanos;
            self.spacing = Some(spacing);
        }
    }

    /// The try was let in.
    fn succeed(&mut self, now: Nanos) {
        self.most += 1;
        self.trying = None;
        self.wait = FIRST_WAIT;
        self.next_try = now;
        self.turn = None;
        self.refused_tries = 0;
        self.flips += usize::from(!self.settled);
    }

    /// The try was refused.
    fn stop_trying(&mut self, now: Nanos) {
        self.trying = None;
        self.next_try = now.saturating_add(self.wait.max(self.hint));
        let least = if self.settled { SETTLED_WAIT } else { 0 };
        self.wait = (2 * self.wait).clamp(least, LONGEST_WAIT);
        self.turn = None;
    }

    /// Whether a refusal within the places may be about them.
    fn explains_refusal_within(&mut self, sent: Nanos, now: Nanos) -> bool {
        let asked = self.doubt.as_ref().map(|doubt| doubt.asked);
        if asked.is_some_and(|asked| asked.is_none_or(|asked| sent < asked)) {
            // It was on its way with the one that raised the doubt.
            return true;
        }
        self.stop_trying(now);
        self.doubts += 1.0;
        if self.most > self.first && !self.is_all {
            // It was a try that seemed to be let in.
            self.most -= 1;
            self.flips += 1;
        } else {
            self.rest = (3 * self.rest).max(FIRST_REST);
        }
        let ask_at = now + self.rest.max(FIRST_REST);
        let is_short = self
            .quickest
            .is_none_or(|it| self.rest <= it / LONGEST_REST);
        self.doubt = Some(Doubt {
            ask_at,
            asked: None,
        });
        is_short && self.doubts <= MOST_DOUBTS && self.flips < MOST_FLIPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: Option<Duration> = Some(Duration::from_secs(60));

    /// Twenty are sent at once, of which so many are let in. The pause is over.
    fn counted(let_in: usize) -> Places {
        let mut places = Places::default();
        let mut in_flight = 20;
        while in_flight > let_in {
            assert!(!places.explains(in_flight, 0, HINT, MILLI));
            places.held(Duration::from_secs(60), 0, in_flight, MILLI);
            in_flight -= 1;
        }
        assert_eq!(places.room(let_in, 20, true, SECOND), Room::Yes);
        assert_eq!(places.most(), None, "in the pause");
        places.room(0, 20, false, 60 * SECOND);
        places
    }

    /// Lets this many in at this time.
    fn fill(places: &mut Places, in_flight: usize, now: Nanos) {
        for place in 1..=in_flight {
            assert_eq!(places.room(place - 1, 20, false, now), Room::Yes);
            places.admitted(place, now);
        }
    }

    #[test]
    fn those_that_were_let_in_of_a_cascade_are_the_places() {
        let mut places = counted(3);
        let now = 60 * SECOND;
        assert_eq!(places.most(), Some(3));
        fill(&mut places, 3, now);
        let next_try = now + FIRST_WAIT;
        assert_eq!(places.room(3, 20, false, now), Room::At(next_try));
        assert_eq!(places.room(3, 3, false, now), Room::WhenReleased);
        assert_eq!(counted(0).most(), None, "nothing was let in");
    }

    #[test]
    fn a_try_that_is_refused_holds_nobody_and_the_next_comes_later() {
        let mut places = counted(3);
        let mut now = 61 * SECOND;
        fill(&mut places, 3, now);
        for wait in [1, 1, 2, 4, 8].map(|it| it * FIRST_WAIT) {
            assert_eq!(places.room(3, 20, false, now), Room::At(now + wait));
            now += wait;
            assert_eq!(places.room(3, 20, false, now), Room::Yes);
            places.admitted(4, now);
            assert!(places.explains(4, now, None, now));
            assert_eq!(places.most(), Some(3));
        }
        assert!(places.explains(4, now, HINT, now), "on its way with it");
    }

    #[test]
    fn tries_that_are_let_in_show_that_it_is_a_rate() {
        let mut places = counted(3);
        let mut now = 61 * SECOND;
        fill(&mut places, 3, now);
        for most in 3..6 {
            assert_eq!(places.most(), Some(most));
            now += FIRST_WAIT;
            assert_eq!(places.room(most, 20, false, now), Room::Yes);
            places.admitted(most + 1, now);
            now += LEAST_PATIENCE;
            places.room(most + 1, 20, false, now);
        }
        assert_eq!(places.most(), None);
        places.held(Duration::from_secs(1), now, 20, now);
        places.room(0, 20, false, now + 2 * SECOND);
        assert_eq!(places.most(), None, "and it is not looked at again at once");
    }

    #[test]
    fn after_a_refusal_within_the_places_one_asks_and_then_it_is_a_rate() {
        let mut places = counted(3);
        let mut now = 61 * SECOND;
        fill(&mut places, 3, now);
        assert!(places.explains(3, now, HINT, now + MILLI));
        assert!(places.explains(2, now, HINT, now + MILLI));
        let mut rest = FIRST_REST;
        for _ in 1..4 {
            now += MILLI;
            assert_eq!(places.room(0, 20, false, now), Room::At(now + rest));
            now += rest;
            assert_eq!(places.room(0, 20, false, now), Room::Yes);
            places.admitted(1, now);
            assert!(matches!(places.room(1, 20, false, now), Room::At(_)), "one");
            assert!(places.explains(1, now, HINT, now + MILLI));
            rest *= 3;
        }
        now += SECOND;
        places.room(0, 20, false, now);
        places.admitted(1, now);
        assert!(!places.explains(1, now, HINT, now));
        assert_eq!(places.most(), None);
    }

    #[test]
    fn what_was_let_in_at_once_before_is_no_limit_of_places() {
        let mut places = Places::default();
        places.let_in(20, 0, SECOND);
        places.explains(20, SECOND, HINT, SECOND);
        places.held(Duration::from_secs(60), SECOND, 20, SECOND);
        places.room(0, 20, false, 61 * SECOND);
        assert_eq!(places.most(), None);
    }

    #[test]
    fn what_was_in_flight_before_the_first_refusal_is_no_limit_of_places_either() {
        let mut places = Places::default();
        places.explains(20, SECOND, HINT, SECOND);
        places.held(Duration::from_secs(60), SECOND, 20, SECOND);
        // Its answer comes later than the refusal of what was sent after it.
        places.let_in(20, 0, SECOND + MILLI);
        places.room(0, 20, false, 61 * SECOND);
        assert_eq!(places.most(), None);
    }
}
