//! Sharing a limit: several processes, on one machine or on many, under one limit.
//!
//! A provider's limit belongs to a key, not to a process. Two processes that use the same key, each
//! within the limit, are together over it. So let them share the limit:
//!
//! ```text
//! tollgate run a.jsonl --rpm 500 --shared-limit file:/run/lock/openai &
//! tollgate run b.jsonl --rpm 500 --shared-limit file:/run/lock/openai &
//! ```
//!
//! The limits that are given are those of all processes together: these two send 500 requests a
//! minute, not 1,000. In a program,
//! [`ClientBuilder::shared`](crate::ClientBuilder::shared) and
//! [`LimiterBuilder::shared`](crate::LimiterBuilder::shared) do the same. A limiter whose rates are
//! shared has the same methods as any other and makes the same promise.
//!
//! Three words: the *store* is where a shared limit is kept, a file or a key of a Redis server. A
//! *lease* is a small part of the limit that a process takes from the store ahead of use. The
//! *fallback* is what a process may send while the store cannot be reached.
//!
//! # The promise
//!
//! In any span of time *T* long, all processes together are admitted at most `burst + rate · T`
//! requests, and model tokens in the same way (see [limits](super::limits#the-promise)). It holds
//! when processes are killed and when a clock is set. Each time that the store loses what it knows,
//! one lease of each process may come on top: of two processes at 60 requests a second, whose store
//! was emptied 20 times in 5 s, 43 requests came at once in place of 1.
//!
//! - What one process does not use goes to those that can use it. Those that want more than there
//!   is get equal parts, whatever their concurrency.
//! - A pause that the server asks one process for holds all of them, unless it is longer than
//!   `--max-server-delay` allows: then that process ends, and each of the others finds out itself.
//!   A process that hears of a pause which is longer than its own `--max-server-delay` ends as
//!   well, and a rerun carries on.
//! - A limit that the server's headers announce to one process holds for all. It can be left out:
//!   processes that are given no rate learn it together.
//! - Where processes are given different limits, or some of them none, the lowest holds, and the
//!   others are warned. A request above the lowest waits for a full burst, and all wait until its
//!   debt is paid.
//! - All of the rate is used where the burst leaves room for the way to the store, as the default
//!   burst does. With `--burst 1` leases are longer, since each of them loses the time of a
//!   message.
//!
//! # Where it is kept
//!
//! | Store | For | Needs |
//! |---|---|---|
//! | `file:PATH` | processes on one machine: cron jobs, a shell loop, a build | a directory that all of them may write to |
//! | `redis://[[USER]:PASSWORD@]HOST[:PORT]/DB?key=NAME` | processes on many machines | Redis or Valkey, and the feature `redis` |
//! | `rediss://…` | the same through TLS | |
//!
//! A store keeps one shared limit. Use one file, or one `key`, for each key of a provider, and for
//! each model that has limits of its own.
//!
//! The directory of a file must be on a disk of this machine. NFS and other network file systems
//! are not supported: their locks and clocks are not good enough.
//!
//! A server is Redis 5 or newer, or Valkey. The limit takes one key of some 200 bytes, and 100 more
//! for each process. The server deletes it a day after its last use. A user of the server must be
//! allowed `EVALSHA`, `SCRIPT LOAD`, `TIME`, `GET` and `SET`. Allow `INFO` as well, to one of the
//! users at least: it shows that a server was restarted from an old snapshot or that a replica has
//! taken over, and then the limit begins empty. For TLS, the certificates that the system trusts
//! are trusted, or those in the file that the variable `SSL_CERT_FILE` names. To take a lease costs
//! the server 0.1 ms of its processor with 8 processes, 0.2 ms with 64 and 0.7 ms with 512.
//!
//! The feature `redis` is off by default. `cargo install --path . --features cli,redis` builds the
//! tool with it. A tool without it refuses a `redis://` URL and exits with 2.
//!
//! A URL with a password must not be on a command line, which other users of the machine can read.
//! The tool refuses it there. Put it into the environment variable `TOLLGATE_SHARED_LIMIT`. No
//! message shows the password. A simulated run ignores the variable, as it would use up what real
//! runs share; it takes the flag.
//!
//! # How it works
//!
//! - **A limit is a time axis.** At 500 requests a minute, each request is worth 120 ms of it. A
//!   lease is a part of the axis, and no other process gets that part.
//! - **A lease is used without asking.** All leases together are worth some 100 ms of the rate. A
//!   process admits its requests from its lease, and asks for the next one a little before that is
//!   used up.
//! - **A lease lapses.** Each part of the axis has its date, and may be used until it is older than
//!   the burst is worth. So leases that are used late never add up to more than one burst.
//! - **Model tokens come back late.** A request that used less than it reserved gives tokens back
//!   when it ends. By then its part of the axis may have lapsed. The store then
//!   leases the same amount again, out of the time to come. Tokens as *used* keep to the rate over
//!   time, but a window that begins soon after may hold that much more than the burst. Requests
//!   are not concerned.
//! - **A dead process needs no care.** Its lease lapses by itself, and no other process gets it. A
//!   process that ends, or has nothing to send, gives back what it has not used.
//! - **The queue is the axis.** When processes want more than there is, a lease has a date in the
//!   future. So they are served in the order in which they asked, and none of them polls.
//! - **One clock.** The store's clock gives all dates. A process knows that clock to within the
//!   time that a message takes, and uses no part of the axis early.
//! - **A store begins empty.** There is no burst when it is new, was restarted, or has lost what it
//!   knew.
//!
//! # When the store is gone
//!
//! A process sends what it has leased, and then nothing until the store is back. It tries the store
//! at least once a second. The tool says so in a warning, in its bar and in `--progress json`; a
//! program sees it in [`Limiter::shared_status`](crate::Limiter::shared_status). Ctrl-C,
//! `--deadline` and cancelling work as always.
//!
//! A store that answers and can never be used is another thing: a wrong password, a key of another
//! type, a server that is no Redis. At the start that is an error, before anything is sent, and the
//! tool exits with 2. If it happens later, it is treated as a store that is gone.
//!
//! When the store is back, the processes go on at the rate. There is no burst: what nobody could
//! lease meanwhile is not saved up. If only some processes had lost the store, the burst of all is
//! gone as soon as the first of these comes back.
//!
//! With the fallback `--shared-limit-fallback share=1/8`, a process goes on without the store at an
//! eighth of its limits. That is right if at most eight processes share them and all of them have
//! lost the store. If only *k* have, the others share the whole limit, and together they may send
//! 1 + *k*/8 of it. Without a rate, given or learned, it waits all the same: it never sends without
//! a limit.
//!
//! # What it does not do
//!
//! - Concurrency stays each process's own: `-c 20` in eight processes is 160 requests in flight.
//! - Budgets (`--max-cost`, `--token-budget`) and the input are each process's own, too. To split
//!   one input, use [shards](super::shards).
//! - A rate that is learned from refusals stays with the process that learned it. It is the rate of
//!   that process, not of all.
//! - A program that uses the key without the store is not counted.
