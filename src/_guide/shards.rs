//! Shards: one input, several processes, and one file of all results.
//!
//! A run uses all of one machine. To use several machines, or the engine that starts processes for
//! you (a Slurm array, an indexed Kubernetes Job, `xargs`), give each process a *shard* of the
//! input: a share that is the same on every run. No process knows of the others.
//!
//! ```text
//! tollgate run p.jsonl --shard 0/8      # writes p.shard-0-of-8.results.jsonl
//! tollgate run p.jsonl --shard 1/8      # on another machine, at the same time
//! …
//! ```
//!
//! Shards are counted from 0. All shards of an input together have all of its rows, and no row is
//! in two. In the library it is [`FileRun::shard`](crate::FileRun::shard). `check`, `plan` and
//! `run --dry-run` take `--shard`, too, and count the rows of that shard.
//!
//! # Which rows a shard has
//!
//! A row is in shard I of N if CRC-32(`custom_id`) mod N = I. The hash is the CRC-32 of gzip and
//! zlib (reflected polynomial 0xEDB88320) over the UTF-8 bytes of the id, without escapes and
//! quotes, as a number without a sign. It stays so in every version. Most languages and databases
//! have it:
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
//! - **Rows of a table** have those of their column, with `--id`. Without it, the id is the hash of
//!   the request, with `-2` behind it where a request comes the second time. Each process reads all
//!   rows, so it counts all of them and gives them the same ids.
//! - **A line without an id**, as it is no request, goes by the `line-N` of its record.
//! - **A stream** works like a file: each process must get all of it, and takes the rows of its
//!   shard.
//!
//! Each process reads the whole input, and keeps in memory what it must know of its own rows, and
//! one bit of every other line. An id that two rows have is found by the shard that they are in,
//! which is refused.
//!
//! # Files
//!
//! Without `-o`, the results of shard I of N of `p.jsonl` are in `p.shard-I-of-N.results.jsonl`,
//! and failures, lock and table are beside it as [always](super::batch_files#lines-out). A name
//! given with `-o` is used as it is: then give each shard another. If two have the same, the second
//! to start is refused, as the first holds the lock.
//!
//! A shard is run again like any run: nothing that is answered is sent again. So an engine may
//! repeat a task that has failed, or one that has succeeded.
//!
//! The number of shards stays what it was at the start: 16 shards would ask again for most of what
//! 8 have been answered. So the first run of another number is refused, if there are results beside
//! its own of an earlier one, or of a run without `--shard`. To change the number, merge what there
//! is and carry on without shards, or name outputs with `-o` and pay again.
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
//! `merge` reads results of any origin that [`extract`](super::batch_files#tables-of-answers)
//! reads, and the errors file beside each. Of an id that has several records, the last answer
//! counts, in the order of the files as they are named and of their lines; if it has no answer, the
//! last failure. The records stay as they are, so `run` can carry on with the file that comes out,
//! and sends what has failed for a passing reason or has no record.
//!
//! | It says | Exit code |
//! |---|---|
//! | how many records are answered and failed | 1 if one has failed |
//! | ids that are answered more than once: how many, and of the first five the files and lines | |
//! | with `--ordered-by INPUT`: how many rows have no record, and the first 20 | 1 if there is one |
//! | how many records have an id that INPUT has not: they are behind all others | |
//! | the incomplete last line of a run that was killed: it is left out | |
//! | other lines that are no records: they are left out | 1 |
//!
//! Without `--ordered-by` the records are in the order of the files, and nobody can tell whether
//! one is missing. INPUT is the whole input. For prompts and rows it takes the flags of the run, as
//! they make the ids.
//!
//! The exit code is 2, and nothing is written, if a file holds no results, if a run is writing to
//! one of the files, and if some answers are simulated and others are not. The new file is written
//! beside the old one and renamed. A file that is being read is never replaced, nor one that holds
//! something else than results, or an answer to a row that has none in the files to merge.
//!
//! Memory is 32 bytes for each id, however long the records are: 39 MB for 1,000,000 records of 0.9
//! KB in 8 files, which took 6 s of processor time.
//!
//! # Slurm and Kubernetes
//!
//! `--shard auto` asks the engine which shard this is. Variables are read for `auto` only, so that
//! a run that happens to be in a job is a run of the whole input.
//!
//! | Engine | I | N |
//! |---|---|---|
//! | Slurm array | `SLURM_ARRAY_TASK_ID` − `SLURM_ARRAY_TASK_MIN` | `SLURM_ARRAY_TASK_COUNT` |
//! | Kubernetes, indexed Job | `JOB_COMPLETION_INDEX` | `--shards N`: the Job's `completions` |
//!
//! The run is refused (exit code 2) if both are set, or neither, and if the tasks of the array are
//! not numbered one by one. A Slurm array that has some of the tasks of an earlier one, such as
//! `--array=3,5`, is another array, and does not know it: for those give `--shard
//! $SLURM_ARRAY_TASK_ID/8`. With `--shards 8` beside `--shard auto`, an array that has not 8 tasks
//! is refused.
