//! Retries: what each failure means, how long is waited, and when a run stops.
//!
//! Every failed attempt gets a [`Verdict`]. A [`Client`](crate::Client) takes it from the tables
//! below; a [`Pool`](crate::Pool) asks your closure. The [`Retry`] policy then says whether there
//! is another attempt, and when. Meanwhile the item holds neither a thread nor a place in flight,
//! and its next attempt passes the gate like its first.
//!
//! # Answers
//!
//! | Answer | [`ErrorKind`](crate::ErrorKind) | What is done |
//! |---|---|---|
//! | 2xx with JSON | | the [`Reply`](crate::Reply) |
//! | 2xx that is empty, cut short, a web page | `Malformed` | tried again, twice at most: it may have been paid for |
//! | 2xx that holds nothing but an error | that of the status it names, else `Server` | as for that status |
//! | 3xx | `Redirect` | stops the run; a redirect could take the key elsewhere |
//! | 401 | `Auth` | stops the run |
//! | 402, and the codes for money under any status (`insufficient_quota`, ...) | `Quota` | stops the run |
//! | 402 with `retry-after` | `RateLimited` | everyone waits so long |
//! | 403, 404 | `Permission`, `NotFound` | fails; ten alike in a row before any success stop the run |
//! | 407 | `Config` | stops the run: the proxy wants credentials |
//! | 408, 409, 425 | `Server` | backs off, or waits as long as asked, alone |
//! | 413, and a 429 whose text says that the request alone is above the limit | `TooLarge` | fails |
//! | 429 with a wait | `RateLimited` | everyone waits so long |
//! | 429 without | `RateLimited` | backs off, from 1 s |
//! | 429 for a key without any quota for the model | `Quota` | stops the run |
//! | a content filter's refusal | `ContentFilter` | fails |
//! | any other 4xx | `Invalid` | fails |
//! | 529, and 5xx that say the server is overloaded | `Overloaded` | as 429 |
//! | any other 5xx | `Server` | backs off from 0.5 s, or everyone waits as long as asked |
//!
//! `x-should-retry: false` makes a retry a failure; `true` makes a failure a retry, except against
//! a wrong key, money and a request that is too large.
//!
//! # No answer
//!
//! | What broke | [`ErrorKind`](crate::ErrorKind) | What is done |
//! |---|---|---|
//! | no address, refused, no route, or whatever else before a byte was sent | `Unreachable` | tried again when the server is back: see below |
//! | the connection, or the TLS on it, after something was sent | `Network`, `Truncated` | backs off |
//! | the attempt's time | `Timeout` | backs off |
//! | the certificate, or the first TLS handshake | `Tls` | stops the run |
//! | HTTP itself | `Protocol` | tried again, twice at most |
//! | the limit on bodies | `BodyTooLarge` | fails |
//!
//! An answer that was lost may have been billed.
//! [`Error::possibly_billed`](crate::Error::possibly_billed) says so of an error, and
//! [`Progress::possibly_billed`](crate::Progress::possibly_billed) counts them in a run.
//!
//! # How long
//!
//! A server's own word comes first: `retry-after-ms`, then `retry-after` in seconds or as an HTTP
//! date (RFC 9110, 10.2.3), then what the body says, then, for a 429, the reset headers of a limit
//! of which nothing remains. Jitter only adds to it: up to a tenth, 5 s at most. It holds the gate
//! for everyone, so that the others do not each fetch a refusal of their own.
//!
//! Without a word, the wait is drawn evenly from 0 to 0.5 s, then to 1 s, 2 s, and so on, never
//! above 60 s ("full jitter", Brooker, AWS Architecture Blog, 2015); after a 429 it begins with 1
//! s.
//!
//! A success whose headers say that nothing remains of a limit holds the gate as well: better to
//! wait than to fetch the refusal.
//!
//! # Attempts and waits
//!
//! [`max_attempts`](crate::Retry::max_attempts) counts the first, and only failures that are the
//! request's own share of bad luck. Not counted are:
//!
//! - waits that the server asked for, of which an item sits through 50
//!   ([`max_waits`](crate::Retry::max_waits));
//! - attempts in which nothing was sent.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::time::Duration;
//! use tollgate::{Pool, Retry, Verdict};
//!
//! let calls = AtomicU32::new(0);
//! let quick = Retry::new().max_attempts(2).initial_backoff(Duration::ZERO);
//! let results = Pool::new(1)?.with_retry(quick).try_map(
//!     &["the only item"],
//!     |_| match calls.fetch_add(1, Ordering::Relaxed) {
//!         0..3 => Err("busy"),
//!         3 => Err("broken"),
//!         _ => Ok(()),
//!     },
//!     |error| match *error {
//!         "busy" => Verdict::PauseAll(Duration::from_millis(1)), // asked for: not counted
//!         _ => Verdict::Retry,
//!     },
//! );
//! assert!(results[0].is_ok());
//! assert_eq!(calls.into_inner(), 5, "three waits, and two attempts that count");
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! # When the server is down
//!
//! Without more ado an outage would be paid by the items: each in its turn would use up its
//! attempts against a server that is down for everybody. So a *breaker* opens at the first attempt
//! in which nothing could be sent, and when ten or more different items keep failing for passing
//! reasons with nothing else in between. Then one probe goes at a time, after 1 s, 2 s, 4 s, up to
//! every 60 s, and everything else stays where it is; a probe is not charged to the item that makes
//! it. A success closes the breaker, and so does any answer that shows the server at work: the
//! refusal of one item, a plea to wait.
//!
//! A run that the server has never answered gives up after two minutes of that, and one that has
//! had nothing but failures for answers after ten. One that has seen the server work waits for as
//! long as it takes; bound it with a deadline.
//!
//! # When a run stops
//!
//! - at an answer that means that nothing can succeed: the rows above that say so;
//! - at a wait longer than [`max_server_delay`](crate::Retry::max_server_delay), 10 minutes unless
//!   set;
//! - after two minutes of an open breaker without ever an answer, or ten without ever a good one;
//! - at its [deadline](crate::Client::with_deadline), or a [`Cancel`](crate::Cancel).
//!
//! What is in flight is finished. Items not sent are `Err` of kind
//! [`Cancelled`](crate::ErrorKind::Cancelled), or [`Deadline`](crate::ErrorKind::Deadline); in a
//! run over a file they get no record, so that a rerun takes them up.
//!
//! [`Retry`]: crate::Retry
//! [`Verdict`]: crate::Verdict
