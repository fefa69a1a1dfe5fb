//! Shards: one input, several processes, and one file of all results.
//!
//! One run is one process. To use several machines, or an engine that starts processes for you (a
//! Slurm array, an indexed Kubernetes Job, `xargs`), give each process a *shard* of the input: a
//! fixed set of its rows. The processes need not know of each other. They can also
//! [share a limit](super::sharing_a_limit).
//!
//! ```text
//! tollgate run p.jsonl --shard 0/8      # writes p.shard-0-of-8.results.jsonl
//! tollgate run p.jsonl --shard 1/8      # on another machine, at the same time
//! …
//! ```
//!
//! Shards are counted from 0. Each row of the input is in exactly one shard. In the library it is
//! [`FileRun::shard`](crate::FileRun::shard). `run --dry-run` with `--shard` counts the rows of
//! that shard.
//!
//! # Which rows a shard has
//!
//! A row is in shard I of N if CRC-32(`custom_id`) mod N = I. The hash is the CRC-32 of gzip and
//! zlib (reflected polynomial 0xEDB88320) over the UTF-8 bytes of the id, without escapes and
//! quotes, as an unsigned number. No version will change it. Most languages and databases have it:
//!
//! ```python
//! import zlib
//! def shard(custom_id, n):
//!     return zlib.crc32(custom_id.encode()) % n
//! ```
//!
//! In Spark, MySQL and ClickHouse it is `crc32(id) % n`.
//!
//! | `custom_id` | CRC-32 | of 8 | of 1,000 |
//! |---|---|---|---|
//! | `123456789` | cbf43926 | 6 | 262 |
//! | `row-1` | 063f87e7 | 7 | 855 |
//! | `row-100000` | d9cbc493 | 3 | 3 |
//! | `Straße 7` | 15200015 | 5 | 709 |
//!
//! Shards are about as large as each other: of `row-1` to `row-100000`, each of 8 shards has 12,498
//! to 12,503 rows, and each of 10 has 9,862 to 10,115. Of 60 ways to write 20,000 ids that count
//! up, the largest of 8 shards was 0.1 % above the mean in half of them, and 2 % in the worst.
//! Shards of a few hundred rows differ more.
//!
//! - **Prompts** have the ids `line-N`.
//! - **Rows of a table** have the ids in the column that `--id` names. Without `--id`, the id is
//!   the hash of the request, with `-2` behind it where the same request comes a second time. Each
//!   process reads all rows, so all processes give them the same ids.
//! - **A line that is no request** has no id. It goes by the `line-N` of its record.
//! - **A stream** works like a file: each process must get all of it, and takes the rows of its
//!   shard.
//!
//! Each process reads the whole input, and keeps in memory what it must know of its own rows. If
//! two rows have the same id, both are in one shard, and the run of that shard is refused.
//!
//! # Files
//!
//! Without `-o`, the results of shard I of N of `p.jsonl` are in `p.shard-I-of-N.results.jsonl`,
//! and failures, lock and table are beside it as [always](super::batch_files#lines-out). A name
//! given with `-o` is used as it is, so give each shard another. If two shards have the same, the
//! second to start is refused, as the first holds the lock.
//!
//! A shard is run again like any run: nothing that is answered is sent again. So an engine may
//! repeat a task that has failed, or one that has succeeded.
//!
//! Keep the number of shards that you began with. With 16 shards in place of 8, most rows move to
//! another shard, and would be sent and paid for again. So a run is refused if its own output does
//! not exist yet and results with another number of shards, or without `--shard`, are beside it. To
//! change the number, merge what there is and carry on without shards, or name outputs with `-o`
//! and pay again.
//!
//! With `-o`, an output that has records of rows that are not in the shard is refused, and the rows
//! are named. An output of shard 1 of 8 does for shard 1 of 4, which has all of its rows.
//!
//! # One file of all results
//!
//! ```text
//! tollgate merge p.shard-*-of-8.results.jsonl -o p.results.jsonl --ordered-by p.jsonl
//! ```
//!
//! The records of a table are in `t.shard-I-of-N.results.csv.jsonl`: name
//! `t.shard-*-of-8.results.csv.jsonl`.
//!
//! `merge` reads all results that [`extract`](super::batch_files#tables-of-answers) reads, and the
//! errors file beside each. If an id has several records, the last answer counts, in the order of
//! the files as they are named and of their lines. Without an answer, the last failure counts.
//! Records stay as they are. So `run` can carry on with the new file: it sends the rows that failed
//! for a passing reason or have no record.
//!
//! | It says | Exit code |
//! |---|---|
//! | how many records are answered and failed | 1 if one has failed |
//! | ids that are answered more than once: how many, and five of them | |
//! | with `--ordered-by INPUT`: how many rows have no record, and the first 20 | 1 if there is one |
//! | if all files are named after shards: how many shards of their inputs have no file, and the first 20 | 1 if there is one |
//! | how many records have an id that INPUT does not have: they come last | |
//! | the incomplete last line of a run that was killed: it is left out | |
//! | other lines that are no records: they are left out | 1 |
//!
//! Without `--ordered-by` the records are in the order of the files, and only the names of the
//! files tell whether a shard is missing. With it, missing shards are named only if a row has no
//! record. INPUT is the whole input, not a shard. If it holds prompts or rows of a
//! table, give the flags of the run too, as they make the ids.
//!
//! The exit code is 2, and nothing is written, if a file holds no results, if a run is writing to
//! one of the files, or if some answers are simulated and others are not. The new file is written
//! beside the old one and renamed. `merge` never replaces a file that it reads, a file that holds
//! anything but results, or a file with an answer that the merged files do not have.
//!
//! `merge` keeps 48 bytes in memory for each id, however long the records are.
//!
//! # Slurm and Kubernetes
//!
//! `--shard auto` asks the engine which shard this is. It reads these variables for `auto` only,
//! so a run that happens to be in a job is a run of the whole input.
//!
//! | Engine | I | N |
//! |---|---|---|
//! | Slurm array | `SLURM_ARRAY_TASK_ID` − `SLURM_ARRAY_TASK_MIN` | `SLURM_ARRAY_TASK_COUNT` |
//! | Kubernetes, indexed Job | `JOB_COMPLETION_INDEX` | `--shards N`: the Job's `completions` |
//!
//! The run is refused (exit code 2) if both engines' variables are set, or neither's, and if the
//! tasks of the array are not numbered one by one. To run some tasks of an earlier array again,
//! such as `--array=3,5`, give `--shard $SLURM_ARRAY_TASK_ID/8`: Slurm makes a new array of two
//! tasks, which knows nothing of the earlier eight. With `--shards 8` beside `--shard auto`, an
//! array that does not have 8 tasks is refused.
