//! What goes next: the pure core of a run.
//!
//! A [`Schedule`] holds the input, the retries by due time, and the decider of failures. It knows
//! no thread, no lock and no clock; it is asked *now* and answers with an item, an instant, or that
//! there is nothing to do. What the server refused goes first, the oldest before the others, then
//! another retry that is due, then new input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::hedge::Hedging;
use super::input::{InputQueue, Pull};
use super::item::{Item, LONGEST_WAIT, Precedence};
use super::job::{out_of_time, run_over};
use super::warmup::Warmup;
use crate::binding::Binding;
use crate::clock::Parker;
use crate::error::Error;
use crate::retry::{Decider, Decision, Failed, History, Load, Passage, Retry};

/// An item that has its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) index: u64,
    /// If it succeeded: when the attempt that did began.
    pub(crate) success: Option<Instant>,
    /// Whether there was an attempt at it.
    pub(crate) was_sent: bool,
}

/// The answer to "what now?".
#[derive(Debug)]
pub(crate) enum Next<I, E> {
    /// Attempt this one.
    Attempt(Box<Item<I, E>>),
    /// This one is not to be attempted, for this reason: the run has been stopped, or its time is
    /// over while nothing may go.
    GiveUp(Box<Item<I, E>>, Error),
    /// The input ends here: its iterator panicked with this message.
    Broken { index: u64, message: String },
    /// Nothing before this instant, if there is one, unless something else happens.
    Wait(Option<Instant>),
}

/// The items that have an attempt under way, each with a copy of it to send if it takes too long.
type Copies<I, E> = Hedging<Box<Item<I, E>>>;

pub(crate) struct Schedule<I, E> {
    input: Arc<InputQueue<I>>,
    exhausted: bool,
    /// Given back by threads that found somebody else waiting for a permit.
    returned: Vec<Box<Item<I, E>>>,
    /// Those that were refused. If the limiter is paused, it says when they may go.
    refused: BTreeMap<Precedence, Box<Item<I, E>>>,
    /// When the last refusal was heard.
    last_refusal: Option<Instant>,
    /// Whether any has succeeded since, and how many that were sent after that.
    works: bool,
    successes: u32,
    /// The item under way that was refused more than once.
    again: Option<u64>,
    /// Retries by when they are due and by place in the input, so that no two are alike.
    due: BTreeMap<(Instant, u64), Box<Item<I, E>>>,
    decider: Decider,
    warmup: Warmup,
    /// `None` if hedging is off.
    pub(super) hedging: Option<Box<Copies<I, E>>>,
    run_deadline: Option<Instant>,
    /// Items handed out and not yet finished.
    handed_out: usize,
    stopped: bool,
}

impl<I: Send, E> Schedule<I, E> {
    pub(crate) fn new(
        input: Arc<InputQueue<I>>,
        retry: Retry,
        run_deadline: Option<Instant>,
    ) -> Self {
        Self {
            input,
            exhausted: false,
            returned: Vec::new(),
            refused: BTreeMap::new(),
            last_refusal: None,
            works: true,
            successes: 0,
            again: None,
            due: BTreeMap::new(),
            decider: Decider::new(retry),
            warmup: Warmup::default(),
            hedging: None,
            run_deadline,
            handed_out: 0,
            stopped: false,
        }
    }

    /// The same schedule, with a warm-up of `items`.
    pub(crate) fn with_warmup(mut self, items: u64) -> Self {
        self.warmup = Warmup::of(items);
        self
    }

    /// The same schedule, with hedging if it is wanted.
    pub(crate) fn with_hedging(mut self, wanted: bool) -> Self {
        self.hedging = wanted.then(Box::default);
        self
    }

    /// What to do now. `waiter` is the parker of whoever will wait if there is nothing.
    pub(crate) fn next(&mut self, now: Instant, waiter: &Arc<Parker>) -> Next<I, E> {
        let next = self.choose(now, waiter);
        self.handed_out += usize::from(!matches!(next, Next::Wait(_)));
        next
    }

    fn choose(&mut self, now: Instant, waiter: &Arc<Parker>) -> Next<I, E> {
        if self.stopped {
            return self.give_up(run_over, now, waiter);
        }
        match self.decider.passage(now) {
            Passage::Free => match self.candidate(now, waiter) {
                Next::Wait(until) => self.hedge(until, now),
                next => next,
            },
            Passage::NotUntil(at) => self.held(Some(at), now, waiter),
            Passage::WhenProbed => self.held(None, now, waiter),
            Passage::Probe => {
                let prober = self.prober(now).map(Next::Attempt);
                let next = prober.unwrap_or_else(|| self.candidate(now, waiter));
                if let Next::Attempt(item) = &next {
                    self.decider.probe_sent(item.index);
                }
                next
            }
        }
    }

    /// What to do when no item may go before `until`: send a copy that is due, or wait for one.
    fn hedge(&mut self, until: Option<Instant>, now: Instant) -> Next<I, E> {
        match self.hedging.as_mut().and_then(|hedging| hedging.next(now)) {
            Some(Ok(copy)) => Next::Attempt(copy),
            Some(Err(due)) => Next::Wait(Some(until.map_or(due, |until| until.min(due)))),
            None => Next::Wait(until),
        }
    }

    /// What there is to do while no attempt may go, at the latest until this instant: deadlines
    /// are kept all the same, which a wait for the next probe would oversleep by up to a minute.
    fn held(&mut self, until: Option<Instant>, now: Instant, waiter: &Arc<Parker>) -> Next<I, E> {
        if let Some(item) = self.take_overdue(now) {
            return Next::GiveUp(item, out_of_time());
        }
        if self.run_deadline.is_some_and(|end| end <= now) {
            // What has not begun will not.
            return self.give_up(out_of_time, now, waiter);
        }
        let waiting = self.due.values().chain(&self.returned);
        let waiting = waiting.chain(self.refused.values());
        let first = waiting.filter_map(|item| item.history.deadline).min();
        let instants = [until, first, self.run_deadline];
        Next::Wait(instants.into_iter().flatten().min())
    }

    /// What there is to do when nothing will be attempted any more.
    fn give_up(&mut self, why: fn() -> Error, now: Instant, waiter: &Arc<Parker>) -> Next<I, E> {
        match self.candidate(now, waiter) {
            Next::Attempt(item) => Next::GiveUp(item, why()),
            other => other,
        }
    }

    /// An item that waits and whose deadline has come.
    fn take_overdue(&mut self, now: Instant) -> Option<Box<Item<I, E>>> {
        let is_over = |item: &Item<I, E>| item.history.deadline.is_some_and(|end| end <= now);
        // All of them in one go: there may be thousands, and their order is another.
        let due = self.due.iter().filter(|(_, item)| is_over(item));
        for key in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.returned.extend(self.due.remove(&key));
        }
        let refused = self.refused.iter().filter(|(_, item)| is_over(item));
        for key in refused.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.returned.extend(self.refused.remove(&key));
        }
        let at = self.returned.iter().rposition(|item| is_over(item))?;
        Some(self.returned.remove(at))
    }

    /// Of the retries that are due, the one to probe with.
    fn prober(&mut self, now: Instant) -> Option<Box<Item<I, E>>> {
        if !self.returned.is_empty() || !self.refused.is_empty() {
            return None;
        }
        let due = self.due.range(..=(now, u64::MAX));
        let (&key, _) = due.min_by_key(|(key, item)| (item.history.probe_order(), **key))?;
        self.due.remove(&key)
    }

    /// The next item to go, the breaker aside.
    fn candidate(&mut self, now: Instant, waiter: &Arc<Parker>) -> Next<I, E> {
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
            && let Some(place) = first.get().refused
        {
            self.refused.insert(place, first.remove());
        }
        if let Some((&first, _)) = self.refused.first_key_value()
            && (self.stopped || self.may_go(first) || self.has_waited_long(first, now))
            && let Some(item) = self.take_refused()
        {
            return Next::Attempt(item);
        }
        if let Some(item) = self.returned.pop() {
            return Next::Attempt(item);
        }
        if let Some(first) = self.due.first_entry()
            && (self.stopped || first.key().0 <= now)
        {
            return Next::Attempt(first.remove());
        }
        if !self.exhausted && (self.stopped || self.warmup.lets_in()) {
            match self.input.pull(self.stopped, waiter) {
                Pull::Item(index, input, is_last) => {
                    self.exhausted = is_last;
                    let history = self.decider.history(index, now, self.run_deadline);
                    let mut item = Box::new(Item::new(index, input, history));
                    item.times.add(Binding::Warmup, self.warmup.begun(now));
                    return Next::Attempt(item);
                }
                Pull::Broken(index, message) => {
                    self.exhausted = true;
                    return Next::Broken { index, message };
                }
                Pull::Empty => {}
                Pull::End => self.exhausted = true,
            }
        } else if !self.exhausted {
            self.warmup.keeps_waiting(now);
        }
        if let Some(item) = self.take_refused() {
            return Next::Attempt(item);
        }
        Next::Wait(self.due.keys().next().map(|(at, _)| *at))
    }

    /// The first in the line of those that were refused.
    fn take_refused(&mut self) -> Option<Box<Item<I, E>>> {
        let (place, item) = self.refused.pop_first()?;
        if place.is_refused_again() {
            self.again = Some(place.index);
        }
        Some(item)
    }

    /// Whether an item with this place in the line of those that were refused goes before new ones.
    fn may_go(&self, place: Precedence) -> bool {
        !place.is_refused_again() || self.successes >= place.successes() && self.again.is_none()
    }

    fn has_waited_long(&self, place: Precedence, now: Instant) -> bool {
        self.works && now >= place.since + LONGEST_WAIT
    }

    /// An item that was handed out is back.
    fn take_back(&mut self, index: u64) {
        self.handed_out -= 1;
        self.again.take_if(|again| *again == index);
    }

    /// Whether there is something to attempt, or something may come by itself: whether the run
    /// should have a leader.
    pub(crate) fn expects_more(&self) -> bool {
        !(self.exhausted || self.input.is_spent())
            || !self.returned.is_empty()
            || !self.refused.is_empty()
            || !self.due.is_empty()
    }

    /// Whether a copy may become due, so that a thread must wait for it.
    pub(crate) fn expects_copies(&self) -> bool {
        let hedging = self.hedging.as_ref();
        !self.stopped && hedging.is_some_and(|hedging| hedging.expects_copies())
    }

    /// An attempt has ended and does not decide about its item.
    pub(super) fn leave_race(&mut self) {
        self.handed_out -= 1;
    }

    /// An item that was not attempted after all, because somebody else waits for a permit.
    pub(crate) fn give_back(&mut self, item: Box<Item<I, E>>) {
        self.take_back(item.index);
        self.decider.probe_withdrawn(item.index);
        match item.refused {
            Some(place) => {
                self.refused.insert(place, item);
            }
            None => self.returned.push(item),
        }
    }

    /// Whether something was refused that goes before an item with this place, which was not
    /// refused if it has none.
    pub(crate) fn has_before(&self, place: Option<Precedence>) -> bool {
        self.refused.keys().next().is_some_and(|first| match place {
            Some(place) => *first < place,
            None => self.may_go(*first),
        })
    }

    /// Whether an item that waits for a permit gives way, now that another one was refused.
    pub(crate) fn gives_way(&self, place: Option<Precedence>) -> bool {
        self.has_before(place) || place.is_some_and(Precedence::is_refused_again)
    }

    /// Decides about a failed attempt. Unless it is to be retried the item is still out, until it
    /// is [`finished`](Self::finished).
    pub(crate) fn decide(
        &mut self,
        index: u64,
        history: &mut History,
        failed: Failed,
        now: Instant,
    ) -> Decision {
        let all_known = self.exhausted || self.input.is_spent();
        let known = self.handed_out + self.due.len() + self.returned.len();
        let load = Load {
            in_flight: self.handed_out,
            unfinished: if all_known { known } else { usize::MAX },
        };
        let decision = self.decider.decide(index, history, failed, load, now);
        if matches!(decision, Decision::Stop | Decision::StopAlike(_)) {
            self.stopped = true;
        }
        decision
    }

    /// The item is tried again when this instant has come.
    pub(crate) fn retry_at(&mut self, mut item: Box<Item<I, E>>, at: Instant) {
        self.take_back(item.index);
        item.refused = None;
        self.due.insert((at, item.index), item);
    }

    /// The item was refused. It is tried again as soon as the limiter lets it, but not before `at`
    /// if it waits alone.
    pub(crate) fn refused(&mut self, mut item: Box<Item<I, E>>, at: Option<Instant>, now: Instant) {
        self.take_back(item.index);
        self.last_refusal = Some(now);
        self.works = false;
        self.successes = 0;
        let place = Precedence {
            earlier: item.history.attempts.saturating_sub(1),
            index: item.index,
            since: now,
        };
        item.refused = Some(place);
        match at {
            Some(at) => {
                self.due.insert((at, item.index), item);
            }
            None => {
                self.refused.insert(place, item);
            }
        }
    }

    /// An item's outcome has been handed over. Returns whether other items waited for that.
    pub(crate) fn finished(&mut self, finished: Finished) -> bool {
        self.take_back(finished.index);
        if let Some(sent) = finished.success {
            self.works = true;
            let is_since = self.last_refusal.is_none_or(|at| sent > at);
            self.successes = self.successes.saturating_add(is_since.into());
            self.decider.succeeded();
        } else {
            self.decider.probe_withdrawn(finished.index);
        }
        self.warmup.ended(finished.was_sent)
    }

    /// Attempts nothing from now on; what is left is abandoned. `false` if that was so already.
    pub(crate) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.stopped, true)
    }

    /// Items handed out and not yet finished.
    pub(crate) fn handed_out(&self) -> usize {
        self.handed_out
    }

    /// Whether everything has come back and nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.handed_out == 0 && !self.expects_more()
    }

    /// Whether everything is known to have begun, and nothing waits to be tried again.
    pub(crate) fn has_begun_all(&self) -> bool {
        self.exhausted && self.returned.is_empty() && self.refused.is_empty() && self.due.is_empty()
    }

    /// What holds the run back while it has nothing to send.
    pub(crate) fn binding(&self, now: Instant) -> Binding {
        if self.stopped {
            Binding::Wire
        } else if self.next_probe(now).is_some() {
            Binding::Outage
        } else if !self.exhausted && !self.warmup.lets_in() {
            Binding::Warmup
        } else if !self.exhausted && self.input.is_behind() {
            Binding::Input
        } else if self.due.is_empty() {
            Binding::Wire
        } else {
            Binding::Backoff
        }
    }

    /// While the breaker keeps attempts back: when the next probe may go.
    pub(crate) fn next_probe(&self, now: Instant) -> Option<Instant> {
        match self.decider.passage(now) {
            Passage::Free => None,
            Passage::NotUntil(at) => Some(at),
            Passage::Probe | Passage::WhenProbed => Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{Reach, Verdict};
    use std::time::Duration;

    fn failed(verdict: Verdict, reach: Reach) -> Failed {
        Failed {
            verdict,
            reach,
            likeness: None,
        }
    }

    fn done(index: u64, success: Option<Instant>) -> Finished {
        Finished {
            index,
            success,
            was_sent: true,
        }
    }

    const ITEMS: [u32; 4] = [10, 11, 12, 13];

    fn schedule(items: &[u32]) -> Schedule<&u32, ()> {
        Schedule::new(InputQueue::filled(items), Retry::new().seed(1), None)
    }

    fn attempt<'a>(schedule: &mut Schedule<&'a u32, ()>, now: Instant) -> Box<Item<&'a u32, ()>> {
        match schedule.next(now, &Parker::new()) {
            Next::Attempt(item) => item,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_due_retry_goes_before_new_input_and_not_before_its_time() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS);
        let first = attempt(&mut schedule, now);
        schedule.retry_at(first, now + Duration::from_secs(5));
        assert_eq!(attempt(&mut schedule, now).index, 1);
        let later = now + Duration::from_secs(5);
        assert_eq!(attempt(&mut schedule, later).index, 0);
        assert_eq!(attempt(&mut schedule, later).index, 2);
    }

    /// Has the server refused it so often.
    fn refuse<'a>(
        schedule: &mut Schedule<&'a u32, ()>,
        mut item: Box<Item<&'a u32, ()>>,
        attempts: u32,
        now: Instant,
    ) {
        item.history.attempts = attempts;
        schedule.refused(item, None, now);
    }

    #[test]
    fn what_was_refused_goes_first_and_the_oldest_before_the_others() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS);
        let [first, second, third] = [0; 3].map(|_| attempt(&mut schedule, now));
        schedule.give_back(third);
        refuse(&mut schedule, second, 1, now);
        let place = schedule.refused.keys().next().copied();
        assert!(schedule.has_before(None) && !schedule.has_before(place));
        refuse(&mut schedule, first, 1, now);
        assert!(schedule.has_before(place) && schedule.gives_way(place));
        let order = [0; 4].map(|_| attempt(&mut schedule, now));
        assert_eq!(order.each_ref().map(|item| item.index), [0, 1, 2, 3]);
    }

    /// So many have succeeded that were sent then.
    fn succeed(schedule: &mut Schedule<&u32, ()>, successes: u32, sent: Instant) {
        for _ in 0..successes {
            let item = attempt(schedule, sent);
            schedule.finished(done(item.index, Some(sent)));
        }
    }

    #[test]
    fn what_was_refused_again_goes_after_successes_that_were_sent_since() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let items = [0; 200];
        let mut schedule = schedule(&items);
        let again = attempt(&mut schedule, start);
        refuse(&mut schedule, again, 2, at(1));
        // What was on its way then says nothing.
        succeed(&mut schedule, 3, at(1));
        assert!(!schedule.has_before(None));
        succeed(&mut schedule, 3, at(2));
        assert!(schedule.has_before(None));
        let again = attempt(&mut schedule, at(3));
        assert_eq!(again.index, 0);
        assert!(schedule.gives_way(again.refused), "if another is refused");
        // After another refusal it takes more of them, unless there is nothing new to send.
        refuse(&mut schedule, again, 3, at(4));
        succeed(&mut schedule, 29, at(5));
        assert!(!schedule.has_before(None));
        while let Next::Attempt(new) = schedule.next(at(5), &Parker::new())
            && new.index > 0
        {}
        assert!(schedule.refused.is_empty(), "it has gone as the last");
    }

    #[test]
    fn of_those_that_were_refused_again_one_goes_at_a_time_and_none_waits_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let items = [0; 200];
        let mut schedule = schedule(&items);
        let both = [0; 2].map(|_| attempt(&mut schedule, start));
        for item in both {
            refuse(&mut schedule, item, 3, start);
        }
        succeed(&mut schedule, 30, at(1));
        let order = [0; 2].map(|_| attempt(&mut schedule, at(1)).index);
        let new = 32;
        assert_eq!(order, [0, new], "one is under way");
        schedule.finished(done(0, Some(at(1))));
        let second = attempt(&mut schedule, at(2));
        assert_eq!(second.index, 1);
        refuse(&mut schedule, second, 4, at(2));
        let late = at(2) + LONGEST_WAIT;
        let order = [at(3), late].map(|now| attempt(&mut schedule, now).index);
        assert_eq!(order, [new + 1, new + 2], "nothing is known to be let in");
        schedule.finished(done(new + 1, Some(at(2))));
        let order = [at(3), late].map(|now| attempt(&mut schedule, now).index);
        assert_eq!(order, [new + 3, 1]);
    }

    #[test]
    fn what_waits_alone_after_a_refusal_stands_in_line_when_its_wait_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let items = [0; 9];
        let mut schedule = schedule(&items);
        let [mut once, mut again] = [0; 2].map(|_| attempt(&mut schedule, start));
        once.history.attempts = 1;
        again.history.attempts = 2;
        schedule.refused(again, Some(at(1)), start);
        schedule.refused(once, Some(at(1)), start);
        assert_eq!(attempt(&mut schedule, start).index, 2);
        let order = [0; 2].map(|_| attempt(&mut schedule, at(1)).index);
        assert_eq!(order, [0, 3]);
    }

    #[test]
    fn what_a_run_waits_for_that_has_nothing_to_send() {
        let now = Instant::now();
        let queue = InputQueue::new(2, crate::clock::Clock::system());
        let mut schedule = Schedule::new(Arc::clone(&queue), Retry::new().seed(1), None);
        let next = |schedule: &mut Schedule<u32, ()>| schedule.next(now, &Parker::new());
        assert!(matches!(next(&mut schedule), Next::Wait(None)));
        assert_eq!(schedule.binding(now), Binding::Input);
        let mut input = 10..13;
        let [Next::Attempt(first), Next::Attempt(second)] = [0; 2].map(|_| {
            queue.fill(&mut input);
            next(&mut schedule)
        }) else {
            panic!("two are there, and the window is full")
        };
        assert_eq!(schedule.binding(now), Binding::Wire);
        schedule.retry_at(first, now + Duration::from_secs(1));
        assert_eq!(schedule.binding(now), Binding::Backoff);
        assert!(!schedule.has_begun_all());
        schedule.finished(done(second.index, Some(now)));
        queue.delivered(1);
        assert_eq!(schedule.binding(now), Binding::Input);
        let mut history = schedule.decider.history(2, now, None);
        let down = failed(Verdict::Unreachable, Reach::NotSent);
        schedule.decide(2, &mut history, down, now);
        assert_eq!(schedule.binding(now), Binding::Outage);
    }

    #[test]
    fn the_last_item_is_known_to_be_the_last() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS[..2]);
        attempt(&mut schedule, now);
        assert!(!schedule.has_begun_all());
        let last = attempt(&mut schedule, now);
        assert!(schedule.has_begun_all());
        schedule.give_back(last);
        assert!(!schedule.has_begun_all());
    }

    #[test]
    fn the_first_go_alone_and_a_stop_waits_for_nobody() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS).with_warmup(1);
        let nothing = |schedule: &mut Schedule<_, _>, now| {
            assert!(matches!(schedule.next(now, &Parker::new()), Next::Wait(_)));
            assert!(schedule.expects_more());
            assert_eq!(schedule.binding(now), Binding::Warmup);
        };
        let first = attempt(&mut schedule, now);
        nothing(&mut schedule, now);
        let later = now + Duration::from_secs(5);
        schedule.retry_at(first, later);
        nothing(&mut schedule, now);
        assert_eq!(attempt(&mut schedule, later).index, 0);
        nothing(&mut schedule, later);
        assert!(schedule.finished(done(0, None)), "others have waited");
        for (index, waited) in [(1, 5), (2, 0)] {
            let item = attempt(&mut schedule, later);
            let warmup = item.times.of(Binding::Warmup);
            assert_eq!((item.index, warmup.as_secs()), (index, waited));
        }
        assert_eq!(schedule.binding(later), Binding::Wire);
        assert!(!schedule.finished(done(1, Some(now))));

        let mut stopped = self::schedule(&ITEMS).with_warmup(1);
        attempt(&mut stopped, now);
        stopped.stop();
        for _ in 0..3 {
            let next = stopped.next(now, &Parker::new());
            assert!(matches!(next, Next::GiveUp(..)), "{next:?}");
        }
    }

    #[test]
    fn it_is_over_when_all_that_went_out_has_come_back() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS[..1]);
        let item = attempt(&mut schedule, now);
        assert!(matches!(
            schedule.next(now, &Parker::new()),
            Next::Wait(None)
        ));
        schedule.retry_at(item, now + Duration::from_secs(1));
        assert!(matches!(
            schedule.next(now, &Parker::new()),
            Next::Wait(Some(_))
        ));
        let item = attempt(&mut schedule, now + Duration::from_secs(1));
        schedule.finished(done(item.index, Some(now)));
        assert!(schedule.is_over());
    }

    #[test]
    fn a_stop_abandons_what_is_left_each_once() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS);
        let first = attempt(&mut schedule, now);
        let mut second = attempt(&mut schedule, now);
        schedule.retry_at(first, now + Duration::from_secs(60));
        let decision = schedule.decide(
            1,
            &mut second.history,
            failed(Verdict::Stop, Reach::Answered),
            now,
        );
        assert_eq!(decision, Decision::Stop);
        let mut abandoned = Vec::new();
        while let Next::GiveUp(item, _) = schedule.next(now, &Parker::new()) {
            abandoned.push(item.index);
            schedule.finished(done(item.index, None));
        }
        assert_eq!(abandoned, [0, 2, 3]);
        assert!(
            matches!(schedule.next(now, &Parker::new()), Next::Wait(None)),
            "one is still out"
        );
        schedule.finished(done(1, None));
        assert!(schedule.is_over());
    }

    #[test]
    fn an_unreachable_server_is_probed_by_one() {
        let now = Instant::now();
        let mut schedule = schedule(&ITEMS);
        let mut first = attempt(&mut schedule, now);
        let Decision::RetryAt(at) = schedule.decide(
            0,
            &mut first.history,
            failed(Verdict::Unreachable, Reach::NotSent),
            now,
        ) else {
            panic!("not charged, so retried")
        };
        schedule.retry_at(first, at);
        let Next::Wait(Some(probe_at)) = schedule.next(now, &Parker::new()) else {
            panic!("held")
        };
        let probe = attempt(&mut schedule, probe_at);
        assert_eq!(probe.index, 0);
        assert!(
            matches!(schedule.next(probe_at, &Parker::new()), Next::Wait(None)),
            "one at a time"
        );
        schedule.finished(done(probe.index, Some(probe_at)));
        assert_eq!(attempt(&mut schedule, probe_at).index, 1);
    }

    #[test]
    fn one_item_probes_three_times_unpaid_and_then_another() {
        let mut now = Instant::now();
        let mut schedule = schedule(&ITEMS[..2]);
        let mut often = attempt(&mut schedule, now);
        let mut once = attempt(&mut schedule, now);
        let retry = failed(Verdict::Retry, Reach::Answered);
        for _ in 0..3 {
            schedule.decide(0, &mut often.history, retry, now);
        }
        let nothing_sent = failed(Verdict::Unreachable, Reach::NotSent);
        schedule.decide(1, &mut once.history, nothing_sent, now);
        schedule.retry_at(often, now);
        schedule.retry_at(once, now);
        let mut probes = Vec::new();
        for _ in 0..7 {
            let Next::Wait(Some(at)) = schedule.next(now, &Parker::new()) else {
                panic!("held until the next probe")
            };
            now = at;
            let mut probe = attempt(&mut schedule, now);
            probes.push(probe.index);
            // Never out of attempts: a probe is not charged.
            let decision = schedule.decide(probe.index, &mut probe.history, retry, now);
            assert_eq!(decision, Decision::RetryAt(now));
            schedule.retry_at(probe, now);
        }
        assert_eq!(probes, [0, 0, 0, 1, 1, 1, 0]);
    }

    #[test]
    fn the_deadlines_of_items_are_kept_while_nothing_may_go() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let retry = Retry::new().item_deadline(Some(Duration::from_secs(4)));
        let input = InputQueue::filled(&ITEMS[..2]);
        let mut schedule: Schedule<&u32, ()> = Schedule::new(input, retry, None);
        let fail = |schedule: &mut Schedule<&u32, ()>, mut item: Box<Item<_, _>>, now| {
            let nothing_sent = failed(Verdict::Unreachable, Reach::NotSent);
            let history = &mut item.history;
            match schedule.decide(item.index, history, nothing_sent, now) {
                Decision::RetryAt(again) => schedule.retry_at(item, again),
                end => panic!("{end:?}"),
            }
        };
        let both = [0, 1].map(|_| attempt(&mut schedule, start));
        for item in both {
            fail(&mut schedule, item, start);
        }
        for second in [1, 3] {
            let probe = attempt(&mut schedule, at(second));
            fail(&mut schedule, probe, at(second));
        }
        // The next probe is at seven seconds.
        match schedule.next(at(3), &Parker::new()) {
            Next::Wait(Some(next)) => assert_eq!(next, at(4)),
            other => panic!("{other:?}"),
        }
        for _ in 0..2 {
            match schedule.next(at(4), &Parker::new()) {
                Next::GiveUp(item, _) => {
                    schedule.finished(done(item.index, None));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(schedule.is_over());
    }

    #[test]
    fn the_deadline_of_the_run_is_kept_while_nothing_may_go() {
        let start = Instant::now();
        let end = start + Duration::from_millis(500);
        let input = InputQueue::filled(&ITEMS);
        let mut schedule: Schedule<&u32, ()> = Schedule::new(input, Retry::new(), Some(end));
        let mut first = attempt(&mut schedule, start);
        let nothing_sent = failed(Verdict::Unreachable, Reach::NotSent);
        let decision = schedule.decide(0, &mut first.history, nothing_sent, start);
        assert_eq!(decision, Decision::RetryAt(start), "the breaker holds it");
        schedule.retry_at(first, start);
        match schedule.next(start, &Parker::new()) {
            Next::Wait(Some(next)) => assert_eq!(next, end),
            other => panic!("{other:?}"),
        }
        for index in 0..4 {
            match schedule.next(end, &Parker::new()) {
                Next::GiveUp(item, _) => assert_eq!(item.index, index),
                other => panic!("{other:?}"),
            }
            schedule.finished(done(index, None));
        }
        assert!(schedule.is_over());
    }
}
