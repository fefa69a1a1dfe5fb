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

use std::time::Duration;

use super::bucket::Nanos;
pub(super) use super::known_places::Room;
use super::known_places::{FIRST_WAIT, Known, MILLI, MOST_FLIPS};
use super::learned_rate::SECOND;

/// A request that is not refused within this, or within twice the time of the slowest refusal,
/// counts as let in.
const LEAST_PATIENCE: Nanos = 100 * MILLI;
/// Refusals are certainly about places after so many refused tries, if since the last one so many
/// more requests than there are places were let in.
const REFUSED_TRIES: usize = 3;
const MORE_THAN_PLACES: usize = 3;
/// How long it counts as a proof that a number was let in at once.
const PROVEN_FOR: Nanos = 60 * SECOND;
/// Places that are not certain are forgotten after so long without a refusal, or after twice the
/// wait that the last one asked for.
const FADES_AFTER: Nanos = 60 * SECOND;
/// Each request that is let in takes back so much of one refusal within the places.
const DOUBTS_FORGIVEN: f64 = 0.05;
/// If others hold all places, everyone waits for so long. It doubles until something is let in.
const FIRST_PAUSE: Nanos = 250 * MILLI;
const LONGEST_PAUSE: Nanos = 8 * SECOND;
/// How long refusals are ignored here after they were found to be about something else. It doubles
/// each time.
const FIRST_BLINDNESS: Nanos = 60 * SECOND;

#[derive(Debug, Default)]
pub(super) struct Places {
    cascade: Option<Cascade>,
    known: Option<Known>,
    /// How long the slowest of the last refusals took.
    slowest: Nanos,
    blind_until: Nanos,
    blind_for: Nanos,
    /// Refusals of what was sent until then may be those of a rate that was not known.
    void_until: Nanos,
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

impl Places {
    /// A rate is known from now on: what was sent before was sent without regard to it.
    pub(super) fn start_over(&mut self, now: Nanos) {
        if !self.are_named() {
            self.cascade = None;
            self.known = None;
        }
        self.void_until = now;
    }

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

    /// In a pause, when all that were refused are known: how many were let in at once, if there may
    /// be no more places than that.
    pub(super) fn counted(&self, now: Nanos) -> Option<usize> {
        let cascade = self.cascade.as_ref().filter(|it| now >= it.until)?;
        let is_known = cascade.let_in >= self.proven_since(cascade.first).max(1);
        is_known.then_some(cascade.let_in)
    }

    /// Whether one more may be in flight beside this many.
    pub(super) fn room(
        &mut self,
        in_flight: usize,
        concurrency: usize,
        is_paused: bool,
        now: Nanos,
    ) -> Room {
        let counted = self.counted(now);
        let ended = |it: &mut Cascade| now >= it.until && !is_paused;
        if self.cascade.take_if(ended).is_some()
            && let Some(most) = counted
        {
            self.known = Some(Known::new(most, now));
        }
        // Where something else is the limit, they are never all in use, and nothing confirms them.
        let refused = self.refused.unwrap_or_default();
        self.known.take_if(|known| {
            let fades = known.hint.saturating_mul(2).max(FADES_AFTER);
            !known.settled && now.saturating_sub(refused.max(known.since)) > fades
        });
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
        if known.explains_refusal_within(place, sent, now) {
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
        let is_void = self.void_until > 0 && sent <= self.void_until;
        if self.known.is_some() || is_void || now < self.blind_until {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::known_places::FIRST_REST;

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
    fn places_that_were_counted_too_high_are_lowered_by_refusals_and_found_again() {
        // There are 10. Two that had left theirs were in flight when they were counted.
        let mut places = counted(12);
        let mut now = 61 * SECOND;
        fill(&mut places, 12, now);
        assert!(places.explains(12, now, None, now + MILLI));
        assert!(places.explains(11, now, None, now + MILLI));
        assert!(places.explains(10, now, None, now + MILLI));
        assert_eq!(places.most(), Some(9), "one of them had left as well");
        now += SECOND;
        assert_eq!(places.room(0, 20, false, now), Room::Yes);
        places.admitted(1, now);
        places.let_in(1, now, now + MILLI);
        for most in 9..12 {
            now += SECOND;
            fill(&mut places, most, now);
            now += FIRST_WAIT;
            assert_eq!(places.room(most, 20, false, now), Room::Yes);
            places.admitted(most + 1, now);
            now += LEAST_PATIENCE;
            places.room(most + 1, 20, false, now);
        }
        assert_eq!(
            places.most(),
            Some(12),
            "as many as were counted tell no rate"
        );
        let mut places = counted(12);
        fill(&mut places, 12, 61 * SECOND);
        for place in (1..=12).rev() {
            places.explains(place, 61 * SECOND, None, 61 * SECOND + MILLI);
        }
        assert_eq!(places.most(), Some(9), "no lower than three quarters");
    }

    #[test]
    fn places_that_no_further_refusal_confirms_are_forgotten() {
        let mut places = counted(3);
        places.room(0, 20, false, 120 * SECOND);
        assert_eq!(places.most(), Some(3));
        places.room(0, 20, false, 121 * SECOND);
        assert_eq!(places.most(), None);
    }

    #[test]
    fn refusals_of_what_was_sent_before_a_rate_was_known_count_no_places() {
        let mut places = counted(3);
        places.start_over(61 * SECOND);
        assert_eq!(places.most(), None);
        for (sent, most) in [(61, None), (62, Some(4))] {
            places.held(Duration::from_secs(1), sent * SECOND, 5, 63 * SECOND);
            places.room(0, 20, false, 70 * SECOND);
            assert_eq!(places.most(), most);
        }
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
