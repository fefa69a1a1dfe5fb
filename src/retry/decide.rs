//! What happens to an item after a failed attempt: decided from its verdict, its history, the retry
//! policy and the breaker. Nothing here waits or sends.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::breaker::{Breaker, Noted, Passage};
use super::policy::{Backoff, Retry};
use super::verdict::{Reach, Verdict};

/// What has happened to one item so far.
#[derive(Clone, Debug)]
pub(crate) struct History {
    backoff: Backoff,
    /// Requests sent.
    pub(crate) attempts: u32,
    /// Failed attempts that count for `max_attempts`.
    charged: u32,
    /// Waits that the server asked for.
    waits: u32,
    /// Failed probes.
    probes: u32,
    /// Unusable answers.
    unusable: u32,
    /// When the item as a whole must be done.
    pub(crate) deadline: Option<Instant>,
}

impl History {
    /// The order in which items are sent as probes, the least first. A probe is not charged, so it
    /// goes to the item with the fewest attempts left. After three failed probes of one item others
    /// come first: it may be the item that fails, and not the server.
    pub(crate) fn probe_order(&self) -> impl Ord + use<> {
        (self.probes / 3, Reverse(self.charged))
    }
}

/// What happens to an item after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is tried again, not before this instant.
    RetryAt(Instant),
    /// It has failed.
    Fail,
    /// It has failed: its deadline is before its next attempt.
    OutOfTime,
    /// It has failed, and the run stops.
    Stop,
}

/// Decides for all items of one run.
#[derive(Debug)]
pub(crate) struct Decider {
    policy: Retry,
    breaker: Breaker,
    succeeded: bool,
    /// The number of the last [`Verdict::FailOrStopIfRepeated`], and how often it came in a row.
    repeated: (u16, u32),
}

/// So many identical failures stop a run that has had no success.
const REPEATED_TO_STOP: u32 = 10;
/// Each unusable answer may have been billed, so an item is tried again only so often.
const UNUSABLE_RETRIES: u32 = 2;

impl Decider {
    pub(crate) fn new(policy: Retry) -> Self {
        Self {
            policy,
            breaker: Breaker::default(),
            succeeded: false,
            repeated: (0, 0),
        }
    }

    pub(crate) fn history(
        &self,
        item: u64,
        now: Instant,
        run_deadline: Option<Instant>,
    ) -> History {
        let longest = self.policy.item_deadline;
        let own_deadline = longest.and_then(|longest| now.checked_add(longest));
        History {
            backoff: self.policy.backoff_for(item),
            attempts: 0,
            charged: 0,
            waits: 0,
            probes: 0,
            unusable: 0,
            deadline: [own_deadline, run_deadline].into_iter().flatten().min(),
        }
    }

    /// Whether the breaker lets an attempt through.
    pub(crate) fn passage(&self, now: Instant) -> Passage {
        self.breaker.passage(now)
    }

    pub(crate) fn probe_sent(&mut self, item: u64) {
        self.breaker.probe_sent(item);
    }

    pub(crate) fn probe_withdrawn(&mut self, item: u64) {
        self.breaker.probe_withdrawn(item);
    }

    pub(crate) fn succeeded(&mut self) {
        self.succeeded = true;
        self.breaker.works();
    }

    /// Decides about `item`, whose attempt got as far as `reach` and failed with `verdict`.
    pub(crate) fn decide(
        &mut self,
        item: u64,
        history: &mut History,
        verdict: Verdict,
        reach: Reach,
        now: Instant,
    ) -> Decision {
        let noted = self.note(item, verdict, reach, now);
        if noted.hopeless {
            return Decision::Stop;
        }
        if !matches!(verdict, Verdict::FailOrStopIfRepeated(_)) {
            self.repeated.1 = 0;
        }
        match verdict {
            Verdict::Fail => Decision::Fail,
            Verdict::Stop => Decision::Stop,
            Verdict::FailOrStopIfRepeated(number) => {
                let (last, times) = self.repeated;
                self.repeated = (number, if last == number { times + 1 } else { 1 });
                if self.repeated.1 >= REPEATED_TO_STOP && !self.succeeded {
                    Decision::Stop
                } else {
                    Decision::Fail
                }
            }
            // A probe asks on behalf of the run, so it is not charged to its item.
            Verdict::Retry if noted.probe => {
                history.probes += 1;
                if history.probes > self.policy.max_waits {
                    return Decision::Fail;
                }
                retry_after(Duration::ZERO, history, now)
            }
            Verdict::Retry | Verdict::Throttled | Verdict::Unusable => {
                history.charged += 1;
                history.unusable += u32::from(verdict == Verdict::Unusable);
                if history.charged >= self.policy.max_attempts
                    || history.unusable > UNUSABLE_RETRIES
                {
                    return Decision::Fail;
                }
                let wait = history.backoff.wait(verdict == Verdict::Throttled);
                retry_after(wait, history, now)
            }
            Verdict::PauseAll(hint) | Verdict::RetryAfter(hint) => {
                if !self.policy.obeys(hint) {
                    return Decision::Stop;
                }
                history.waits += 1;
                if history.waits > self.policy.max_waits {
                    return Decision::Fail;
                }
                let wait = history.backoff.after_hint(hint);
                retry_after(wait, history, now)
            }
            // The breaker spaces the probes, so the item does not back off besides.
            Verdict::Unreachable => match self.breaker.passage(now) {
                Passage::NotUntil(probe) if history.deadline.is_some_and(|end| end <= probe) => {
                    Decision::OutOfTime
                }
                _ => retry_after(Duration::ZERO, history, now),
            },
        }
    }

    /// Tells the breaker what a failure says about the server.
    fn note(&mut self, item: u64, verdict: Verdict, reach: Reach, now: Instant) -> Noted {
        if reach == Reach::Answered {
            self.breaker.answered();
        }
        match (verdict, reach) {
            (Verdict::Unreachable, _) => return self.breaker.failed(item, true, now),
            (Verdict::Retry, _) => return self.breaker.failed(item, false, now),
            // What fails before anything is sent says nothing about the server.
            (_, Reach::NotSent) => self.breaker.probe_withdrawn(item),
            _ => self.breaker.works(),
        }
        Noted::default()
    }
}

fn retry_after(wait: Duration, history: &History, now: Instant) -> Decision {
    match now.checked_add(wait) {
        Some(at) if history.deadline.is_none_or(|deadline| at < deadline) => Decision::RetryAt(at),
        _ => Decision::OutOfTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        policy: Retry,
        verdicts: impl IntoIterator<Item = Verdict>,
    ) -> (Vec<Duration>, Decision) {
        let mut decider = Decider::new(policy);
        let mut now = Instant::now();
        let mut history = decider.history(0, now, None);
        let mut waits = Vec::new();
        for verdict in verdicts {
            let reach = match verdict {
                Verdict::Unreachable => Reach::NotSent,
                _ => Reach::Answered,
            };
            match decider.decide(0, &mut history, verdict, reach, now) {
                Decision::RetryAt(at) => {
                    waits.push(at - now);
                    now = at;
                }
                end => return (waits, end),
            }
        }
        panic!("still going after {} waits", waits.len());
    }

    const HINT: Duration = Duration::from_secs(2);

    #[test]
    fn max_attempts_counts_the_first() {
        let forever = std::iter::repeat(Verdict::Retry);
        let (waits, end) = run(Retry::new().max_attempts(6), forever);
        assert_eq!((waits.len(), end), (5, Decision::Fail));
        let (waits, end) = run(Retry::never(), [Verdict::Retry]);
        assert_eq!((waits.len(), end), (0, Decision::Fail));
    }

    #[test]
    fn waits_the_server_asked_for_are_not_charged_and_are_bounded() {
        let forever = std::iter::repeat(Verdict::PauseAll(HINT));
        let (waits, end) = run(Retry::new(), forever);
        assert_eq!((waits.len(), end), (50, Decision::Fail));
        assert!(waits.iter().all(|wait| *wait >= HINT));

        let mixed = std::iter::repeat_n(Verdict::PauseAll(HINT), 20)
            .chain(std::iter::repeat(Verdict::Retry));
        let (waits, _) = run(Retry::new().max_attempts(3), mixed);
        assert_eq!(waits.len(), 22);
    }

    #[test]
    fn nothing_sent_is_not_charged_at_all() {
        let down = std::iter::repeat_n(Verdict::Unreachable, 500).chain([Verdict::Fail]);
        let (waits, end) = run(Retry::never(), down);
        assert_eq!((waits.len(), end), (500, Decision::Fail));
    }

    #[test]
    fn what_fails_unsent_says_nothing_about_the_server() {
        let now = Instant::now();
        let mut decider = Decider::new(Retry::new());
        let mut decide = |item, verdict, reach, now| {
            let mut history = decider.history(item, now, None);
            let decision = decider.decide(item, &mut history, verdict, reach, now);
            (decision, decider.passage(now))
        };
        let (_, passage) = decide(0, Verdict::Unreachable, Reach::NotSent, now);
        assert!(matches!(passage, Passage::NotUntil(_)));
        let (decision, passage) = decide(1, Verdict::Fail, Reach::NotSent, now);
        assert_eq!(decision, Decision::Fail);
        assert!(matches!(passage, Passage::NotUntil(_)), "still open");
        let later = now + Duration::from_secs(120);
        let (decision, _) = decide(2, Verdict::Unreachable, Reach::NotSent, later);
        assert_eq!(decision, Decision::Stop, "and nobody has been heard of");
    }

    #[test]
    fn a_server_that_says_it_is_down_is_not_given_up() {
        for (reach, end) in [
            (Reach::Answered, Decision::Fail),
            (Reach::Unanswered, Decision::Stop),
        ] {
            let start = Instant::now();
            let mut decider = Decider::new(Retry::never());
            let mut decide = |item, now| {
                let mut history = decider.history(item, now, None);
                decider.decide(item, &mut history, Verdict::Retry, reach, now)
            };
            for item in 0..20 {
                decide(item, start + Duration::from_millis(200 * item));
            }
            assert_eq!(decide(20, start + Duration::from_secs(300)), end);
        }
    }

    #[test]
    fn a_deadline_before_the_next_probe_fails_at_once() {
        let policy = Retry::new().item_deadline(Some(Duration::from_secs(1)));
        assert_eq!(run(policy, [Verdict::Unreachable]).1, Decision::OutOfTime);
    }

    #[test]
    fn unusable_answers_have_a_small_budget_of_their_own() {
        let (waits, end) = run(Retry::new(), std::iter::repeat(Verdict::Unusable));
        assert_eq!((waits.len(), end), (2, Decision::Fail));
    }

    #[test]
    fn a_hint_beyond_the_longest_stops_the_run() {
        let day = Verdict::PauseAll(Duration::from_secs(86_400));
        assert_eq!(run(Retry::new(), [day]).1, Decision::Stop);
        let patient = Retry::new().max_server_delay(None);
        assert_eq!(run(patient, [day, Verdict::Fail]).1, Decision::Fail);
        let endless = Verdict::PauseAll(Duration::MAX);
        assert_eq!(run(patient, [endless]).1, Decision::OutOfTime);
    }

    #[test]
    fn a_deadline_before_the_hint_fails_at_once() {
        let policy = Retry::new().item_deadline(Some(Duration::from_secs(1)));
        assert_eq!(
            run(policy, [Verdict::PauseAll(HINT)]).1,
            Decision::OutOfTime
        );
    }

    #[test]
    fn ten_alike_from_the_start_stop_and_a_success_forgives() {
        let now = Instant::now();
        let mut decider = Decider::new(Retry::new());
        let fail = |decider: &mut Decider, number| {
            let mut history = decider.history(0, now, None);
            decider.decide(
                0,
                &mut history,
                Verdict::FailOrStopIfRepeated(number),
                Reach::Answered,
                now,
            )
        };
        for _ in 0..9 {
            assert_eq!(fail(&mut decider, 404), Decision::Fail);
        }
        assert_eq!(fail(&mut decider, 403), Decision::Fail, "another kind");
        for _ in 0..8 {
            assert_eq!(fail(&mut decider, 403), Decision::Fail);
        }
        assert_eq!(fail(&mut decider, 403), Decision::Stop);

        let mut decider = Decider::new(Retry::new());
        decider.succeeded();
        for _ in 0..100 {
            assert_eq!(fail(&mut decider, 404), Decision::Fail);
        }
    }
}
