//! What this process asks the store of a shared limit, when it asks, and what a reply changes.
//!
//! It is a state machine without a thread, a lock or a clock: [`keeper`](super::keeper) carries the
//! messages. One ask is under way at a time.

use std::time::Duration;

use super::bucket::{Admission, Nanos};
use super::leased::{Leased, is_lower, is_slower, limit_of, units};
use super::rate::{Cost, Rate};
use super::used::Used;
use crate::binding::Binding;
use crate::error::Error;
use crate::shared::{Ask, Limit, Reply, SharedStatus};

const MILLI: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLI;

/// What all leases together are worth at least, in time.
const LEASE: Nanos = 100 * MILLI;
/// Where each lease loses its slack, it is worth so many times that.
const MANY: u64 = 40;
/// How late a wake-up may be.
const LATE: Nanos = 2 * MILLI;
/// The longest time between two asks while something is in flight or waits. After so long without
/// either, the process leaves.
const HEARTBEAT: Nanos = SECOND;
/// Requests at an announced rate may catch up on one in so many of a second's worth.
const CATCH_UP: u64 = 4;
/// The first wait after a failure, which doubles up to the longest.
const RETRY: Nanos = 50 * MILLI;
const LONGEST_RETRY: Nanos = SECOND;

#[derive(Debug, Default)]
pub(super) struct Sharing {
    pub(super) leased: Leased,
    /// What the rates are divided by while the store is gone; `None`: nothing is sent then.
    fallback: Option<u64>,
    /// What is said next, as far as it is known. The least that it wants is what the request that
    /// is first in the queue lacks.
    next: Ask,
    /// Whether there is something in it that the store must know soon.
    has_news: bool,
    /// The end of the last pause that began here, and of the last one that began elsewhere.
    pause: Nanos,
    pub(super) others_pause: Nanos,
    recent: [Used; 2],
    admitted: Nanos,
    asked: Nanos,
    /// Whether the store counts this process.
    joined: bool,
    round_trip: Nanos,
    gone: Option<Gone>,
    /// The lowest limits that any process was given.
    lowest: [Option<Limit>; 2],
    pub(super) status: SharedStatus,
}

/// The store cannot be reached.
#[derive(Debug)]
struct Gone {
    since: Nanos,
    retry_at: Nanos,
    /// Why the last try failed.
    error: Error,
}

/// What the keeper does next.
#[derive(Debug)]
pub(crate) enum Next {
    Ask(Ask),
    At(Nanos),
    /// Nothing before it is called.
    WhenCalled,
    /// It says this, and ends.
    End(Option<Ask>),
}

/// What an exchange has changed, beside the credit.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The store cannot be reached since now.
    pub(super) gone: Option<Error>,
    /// The store was gone for so long.
    pub(super) back_after: Option<Nanos>,
    /// The lowest limits that any process was given, where they are lower than ours since now.
    pub(super) lower: [Option<Limit>; 2],
    pub(super) paused_until: Option<Nanos>,
}

impl Sharing {
    pub(super) fn new(holder: u64, fallback: Option<u64>) -> Self {
        Self {
            fallback,
            next: Ask {
                holder,
                ..Ask::default()
            },
            ..Self::default()
        }
    }

    pub(super) fn configure(&mut self, axis: usize, limit: Option<(Rate, u64)>) {
        self.next.configured[axis] = limit.map(limit_of);
        self.has_news = true;
    }

    pub(super) fn configured(&self) -> [Option<Limit>; 2] {
        self.next.configured
    }

    /// Tells the others what the provider has announced here.
    pub(super) fn announce(&mut self, announced: [Option<(Rate, u64)>; 2]) {
        let [requests, tokens] = announced;
        // Two at least: one that is late is not lost.
        let requests = requests.map(|(rate, burst)| {
            let catch_up = rate.second_worth() / CATCH_UP;
            (rate, burst.max(catch_up).max(2))
        });
        let announced = [requests, tokens].map(|it| it.map(limit_of));
        self.has_news |= self.next.announced != announced;
        self.next.announced = announced;
    }

    /// Tells the others of a pause that began here.
    pub(super) fn announce_pause(&mut self, until: Nanos) {
        self.has_news |= until > self.pause;
        self.pause = self.pause.max(until);
    }

    /// The limits that hold as far as is known here.
    pub(super) fn limits(&self) -> [Option<Limit>; 2] {
        let held = self.leased.limits();
        [0, 1].map(|axis| held[axis].or(self.next.configured[axis]))
    }

    /// The limit that holds, if it was announced to another process.
    pub(super) fn followed(&self, axis: usize) -> Option<Limit> {
        let limit = self.leased.limits()[axis]?;
        let known = [self.lowest[axis], self.next.announced[axis]];
        let mut known = known.into_iter().flatten();
        known.all(|known| is_slower(limit, known)).then_some(limit)
    }

    /// The largest cost that is ever admitted. A limit that another process was given, or heard
    /// of, refuses nothing, as it may end with that process: what is above it leaves a debt.
    pub(super) fn largest(&self, axis: usize) -> Option<u64> {
        let ours = self.next.configured[axis].map(|limit| limit.units.max(limit.burst));
        ours.or(self.leased.limits()[axis].map(|_| u64::MAX))
    }

    /// The limits of this process alone while the store is gone: a share of those that hold.
    pub(super) fn fallback(&self) -> [Option<(Rate, u64)>; 2] {
        let Some(parts) = self.fallback.filter(|_| self.gone.is_some()) else {
            return [None; 2];
        };
        let share = |limit: Limit| {
            let period = Duration::from_micros(limit.period.saturating_mul(parts));
            (Rate::new(limit.units, period), (limit.burst / parts).max(1))
        };
        self.limits().map(|limit| limit.map(share))
    }

    /// When what is leased admits `cost`, not before `from`.
    pub(super) fn earliest(&mut self, cost: Cost, from: (Nanos, Binding), now: Nanos) -> Admission {
        let ((at, reason), mut lacks) = self.leased.earliest(cost, from);
        let is_unknown = self.leased.limits() == [None; 2];
        // Without the store nobody knows what holds now.
        if self.gone.is_some() && is_unknown {
            lacks = [true; 2];
        }
        if lacks == [false; 2] {
            return Admission::At(at, reason);
        }
        let ahead = at.saturating_sub(self.message());
        if ahead > now {
            return Admission::At(ahead, reason);
        }
        for (axis, units) in units(cost).into_iter().enumerate() {
            if lacks[axis] {
                self.lack(axis, units.max(u64::from(is_unknown && axis == 0)));
            }
        }
        // A store that answers leases as much as there is: it is the rate that binds.
        Admission::When(match lacks {
            _ if self.gone.is_some() || is_unknown => Binding::SharedLimit,
            [true, _] => Binding::Requests,
            _ => Binding::Tokens,
        })
    }

    fn lack(&mut self, axis: usize, units: u64) {
        let least = &mut self.next.wants[axis].least;
        *least = units.max(*least);
    }

    fn lacks_some(&self) -> bool {
        self.next.wants.iter().any(|want| want.least > 0)
    }

    pub(super) fn take(&mut self, cost: Cost, now: Nanos) {
        self.admitted = now;
        self.leased.take(cost, now);
        let (message, lease) = (self.message(), self.lease());
        for (axis, units) in units(cost).into_iter().enumerate() {
            let recent = self.recent[axis].add(units, now, lease);
            // Asks ahead for what will be used until the reply can be here.
            if let Some(held) = self.leased.held(axis, now)
                && recent > units
                && u128::from(held) * u128::from(lease) < u128::from(recent) * u128::from(message)
            {
                self.lack(axis, units);
            }
        }
    }

    pub(super) fn settle_tokens(&mut self, reserved: u64, used: u64, now: Nanos) {
        let owed = self.leased.settle_tokens(reserved, used, now);
        self.next.owed_tokens = self.next.owed_tokens.saturating_add(owed);
    }

    /// Whether the keeper has something to do at once.
    pub(super) fn has_call(&self, now: Nanos) -> bool {
        self.lacks_some() || (self.has_news && (self.joined || self.pause > now))
    }

    /// What the keeper does next, with so many requests in flight and so many threads waiting.
    pub(super) fn next(&mut self, in_flight: usize, waiting: usize, now: Nanos) -> Next {
        let is_used = in_flight + waiting > 0;
        let has_call = self.has_call(now);
        let due = if let Some(gone) = &self.gone {
            (is_used || has_call).then_some(gone.retry_at)
        } else {
            let called = has_call.then_some(now);
            let beat = (self.joined && is_used).then_some(self.asked + HEARTBEAT);
            let has_some = |axis| self.leased.held(axis, now) > Some(0);
            let is_idle = waiting == 0 && (0..2).any(has_some);
            let back = is_idle.then(|| self.idle_from());
            let leave = (self.joined && !is_used).then(|| self.leave_at());
            [called, beat, back, leave].into_iter().flatten().min()
        };
        match due {
            Some(at) if at > now => Next::At(at),
            Some(_) => Next::Ask(self.ask(is_used, waiting, now)),
            None => Next::WhenCalled,
        }
    }

    /// The last ask, when the limiter is dropped.
    pub(super) fn last(&mut self) -> Option<Ask> {
        (self.joined && self.gone.is_none()).then(|| Ask {
            back: self.leased.give_back(),
            leaves: true,
            wants: Default::default(),
            ..self.next.clone()
        })
    }

    fn ask(&mut self, is_used: bool, waiting: usize, now: Nanos) -> Ask {
        let lease = self.lease();
        let mut ask = Ask {
            pause: self.pause.saturating_sub(now).div_ceil(1_000),
            lease: lease / 1_000,
            slack: self.slack() / 1_000,
            returns: self.gone.is_some(),
            ..self.next.clone()
        };
        if self.lacks_some() {
            for (axis, want) in ask.wants.iter_mut().enumerate() {
                let recent = self.recent[axis].sum(now, lease);
                want.most = match want.least {
                    0 => recent.saturating_sub(self.leased.held(axis, now).unwrap_or(0)),
                    each => recent.max(each.saturating_mul(waiting.max(1) as u64)),
                };
            }
        } else if waiting == 0 && now >= self.idle_from() {
            ask.back = self.leased.give_back();
            ask.leaves = !is_used && now >= self.leave_at();
        }
        self.has_news = false;
        self.next.owed_tokens = 0;
        self.next.wants = Default::default();
        ask
    }

    /// Takes note of the reply to an ask that was sent at `sent`.
    pub(super) fn heard(&mut self, ask: &Ask, reply: &Reply, sent: Nanos, now: Nanos) -> Changed {
        let took = now.saturating_sub(sent);
        // A quarter of what is new counts; the first counts whole. If it took far longer than the
        // others, the process was stopped meanwhile.
        self.round_trip = if self.joined {
            let most = self.round_trip.saturating_mul(4).saturating_add(LATE);
            (self
                .round_trip
                .saturating_mul(3)
                .saturating_add(took.min(most)))
                / 4
        } else {
            took
        };
        if reply.incarnation != self.next.incarnation {
            self.next.incarnation = reply.incarnation;
            self.leased = Leased::default();
        }
        let paused_until = self.leased.heard(reply, sent, now);
        // The end of a pause of our own comes back a little later than it was told.
        let others = paused_until.filter(|until| *until > self.pause.saturating_add(SECOND));
        self.others_pause = others.unwrap_or(self.others_pause);
        // The head of the queue looks again, and says so if it still lacks something.
        self.next.wants = Default::default();
        self.asked = now;
        self.joined = !ask.leaves;
        if ask.leaves {
            self.leased = Leased::default();
        }
        self.status.processes = reply.holders;
        self.status.processes_peak = self.status.processes_peak.max(reply.holders);
        self.status.round_trips += 1;
        let before = std::mem::replace(&mut self.lowest, reply.configured);
        let lower = [0, 1].map(|axis| {
            let lowest = self.lowest[axis].filter(|_| self.lowest[axis] != before[axis])?;
            let ours = self.next.configured[axis];
            ours.is_none_or(|ours| is_lower(lowest, ours))
                .then_some(lowest)
        });
        Changed {
            gone: None,
            back_after: self.gone.take().map(|gone| now.saturating_sub(gone.since)),
            lower,
            paused_until: paused_until.filter(|until| *until > now),
        }
    }

    /// An ask has failed: nothing was leased, and what was given back is gone. Returns whether it is
    /// the first that fails.
    pub(super) fn failed(&mut self, ask: &Ask, error: Error, now: Nanos) -> bool {
        let since = self.gone.as_ref().map(|gone| gone.since);
        let gone_for = since.map_or(0, |since| now.saturating_sub(since));
        self.gone = Some(Gone {
            since: since.unwrap_or(now),
            // The waits are RETRY, then twice that, and so on.
            retry_at: now + (gone_for + RETRY).min(LONGEST_RETRY),
            error,
        });
        // The store may have noted the debt. It is better paid twice than never.
        let owed = ask.owed_tokens.max(0);
        self.next.owed_tokens = self.next.owed_tokens.saturating_add(owed);
        self.has_news = true;
        for (axis, want) in ask.wants.iter().enumerate() {
            self.lack(axis, want.least);
        }
        since.is_none()
    }

    pub(super) fn status(&self, now: Nanos) -> SharedStatus {
        let gone = self.gone.as_ref();
        SharedStatus {
            gone: gone.map(|gone| Duration::from_nanos(now.saturating_sub(gone.since))),
            error: gone.map(|gone| gone.error.to_string().into()),
            falls_back: self.fallback() != [None; 2],
            ..self.status.clone()
        }
    }

    /// What all leases together are worth, in time. Where the burst has no room for the slack, each
    /// lease is longer by it than what it is used for, so there should be few of them.
    fn lease(&self) -> Nanos {
        let lease = self.round_trip.saturating_mul(2);
        let slack = self.slack();
        let long = slack.saturating_mul(MANY * self.status.processes);
        let is_tight = self.leased.is_tight(slack / 1_000);
        let lease = if is_tight { lease.max(long) } else { lease };
        lease.clamp(LEASE, HEARTBEAT)
    }

    /// How late a lease may be used.
    fn slack(&self) -> Nanos {
        self.round_trip.saturating_mul(2).saturating_add(LATE)
    }

    /// How long before it needs credit a process asks for it.
    fn message(&self) -> Nanos {
        self.round_trip
            .saturating_add(self.round_trip / 2)
            .saturating_add(LATE / 2)
    }

    fn idle_from(&self) -> Nanos {
        self.admitted.max(self.asked).saturating_add(self.lease())
    }

    fn leave_at(&self) -> Nanos {
        self.admitted.max(self.asked).saturating_add(HEARTBEAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::shared::{Ledger, Want};

    /// A process, the account, and the time. A message takes a millisecond each way.
    struct Case {
        sharing: Sharing,
        ledger: Ledger,
        now: Nanos,
    }

    const FREE: (Nanos, Binding) = (0, Binding::Requests);

    impl Case {
        /// Ten a second, two at once.
        fn new() -> Self {
            let mut sharing = Sharing::new(1, None);
            sharing.configure(0, Some((Rate::per_second(10), 2)));
            Self {
                sharing,
                ledger: Ledger::default(),
                now: 0,
            }
        }

        fn next(&mut self, in_flight: usize, waiting: usize) -> Next {
            self.sharing.next(in_flight, waiting, self.now)
        }

        /// What is asked now, which it must be.
        fn asks(&mut self, in_flight: usize, waiting: usize) -> Ask {
            match self.next(in_flight, waiting) {
                Next::Ask(ask) => ask,
                other => panic!("{other:?}"),
            }
        }

        /// What is said next if nobody wants anything, when its time has come. It is answered.
        fn quiet(&mut self, in_flight: usize) -> Ask {
            loop {
                match self.next(in_flight, 0) {
                    Next::At(at) => self.now = at,
                    Next::Ask(ask) => {
                        self.answer(&ask);
                        return ask;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }

        fn answer(&mut self, ask: &Ask) -> Changed {
            let sent = self.now;
            let there = 9_000_000 + (sent + MILLI) / 1_000;
            let reply = self.ledger.exchange(ask, there, 1);
            self.now += 2 * MILLI;
            self.sharing.heard(ask, &reply, sent, self.now)
        }

        fn fail(&mut self, ask: &Ask) -> bool {
            let error = Error::new(ErrorKind::Unreachable, "gone");
            self.sharing.failed(ask, error, self.now)
        }

        fn admits(&mut self) -> Admission {
            let from = (self.now, FREE.1);
            self.sharing.earliest(Cost::ONE, from, self.now)
        }

        /// Waits for a permit, as one that is first in the queue.
        fn take(&mut self) {
            loop {
                match self.admits() {
                    Admission::At(at, _) if at <= self.now => break,
                    Admission::At(at, _) => self.now = at,
                    _ => {
                        let ask = self.asks(0, 1);
                        self.answer(&ask);
                    }
                }
            }
            self.sharing.take(Cost::ONE, self.now);
        }
    }

    #[test]
    fn it_asks_for_what_the_first_lacks_and_for_nothing_before() {
        let mut case = Case::new();
        assert!(
            matches!(case.next(0, 0), Next::WhenCalled),
            "nobody wants anything"
        );
        assert_eq!(case.admits(), Admission::When(Binding::SharedLimit));
        assert!(case.sharing.has_call(case.now));
        let ask = case.asks(0, 1);
        assert_eq!(ask.wants[0], Want { least: 1, most: 1 });
        case.answer(&ask);
        // The account begins empty, and a unit is worth 100 ms.
        let Admission::At(at, _) = case.admits() else {
            panic!("it is leased");
        };
        assert!((100 * MILLI..104 * MILLI).contains(&at), "{at}");
        assert!(!case.sharing.has_call(case.now));
    }

    #[test]
    fn it_beats_while_something_is_in_flight_then_gives_back_and_leaves() {
        let mut case = Case::new();
        case.take();
        case.take();
        // It asks ahead once, gives back what nobody wants, and then says that it lives.
        let asks: Vec<Ask> = (0..4).map(|_| case.quiet(1)).collect();
        assert!(asks[1].back[0].iter().any(|span| span.to > span.from));
        assert!(asks.iter().all(|ask| !ask.leaves));
        assert!(
            asks[1..]
                .iter()
                .all(|ask| ask.wants == [Want::default(); 2])
        );
        assert!(case.now >= 2 * HEARTBEAT && case.now < 3 * HEARTBEAT);
        let last = case.quiet(0);
        assert!(last.leaves && last.wants == [Want::default(); 2]);
        assert!(case.ledger.holders.is_empty());
        assert!(matches!(case.next(0, 0), Next::WhenCalled));
        assert_eq!(
            case.admits(),
            Admission::When(Binding::SharedLimit),
            "what holds now, nobody knows"
        );
    }

    #[test]
    fn while_the_store_answers_it_is_the_rate_that_binds() {
        let mut case = Case::new();
        let of_store = Admission::When(Binding::SharedLimit);
        assert_eq!(case.admits(), of_store, "it has not answered yet");
        case.take();
        let lacks = loop {
            match case.admits() {
                Admission::At(at, _) if at <= case.now => case.sharing.take(Cost::ONE, at),
                Admission::At(at, _) => case.now = at,
                lacks => break lacks,
            }
        };
        assert_eq!(lacks, Admission::When(Binding::Requests));
        let ask = case.asks(1, 1);
        case.fail(&ask);
        assert_eq!(case.admits(), of_store, "it is gone");
    }

    #[test]
    fn a_store_that_is_gone_is_tried_again_ever_more_rarely() {
        let mut case = Case::new();
        assert_eq!(case.admits(), Admission::When(Binding::SharedLimit));
        let mut waits = Vec::new();
        for turn in 0..7 {
            let ask = case.asks(0, 1);
            assert_eq!(ask.wants[0].least, 1, "it still lacks it");
            assert_eq!(case.fail(&ask), turn == 0);
            assert_eq!(case.admits(), Admission::When(Binding::SharedLimit));
            let Next::At(at) = case.next(0, 1) else {
                panic!("it waits before it tries again");
            };
            waits.push((at - case.now) / MILLI);
            case.now = at;
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_000, 1_000]);
        let ask = case.asks(0, 1);
        let changed = case.answer(&ask);
        assert!(changed.back_after >= Some(3_500 * MILLI));
        assert!(matches!(case.admits(), Admission::At(..)));
        // The store hears that it was gone, once.
        assert!(ask.returns);
        case.now += SECOND;
        assert!(!case.asks(1, 0).returns);
    }

    #[test]
    fn a_pause_is_told_at_once_and_told_again_after_a_failure() {
        let mut case = Case::new();
        case.take();
        case.sharing.announce_pause(case.now + 5_000 * MILLI);
        assert!(case.sharing.has_call(case.now));
        let ask = case.asks(1, 0);
        assert_eq!(ask.pause, 5_000_000);
        case.fail(&ask);
        let Next::At(at) = case.next(1, 0) else {
            panic!("it waits before it tries again");
        };
        case.now = at;
        let ask = case.asks(1, 0);
        assert_eq!(ask.pause, 4_950_000);
        let changed = case.answer(&ask);
        assert!(changed.paused_until.is_some_and(|until| until > case.now));
        assert!(!case.sharing.has_call(case.now), "told");
    }

    #[test]
    fn a_debt_is_told_once_and_again_if_that_failed_and_a_refund_is_not() {
        let mut case = Case::new();
        case.sharing
            .configure(1, Some((Rate::per_second(100), 100)));
        case.take();
        case.sharing.settle_tokens(0, 40, case.now);
        let lack = case
            .sharing
            .earliest(Cost::tokens(90), (case.now, FREE.1), case.now);
        assert!(matches!(lack, Admission::When(_)));
        let ask = case.asks(1, 1);
        assert_eq!(ask.owed_tokens, 40);
        case.fail(&ask);
        assert_eq!(case.sharing.next.owed_tokens, 40);
        case.now += SECOND;
        let refund = Ask {
            owed_tokens: -7,
            ..case.asks(1, 1)
        };
        case.fail(&refund);
        assert_eq!(case.sharing.next.owed_tokens, 0);
    }

    #[test]
    fn a_lower_limit_of_another_process_holds_and_is_told_once() {
        let mut case = Case::new();
        case.take();
        let other = Ask {
            holder: 2,
            configured: [Some(limit_of((Rate::per_second(5), 2))), None],
            ..Ask::default()
        };
        case.ledger
            .exchange(&other, 9_000_000 + case.now / 1_000, 1);
        case.now += SECOND;
        let beat = case.asks(1, 0);
        let changed = case.answer(&beat);
        assert_eq!(changed.lower[0].map(|limit| limit.units), Some(5));
        assert_eq!(
            case.sharing.largest(0),
            Some(10),
            "what it was given decides what can never be sent"
        );
        assert_eq!(case.sharing.followed(0), None, "nobody has announced it");
        case.now += SECOND;
        let beat = case.asks(1, 0);
        assert_eq!(case.answer(&beat).lower, [None; 2]);
    }

    #[test]
    fn a_process_that_was_stopped_does_not_take_the_time_for_the_way_to_the_store() {
        let mut case = Case::new();
        case.take();
        case.now += SECOND;
        let ask = case.asks(1, 0);
        let there = 9_000_000 + case.now / 1_000;
        let reply = case.ledger.exchange(&ask, there, 1);
        let sent = case.now;
        case.now += 3 * SECOND;
        case.sharing.heard(&ask, &reply, sent, case.now);
        case.now += SECOND;
        let slack = case.asks(1, 0).slack;
        assert!((4_000..20_000).contains(&slack), "{slack} µs");
    }

    #[test]
    fn a_process_without_a_rate_is_told_of_anothers() {
        let mut case = Case::new();
        case.take();
        case.sharing = Sharing::new(2, None);
        case.admits();
        let ask = case.asks(0, 1);
        let lower = case.answer(&ask).lower;
        assert_eq!(lower.map(|it| it.map(|it| it.units)), [Some(10), None]);
    }
}
