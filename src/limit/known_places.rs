//! The places that a server seems to have, and the tries that tell whether there is one more.
//!
//! [`super::places`] finds them, and tells what became of each request.

use std::collections::VecDeque;

use super::bucket::Nanos;
use super::learned_rate::SECOND;

pub(super) const MILLI: Nanos = SECOND / 1_000;
/// How long no further place is tried after a refused try. It doubles with each.
pub(super) const FIRST_WAIT: Nanos = 250 * MILLI;
const SETTLED_WAIT: Nanos = 30 * SECOND;
const LONGEST_WAIT: Nanos = 600 * SECOND;
/// A rate also refuses a try that comes too soon after another request. So a try waits for this
/// share of the usual time between two requests.
const LATE_IN_TURN: f64 = 0.7;
/// They are certainly not about places after so many tries that were let in.
pub(super) const MOST_FLIPS: usize = 3;
/// After more refusals within the places than this, refusals are not about places, or there are
/// fewer places than before.
const MOST_DOUBTS: f64 = 4.0;
/// Of those that were counted at least this share are places. Others were requests that had left
/// their place: they are in flight until their answer is read.
const LEAST_SHARE: [usize; 2] = [3, 4];
/// A server frees a place when it has answered, or a little later. After a refusal within the
/// places each place rests for so long before it is used again. The rest triples with each such
/// refusal. It is at most the time of the quickest answer divided by `LONGEST_REST`.
pub(super) const FIRST_REST: Nanos = 3 * MILLI;
const LONGEST_REST: Nanos = 4;

/// Whether another request may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    /// Not before this instant, unless one is released.
    At(Nanos),
    WhenReleased,
}

#[derive(Debug)]
pub(super) struct Known {
    /// How many places there seem to be, now and at first.
    pub(super) most: usize,
    pub(super) first: usize,
    /// How many were counted, among which may be some that were none.
    pub(super) counted: usize,
    /// When the places were counted. Requests sent before this are in that count.
    pub(super) since: Nanos,
    /// Whether the server says of a refusal that it is about places.
    pub(super) is_named: bool,
    /// Whether the places are as many as the concurrency, so that no further one is tried.
    pub(super) is_all: bool,
    /// When one more was sent, if it is not known yet whether that was let in.
    pub(super) trying: Option<Nanos>,
    /// When one more may be tried next, and when the last try was refused.
    pub(super) next_try: Nanos,
    pub(super) tried: Nanos,
    pub(super) wait: Nanos,
    /// The wait that the last refusal asked for.
    pub(super) hint: Nanos,
    /// When the first request after the last try was admitted, and how many were since. Then the
    /// time of the last admission of all.
    pub(super) turn: Option<(Nanos, usize)>,
    pub(super) last: Nanos,
    /// How long after another request a try is sent, if that is known.
    pub(super) spacing: Option<Nanos>,
    /// Tries that were refused since one was let in, and requests that were let in since the last
    /// try.
    pub(super) refused_tries: usize,
    pub(super) let_in: usize,
    /// Whether it is certain that refusals are about places.
    pub(super) settled: bool,
    /// Tries that were let in before that was certain, and those that were taken back.
    pub(super) flips: usize,
    /// Refusals within the places.
    pub(super) doubts: f64,
    pub(super) doubt: Option<Doubt>,
    /// How long a place rests after its answer.
    pub(super) rest: Nanos,
    /// How long the quickest answer took.
    pub(super) quickest: Option<Nanos>,
    /// When places were freed that still rest.
    pub(super) freed: VecDeque<Nanos>,
}

/// After a refusal within the places, one request asks whether they are still there.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) ask_at: Nanos,
    pub(super) asked: Option<Nanos>,
}

impl Known {
    pub(super) fn new(most: usize, now: Nanos) -> Self {
        Self {
            most,
            first: most,
            counted: most,
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

    pub(super) fn room(&mut self, in_flight: usize, patience: Nanos, now: Nanos) -> Room {
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
    pub(super) fn count_turn(&mut self, now: Nanos) {
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
    pub(super) fn succeed(&mut self, now: Nanos) {
        self.most += 1;
        self.trying = None;
        self.wait = FIRST_WAIT;
        self.next_try = now;
        self.turn = None;
        self.refused_tries = 0;
        self.flips += usize::from(!self.settled && self.most > self.counted);
    }

    /// The try was refused.
    pub(super) fn stop_trying(&mut self, now: Nanos) {
        self.trying = None;
        self.next_try = now.saturating_add(self.wait.max(self.hint));
        let least = if self.settled { SETTLED_WAIT } else { 0 };
        self.wait = (2 * self.wait).clamp(least, LONGEST_WAIT);
        self.turn = None;
    }

    /// Whether a refusal within the places may be about them.
    pub(super) fn explains_refusal_within(
        &mut self,
        place: usize,
        sent: Nanos,
        now: Nanos,
    ) -> bool {
        let asked = self.doubt.as_ref().map(|doubt| doubt.asked);
        if asked.is_some_and(|asked| asked.is_none_or(|asked| sent < asked)) {
            // It was on its way with the one that raised the doubt. With so many in flight there
            // was no place left.
            let least = (self.counted * LEAST_SHARE[0]).div_ceil(LEAST_SHARE[1]);
            if !self.settled {
                self.most = self.most.min(least.max(place - 1));
                self.first = self.first.min(self.most);
            }
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
