//! One run in virtual time: a loop over events that drives the parts of a real run.
//!
//! What goes next, whether it may, and what becomes of a failure is asked of the same code that a
//! real run asks: [`Schedule`], [`LimiterState`] and, within the schedule, the decider of failures.
//! The loop is what threads are in a real run. At most one item waits at the limiter, all that are
//! in flight are in a heap by when they end, and the time is that of the next event.
//!
//! The costs, and with them the memory, are those of what is in flight or waits to be tried again,
//! however many requests there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::draws::{Draws, End, Nanos, Variant, nanos};
use super::{Planned, Scenario};
use crate::api::{Estimates, Usage};
use crate::binding::{Binding, Times};
use crate::clock::Parker;
use crate::error::{Result, config};
use crate::limit::{Admission, Cost, LimiterState, Start};
use crate::pool::{BindingTrack, Finished, InputQueue, Item, Next, Schedule};
use crate::retry::{Decision, Failed, Reach, Verdict};

/// 500 years of 365 days. Nanoseconds end 84 years later.
const LONGEST: Nanos = 500 * 365 * 86_400 * 1_000_000_000;
const TOO_LONG: &str = "a run of so many requests would take more than 500 years: raise the limits or \
                        the concurrency, or plan fewer";

/// The result of a run in virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RunResult {
    pub(crate) requests: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) attempts: u64,
    /// Attempts that the deadline of the run ends.
    pub(crate) cut_off: u64,
    /// Requests that no limit on model tokens ever lets in, and as how many tokens the largest of
    /// them counts.
    pub(crate) never_fit: u64,
    pub(crate) largest: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// Model tokens as the limits count them, of all attempts.
    pub(crate) counted_tokens: u64,
    /// What held the run back.
    pub(crate) bound: Times,
    /// The time under way, summed over all attempts.
    pub(crate) wire: Duration,
    pub(crate) in_flight_peak: usize,
    pub(crate) end: Duration,
    /// When half of the requests had begun, and when the last one did.
    pub(crate) half_begun: Duration,
    pub(crate) all_begun: Duration,
}

/// An attempt under way.
struct Flight {
    item: Box<Item<(), ()>>,
    request: Planned,
    start: Start,
    sent: Nanos,
    cost: Cost,
    end: End,
    /// Whether an answer comes, before the attempt's time is over.
    is_answered: bool,
}

/// Runs a scenario to its end.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for limits that cannot be, and for a run that is
/// longer than [`LONGEST`].
pub(super) fn run(scenario: &Scenario, variant: Variant) -> Result<RunResult> {
    Engine::new(scenario, variant)?.run()
}

struct Engine<'a> {
    scenario: &'a Scenario,
    draws: Draws<'a>,
    limits: LimiterState,
    estimates: Estimates,
    schedule: Schedule<(), ()>,
    /// Nobody is parked here: there is one thread.
    parker: Arc<Parker>,
    track: BindingTrack,
    binding: Option<Binding>,
    /// The instant of time 0, and that of the time now.
    epoch: Instant,
    instant: Instant,
    now: Nanos,
    /// The item that waits at the limiter.
    waiting: Option<(Box<Item<(), ()>>, Planned)>,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    /// When each flight ends.
    ends: BinaryHeap<Reverse<(Nanos, usize)>>,
    begun: u64,
    result: RunResult,
}

impl<'a> Engine<'a> {
    fn new(scenario: &'a Scenario, variant: Variant) -> Result<Self> {
        let epoch = Instant::now();
        // What takes no memory is there from the start, however many there are.
        let input = InputQueue::filled((0..variant.requests).map(|_| ()));
        let retry = scenario.retry.seed(variant.seed);
        let deadline = scenario.deadline.and_then(|time| epoch.checked_add(time));
        Ok(Self {
            scenario,
            draws: Draws { scenario, variant },
            limits: scenario.state(variant.concurrency, variant.parts)?,
            estimates: Estimates::new(scenario.counting),
            schedule: Schedule::new(input, retry, deadline).with_warmup(scenario.warmup),
            parker: Parker::new(),
            track: BindingTrack::default(),
            binding: None,
            epoch,
            instant: epoch,
            now: 0,
            waiting: None,
            flights: Vec::new(),
            free: Vec::new(),
            ends: BinaryHeap::new(),
            begun: 0,
            result: RunResult {
                requests: variant.requests,
                ..RunResult::default()
            },
        })
    }

    fn run(mut self) -> Result<RunResult> {
        loop {
            let wake = self.send();
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let Some(next) = [wake, end].into_iter().flatten().min() else {
                break;
            };
            self.now = self.now.max(next);
            if self.now > LONGEST {
                return Err(config(TOO_LONG));
            }
            self.instant = self.epoch + Duration::from_nanos(self.now);
            while let Some(end) = self.ends.peek()
                && end.0.0 <= self.now
                && let Some(Reverse((_, slot))) = self.ends.pop()
            {
                let flight = self.flights[slot].take();
                self.free.push(slot);
                if let Some(flight) = flight {
                    self.end(flight);
                }
            }
        }
        self.bind(None);
        self.result.bound = self.track.settle(self.instant).0;
        Ok(self.result)
    }

    /// Sends all that may go now. When to look again, if nothing ends before.
    fn send(&mut self) -> Option<Nanos> {
        loop {
            let now = self.instant;
            let (mut item, request) = match self.waiting.take() {
                Some(waiting) => waiting,
                // All threads are in attempts.
                None if self.limits.in_flight() >= self.limits.most_threads() => {
                    self.bind_in_flight();
                    return None;
                }
                None => match self.schedule.next(now, &self.parker) {
                    Next::Attempt(item) => {
                        let request = self.draws.request(item.index);
                        (item, request)
                    }
                    Next::GiveUp(item, _) => {
                        self.finished(&item, false);
                        continue;
                    }
                    Next::Broken { .. } => continue,
                    Next::Wait(until) => {
                        self.bind(Some(self.schedule.binding(now)));
                        return until.map(|until| self.nanos(until));
                    }
                },
            };
            if self.schedule.has_begun_all() {
                self.bind(Some(Binding::Wire));
            }
            let deadline = item.history.deadline;
            let cost = *item.cost.get_or_insert_with(|| self.cost(&request));
            let is_late = deadline.is_some_and(|deadline| deadline <= now);
            let never_fits = self.limits.check_fits(cost).is_err();
            if never_fits {
                self.result.never_fit += 1;
                self.result.largest = self.result.largest.max(cost.model_tokens());
            }
            if is_late || never_fits {
                self.result.failed += 1;
                self.finished(&item, false);
                continue;
            }
            match self.limits.admit(cost, self.now) {
                Admission::Now => self.begin(item, request, cost),
                // A planned limiter is shared with nobody.
                Admission::When(_) => {
                    self.bind_in_flight();
                    self.waiting = Some((item, request));
                    return deadline.map(|deadline| self.nanos(deadline));
                }
                Admission::At(at, reason) => {
                    self.bind(Some(reason));
                    self.waiting = Some((item, request));
                    let deadline = deadline.map_or(Nanos::MAX, |deadline| self.nanos(deadline));
                    return Some(at.min(deadline));
                }
            }
        }
    }

    /// Sends an item that has been admitted.
    fn begin(&mut self, item: Box<Item<(), ()>>, request: Planned, cost: Cost) {
        let attempt = item.history.attempts + 1;
        if item.history.attempts == 0 {
            self.begun += 1;
            self.result.all_begun = Duration::from_nanos(self.now);
            if self.begun == self.result.requests.div_ceil(2) {
                self.result.half_begun = self.result.all_begun;
            }
        }
        let (mut took, mut end) = self.draws.attempt(&request, item.index, attempt);
        let deadline = item.history.deadline;
        let left = deadline.map_or(Nanos::MAX, |end| self.nanos(end).saturating_sub(self.now));
        let timeout = nanos(self.scenario.timeout);
        let is_answered = took <= left.min(timeout);
        if !is_answered {
            (took, end) = (left.min(timeout), Err(Verdict::Retry));
            self.result.cut_off += u64::from(left < timeout);
        }
        let flight = Flight {
            item,
            request,
            start: self.limits.start(),
            sent: self.now,
            cost,
            end,
            is_answered,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        self.flights[slot] = Some(flight);
        self.ends
            .push(Reverse((self.now.saturating_add(took), slot)));
        self.result.in_flight_peak = self.result.in_flight_peak.max(self.limits.in_flight());
    }

    /// An attempt ends.
    fn end(&mut self, mut flight: Flight) {
        self.result.wire += Duration::from_nanos(self.now - flight.sent);
        let Flight { start, cost, .. } = flight;
        flight.item.history.attempts += 1;
        self.result.attempts += 1;
        if flight.is_answered {
            self.limits.let_in(start, self.now);
        }
        let now = self.now;
        let output = match flight.end {
            Ok(output) => output,
            Err(verdict) => {
                // What was answered with a refusal was not worked on.
                let is_worked_on = verdict == Verdict::Retry;
                let used = if is_worked_on {
                    cost.with_held(0)
                } else {
                    Cost::tokens(0)
                };
                self.result.counted_tokens += used.model_tokens();
                self.limits.end(cost, used, (start, false), now);
                return self.fail(flight, verdict);
            }
        };
        let request = flight.request;
        self.result.succeeded += 1;
        self.result.prompt_tokens += request.prompt_tokens;
        self.result.completion_tokens += output;
        let used = self.scenario.counting.used(&Usage {
            prompt_tokens: request.prompt_tokens,
            completion_tokens: output,
            total_tokens: request.prompt_tokens + output,
            ..Usage::default()
        });
        self.result.counted_tokens += used.model_tokens();
        if self.limits.most_tokens().is_some() {
            self.estimates.answered(&request.size, used);
        }
        self.limits.end(cost, used, (start, true), now);
        self.finished(&flight.item, true);
    }

    /// An attempt has failed: the item is tried again, or given up.
    fn fail(&mut self, flight: Flight, verdict: Verdict) {
        let (mut item, is_answered) = (flight.item, flight.is_answered);
        let failed = Failed {
            verdict,
            reach: if is_answered {
                Reach::Answered
            } else {
                Reach::Unanswered
            },
            likeness: None,
        };
        let (index, instant) = (item.index, self.instant);
        let history = &mut item.history;
        let decision = self.schedule.decide(index, history, failed, instant);
        if let Decision::RetryAt(at) = decision {
            item.cost = None;
            self.schedule.retry_at(item, at);
        } else {
            self.result.failed += 1;
            self.finished(&item, false);
        }
    }

    fn finished(&mut self, item: &Item<(), ()>, succeeded: bool) {
        self.result.end = Duration::from_nanos(self.now);
        self.schedule.finished(Finished {
            index: item.index,
            // Nothing is refused in a plan, so it does not matter when it was sent.
            success: succeeded.then_some(self.instant),
            was_sent: item.history.attempts > 0,
        });
    }

    fn bind_in_flight(&mut self) {
        if !self.schedule.has_begun_all() {
            self.bind(Some(Binding::InFlight));
        }
    }

    /// From now on it is this that holds the run back.
    fn bind(&mut self, binding: Option<Binding>) {
        if self.binding != binding {
            self.binding = binding;
            self.track.set(binding, self.instant);
        }
    }

    fn cost(&self, request: &Planned) -> Cost {
        match self.limits.most_tokens() {
            Some(most) => self.estimates.cost(&request.size, request.writes, most),
            None => Cost::ONE,
        }
    }

    fn nanos(&self, at: Instant) -> Nanos {
        nanos(at.saturating_duration_since(self.epoch))
    }
}
