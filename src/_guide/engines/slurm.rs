//! Slurm: an array, of which each task is a shard.
//!
//! `--shard auto` takes the task's place in the array as the shard, and the array's size as the
//! number of shards. The tasks share one limit through Redis or Valkey, on any host that all nodes
//! reach. The folder must be on a disk that all nodes see. This is `slurm.sh`:
//!
#![doc = concat!("```sh\n", include_str!("../../../examples/jobs/slurm.sh"), "```")]
//!
//! ```text
//! export TOLLGATE_SHARED_LIMIT='redis://login1/0?key=openai'
//! job=$(sbatch --parsable slurm.sh)
//! sbatch --dependency=afterany:$job --wrap \
//!     'tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl'
//! ```
//!
//! On a cluster of one node, `file:/tmp/openai.limit` does in place of Redis. The key is in
//! `~/.openai-key`, which only you can read (`chmod 600`): Slurm keeps a copy of a job's
//! environment.
//!
//! # What Slurm does again
//!
//! | Happens | Then |
//! |---|---|
//! | a node fails, or the task is preempted or requeued (`scontrol requeue`) | Slurm tells the task to end. It gets `KillWait` (30 s by default) to finish what is in flight. Slurm starts it again some two minutes later, and it carries on |
//! | the time is up | 60 s before, the task is told to end (`--signal=TERM@60`). It finishes what is in flight and ends with 143, and the script puts it back into the queue |
//! | the provider or the network is down for long | the task ends with 3 and goes back into the queue |
//! | tollgate is killed outright, as when memory runs out | the task ends with 137, and Slurm calls it failed. The answers in flight, 20 at most, are lost |
//! | rows have failed for good | the task ends with 1, and Slurm calls it failed. Nothing is sent again |
//! | you submit the job again | it carries on where it was: rows that are answered are not sent |
//!
//! - `srun` is there so that the signal reaches tollgate, and the script can act on its exit code.
//! - Keep the size of the array: it is the number of shards. To run only tasks 3 and 5 again, write
//!   `--shard $SLURM_ARRAY_TASK_ID/8` in place of `--shard auto`, as `sbatch --array=3,5` is an
//!   array of two.
//! - `--array=0-7%4` lets four tasks run at once. The limit goes to those that run.
