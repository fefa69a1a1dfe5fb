//! Threads or async? What was measured, how, and where async is the better tool.
//!
//! The question is narrow: one process sends many requests to an AI API, and each takes from half a
//! second to minutes. A thread that waits for a socket takes no CPU. It takes the memory of its
//! stack, as far as that was touched. So what do blocking threads cost for this job, beside an
//! async runtime?
//!
//! # What was measured
//!
//! | | `chat_all` | `for_each` | reqwest + tokio | ureq by hand, small buffers | raw sockets |
//! |---|---|---|---|---|---|
//! | **4,000 in flight**, 16,000 × 1 s: wall (ideal 4.000 s) | 4.42 | 4.35 | 4.31 | 4.37 | 4.26 |
//! | CPU a request, µs | 109 | 110 | 77 | 102 | 51 |
//! | peak memory, MiB | 237 | 178 | 157 | 318 | 56 |
//! | **1,000 in flight**, 4,000 × 1 s: wall (ideal 4.000 s) | 4.11 | 4.09 | 4.09 | 4.10 | 4.08 |
//! | CPU a request, µs | 89 | 84 | 63 | 86 | 43 |
//! | peak memory, MiB | 63 | 48 | 44 | 82 | 16 |
//! | **the same over TLS**: wall (ideal 4.000 s) | 4.27 | 4.24 | 4.25 | 4.26 | 4.23 |
//! | CPU a request, µs | 159 | 166 | 129 | 150 | 97 |
//! | peak memory, MiB | 73 | 59 | 53 | 143 | 46 |
//! | **64 at once**, 20,000 × 0 ms: wall, s | 0.40 | 0.36 | 0.40 | 0.34 | 0.17 |
//! | CPU a request, µs | 30 | 28 | 28 | 26 | 10 |
//!
//! Medians of three rounds on two cores of an AMD EPYC, Linux 6.18, both shared by client and
//! server: 28 November 2026, tollgate 0.1.0, reqwest 0.13.5 on tokio 1.54.1, ureq 3.5.2, rustls
//! 0.23.46. reqwest has a task for each request. async-openai was not in this sitting; in an
//! earlier one of that day it took 1.0 to 1.3 times reqwest's CPU and 1.2 to 1.3 times its memory.
//! Proportions carry over to other machines, give or take a tenth; milliseconds do not.
//!
//! Beside reqwest, threads take 1.00 to 1.03 times the wall time. While requests wait they take 1.2
//! to 1.4 times the CPU, 20 to 40 µs more a request. Most of it is ureq's, for ureq by hand takes
//! nearly the same. Where answers are handed on (`for_each`), threads take 1.1 times the memory.
//! `chat_all` keeps all answers whole, with their heads, and takes 1.4 to 1.5 times the memory; a
//! reqwest that keeps them, too, takes 318 MiB for the 16,000 of the first row.
//!
//! # How
//!
//! One command does all of it again, on a Linux machine where nothing else runs, and leaves the
//! tables, a plot and every single run:
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! - **One server** for all, in a process of its own: HTTP/1.1 with keep-alive, an event loop to
//!   each core, 1 kB up and 3 kB down, half of that a head of 25 lines as real ones have it; every
//!   answer held back for the latency of its row. It is not what is measured: raw sockets, which
//!   send ready bytes and look at nothing, are the floor of each row. Over TLS and at 10 to 50 at
//!   once the quickest clients are level with that floor, within the noise.
//! - **Each client is a program of its own**, built on its own, so that nobody's features are
//!   compiled into another's dependencies, with cargo's default release profile, for that is what a
//!   library's users get (`--tuned` adds the profile of this crate's tool).
//! - **In turn**: round after round, every client in each, so that a machine's moods meet all of
//!   them. Medians of the rounds. A run in which one answer was missing, or one request too many
//!   came in, is a failure and no figure.
//! - **Wall time** is from before the client is made to the last answer, read and in order. **CPU**
//!   is user and system time of the whole client process, from its start (Python's imports are in
//!   it); **memory** its greatest resident size (`VmHWM`).
//! - **What is switched on.** Here: the limiter with requests, model tokens and concurrency (only
//!   the concurrency binds), retries, the limits in each answer's headers, usage settled with the
//!   limiter, and with `chat_all` every answer kept whole to the end; `for_each` keeps the text and
//!   the usage, as the others do. There: so many at once, the fields that are wanted out of the
//!   JSON, the answers in the order of the questions; no limiter, and no retries but async-openai's
//!   own.
//!
//! # What it cannot show
//!
//! - Client and server share the cores, and the network is a loopback: no loss, no jitter, no slow
//!   start. The far row only holds back the server's first words; its kernel accepts at once.
//! - Resident size leaves out what the kernel keeps: for each connection the socket's buffers,
//!   which all clients pay, and for each thread a kernel stack of 16 KiB and some page table, which
//!   only threads pay. At 4,000 in flight that is 63 MiB more, and a container's limit counts them.
//!   Add them to the columns of threads when memory is what you are short of.
//! - All of it is HTTP/1.1, where a request in flight is a connection. This crate has no HTTP/2.
//!   reqwest does, and to a server that speaks it, many requests can share a connection and its
//!   TLS; that was not measured.
//! - Linux on x86-64 alone. Other systems' threads cost otherwise.
//!
//! # Where async is the better tool
//!
//! By the number of requests in flight, in one process:
//!
//! | In flight | |
//! |---|---|
//! | up to 1,000 | as you like it: take what the rest of your program is written with |
//! | to some 4,000 | what the table covers; threads do it, and take some 60 KiB each, the kernel's part included |
//! | to some 10,000 | threads still start, but their kernel stacks come to 160 MiB; async needs none |
//! | above | async. A thread takes four mappings, and Linux gives a process 65,530: 16,000 threads are the end |
//!
//! A provider's limit comes before that, as a rule: 10,000 requests a minute of 5 s each are 833 in
//! flight. Whatever the number:
//!
//! - **Connections that are idle most of the time** (web sockets, long polls, a proxy's clients): a
//!   thread for each that does nothing but exist is a waste, in tens of thousands an impossible
//!   one.
//! - **Streams merged as they come**: tokens of hundreds of answers shown side by side. A task can
//!   wait for any of them; a thread waits for one. This crate has no streaming at all.
//! - **Thousands to be cancelled, often, one by one**: a future is dropped and gone. A thread has
//!   to be brought back out of the kernel: [`Cancel::abort`](crate::Cancel::abort) shuts the
//!   sockets of a run down, all of them, and a look-up or a connect outlasts it, up to the connect
//!   timeout.
//! - **Where threads are few**: a container's limit on processes counts threads, a service may have
//!   been given some hundreds, some platforms have none. A pool that is refused a thread goes on
//!   with those it has, which is safe, and slower.
//! - **A program that is async already.** It has the runtime, and its libraries are made for it.
//!   Call this crate from there on a blocking thread, if it is for the limiter, the retries and the
//!   files.
//!
//! # How many threads will it be?
//!
//! Not as many as are allowed: as many as are in flight, rate × latency ([why](super::why)). A
//! [`Monitor`](crate::Monitor) has the peak of a run:
//!
//! ```
//! use std::time::Duration;
//! use tollgate::{Limiter, Monitor, Pool, Rate};
//!
//! let limiter = Limiter::builder().concurrency(1_000).requests(Rate::per_second(500)).burst(1);
//! let monitor = Monitor::new();
//! let pool = Pool::from_limiter(limiter.build()?)?.with_monitor(&monitor);
//! let jobs: Vec<u64> = (0..200).collect();
//! // A job is the caller's own: this one stands for a blocking call of 5 ms.
//! pool.map(&jobs, |_| std::thread::sleep(Duration::from_millis(5)));
//! // 500 a second × 5 ms: two or three at a time, of 1,000 that it might have started.
//! assert!(monitor.snapshot().threads_peak < 100);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! The library leaves the process's limit on open files as it is, often 1,024, and each request in
//! flight is one; the tool raises it as far as it may.
