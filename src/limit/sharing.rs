//! What this process asks the store of a shared limit, when it asks, and what a reply changes.
//!
//! It is a state machine without a thread, a lock or a clock: [`keeper`](super::keeper) carries the
//! messages. One ask is under way at a time.

use std::time::Duration;

use super::bucket::Nanos;
use super::gone::Gone;
use super::leased::{Leased, is_lower, is_slower, limit_of, units};
use super::rate::{Cost, Rate};
use super::store_time::StoreTime;
use super::used::Used;
use super::waited::{Admission, WaitReason};
use crate::error::Error;
use crate::shared::{Ask, Limit, Reply, SharedStatus, Want};

const MILLI: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLI;

/// What all leases together are worth at least, in time.
const LEASE: Nanos = 100 * MILLI;
/// How late a wake-up may be.
const LATE: Nanos = 2 * MILLI;
/// The longest time between two asks while something is in flight or waits. After so long without
/// either, the process leaves.
const HEARTBEAT: Nanos = SECOND;
/// Requests at an announced rate may catch up on one in so many of a second's worth.
const CATCH_UP: u64 = 4;

#[derive(Debug, Default)]
pub(super) struct Sharing {
    leased: Leased,
    /// What the rates are divided by while the store is gone; `None`: nothing is sent then.
    fallback: Option<u64>,
    holder: u64,
    incarnation: u64,
    configured: [Option<Limit>; 2],
    announced: [Option<Limit>; 2],
    owed_tokens: i64,
    /// A pause that began here, and until when the store knows of it.
    pause: Nanos,
    pause_told: Nanos,
    /// Other news for the store.
    has_news: bool,
    /// What the request that is first in the queue lacks of each limit, in units.
    lacks: [u64; 2],
    recent: [Used; 2],
    admitted: Nanos,
    asked: Nanos,
    /// When credit may be asked for again after a reply that had none.
    not_before: Nanos,
    /// Whether the store counts this process.
    joined: bool,
    /// Whether the keeper has been called and has not looked yet.
    called: bool,
    round_trip: Nanos,
    gone: Option<Gone>,
    configured_by_all: [Option<Limit>; 2],
    status: SharedStatus,
}

/// What the keeper does next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and not for long")]
pub(crate) enum Next {
    Ask(Ask),
    At(Nanos),
    /// Nothing before it is called.
    WhenCalled,
}

/// What a reply has changed, beside the credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The store was gone for so long.
    pub(crate) back_after: Option<Nanos>,
    /// The lowest limits that any process was given, where they are lower than ours since now.
    pub(crate) lower: [Option<Limit>; 2],
    pub(super) paused_until: Option<Nanos>,
}

impl Sharing {
    pub(super) fn new(holder: u64, fallback: Option<u64>) -> Self {
        Self {
            fallback,
            holder,
            ..Self::default()
        }
    }

    pub(super) fn configure(&mut self, axis: usize, limit: Option<(Rate, u64)>) {
        self.configured[axis] = limit.map(limit_of);
        self.has_news = true;
    }

    pub(super) fn configured(&self) -> [Option<Limit>; 2] {
        self.configured
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
        self.has_news |= self.announced != announced;
        self.announced = announced;
    }

    /// The limits that hold as far as is known here.
    pub(super) fn limits(&self) -> [Option<Limit>; 2] {
        let held = self.leased.limits();
        [0, 1].map(|axis| held[axis].or(self.configured[axis]))
    }

    /// The limit that holds, if it was announced to another process.
    pub(super) fn followed(&self, axis: usize) -> Option<Limit> {
        let limit = self.leased.limits()[axis]?;
        let known = [self.configured_by_all[axis], self.announced[axis]];
        let is_new = known
            .into_iter()
            .flatten()
            .all(|known| is_slower(limit, known));
        is_new.then_some(limit)
    }

    /// The largest cost that is ever admitted. A limit that another process was given, or heard
    /// of, refuses nothing: it may end with that process.
    pub(super) fn largest(&self, axis: usize) -> Option<u64> {
        let ours = self.configured[axis].map(|limit| limit.units.max(limit.burst));
        ours.or(self.leased.limits()[axis].map(|_| u64::MAX))
    }

    /// The limits of this process alone while the store is gone: a share of those that hold.
    pub(super) fn fallback(&self) -> Option<[Option<(Rate, u64)>; 2]> {
        let parts = self.fallback.filter(|_| self.gone.is_some())?;
        let limits = self.limits();
        let share = |limit: Limit| {
            let period = Duration::from_micros(limit.period.saturating_mul(parts));
            (Rate::new(limit.units, period), (limit.burst / parts).max(1))
        };
        limits
            .iter()
            .any(Option::is_some)
            .then(|| limits.map(|it| it.map(share)))
    }

    /// When what is leased admits `cost`, not before `from`, and what it waits for.
    pub(super) fn earliest(
        &mut self,
        cost: Cost,
        from: (Nanos, WaitReason),
        now: Nanos,
    ) -> Result<(Nanos, WaitReason), Admission> {
        // Without the store nobody knows what holds now.
        let limits = self.leased.limits();
        if self.gone.is_some() && limits == [None; 2] {
            self.lacks = units(cost).map(|it| it.max(1));
            return Err(Admission::WhenLeased(WaitReason::SharedLimit));
        }
        self.leased.earliest(cost, from).map_err(|lacking| {
            let ahead = lacking.at.saturating_sub(self.message());
            if ahead > now {
                return Admission::At(ahead, lacking.reason);
            }
            for (axis, units) in units(cost).into_iter().enumerate() {
                if lacking.what[axis] {
                    self.lacks[axis] = self.lacks[axis].max(units);
                }
            }
            // A store that answers leases as much as there is: it is the rate that binds.
            Admission::WhenLeased(match lacking.what {
                _ if self.gone.is_some() || limits == [None; 2] => WaitReason::SharedLimit,
                [true, _] => WaitReason::Requests,
                _ => WaitReason::Tokens,
            })
        })
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
                self.lacks[axis] = self.lacks[axis].max(units);
            }
        }
    }

    pub(super) fn settle_tokens(&mut self, reserved: u64, used: u64, now: Nanos) {
        let owed = self.leased.settle_tokens(reserved, used, now);
        self.owed_tokens = self.owed_tokens.saturating_add(owed);
    }

    /// Admits nothing before `until`.
    pub(super) fn hold(&mut self, until: Nanos) {
        self.leased.hold(until);
    }

    /// A pause began here, of which the other processes must know.
    pub(super) fn announce_pause(&mut self, until: Nanos) {
        self.pause = self.pause.max(until);
    }

    /// Whether to call the keeper: it has something to do at once, and was not called yet.
    pub(super) fn call(&mut self) -> bool {
        let call = !self.called && self.has_call();
        self.called |= call;
        call
    }

    fn has_call(&self) -> bool {
        self.has_urgent_news() || self.lacks != [0; 2]
    }

    fn has_urgent_news(&self) -> bool {
        self.pause > self.pause_told || (self.has_news && self.joined)
    }

    /// What the keeper does next, with so many requests in flight and so many threads waiting.
    pub(super) fn next(&mut self, in_flight: usize, waiting: usize, now: Nanos) -> Next {
        self.called = false;
        let is_used = in_flight + waiting > 0;
        if let Some(gone) = &self.gone {
            return match gone.retry_at {
                _ if !is_used && !self.has_call() => Next::WhenCalled,
                at if at > now => Next::At(at),
                _ => Next::Ask(self.ask(is_used, waiting, now)),
            };
        }
        let called = self.has_call().then(|| {
            if self.has_urgent_news() {
                now
            } else {
                self.not_before
            }
        });
        let heartbeat = (self.joined && is_used).then_some(self.asked + HEARTBEAT);
        let has_some = |axis| self.leased.held(axis, now) > Some(0);
        let is_idle = waiting == 0 && (0..2).any(has_some);
        let back = is_idle.then(|| self.idle_from());
        let leave = (self.joined && !is_used).then(|| self.leave_at());
        let due = [called, heartbeat, back, leave].into_iter().flatten().min();
        match due {
            Some(at) if at > now => Next::At(at),
            Some(_) => Next::Ask(self.ask(is_used, waiting, now)),
            None => Next::WhenCalled,
        }
    }

    /// The last ask, when the limiter is dropped.
    pub(super) fn last(&mut self) -> Option<Ask> {
        let joined = self.joined && self.gone.is_none();
        joined.then(|| Ask {
            back: self.leased.give_back(),
            leaves: true,
            ..self.base()
        })
    }

    fn base(&mut self) -> Ask {
        Ask {
            holder: self.holder,
            incarnation: self.incarnation,
            configured: self.configured,
            announced: self.announced,
            owed_tokens: std::mem::take(&mut self.owed_tokens),
            lease: self.lease() / 1_000,
            slack: (self.round_trip.saturating_mul(2).saturating_add(LATE)) / 1_000,
            returns: self.gone.is_some(),
            ..Ask::default()
        }
    }

    fn ask(&mut self, is_used: bool, waiting: usize, now: Nanos) -> Ask {
        let lacks = std::mem::take(&mut self.lacks);
        let is_idle = lacks == [0; 2] && waiting == 0 && now >= self.idle_from();
        let is_told = self.pause <= self.pause_told;
        let pause = if is_told {
            0
        } else {
            self.pause.saturating_sub(now)
        };
        self.pause_told = self.pause;
        self.has_news = false;
        let wants = [0, 1].map(|axis| {
            if lacks == [0; 2] {
                return Want::default();
            }
            let recent = self.recent[axis].sum(now, self.lease());
            let most = recent.max(lacks[axis].saturating_mul(waiting as u64));
            match lacks[axis] {
                0 => Want {
                    least: 0,
                    most: most.saturating_sub(self.leased.held(axis, now).unwrap_or(0)),
                },
                least => Want {
                    least,
                    most: most.max(least),
                },
            }
        });
        let back = if is_idle {
            self.leased.give_back()
        } else {
            Default::default()
        };
        Ask {
            wants,
            back,
            pause: pause.div_ceil(1_000),
            leaves: lacks == [0; 2] && !is_used && now >= self.leave_at(),
            ..self.base()
        }
    }

    /// Takes note of the reply to an ask that was sent at `sent`.
    pub(super) fn heard(&mut self, ask: &Ask, reply: &Reply, sent: Nanos, now: Nanos) -> Changed {
        let took = now.saturating_sub(sent);
        // A quarter of what is new counts; the first counts whole.
        self.round_trip = if self.joined {
            (self.round_trip.saturating_mul(3).saturating_add(took)) / 4
        } else {
            took
        };
        if reply.incarnation != self.incarnation {
            self.incarnation = reply.incarnation;
            self.leased.forget();
        }
        let time = self.leased.heard(StoreTime::of(reply.now, sent, now));
        self.leased.add(reply.limits, &reply.credit);
        let paused_until = (reply.paused_until > 0).then(|| time.local(reply.paused_until));
        if let Some(until) = paused_until {
            self.leased.hold(until);
        }
        let lacked = (0..2).any(|axis| {
            let has_none = reply.credit[axis].is_empty();
            ask.wants[axis].least > 0 && has_none && reply.limits[axis].is_some()
        });
        if lacked {
            self.not_before = now + self.message();
        }
        // The head of the queue looks again, and says so if it still lacks something.
        self.lacks = [0; 2];
        self.asked = now;
        self.joined = !ask.leaves;
        if ask.leaves {
            self.leased.forget();
        }
        self.status.processes = reply.holders;
        self.status.processes_peak = self.status.processes_peak.max(reply.holders);
        self.status.round_trips += 1;
        let before = std::mem::replace(&mut self.configured_by_all, reply.configured);
        let lower = [0, 1].map(|axis| {
            let is_new = reply.configured[axis] != before[axis];
            let lowest = reply.configured[axis].filter(|_| is_new)?;
            is_lower(lowest, self.configured[axis]?).then_some(lowest)
        });
        Changed {
            back_after: self.gone.take().map(|gone| now.saturating_sub(gone.since)),
            lower,
            paused_until: paused_until.filter(|until| *until > now),
        }
    }

    /// An ask has failed: nothing was leased, and what was given back is gone. Returns whether it is
    /// the first that fails.
    pub(super) fn failed(&mut self, ask: &Ask, error: Error, now: Nanos) -> bool {
        let is_first = self.gone.is_none();
        self.gone = Some(Gone::after(self.gone.take(), error, now));
        // The store may have noted the debt. It is better paid twice than never.
        self.owed_tokens = self.owed_tokens.saturating_add(ask.owed_tokens.max(0));
        self.pause_told = 0;
        self.has_news = true;
        for (axis, want) in ask.wants.iter().enumerate() {
            self.lacks[axis] = self.lacks[axis].max(want.least);
        }
        is_first
    }

    /// The status of the shared limit, without the name of its store.
    pub(super) fn status(&self, now: Nanos) -> SharedStatus {
        let both = self.configured_by_all.into_iter().zip(self.configured);
        let lowered = |(all, ours): (Option<Limit>, Option<Limit>)| Some(is_lower(all?, ours?));
        let gone = self.gone.as_ref();
        SharedStatus {
            gone: gone.map(|gone| Duration::from_nanos(now.saturating_sub(gone.since))),
            error: gone.map(|gone| gone.error.to_string().into()),
            falls_back: self.fallback().is_some(),
            is_lowered: both.filter_map(lowered).any(|it| it),
            ..self.status.clone()
        }
    }

    /// What all leases together are worth, in time.
    fn lease(&self) -> Nanos {
        self.round_trip.saturating_mul(2).clamp(LEASE, HEARTBEAT)
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
    use crate::shared::Ledger;

    /// A process, the account, and the time. A message takes a millisecond each way.
    struct Case {
        sharing: Sharing,
        ledger: Ledger,
        now: Nanos,
    }

    const FREE: (Nanos, WaitReason) = (0, WaitReason::Requests);

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
                    Next::WhenCalled => panic!("it is never said"),
                    Next::Ask(ask) => {
                        self.answer(&ask);
                        return ask;
                    }
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

        fn admits(&mut self) -> Result<Nanos, Admission> {
            let from = (self.now, FREE.1);
            let ready = self.sharing.earliest(Cost::ONE, from, self.now);
            ready.map(|(at, _)| at)
        }

        /// Waits for a permit, as one that is first in the queue.
        fn take(&mut self) {
            loop {
                match self.admits() {
                    Ok(at) if at <= self.now => break,
                    Ok(at) => self.now = at,
                    Err(_) => {
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
        assert_eq!(
            case.admits(),
            Err(Admission::WhenLeased(WaitReason::SharedLimit))
        );
        assert!(case.sharing.call());
        assert!(!case.sharing.call(), "called once");
        let ask = case.asks(0, 1);
        assert_eq!(ask.wants[0], Want { least: 1, most: 1 });
        case.answer(&ask);
        // The account begins empty, and a unit is worth 100 ms.
        let at = case.admits().unwrap();
        assert!((100 * MILLI..104 * MILLI).contains(&at), "{at}");
        assert!(!case.sharing.call());
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
            Err(Admission::WhenLeased(WaitReason::SharedLimit)),
            "what holds now, nobody knows"
        );
    }

    #[test]
    fn while_the_store_answers_it_is_the_rate_that_binds() {
        let mut case = Case::new();
        let of_store = Err(Admission::WhenLeased(WaitReason::SharedLimit));
        assert_eq!(case.admits(), of_store, "it has not answered yet");
        case.take();
        let lacks = loop {
            match case.admits() {
                Err(Admission::At(at, _)) => case.now = at,
                Ok(at) => {
                    case.now = at;
                    case.sharing.take(Cost::ONE, at);
                }
                Err(lacks) => break lacks,
            }
        };
        assert_eq!(lacks, Admission::WhenLeased(WaitReason::Requests));
        let ask = case.asks(1, 1);
        case.fail(&ask);
        assert_eq!(case.admits(), of_store, "it is gone");
    }

    #[test]
    fn a_store_that_is_gone_is_tried_again_ever_more_rarely() {
        let mut case = Case::new();
        assert_eq!(
            case.admits(),
            Err(Admission::WhenLeased(WaitReason::SharedLimit))
        );
        let mut waits = Vec::new();
        for turn in 0..7 {
            let ask = case.asks(0, 1);
            assert_eq!(ask.wants[0].least, 1, "it still lacks it");
            assert_eq!(case.fail(&ask), turn == 0);
            assert_eq!(
                case.admits(),
                Err(Admission::WhenLeased(WaitReason::SharedLimit))
            );
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
        assert!(case.admits().is_ok());
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
        assert!(case.sharing.call());
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
        assert!(!case.sharing.call(), "told");
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
        assert!(lack.is_err());
        let ask = case.asks(1, 1);
        assert_eq!(ask.owed_tokens, 40);
        case.fail(&ask);
        assert_eq!(case.sharing.owed_tokens, 40);
        case.now += SECOND;
        let refund = Ask {
            owed_tokens: -7,
            ..case.asks(1, 1)
        };
        case.fail(&refund);
        assert_eq!(case.sharing.owed_tokens, 0);
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
        assert!(case.sharing.status(case.now).is_lowered);
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
}
