//! All limits of a limiter as one value: the rates of requests and model tokens, the number in
//! flight, and the pause. They are checked and taken together.
//!
//! Nothing here waits, locks or reads a clock: the time comes in, and the answer is *now*, *at this
//! instant*, or *when a permit is released*. The lock and the queue are in [`super::queue`].

use std::time::Duration;

use super::adaptive::Adaptive;
use super::announced::{Announced, Counted};
use super::bucket::{Admission, Bucket, Nanos};
use super::concurrency::Concurrency;
use super::followed::{FollowedLimits, burst_of};
use super::learned::Learned;
use super::pace::{Heard, Pace};
use super::places::{Places, Room};
use super::rate::{Cost, Rate};
use super::set_rates::SetRates;
use super::slow_start::SlowStart;
use crate::binding::Binding;
use crate::error::Result;

/// An overload that lasts so long is no load of this limiter's.
const DOWN_AFTER: Nanos = 4_000_000_000;

/// What a permit remembers of its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Start {
    pub(super) at: Nanos,
    /// How many were in flight with it.
    pub(super) place: usize,
    /// The adaptive number's round; 0 if it does not count.
    round: u32,
    /// How many might be in flight then.
    pub(super) most: usize,
}

#[derive(Debug)]
pub(crate) struct LimiterState {
    pub(super) set: SetRates,
    pub(super) concurrency: Concurrency,
    /// If that is a range.
    adaptive: Option<Adaptive>,
    in_flight: usize,
    last: Start,
    /// In the past if there is no pause.
    pub(super) paused_until: Nanos,
    slow_start: Option<SlowStart>,
    announced: FollowedLimits,
    pace: Pace,
    /// For the rate that the pace has learned.
    paced: Option<Bucket>,
    kept: Option<f64>,
    places: Places,
    /// Announcements that made no sense.
    pub(super) ignored: u64,
}

impl LimiterState {
    pub(super) fn new(concurrency: impl Into<Concurrency>) -> Self {
        let concurrency = concurrency.into();
        Self {
            set: SetRates::default(),
            concurrency,
            adaptive: Adaptive::of_range(concurrency, concurrency.low()),
            in_flight: 0,
            last: Start::default(),
            paused_until: 0,
            slow_start: None,
            announced: FollowedLimits::default(),
            pace: Pace::default(),
            paced: None,
            kept: None,
            places: Places::default(),
            ignored: 0,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many may be in flight now, as far as that is set, or of a range, found.
    fn set_in_flight(&self) -> usize {
        let found = self.adaptive.as_ref().map(Adaptive::now);
        found.unwrap_or(self.concurrency.high())
    }

    pub(crate) fn most_threads(&self) -> usize {
        let next = self.set_in_flight().saturating_add(1);
        next.min(self.concurrency.high())
    }

    /// How many may be in flight now, or fewer if refusals tell so.
    pub(super) fn most_in_flight(&self) -> usize {
        let places = self.places.most().unwrap_or(usize::MAX);
        self.set_in_flight().min(places)
    }

    /// A range goes on from the number that holds now, if that is within it.
    pub(super) fn set_concurrency(&mut self, concurrency: Concurrency) {
        self.adaptive = Adaptive::of_range(concurrency, self.set_in_flight());
        self.concurrency = concurrency;
    }

    /// The start of what was admitted last.
    pub(crate) fn start(&self) -> Start {
        self.last
    }

    /// The most model tokens that are ever admitted at once; `None` if nothing limits them.
    pub(crate) fn most_tokens(&self) -> Option<u64> {
        let announced = self.announced.limits(|it| it != Counted::Requests);
        self.set.largest(1).or(announced.then_some(u64::MAX))
    }

    /// Whether there is a rate of requests, whoever it is from.
    fn limits_requests(&self) -> bool {
        let is_set = self.set.largest(0).is_some();
        is_set || self.paced.is_some() || self.announced.spreads_requests()
    }

    /// Takes note that a request was let in, whatever became of it. Whether something may be
    /// admitted sooner than it was said.
    pub(crate) fn let_in(&mut self, start: Start, now: Nanos) -> bool {
        self.pace.admitted(start.at, now);
        if self.places.let_in(start.place, start.at, now) {
            self.pace = Pace::default();
        }
        let may_be_faster = self.pace.has_held_for_few();
        let started = self.slow_start.as_mut().filter(|_| may_be_faster);
        let is_faster = started.is_some_and(|it| it.let_in(start.at));
        self.keep_pace(now) || is_faster
    }

    /// Takes note that a request was refused, and asked to wait or not. With what follows comes
    /// whether something may be admitted sooner than it was said.
    pub(crate) fn refused(
        &mut self,
        start: Start,
        hint: Option<Duration>,
        now: Nanos,
    ) -> (Heard, bool) {
        // A server that names what is about places names nothing else so.
        let may_be_places = !self.places.are_named();
        let heard = if may_be_places && self.places.explains(start.place, start.at, hint, now) {
            Heard::Full
        } else {
            self.pace.refused(start.at, self.in_flight, hint, now)
        };
        if let Heard::Held(pause) = heard {
            self.places.held(pause, start.at, self.in_flight, now);
            if let Some(adaptive) = &mut self.adaptive {
                adaptive.refused();
            }
        }
        (heard, self.keep_pace(now))
    }

    /// As [`refused`](Self::refused), where the server says itself that too many model tokens are
    /// used. If a limit on these is known, that tells no rate of requests and no number at once.
    pub(crate) fn refused_tokens(
        &mut self,
        start: Start,
        hint: Option<Duration>,
        now: Nanos,
    ) -> (Heard, bool) {
        if !self.announced.limits(|it| it != Counted::Requests) {
            return self.refused(start, hint, now);
        }
        self.announced.spread_tokens(now);
        let heard = self.pace.refused(start.at, self.in_flight, hint, now);
        self.pace.outage();
        (heard, self.keep_pace(now))
    }

    /// As [`refused`](Self::refused), where the server says itself that it is overloaded. One that
    /// lets in nothing for seconds, while it is only asked now and then, is down: no window of a
    /// rate ends so, as that is refused in other words.
    pub(crate) fn overloaded(
        &mut self,
        start: Start,
        hint: Option<Duration>,
        now: Nanos,
    ) -> (Heard, bool) {
        let (heard, sooner) = self.refused(start, hint, now);
        let is_down = hint.is_none() && self.pace.has_held_for(DOWN_AFTER, now);
        (heard, is_down && self.outage(now) || sooner)
    }

    /// Takes note that the server is down, and refuses for that. Whether something may be admitted
    /// sooner than it was said.
    pub(crate) fn outage(&mut self, now: Nanos) -> bool {
        self.pace.outage();
        self.keep_pace(now)
    }

    /// As [`refused`](Self::refused), where the server says itself that too many are in flight.
    /// That tells no rate, and its wait is that of another limit.
    pub(crate) fn full(&mut self, start: Start, now: Nanos) -> (Heard, bool) {
        let heard = self
            .places
            .full(start.place, start.at, self.in_flight, now)
            .map_or(Heard::Full, Heard::Held);
        (heard, self.keep_pace(now))
    }

    /// Whether refusals have told a rate.
    #[cfg(test)]
    pub(super) fn has_paced(&self) -> bool {
        self.pace.rate().is_some()
    }

    /// Keeps to the rate that refusals tell, unless it is the number at once that they are about.
    /// Whether something may be admitted sooner than it was said.
    fn keep_pace(&mut self, now: Nanos) -> bool {
        let after = match self.places.most() {
            Some(_) if !self.places.are_named() => {
                // What is sent meanwhile is not sent at the rate.
                self.pace.ignore_before(now);
                None
            }
            _ => self.pace.rate(),
        };
        let before = std::mem::replace(&mut self.kept, after);
        if before == after {
            return false;
        }
        let limit = after.map(|rate| {
            let rate = Rate::measured(rate);
            (rate, burst_of(rate))
        });
        Bucket::set(&mut self.paced, limit, self.paused_until, now);
        after.is_none() || after > before
    }

    /// Takes note of what the answer to a request says of a limit that was sent at `sent`. Whether
    /// something may be admitted sooner than it was said.
    pub(crate) fn announced(&mut self, announced: &Announced, sent: Nanos, now: Nanos) -> bool {
        let knows = |it: &Self| it.announced.limits(|it| it == Counted::Requests);
        let knew = knows(self);
        let sooner = self.announced.note(announced, sent, self.paused_until, now);
        if !knew && knows(self) {
            self.pace.start_over(now);
            self.places.start_over(now);
        }
        if let Some(shared) = &mut self.set.shared {
            shared.announce([Counted::Requests, Counted::Tokens].map(|it| self.announced.kept(it)));
        }
        self.keep_pace(now) || sooner
    }

    /// The rates that answers announce, here or to those who share the limits, where they are
    /// lower than those that are set.
    pub(super) fn learned(&self, now: Nanos) -> Learned {
        let [requests, tokens] = self.set.rates();
        let lower = |learned: Option<Rate>, than: Option<Rate>| {
            let is_lower = |learned: &Rate| {
                than.is_none_or(|than| learned.units_per_second() < than.units_per_second())
            };
            learned.filter(is_lower)
        };
        let headers = |counted| self.announced.lowest(counted, now);
        let told = |counted| headers(counted).map(|(rate, _)| rate);
        let announced = lower(told(Counted::Requests), requests);
        let announced = self.set.followed(0).or(announced);
        // What is left of a day's limit goes as fast as the refusals let it.
        let binds = headers(Counted::Requests).is_none_or(|(_, binds)| binds);
        let paced = self.paced.as_ref().map(Bucket::rate);
        let paced = lower(paced, announced.filter(|_| binds).or(requests));
        let announced_tokens = lower(told(Counted::Tokens), tokens);
        let announced_tokens = self.set.followed(1).or(announced_tokens);
        let at_once = self.places.most();
        let named = self.announced.named(now);
        let fewer = |at_once: &usize| *at_once < self.concurrency.high();
        Learned {
            requests: announced,
            at_once: at_once.filter(fewer),
            maybe_at_once: self.places.counted(now).filter(fewer),
            from_refusals: paced,
            tokens: announced_tokens,
            input_tokens: lower(told(Counted::InputTokens), tokens),
            output_tokens: lower(told(Counted::OutputTokens), tokens),
            tokens_from_refusals: lower(named, announced_tokens.or(tokens)),
            ignored: self.ignored,
        }
    }

    /// Sets, changes or (with `None`) lifts the request rate.
    pub(super) fn set_requests(&mut self, limit: Option<(Rate, u64)>, now: Nanos) {
        let lifted = self.set.largest(0).is_some() && limit.is_none();
        self.set.set(0, limit, self.paused_until, now);
        if lifted && now < self.paused_until {
            self.start_slowly(now);
        }
    }

    /// Sets, changes or (with `None`) lifts the token rate.
    pub(super) fn set_tokens(&mut self, limit: Option<(Rate, u64)>, now: Nanos) {
        self.set.set(1, limit, self.paused_until, now);
    }

    /// Refuses a cost that would wait for ever.
    #[inline]
    pub(crate) fn check_fits(&self, cost: Cost) -> Result<()> {
        self.set.check_fits(cost)
    }

    /// Takes `cost` if that is allowed now: all of it or nothing.
    pub(crate) fn admit(&mut self, cost: Cost, now: Nanos) -> Admission {
        let admission = self.check(cost, now);
        if admission == Admission::Now {
            self.take(cost, now);
        }
        admission
    }

    fn check(&mut self, cost: Cost, now: Nanos) -> Admission {
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.grow(now);
        }
        let most = self.set_in_flight();
        if self.in_flight >= most {
            let grows = self.adaptive.as_ref().and_then(Adaptive::grows_at);
            return grows.map_or(Admission::When(Binding::InFlight), |at| {
                Admission::At(at, Binding::InFlight)
            });
        }
        let is_paused = now < self.paused_until;
        let room = self.places.room(self.in_flight, most, is_paused, now);
        self.keep_pace(now);
        match room {
            Room::Yes => {}
            Room::At(at) => return Admission::At(at, Binding::InFlight),
            Room::WhenReleased => return Admission::When(Binding::InFlight),
        }
        self.slow_start.take_if(|start| start.is_over(now));
        let started = self.slow_start.iter_mut();
        let started = started.map(|it| (it.earliest(now), Binding::Pause));
        // What is counted in a pause is known at its end, and may lift that rate.
        let is_counting = self.places.is_counting();
        let paced = self.paced.iter_mut().filter(|_| !is_counting);
        let paced = paced.map(|it| (it.earliest(cost.requests(), now), Binding::Requests));
        let mut latest = (self.paused_until, Binding::Pause);
        if self.paused_until <= now {
            latest = (now, Binding::Requests);
        }
        let set = self.set.earliest(cost, now);
        let announced = self.announced.earliest(cost, now);
        for next in set.chain(paced).chain(announced).chain(started) {
            if next.0 > latest.0 {
                latest = next;
            }
        }
        match self.set.leased(cost, latest, now) {
            Admission::At(at, _) if at <= now => Admission::Now,
            other => other,
        }
    }

    /// Takes what [`check`](Self::check) has just allowed.
    fn take(&mut self, cost: Cost, now: Nanos) {
        self.in_flight += 1;
        self.places.admitted(self.in_flight, now);
        let in_flight = self.in_flight;
        let round = self.adaptive.as_mut().map(|it| it.began(in_flight, now));
        self.last = Start {
            at: now,
            place: self.places.place(in_flight),
            round: round.unwrap_or_default(),
            most: self.most_in_flight(),
        };
        self.set.take(cost, now);
        if let Some(paced) = &mut self.paced {
            paced.take(cost.requests(), now);
        }
        if let Some(start) = &mut self.slow_start {
            start.take(now);
        }
        self.announced.take(cost, now);
        self.pace.sent(now);
    }

    /// One fewer is in flight. What was taken from the buckets stays taken.
    pub(super) fn release(&mut self) {
        self.in_flight -= 1;
    }

    /// Corrects the tokens that were taken for `cost` to `used`.
    pub(super) fn settle(&mut self, cost: Cost, used: u64, now: Nanos) {
        self.set.settle_tokens(cost.model_tokens(), used, now);
    }

    /// As [`release`](Self::release), where the model tokens of `used` count in place of those
    /// taken for `cost`. How long it took counts if it `succeeded`.
    pub(crate) fn end(
        &mut self,
        cost: Cost,
        used: Cost,
        (start, succeeded): (Start, bool),
        now: Nanos,
    ) {
        self.release();
        if let Some(adaptive) = &mut self.adaptive {
            let latency = succeeded.then(|| now.saturating_sub(start.at));
            adaptive.ended(start.round, latency);
        }
        self.places.released(now);
        self.settle(cost, used.model_tokens(), now);
        self.announced.release(cost, used, now);
    }

    /// Admits nothing before `until`, and starts slowly from there. Never shortens a pause.
    pub(crate) fn pause(&mut self, until: Nanos, now: Nanos) {
        if until <= self.paused_until || until <= now {
            return;
        }
        self.paused_until = until;
        self.set.hold(until, now);
        if let Some(paced) = &mut self.paced {
            // One may go when the pause ends, if it is no sooner than the rate allows. A server that
            // counts what it refuses says too short a wait, and must be left alone for longer.
            let is_short = self.pace.has_paused_in_vain();
            let one = if is_short { 0 } else { paced.time_of_one() };
            paced.hold(until.saturating_sub(one), now);
        }
        self.announced.hold(until, now);
        if !self.limits_requests() {
            self.start_slowly(now);
        }
    }

    fn start_slowly(&mut self, now: Nanos) {
        let permits = self.most_in_flight();
        self.slow_start = Some(SlowStart::new(permits, self.paused_until, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SECOND: u64 = 1_000_000_000;

    fn both() -> LimiterState {
        let mut limits = LimiterState::new(2);
        limits.set_requests(Some((Rate::per_second(10), 10)), 0);
        limits.set_tokens(Some((Rate::per_minute(600), 10)), 0);
        limits
    }

    #[test]
    fn the_later_of_both_buckets_decides_and_nothing_is_taken_meanwhile() {
        let mut limits = both();
        limits.take(Cost::tokens(10), 0);
        let refused = Admission::At(SECOND / 2, Binding::Tokens);
        assert_eq!(limits.check(Cost::tokens(5), 0), refused);
        assert_eq!(
            limits.check(Cost::tokens(5), 0),
            refused,
            "asking costs nothing"
        );
        assert_eq!(limits.check(Cost::ONE, 0), Admission::Now);
    }

    #[test]
    fn at_full_concurrency_it_waits_for_a_release() {
        let mut limits = both();
        limits.take(Cost::ONE, 0);
        limits.take(Cost::ONE, 0);
        assert_eq!(
            limits.check(Cost::ONE, 0),
            Admission::When(Binding::InFlight)
        );
        limits.release();
        assert_eq!(limits.check(Cost::ONE, 0), Admission::Now);
    }

    #[test]
    fn requests_stay_taken_and_tokens_are_given_back() {
        let mut limits = both();
        limits.take(Cost::tokens(10).with_requests(10), 0);
        limits.release();
        limits.settle(Cost::tokens(10).with_requests(10), 0, 0);
        assert_eq!(
            limits.check(Cost::tokens(10), 0),
            Admission::At(SECOND / 10, Binding::Requests)
        );
    }

    #[test]
    fn more_than_a_period_allows_never_fits() {
        let limits = both();
        assert!(
            limits.check_fits(Cost::tokens(600)).is_ok(),
            "above the burst"
        );
        let error = limits.check_fits(Cost::tokens(601)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeverFits);
    }

    #[test]
    fn a_pause_holds_everyone_and_ends_without_a_burst() {
        let mut limits = both();
        limits.pause(5 * SECOND, 0);
        limits.pause(3 * SECOND, 0);
        let first = 5 * SECOND + SECOND / 10;
        assert_eq!(
            limits.check(Cost::ONE, 0),
            Admission::At(first, Binding::Requests)
        );
        assert_eq!(limits.check(Cost::ONE, first), Admission::Now);
        limits.take(Cost::ONE, first);
        assert_ne!(limits.check(Cost::ONE, first), Admission::Now);
    }

    #[test]
    fn a_limit_lifted_or_set_during_a_pause_ends_it_without_a_burst_too() {
        let mut limits = both();
        limits.pause(5 * SECOND, 0);
        limits.set_requests(None, SECOND);
        limits.set_tokens(None, SECOND);
        let end = 5 * SECOND;
        assert_eq!(
            limits.check(Cost::ONE, SECOND),
            Admission::At(end, Binding::Pause)
        );
        limits.take(Cost::ONE, end);
        assert_eq!(
            limits.check(Cost::ONE, end),
            Admission::At(end + SECOND / 2, Binding::Pause),
            "two permits, spread over a second"
        );
        limits.release();
        let mut limits = both();
        limits.pause(end, 0);
        limits.set_tokens(None, SECOND);
        limits.set_tokens(Some((Rate::per_second(1), 10)), SECOND);
        assert_eq!(
            limits.check(Cost::tokens(3), SECOND),
            Admission::At(8 * SECOND, Binding::Tokens)
        );
    }

    #[test]
    fn without_a_rate_requests_start_evenly_after_a_pause() {
        let mut limits = LimiterState::new(50);
        limits.pause(5 * SECOND, 0);
        let mut now = 5 * SECOND;
        assert_eq!(
            limits.check(Cost::ONE, 0),
            Admission::At(now, Binding::Pause)
        );
        assert_eq!(limits.check(Cost::ONE, now), Admission::Now, "one goes");
        limits.take(Cost::ONE, now);
        limits.release();
        let mut admitted = Vec::new();
        while let Admission::At(at, Binding::Pause) = limits.check(Cost::ONE, now) {
            now = at;
            limits.take(Cost::ONE, now);
            limits.release();
            admitted.push(now);
        }
        assert_eq!(admitted.first(), Some(&(5 * SECOND + SECOND / 50)));
        assert_eq!(admitted.len(), 50);
        assert_eq!(
            limits.check(Cost::ONE, now),
            Admission::Now,
            "and then freely"
        );
    }

    /// How many of 64 are in flight 99, 210 and 499 ms after a pause of a second for so many
    /// refusals, if each answer takes a tenth of a second.
    fn started_after(refusals: usize) -> [usize; 3] {
        let mut limits = LimiterState::new(64);
        let (latency, mut starts) = (SECOND / 10, Vec::new());
        while limits.admit(Cost::ONE, 0) == Admission::Now {
            starts.push(limits.start());
        }
        for (n, start) in starts.drain(..).enumerate() {
            if n < refusals {
                limits.refused(start, Some(Duration::from_secs(1)), 0);
                limits.pause(SECOND, 0);
            } else if refusals < 64 {
                limits.let_in(start, 0);
            }
            limits.release();
        }
        let mut started = [0; 3];
        for now in (SECOND..).step_by(1_000_000).take(500) {
            while limits.admit(Cost::ONE, now) == Admission::Now {
                starts.push(limits.start());
            }
            for start in starts.extract_if(.., |it| it.at + latency <= now) {
                limits.let_in(start, now);
                limits.release();
            }
            let at = [99, 210, 499].map(|ms| SECOND + ms * 1_000_000);
            if let Some(at) = at.iter().position(|at| *at == now) {
                started[at] = starts.len();
            }
        }
        started
    }

    #[test]
    fn the_start_after_few_refusals_is_faster_with_each_answer_that_lets_one_in() {
        let [first, second, third] = started_after(3);
        assert_eq!(first, 7, "no answer has come");
        assert!((15..30).contains(&second) && third > 50, "{second} {third}");
        // Where many were refused it is six or seven in a tenth of a second, whatever is answered.
        for many in [16, 64] {
            let started = started_after(many);
            assert!(started.iter().all(|it| *it <= 8), "{many}: {started:?}");
        }
    }

    #[test]
    fn a_short_pause_has_a_short_start() {
        let mut limits = LimiterState::new(50);
        limits.pause(SECOND / 10, 0);
        let mut now = SECOND / 10;
        let mut admitted = 0;
        while now <= SECOND / 5 {
            match limits.check(Cost::ONE, now) {
                Admission::At(at, _) => now = at,
                _ if now == SECOND / 5 => break,
                _ => {
                    limits.take(Cost::ONE, now);
                    limits.release();
                    admitted += 1;
                }
            }
        }
        assert_eq!(admitted, 50, "all permits within a tenth of a second");
        for _ in 0..1_000 {
            assert_eq!(limits.check(Cost::ONE, now), Admission::Now);
            limits.take(Cost::ONE, now);
            limits.release();
        }
    }

    /// Sends as fast as it may until `end` to a server that lets in 50 a second, with a burst of
    /// ten, or is down. Returns how many were let in.
    fn send_until(end: Nanos, is_down: bool, limits: &mut LimiterState, now: &mut Nanos) -> u32 {
        let (mut bucket, mut filled, mut let_in) = (10.0_f64, *now, 0);
        while *now < end {
            if let Admission::At(at, _) = limits.admit(Cost::ONE, *now) {
                *now = at;
                continue;
            }
            let start = limits.start();
            bucket = (bucket + 50.0 * (*now - filled) as f64 / SECOND as f64).min(10.0);
            filled = *now;
            if bucket >= 1.0 && !is_down {
                bucket -= 1.0;
                let_in += 1;
                limits.let_in(start, *now);
            } else {
                let (heard, _) = if is_down {
                    limits.overloaded(start, None, *now)
                } else {
                    limits.refused(start, None, *now)
                };
                if let Heard::Held(pause) = heard {
                    limits.pause(*now + u64::try_from(pause.as_nanos()).unwrap(), *now);
                }
            }
            limits.release();
            *now += SECOND / 1_000;
        }
        let_in
    }

    #[test]
    fn an_overload_that_lasts_tells_no_rate() {
        let (mut limits, mut now) = (LimiterState::new(64), 0);
        let before = send_until(20 * SECOND, false, &mut limits, &mut now);
        assert!(before > 800, "{before}");
        assert_eq!(send_until(60 * SECOND, true, &mut limits, &mut now), 0);
        // The longest pause, and as much again as its start.
        now = now.max(68 * SECOND);
        let after = send_until(88 * SECOND, false, &mut limits, &mut now);
        assert!(after > 800, "{after}");
    }

    #[test]
    fn while_a_rate_and_a_number_at_once_explain_the_refusals_both_are_told() {
        let mut limits = LimiterState::new(20);
        let mut starts = Vec::new();
        while limits.admit(Cost::ONE, 0) == Admission::Now {
            starts.push(limits.start());
        }
        let wait = Duration::from_secs(60);
        for start in starts.split_off(3) {
            limits.refused(start, Some(wait), 1);
            limits.release();
        }
        limits.pause(60 * SECOND, 1);
        let told = |limits: &LimiterState, now| {
            let learned = limits.learned(now);
            (learned.at_once, learned.maybe_at_once)
        };
        assert_eq!(told(&limits, 2), (None, None), "more may be refused yet");
        assert_eq!(told(&limits, SECOND), (None, Some(3)));
        assert!(limits.learned(SECOND).from_refusals.is_some());
        for start in starts {
            limits.let_in(start, SECOND);
            limits.release();
        }
        assert_eq!(told(&limits, 59 * SECOND), (None, Some(3)));
        assert_eq!(limits.admit(Cost::ONE, 61 * SECOND), Admission::Now);
        assert_eq!(told(&limits, 61 * SECOND), (Some(3), None));
        assert_eq!(limits.learned(61 * SECOND).from_refusals, None);
    }

    #[test]
    fn a_rate_from_refusals_is_told_beside_a_day_of_which_something_is_left() {
        let mut limits = LimiterState::new(64);
        let day = Announced {
            counted: Counted::Requests,
            scope: 0,
            limit: 86_400,
            remaining: Some(86_000),
            reset: None,
            window: Some(Duration::from_secs(86_400)),
        };
        limits.announced(&day, 0, 0);
        limits.paced = Some(Bucket::full(Rate::per_second(30), 1, 0));
        let told = |limits: &LimiterState| limits.learned(SECOND).from_refusals;
        assert_eq!(
            told(&limits),
            Some(Rate::per_second(30)),
            "the day's is lower"
        );
        let over = Announced {
            remaining: Some(0),
            ..day
        };
        limits.announced(&over, 1, 1);
        assert_eq!(told(&limits), None);
    }

    #[test]
    fn what_was_sent_before_a_limit_was_announced_tells_no_rate() {
        let mut limits = LimiterState::new(64);
        let mut starts = Vec::new();
        while limits.admit(Cost::ONE, 0) == Admission::Now {
            starts.push(limits.start());
        }
        let announced = Announced {
            counted: Counted::Requests,
            scope: 0,
            limit: 3_000,
            remaining: Some(2_950),
            reset: None,
            window: None,
        };
        for (n, start) in starts.into_iter().enumerate() {
            limits.announced(&announced, 0, 1);
            match n {
                0..30 => drop(limits.refused(start, Some(Duration::from_secs(1)), 1)),
                _ => drop(limits.let_in(start, 1)),
            }
        }
        assert_eq!(limits.learned(0).from_refusals, None);
    }
}
