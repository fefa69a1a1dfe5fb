//! What a process asks the store of a shared limit, and what the store answers.
//!
//! A *shared limit* is the rates and bursts that several processes keep to together. The *store*
//! is where it is kept: a file, or a key of a Redis server. A process that uses it is a *holder*.
//!
//! A limit is a time axis. At `units` a `period`, each unit is worth `period / units` of it. A
//! *lease* is a part of that axis, and no other process gets the same part. So all processes
//! together never have more than the axis is long. A part lapses when it is older than `burst`
//! units are worth. So what is saved up never adds up to more than one burst.
//!
//! Whatever is here in pairs is for requests and for model tokens, in this order.

use std::iter;

/// Microseconds by the store's clock, whatever its origin.
pub(crate) type Micros = u64;

/// A part of a limit's time axis, from its start to before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Micros,
    pub(crate) to: Micros,
}

/// A rate and its burst: `units` in each `period` of microseconds, `burst` of them at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) units: u64,
    pub(crate) period: Micros,
    pub(crate) burst: u64,
}

impl Limit {
    /// The numbers that a limit is kept and sent as: three zeros if there is none.
    pub(super) fn numbers(limit: Option<Self>) -> [u64; 3] {
        limit.map_or([0; 3], |limit| [limit.units, limit.period, limit.burst])
    }

    /// Reads these numbers. `None` if they end too soon.
    #[expect(clippy::option_option, reason = "too few numbers, and no limit")]
    pub(super) fn read(numbers: &mut impl Iterator<Item = u64>) -> Option<Option<Self>> {
        let (units, period, burst) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some((units > 0).then_some(Self {
            units,
            period,
            burst,
        }))
    }
}

impl Span {
    /// The numbers that parts are kept and sent as: how many there are, and both ends of each.
    pub(super) fn numbers(spans: &[Self]) -> impl Iterator<Item = u64> {
        let ends = spans.iter().flat_map(|span| [span.from, span.to]);
        iter::once(spans.len() as u64).chain(ends)
    }

    /// Reads these numbers. `None` if they end too soon.
    pub(super) fn read(numbers: &mut impl Iterator<Item = u64>) -> Option<Vec<Self>> {
        let many = numbers.next()?;
        let span = |_| {
            let (from, to) = (numbers.next()?, numbers.next()?);
            Some(Self { from, to })
        };
        (0..many).map(span).collect()
    }
}

/// How many units a process asks for: `least` for the request that is first in its queue, and up
/// to `most`, which it can use soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

/// What one process says to the store, and asks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// A random number that no other process has.
    pub(crate) holder: u64,
    /// The incarnation that `back` is from; 0 before the first reply.
    pub(crate) incarnation: u64,
    /// The limits that this process was given.
    pub(crate) configured: [Option<Limit>; 2],
    /// The limits that the provider has announced to it.
    pub(crate) announced: [Option<Limit>; 2],
    pub(crate) wants: [Want; 2],
    /// Leased credit that it does not need.
    pub(crate) back: [Vec<Span>; 2],
    /// Model tokens that were used beyond what was leased; below zero, tokens to be given back.
    pub(crate) owed_tokens: i64,
    /// For how long from now no process may send.
    pub(crate) pause: Micros,
    /// What all leases together are worth, in time.
    pub(crate) lease: Micros,
    /// How late a lease may be used: more than the time that a message takes.
    pub(crate) slack: Micros,
    /// Whether the process ends, or sends nothing for a while.
    pub(crate) leaves: bool,
    /// Whether the process could not reach the store when it last tried. Then nothing is saved up:
    /// what nobody could lease meanwhile would come as a burst.
    pub(crate) returns: bool,
}

/// What the store answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Another number when the store has lost its state, or its clock was set back. Leases from
    /// before are void.
    pub(crate) incarnation: u64,
    /// The store's time.
    pub(crate) now: Micros,
    /// The lowest limits that any process was given.
    pub(crate) configured: [Option<Limit>; 2],
    /// The limits that hold: the lowest of those and of what the provider has announced to any.
    pub(crate) limits: [Option<Limit>; 2],
    /// Leased credit, oldest first.
    pub(crate) credit: [Vec<Span>; 2],
    /// No process may send before this time; 0 without a pause.
    pub(crate) paused_until: Micros,
    /// How many processes share the limit, this one among them.
    pub(crate) holders: u64,
}

/// Where a shared limit is kept.
pub(crate) trait Store: Send {
    /// One round trip. It may take as long as the store's time limit, and is made without a lock.
    ///
    /// # Errors
    /// When the store cannot be reached, or gives no sensible answer. Nothing is leased then. The
    /// store may have done all that was asked, and only its answer may be lost. So a caller does
    /// not give the same credit back again: another process may have it by now.
    fn exchange(&mut self, ask: &Ask) -> crate::error::Result<Reply>;
}
