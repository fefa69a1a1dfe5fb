//! Limits: what the gate promises, and how it keeps it.
//!
//! A provider limits requests and model tokens per minute, and judges by windows that are shorter
//! than a minute. The gate is a [`Limiter`]: requests, model tokens and places in flight under one
//! lock, taken together or not at all.
//!
//! # The promise
//!
//! In every window of length *T*, however it is placed:
//!
//! - at most `burst + rate · T` requests are admitted;
//! - the model tokens admitted, less what was given back, are at most
//!   `max(burst, largest single cost) + rate · T`, counted as they were reserved.
//!
//! It holds by arithmetic and not on average: time is counted in whole nanoseconds, credit in whole
//! fractions of a unit, and nothing is rounded while time passes. A limiter that is asked faster
//! than its rate admits the first burst and then one unit at each instant it is due.
//!
//! ```
//! use std::time::Duration;
//! use tollgate::{Cost, Limiter, Rate, Refusal, VirtualClock};
//!
//! let time = VirtualClock::new();
//! let gate = Limiter::builder().requests(Rate::per_second(4)).clock(time.clock()).build()?;
//! let admitted = || (0..1_000).take_while(|_| gate.try_acquire(Cost::ONE).is_ok()).count();
//!
//! assert_eq!(admitted(), 4, "the bucket starts full: one second's worth");
//! let Err(Refusal::NotUntil(when)) = gate.try_acquire(Cost::ONE) else { panic!() };
//! assert_eq!(when - time.clock().now(), Duration::from_millis(250), "and says when to come back");
//!
//! time.advance(Duration::from_millis(249));
//! assert_eq!(admitted(), 0, "never early");
//! time.advance(Duration::from_millis(1));
//! assert_eq!(admitted(), 1);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! What it is not: it counts admissions by the gate's clock. A connection that stalls and recovers
//! can bring two requests to the server closer together than they were let through.
//!
//! # Burst
//!
//! The burst is how many may go at once after an idle spell. It is one second's worth unless
//! [set](crate::LimiterBuilder::burst), and at least one: 600 a minute admits ten at once and then
//! ten a second. A bucket of a whole minute would keep to the letter of the limit and be answered
//! with 429, because providers look at windows of one to ten seconds.
//!
//! # Model tokens
//!
//! What a request costs is known when its answer is there. So it is estimated before: a quarter of
//! the text's bytes, and the output it allows itself (`max_tokens`, times `n`), or what earlier
//! answers have needed where it sets no bound.
//! [`Request::reserve_tokens`](crate::Request::reserve_tokens) takes the place of the estimate. The
//! answer's `usage` then [settles](crate::Permit::settle) it:
//!
//! - fewer tokens than reserved are given back at once;
//! - more are a *debt*: the level falls below zero, and later admissions wait until it is paid;
//! - an attempt that ends without word of its usage (an error, a timeout, a panic) keeps its
//!   estimate; one in which nothing was sent gives all of it back;
//! - the request itself is never given back.
//!
//! A cost above the burst waits for a full bucket and leaves a debt. A cost above what a whole
//! period allows ([`Rate::period`](crate::Rate::period): for tokens a minute, one minute's worth)
//! can never fit, and is refused at once with [`ErrorKind::NeverFits`](crate::ErrorKind::NeverFits)
//! rather than waited for.
//!
//! # Waiting
//!
//! [`acquire`](crate::Limiter::acquire) waits; [`acquire_timeout`](crate::Limiter::acquire_timeout)
//! waits so long, and gives up at once when it is certain that it would be in vain;
//! [`acquire_cancellable`](crate::Limiter::acquire_cancellable) waits until a
//! [`Cancel`](crate::Cancel); [`try_acquire`](crate::Limiter::try_acquire) answers *when*. Whoever
//! waits holds a numbered ticket, and is served in that order. Only the first in line has a timed
//! wait; the others sleep until it leaves, so a thousand waiting threads cost nothing while they
//! wait. A large cost is therefore not overtaken by small ones, and nobody starves.
//!
//! # Pauses
//!
//! [`pause_until`](crate::Limiter::pause_until) admits nobody before an instant, and is what a
//! server's `retry-after` does to all users of the gate. A pause is never shortened by another. It
//! ends gently: the buckets are empty then, so the rate begins from nothing instead of with a
//! burst, and a gate without a request rate fills its places evenly over a second.
//!
//! # Changes
//!
//! Rates and places may be changed at any time ([`set_requests`](crate::Limiter::set_requests),
//! [`set_tokens`](crate::Limiter::set_tokens),
//! [`set_concurrency`](crate::Limiter::set_concurrency)). What was earned at the old rate stays
//! earned, and the first in line is timed anew.
//!
//! # Sharing
//!
//! A limit belongs to a key, not to a client. Clones of a limiter are the same gate: give one to
//! several clients ([`ClientBuilder::limiter`](crate::ClientBuilder::limiter)) and pools
//! ([`Pool::from_limiter`](crate::Pool::from_limiter)), or use it from plain threads beside them.
//! Runs that share a gate are served in turn, since each has one thread in line.
//!
//! ```
//! use tollgate::{Limiter, Pool, Rate, Verdict};
//!
//! let gate = Limiter::builder().requests(Rate::per_second(1_000)).concurrency(8).build()?;
//! let (letters, words) = (Pool::from_limiter(gate.clone())?, Pool::from_limiter(gate.clone())?);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| letters.try_map(&['a', 'b'], |_| Ok::<_, ()>(()), |()| Verdict::Fail));
//!     scope.spawn(|| words.try_map(&["one", "two"], |_| Ok::<_, ()>(()), |()| Verdict::Fail));
//! });
//! assert_eq!(gate.in_flight(), 0, "every place is free again");
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! A job that asks for a place at the gate that admitted it could wait for itself for ever. It is
//! refused at once with [`ErrorKind::Nested`](crate::ErrorKind::Nested); give inner work a gate of
//! its own.
//!
//! Separate processes do not share a gate: divide the limit between them.
//!
//! [`Limiter`]: crate::Limiter
