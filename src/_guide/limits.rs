//! Limits: what the limiter promises, and how it keeps it.
//!
//! A provider limits how many requests and how many model tokens a key may use in a minute. It also
//! looks at shorter times than a minute. A [`Limiter`] keeps a program within these limits.
//!
//! Some words first:
//!
//! - A *permit* is leave to send one request. Whoever sends asks the limiter for one, and drops it
//!   when the answer is there.
//! - The limiter *admits* a request when it gives the permit. The server *lets in* a request when
//!   it does not refuse it.
//! - A request is *in flight* from getting its permit to dropping it. The *concurrency* is how many
//!   requests may be in flight at once. The tool's messages shorten this to `20 at once`.
//! - An *item* is one request of a run, or one input of a pool, however often it is tried.
//! - The *cost* of a permit is what it takes from the limits: one request, and an estimate of the
//!   model tokens that the request will use.
//! - A *bucket* counts what may be used of one limit. It fills at the limit's rate up to a maximum,
//!   the *burst*, and each permit takes its cost from it.
//!
//! The limiter has a bucket of requests and a bucket of model tokens, and counts what is in flight.
//! A permit needs all three, and takes them together or not at all.
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
//! while it passes. A limiter that is always busy admits the burst first, and then each request at
//! the instant when the bucket has filled far enough for it.
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
//! How many model tokens a request uses is known when its answer is there. Until then the client
//! reserves an *estimate*. At first it takes a quarter of the text's bytes for the prompt, and for
//! the output the bound in the request (`max_tokens`, times `n`), or 500 without a bound.
//!
//! The client then learns from the usage in answers how many bytes a token has, and how much of the
//! bound is written. It learns this for each model and each size of `max_tokens`, which it tells
//! apart by powers of two. After some thirty answers the estimate is what they took: 50 tokens of
//! an allowed 4,096, or a token for every two bytes of Chinese. One odd answer changes the estimate
//! by no more than a factor of two. A retry is estimated anew. What was learned never makes a
//! request larger than the limit that it must fit.
//! [`Request::reserve_tokens`](crate::Request::reserve_tokens) replaces the estimate by a number of
//! yours.
//!
//! Providers differ in what they count, so the client takes different amounts from the limits:
//!
//! | Provider | Taken for the output until the answer is there | Taken in the end |
//! |---|---|---|
//! | OpenAI, Azure, Cerebras | all that the request allows | all |
//! | Groq | all that the request allows | all but what is read from a cache |
//! | Anthropic | the estimate | all but what is read from a cache |
//! | Gemini's endpoint for OpenAI's API | nothing | the prompt |
//! | any other | the estimate | all |
//!
//! A provider is known by its base URL, Anthropic and Azure by
//! [`provider`](crate::ClientBuilder::provider). A refusal that names how much the provider counts
//! ("Requested 4206") corrects the first column. All that a request allows is taken only from a
//! limit that the provider announces. From a limit that is set, the estimate is taken, so that no
//! request waits for tokens that nobody writes.
//!
//! The answer's `usage` then replaces the estimate. With a permit of your own,
//! [`settle`](crate::Permit::settle) does it.
//!
//! - If fewer tokens were used, the rest is refunded at once. During a pause a refund only pays
//!   what the bucket owes.
//! - If more were used, the bucket owes them: it goes below zero, and later requests wait until it
//!   has filled again.
//! - If the server refused the request (429, another 4xx but 408, or an overload such as 529), or
//!   nothing was sent, all tokens are refunded.
//! - If nothing says how many were used, and some may have been (a timeout, a server's error, a
//!   panic), the estimate stands. What a request allows beyond its estimate is given back.
//! - The request itself is never refunded.
//!
//! A cost above the burst waits for a full bucket and leaves it below zero. A cost above what a
//! whole period of the rate allows, such as a minute's worth for tokens a minute, is refused at
//! once with [`ErrorKind::NeverFits`](crate::ErrorKind::NeverFits).
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
//! During a pause nothing is admitted. When a server asks for a wait, the client pauses the
//! limiter, and all its users wait. Some refusals make only their own item wait: [see
//! below](#limits-that-refusals-tell). A program can do the same with
//! [`pause_until`](crate::Limiter::pause_until) and [`pause_for`](crate::Limiter::pause_for). A
//! pause is never shortened by another.
//!
//! There is no burst after a pause: the buckets are empty when it ends. A limiter without a rate of
//! requests has no bucket for them. After a pause it lets the requests in flight grow up to the
//! concurrency evenly, in as much time as the pause took, one second at most, and by no more than
//! 1,000 requests a second. If the pause was for no
//! [cascade](#limits-that-refusals-tell), and fewer than a quarter of the last 20 answers are
//! refusals, each answer that comes meanwhile and is no refusal lets two more go at once.
//!
//! # Limits that are learned
//!
//! A limit is *set* by the program, or *learned* from the server. Many providers announce their
//! limits in the headers of each answer. A client reads them and keeps to the lower of what is set
//! and what is announced, so a rate need not be set. [`Limiter::learned`] says what was learned,
//! and so do the tool's bar and summary. A limit that falls or comes back is followed at the next
//! answer.
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
//! - A value that makes no sense, such as -1 or 0, is ignored and counted.
//! - Only 97 % of an announced limit are used, because the server's clock is not the client's.
//! - A *window* is the time for which a limit counts. If the headers do not name it, it is the one
//!   in which limit, remaining and reset fit together, or else a minute. Groq's limit on requests
//!   is one of a day. A window of 1 to 30 s is found when its resets have been watched for 3 s more
//!   than the longest of them. It shows only if what was used would take longer to come back in a
//!   minute: a limit of one request is taken for one of a minute.
//! - Requests are spread evenly over a window of up to a minute. After a pause they start without a
//!   burst.
//! - Requests of a longer window are not spread: as many may go at once as the server says are
//!   left. After a pause there are as many as before it.
//! - Model tokens are not spread at first, because requests take them in lumps. Once the server has
//!   refused a request for its tokens although it said that most of them were left, they are
//!   spread, too.
//! - An announced limit never makes a request impossible. A request that costs more than the limit
//!   waits until all of it is free.
//! - One limiter follows one set of limits. For models with limits of their own, use a client for
//!   each.
//!
//! The limits are known when the first answer has come. Until then as many requests go as the
//! concurrency allows.
//!
//! ## Limits that refusals tell
//!
//! Where no header tells the rate of requests, refusals do. A *refusal* is an answer that asks for
//! a slower pace, such as 429, or that says that the server is overloaded, such as 529.
//!
//! - A refusal that names a limit on model tokens tells that limit: *on tokens per min (TPM): Limit
//!   30,000, Used 29,500*. The client keeps to it as if a header announced it, and learns no rate
//!   of requests from such refusals. Ten minutes after the last of them the limit is forgotten,
//!   because nobody says when a higher one holds.
//! - A refusal is *stray* if fewer than one in ten of the latest answers are refusals. The latest
//!   answers are those of the last second, or the last 20 if these are more. A stray refusal makes
//!   only its own item wait. If the item was refused before, it waits at least 0.1 s, and four
//!   times as long after each further attempt. Stray refusals lower a learned rate by 3 % at a
//!   time, and only if they are too many to be chance.
//!   Where up to 6 % are refused by chance all the time, that share is learned, and as many as it
//!   explains are stray too.
//!   Requests in flight count as answers here, but no more of them than there are answers.
//! - Any other refusal makes everyone wait. The wait is as long as the server asks, or 0.25 s if
//!   the server does not say. The 0.25 s double with each such refusal, up to 8 s or `max_backoff`,
//!   until something is let in. If nothing has been let in for a second, the doubled wait counts if
//!   it is longer than what the server asks.
//! - Such a refusal may lower a learned rate by 7 %, or by up to a half if much less was let in.
//! - A server that says that it is overloaded, and not for how long, is down if nothing has been
//!   let in for 4 s. Its refusals then lower no learned rate.
//! - An item that was refused once goes first after the wait. After its second refusal others go,
//!   until 3 in a row have succeeded that were sent since the last refusal. After its third it is
//!   30, and after each further one 180. Such items go one at a time. After 30 s such an item goes
//!   if anything has succeeded since the last refusal.
//! - A *cascade* is at least five refusals that are a tenth of the latest requests or more. The
//!   first cascade must be larger: 14 refusals, or a quarter. Five refusals are also a cascade, and
//!   not stray, if they are nine tenths of what was sent since the first of them. A cascade sets
//!   the rate to at most 97 % of what was let in since the cascade before, and to at most 90 % of
//!   the learned rate.
//!   If fewer than eight requests were let in before a pause of more than two seconds, the pause
//!   counts half (the geometric mean of the rates with it and without it).
//! - From there a higher rate is tried, at first up to twice the rate. If a try is refused, the
//!   rate goes back. A try is half of the way to the lowest rate that is known to be too much, the
//!   ceiling. A refused rate is such a ceiling. Beyond the ceiling each try is twice as large as
//!   the one before, and four times if that one was more than 5 %. A small try lasts for a second
//!   and 20 requests at least, but no longer than 8 s for those. Beyond the ceiling it lasts as
//!   long as the server asked to wait. Once the tries are small, the next one comes after 10 s.
//! - A rate that is less than an eighth of one at which 40 requests were let in is doubled after
//!   2 s. If that is refused, the rate goes back, and is doubled again after twice the time. So a
//!   limit that was cut to little and has come back is found in no more time than it was cut.
//! - If six cuts follow each other and lower the rate to a 64th, the server does not refuse for the
//!   rate. It is forgotten, and none is learned for 30 s.
//!
//! In a simulated provider that tells nothing but 429 (50 a second, bursts from 1 to 50, 64
//! requests at once), 0.1 to 5 % of all requests after the first 10 s are refused, and 0.9 to 1.0
//! of the limit is used. `tests/learned` measures it.
//!
//! ## How many at once, as refusals tell it
//!
//! Some servers limit how many requests are in flight, whatever their rate: a LiteLLM key with
//! `max_parallel_requests`, servers with slots. Such a server has *places*, one for each request
//! that it works on at a time. It refuses in the same words as a server that limits a rate. It may
//! ask for a wait of a minute while a place is free within a second. LiteLLM says in a header which
//! limit it is (`rate_limit_type: max_parallel_requests`): then its wait is not obeyed, no rate is
//! learned from it, and as many are in flight as were not refused, at once and without a pause. If
//! others hold all places, everyone waits 0.25 s, and up to 8 s until something is let in.
//!
//! Such refusals lower the concurrency for as long as they last. Nothing else lowers a concurrency
//! that is a single number, such as 20, and nothing raises it above what is set. The bar and the
//! summary say what was learned: `3 at once learned from refusals`.
//!
//! - The first refusals do not tell whether the limit is a rate or a number of places. Everyone
//!   waits for them. Meanwhile the bar says both, `0.75/s or 3 at once learned from refusals`, and
//!   which `-c` helps if it is places. After the wait, as many requests are in flight as the server
//!   had let in. If it let in more at once within the last minute, the limit is a rate.
//! - Then one request more is tried while the others are in flight. After a refused try the next
//!   one comes 0.25 s later, and this wait doubles with each. It is never shorter than the server
//!   asks. A server with places refuses the try. A server that limits a rate lets it in: after
//!   three such tries the refusals count for the rate.
//! - An answer that is on its way counts as in flight though its place is free, so too many may be
//!   counted at first. Further refusals lower the number, to three quarters at the least.
//! - A refused try makes nobody wait. Its item is sent as soon as another one is done.
//! - If a request is refused that is not one too many, one request asks whether the places are
//!   still there. A server frees a place when it has answered, or a little later. So a place then
//!   rests for 3 ms, and three times as long after each such refusal. After the fifth, or if the
//!   rest were longer than a quarter of an answer, the limit is a rate, or the places are counted
//!   anew.
//! - If three tries in a row were refused while other requests were let in, the number of places is
//!   certain. One place more is then tried every 30 s, and twice as long after each refusal, up to
//!   10 min.
//! - Once the limit turned out to be a rate, refusals count for the rate for a minute, and twice as
//!   long each time.
//!
//! ## Three runs
//!
//! The simulated provider of these plots allows 50 requests a second, with a burst of 10, and
//! answers in 100 ms. It counts what it admits and what it refuses. The client may have 64 requests
//! in flight.
//!
//! Where headers announce the limit, the first answers tell it. Where only refusals tell it, it is
//! found within seconds. A higher rate is then tried now and then, which costs a few refusals.
//!
#![doc = include_str!("plots/limits.svg")]
//!
//! A limit that is cut and restored is followed at the next answer with headers. Without them,
//! refusals tell of the cut at once, and the next try of a higher rate tells of its end.
//!
#![doc = include_str!("plots/cut.svg")]
//!
//! Two processes with one key do not know of each other. Together they keep to the limit all the
//! same, because each learns from its own refusals. They need not get the same share. At a few
//! requests a second, one of them may get nearly all, and both together less than the limit. A
//! [shared limit](super::sharing_a_limit) gives each its part.
//!
#![doc = include_str!("plots/two.svg")]
//!
//! `cargo bench --features sim --bench plots` draws them anew.
//!
//! # Warm-up
//!
//! Many providers cache the beginnings of prompts, and charge less for what they find in the cache.
//! Requests that go at the same moment find nothing there. With
//! [`warmup(1)`](crate::ClientBuilder::warmup), or `--warmup 1`, the first request of a run goes
//! alone. The others go when it has ended. With `--warmup 5` the first five go at once, and the
//! others wait for all five.
//!
//! A request that has failed has ended, so the others go then. While it is tried again they wait. A
//! request that cannot be sent, such as a line that is no request, does not count. A run that
//! carries on with earlier results begins with the first request that is left.
//!
//! While the others wait, the warm-up [binds](#what-binds), and the summary says for how long that
//! was. Among the others, the request that goes first has this wait in its times: one request of a
//! run waits at a time.
//!
//! # A range of concurrency
//!
//! With a range, `concurrency(4..=200)` or `-c 4-200`, the limiter finds the concurrency. It begins
//! at the low end and grows threefold while that brings throughput. Then it tries higher and lower
//! numbers in turn, and keeps those that pay.
//!
//! - A number and the one it is compared with are tried one right after the other. Each is judged
//!   by the latencies of some 8 to 200 successful requests. So rows of different length, or a slow
//!   minute, do not count against a number.
//! - Twice the number must bring at least 1.3 times the throughput. Beyond the point where more
//!   requests only wait longer at the server, nothing is gained, and fewer are tried.
//! - At the start, after a number that brings nothing, one that is three times higher is tried too.
//!   A server may become slower at some number and have room beyond. A number that loses throughput
//!   is taken back at once.
//! - The concurrency grows only if it is used. If a rate is the limit, or few rows are left, it
//!   stays.
//! - A refusal that is not stray takes a try back.
//! - While nothing has been answered, the low end is added each second. So only a few requests are
//!   in flight until the first headers have told the limits, or until the first second is over.
//!
//! The plot shows a model of a server that answers in a second, some requests sooner and some
//! later. Netflix's AIMD limit goes by single latencies, and its Gradient2 by their mean over
//! minutes. TCP Vegas goes by the least latency. `src/limit/adaptive_trial.rs` compares more
//! servers and rules. A cell below is the mean of eight runs: the throughput as a share of that of
//! the best fixed concurrency, and how many requests were in flight. The column `20` is a fixed
//! concurrency of 20. An answer takes a second in the median and ten in the 99th percentile. The
//! range is 4 to 200, and a run has 6,000 rows or more unless the table says otherwise.
//!
//! | Server | Best | AIMD | Gradient2 | Vegas | this limiter | 20 |
//! |---|---|---|---|---|---|---|
//! | no limit | 94/s at 200 | 0.44, 67 | 0.46, 71 | 0.04, 6 | 0.93, 143 | 0.13, 20 |
//! | no limit, all answers alike | 200/s at 200 | 0.89, 178 | 0.28, 56 | 0.75, 151 | 0.87, 174 | 0.10, 20 |
//! | no limit, a minute of three times the latency | 84/s at 200 | 0.48, 70 | 0.59, 82 | 0.04, 6 | 0.95, 157 | 0.14, 20 |
//! | a rate of 30/s | 28/s at 64 | 0.95, 43 | 0.82, 38 | 0.15, 7 | 0.98, 45 | 0.43, 20 |
//! | latency in proportion above 40 | 24/s at 40 | 0.88, 74 | 0.88, 56 | 0.15, 6 | 0.93, 79 | 0.51, 20 |
//! | the same, all answers alike | 40/s at 40 | 0.99, 193 | 0.88, 55 | 0.97, 47 | 0.97, 51 | 0.50, 20 |
//! | 40 workers and a queue | 24/s at 40 | 0.98, 182 | 0.93, 63 | 0.15, 6 | 0.89, 36 | 0.51, 20 |
//! | twice the latency above 40 | 47/s at 200 | 0.45, 69 | 0.38, 52 | 0.08, 6 | 0.95, 147 | 0.26, 20 |
//! | latency with the square above 40 | 24/s at 40 | 0.30, 77 | 0.67, 48 | 0.15, 6 | 0.80, 40 | 0.51, 20 |
//! | no limit, only 400 rows | 22/s at 200 | 0.55, 20 | 0.30, 11 | 0.33, 12 | 0.77, 27 | 0.46, 16 |
//! | in proportion above 40, only 400 rows | 16/s at 40 | 0.61, 20 | 0.42, 11 | 0.45, 12 | 0.43, 29 | 0.64, 16 |
//!
//! The last row shows the price of finding out. For a few hundred rows of very different length, a
//! number that is known to be good is better than a range. So the default is a number, 20.
//!
#![doc = include_str!("plots/range.svg")]
//!
//! A single number, `concurrency(20)`, holds from the start, and latencies never change it.
//! [`Limiter::most_in_flight`] and a [`Monitor`](crate::Monitor) tell the concurrency that holds
//! now.
//!
//! # Hedging
//!
//! Some answers take ten times as long as most, and the last of them make a run long. With
//! [`hedge(true)`](crate::ClientBuilder::hedge), or `--hedge`, a request is sent a second time when
//! its answer takes too long. The second attempt is called its *copy*. The answer that comes first
//! is taken, and the other attempt is cut off (Dean and Barroso, *The Tail at Scale*,
//! Communications of the ACM 56, 2013).
//!
//! - A copy is due when its request has taken longer than 95 % of all requests. Requests without an
//!   answer so far count as longer than all others. At least 20 answers must have come.
//! - Nothing waits for a copy. A copy goes when no other request is to be sent and the limits have
//!   room. So copies go at the end of a run, and while the input or the consumer of the answers is
//!   slow.
//! - A request has one copy at most. A run has at most one copy for 20 requests.
//! - A copy costs as much as a request. It counts in the limits, in `attempts` and in `hedges`. If
//!   its answer comes, the answer's usage counts in the tokens and the cost.
//! - An attempt that is cut off may be billed, and no answer says how much. It counts in
//!   `hedges_cut`. The limiter keeps the estimate of its tokens as used. In the [cost of a
//!   run](super::batch_files#money-and-time) and against its budget it counts as an estimate, too,
//!   and the summary says which part of the cost that is.
//! - If one of the two attempts fails, the other decides. If both fail, it is one failure for
//!   [`Retry::max_attempts`](crate::Retry::max_attempts), of two requests sent. A request that may
//!   not be tried again has no copy. An answer that stops the run stops it at once.
//! - A run ends when all attempts have ended. An attempt that is cut off ends at once, unless it
//!   looks up a name or connects: that may last until its timeout.
//!
//! A simulated provider answers one request in a hundred ten times as late as the median. With
//! hedging, 1,000 requests take 56 % of the time at 500 at once, for 4.6 % more requests. At 100 at
//! once they take 81 % of the time, for 2.1 % more. At 20 at once hedging gains little,
//! as the end is a small part of the run. `tests/learned` measures it.
//!
//! # What binds
//!
//! At each moment something keeps a run from going faster. It *binds*: it is the *binding* limit.
//! Each change is noted, so the shares of the time are exact.
//!
//! | Name | What holds the run back | What helps |
//! |---|---|---|
//! | `requests` | the limit on requests, set or learned | a higher one, if the provider grants it |
//! | `tokens` | the limit on model tokens | the same; smaller `max_tokens` |
//! | `input_tokens`, `output_tokens` | the limit on the model tokens of prompts or of answers, where the provider limits these apart | the same; shorter prompts, or smaller `max_tokens` |
//! | `in_flight` | the concurrency: as many requests are in flight as may be | a higher [`concurrency`](crate::ClientBuilder::concurrency) |
//! | `shared_limit` | the store of a limit that several processes share: it has not answered yet, or is gone | a store that is nearer |
//! | `queue` | it is the turn of another run on the same limiter | |
//! | `pause` | a pause that the server asked for, or the slow start after it | a limit that the server does not refuse |
//! | `backoff` | all that there is to send waits for its next attempt | |
//! | `outage` | the server is down, and is asked now and then | |
//! | `input` | the input gives nothing to send | a faster input |
//! | `warmup` | the first requests of a [warm-up](#warm-up) have not ended, and the others wait | |
//! | `wire` | everything has been sent, and answers are waited for | |
//!
//! The bar shows `in_flight` as `concurrency`, `shared_limit` as `shared limit`, `queue` as
//! `another run`, `warmup` as `warm-up` and `wire` as `server`.
//!
//! [`Progress`](crate::Progress) has the times of a run so far, and what binds at the moment: what
//! did so for most of the last second. An [`Observer`](crate::Observer) is told when that changes,
//! and what was learned. The summary of a run over a file has the shares. The time of a single
//! request is split in the same way ([`Reply::times`](crate::Reply::times),
//! [`Error::times`](crate::Error::times), [`Outcome::times`](crate::Outcome)). There `wire` is the
//! time in which the request was sent and answered. If the server refused a request with a pause
//! for all, its time until its next turn is `pause`.
//!
//! ```
//! use std::time::Duration;
//! use tollgate::{Binding, Limiter, Monitor, Pool, Rate};
//!
//! let limiter = Limiter::builder().requests(Rate::per_second(5)).burst(1).concurrency(4).build()?;
//! let monitor = Monitor::new();
//! Pool::from_limiter(limiter)?.with_monitor(&monitor).map(&[1, 2, 3], |n| n * n);
//! let progress = monitor.snapshot();
//! // Two waits of up to 200 ms each, less what the machine took for anything else.
//! assert!(progress.bound.of(Binding::Requests) > Duration::ZERO);
//! println!("what bound most of the last second: {:?}", progress.binding);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! # Changes
//!
//! The limits can be changed at any time, with [`set_requests`](crate::Limiter::set_requests),
//! [`set_tokens`](crate::Limiter::set_tokens) and
//! [`set_concurrency`](crate::Limiter::set_concurrency). What the bucket holds is kept, up to the
//! new burst. Threads that wait go by the new limits at once.
//!
//! # Sharing
//!
//! A provider's limit belongs to a key. Clones of a limiter are one limiter, so all that use a key
//! should have clones of one: several clients
//! ([`ClientBuilder::limiter`](crate::ClientBuilder::limiter)), pools
//! ([`Pool::from_limiter`](crate::Pool::from_limiter)), and plain threads. Each run has at most one
//! thread in the limiter's queue, so runs that share a limiter take turns.
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
//! A job must not ask the limiter that admitted it for another permit: it holds one already and
//! could wait for itself for ever. It is refused at once with
//! [`ErrorKind::Nested`](crate::ErrorKind::Nested). Give the inner work a limiter of its own.
//!
//! Processes do not share a limiter, but they can share its rates: see
//! [sharing a limit](super::sharing_a_limit).
//!
//! [`Limiter`]: crate::Limiter
//! [`Limiter::learned`]: crate::Limiter::learned
//! [`Limiter::most_in_flight`]: crate::Limiter::most_in_flight
