//! Why: the design, question by question.
//!
//! Figures are from a virtual machine with 2 cores (Linux, x86-64), client and server sharing them.
//! They show proportions; yours will differ.
//!
//! # Why threads, and not async?
//!
//! This crate is for programs that have no async runtime: tools, build scripts, plugins, services
//! written with threads. To those, async brings mutexes and a sleep of its own, or a runtime hidden
//! in a library. Nor is it needed here. A request to a model takes seconds. A thread that waits
//! for a socket takes no CPU, and as much memory as it has touched of its stack. In practice
//! threads become expensive by the buffers that are kept for each, and by threads that are woken
//! for nothing. So here a thread borrows a buffer only while bytes move, and a permit wakes one
//! thread. [Threads or async?](super::threads_or_async) has the figures, and where async is the
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
//! queue has a timed wait, and a permit wakes one thread.
//!
//! A limiter that cannot wait, such as governor, makes its threads check and sleep. At 1,000
//! permits a second that took 7 times the CPU for a permit with 64 threads, and 34 times with
//! 1,000 (medians of three runs each, 28 November 2026, on a machine that others used, too). It
//! served nobody in turn: some of the 1,000 threads got no permit, and one got 28. A trial that
//! woke every thread for each permit took some twenty times the CPU, and gave 70 % of the permits
//! that the rate allowed. `cargo bench --bench admission` measures what a permit takes, and
//! `benches/peers` has the same with governor.
//!
//! # Why is the burst a second's worth, and not a minute's?
//!
//! A provider that allows 600 requests a minute does not mean 600 at once: see
//! [limits](super::limits#burst).
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
//! A stack's size is only reserved: a page that is never touched takes no memory. Much may be
//! touched: without optimization, as in a build script, a TLS handshake takes 150 kB and deep JSON
//! more, and your own closure runs on it, too. Less would save nothing and end in a crash.
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
//! of theirs is poisoned by a panic under it, and every use would have to say what it does then.
//! `parking_lot`'s is not poisoned. Version 0.13 gained 3 % in this design. But it lacks the
//! fairness of 0.12, by which a thread that has waited long gets the lock, and it asks for a newer
//! Rust than this crate does.
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
//! Two files that must agree will one day disagree. Here a row is done when its record is in the
//! results file, and a rerun reads that file. There is no second file that could say otherwise.
