//! xargs and GNU parallel: all cores of one machine, with a line of shell.
//!
//! `xargs.sh` starts eight processes. Each takes an eighth of `prompts.jsonl`. They share
//! the limit in the file `limit`, which is made if it is not there. It must be on a disk of this
//! machine.
//!
#![doc = concat!("```sh\n", include_str!("../../../examples/jobs/xargs.sh"), "```")]
//!
//! With GNU parallel, `parallel.sh`, each line that a process says has its shard in front:
//!
#![doc = concat!("```sh\n", include_str!("../../../examples/jobs/parallel.sh"), "```")]
//!
//! ```text
//! export OPENAI_API_KEY=..
//! sh xargs.sh
//! ```
//!
//! The answers are in `all.jsonl`, in the order of the prompts. Until then each shard has its own
//! `prompts.shard-I-of-8.results.jsonl`.
//!
//! # Carrying on
//!
//! **To carry on, run the same line again**: rows that are answered are not sent. So it is after a
//! crash, after Ctrl-C, when rows have failed, and when rows have been added to `prompts.jsonl`.
//! `merge` says which rows are still missing.
//!
//! - On Ctrl-C each process finishes what is in flight. xargs does not wait for that: start again
//!   when all eight have said that they ended. A shard that has not is refused until it has.
//! - When one process is killed outright, xargs ends at once, the others go on, and `merge` says
//!   that they still write. GNU parallel waits for them.
//! - `xargs` ends with 123 if one of the eight did not end with 0, and `parallel` with the number
//!   of those. Each process says which of its rows failed, in `prompts.shard-I-of-8.errors.jsonl`.
//! - `parallel --retries 3` starts a shard again that did not end with 0.
//! - For several machines (`parallel --sshlogin`), share the limit through `redis://` in place of
//!   the file, and put the key into a file on each machine (`--api-key-file`). `parallel --env`
//!   would show it in a command line.
//! - One process is enough for a thousand requests in flight (`-c 1000`). Eight help when one core
//!   is too slow, or when you have eight anyway.
