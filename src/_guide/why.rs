//! Why: the design, question by question.
//!
//! Figures are from a virtual machine with 2 cores (Linux, x86-64), client and server sharing them.
//! They show proportions; yours will differ.
//!
//! # Why threads, and not async?
//!
//! For the programs that have no runtime: tools, build scripts, plugins, services written with
//! threads. To those, async means a second world with its own mutexes and its own sleep, or a
//! runtime hidden in a library. Nor is it needed here. A request to a model takes seconds, and a
//! thread that waits for a socket costs its stack as far as it was touched, and no time. What makes
//! threads dear in practice is what is kept with them and how they are woken, so that is where this
//! crate takes trouble: buffers are borrowed only while bytes move, and nobody is woken for
//! nothing. [Threads or async?](super::threads_or_async) has the figures, and where async is the
//! better tool.
//!
//! # Why are requests not rayon tasks?
//!
//! rayon is for closures that compute: its pool has a thread for each core, and a closure that
//! blocks takes one of them away from everybody. With a pool made larger, sleeping workers are
//! expensive to wake: one job for a pool of 1,000 idle workers cost 14.8 ms of CPU, a standard
//! thread on a channel 25 to 40 µs. And a job that waits for another inside the pool can wait for
//! itself for ever (rayon-rs/rayon#592). So requests run on threads of their own, and rayon does
//! what it is best at: looking through a large file on all cores (feature `parallel`).
//!
//! # Why do threads lead and follow?
//!
//! The plain way is that every thread takes an item and waits for a permit. Then a run that is
//! allowed 1,000 requests in flight has 1,000 threads. At 10 requests a second of half a second
//! each, only five of them are ever sending; all others wait.
//!
//! Here one idle thread of a run, the leader, waits for a permit. When it has one, it makes another
//! thread the leader and sends the request itself. A thread is started only if none is idle. So
//! threads grow to what is in flight, rate × latency, and not to what is allowed. Runs that share a
//! limiter are served in turn, since each has one place in its queue.
//!
//! A dispatcher was tried in its place: one thread waits for permits and hands item and permit to
//! an idle thread over a channel. It is the simpler code. It took 1.4 times the CPU time at 64
//! requests at once without latency, and twice as much at 1,000.
//!
//! # Why first come, first served?
//!
//! A limiter that wakes whoever happens to be next lets small costs pass large ones, and a large
//! one may wait for ever. A queue gives everyone a bound. It is also cheap: only the first in the
//! queue has a timed wait, and a permit wakes one thread. With 1,000 threads that wait for 1,000
//! permits a second, a permit takes 31 µs of CPU here. Threads that check and sleep, as one does
//! with a limiter that cannot wait, take a millisecond. A trial that woke every thread for each
//! permit took 700 µs of 2,000 a second, and reached 1,409 of them.
//!
//! # Why is the burst a second's worth, and not a minute's?
//!
//! See [limits](super::limits): a provider that allows 600 a minute does not mean 600 at once.
//!
//! # Why is the bucket made of integers?
//!
//! A bucket of floats rounds at each refill, and what it rounds away or adds is a matter of how
//! often it is looked at. In whole nanoseconds times whole units there is nothing to round, so the
//! promise can be tested as it stands: never one more, in any window.
//!
//! # Why does a server's wait hold everyone?
//!
//! A limit is the key's, not the request's. If 50 are in flight and one is told to come back in ten
//! seconds, the other 49 will be told the same, and refusals count against some limits. So the
//! limiter pauses for all, and starts again gently.
//!
//! # Why a thread's stack of 512 KiB?
//!
//! A stack's size is only reserved: what is not touched is not there. What is touched can be much:
//! without optimization, as in a build script, a TLS handshake takes 150 kB and deep JSON more, and
//! your own closure runs on it, too. Less would save nothing and end in a crash.
//!
//! # Why ureq, and what is ours around it?
//!
//! ureq is a blocking HTTP client. It has no runtime and no thread of its own, and it carries every
//! request here. Three of its defaults do not suit thousands of requests at once:
//!
//! - An agent keeps its idle connections behind one mutex, and each request does work under it in
//!   proportion to their number: 75 µs with 1,000 connections, 567 µs with 4,000.
//! - A connection keeps its buffers while it waits for an answer: 256 KiB, and twice that over TLS.
//! - A host's address is looked up for each request, and on a thread of its own where there is a
//!   time limit.
//!
//! ureq lets its user choose the connector and the resolver, so these are ours. A transport has one
//! agent for 32 requests in flight. A connection borrows its buffers only while bytes move.
//! Addresses are looked up once and kept. The connector also knows what ureq does not: how far a
//! request got before it failed, when the call must be over, and which sockets an abort has to shut
//! down. TLS is rustls, with the same buffers. One trait, [`Transport`](crate::Transport), stands
//! between all that and the rest, so a test needs no network.
//!
//! ureq logs heads at `trace`. A key must not be in a log, so ureq is shown a request without its
//! headers, and the connector puts the real head in front of the body.
//!
//! # Why `parking_lot`, in version 0.12?
//!
//! The limiter is a mutex and condition variables. The standard library's are as quick, but a mutex
//! of theirs is poisoned by a panic under it, and every use would have to say what it does then;
//! `parking_lot`'s is not. Version 0.13 gained 3 % in this design, gave up the fairness that 0.12
//! brings in after a while, and asks for a newer Rust than this crate does.
//!
//! # Why is no type derived from JSON?
//!
//! A request's body is yours and an answer the provider's. A type in between would have to know
//! every field of every provider of next year, or drop what it does not know. So bodies are bytes;
//! the few fields that matter (usage, errors) are cut out in one pass. It also saves the derive
//! macros, six crates of them.
//!
//! # Why is the results file the only state?
//!
//! Two files that must agree will one day not. A row is done when its record is in the file, and
//! that is what a rerun reads; nothing can be lost between the two, because there are no two.
