//! Limits: what the limiter promises, and how it keeps it.
//!
//! A provider limits how many requests and how many model tokens a key may use in a minute. It also
//! looks at shorter times than a minute. A [`Limiter`] keeps a program within these limits.
//!
//! Some words first:
//!
//! - A *permit* is leave to send one request. Whoever sends asks the limiter for one, and drops it when
//!   the answer is there.
//! - A request is *in flight* from getting its permit to dropping it. The *concurrency* is how many
//!   may be in flight at once.
//! - The *cost* of a permit is what it takes from the limits: one request, and an estimate of the
//!   model tokens that the request will use.
//! - A *bucket* counts what may be used of one limit. It fills at the limit's rate up to a maximum,
//!   the *burst*, and each permit takes its cost from it.
//!
//! The limiter has a bucket of requests and a bucket of model tokens, and counts what is in flight. A
//! permit needs all three, and takes them together or not at all.
//!
//! # The promise
//!
//! In any span of time *T* long, whenever it begins:
//!
//! - at most `burst + rate · T` requests are admitted;
//! - at most `max(burst, largest single cost) + rate · T` model tokens are admitted, as estimated
//!   and less what was refunded.
//!
//! This is exact, and not an average. Time is counted in whole nanoseconds, and nothing is rounded
//! while it passes. A limiter that is always busy admits the burst first, and then each request at the
//! instant when the bucket has filled far enough for it.
//!
//! ```
//! use std::time::Duration;
//! use tollgate::{Cost, Limiter, Rate, Refusal, VirtualClock};
//!
//! let time = VirtualClock::new();
//! let limiter = Limiter::builder().requests(Rate::per_second(4)).clock(time.clock()).build()?;
//! let admitted = || (0..1_000).take_while(|_| limiter.try_acquire(Cost::ONE).is_ok()).count();
//!
//! assert_eq!(admitted(), 4, "the bucket starts full: one second's worth");
//! let Err(Refusal::NotUntil(when)) = limiter.try_acquire(Cost::ONE) else { panic!() };
//! assert_eq!(when - time.clock().now(), Duration::from_millis(250), "says when to come back");
//!
//! time.advance(Duration::from_millis(249));
//! assert_eq!(admitted(), 0, "never early");
//! time.advance(Duration::from_millis(1));
//! assert_eq!(admitted(), 1);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! The promise counts when a request is admitted, not when it arrives. A connection that stalls and
//! recovers can bring two requests to the server closer together than they were admitted.
//!
//! # Burst
//!
//! The burst is how many requests may start at once after an idle time. The default is one second's
//! worth of the rate, and at least one: a rate of 600 a minute admits ten at once and then ten a
//! second. [`burst`](crate::LimiterBuilder::burst) and
//! [`token_burst`](crate::LimiterBuilder::token_burst) change it.
//!
//! With a burst of a whole minute's worth, twice the limit could be sent within one minute after an
//! idle time. Providers also judge windows of one to ten seconds, and would answer with 429 sooner.
//!
//! # Model tokens
//!
//! How many model tokens a request uses is known when its answer is there. Before that, a client
//! estimates it. At first it takes a quarter of the text's bytes for the prompt, and for the output the
//! bound in the request (`max_tokens`, times `n`), or 500 without a bound.
//!
//! From the usage in answers it then learns, for each model, how many bytes a token has, and for each
//! model and order of `max_tokens` how much of it is written. After some thirty answers the estimate is
//! what they took: 50 tokens of an allowed 4,096, or a token for every two bytes of Chinese. One odd
//! answer changes it by no more than a factor of two. A retry is estimated anew. What has been learned
//! never makes a request larger than the limit that it must fit.
//! [`Request::reserve_tokens`](crate::Request::reserve_tokens) replaces the estimate by a number of
//! yours.
//!
//! Providers differ in what they count:
//!
//! | Provider | Of the output until the answer is there | In the end |
//! |---|---|---|
//! | OpenAI, Azure, Cerebras | all that the request allows | all |
//! | Groq | all that the request allows | all but what is read from a cache |
//! | Anthropic | what is usual | all but what is read from a cache |
//! | Gemini's endpoint for OpenAI's API | nothing | the prompt |
//! | any other | what is usual | all |
//!
//! They are known by their base URL, Anthropic and Azure by
//! [`provider`](crate::ClientBuilder::provider). A refusal that names how much it counts ("Requested
//! 4206") corrects the first column. All that a request allows is taken from what the provider announces;
//! a limit that is set gives what is usual, so that it is not held up by tokens that nobody writes.
//!
//! The answer's `usage` then replaces the estimate. With a permit of your own,
//! [`settle`](crate::Permit::settle) does it.
//!
//! - If fewer tokens were used, the rest is refunded at once. During a pause a refund only pays what
//!   the bucket owes.
//! - If more were used, the bucket owes them: it goes below zero, and later requests wait until it
//!   has filled again.
//! - If the server refused the request (429, another 4xx but 408, or an overload such as 529), or
//!   nothing was sent, all tokens are refunded.
//! - If nothing says how many were used, and some may have been (a timeout, a server's error, a
//!   panic), the estimate stands.
//! - The request itself is never refunded.
//!
//! A cost above the burst waits for a full bucket and leaves it below zero. A cost above what a
//! whole period of the rate allows, such as a minute's worth for tokens a minute, is refused at once
//! with [`ErrorKind::NeverFits`](crate::ErrorKind::NeverFits).
//!
//! # Waiting
//!
//! | Call | Waits |
//! |---|---|
//! | [`acquire`](crate::Limiter::acquire) | until there is a permit |
//! | [`acquire_timeout`](crate::Limiter::acquire_timeout) | so long at most; not at all if a pause lasts longer |
//! | [`acquire_cancellable`](crate::Limiter::acquire_cancellable) | until a [`Cancel`](crate::Cancel) is raised |
//! | [`try_acquire`](crate::Limiter::try_acquire) | not at all, and says when to come back |
//!
//! Threads that wait are served in the order in which they came. A large cost at the head of the
//! queue is not overtaken by small ones, so no thread waits for ever. Only the head watches the
//! time. The others sleep until they are the head, so a thousand waiting threads use no CPU.
//!
//! # Pauses
//!
//! During a pause nothing is admitted. When a server answers with `retry-after`, the client pauses
//! the limiter, and all its users wait. A program can do the same with
//! [`pause_until`](crate::Limiter::pause_until) and [`pause_for`](crate::Limiter::pause_for). A pause
//! is never shortened by another.
//!
//! There is no burst after a pause: the buckets are empty when it ends. A limiter without a rate of
//! requests has no bucket for them. After a pause it lets the requests in flight grow up to the
//! concurrency evenly, in as much time as the pause took, one second at most, and by no more than
//! 1,000 requests a second.
//!
//! # Limits that are learned
//!
//! Many providers announce their limits with each answer. A client reads them and keeps to the lower of
//! what is set and what is announced, so a rate need not be set. [`Limiter::learned`] says what was
//! learned, and so do the tool's bar and summary. A limit that falls or comes back is followed at the
//! next answer.
//!
//! | Read | From |
//! |---|---|
//! | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, also of a project | OpenAI, Azure, Groq, gateways |
//! | the same with `-minute`, `-hour` or `-day` behind | Mistral, Cerebras |
//! | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}` | Anthropic |
//! | `x-ratelimit-{limit,remaining,reset}` | OpenRouter |
//! | `ratelimit-{limit,remaining,reset}`, `RateLimit`, `RateLimit-Policy` | the IETF's drafts |
//!
//! - A reset may be a duration (`6m0s`, `7.66s`), seconds, a date, or seconds or milliseconds since
//!   1970. A date is compared with the answer's own `Date`.
//! - Values that cannot be, such as -1 or 0, are ignored and counted.
//! - Of an announced limit 97 % are used: the server's clock is its own.
//! - Where the window is not named, it is the one in which limit, remaining and reset fit together, else
//!   a minute. Groq's limit on requests is one of a day. A window within a minute, such as a second, is
//!   believed when no reset was longer for a while, and more was used than comes back of a minute's limit
//!   until the reset. With one request at a time nothing shows that, and it is taken for a minute.
//! - Requests are spread evenly over a window of up to a minute. A longer window is a budget, and so are
//!   model tokens: as many may go at once as the server says are left. After a pause there is no burst
//!   of either.
//! - An announced limit never makes a request impossible. A request that costs more than the limit waits
//!   until all of it is free.
//! - One limiter follows one set of limits. For models with limits of their own, use a client for each.
//!
//! The first answers bring the limits, so at first as many requests go as the concurrency allows.
//!
//! ## Limits that refusals tell
//!
//! Where no header tells the rate of requests, refusals do. A *refusal* is an answer that asks for a
//! slower pace, such as 429, or that says that the server is overloaded, such as 529.
//!
//! - A refusal is *stray* if fewer than one in ten of the latest answers are refusals. The latest answers
//!   are those of the last second, or the last 20 if these are more. Requests in flight count as answers.
//!   A stray refusal holds its own item alone. From the item's third attempt on it holds everyone, and the
//!   item goes first. It lowers a learned rate by 1 % at most.
//! - Any other refusal holds everyone: as long as the server asks, or 0.25 s if the server does not say.
//!   The 0.25 s double with each such refusal, up to 8 s or `max_backoff`, until something is admitted. A wait that the
//!   server asks for is obeyed as it is. Where nothing is admitted for a second the doubled wait counts if it
//!   is longer. Such refusals lower a learned rate by 4 %.
//! - If 15 % of the latest answers are refusals, and at least five, the rate is cut to 90 % of what was
//!   admitted last. Refusals of requests that were in flight at the cut do not cut again.
//!   If six more cuts follow each other within 3 s, the rate is not what the server refuses for: it is
//!   forgotten, and none is learned for 30 s.
//! - If everyone is held for more than 3 s, a window is taken to be used up. The rate is then what that
//!   window let in within a minute.
//! - The rate settles at 95 % of what was admitted. From there a higher one is tried now and then, at
//!   first by half. If a try is refused, the rate goes back, and the next try comes 10 s to 60 s later and
//!   is a quarter as large.
//!
//! In a simulated provider that tells nothing but 429 (50 a second, bursts from 1 to 50, 64 at once), 0.2 to 5 %
//! of all requests after the first 10 s are refused, at 0.9 to 1.0 of the limit. `tests/learned` measures it.
//!
//! ## How many at once, as refusals tell it
//!
//! Some servers limit how many requests are in flight, whatever their rate: a LiteLLM key with
//! `max_parallel_requests`, servers with slots. They refuse in the same words, and may ask for a wait of a
//! minute while a place is free within a second. A fixed concurrency of 20 is then lowered, for as long as
//! such refusals last, and never by anything else. The bar and the summary say so: `3 at once learned from
//! refusals`. It is never raised above what is set.
//!
//! - The first refusals do not say which of both limits it is. Their wait holds everyone. After it, as many
//!   requests are in flight as were let in. If more were let in at once within the last minute, it is a
//!   rate.
//! - One request more is tried in the midst of the others, after 0.25 s and twice as long after each try
//!   that is refused. A server with so many places refuses it. A server that limits a rate lets it in:
//!   after three such tries the refusals count for the rate.
//! - A refusal of that one more holds nobody: its item is sent as soon as another is done.
//! - After a refusal of a request within the places one request asks whether they are still there. A server
//!   frees a place when it has answered or a little later, so a place then rests for 3 ms, and three times
//!   as long after each such refusal. After the fifth, or where the rest were longer than a quarter of an
//!   answer, it is a rate, or the places are counted anew.
//! - When three tries were refused and requests went on, it is certain. One place more is then tried every
//!   30 s, and twice as long after each refusal, up to 10 min.
//! - Once the refusals turned out to be about a rate, they are taken for one for a minute, and twice as
//!   long each time.
//!
//! ## Three runs
//!
//! The simulated provider of these plots allows 50 requests a second, with a burst of 10, and answers in
//! 100 ms. It counts what it admits and what it refuses. The client may have 64 in flight.
//!
//! Where headers announce the limit, the first answers suffice. Where only refusals tell it, it is found
//! within seconds, and a higher rate is tried now and then, which costs a few refusals.
//!
#![doc = include_str!("plots/limits.svg")]
//!
//! A limit that is cut and restored is followed at the next answer with headers. Without them, refusals
//! tell of the cut at once, and the next try of a higher rate tells of its end.
//!
#![doc = include_str!("plots/cut.svg")]
//!
//! Two processes with one key, which do not know of each other, keep to the limit together. Nothing sees to
//! it that both get the same share.
//!
#![doc = include_str!("plots/two.svg")]
//!
//! `cargo bench --features sim --bench plots` draws them anew.
//!
//! # Warm-up
//!
//! Many providers cache the beginnings of prompts, and charge less for what they find in the cache.
//! Requests that go at the same moment find nothing there. With
//! [`warmup(1)`](crate::ClientBuilder::warmup), or `--warmup 1`, the first request of a run goes alone, and
//! the others when it has ended. With more, so many go at once and the others wait for all of them.
//!
//! A request that fails has ended, and so the others go. While it is tried again they wait. A request that
//! cannot be sent at all, such as a line that is none, does not count. A run that carries on with earlier
//! results begins with the first request that is left.
//!
//! # A range of concurrency
//!
//! With a range, `concurrency(4..=200)` or `-c 4-200`, the number in flight is found. It begins at the low
//! end and doubles while that brings throughput. Then higher and lower numbers are tried in turn, and kept
//! where they pay.
//!
//! - A number and the one it is compared with are tried one right after the other, by the latencies of
//!   some 8 to 200 successful requests each. Rows of different length, or a slow minute, do not count against it.
//! - Twice the number must bring 1.3 times the throughput at least. Beyond the point where a server only
//!   makes requests wait, nothing is gained, and fewer are tried.
//! - The number grows only if it is used. Where a rate is the limit, or few rows are left, it stays.
//! - A refusal takes a try back.
//! - While nothing has been answered, the low end is added each second. So only a few are in flight until the
//!   first headers have told the limits, or until the first second is over.
//!
//! The plot is of a model of a server that answers in a second, some sooner and some later. Netflix's AIMD
//! limit goes by single latencies, and its Gradient2 by their mean over minutes. `src/limit/adaptive_trial.rs`
//! compares more servers and rules. A figure below is the mean of eight runs: the throughput ÷ that of the best
//! fixed number, and how many were in flight. An answer takes a second in the median and ten in the 99th
//! percentile. The range is 4 to 200, and a run has 6,000 rows or more unless the table says otherwise.
//!
//! | Server | Best | AIMD | Gradient2 | Vegas | this limiter | 20 |
//! |---|---|---|---|---|---|---|
//! | no limit | 94/s at 200 | 0.44, 67 | 0.46, 71 | 0.04, 6 | 0.92, 142 | 0.13, 20 |
//! | no limit, all answers alike | 200/s at 200 | 0.89, 178 | 0.28, 56 | 0.75, 151 | 0.85, 170 | 0.10, 20 |
//! | no limit, a minute of three times the latency | 84/s at 200 | 0.48, 70 | 0.59, 82 | 0.04, 6 | 0.93, 155 | 0.14, 20 |
//! | a rate of 30/s | 28/s at 64 | 0.95, 43 | 0.82, 38 | 0.15, 7 | 0.98, 45 | 0.43, 20 |
//! | latency in proportion above 40 | 24/s at 40 | 0.88, 74 | 0.88, 56 | 0.15, 6 | 0.94, 65 | 0.51, 20 |
//! | the same, all answers alike | 40/s at 40 | 0.99, 193 | 0.88, 55 | 0.97, 47 | 0.97, 50 | 0.50, 20 |
//! | 40 workers and a queue | 24/s at 40 | 0.98, 182 | 0.93, 63 | 0.15, 6 | 0.94, 38 | 0.51, 20 |
//! | twice the latency above 40 | 47/s at 200 | 0.45, 69 | 0.38, 52 | 0.08, 6 | 0.88, 132 | 0.26, 20 |
//! | latency with the square above 40 | 24/s at 40 | 0.30, 77 | 0.67, 48 | 0.15, 6 | 0.82, 43 | 0.51, 20 |
//! | no limit, only 400 rows | 22/s at 200 | 0.55, 20 | 0.30, 11 | 0.33, 12 | 0.73, 26 | 0.46, 16 |
//! | in proportion above 40, only 400 rows | 16/s at 40 | 0.61, 20 | 0.42, 11 | 0.45, 12 | 0.49, 27 | 0.64, 16 |
//!
//! The last row is the price of finding out: in a few hundred rows of very different length, a good number that
//! is known is better than a range. So the default is a number.
//!
#![doc = include_str!("plots/range.svg")]
//!
//! A number, `concurrency(20)`, is kept as it is, from the start. [`Limiter::most_in_flight`] says the number
//! that holds now, and so do a [`Monitor`](crate::Monitor) and an
//! [`Event::Concurrency`](crate::Event::Concurrency).
//!
//! # Hedging
//!
//! Some answers take ten times as long as most, and the last of them make a run long. With
//! [`hedge(true)`](crate::ClientBuilder::hedge), or `--hedge`, a request is sent a second time when its
//! answer takes too long. The answer that comes first is taken, and the other attempt is cut off (Dean and
//! Barroso, *The Tail at Scale*, Communications of the ACM 56, 2013).
//!
//! - A copy is due when its request has taken longer than 95 % of all. Requests whose answers have not come
//!   count as longer than all others. At least 20 answers must have come.
//! - Nothing waits for a copy. It goes when no other request is to be sent and the limits allow one more at
//!   once. So the copies go at the end of a run, and while its input is slow or its consumer is.
//! - A request has one copy at most, and a run at most one for 20 requests.
//! - A copy costs as much as a request: it is counted in the limits, in `attempts` and `hedges`, and its
//!   answer's usage in the tokens and the cost, if it comes. What is cut off may be billed without a word of how
//!   much: it is counted in `possibly_billed`, and keeps the tokens that were estimated for it.
//! - If one of the two fails, the other decides. If both fail, it is one failure for
//!   [`Retry::max_attempts`](crate::Retry::max_attempts), of two requests sent. What may not be tried again has
//!   no copy. An answer that stops the run stops it at once.
//! - A run ends when all attempts have ended. An attempt that is cut off ends at once, but for the look-up of
//!   a name or a connect, which may last until its timeout.
//!
//! Of a simulated provider one answer in a hundred takes ten times the median. There 1,000 requests at 500 at
//! once take half the time with hedging, for 4.5 % more requests; at 100 at once 0.8 of the time, for 2 %
//! more; at 20 at once hardly less, as the end is a small part of the run. `tests/learned` measures it.
//!
//! # What binds
//!
//! At each moment something keeps a run from going faster: the *binding* limit. It is noted whenever it
//! changes, so the shares of the time are exact.
//!
//! | Name | What holds the run back | What helps |
//! |---|---|---|
//! | `requests` | the limit on requests, set or learned | a higher one, if the provider grants it |
//! | `tokens` | the limit on model tokens | the same; smaller `max_tokens` |
//! | `in_flight` | as many requests are in flight as may be | a higher [`concurrency`](crate::ClientBuilder::concurrency) |
//! | `queue` | it is the turn of another run on the same limiter | |
//! | `pause` | a pause that the server asked for, and the slow start after it | a limit that the server does not refuse |
//! | `backoff` | all that there is to send waits for its next attempt | |
//! | `outage` | the server is down, and is asked now and then | |
//! | `input` | the input gives nothing to send | a faster input |
//! | `wire` | everything has been sent, and answers are waited for | |
//!
//! [`Progress`](crate::Progress) has the times of a run so far and what binds at the moment, which is what
//! did so for most of the last second. The summary of a run over a file has the shares. The time of a single
//! request is split in the same way ([`Reply::times`](crate::Reply::times),
//! [`Error::times`](crate::Error::times), [`Outcome::times`](crate::Outcome)): there `wire` is the time in
//! which it was sent and answered, and a request that the server refused with a pause for all has waited for
//! the `pause` until its next turn.
//!
//! ```
//! use tollgate::{Binding, Limiter, Monitor, Pool, Rate};
//!
//! let limiter = Limiter::builder().requests(Rate::per_second(20)).burst(1).concurrency(4).build()?;
//! let monitor = Monitor::new();
//! Pool::from_limiter(limiter)?.with_monitor(&monitor).map(&[1, 2, 3], |n| n * n);
//! let progress = monitor.snapshot();
//! assert_eq!(progress.binding, Some(Binding::Requests));
//! assert!(progress.bound.of(Binding::Requests).as_millis() >= 99, "two waits of 50 ms");
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! # Changes
//!
//! The limits can be changed at any time, with [`set_requests`](crate::Limiter::set_requests),
//! [`set_tokens`](crate::Limiter::set_tokens) and
//! [`set_concurrency`](crate::Limiter::set_concurrency). What the bucket holds is kept, up to the new
//! burst. Threads that wait go by the new limits at once.
//!
//! # Sharing
//!
//! A provider's limit belongs to a key. Clones of a limiter are one limiter, so all that use a key
//! should have clones of one: several clients ([`ClientBuilder::limiter`](crate::ClientBuilder::limiter)),
//! pools ([`Pool::from_limiter`](crate::Pool::from_limiter)), and plain threads. Each run has at most
//! one thread in the limiter's queue, so runs that share a limiter take turns.
//!
//! ```
//! use tollgate::{Limiter, Pool, Rate, Verdict};
//!
//! let limiter = Limiter::builder().requests(Rate::per_second(1_000)).concurrency(8).build()?;
//! let (letters, words) = (Pool::from_limiter(limiter.clone())?, Pool::from_limiter(limiter.clone())?);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| letters.try_map(&['a', 'b'], |_| Ok::<_, ()>(()), |()| Verdict::Fail));
//!     scope.spawn(|| words.try_map(&["one", "two"], |_| Ok::<_, ()>(()), |()| Verdict::Fail));
//! });
//! assert_eq!(limiter.in_flight(), 0, "every permit has been dropped");
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! A job must not ask the limiter that admitted it for another permit: it holds one already and could
//! wait for itself for ever. It is refused at once with
//! [`ErrorKind::Nested`](crate::ErrorKind::Nested). Give the inner work a limiter of its own.
//!
//! Processes do not share a limiter. Divide the limit between them.
//!
//! [`Limiter`]: crate::Limiter
//! [`Limiter::learned`]: crate::Limiter::learned
//! [`Limiter::most_in_flight`]: crate::Limiter::most_in_flight
