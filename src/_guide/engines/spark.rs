//! Spark: `pipe` the partitions through tollgate.
//!
//! Spark gives each partition's rows to a command and takes what the command prints. The command is
//! `spark_pipe.sh`:
//!
#![doc = concat!("```sh\n", include_str!("../../../examples/jobs/spark_pipe.sh"), "```")]
//!
//! The job, `spark_job.py`, makes a JSON object of each row, of which the template in the script
//! makes a prompt. The records come back as lines, with the row's id as `custom_id`:
//!
#![doc = concat!("```python\n", include_str!("../../../examples/jobs/spark_job.py"), "```")]
//!
//! ```text
//! pip install pyspark
//! (umask 077; echo "$OPENAI_API_KEY" > key)
//! export TOLLGATE_SHARED_LIMIT=file:$PWD/limit
//! spark-submit --master 'local[8,4]' spark_job.py     # 8 partitions at once, 4 attempts
//! ```
//!
//! On a cluster, start it in a folder that all executors see, with `tollgate` on their `PATH` and a
//! `redis://` URL. A task holds one of Spark's cores while its answers are on the way.
//!
//! # What Spark does again
//!
//! Spark starts a task again that has failed, a copy of one that is slow (speculation), tasks whose
//! executor was lost, and the whole pipe whenever an action needs it and it is not cached. None of
//! this is paid for again. The script keeps the answers of a partition in a file, and prints the
//! file when all is answered. The file's name is the hash of the partition's rows, so the next
//! attempt finds it, wherever it runs.
//!
//! | Happens | Then |
//! |---|---|
//! | a task fails after its pipe has ended | the next attempt sends nothing and prints the answers |
//! | tollgate is killed outright | the next attempt carries on. The answers in flight, 20 at most, are lost and sent again |
//! | Spark's worker dies while tollgate goes on | the next attempt waits until tollgate has ended (`flock`), and prints the answers |
//! | a row fails | its record has no answer, and says why. The task does not fail. The next run of the job asks again if the reason may pass |
//! | the job is run again | it sends nothing, as long as `answers` is there |
//!
//! - A partition must have the same rows at each attempt. `repartition(8, "id")` sees to that, and
//!   so does reading files. `repartition(8)` behind a step that is random does not.
//! - When rows are added, all partitions change, and with them the names of their files. So ask for
//!   the new rows only: `reviews.join(answered, "id", "left_anti")`.
//! - In Scala and Java, `rdd.pipe` does the same.
