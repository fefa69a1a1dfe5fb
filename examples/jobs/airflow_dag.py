from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

# flock: an earlier attempt may still be running.
ASK = (
    ": ${{TOLLGATE_SHARED_LIMIT:?}}; flock prompts.shard-{shard}.lock "
    "tollgate run prompts.jsonl --shard {shard}/8 --rps 50 --progress never"
)
MERGE = "tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl"

with DAG("prompts", schedule=None, params={"folder": Param("/srv/prompts", type="string")}):
    folder = "{{ params.folder }}"
    ask = BashOperator.partial(
        task_id="ask", cwd=folder, retries=5, retry_delay=timedelta(seconds=30)
    ).expand(bash_command=[ASK.format(shard=shard) for shard in range(8)])

    # Also when a row has failed: `merge` then says which are missing.
    merge = BashOperator(task_id="merge", cwd=folder, bash_command=MERGE, trigger_rule="all_done")
    ask >> merge
