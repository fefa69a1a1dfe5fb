//! Airflow: a task that is mapped over the shards, and one that merges.
//!
//! This is `airflow_dag.py`, for Airflow 3:
//!
#![doc = concat!("```python\n", include_str!("../../../examples/jobs/airflow_dag.py"), "```")]
//!
//! Put it into the folder of your DAGs. The workers need tollgate on their `PATH`, and in their
//! environment `OPENAI_API_KEY` and `TOLLGATE_SHARED_LIMIT`: `file:PATH` if all run on one machine,
//! else a `redis://` URL. The parameter `folder` is where `prompts.jsonl` is, on a disk that all
//! workers see.
//!
//! ```text
//! airflow dags test prompts -c '{"folder": "/srv/prompts"}'    # here, one task after the other
//! airflow dags trigger prompts -c '{"folder": "/srv/prompts"}'
//! ```
//!
//! # What Airflow does again
//!
//! | Happens | Then |
//! |---|---|
//! | a task does not end with 0 | Airflow starts it again, up to five times. It carries on: rows that are answered are not sent |
//! | the tollgate of a task is killed outright | the same. The answers in flight, 20 at most, are lost and sent again |
//! | a task is cleared or marked as failed in the user interface | tollgate is told to end, and finishes what is in flight. The next attempt waits for that (`flock`) and carries on |
//! | rows have failed for good | the task fails after its retries, which send nothing. `merge` says which rows are missing, and fails, too |
//! | the DAG is run again on the same folder | rows that are answered are not sent. For other prompts, use another folder |
//!
//! For a folder for each day, write `folder = "{{ params.folder }}/{{ ds }}"`.
