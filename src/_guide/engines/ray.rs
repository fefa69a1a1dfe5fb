//! Ray: a task a shard.
//!
//! Ray's tasks start tollgate and wait for it. They use next to no CPU, hence `num_cpus=0.1`. This
//! is `ray_job.py`:
//!
#![doc = concat!("```python\n", include_str!("../../../examples/jobs/ray_job.py"), "```")]
//!
//! ```text
//! pip install ray
//! export OPENAI_API_KEY=.. TOLLGATE_SHARED_LIMIT=file:$PWD/limit
//! python ray_job.py
//! ```
//!
//! On a cluster, set both variables where `ray start` is run, with a `redis://` URL as the second.
//! The folder must be on a disk that all nodes see; the `working_dir` of a Ray job is a copy, which
//! goes with the job.
//!
//! # What Ray does again
//!
//! | Happens | Then |
//! |---|---|
//! | a Ray worker dies, or its node | Ray kills its tollgate, too, and starts the task again. It carries on. The answers in flight, 20 at most, are lost and sent again |
//! | tollgate alone is killed outright | the same |
//! | rows have failed (exit code 1) | the task is started again up to five times. Only what failed for a passing reason is sent. Then the job fails, and the answers are on file |
//! | you run the job again | rows that are answered are not sent |
