//! Engines: many processes on one input, started by the scheduler that you have.
//!
//! An *engine* is a program that starts processes: xargs, a scheduler, a cluster. tollgate has no
//! cluster and no queue of its own. Your engine starts it several times, and the processes need not
//! know of each other:
//!
//! | | Does |
//! |---|---|
//! | `--shard I/N` | sends one [shard](super::shards) of the input, a fixed set of its rows, and writes a results file of its own |
//! | `--shared-limit URL` or `TOLLGATE_SHARED_LIMIT` | keeps all processes together to [one limit](super::sharing_a_limit) |
//! | `tollgate merge` | makes one file of all results |
//!
//! | Engine | Page | The job |
//! |---|---|---|
//! | xargs, GNU parallel | [`xargs`] | two lines of shell, on one machine |
//! | Slurm | [`slurm`] | an array of eight tasks |
//! | Kubernetes | [`kubernetes`] | an indexed Job of eight pods |
//! | Spark | [`spark`] | `pipe`, a process a partition |
//! | Ray | [`ray`] | a task a shard |
//! | Airflow | [`airflow`] | a mapped task, and one that merges |
//!
//! The jobs are files in `examples/jobs`, and the pages show these files. To use one, copy it and
//! change the names, the rate and the number of shards.
//!
//! # What a retry pays for
//!
//! An engine starts a failed task again, and some engines repeat tasks that have not failed. A
//! process writes each answer to its results file at once, and does not send a request whose answer
//! is in that file. So:
//!
//! - **Whatever the engine does, no answer that is on file is paid for twice.**
//! - A process that is told to end (SIGTERM) takes up to 30 s (`--grace`) to finish the requests in
//!   flight. Give it that time, and nothing is lost.
//! - A process that is killed outright (`kill -9`, a lost node, no memory) loses the answers to the
//!   requests in flight: at most as many as its `-c`, which is 20 by default. They are sent again,
//!   and the next attempt says how many they may be.
//! - The next attempt must find the results, so they must be on a disk that it sees. A container's
//!   own file system and a node's scratch folder are no such disk.
//! - Two attempts at once do not both send. The first holds the lock of the results file, and the
//!   second is refused (exit code 2). Where an engine does not wait for the first to end, the jobs
//!   here wait with `flock`.
//!
//! | Exit code | Means | Another attempt |
//! |---|---|---|
//! | 0 | all rows are answered | sends nothing |
//! | 1 | some rows have failed | sends those that failed for a passing reason; the others are not paid for again |
//! | 2 | the command or the input is wrong, or another run writes these results | fails again until that is corrected, or the other run has ended |
//! | 3, 129, 130, 143 | stopped early | carries on |
//! | 4 | a file could not be written, as on a full or read-only disk, or not be read to its end | carries on when it can |
//! | 137 | killed outright | carries on |
//!
//! # Try a job
//!
//! Start a simulated provider in a second terminal. It prints its address. When you end it with
//! Ctrl-C, it prints how many requests it has seen. That is what you would have paid for.
//!
//! ```text
//! tollgate simulate latency=200ms,rps=50
//! ```
//!
//! In the first terminal let the job use it:
//!
//! ```text
//! export OPENAI_BASE_URL=http://127.0.0.1:PORT/v1 OPENAI_API_KEY=any
//! ```
//!
//! The project's tests run the jobs for xargs and GNU parallel, those for Slurm and Kubernetes with
//! the variables that these engines set, and the script that Spark runs for a partition.
//! `.ci/engines` is a script that installs Spark, Ray and Airflow, runs their jobs, kills parts of
//! them and counts.

pub mod airflow;
pub mod kubernetes;
pub mod ray;
pub mod slurm;
pub mod spark;
pub mod xargs;
