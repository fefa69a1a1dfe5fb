//! What happens to an item after a failed attempt: decided from its verdict, its history, the retry
//! policy and the breaker. Nothing here waits or sends.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::alike::{Class, Likeness, Load, Streak};
use super::breaker::{Breaker, Noted, Passage, Sign};
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
    /// Attempts that failed in an outage: probes, and what was sent before it was known.
    probes: u32,
    /// Unusable answers.
    unusable: u32,
    /// When the item as a whole must be done.
    pub(crate) deadline: Option<Instant>,
}

impl History {
    /// Whether the attempt that comes is the last that may count for `max_attempts`.
    pub(crate) fn is_last_attempt(&self, policy: &Retry) -> bool {
        self.charged + 1 >= policy.max_attempts
    }

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
    /// It has failed, and the run stops because so many answers in a row were alike.
    StopAlike(u32),
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) verdict: Verdict,
    pub(crate) reach: Reach,
    /// What makes it alike to others, if many of it are to stop the run.
    pub(crate) likeness: Option<Likeness>,
}

/// Decides for all items of one run.
#[derive(Debug)]
pub(crate) struct Decider {
    policy: Retry,
    breaker: Breaker,
    streak: Streak,
}

/// How long before an item's deadline its last attempt is made.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);
/// Each unusable answer may have been billed, so an item is tried again only so often.
const UNUSABLE_RETRIES: u32 = 2;

impl Decider {
    pub(crate) fn new(policy: Retry) -> Self {
        Self {
            policy,
            breaker: Breaker::default(),
            streak: Streak::default(),
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
        self.streak.succeeded();
        self.breaker.works();
    }

    /// Decides about `item`, of which an attempt has failed.
    pub(crate) fn decide(
        &mut self,
        item: u64,
        history: &mut History,
        failed: Failed,
        load: Load,
        now: Instant,
    ) -> Decision {
        let noted = self.note(item, history, failed, load, now);
        let verdict = failed.verdict;
        if noted.hopeless || verdict == Verdict::Stop {
            return Decision::Stop;
        }
        let alike = match (failed.likeness, verdict) {
            (None, Verdict::FailOrStopIfRepeated(number)) => Some(Likeness {
                key: number.into(),
                class: Class::Refused,
            }),
            (likeness, _) => likeness,
        };
        if failed.reach == Reach::Answered
            && let Some(alike) = alike
            && let Some(answers) = self.streak.failed(item, alike, &self.policy, load)
        {
            return Decision::StopAlike(answers);
        }
        match verdict {
            Verdict::Fail | Verdict::Stop | Verdict::FailOrStopIfRepeated(_) => Decision::Fail,
            // No waits at all: the item is sent once.
            Verdict::Throttled if self.policy.max_waits == 0 => Decision::Fail,
            // A refusal is never charged, a probe even less: the breaker spaces those.
            Verdict::Throttled if noted.outage => retry_after(Duration::ZERO, history, now),
            Verdict::Throttled => back_off(history.backoff.wait(true), history, now),
            // A probe asks on behalf of the run, and others were sent before the outage was known:
            // they are not charged to their items.
            Verdict::Retry if noted.outage => {
                history.probes += 1;
                if history.probes > self.policy.max_waits {
                    return Decision::Fail;
                }
                retry_after(Duration::ZERO, history, now)
            }
            Verdict::Retry | Verdict::Unusable => {
                history.charged += 1;
                history.unusable += u32::from(verdict == Verdict::Unusable);
                if history.charged >= self.policy.max_attempts
                    || history.unusable > UNUSABLE_RETRIES
                {
                    return Decision::Fail;
                }
                let wait = history.backoff.wait(false);
                let is_last = history.charged + 1 == self.policy.max_attempts;
                let told = self.breaker.decides_at().filter(|_| is_last);
                let held = told.map(|at| at.saturating_duration_since(now));
                back_off(held.map_or(wait, |held| held.max(wait)), history, now)
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
            Verdict::Unreachable => retry_after(Duration::ZERO, history, now),
        }
    }

    /// Tells the breaker what a failure says about the server.
    fn note(
        &mut self,
        item: u64,
        history: &History,
        failed: Failed,
        load: Load,
        now: Instant,
    ) -> Noted {
        if failed.reach == Reach::Answered {
            self.breaker.answered();
        }
        let unfinished = load.unfinished;
        let sign = match (failed.verdict, failed.reach) {
            (Verdict::Unreachable, _) => Sign::Unreachable,
            (Verdict::Throttled, _) => Sign::Refused { unfinished },
            (Verdict::Retry, _) => Sign::Failed { unfinished },
            (verdict, reach) => {
                match (verdict, reach) {
                    // What fails before anything is sent says nothing about the server.
                    (_, Reach::NotSent) => self.breaker.probe_withdrawn(item),
                    (Verdict::PauseAll(_) | Verdict::RetryAfter(_), _) => {
                        self.breaker.asks_to_wait();
                    }
                    _ => self.breaker.works(),
                }
                return Noted::default();
            }
        };
        self.breaker.failed(item, sign, history.deadline, now)
    }
}

/// As [`retry_after`], for a wait of our own: rather than past the item's deadline, the attempt is
/// made a little before it.
fn back_off(wait: Duration, history: &History, now: Instant) -> Decision {
    let left = history
        .deadline
        .and_then(|end| end.checked_sub(LAST_ATTEMPT)?.checked_duration_since(now));
    let wait = left
        .filter(|left| !left.is_zero())
        .map_or(wait, |left| wait.min(left));
    retry_after(wait, history, now)
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

    /// One of many items, of which this one alone is under way.
    const MANY: Load = Load {
        in_flight: 1,
        unfinished: usize::MAX,
    };

    fn failed(verdict: Verdict, reach: Reach) -> Failed {
        Failed {
            verdict,
            reach,
            likeness: None,
        }
    }

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
            match decider.decide(0, &mut history, failed(verdict, reach), MANY, now) {
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
            let decision = decider.decide(item, &mut history, failed(verdict, reach), MANY, now);
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
                decider.decide(item, &mut history, failed(Verdict::Retry, reach), MANY, now)
            };
            for item in 0..20 {
                decide(item, start + Duration::from_millis(200 * item));
            }
            assert_eq!(decide(20, start + Duration::from_secs(300)), end);
        }
    }

    #[test]
    fn no_item_is_out_of_attempts_before_an_outage_can_be_told() {
        // Whatever the jitter: these waits are next to nothing.
        let quick = Retry::new().initial_backoff(Duration::from_millis(1));
        let (start, mut decider) = (Instant::now(), Decider::new(quick));
        let histories = (0..16).map(|item| (start, decider.history(item, start, None)));
        let mut items: Vec<_> = histories.collect();
        while let Passage::Free = decider.passage(items[0].0) {
            for (item, (at, history)) in (0..).zip(&mut items) {
                // All that are due are sent at once.
                let failure = failed(Verdict::Retry, Reach::Answered);
                let decision = decider.decide(item, history, failure, MANY, *at);
                let Decision::RetryAt(next) = decision else {
                    panic!("{decision:?} for {item} after {:?}", *at - start)
                };
                *at = next;
            }
            let latest = items.iter().map(|(at, _)| *at).max().unwrap();
            for (at, _) in &mut items {
                *at = latest;
            }
        }
        assert_eq!(items[0].1.charged, 5);
        // One item that fails says nothing about the server, and is not held.
        let (waits, _) = run(quick, std::iter::repeat(Verdict::Retry));
        assert!(waits.iter().sum::<Duration>() < Duration::from_secs(1));
    }

    #[test]
    fn a_deadline_before_the_next_attempt_moves_it_up() {
        let policy = Retry::new().item_deadline(Some(Duration::from_secs(3)));
        let mut decider = Decider::new(policy);
        let start = Instant::now();
        let mut history = decider.history(0, start, None);
        let mut now = start;
        let mut probes = Vec::new();
        for _ in 0..3 {
            let nothing_sent = failed(Verdict::Unreachable, Reach::NotSent);
            let decision = decider.decide(0, &mut history, nothing_sent, MANY, now);
            assert_eq!(decision, Decision::RetryAt(now), "the breaker holds it");
            let Passage::NotUntil(at) = decider.passage(now) else {
                panic!("{:?}", decider.passage(now))
            };
            probes.push((at - start).as_secs());
            decider.probe_sent(0);
            now = at;
        }
        assert_eq!(probes, [1, 2, 6], "a last one before the end, and no other");

        let slow = policy.initial_backoff(Duration::from_secs(60)).seed(1);
        let (waits, _) = run(slow, std::iter::repeat_n(Verdict::Retry, 2));
        assert_eq!(waits, [Duration::from_secs(2)]);
    }

    #[test]
    fn refusals_are_never_charged_and_hold_the_run_when_nothing_else_comes() {
        let start = Instant::now();
        let mut decider = Decider::new(Retry::new().max_attempts(1).seed(1));
        let few = Load {
            in_flight: 3,
            unfinished: 3,
        };
        let refused = failed(Verdict::Throttled, Reach::Answered);
        let mut histories = [0, 1, 2].map(|item| decider.history(item, start, None));
        let mut now = start;
        let mut refuse = |decider: &mut Decider, item: usize, now| {
            decider.decide(item as u64, &mut histories[item], refused, few, now)
        };
        for item in 0..3 {
            let decision = refuse(&mut decider, item, now);
            assert!(matches!(decision, Decision::RetryAt(_)));
        }
        now += Duration::from_secs(2);
        // From now on one probe at a time, and never a failed row: after ten minutes the run stops.
        refuse(&mut decider, 0, now);
        let mut probes = Vec::new();
        let end = loop {
            let Passage::NotUntil(at) = decider.passage(now) else {
                panic!("{:?}", decider.passage(now))
            };
            probes.push((at - now).as_secs());
            now = at;
            decider.probe_sent(1);
            match refuse(&mut decider, 1, now) {
                Decision::RetryAt(again) => assert_eq!(again, now),
                end => break end,
            }
        };
        assert_eq!(end, Decision::Stop);
        assert_eq!(probes[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(now - start >= Duration::from_secs(600));
        // Once it has worked, for as long as it takes.
        decider.succeeded();
        for _ in 0..100 {
            now += Duration::from_secs(60);
            assert!(matches!(refuse(&mut decider, 2, now), Decision::RetryAt(_)));
        }
        let never = run(Retry::never(), [Verdict::Throttled]);
        assert_eq!(never.1, Decision::Fail, "it is sent once");
    }

    /// Fails `rows` rows, of so many that are left, again and again. When the first is given up,
    /// and how.
    fn outage(rows: usize, works_first: bool, verdict: Verdict) -> (u64, Decision) {
        let start = Instant::now();
        let mut decider = Decider::new(Retry::new().seed(1));
        if works_first {
            decider.succeeded();
        }
        let load = Load {
            in_flight: rows,
            unfinished: rows,
        };
        let rows = 0..rows as u64;
        let mut due: Vec<_> = rows
            .map(|item| (start, item, decider.history(item, start, None)))
            .collect();
        let mut now = start;
        loop {
            due.sort_by_key(|(at, item, _)| (*at, *item));
            now = now.max(due[0].0);
            match decider.passage(now) {
                Passage::NotUntil(at) => {
                    now = at;
                    continue;
                }
                Passage::Probe => decider.probe_sent(due[0].1),
                Passage::Free => {}
                Passage::WhenProbed => panic!("one at a time"),
            }
            let (at, item, history) = &mut due[0];
            let answer = failed(verdict, Reach::Answered);
            match decider.decide(*item, history, answer, load, now) {
                Decision::RetryAt(again) => *at = again,
                end => return ((now - start).as_secs(), end),
            }
        }
    }

    #[test]
    fn an_outage_is_one_with_few_rows_too() {
        for rows in [2, 3, 9] {
            let (seconds, end) = outage(rows, false, Verdict::Retry);
            assert_eq!(end, Decision::Stop, "{rows} rows");
            assert!((600..700).contains(&seconds), "{rows} rows: {seconds} s");
            // It may be the rows: they are not waited for until the end of time.
            let (seconds, end) = outage(rows, true, Verdict::Retry);
            assert_eq!(end, Decision::Fail, "{rows} rows");
            assert!((120..160).contains(&seconds), "{rows} rows: {seconds} s");
        }
        let (seconds, end) = outage(1, false, Verdict::Retry);
        assert_eq!(end, Decision::Fail, "one row says nothing about the server");
        assert!(seconds < 20);
        let (seconds, end) = outage(1, false, Verdict::Throttled);
        assert_eq!(end, Decision::Stop, "a refusal does");
        assert!((600..800).contains(&seconds), "{seconds} s");
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
    fn ten_alike_from_the_start_stop_and_after_a_success_a_hundred() {
        let now = Instant::now();
        let mut decider = Decider::new(Retry::new());
        let fail = |decider: &mut Decider, number| {
            let mut history = decider.history(0, now, None);
            let verdict = Verdict::FailOrStopIfRepeated(number);
            decider.decide(0, &mut history, failed(verdict, Reach::Answered), MANY, now)
        };
        for _ in 0..9 {
            assert_eq!(fail(&mut decider, 404), Decision::Fail);
        }
        assert_eq!(fail(&mut decider, 403), Decision::Fail, "another kind");
        for _ in 0..8 {
            assert_eq!(fail(&mut decider, 403), Decision::Fail);
        }
        assert_eq!(fail(&mut decider, 403), Decision::StopAlike(10));

        let mut decider = Decider::new(Retry::new());
        decider.succeeded();
        for _ in 0..99 {
            assert_eq!(fail(&mut decider, 404), Decision::Fail);
        }
        assert_eq!(fail(&mut decider, 404), Decision::StopAlike(100));
    }
}
