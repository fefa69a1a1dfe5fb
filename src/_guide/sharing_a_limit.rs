//! Sharing a limit: several processes, on one machine or on many, on one allowance.
//!
//! A provider's limit belongs to a key, not to a process. Two processes that use the same key, each
//! within the limit, are together over it. Let them share the limit instead: name the same store to
//! all of them.
//!
//! ```text
//! tollgate run a.jsonl --rpm 500 --shared-limit file:/run/lock/openai &
//! tollgate run b.jsonl --rpm 500 --shared-limit file:/run/lock/openai &
//! ```
//!
//! The limits that are given are those of all processes together: these two send 500 requests a
//! minute, not 1,000. In a program,
//! [`ClientBuilder::shared`](crate::ClientBuilder::shared) and
//! [`LimiterBuilder::shared`](crate::LimiterBuilder::shared) do the same. Nothing else changes: a
//! limiter that is shared has the same methods and makes the same promise.
//!
//! # The promise
//!
//! In any span of time *T* long, all processes together are admitted at most `burst + rate · T`
//! requests, and model tokens in the same way (see [limits](super::limits#the-promise)). It holds
//! when processes are killed, when the store loses what it knows, and when a clock is set.
//!
//! - What one process does not use goes to those that can use it. Those that want more than there is
//!   get equal parts, whatever their concurrency.
//! - A pause that the server asks one process for holds all of them.
//! - A limit that the server's headers announce to one process holds for all. It can be left out:
//!   processes that are given no rate learn it together.
//! - Where processes are given different limits, the lowest holds, and the others are warned.
//!
//! # Where it is kept
//!
//! | Store | For | Needs |
//! |---|---|---|
//! | `file:PATH` | processes on one machine: cron jobs, a shell loop, a build | a folder that all of them may write to |
//! | `redis://[[USER]:PASSWORD@]HOST[:PORT]/DB?key=NAME` | processes on many machines | Redis or Valkey, and the feature `redis` |
//! | `rediss://…` | the same through TLS | |
//!
//! One store has one allowance. Use one file, or one `key`, for each key of a provider, and for each
//! model that has limits of its own.
//!
//! The folder of a file must be on a disk of this machine. NFS and other network file systems are
//! not supported: their locks and clocks are not good enough.
//!
//! A server is Redis 5 or Valkey, or newer. It keeps one key of some 200 bytes, and 100 more for
//! each process, for a day after the last use. A user of it must be allowed `EVALSHA`,
//! `SCRIPT LOAD`, `TIME`, `GET` and `SET`, and better `INFO` as well: by that, a server that was
//! restarted from an old snapshot, or a replica that has taken over, is known, and begins empty. A
//! server that speaks TLS is trusted as the system says, or as the file says that the variable
//! `SSL_CERT_FILE` names. A question costs the server 0.1 ms of its processor with 8 processes,
//! 0.2 ms with 64 and 0.7 ms with 512.
//!
//! A program enables the feature as any other. The tool is built with it by
//! `cargo install --path . --features cli,redis`. A tool without it says so and exits with 2.
//!
//! A URL with a password must not be on a command line, which other users of the machine can read.
//! The tool refuses it there, and reads it from the environment variable `TOLLGATE_SHARED_LIMIT`.
//! No message shows it. A simulated run does not take the variable, as it would use up what real
//! runs share; it takes the flag.
//!
//! # How it works
//!
//! A limit is an axis of time: at 500 requests a minute, each request is worth 120 ms of it. A
//! process leases a short part of the axis, worth some 100 ms of the rate, and nobody else gets that
//! part. It admits its requests from the lease without asking anybody, and asks for the next lease
//! when it lacks credit. Each part has its date, and lapses when it is older than a burst. So leases
//! that are spent late never add up to more than one burst. A lease of a process that was killed
//! lapses by itself; it is never given to anybody again, and nobody has to notice the death. What
//! is not used when a process ends or has nothing to send is given back. A date is in the future
//! when more is wanted than there is: that is the queue, first come, first served, and nobody polls.
//! The store's clock dates everything. A process knows that clock to within the time that a message
//! takes, and uses no part of the axis early.
//!
//! A store starts empty: there is no burst when it is new, was restarted, or lost its state.
//!
//! # When the store is gone
//!
//! A process sends what it has leased, and then nothing until the store is back. It says so: the
//! tool in a warning, in its bar and in `--progress json`; a program sees
//! [`Limiter::shared_status`](crate::Limiter::shared_status). It tries the store again at least once
//! a second. Ctrl-C, `--deadline` and cancelling work as always.
//!
//! `--shared-limit-fallback share=1/8` lets a process go on without the store, at an eighth of its
//! limits. That is right if at most eight processes share them. Without a rate, given or learned, it
//! waits all the same. Nothing is ever sent without a limit.
//!
//! What the store would have leased meanwhile is there when it is back, up to one burst, as after any
//! idle time. A store that was restarted empty has nothing.
//!
//! # Measured
//!
//! Eight tools on one machine with two cores, which was busy with other work, on one limit of 200
//! requests a second with a burst of 200, counted for 20 s by the server. Answers took 100 ms.
//!
//! | What | Store | Sum ÷ limit | Worst window, below its most by | Least ÷ most | Round trips a request |
//! |---|---|---|---|---|---|
//! | each for itself | none | 8.37 | over, by 29,281 | | |
//! | 200/s | file | 1.001 | 183 | 0.99 | 0.50 |
//! | | Redis | 1.000 | 187 | 0.98 | 0.50 |
//! | 200/s, burst of 20 | file | 1.002 | 11 | 1.00 | 0.50 |
//! | | Redis | 1.000 | 13 | 0.99 | 0.50 |
//! | 1,000/s, burst of 1,000 | file | 1.001 | 903 | 0.98 | 0.083 |
//! | | Redis | 1.000 | 898 | 0.98 | 0.082 |
//! | 20,000 model tokens/s, 100 a request | file | 1.000 | 18,381 | 0.98 | 0.41 |
//! | | Redis | 0.999 | 14,530 | 0.97 | 0.40 |
//! | three of the eight killed | file | 0.999 | 183 | 0.99 | 0.27 |
//! | | Redis | 1.001 | 176 | 0.99 | 0.34 |
//! | Redis slow by 50 ms | Redis | 1.000 | 183 | 0.96 | 0.50 |
//!
//! *Worst window* is the stretch of time, of whatever length, that came closest to `burst + rate · T`;
//! *least ÷ most* compares the processes' counts while all of them were sending. Time is counted from
//! the first arrival. What the store had leased by then, and arrived later, is what is above 1.
//!
//! - In the second after three were killed the others sent 0.97 of the limit, and all of it from
//!   then on.
//! - Four processes that could send 120, 60, 30 and 30 a second got 85, 56, 29 and 29 of the 200.
//! - With Redis stopped for 6.7 s, 0.011 of the limit was sent in that time: what had been leased.
//!   With Redis killed and started again, empty, the second after had 1.00 of the limit.
//!
//! `cargo bench --features cli,redis --bench shared` measures it.
//!
//! # What it does not do
//!
//! - Concurrency stays each process's own: `-c 20` in eight processes is 160 requests in flight.
//! - Budgets (`--max-cost`, `--token-budget`) and the input are each process's own, too.
//! - A rate that is learned from refusals stays with the process that learned it: it is that
//!   process's part.
//! - The store hands out the rate. Somebody who uses the key without it is not counted.
